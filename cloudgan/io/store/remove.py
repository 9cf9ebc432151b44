"""Removing a store, and nothing in its folder that cloudgan did not write.

The folder itself stays: it may be a mount. The ledgers go first and the root's metadata last. So whatever is
left when a removal is cut off is still known as a store, no unit of it counts as done, and no writer of an
earlier run can write there any more.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from cloudgan.errors import StoreError
from cloudgan.io.lease import SUFFIX as LEASE_SUFFIX
from cloudgan.io.store.access import FORMER_HOME, HOME, list_objects
from cloudgan.io.store.fence import FOLDER, RUN, remove_staging
from cloudgan.io.store.spec import COORDINATES, ERROR_STD
from cloudgan.object_stores import is_object_store, open_object_store
from cloudgan.schema import QUALITY_NAMES
from cloudgan.sentinel2.bands import BANDS

_CHUNKS = r"c(/\d+)*"
_RECORDS = r"units|(radiometry|offsets|shifts)-[0-9a-f-]+"
_LEDGER = rf"({HOME}|{FORMER_HOME})/([a-z]+\.json|({_RECORDS})/([a-z]+\.json|{_CHUNKS}|(run|gone)-.*))"
_SHOWN = 3  # names of foreign files in a message


def find_foreign(location: str, identity: Mapping[str, Any]) -> list[str]:
    """Keys of what lies in a store and was not written by cloudgan.

    Args:
        location: Path of a directory, or URL of an object store.
        identity: Of the store that is there.
    """
    names = {*BANDS, *QUALITY_NAMES, "spread", *COORDINATES, *identity.get("output_bands", ())}
    arrays = "|".join([*map(re.escape, sorted(map(str, names))), rf"{ERROR_STD}_[a-z0-9]+"])
    store = rf"(zarr\.json|({arrays})/(zarr\.json|{_CHUNKS})|{_LEDGER})"
    groups = "|".join(re.escape(f"{zone}/") for zone in identity.get("zones", ()))
    ours = re.compile(rf"({groups})?{store}" if groups else store)
    return sorted(
        key
        for key in list_objects(location)
        if not (ours.fullmatch(key) or key.endswith((".partial", LEASE_SUFFIX)))
    )


def check_removable(location: str, identity: Mapping[str, Any]) -> None:
    """Make sure that a store holds nothing but what cloudgan wrote.

    Raises:
        StoreError: It holds something else.
    """
    foreign = find_foreign(location, identity)
    if foreign:
        names = ", ".join(foreign[:_SHOWN]) + (", ..." if len(foreign) > _SHOWN else "")
        raise StoreError(
            f"{location} holds {len(foreign)} files that cloudgan did not write ({names}); "
            "move them away, or give another --out"
        )


def remove_store(location: str, identity: Mapping[str, Any]) -> None:
    """Remove a store, whole.

    Args:
        location: Path of a directory, or URL of an object store.
        identity: Of the store that is there.

    Raises:
        StoreError: It holds something that cloudgan did not write.
    """
    check_removable(location, identity)
    groups = ["", *(f"{zone}/" for zone in identity.get("zones", ()))]
    if is_object_store(location):
        _remove_objects(location, groups)
    else:
        _remove_files(Path(location), groups)


def _remove_objects(location: str, groups: list[str]) -> None:
    store = open_object_store(location)
    for group in groups:
        for run in (RUN, f"{FORMER_HOME}/units/run.json"):
            with suppress(FileNotFoundError):
                store.delete(f"{group}{run}")
    for group in groups:
        for ledger in (FOLDER, FORMER_HOME):
            store.delete(list(list_objects(location, f"{group}{ledger}")))
    last = [f"{HOME}/plan.json", "zarr.json"]
    store.delete([key for key in list_objects(location) if key not in last])
    for key in last:
        with suppress(FileNotFoundError):
            store.delete(key)


def _remove_files(root: Path, groups: list[str]) -> None:
    for group in groups:
        for ledger in (FOLDER, f"{FORMER_HOME}/units"):
            remove_staging(root / group / ledger)
            _remove(root / group / ledger)
    last = [root / HOME.partition("/")[0], root / "zarr.json"]
    for path in root.iterdir():
        if path not in last:
            _remove(path)
    for path in last:
        _remove(path)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)

"""The identity that a store carries: all that decides its bytes, and nothing else."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import zarr

from cloudgan.errors import StoreError
from cloudgan.io.store.access import (
    FORMER_HOME,
    HOME,
    IDENTITY,
    ZONES,
    name_damage,
    name_unusable,
    not_ours,
    open_zarr_store,
    read_object,
)
from cloudgan.io.store.remove import check_removable
from cloudgan.object_stores import is_object_store, unusable_error

FORMAT = 3
"""Format of the identities, and of the stores, that are written and continued."""
COPY = f"{HOME}/plan.json"
"""Where a store keeps its identity; its root has only the digest, for every reader fetches the root."""


def read_identity(location: str) -> dict[str, Any] | None:
    """The identity of what a store was made for, as it is written there; None where there is nothing.

    Of a store whose identity was lost it is `{"digest": ...}` alone. Stores of former formats have it whole
    in the attributes of their root.

    Raises:
        StoreError: Something is there that cloudgan did not make.
    """
    try:
        group = zarr.open_group(open_zarr_store(location), mode="r", zarr_format=3, use_consolidated=False)
    except (FileNotFoundError, NotADirectoryError, ValueError, KeyError, TypeError) as error:
        with name_unusable(location):  # a loop of links, say, or a name that no file can have
            copy = _read_copy(location, COPY) or _read_copy(location, f"{FORMER_HOME}/units/plan.json")
            is_foreign = copy is None and not _is_nothing(location)
        if is_foreign:
            raise not_ours(location) from error
        return copy
    except Exception as error:  # the disk's errors, and those of whatever object store it is
        raise unusable_error(location, error) from error
    mark, zones = group.attrs.get(IDENTITY), group.attrs.get(ZONES)
    if isinstance(zones, str):
        return {"zones": zones.split()}
    if isinstance(mark, dict):
        return mark
    if not isinstance(mark, str):
        raise not_ours(location)
    copy = _read_copy(location, COPY)
    return copy if copy is not None and compute_plan_digest(copy) == mark else {"digest": mark}


def _read_copy(location: str, key: str) -> dict[str, Any] | None:
    """The identity beside the data, from which a root that cannot be read is made anew."""
    try:
        copy = json.loads(read_object(location, key) or b"")
    except (ValueError, RecursionError):
        return None
    return copy if isinstance(copy, dict) else None


def _is_nothing(location: str) -> bool:
    """Whether a place holds nothing, or no more than a first write that was cut off."""
    if is_object_store(location):
        return read_object(location, "zarr.json") is None
    path = Path(location)
    if not path.is_dir():
        return not path.exists()
    return all(
        found.is_file()
        and (found.suffix == ".partial" or (found.name == "zarr.json" and found.stat().st_size == 0))
        for found in path.iterdir()
    )


def compute_plan_digest(identity: Mapping[str, Any]) -> str:
    """Digest of an identity, short enough for every entry of a ledger and for names of files."""
    if "digest" in identity:
        return str(identity["digest"])
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]


def is_made_for(found: Mapping[str, Any] | None, wanted: Mapping[str, Any]) -> bool:
    """Whether a store of an identity holds, byte for byte, what another one describes."""
    if found is None or "digest" not in found:
        return found == wanted
    return compute_plan_digest(found) == compute_plan_digest(wanted)


def check_format(location: str, found: Mapping[str, Any]) -> None:
    """Make sure that a store has the present format.

    Raises:
        StoreError: An earlier version of cloudgan began it.
    """
    if not ("zones" in found or "digest" in found or found.get("format") == FORMAT):
        raise StoreError(
            f"{location} was begun by an earlier version of cloudgan, in a layout that this one does not "
            "continue; finish it with that version, give another --out, or --overwrite to replace it"
        )


def check_identity(location: str, wanted: Mapping[str, Any], *, overwrite: bool = False) -> None:
    """Make sure that what is to have this identity may be written somewhere, without writing.

    Args:
        location: Path of a directory, or URL of an object store.
        wanted: Its identity.
        overwrite: Whether a store of ours with another identity may be removed.

    Raises:
        StoreError: A store of another identity is there, or something that is no store of ours, or that
            store holds something that is not ours.
    """
    found = read_identity(location)
    if found is None:
        return
    with name_damage(location):
        if is_made_for(found, wanted):
            return
        if overwrite:
            check_removable(location, found)
            return
        check_format(location, found)
        lines = "".join(f"\n  {line}" for line in describe_differences(found, wanted))
    raise StoreError(
        f"{location} was made with other settings; give another --out, or --overwrite to replace it; "
        f"there -> wanted:{lines}"
    )


def describe_differences(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """What differs between two identities, for people: one line each, the old before the new."""
    lines = []
    for name in sorted({*found, *wanted}):
        old, new = found.get(name), wanted.get(name)
        if old == new:
            continue
        if name == "items":
            lines.append(f"items: {_describe_change(_items_by_id(old), _items_by_id(new))}")
        elif name == "dates":
            lines.append(f"dates: {_describe_change(dict.fromkeys(old or ()), dict.fromkeys(new or ()))}")
        else:
            lines.append(f"{name}: {_shorten(old)} -> {_shorten(new)}")
    return lines


def _items_by_id(days: Mapping[str, Any] | None) -> dict[str, Any]:
    return {item[0]: item[1:] for items in (days or {}).values() for item in items}


def _describe_change(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """How one collection differs from another: how many names more and fewer, the first few of them."""
    groups = {
        "more": [name for name in new if name not in old],
        "fewer": [name for name in old if name not in new],
        "with other files, another frame or another offset": [
            n for n in new if n in old and new[n] != old[n]
        ],
    }
    parts = []
    for kind, names in groups.items():
        if names:
            shown = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
            parts.append(f"{len(names)} {kind} ({shown})")
    return "; ".join(parts) or "in another order"


def _shorten(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 40 else f"{text[:37]}..."

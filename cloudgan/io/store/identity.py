"""The identity that a store carries: all that decides its bytes, and nothing else.

Format 1 of it also named the release of cloudgan, and the whole model file instead of what the file computes.
Its stores are still opened and continued.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import zarr

from cloudgan.errors import StoreError
from cloudgan.io.store.access import (
    IDENTITY,
    name_damage,
    name_unusable,
    not_ours,
    open_zarr_store,
    read_object,
)
from cloudgan.io.store.remove import check_removable
from cloudgan.io.store.spec import StoreSpec
from cloudgan.object_stores import is_object_store, unusable_error

FORMAT = 2
"""Format of the identities, and of the stores, that are written."""
COPY = "ledger/units/plan.json"
"""Where a store keeps a second copy of its identity."""
_RELEASE = "0.1.0"  # the only one that wrote format 1
_SET_BY_MODEL = ("input_channels", "output_bands", "predicts_uncertainty")


def read_identity(location: str) -> dict[str, Any] | None:
    """The identity of what a store was made for, as it is written there; None where there is nothing.

    Raises:
        StoreError: Something is there that cloudgan did not make.
    """
    try:
        group = zarr.open_group(open_zarr_store(location), mode="r", zarr_format=3, use_consolidated=False)
    except (FileNotFoundError, NotADirectoryError, ValueError, KeyError, TypeError) as error:
        with name_unusable(location):  # a loop of links, say, or a name that no file can have
            copy = _read_copy(location)
            is_foreign = copy is None and not _is_nothing(location)
        if is_foreign:
            raise not_ours(location) from error
        return copy
    except Exception as error:  # the disk's errors, and those of whatever object store it is
        raise unusable_error(location, error) from error
    identity = group.attrs.get(IDENTITY)
    if not isinstance(identity, dict):
        raise not_ours(location)
    return identity


def _read_copy(location: str) -> dict[str, Any] | None:
    """The copy of the identity in the ledger, from which a root that cannot be read is made anew."""
    try:
        copy = json.loads(read_object(location, COPY) or b"")
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
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]


def read_format(found: Mapping[str, Any]) -> int:
    """Format of a store of this identity."""
    return FORMAT if "format" in found else 1


def translate_identity(
    found: Mapping[str, Any], wanted: Mapping[str, Any], model_files: tuple[str, ...]
) -> dict[str, Any]:
    """An identity in the words of the present format, to be compared with another.

    Args:
        found: As a store carries it, of either format.
        wanted: The other one, of the present format.
        model_files: SHA-256 of the model files that compute what the model of `wanted` does.
    """
    if read_format(found) == FORMAT or found.get("cloudgan") != _RELEASE:
        return dict(found)
    translated = {name: value for name, value in found.items() if name != "cloudgan"}
    # The digest of a model file covers its contract.
    translated |= {"format": FORMAT} | {name: wanted[name] for name in _SET_BY_MODEL if name in wanted}
    if "items" in found:
        translated["items"] = _add_frames(found["items"], _items_by_id(wanted.get("items")))
    if found.get("model") in model_files:
        translated["model"] = wanted.get("model")
    return translated


def _add_frames(days: Any, wanted: Mapping[str, Any]) -> Any:
    """The items of format 1, which does not say where they lie, with the frames of the wanted."""
    if not isinstance(days, dict):
        return days
    return {
        day: [
            [item[0], item[1], wanted[item[0]][1], *item[2:]] if item[0] in wanted else item for item in items
        ]
        for day, items in days.items()
    }


def is_made_for(found: Mapping[str, Any] | None, spec: StoreSpec) -> bool:
    """Whether a store of this identity holds, byte for byte, what is described."""
    return found is not None and translate_identity(found, spec.identity, spec.model_files) == spec.identity


def check_identity(
    location: str, wanted: Mapping[str, Any], model_files: tuple[str, ...] = (), *, overwrite: bool = False
) -> None:
    """Make sure that what is to have this identity may be written somewhere, without writing.

    Args:
        location: Path of a directory, or URL of an object store.
        wanted: Its identity.
        model_files: See `translate_identity`.
        overwrite: Whether a store of ours with another identity may be removed.

    Raises:
        StoreError: A store of another identity is there, or something that is no store of ours, or that
            store holds something that is not ours.
    """
    found = read_identity(location)
    if found is None:
        return
    with name_damage(location):
        translated = translate_identity(found, wanted, model_files)
        if translated == wanted:
            return
        if overwrite:
            check_removable(location, found)
            return
        lines = "".join(f"\n  {line}" for line in describe_differences(translated, wanted))
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

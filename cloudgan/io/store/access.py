"""Zarr stores on disks and in object stores, and in one sentence what is wrong with one."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import zarr
from zarr.abc.store import Store as ZarrStore
from zarr.core.buffer import Buffer
from zarr.core.sync import sync

from cloudgan.errors import CloudganError, StoreError
from cloudgan.object_stores import (
    explain_error,
    is_object_store,
    is_refusal,
    name_failed_writes,
    open_object_store,
    unusable_error,
)

IDENTITY = "cloudgan:plan"
"""Attribute of the root: the digest of the identity, and the mark of a store of ours."""
ZONES = "cloudgan:zones"
"""Attribute of a root that holds a group for each UTM zone: their names, and the mark of a store of ours."""
HOME = "spatial_ref/cloudgan"
"""Where a store keeps what is not data: within the folder of an array, which no reader of Zarr lists."""
FORMER_HOME = "ledger"
"""The same in stores of formats 1 and 2: a group, whose arrays readers took for pictures."""


def open_zarr_store(location: str) -> ZarrStore:
    """The store behind a path or a URL; nothing need be there."""
    if is_object_store(location):
        return zarr.storage.ObjectStore(open_object_store(location))
    return zarr.storage.LocalStore(location)


def consolidate(location: str, root: ZarrStore) -> None:
    """Gather the metadata of all groups and arrays at their root: opening them then takes one read.

    Args:
        location: Path of a directory, or URL of an object store.
        root: The same, opened for writing.

    Raises:
        WriteError: The place refused it.
        StoreError: A group or an array is damaged.
    """
    with name_failed_writes(location), name_damage(location), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # consolidated metadata is xarray's and GDAL's, not yet the spec's
        zarr.consolidate_metadata(root)


def remove_pieces(location: str) -> None:
    """Remove what workers that were killed while they wrote have left; only the disk keeps such pieces."""
    root = open_zarr_store(location)
    if isinstance(root, zarr.storage.LocalStore):
        for piece in root.root.rglob("*.partial"):
            piece.unlink(missing_ok=True)


def read_object(location: str, key: str) -> bytes | None:
    """One object of a store as it lies there; None where there is none."""
    try:
        if is_object_store(location):
            return bytes(open_object_store(location).get(key).bytes())
        return (Path(location) / key).read_bytes()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return None


def list_objects(location: str, prefix: str = "") -> Iterator[str]:
    """Keys of the objects of a store, files and links alike, in no order."""
    if is_object_store(location):
        for batch in open_object_store(location).list(prefix or None):
            yield from (entry["path"] for entry in batch)
        return
    root = Path(location)
    for folder, _, names in os.walk(root / prefix):
        yield from (str((Path(folder) / name).relative_to(root)) for name in names)


def copy_objects(source: Mapping[str, Buffer], root: ZarrStore, keys: Iterable[str]) -> None:
    """Write objects that were made in memory, in the order of the keys."""

    async def copy() -> None:
        for key in keys:
            await root.set(key, source[key])

    sync(copy())


def not_ours(location: str) -> StoreError:
    """What to tell the user of a place that holds something else."""
    return StoreError(f"{location} exists and is no store of cloudgan's; give another --out")


@contextmanager
def name_damage(location: str) -> Iterator[None]:
    """Turn whatever zarr meets in a broken store into one sentence.

    Raises:
        StoreError: What is done within met something else than a refusal of the place.
    """
    try:
        yield
    except Exception as error:  # of zarr, its codecs, JSON and numpy
        if isinstance(error, CloudganError) or is_refusal(error):
            raise
        raise StoreError(
            f"{location} is damaged ({explain_error(error)}); remove it, or give another --out"
        ) from error


@contextmanager
def name_unusable(location: str) -> Iterator[None]:
    """Turn what a place or a broken store there refuses, before anything is begun, into one sentence.

    Raises:
        StoreError: What is done within was refused, or met a broken store.
    """
    try:
        with name_damage(location):
            yield
    except CloudganError:
        raise
    except Exception as error:  # the disk's errors, and those of whatever object store it is
        raise unusable_error(location, error) from error

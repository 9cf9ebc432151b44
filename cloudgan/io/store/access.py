"""Zarr stores on disks and in object stores, and in one sentence what is wrong with one."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import zarr
from zarr.abc.store import Store as ZarrStore

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
"""Attribute of the root: the identity, and the mark of a store of ours."""


def open_zarr_store(location: str) -> ZarrStore:
    """The store behind a path or a URL; nothing need be there."""
    if is_object_store(location):
        return zarr.storage.ObjectStore(open_object_store(location))
    return zarr.storage.LocalStore(location)


def consolidate(location: str) -> None:
    """Gather the metadata of all groups and arrays at their root: opening them then takes one read.

    Raises:
        WriteError: The place refused it.
    """
    with name_failed_writes(location), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # consolidated metadata is xarray's and GDAL's, not yet the spec's
        zarr.consolidate_metadata(open_zarr_store(location))


def remove_pieces(location: str) -> None:
    """Remove what workers that were killed while they wrote have left; only the disk keeps such pieces."""
    root = open_zarr_store(location)
    if isinstance(root, zarr.storage.LocalStore):
        for piece in root.root.rglob("*.partial"):
            piece.unlink(missing_ok=True)


def remove_store(location: str) -> None:
    """Remove a store, whole."""
    root = open_zarr_store(location)
    if isinstance(root, zarr.storage.LocalStore):
        # Aside first: a removal cut off half-way must not leave what is no store of ours any more.
        aside = root.root.with_name(f"{root.root.name}.removed")
        root.root.rename(aside)
        shutil.rmtree(aside)
    else:
        zarr.open_group(root, mode="w")


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

"""The ledger of a store: which work units are done, and what was measured for all of them.

A unit is entered after its data is there, so that it may be interrupted, repeated or raced by its own twin,
and the bytes are the same.
"""

from __future__ import annotations

import numpy as np
import zarr
from numpy.typing import NDArray

from cloudgan.io.store.access import name_damage, open_zarr_store
from cloudgan.object_stores import name_failed_writes

PENDING, DONE, DONE_WITHOUT_ASSETS = 0, 1, 2
"""States of a unit; the last is done again by a rerun, for its assets may be back."""

UNITS = "ledger/units"
"""Array of the units' states."""
_OFFSETS = {1: "ledger/shifts-{}", 2: "ledger/offsets-{}"}  # by format of the store, and MGRS tile


def make_ledger(group: zarr.Group, unit_count: int) -> None:
    """A ledger with nothing done."""
    group.create_array(
        UNITS,
        shape=(unit_count,),
        dtype="uint8",
        chunks=(1,),
        fill_value=PENDING,
        dimension_names=("unit",),
        overwrite=True,
    )


def read_states(location: str) -> NDArray[np.uint8]:
    """The state of each unit, shape (units,).

    Raises:
        StoreError: The store is damaged.
    """
    with name_damage(location):
        return np.asarray(zarr.open_array(open_zarr_store(location), path=UNITS, mode="r")[:])


def mark_unit(location: str, index: int, state: int) -> None:
    """Enter a unit.

    Raises:
        WriteError: The place refused it.
    """
    with name_failed_writes(location):
        zarr.open_array(open_zarr_store(location), path=UNITS, mode="r+")[index] = state


def read_offsets(location: str, form: int, place: int) -> NDArray[np.float32] | None:
    """The radiometric offsets that `write_offsets` kept; None where nothing was kept yet.

    Args:
        location: Of the store.
        form: Format of the store.
        place: Number of the MGRS tile.

    Raises:
        StoreError: The store is damaged.
    """
    try:
        with name_damage(location):
            path = _OFFSETS[form].format(place)
            kept = zarr.open_array(open_zarr_store(location), path=path, mode="r")
            values: NDArray[np.float32] = np.asarray(kept[:])
    except FileNotFoundError:
        return None
    # Between its metadata and its values an array is all unknown, but a date differs from itself by 0.
    return None if np.isnan(values).all() else values


def write_offsets(location: str, form: int, place: int, offsets: NDArray[np.float32]) -> None:
    """Keep the radiometric offsets of an MGRS tile for all other units.

    Args:
        location: Of the store.
        form: Format of the store.
        place: Number of the MGRS tile.
        offsets: See `normalisation.RadiometricOffsets.values`.

    Raises:
        WriteError: The place refused it.
    """
    with name_failed_writes(location):
        array = zarr.create_array(
            open_zarr_store(location),
            name=_OFFSETS[form].format(place),
            shape=offsets.shape,
            chunks=offsets.shape,
            dtype=offsets.dtype,
            fill_value=np.nan,
            overwrite=True,
        )
        array[:] = offsets

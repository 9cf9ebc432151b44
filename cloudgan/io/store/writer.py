"""The writer of one work unit: whole shards, and then its entry in the ledger."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import zarr
from numpy.typing import NDArray

from cloudgan.geo.grid import Grid, Window
from cloudgan.io.store.fence import FencedStore
from cloudgan.io.store.ledger import Entry, write_entry
from cloudgan.object_stores import name_failed_writes


@dataclass(frozen=True, slots=True)
class UnitWriter:
    """Writes the dates of a unit as they are generated."""

    location: str
    """Of the store."""
    root: FencedStore
    """The store, open for a run."""
    arrays: Mapping[str, zarr.Array[Any]]
    """The arrays by the names of their variables."""
    place: tuple[slice, slice]
    """Rows and columns of the unit in the store."""
    entry: Entry
    """The unit's entry, but for its state and its shards."""

    @classmethod
    def open(
        cls,
        location: str,
        root: FencedStore,
        names: Sequence[str],
        grid: Grid,
        window: Window,
        entry: Entry,
    ) -> UnitWriter:
        """The writer of a unit.

        Args:
            location: Of the store.
            root: The store, open for a run.
            names: Of the variables.
            grid: Pixels of the store.
            window: Pixels of the unit.
            entry: The unit's entry, but for its state and its shards.

        Raises:
            WriteError: The store cannot be opened any more.
        """
        # Shards without a value are written too: an object store guards only a place that holds something.
        config: Any = {"write_empty_chunks": True}
        with name_failed_writes(location):
            arrays = {name: zarr.open_array(root, path=name, mode="r+", config=config) for name in names}
        return cls(location, root, arrays, window.slices_in(grid.window), entry)

    @property
    def bytes_of_pixel(self) -> int:
        """Bytes of a pixel of a date in all variables, uncompressed."""
        return sum(array.dtype.itemsize for array in self.arrays.values())

    def write(self, at: int, values: Mapping[str, NDArray[Any]]) -> None:
        """Write one date, each variable as a whole shard.

        Args:
            at: Index of the date in the store.
            values: The variables by name, each over the window of the unit.

        Raises:
            WriteError: The place refused it.
            StoreError: Another run has begun.
        """
        with name_failed_writes(self.location):
            for name, array in self.arrays.items():
                array[at, *self.place] = values[name]

    def enter(self, index: int, state: int) -> None:
        """Enter the unit in the ledger, when all that was written has reached the disk.

        Args:
            index: Number of the unit.
            state: `DONE` or `DONE_WITHOUT_ASSETS`.

        Raises:
            WriteError: The place refused it.
            StoreError: Another run has begun.
        """
        with name_failed_writes(self.location):
            self.root.sync()
            write_entry(self.root, index, replace(self.entry, state=state, shards=dict(self.root.digests)))
            self.root.sync()

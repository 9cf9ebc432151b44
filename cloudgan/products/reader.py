"""A finished store, read window by window."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from cloudgan.geo.grid import Grid, Lattice, Window
from cloudgan.io.store.access import name_unusable, open_zarr_store
from cloudgan.schema import PROVENANCE, is_band
from cloudgan.sentinel2.bands import REFLECTANCE_SCALE


@dataclass(frozen=True, slots=True)
class StoreReader:
    """The arrays of a store, open for reading."""

    location: str
    """Path or URL of the store."""
    arrays: dict[str, zarr.Array[Any]]
    """Its arrays by name."""
    grid: Grid
    """Its pixels."""
    days: NDArray[np.datetime64]
    """Its dates, datetime64[D]."""
    bands: tuple[str, ...]
    """Its spectral bands, by their wavelength."""

    @classmethod
    def open(cls, location: str) -> StoreReader:
        """Open a store.

        Raises:
            StoreError: It is damaged.
        """
        with name_unusable(location):
            group = zarr.open_group(open_zarr_store(location), mode="r", use_consolidated=False)
            arrays = dict(group.arrays())
            described: dict[str, Any] = {name: array.attrs.asdict() for name, array in arrays.items()}
            bands = [name for name, attributes in described.items() if is_band(attributes)]
            bands.sort(key=lambda name: described[name].get("wavelength_nm", np.inf))
            x, y = (np.asarray(arrays[name][:], np.float64) for name in ("x", "y"))
            frame = described[PROVENANCE.name]
            resolution, epsg = float(frame["spatial:transform"][0]), int(frame["proj:code"].partition(":")[2])
            west, north = float(x[0]) - resolution / 2, float(y[0]) + resolution / 2
            lattice = Lattice.through(epsg, resolution, west, north)
            bounds = west, north - len(y) * resolution, west + len(x) * resolution, north
            days = np.asarray(arrays["time"][:]).astype("datetime64[D]")
        return cls(location, arrays, Grid(lattice, lattice.covering(*bounds)), days, tuple(bands))

    def read(self, name: str, at: int, window: Window, every: int = 1) -> NDArray[Any]:
        """The stored numbers of a variable on a date, over a window of the lattice.

        Args:
            name: Of the variable.
            at: Index of the date.
            window: Which pixels.
            every: Of them, one row and column in so many.

        Raises:
            StoreError: They cannot be read.
        """
        rows, cols = window.slices_in(self.grid.window)
        with name_unusable(self.location):
            return np.asarray(self.arrays[name][at, rows, cols])[::every, ::every]

    def read_reflectance(self, name: str, at: int, window: Window, every: int = 1) -> NDArray[np.float32]:
        """A band or `uncertainty` as reflectance, NaN where there is nothing; see `read`."""
        return self._scale(name, self.read(name, at, window, every))

    def read_places(
        self, name: str, dates: Sequence[int], rows: NDArray[np.int64], cols: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """A band or `uncertainty` as reflectance where dates, rows and columns of the grid cross.

        All that is needed is fetched at once, which costs a distant store one round trip.

        Returns:
            Shape (dates, rows, columns), NaN where there is nothing.

        Raises:
            StoreError: It cannot be read.
        """
        with name_unusable(self.location):
            numbers = np.asarray(self.arrays[name].oindex[np.asarray(dates), rows, cols])
        return self._scale(name, numbers)

    def _scale(self, name: str, numbers: NDArray[Any]) -> NDArray[np.float32]:
        values = numbers.astype(np.float32) * np.float32(REFLECTANCE_SCALE)
        return np.where(numbers == self.arrays[name].fill_value, np.float32(np.nan), values)

    def read_items(self, at: int) -> str:
        """Ids of the source items of a date, with blanks between them."""
        return str(self.arrays["item_ids"][at]) if "item_ids" in self.arrays else ""

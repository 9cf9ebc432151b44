"""`ds.cloudgan`: what a dataset of a store can be asked for."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from cloudgan.errors import InputError
from cloudgan.products.composites import compute_composite
from cloudgan.products.indices import find_index
from cloudgan.products.periods import check_period
from cloudgan.products.weights import weigh_pixels
from cloudgan.schema import DAYS_AFTER, DAYS_BEFORE, PROVENANCE, Provenance, is_band

_REMEDY = "open the store with cloudgan.open, and keep its variables"


@xr.register_dataset_accessor("cloudgan")
class CloudganAccessor:
    """Bands, indices and composites of a dataset that `cloudgan.open` gave, or of a part of it; all lazy."""

    def __init__(self, dataset: xr.Dataset) -> None:
        self._dataset = dataset

    @property
    def bands(self) -> list[str]:
        """Names of the spectral bands, by their wavelength."""
        found = {str(name): one.attrs for name, one in self._dataset.data_vars.items() if is_band(one.attrs)}
        return sorted(found, key=lambda name: found[name].get("wavelength_nm", np.inf))

    def observed(self) -> xr.Dataset:
        """The bands where the satellite itself saw the surface, NaN elsewhere."""
        return self._dataset[self.bands].where(self._get("provenance") == Provenance.OBSERVED)

    def weights(self) -> xr.DataArray:
        """How much each pixel is worth in a mean: 1 where observed, less by the error that is expected.

        See `weights.weigh_pixels`.
        """
        made: xr.DataArray = xr.apply_ufunc(
            weigh_pixels,
            self._get("provenance"),
            self._get("uncertainty"),
            dask="parallelized",
            output_dtypes=[np.float32],
        )
        made.attrs = {"long_name": "inverse variance over that of an observed pixel", "units": "1"}
        return made.rename("weight")

    def index(self, name: str) -> xr.DataArray:
        """A spectral index: `ndvi`, `evi`, `ndwi`, `ndmi` or `nbr`.

        Args:
            name: Its name.

        Returns:
            float32, NaN where a band is missing.

        Raises:
            InputError: There is no such index, or the dataset lacks a band that it needs.
        """
        index = find_index(name, self.bands)
        made: xr.DataArray = index.compute(*(self._dataset[band] for band in index.bands))
        made = made.where(np.isfinite(made)).astype(np.float32).rename(index.name)
        made.attrs = {"long_name": index.long_name, "units": "1"}
        return made

    def composite(self, every: str, *, index: str | None = None) -> xr.Dataset:
        """The mean of each period of the calendar, weighted by `weights`.

        Args:
            every: `month`, `dekad` (from the 1st, 11th and 21st of a month) or `season` (three months from
                December, March, June and September).
            index: A spectral index, to have its mean instead of the bands'.

        Returns:
            The bands, or the index, over (time, y, x), where a time is the first day of its period; and
            `observed_share`, the share of the period's dates on which a pixel was observed.

        Raises:
            InputError: There is no such period or index, or the dataset lacks a variable.
        """
        period = check_period(every)
        values = self._dataset[self.bands] if index is None else self.index(index).to_dataset()
        return compute_composite(values, self.weights(), self._get("provenance"), period)

    def source_date(self) -> xr.DataArray:
        """The date that each pixel is from: its own where observed, else the nearest clear date.

        Returns:
            datetime64, NaT where nothing is known.
        """
        before, after = (self._get(one.name) for one in (DAYS_BEFORE, DAYS_AFTER))
        backward = before.fillna(np.inf) <= after.fillna(np.inf)
        days = xr.where(backward, -before, after)
        step = days.fillna(0).astype("timedelta64[D]").astype("timedelta64[ns]")
        known = days.notnull() & (self._get(PROVENANCE.name) != Provenance.NO_DATA)
        made: xr.DataArray = (self._dataset["time"] + step).where(known)
        made.attrs = {"long_name": "date of the nearest clear observation"}
        return made.transpose(*before.dims).rename("source_date")

    def nearest_items(self, date: Any) -> list[str]:
        """The source items of the date that is nearest to another one.

        Args:
            date: What xarray takes for a date, such as `2020-05-12`.

        Returns:
            Ids of STAC items, first on top.
        """
        items = self._get("item_ids").sel(time=date, method="nearest")
        return str(items.item()).split()

    def _get(self, name: str) -> xr.DataArray:
        if name not in self._dataset.variables:
            raise InputError(f"the dataset has no {name}; {_REMEDY}")
        return self._dataset[name]

"""Composites: one image for each period of the calendar."""

from __future__ import annotations

import numpy as np
import xarray as xr

from cloudgan.products.periods import Period, find_starts
from cloudgan.schema import Provenance

OBSERVED_SHARE = "observed_share"
"""Name of the variable that says how much of a composite was observed."""


def compute_composite(
    values: xr.Dataset, weights: xr.DataArray, provenance: xr.DataArray, period: Period
) -> xr.Dataset:
    """The weighted mean of each period.

    Args:
        values: Over (time, y, x); NaN where there is nothing.
        weights: See `weigh_pixels`.
        provenance: See `schema.Provenance`.
        period: Of the calendar.

    Returns:
        The values over (time, y, x), a time being the first day of a period, with `observed_share`.
    """
    starts = xr.DataArray(
        find_starts(values["time"].values, period).astype(values["time"].dtype), dims="time", name="start"
    )
    layers = []
    for start in np.unique(starts.values):
        inside = np.flatnonzero(starts.values == start)
        layer = _average(values.isel(time=inside), weights.isel(time=inside))
        seen = (provenance.isel(time=inside) == Provenance.OBSERVED).mean("time").astype(np.float32)
        layers.append(layer.assign({OBSERVED_SHARE: seen}).assign_coords(time=start).expand_dims("time"))
    made: xr.Dataset = xr.concat(layers, "time", coords="minimal", compat="override", join="override")
    for name, one in values.data_vars.items():
        made[name].attrs = one.attrs
    made[OBSERVED_SHARE].attrs = {
        "long_name": "share of the period's dates on which the pixel was observed",
        "units": "1",
    }
    made["time"].attrs = {"standard_name": "time", "long_name": f"first day of the {period}"}
    made.attrs = values.attrs
    return made


def _average(values: xr.Dataset, weights: xr.DataArray) -> xr.Dataset:
    """The weighted mean over time, NaN where no value has a weight."""
    known = values.notnull()
    total = (weights * known).sum("time")
    mean: xr.Dataset = (values.fillna(0) * weights).sum("time") / total.where(total > 0)
    return mean.drop_vars([name for name in mean.coords if name not in ("y", "x", "spatial_ref")]).astype(
        np.float32
    )

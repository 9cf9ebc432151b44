"""Reading netCDF time series, of any version of the format, as cubes: what `sites.site_of_cube` takes."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import xarray as xr

from cloudgan.errors import InputError
from cloudgan.sentinel2.bands import common_name
from cloudgan.sentinel2.classification import SCL
from cloudgan.training.data.faults import name_unreadable

_SCL_NAMES = (SCL, "SCL")
_ENGINES = ("h5netcdf", "scipy")  # netCDF-4, and what came before
_HDF5 = b"\x89HDF"
_GRID_MAPPINGS = ("spatial_ref", "crs")  # names that rioxarray, GDAL and openEO give it


def read_netcdf(path: Path, bands: Sequence[str]) -> xr.Dataset:
    """Read bands of a netCDF time series with one variable per band.

    Args:
        path: Variables `B03`, `B3` or `green` and so on, of three dimensions, of which time is the first, and
            perhaps `SCL`. Times are in days (or hours...) since a date.
        bands: Common names.

    Returns:
        The bands by common name, as the file scales them (missing values are NaN), perhaps `scl`, of
        dimensions time, y and x, and the CRS in the attributes of `spatial_ref` where the file states it.

    Raises:
        InputError: The file cannot be read, lacks a band, or its times have no unit.
    """
    if find_spec("h5netcdf") is None:
        raise InputError(f"{path} needs h5netcdf to be read; pip install h5netcdf")
    with name_unreadable(path, "netCDF", "give a netCDF series"):
        with path.open("rb") as file:
            engine = _ENGINES[0] if file.read(4) == _HDF5 else _ENGINES[1]
        with xr.open_dataset(path, engine=engine) as source:
            return _as_cube(source, path, bands).load()


def _as_cube(source: xr.Dataset, path: Path, bands: Sequence[str]) -> xr.Dataset:
    names = {common_name(str(name)): str(name) for name in source.data_vars}
    if missing := [band for band in bands if band not in names]:
        raise InputError(
            f"{path} has no band {missing[0]}; its variables are {sorted(map(str, source.data_vars))}"
        )
    first = source[names[bands[0]]]
    if first.ndim != 3:
        raise InputError(f"{path} has bands of dimensions {first.dims}; a series has time, y and x")
    scl = next((name for name in _SCL_NAMES if name in source), None)
    kept = {names[band]: band for band in bands} | ({scl: SCL} if scl else {})
    axes = dict(zip(map(str, first.dims), ("time", "y", "x"), strict=True))
    cube = source[list(kept)].rename(kept)
    cube = cube.rename({old: new for old, new in axes.items() if old != new})
    if "time" not in cube.coords or not np.issubdtype(cube["time"].dtype, np.datetime64):
        units = cube["time"].attrs.get("units") if "time" in cube.coords else None
        raise InputError(f"{path} counts time in {units!r}; write it in days since a date")
    mapping = next((name for name in _GRID_MAPPINGS if name in source.variables), None)
    attributes = source.attrs if mapping is None else source[mapping].attrs
    return cube.drop_vars(_GRID_MAPPINGS, errors="ignore").assign_coords(
        spatial_ref=xr.Variable((), 0, attributes)
    )

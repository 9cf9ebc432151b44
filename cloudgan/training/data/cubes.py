"""Cubes with dimensions time, y and x as sites, wherever they come from."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from pyproj import CRS
from pyproj.exceptions import CRSError

from cloudgan.defaults import SNOW, Snow
from cloudgan.errors import InputError
from cloudgan.geo.grid import Lattice, Window
from cloudgan.io.encodings import decode_classes
from cloudgan.masks.union import classify_observations
from cloudgan.observations import BUFFER_METRES, OPACITY, Observations, Site, metres_to_pixels
from cloudgan.schema import Provenance
from cloudgan.sentinel2.classification import SCL, ClassRules, PixelClass, Scl
from cloudgan.sentinel2.dates import day_numbers
from cloudgan.training.data.faults import name_unreadable
from cloudgan.training.data.sites import (
    DEFAULT_RESOLUTION,
    MAX_TRUSTED_CLOUD,
    classify_by_data,
    holds_numbers,
    make_site,
    numbers_of,
    warn_of_outliers,
)

log = logging.getLogger(__name__)

_FARTHEST = 1e8  # metres from the origin of a projected CRS
_MOST_BYTES = 8e9  # of reflectance held in memory


def open_store(store: Path | str) -> xr.Dataset:
    """Open a Zarr store: a cube of `open_cube` saved by xarray, or what a batch run wrote.

    Raises:
        InputError: It is no such store.
    """
    with name_unreadable(store, "a Zarr store", "give a cube"):
        cube: xr.Dataset = xr.open_zarr(store, mask_and_scale=False, consolidated=False)
    return cube


def site_of_cube(
    cube: xr.Dataset,
    bands: Sequence[str],
    name: str,
    region: str,
    *,
    max_trusted_cloud: float = MAX_TRUSTED_CLOUD,
    snow: Snow = SNOW,
) -> Site:
    """A site of a cube with dimensions time, y and x.

    Args:
        cube: A variable per band, digital numbers or reflectance, 0 or NaN no data; perhaps `scl`, or the
            `provenance` of a batch run, of which observed pixels alone are kept.
        bands: Common names.
        name: What to call it.
        region: What to call the place.
        max_trusted_cloud: See `make_site`.
        snow: What class 11 is taken for; see `ClassRules`.

    Raises:
        InputError: It lacks a band or a dimension, its grid is irregular, or its dates do not rise.
    """
    with name_unreadable(name, "a cube", "give dimensions time, y and x, and a variable per band"):
        return _as_site(cube, bands, name, region, max_trusted_cloud, snow)


def _as_site(
    cube: xr.Dataset, bands: Sequence[str], name: str, region: str, max_trusted_cloud: float, snow: Snow
) -> Site:
    if missing := [band for band in bands if band not in cube]:
        raise InputError(
            f"{name} has no band {missing[0]}; its variables are {sorted(map(str, cube.data_vars))}"
        )
    for band in (*bands, *([SCL] if SCL in cube else [])):
        if set(cube[band].dims) != {"time", "y", "x"}:
            raise InputError(f"{name} has {band} of dimensions {cube[band].dims}; a cube has time, y and x")
    if not np.issubdtype(cube["time"].dtype, np.datetime64):
        raise InputError(f"{name} has no dates in its time; write it in days since a date")
    cube = cube.transpose("time", "y", "x", ...)
    refuse_too_large(name, cube[bands[0]].shape, len(bands))
    if "y" in cube.coords and cube["y"].size > 1 and cube["y"][0] < cube["y"][-1]:
        cube = cube.isel(y=slice(None, None, -1))
    values = [cube[band].values for band in bands]
    for band, one in zip(bands, values, strict=True):
        warn_of_outliers(f"{name}, band {band},", one)
    arrays = {band: numbers_of(one, holds_numbers(one)) for band, one in zip(bands, values, strict=True)}
    scl = decode_classes(cube[SCL].values, None) if SCL in cube else None
    if "provenance" in cube:
        generated = cube["provenance"].values != Provenance.OBSERVED
        arrays = {band: np.where(generated, np.uint16(0), one) for band, one in arrays.items()}
    elif scl is None:
        _warn_unclassified(name)
    days = day_numbers(cube["time"].values)
    if (np.diff(days) <= 0).any():
        raise InputError(f"the dates of {name} do not rise, each of them once; sort and merge them")
    window, resolution, lattice = _place(cube, name)
    opacities = cube[OPACITY].values if OPACITY in cube else None
    observations = _observe(window, arrays, scl, days, resolution, ClassRules(snow=snow), opacities)
    return make_site(
        name, region, resolution, observations, max_trusted_cloud=max_trusted_cloud, lattice=lattice
    )


def _observe(
    window: Window,
    bands: Mapping[str, NDArray[np.uint16]],
    scl: NDArray[np.uint8] | None,
    days: NDArray[np.int64],
    resolution: float,
    rules: ClassRules,
    opacities: NDArray[Any] | None,
) -> Observations:
    if scl is None:
        half = None if opacities is None else opacities.astype(np.float16)
        return Observations(window, bands, classify_by_data(bands), days, opacities=half)
    buffer = metres_to_pixels(BUFFER_METRES, resolution)
    observations = classify_observations(
        window, bands, scl, days, buffer=buffer, rules=rules, opacities=opacities
    )
    # Whoever asks the classification is told the same.
    cloud = (scl == Scl.SNOW_OR_ICE) & (observations.pixel_classes != PixelClass.CLEAR)
    return replace(observations, scl=np.where(cloud, np.uint8(Scl.CLOUD_HIGH_PROBABILITY), scl))


def _place(cube: xr.Dataset, name: str) -> tuple[Window, float, Lattice | None]:
    """Window, resolution and lattice of a cube; a window of its own where it has no coordinates."""
    height, width = cube.sizes["y"], cube.sizes["x"]
    if "x" not in cube.coords or "y" not in cube.coords:
        return Window(0, 0, height, width), DEFAULT_RESOLUTION, None
    x, y = (cube[axis].values.astype(np.float64) for axis in ("x", "y"))
    if not max(np.abs(x).max(), np.abs(y).max()) < _FARTHEST:
        raise InputError(f"x and y of {name} lie in no place on Earth; give metres of a projected CRS")
    steps = np.concatenate([np.diff(x), -np.diff(y)])
    if not len(steps) or not np.allclose(steps, steps[0], rtol=1e-6, atol=0):
        raise InputError(f"x and y of {name} are no regular grid, x rising and y falling by the same step")
    resolution = float(steps[0])
    epsg = _epsg(cube["spatial_ref"].attrs if "spatial_ref" in cube.variables else cube.attrs)
    west, north = float(x[0]) - resolution / 2, float(y[0]) + resolution / 2
    lattice = Lattice.through(epsg or 0, resolution, west, north)
    window = lattice.covering(west, north - height * resolution, west + width * resolution, north)
    return window, resolution, lattice if epsg else None


def _epsg(attributes: Mapping[Any, Any]) -> int | None:
    """The EPSG code that CF, GDAL or plain attributes state."""
    stated: Any = attributes.get("crs_wkt", attributes.get("spatial_ref", attributes.get("epsg")))
    if stated is None:
        return None
    try:
        return CRS.from_user_input(stated if isinstance(stated, str) else int(np.ravel(stated)[0])).to_epsg()
    except CRSError:
        return None


def refuse_too_large(what: str, shape: tuple[int, ...], bands: int) -> None:
    """Refuse what does not fit into memory.

    Raises:
        InputError: It is more than the limit.
    """
    need = float(np.prod(shape)) * bands * np.dtype(np.float32).itemsize
    if need > _MOST_BYTES:
        raise InputError(
            f"{what} is {shape[0]} dates of {shape[1]} x {shape[2]} pixels, {need / 1e9:.0f} GB in memory, "
            f"and {_MOST_BYTES / 1e9:.0f} GB is the limit; give a smaller area or fewer dates"
        )


def _warn_unclassified(name: str) -> None:
    log.warning(
        "%s has no scene classification: whatever has data is taken for clear surface; leave cloudy dates "
        "out (exclude = [...])",
        name,
    )

"""One file or folder with all dates: netCDF, or Zarr of the second version without shards."""

from __future__ import annotations

import shutil
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import xarray as xr

from cloudgan.errors import InputError
from cloudgan.geo.aoi import Aoi
from cloudgan.geo.grid import Grid
from cloudgan.products.geotiff import write_whole
from cloudgan.products.layers import Content, Layer
from cloudgan.products.periods import Period

_EDGE = 256  # of a chunk in pixels


def select_cube(
    dataset: xr.Dataset, layers: tuple[Layer, ...], content: Content, every: Period | None
) -> xr.Dataset:
    """The part of a store's dataset that is asked for, lazily."""
    dates = sorted({at for layer in layers for at in layer.dates})
    dataset = dataset.isel(time=dates)
    unwanted = [name for name in dataset.cloudgan.bands if name not in content.bands]
    if every is not None:
        made: xr.Dataset = dataset.cloudgan.composite(every, index=content.index)
        return made if content.index else made.drop_vars(unwanted)
    if content.index is None:
        return dataset.drop_vars(unwanted)
    index = dataset.cloudgan.index(content.index)
    return dataset.drop_vars(dataset.cloudgan.bands).assign({content.index: index})


def clip_cube(cube: xr.Dataset, grid: Grid, part: Grid, area: Aoi | None) -> xr.Dataset:
    """The pixels of a part of the grid, without those outside of an area."""
    rows, cols = part.window.slices_in(grid.window)
    cube = cube.isel(y=rows, x=cols)
    if area is None:
        return cube
    inside = xr.DataArray(~area.mask_outside(part), dims=("y", "x"))
    pixels = {name: one for name, one in cube.data_vars.items() if {"y", "x"} <= set(one.dims)}
    return cube.assign(
        {
            name: one.where(inside) if one.dtype.kind == "f" else one.where(inside, np.zeros((), one.dtype))
            for name, one in pixels.items()
        }
    )


def check_netcdf() -> None:
    """Make sure that netCDF can be written here.

    Raises:
        InputError: Nothing that writes it is installed.
    """
    if not (find_spec("netCDF4") or (find_spec("h5netcdf") and find_spec("h5py"))):
        raise InputError(
            "netCDF needs a package that is not installed; pip install 'cloudgan[netcdf]', or give another "
            "--format"
        )


def write_netcdf(cube: xr.Dataset, path: Path) -> None:
    """Write a cube as netCDF, chunk by chunk."""
    chunks = _choose_chunks(cube)
    packed = {"zlib": True, "complevel": 4, "shuffle": True, "chunksizes": tuple(chunks.values())}
    with write_whole(path) as piece:
        _pack(cube.chunk(chunks), packed).to_netcdf(piece)


def write_zarr2(cube: xr.Dataset, path: Path) -> None:
    """Write a cube as Zarr of version 2, with chunks and a codec that old readers know."""
    chunks = _choose_chunks(cube)
    packed = {"chunks": tuple(chunks.values()), "compressors": numcodecs.Zlib(level=4)}
    piece = path.with_name(f".{path.name}.part")
    shutil.rmtree(piece, ignore_errors=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of zarr-python about text and consolidated metadata
        _pack(_add_crs(cube).chunk(chunks), packed).to_zarr(piece, zarr_format=2, consolidated=True)
    piece.rename(path)


def _choose_chunks(cube: xr.Dataset) -> dict[str, int]:
    return {"time": 1} | {axis: min(_EDGE, cube.sizes[axis]) for axis in ("y", "x")}


def _pack(cube: xr.Dataset, packed: dict[str, Any]) -> xr.Dataset:
    """The cube with another encoding of its pixels; one that is given to xarray's writers replaces theirs."""
    for one in cube.data_vars.values():
        if one.dims == ("time", "y", "x"):
            one.encoding = one.encoding | packed
            for name in ("scale_factor", "add_offset"):
                if name in one.encoding:  # GDAL shows a float32 of 0.0001 as 9.99999974737875e-05
                    one.encoding[name] = round(float(one.encoding[name]), 9)
    return cube


def _add_crs(cube: xr.Dataset) -> xr.Dataset:
    """The cube with the CRS where older GDAL finds it in Zarr, on each variable of pixels."""
    crs = {"wkt": cube["spatial_ref"].attrs["crs_wkt"]}
    named = {name: one.assign_attrs(_CRS=crs) for name, one in cube.data_vars.items() if "y" in one.dims}
    return cube.assign(named)

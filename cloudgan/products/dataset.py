"""A finished store as an xarray dataset that other formats take."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
import zarr

from cloudgan.errors import InputError, StoreError
from cloudgan.io.store.access import name_unusable, open_zarr_store
from cloudgan.io.store.identity import read_identity
from cloudgan.object_stores import is_object_store, normalise_location
from cloudgan.products import accessor  # noqa: F401 - which registers itself
from cloudgan.schema import PROVENANCE

# What of a variable's encoding fits any subset of it, and any format.
_KEPT_ENCODING = (
    "_FillValue",
    "add_offset",
    "calendar",
    "coordinates",
    "dtype",
    "grid_mapping",
    "scale_factor",
    "units",
)


def open(store: str | Path, *, group: str | None = None) -> xr.Dataset:  # noqa: A001 - as xarray has it
    """Open a finished store, lazily.

    Bands and `uncertainty` are reflectance in float32, with NaN where there is nothing. A chunk of Dask is a
    shard of one date; a selection reads no more of it than it needs. The dataset can be written as it is, or
    any part of it, by `to_netcdf` and `to_zarr`. `ds.cloudgan` has what a `CloudganAccessor` offers.

    Args:
        store: Path of a directory, or URL of an object store.
        group: Which UTM zone, such as `utm33n`, of a store that has several.

    Returns:
        Bands and quality variables over (time, y, x).

    Raises:
        StoreError: There is no store of cloudgan's, or it is damaged.
        InputError: The store has several UTM zones, and none of them is named.
    """
    location = normalise_location(str(store))
    identity = read_identity(location)
    if identity is None:
        raise StoreError(f"there is no store at {location}; give the --out of a run")
    if "zones" in identity:
        zones = identity["zones"]
        if group not in zones:
            raise InputError(
                f"{location} has a group for each UTM zone, and {group or 'none'} was named; "
                f"give group=, one of {', '.join(zones)}"
            )
        location = f"{location.rstrip('/')}/{group}"
    elif group is not None:
        raise InputError(f"{location} has one UTM zone and no groups; leave {group} out")
    with name_unusable(location), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an unfinished store has no consolidated metadata
        raw = xr.open_zarr(open_zarr_store(location), chunks=None, decode_cf=False)
        dataset = _decode(raw)
    dataset.encoding["source"] = location if is_object_store(location) else str(Path(location).resolve())
    chunks = {"time": 1} | dict(zip(("y", "x"), _find_shards(location), strict=True))
    return dataset.chunk(chunks).assign_coords(dataset.coords)  # the coordinates in memory


def _decode(raw: xr.Dataset) -> xr.Dataset:
    """Values by their attributes, and attributes that other formats take."""
    raw.attrs = _select_attributes(raw.attrs)
    for variable in raw.variables.values():
        variable.attrs = _select_attributes(variable.attrs)
        for name in ("scale_factor", "add_offset"):
            if name in variable.attrs:
                # Values take the type of the scale: float32 holds 16 bits.
                variable.attrs[name] = np.float32(variable.attrs[name])
        for flags in ("flag_values", "flag_masks"):
            if flags in variable.attrs:
                variable.attrs[flags] = np.asarray(variable.attrs[flags], variable.dtype)
    dataset = xr.decode_cf(raw, decode_coords="all")
    for coordinate in dataset.coords.values():
        coordinate.load()
    for variable in dataset.variables.values():
        kept = {name: value for name, value in variable.encoding.items() if name in _KEPT_ENCODING}
        if "dtype" in kept:
            kept["dtype"] = np.dtype(kept["dtype"]).newbyteorder("=")  # netCDF4 warns of any other
        variable.encoding = kept
    dataset = dataset.assign_coords({name: _make_plain(one) for name, one in dataset.coords.items()})
    for axis in ("y", "x"):
        dataset[axis].encoding["_FillValue"] = None  # else xarray writes one, which CF forbids
    return dataset


def _make_plain(coordinate: xr.DataArray) -> xr.DataArray:
    """Text without objects, as former layouts have, and numbers in the machine's order, or netCDF4 warns."""
    if coordinate.dtype.kind in "OT":
        return coordinate.astype(np.str_)
    native = coordinate.dtype.newbyteorder("=")
    return coordinate if coordinate.dtype.byteorder in "=|" else coordinate.astype(native)


def _select_attributes(attributes: dict[str, Any]) -> dict[str, Any]:
    """Attributes without those of the Zarr conventions, wrong for a subset and no names to CF."""
    return {
        name: value
        for name, value in attributes.items()
        if not (":" in name or name == "zarr_conventions" or isinstance(value, dict))
    }


def _find_shards(location: str) -> tuple[int, int]:
    """Rows and columns of a shard."""
    array = zarr.open_array(open_zarr_store(location), path=PROVENANCE.name, mode="r")
    _, rows, columns = array.shards or array.chunks
    return rows, columns

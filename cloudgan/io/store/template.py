"""The template of a store: its groups, arrays, coordinates and attributes, made once, before any unit."""

from __future__ import annotations

from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from pyproj import CRS, Transformer
from zarr.abc.store import Store as ZarrStore
from zarr.codecs import BloscCodec

from cloudgan.errors import StoreError
from cloudgan.geo.grid import Grid
from cloudgan.io.store import ledger
from cloudgan.io.store.access import IDENTITY
from cloudgan.io.store.spec import StoreSpec
from cloudgan.schema import Variable
from cloudgan.stac.search import Scene

# Of the codecs tried, byte shuffle with zstd gives the best ratio, at 0.6 of plain zstd's CPU. On real
# reflectance level 5 stores no less than level 3 (both 1.5 to 1), at three times the CPU.
_CODEC = BloscCodec(cname="zstd", clevel=3, shuffle="shuffle")
_PER_DATE = "item_ids cloud_cover processing_baseline"
_COORDINATES = ("time", "y", "x", "spatial_ref", *_PER_DATE.split())

_Coordinate = tuple[tuple[str, ...], NDArray[Any], dict[str, Any]]  # dimensions, values, attributes


def make_template(root: ZarrStore, spec: StoreSpec, form: int) -> None:
    """Create what is missing of the template; the ledger comes last, and vouches for the rest.

    Args:
        root: Where.
        spec: What the store is to hold.
        form: Format of the store, which decides names of variables.

    Raises:
        StoreError: A template is there already, and is damaged.
    """
    # With its attributes in one write: a group without them is no store of ours.
    attributes = _describe_root(spec) | {IDENTITY: spec.identity}
    group = zarr.open_group(root, mode="a", zarr_format=3, use_consolidated=False, attributes=attributes)
    if ledger.UNITS in group:
        check_template(group, spec, form)
        return
    for name, coordinate in (_cube_coordinates(spec) | _date_coordinates(spec.scenes)).items():
        _write_coordinate(group, name, coordinate)
    for variable in spec.variables:
        _make_array(group, variable, spec, form)
    ledger.make_ledger(group, spec.unit_count)


def check_template(group: zarr.Group, spec: StoreSpec, form: int) -> None:
    """Make sure that the arrays are what was made, before they are read: a ledger may claim any size.

    Raises:
        StoreError: One is missing or has another shape.
    """
    wanted: dict[str, tuple[tuple[int, ...], np.dtype[Any]]]
    wanted = {one.stored_name(form): (spec.shape, one.dtype) for one in spec.variables}
    wanted |= {ledger.UNITS: ((spec.unit_count,), np.dtype(np.uint8))}
    found = {name: group.get(name) for name in (*wanted, *_COORDINATES)}
    for name, array in found.items():
        known = isinstance(array, zarr.Array) and (array.shape, array.dtype)
        if not known or known != wanted.get(name, known):
            raise StoreError(
                f"{group.store_path} is damaged (its {name} is not what was made); give another --out, or "
                "remove it"
            )


def _make_array(group: zarr.Group, variable: Variable, spec: StoreSpec, form: int) -> None:
    chunk = min(spec.chunk, spec.block)
    where = {"grid_mapping": "spatial_ref", "coordinates": f"spatial_ref {_PER_DATE}"}
    group.create_array(
        variable.stored_name(form),
        shape=spec.shape,
        dtype=variable.dtype,
        chunks=(1, chunk, chunk),
        shards=(1, spec.block, spec.block),
        compressors=[_CODEC],
        fill_value=variable.fill,
        dimension_names=("time", "y", "x"),
        attributes=variable.attributes | where,
        overwrite=True,
    )


def _write_coordinate(group: zarr.Group, name: str, coordinate: _Coordinate) -> None:
    dimensions, data, attributes = coordinate
    array = group.create_array(
        name,
        shape=data.shape,
        dtype="str" if data.dtype.kind == "T" else data.dtype,
        chunks=data.shape,
        dimension_names=dimensions,
        attributes=attributes,
        overwrite=True,
    )
    array[...] = data


def _cube_coordinates(spec: StoreSpec) -> dict[str, _Coordinate]:
    days = np.array([scene.date for scene in spec.scenes], "datetime64[D]").astype(np.int64)
    calendar = {
        "standard_name": "time",
        "units": "days since 1970-01-01",
        "calendar": "proleptic_gregorian",
    }
    return {
        "time": (("time",), days, calendar),
        "y": (("y",), spec.grid.y(), _describe_axis("y")),
        "x": (("x",), spec.grid.x(), _describe_axis("x")),
        "spatial_ref": ((), np.array(0, np.int64), _describe_crs(spec.grid)),
    }


def _date_coordinates(scenes: tuple[Scene, ...]) -> dict[str, _Coordinate]:
    ids = [" ".join(item.id for item in scene.items) for scene in scenes]
    covers = [[item.cloud_cover for item in scene.items if item.cloud_cover is not None] for scene in scenes]
    baselines = [
        " ".join(sorted({item.processing_baseline or "?" for item in scene.items})) for scene in scenes
    ]
    return {
        "item_ids": (
            ("time",),
            np.array(ids, np.dtypes.StringDType()),
            {"long_name": "source STAC items, first on top"},
        ),
        "cloud_cover": (
            ("time",),
            np.array([np.mean(cover) if cover else np.nan for cover in covers], np.float32),
            {"long_name": "cloud cover of the source items, mean", "units": "percent"},
        ),
        "processing_baseline": (
            ("time",),
            np.array(baselines, np.dtypes.StringDType()),
            {"long_name": "ESA processing baseline of the source items"},
        ),
    }


def _describe_axis(name: str) -> dict[str, Any]:
    return {
        "standard_name": f"projection_{name}_coordinate",
        "long_name": f"{name} of pixel centres",
        "units": "m",
        "axis": name.upper(),
    }


def _describe_crs(grid: Grid) -> dict[str, Any]:
    transform = grid.transform
    crs = CRS.from_epsg(grid.epsg)
    return crs.to_cf() | {
        "spatial_ref": crs.to_wkt(),
        "GeoTransform": " ".join(
            f"{value:.12g}"
            for value in (transform.c, transform.a, transform.b, transform.f, transform.d, transform.e)
        ),
    }


def _describe_root(spec: StoreSpec) -> dict[str, Any]:
    west, south, east, north = spec.grid.bounds
    lonlat = Transformer.from_crs(spec.grid.epsg, 4326, always_xy=True).transform_bounds(
        west, south, east, north, densify_pts=21
    )
    dates = [scene.date for scene in spec.scenes]
    return {
        "Conventions": "CF-1.11",
        "title": "Sentinel-2 surface reflectance, clouds and their shadows removed",
        "license": "contains modified Copernicus Sentinel data",
        "proj:code": f"EPSG:{spec.grid.epsg}",
        "proj:bbox": [west, south, east, north],
        "proj:shape": list(spec.grid.shape),
        "proj:transform": list(spec.grid.transform)[:6],
        "geospatial_lon_min": lonlat[0],
        "geospatial_lat_min": lonlat[1],
        "geospatial_lon_max": lonlat[2],
        "geospatial_lat_max": lonlat[3],
        "time_coverage_start": min(dates).isoformat(),
        "time_coverage_end": max(dates).isoformat(),
    } | spec.attributes

"""What the metadata of a store says: CF, and the Zarr conventions `proj` and `spatial`.

Every reader fetches these attributes when it opens a store. So they are short, and netCDF can hold them:
strings, numbers and lists of these. The one exception is `zarr_conventions`, whose form the conventions
prescribe; `cloudgan.open` leaves it out.
"""

from __future__ import annotations

from typing import Any

from pyproj import CRS, Transformer

from cloudgan.geo.grid import Grid
from cloudgan.io.store.spec import StoreSpec

_BASE = "zarr-conventions"
_CONVENTIONS = [
    {
        "uuid": uuid,
        "schema_url": f"https://raw.githubusercontent.com/{_BASE}/{name}/refs/tags/v0.1/schema.json",
        "spec_url": f"https://github.com/{_BASE}/{name}/blob/v0.1/README.md",
        "name": name,
        "description": description,
    }
    for name, uuid, description in (
        (
            "proj",
            "f17cb550-5864-4468-aeb7-f3180cfb622f",
            "Coordinate reference system information for geospatial data",
        ),
        ("spatial", "689b58e2-cf7b-45e0-9fff-9cfc0883d6b4", "Spatial coordinate information"),
    )
]


def describe_frame(grid: Grid) -> dict[str, Any]:
    """Where pixels lie, by the conventions `proj` and `spatial`: of a group, or of an array of pixels."""
    return {
        "zarr_conventions": _CONVENTIONS,
        "proj:code": f"EPSG:{grid.epsg}",
        "spatial:dimensions": ["y", "x"],
        "spatial:transform": list(grid.transform)[:6],
        "spatial:shape": list(grid.shape),
        "spatial:bbox": list(grid.bounds),
    }


def describe_axis(name: str) -> dict[str, Any]:
    """CF attributes of the coordinate `y` or `x`."""
    return {
        "standard_name": f"projection_{name}_coordinate",
        "long_name": f"{name} of pixel centres",
        "units": "m",
        "axis": name.upper(),
    }


def describe_crs(grid: Grid) -> dict[str, Any]:
    """Attributes of the grid mapping: CF's, and what GDAL and rioxarray read."""
    transform = grid.transform
    crs = CRS.from_epsg(grid.epsg)
    return crs.to_cf() | {
        "long_name": "coordinate reference system",
        "spatial_ref": crs.to_wkt(),
        "GeoTransform": " ".join(
            f"{value:.12g}"
            for value in (transform.c, transform.a, transform.b, transform.f, transform.d, transform.e)
        ),
    }


def describe_area(spec: StoreSpec) -> dict[str, Any]:
    """Attributes of the root: where, when, and by whom."""
    west, south, east, north = spec.grid.bounds
    lonlat = Transformer.from_crs(spec.grid.epsg, 4326, always_xy=True).transform_bounds(
        west, south, east, north, densify_pts=21
    )
    dates = [scene.date for scene in spec.scenes]
    return (
        {
            "Conventions": "CF-1.11",
            "title": "Sentinel-2 surface reflectance, clouds and their shadows removed",
            "license": "contains modified Copernicus Sentinel data",
        }
        | describe_frame(spec.grid)
        | {
            "geospatial_lon_min": lonlat[0],
            "geospatial_lat_min": lonlat[1],
            "geospatial_lon_max": lonlat[2],
            "geospatial_lat_max": lonlat[3],
            "time_coverage_start": min(dates).isoformat(),
            "time_coverage_end": max(dates).isoformat(),
        }
        | spec.attributes
    )

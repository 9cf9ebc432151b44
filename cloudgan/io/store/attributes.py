"""What the metadata of a store says: CF, and attributes by the Zarr conventions `proj` and `spatial`.

Every reader fetches these attributes when it opens a store. So they are short, and netCDF can hold them:
strings, numbers and lists of these. Hence `zarr_conventions`, a list of objects that would declare the
conventions, is left out (decision 24).
"""

from __future__ import annotations

from typing import Any

from pyproj import CRS, Transformer

from cloudgan.geo.grid import Grid
from cloudgan.io.store.spec import StoreSpec


def describe_frame(grid: Grid) -> dict[str, Any]:
    """Where the pixels of a group or an array lie, as the conventions `proj` and `spatial` write it."""
    return {
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

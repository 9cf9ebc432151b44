"""GeoTIFFs for tests, with bands by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import rasterio
from numpy.typing import NDArray
from rasterio.transform import from_origin


def write(
    path: Path,
    values: NDArray[Any],
    names: tuple[str, ...] = ("B02", "B03", "B04", "B08"),
    crs: str | None = "EPSG:32633",
    west: float = 5e5,
    north: float = 5e6,
    nodata: float | None = None,
) -> Path:
    """Write values of shape (bands, height, width) at 10 m, the upper left corner at (west, north)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    count, height, width = values.shape
    place = {} if crs is None else {"crs": crs, "transform": from_origin(west, north, 10, 10)}
    profile = {"driver": "GTiff", "width": width, "height": height, "count": count, "nodata": nodata}
    with rasterio.open(path, "w", dtype=values.dtype, **profile, **place) as out:
        out.write(values)
        out.descriptions = names
    return path

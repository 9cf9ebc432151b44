"""The rasters of the demonstration, as Cloud Optimized GeoTIFFs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import rasterio
from affine import Affine
from rasterio.enums import Resampling

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

EPSG = 32633
"""Of all rasters."""


def write_cog(
    path: Path,
    pixels: NDArray[Any],
    west: int,
    north: int,
    resolution: int,
    names: tuple[str, ...] = (),
    *,
    overviews: bool = True,
) -> None:
    """Write a Cloud Optimized GeoTIFF with nodata 0, the same bytes whenever the pixels are the same.

    Args:
        path: Where to.
        pixels: Shape (bands, rows, columns).
        west: Western edge in metres, EPSG:32633.
        north: Northern edge in metres.
        resolution: Edge of a pixel in metres.
        names: Description of each band.
        overviews: Whether to keep smaller versions inside.
    """
    classes = pixels.dtype == np.uint8
    with rasterio.open(
        path,
        "w",
        driver="COG",
        count=pixels.shape[0],
        height=pixels.shape[1],
        width=pixels.shape[2],
        dtype=pixels.dtype,
        crs=f"EPSG:{EPSG}",
        transform=Affine(resolution, 0, west, 0, -resolution, north),
        nodata=0,
        compress="DEFLATE",
        predictor="YES",
        blocksize=256,
        level=9,
        overviews="AUTO" if overviews else "NONE",
        overview_resampling=Resampling.nearest.name if classes else Resampling.average.name,
    ) as target:
        target.write(pixels)
        if names:
            target.descriptions = names

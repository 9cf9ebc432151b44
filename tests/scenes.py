"""Scenes made by hand: small COGs of random numbers, and the plain data that a search would make of them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import rasterio
from affine import Affine
from numpy.typing import NDArray
from pyproj import Transformer
from shapely.geometry import box

from cloudgan.catalog import Scene
from cloudgan.items import Asset, SourceItem
from cloudgan.signing import Signing

EPSG = 32633


def write_cog(path: Path, values: NDArray, transform: Affine) -> Path:
    """Write one band as a COG with 0 as no data."""
    height, width = values.shape
    profile = {"driver": "COG", "count": 1, "dtype": values.dtype.name, "nodata": 0, "blocksize": 128}
    frame = {"height": height, "width": width, "crs": f"EPSG:{EPSG}", "transform": transform}
    with rasterio.open(path, "w", **profile, **frame) as file:
        file.write(values, 1)
    return path


def write_item(
    folder: Path,
    name: str,
    day: dt.date,
    bands: Mapping[str, NDArray],
    transform: Affine,
    *,
    offset: int = 0,
    states_transform: bool = True,
) -> SourceItem:
    """Write the bands of an item, each in its own pixel size (that of `transform` at the first band)."""
    folder.mkdir(parents=True, exist_ok=True)
    width = next(iter(bands.values())).shape[1]
    assets = []
    for band, values in bands.items():
        frame = transform @ Affine.scale(width / values.shape[1])
        path = write_cog(folder / f"{name}_{band}.tif", values, frame)
        stated = (values.shape, tuple(frame)[:6]) if states_transform else (None, None)
        assets.append(Asset(band, str(path), *stated))
    first = next(iter(bands.values()))
    corners = transform @ (0, first.shape[0]), transform @ (first.shape[1], 0)
    west, south, east, north = Transformer.from_crs(EPSG, 4326, always_xy=True).transform_bounds(
        corners[0][0], corners[0][1], corners[1][0], corners[1][1]
    )
    instant = dt.datetime(day.year, day.month, day.day, 10, tzinfo=dt.UTC)
    return SourceItem(
        id=name,
        collection="sentinel-2-l2a",
        datetime=instant,
        epsg=EPSG,
        footprint=box(west, south, east, north).wkt,
        assets=tuple(assets),
        offset=offset,
        processing_baseline="05.00",
        sequence=0,
        generated=None,
        cloud_cover=10.0,
        mgrs_tile="33UWP",
        datatake=None,
        datastrip=None,
        signing=Signing.NONE,
    )


def scene(*items: SourceItem) -> Scene:
    """One solar day of these items, first on top."""
    return Scene(items[0].datetime.date(), EPSG, items)


def random_bands(
    rng: np.random.Generator, shape: tuple[int, int], *, empty: float = 0.0
) -> dict[str, NDArray]:
    """Green, red, nir at full and scl at half resolution; a share of the pixels of each without data."""
    bands = {name: rng.integers(1001, 9000, shape).astype(np.uint16) for name in ("green", "red", "nir")}
    scl = rng.choice(np.arange(1, 12), (shape[0] // 2, shape[1] // 2)).astype(np.uint8)
    for values in (*bands.values(), scl):
        values[rng.random(values.shape) < empty] = 0
    return bands | {"scl": scl}

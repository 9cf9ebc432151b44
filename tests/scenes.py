"""Scenes made by hand: small COGs of random numbers, and the plain data that a search would make of them."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import rasterio
from affine import Affine
from numpy.typing import NDArray
from pyproj import Transformer
from scipy.ndimage import gaussian_filter
from shapely.geometry import box, mapping

from cloudgan.stac.items import Asset, SourceItem
from cloudgan.stac.search import Scene
from cloudgan.stac.signing import Signing

EPSG = 32633


def write_cog(path: Path, values: NDArray, transform: Affine, epsg: int = EPSG) -> Path:
    """Write one band as a COG with 0 as no data."""
    height, width = values.shape
    profile = {"driver": "COG", "count": 1, "dtype": values.dtype.name, "nodata": 0, "blocksize": 128}
    frame = {"height": height, "width": width, "crs": f"EPSG:{epsg}", "transform": transform}
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


def write_border(folder: Path, *, days: int = 3, edge: int = 360) -> Path:
    """A catalogue of two UTM zones around the place where they meet at 12 degrees east, 46 degrees north.

    On each day both show the same surface, each on its own pixels, with clouds of its own.
    """
    rng = np.random.default_rng(0)
    items = []
    for epsg in (32632, 32633):
        x, y = Transformer.from_crs(4326, epsg, always_xy=True).transform(12, 46)
        west, north = round(x, -1) - 5 * edge, round(y, -1) + 5 * edge
        bounds = west, north - 10 * edge, west + 10 * edge, north
        for day in range(days):
            noise = [gaussian_filter(rng.random((edge, edge)), 4) for _ in range(4)]
            bands = {
                name: (3000 + 20_000 * (values - 0.5)).astype(np.uint16)
                for name, values in zip(("green", "red", "nir"), noise, strict=False)
            }
            cloudy = noise[3][::2, ::2] > np.quantile(noise[3], 0.7)
            bands["scl"] = np.where(cloudy, 9, 4).astype(np.uint8)
            items.append(
                _stac_item(folder, f"{epsg}_{day}", epsg, dt.date(2023, 8, 5 + 5 * day), bands, bounds)
            )
    catalog = folder / "items.json"
    catalog.write_text(json.dumps({"type": "FeatureCollection", "features": items}))
    return catalog


def _stac_item(
    folder: Path,
    name: str,
    epsg: int,
    day: dt.date,
    bands: Mapping[str, NDArray],
    bounds: tuple[float, float, float, float],
) -> dict:
    """Write an item's COGs; returns its JSON, in the shape of Earth Search."""
    west, _, east, north = bounds
    outline = box(*Transformer.from_crs(epsg, 4326, always_xy=True).transform_bounds(*bounds))
    assets = {}
    for band, values in bands.items():
        pixel = (east - west) / values.shape[1]
        frame = Affine(pixel, 0, west, 0, -pixel, north)
        path = write_cog(folder / f"{name}_{band}.tif", values, frame, epsg)
        assets[band] = {
            "href": str(path),
            "proj:shape": list(values.shape),
            "proj:transform": list(frame)[:6],
        }
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": name,
        "geometry": mapping(outline),
        "bbox": list(outline.bounds),
        "links": [],
        "collection": "sentinel-2-l2a",
        "properties": {
            "datetime": f"{day}T10:00:00Z",
            "proj:epsg": epsg,
            "eo:cloud_cover": 30,
            "s2:processing_baseline": "05.09",
            "earthsearch:boa_offset_applied": True,
        },
        "assets": assets,
    }

"""The two libraries that read the pixels of an item onto a grid, with the same result."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import odc.stac
import pystac
import rasterio
from affine import Affine
from odc.geo.geobox import GeoBox
from rasterio.enums import Resampling
from rasterio.errors import RasterioError

from cloudgan.defaults import Reader
from cloudgan.errors import InputError, ReadError, redacted
from cloudgan.geo.grid import Grid
from cloudgan.io.gdal import open_image, options_for_odc
from cloudgan.object_stores import explain_error
from cloudgan.sentinel2.classification import SCL
from cloudgan.stac.hrefs import remove_query
from cloudgan.stac.items import Asset, SourceItem
from cloudgan.stac.signing import sign

Layer = dict[str, Any]
"""One item on a grid: by band a numpy or Dask array (y, x)."""
ReadLayer = Callable[[SourceItem, Grid, Sequence[str], int | None], Layer]
"""Reads bands of an item onto a grid, lazily where an edge of chunks is given."""

READ_FAILURES = (RasterioError, RuntimeError, OSError, ValueError, MemoryError)
"""What GDAL and the two libraries raise of an asset that cannot be read."""


def band_dtype(name: str) -> np.dtype[Any]:
    """Type of a band's numbers: uint8 of the scene classification, uint16 of all others."""
    return np.dtype(np.uint8 if name == SCL else np.uint16)


def read_band(item: SourceItem, grid: Grid, name: str, reader: Reader, chunks: int | None) -> Any:
    """One band of an item on a grid, an array (y, x), in memory or lazy.

    Raises:
        ReadError: It cannot be read.
    """
    try:
        return READERS[reader](item, grid, (name,), chunks)[name]
    except READ_FAILURES as error:
        raise read_error(item, name, error) from error


def read_error(item: SourceItem, name: str, error: BaseException) -> ReadError:
    """What to tell the user of an asset that could not be read, and why."""
    return ReadError(
        f"item {item.id} could not be read: asset {name}, {explain_cause(error)}; run the same command "
        "again, or give --allow-missing",
        item.id,
        redacted(remove_query(item.asset(name).href)),
    )


def explain_cause(error: BaseException) -> str:
    """What GDAL said first: rasterio raises an error of its own from it."""
    while error.__cause__ is not None:
        error = error.__cause__
    return explain_error(error)


def _read_odc(item: SourceItem, grid: Grid, names: Sequence[str], chunks: int | None) -> Layer:
    # odc-stac pastes where a nearest read is a mere shift, and rounds a tie to the other side than GDAL. A
    # thousandth of a pixel to the south-east settles ties GDAL's way and changes nothing else.
    transform = grid.transform @ Affine.translation(1e-3, 1e-3)
    with rasterio.Env(**options_for_odc(os.environ)):
        loaded = odc.stac.load(
            [pystac.Item.from_dict(stac_item(item, names))],
            bands=list(names),
            geobox=GeoBox(grid.shape, transform, f"EPSG:{grid.epsg}"),
            resampling="nearest",
            chunks=None if chunks is None else {"time": 1, "y": chunks, "x": chunks},
            use_overviews=False,  # their values are averages, of which GDAL's nearest knows nothing
        )
    return {name: loaded[name].data[0] for name in names}


def _read_stackstac(item: SourceItem, grid: Grid, names: Sequence[str], chunks: int | None) -> Layer:
    check_reader("stackstac")
    import stackstac  # a second of import that the other reader does without

    body = stac_item(item, names)
    for asset in body["assets"].values():
        # GDAL brings its VRT driver back for stackstac's own use, so `GDAL_SKIP` does not keep it out.
        open_image(asset["href"]).close()
    # Each of these keeps stackstac 0.5.1 from a silent fault: without epsg and bounds it shifts the grid,
    # rescale applies an offset that is applied already, errors_as_nodata turns a 404 into zeros, and dtype
    # and fill_value must be numpy's own types.
    stacked = stackstac.stack(
        [body],
        assets=list(names),
        epsg=grid.epsg,
        resolution=grid.resolution,
        bounds=grid.bounds,
        snap_bounds=False,
        dtype=np.dtype(np.uint16),
        fill_value=np.uint16(0),
        rescale=False,
        errors_as_nodata=(),
        resampling=Resampling.nearest,
        chunksize=chunks or max(grid.shape),
        xy_coords=False,
        properties=False,
        band_coords=False,
    ).data[0]
    values = stacked if chunks else stacked.compute(scheduler="synchronous")
    return {name: values[at].astype(band_dtype(name)) for at, name in enumerate(names)}


def check_reader(reader: Reader) -> None:
    """Make sure, before anything is planned, that a reader is installed.

    Raises:
        InputError: It is an extra that is not.
    """
    if reader == "stackstac" and importlib.util.find_spec("stackstac") is None:
        raise InputError(
            "the reader stackstac is not installed; pip install 'cloudgan[stackstac]', or give --reader odc"
        )


READERS: dict[str, ReadLayer] = {"odc": _read_odc, "stackstac": _read_stackstac}
"""By the name of the reader."""


def stac_item(item: SourceItem, bands: Sequence[str]) -> dict[str, Any]:
    """The item as a STAC item with just what the readers need, its hrefs signed now.

    Both spellings of the CRS are there: pystac 1.15 migrates to `proj:code`, stackstac reads `proj:epsg`.
    """
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "stac_extensions": [
            "https://stac-extensions.github.io/projection/v1.1.0/schema.json",
            "https://stac-extensions.github.io/raster/v1.1.0/schema.json",
        ],
        "id": item.id,
        "collection": item.collection or "sentinel-2-l2a",
        "geometry": item.geometry.__geo_interface__,
        "bbox": list(item.geometry.bounds),
        "properties": {
            "datetime": item.datetime.isoformat(),
            "proj:epsg": item.epsg,
            "proj:code": f"EPSG:{item.epsg}",
        },
        "links": [],
        "assets": {name: _stac_asset(item, item.asset(name)) for name in bands},
    }


def _stac_asset(item: SourceItem, asset: Asset) -> dict[str, Any]:
    body: dict[str, Any] = {
        "href": sign(asset.href, item.signing),
        "type": "image/tiff; application=geotiff; profile=cloud-optimized",
        "roles": ["data"],
        "raster:bands": [{"nodata": 0, "data_type": band_dtype(asset.band).name}],
    }
    if asset.shape and asset.transform:
        body |= {"proj:shape": list(asset.shape), "proj:transform": list(asset.transform)}
    return body

"""The libraries that read the pixels of an item onto a grid, with the same result.

rasterio reads the window out of the file that was opened to see how it stores its numbers. The two others
open it again by themselves, and build its geometry anew for every band.
"""

from __future__ import annotations

import importlib.util
import os
import re
import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import rasterio
from affine import Affine
from rasterio.enums import Resampling
from rasterio.errors import RasterioError

from cloudgan.defaults import Reader
from cloudgan.errors import InputError, ReadError
from cloudgan.geo.grid import Grid
from cloudgan.io.encodings import EncodingError, band_dtype, open_described, read_lazily, read_nearest
from cloudgan.io.frames import name_asset
from cloudgan.io.gdal import open_image, options_for_odc
from cloudgan.object_stores import explain_error
from cloudgan.sentinel2.classification import SCL, Scl
from cloudgan.stac.hrefs import is_url, remove_query
from cloudgan.stac.items import Asset, SourceItem
from cloudgan.stac.signing import Signing, sign

Layer = dict[str, Any]
"""One item on a grid: by band a numpy or Dask array (y, x)."""
ReadLayer = Callable[[SourceItem, Grid, Sequence[str], int | None], Layer]
"""Reads bands of an item onto a grid, lazily where an edge of chunks is given."""

READ_FAILURES = (RasterioError, RuntimeError, OSError, ValueError, MemoryError)
"""What GDAL and the libraries raise of an asset that cannot be read."""

# The first item that pystac parses makes it search for its extensions, in a table that a second thread walks.
_PARSING = threading.Lock()


def read_band(item: SourceItem, grid: Grid, name: str, reader: Reader, chunks: int | None) -> Any:
    """One band of an item on a grid, an array (y, x), in memory or lazy.

    Raises:
        ReadError: It cannot be read, or is not what its item says.
    """
    known = None if reader == "rasterio" else _identify(item, name)
    try:
        if known in _PLAIN:
            return _read_plain(item, grid, name, reader, chunks)
        # While it is open, the reader finds in GDAL's cache what was fetched to open it.
        with open_described(item, name) as (source, encoding):
            if reader == "rasterio" or not encoding.plain:
                if chunks is None:
                    return read_nearest(source, grid, name, encoding)
                return read_lazily(item, grid, name, encoding, chunks)
            _remember(known)
            return _read_plain(item, grid, name, reader, chunks)
    except EncodingError as error:
        raise refuse_file(item, name, error) from error
    except READ_FAILURES as error:
        raise read_error(item, name, error) from error


def _read_plain(item: SourceItem, grid: Grid, name: str, reader: Reader, chunks: int | None) -> Any:
    values = READERS[reader](item, grid, (name,), chunks)[name]
    # What is no class is none here too: 255 stands for a missing asset.
    return values * (values <= max(Scl)) if name == SCL else values


_PLAIN: set[tuple[Any, ...]] = set()  # files on servers that were found plain: opened for that once a process
_MOST_REMEMBERED = 100_000


def _identify(item: SourceItem, name: str) -> tuple[Any, ...] | None:
    """What the check of a file on a server depends on; None for a local one, which may change at any time."""
    asset = item.asset(name)
    if not is_url(asset.href):
        return None
    return remove_query(asset.href), name, item.epsg, item.offset, asset.shape, asset.transform


def _remember(file: tuple[Any, ...] | None) -> None:
    if file is not None:
        if len(_PLAIN) >= _MOST_REMEMBERED:
            _PLAIN.clear()
        _PLAIN.add(file)


def read_pixel(item: SourceItem, name: str) -> None:
    """See whether a band of an item can be read, by one pixel.

    A file that is not understood can be read: the units that need it say what is wrong with it.

    Raises:
        ReadError: It cannot be read.
    """
    try:
        with open_described(item, name) as (source, encoding):
            source.read(encoding.index, window=((0, 1), (0, 1)))
    except EncodingError:
        return
    except READ_FAILURES as error:
        raise read_error(item, name, error) from error


def refuse_file(item: SourceItem, name: str, error: EncodingError) -> ReadError:
    """What to tell the user of a file that is not what its item says."""
    return name_asset(
        item,
        name,
        f"item {item.id} cannot be used: its file of {name} {error}; leave the item out of the catalogue, or "
        "give --allow-missing",
    )


def read_error(item: SourceItem, name: str, error: BaseException) -> ReadError:
    """What to tell the user of an asset that could not be read, and why."""
    return name_asset(
        item,
        name,
        f"item {item.id} could not be read: asset {name}, {explain_cause(error)}; "
        f"{_suggest_remedy(item, name, error)}",
    )


def explain_cause(error: BaseException) -> str:
    """What GDAL said first: rasterio raises an error of its own from it."""
    while error.__cause__ is not None:
        error = error.__cause__
    return explain_error(error)


def _suggest_remedy(item: SourceItem, name: str, error: BaseException) -> str:
    """What to do about an asset that could not be read: a rerun does not bring credentials."""
    if item.signing is not Signing.NONE or not _REFUSED.search(explain_cause(error)):
        return "run the same command again, or give --allow-missing"
    if is_url(item.asset(name).href):
        return "the server wants credentials, which are not sent to web addresses; use a public one, or s3://"
    return (
        "check the credentials of its store in the environment (AWS_ACCESS_KEY_ID and "
        "AWS_SECRET_ACCESS_KEY for s3://), or give AWS_NO_SIGN_REQUEST=YES where it is public"
    )


_REFUSED = re.compile(
    r"\b40[13]\b|AccessDenied|Access Denied|Forbidden|Unauthorized|Credentials|AuthenticationFailed|"
    r"InvalidAccessKeyId|SignatureDoesNotMatch|AWS_SECRET_ACCESS_KEY|AZURE_STORAGE|GS_SECRET_ACCESS_KEY",
    re.IGNORECASE,
)


def _read_odc(item: SourceItem, grid: Grid, names: Sequence[str], chunks: int | None) -> Layer:
    # odc-stac pastes where a nearest read moves whole pixels, and rounds a tie to the other side than GDAL. A
    # thousandth of a pixel to the south-east settles ties GDAL's way and changes nothing else.
    import odc.stac  # half a second of import that the default reader does without
    import pystac
    from odc.geo.geobox import GeoBox

    transform = grid.transform @ Affine.translation(1e-3, 1e-3)
    with _PARSING:
        parsed = pystac.Item.from_dict(stac_item(item, names))
    with rasterio.Env(**options_for_odc(os.environ)):
        loaded = odc.stac.load(
            [parsed],
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
        with open_image(asset["href"]):
            pass
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
            "the reader stackstac is not installed; pip install 'cloudgan[stackstac]', or give --reader "
            "rasterio"
        )


READERS: dict[str, ReadLayer] = {"odc": _read_odc, "stackstac": _read_stackstac}
"""The other libraries, by the name of the reader."""


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
    # A file of another pixel size lies on the same place as the first.
    frame = asset if asset.shape and asset.transform else item.assets[0]
    if frame.shape and frame.transform:
        body |= {"proj:shape": list(frame.shape), "proj:transform": list(frame.transform)}
    return body

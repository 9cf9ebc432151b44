"""Observations and a grid become an xarray cube, by either of two readers that give the same pixels.

A value of the cube is the nearest source pixel, harmonised by its own item's BOA offset; where items of one
scene overlap, the first one with data in the band is on top.
"""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import repeat
from typing import Any

import dask.array
import numpy as np
import odc.stac
import pystac
import rasterio
import xarray as xr
from affine import Affine
from odc.geo.geobox import GeoBox
from pyproj import CRS
from rasterio.enums import Resampling
from rasterio.errors import RasterioError

from cloudgan.defaults import READER, Reader
from cloudgan.errors import ReadError, redacted
from cloudgan.geo.grid import Grid, Lattice, Window
from cloudgan.object_stores import explain_error
from cloudgan.sentinel2.classification import SCL, SCL_MISSING
from cloudgan.sentinel2.offset import harmonise
from cloudgan.stac.hrefs import remove_query
from cloudgan.stac.items import Asset, SourceItem
from cloudgan.stac.search import Scene
from cloudgan.stac.signing import sign

READ_THREADS = 4
"""Observations read at once: a remote asset is mostly waiting."""

DRIVERS = ("GTiff", "JP2OpenJPEG")
"""GDAL's drivers that read. Others, such as VRT, would follow an image to further files, also local ones."""


def foreign_drivers() -> str:
    """GDAL's other formats, for its option `GDAL_SKIP` in a process that has opened nothing yet."""
    with rasterio.Env() as env:
        return ",".join(sorted(set(env.drivers()) - {*DRIVERS, "MEM"}))  # it warps in memory


def opened(href: str) -> rasterio.DatasetReader:
    """A file in one of the formats that are read, by its name; others are refused."""
    tiff, jpeg2000 = DRIVERS
    return rasterio.open(href, driver=jpeg2000 if remove_query(href).lower().endswith(".jp2") else tiff)


# Where nothing is set, odc-stac brings settings of its own that go before the environment's: ten retries of
# doubled waits, ten minutes for each request to a server that stays busy.
_PATIENCE = {
    "GDAL_HTTP_MAX_RETRY": "5",
    "GDAL_HTTP_RETRY_DELAY": "1",
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
}


class _Redacted(logging.Filter):
    """rasterio tells the log which address failed, signature and all."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = redacted(record.getMessage()), ()
        return True


for _name in ("rasterio._env", "rasterio._err", "rasterio._io", "rasterio._base"):
    logging.getLogger(_name).addFilter(_Redacted())
logging.getLogger("odc.loader._rio").setLevel(logging.CRITICAL)  # so does odc-stac, of what it raises anyway

_Layer = dict[str, Any]  # band -> numpy or dask array (y, x) of one item
_ReadLayer = Callable[[SourceItem, Grid, Sequence[str]], _Layer | None]  # None leaves the item out
_DTYPES = {SCL: np.dtype(np.uint8)}  # every other band is uint16


def open_cube(
    scenes: Sequence[Scene],
    grid: Grid,
    bands: Sequence[str],
    *,
    reader: Reader = READER,
    chunks: int | None = None,
) -> xr.Dataset:
    """Read scenes onto a grid.

    Args:
        scenes: What to read, in order of time, each of the grid's own UTM zone.
        grid: The pixels of the cube. On the sources' own lattice values are read as they are; elsewhere each
            is the nearest source pixel (at a tie the one to the east and south, as GDAL has it).
        bands: Common names; the scene classification comes along as `scl`.
        reader: Which library reads.
        chunks: Edge in pixels of the Dask chunks of a lazy cube; None reads now.

    Returns:
        The bands, uint16, harmonised digital numbers (reflectance x 10000, 0 no data), and `scl`, uint8,
        each of dimensions (time, y, x), with pixel centres in metres as coordinates and the CRS in
        `spatial_ref`.

    Raises:
        ReadError: An asset cannot be read (of a lazy cube, GDAL's own error is raised when it is computed).
    """
    names = (*bands, SCL)
    with warnings.catch_warnings():
        # stackstac 0.5.1 is older than what pandas and xarray warn of; and rasterio, which keeps quiet about
        # its own buffers lacking a frame, forgets to in threads.
        warnings.simplefilter("ignore")
        if chunks is None:
            return _read(scenes, grid, names, partial(_layer, reader=reader))
        layer = partial(_layer, reader=reader, chunks=chunks)
        lazy = [_scene(scene, grid, names, layer, chunks) for scene in scenes]
    return _dataset({name: dask.array.stack([one[name] for one in lazy]) for name in names}, scenes, grid)


def open_available(
    scenes: Sequence[Scene], grid: Grid, bands: Sequence[str], *, reader: Reader = READER
) -> tuple[xr.Dataset, tuple[str, ...]]:
    """Read scenes onto a grid now, leaving out the items that cannot be read.

    Returns:
        The cube, whose `scl` is `clouds.SCL_MISSING` where only an unreadable item has data, and the ids of
        those items.
    """
    broken: set[str] = set()

    def layer(item: SourceItem, grid: Grid, names: Sequence[str]) -> _Layer | None:
        try:
            try:
                return _layer(item, grid, names, reader)
            except ReadError:  # once more, for it may pass: whatever is missing is missing in the store
                return _layer(item, grid, names, reader)
        except ReadError:
            broken.add(item.id)
            return None

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # as in `open_cube`
        cube = _read(scenes, grid, (*bands, SCL), layer)
    if not broken:
        return cube, ()
    empty = np.logical_and.reduce([cube[name].values == 0 for name in bands])
    for at, scene in enumerate(scenes):
        for item in scene.items:
            if item.id in broken and (inner := item_window(item, grid.lattice).intersection(grid.window)):
                rows, cols = inner.slices_in(grid.window)
                hole = cube[SCL].values[at, rows, cols]
                hole[empty[at, rows, cols]] = SCL_MISSING
    return cube, tuple(sorted(broken))


def _read(scenes: Sequence[Scene], grid: Grid, names: Sequence[str], layer: _ReadLayer) -> xr.Dataset:
    """Read scenes now, some at once."""
    with ThreadPoolExecutor(READ_THREADS) as pool:
        read = pool.map(_scene, scenes, repeat(grid), repeat(names), repeat(layer))
        return _dataset(_stacked(read, len(scenes), names, grid), scenes, grid)


def _scene(
    scene: Scene, grid: Grid, names: Sequence[str], layer: _ReadLayer, chunks: int | None = None
) -> _Layer:
    """One scene, mosaicked: for each band an array (y, x), in memory or lazy."""
    items = [
        item for item in scene.items if item_window(item, grid.lattice).intersection(grid.window) is not None
    ]
    read = (layer(item, grid, names) for item in items)
    layers = (one for one in read if one is not None)
    merged = next(layers, None)
    if merged is None:
        edge = chunks or max(grid.shape)
        return {name: _zeros(grid, _dtype(name), edge if chunks else None) for name in names}
    for below in layers:
        merged = {name: np.where(merged[name] == 0, below[name], merged[name]) for name in names}
    return merged


def _layer(
    item: SourceItem, grid: Grid, names: Sequence[str], reader: Reader, chunks: int | None = None
) -> _Layer:
    """One item on the grid, harmonised: for each band an array (y, x), in memory or lazy."""
    # Band by band, so that a failure names its asset: GDAL's own messages often do not.
    layer = {name: _band(item, grid, name, reader, chunks) for name in names}
    for name in names:
        if name != SCL and item.offset:
            layer[name] = _harmonised(layer[name], item.offset)
    return layer


def _band(item: SourceItem, grid: Grid, name: str, reader: Reader, chunks: int | None) -> Any:
    try:
        return _READERS[reader](item, grid, (name,), chunks)[name]
    except (RasterioError, RuntimeError, OSError, ValueError, MemoryError) as error:
        raise unread(item, name, error) from error


def unread(item: SourceItem, name: str, error: BaseException) -> ReadError:
    """What to tell of an asset that could not be read, and why."""
    return ReadError(
        f"item {item.id} could not be read: asset {name}, {_reason(error)}; run the same command "
        "again, or give --allow-missing",
        item.id,
        redacted(remove_query(item.asset(name).href)),
    )


def _reason(error: BaseException) -> str:
    """What GDAL said first: rasterio raises an error of its own from it."""
    while error.__cause__ is not None:
        error = error.__cause__
    return explain_error(error)


def _harmonised(values: Any, offset: int) -> Any:
    if isinstance(values, dask.array.Array):
        return dask.array.map_blocks(harmonise, values, offset, dtype=values.dtype)
    return harmonise(values, offset)


def _read_odc(item: SourceItem, grid: Grid, names: Sequence[str], chunks: int | None) -> _Layer:
    # odc-stac pastes where a nearest read is a mere shift, and rounds a tie to the other side than GDAL; a
    # thousandth of a pixel to the south-east settles ties GDAL's way and changes nothing else.
    transform = grid.transform @ Affine.translation(1e-3, 1e-3)
    with rasterio.Env(**{name: os.environ.get(name, default) for name, default in _PATIENCE.items()}):
        loaded = odc.stac.load(
            [pystac.Item.from_dict(stac_item(item, names))],
            bands=list(names),
            geobox=GeoBox(grid.shape, transform, f"EPSG:{grid.epsg}"),
            resampling="nearest",
            chunks=None if chunks is None else {"time": 1, "y": chunks, "x": chunks},
            use_overviews=False,  # their values are averages, of which GDAL's nearest knows nothing
        )
    return {name: loaded[name].data[0] for name in names}


def _read_stackstac(item: SourceItem, grid: Grid, names: Sequence[str], chunks: int | None) -> _Layer:
    import stackstac  # a second of import that the other reader does without

    body = stac_item(item, names)
    for asset in body["assets"].values():
        # GDAL brings its VRT driver back for stackstac's own use, so `foreign_drivers` does not keep it out.
        opened(asset["href"]).close()
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
    return {name: values[at].astype(_dtype(name)) for at, name in enumerate(names)}


_READERS: dict[str, Callable[[SourceItem, Grid, Sequence[str], int | None], _Layer]] = {
    "odc": _read_odc,
    "stackstac": _read_stackstac,
}


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
        "raster:bands": [{"nodata": 0, "data_type": _dtype(asset.band).name}],
    }
    if asset.shape and asset.transform:
        body |= {"proj:shape": list(asset.shape), "proj:transform": list(asset.transform)}
    return body


def _dtype(name: str) -> np.dtype[Any]:
    return _DTYPES.get(name, np.dtype(np.uint16))


def _zeros(grid: Grid, dtype: np.dtype[Any], chunks: int | None) -> Any:
    return dask.array.zeros(grid.shape, dtype, chunks=chunks) if chunks else np.zeros(grid.shape, dtype)


def _stacked(read: Any, times: int, names: Sequence[str], grid: Grid) -> dict[str, Any]:
    """Observations into one array a band, each put in its place as it arrives."""
    arrays = {name: np.zeros((times, *grid.shape), _dtype(name)) for name in names}
    for at, scene in enumerate(read):
        for name in names:
            arrays[name][at] = scene[name]
    return arrays


def _dataset(arrays: dict[str, Any], scenes: Sequence[Scene], grid: Grid) -> xr.Dataset:
    dates = np.array([scene.date for scene in scenes], "datetime64[ns]")
    cube = xr.Dataset(
        {name: (("time", "y", "x"), values) for name, values in arrays.items()},
        {"time": dates, "y": grid.y(), "x": grid.x()},
    )
    return cube.assign_coords(spatial_ref=xr.Variable((), 0, CRS.from_epsg(grid.epsg).to_cf()))


# Where things lie


def item_window(item: SourceItem, lattice: Lattice) -> Window:
    """The pixels of a lattice on which an item may have data.

    Its first asset's frame where the item states it, else its footprint's bounds.
    """
    asset = item.assets[0]
    if asset.shape and asset.transform and item.epsg == lattice.epsg:
        frame = Affine(*asset.transform)
        (west, north), (east, south) = frame @ (0, 0), frame @ (asset.shape[1], asset.shape[0])
        return lattice.covering(west, south, east, north)
    return lattice.covering_lonlat(item.geometry.bounds)


def source_lattice(scenes: Sequence[Scene], resolution: float) -> Lattice:
    """The lattice of the scenes' own pixels, where they have this resolution and agree on one.

    At any other resolution values are resampled anyway, and the lattice is the zone's: it must not depend on
    which items an area of interest happens to touch.

    Raises:
        ReadError: An item does not state its transform, and its file cannot be asked.
    """
    items = [item for scene in scenes for item in scene.items]
    epsg = items[0].epsg
    frames = {_first_transform(item) for item in items}
    lattices = {Lattice.through(epsg, frame.a, frame.c, frame.f) for frame in frames}
    own = next(iter(lattices))
    return own if len(lattices) == 1 and own.resolution == resolution else Lattice(epsg, resolution)


def _first_transform(item: SourceItem) -> Affine:
    asset = item.assets[0]
    if asset.transform:
        return Affine(*asset.transform)
    try:
        with opened(sign(asset.href, item.signing)) as source:
            return Affine(*source.transform[:6])
    except RasterioError as error:
        raise ReadError(
            f"item {item.id} could not be read: asset {asset.band}, {_reason(error)}; run the same "
            "command again"
        ) from error

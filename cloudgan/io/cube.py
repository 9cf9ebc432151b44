"""Scenes on a grid become arrays or an xarray cube, by any of several readers that give the same pixels.

A value of the cube is the nearest source pixel, harmonised by its own item's BOA offset. Where items of one
scene overlap, one of them gives all bands of a pixel; see `merging`.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from itertools import repeat
from typing import TYPE_CHECKING, Any

import numpy as np
from pyproj import CRS

from cloudgan.defaults import READER, Reader
from cloudgan.errors import ReadError
from cloudgan.geo.grid import Grid
from cloudgan.io.encodings import band_dtype
from cloudgan.io.merging import (
    MergeRules,
    group_overpasses,
    measure_opacity,
    merge_overpasses,
    merge_tiles,
)
from cloudgan.io.placement import item_window
from cloudgan.io.readers import Layer, read_band
from cloudgan.observations import BUFFER_METRES, OPACITY, metres_to_pixels
from cloudgan.sentinel2.classification import DEFAULT_RULES, SCL, SCL_MISSING, ClassRules
from cloudgan.sentinel2.offset import harmonise
from cloudgan.stac.items import SourceItem
from cloudgan.stac.search import Scene

if TYPE_CHECKING:
    import xarray as xr

READ_THREADS = 4
"""Scenes read at once: a remote asset is mostly waiting."""

_ReadLayer = Callable[[SourceItem, Grid, Sequence[str]], Layer | None]  # None leaves the item out


def open_cube(
    scenes: Sequence[Scene],
    grid: Grid,
    bands: Sequence[str],
    *,
    reader: Reader = READER,
    chunks: int | None = None,
    buffer: int | None = None,
    rules: ClassRules = DEFAULT_RULES,
) -> xr.Dataset:
    """Read scenes onto a grid.

    Args:
        scenes: What to read, in order of time, each of the grid's own UTM zone.
        grid: The pixels of the cube. On the sources' own lattice values are read as they are; elsewhere each
            is the nearest source pixel (at a tie the one to the east and south, as GDAL has it).
        bands: Common names; the scene classification comes along as `scl`.
        reader: Which library reads.
        chunks: Edge in pixels of the Dask chunks of a lazy cube; None reads now.
        buffer: Width in pixels of the buffer around cloud and shadow, where images of several overpasses of
            one day are merged; that of `observations.BUFFER_METRES` where None.
        rules: How the scene classification is used then.

    Returns:
        The bands, uint16, harmonised digital numbers (reflectance x 10000, 0 no data), and `scl`, uint8,
        each of dimensions (time, y, x), with pixel centres in metres as coordinates and the CRS in
        `spatial_ref`. Where a day has several overpasses, `opacity` too, see `Observations.opacities`.

    Raises:
        ReadError: An asset cannot be read (of a lazy cube, GDAL's own error may be raised when it is
            computed), or is not what its item says.
    """
    names = (*bands, SCL)
    merging = _merge_rules(grid, buffer, rules)
    if chunks is None:
        arrays = read_scenes(scenes, grid, bands, reader=reader, buffer=buffer, rules=rules)
        return _make_dataset(arrays, scenes, grid, merging)
    with _ignore_warnings():
        layer = partial(_read_layer, reader=reader, chunks=chunks)
        lazy = [_read_scene(scene, grid, names, layer, merging, chunks) for scene in scenes]
        lazy = _add_opacities(lazy, merging)
    import dask.array  # a second of import that reading now does without

    arrays = {name: dask.array.stack([one[name] for one in lazy]) for name in lazy[0]}
    return _make_dataset(arrays, scenes, grid, merging)


def read_scenes(
    scenes: Sequence[Scene],
    grid: Grid,
    bands: Sequence[str],
    *,
    reader: Reader = READER,
    buffer: int | None = None,
    rules: ClassRules = DEFAULT_RULES,
) -> Layer:
    """Read scenes onto a grid now: the arrays of `open_cube`, of shape (time, y, x), by their names."""
    with _ignore_warnings():
        layer = partial(_read_layer, reader=reader)
        return _read_now(scenes, grid, (*bands, SCL), layer, _merge_rules(grid, buffer, rules))


def read_available(
    scenes: Sequence[Scene],
    grid: Grid,
    bands: Sequence[str],
    *,
    reader: Reader = READER,
    buffer: int | None = None,
    rules: ClassRules = DEFAULT_RULES,
) -> tuple[Layer, tuple[str, ...]]:
    """Read scenes onto a grid now, leaving out the items that cannot be read.

    Returns:
        The arrays of `open_cube`, of which `scl` is `SCL_MISSING` where only an unreadable item has data, and
        the ids of those items.
    """
    broken: set[str] = set()
    merging = _merge_rules(grid, buffer, rules)

    def layer(item: SourceItem, grid: Grid, names: Sequence[str]) -> Layer | None:
        try:
            try:
                return _read_layer(item, grid, names, reader)
            except ReadError:  # once more, for it may pass: whatever is missing is missing in the store
                return _read_layer(item, grid, names, reader)
        except ReadError:
            broken.add(item.id)
            return None

    with _ignore_warnings():
        cube = _read_now(scenes, grid, (*bands, SCL), layer, merging)
    if not broken:
        return cube, ()
    empty = np.logical_and.reduce([cube[name] == 0 for name in bands])
    for at, scene in enumerate(scenes):
        for item in scene.items:
            if item.id in broken and (inner := item_window(item, grid.lattice).intersection(grid.window)):
                rows, cols = inner.slices_in(grid.window)
                hole = cube[SCL][at, rows, cols]
                hole[empty[at, rows, cols]] = SCL_MISSING
    return cube, tuple(sorted(broken))


def _read_now(
    scenes: Sequence[Scene], grid: Grid, names: Sequence[str], layer: _ReadLayer, rules: MergeRules
) -> Layer:
    """Read scenes now, some at once."""
    with ThreadPoolExecutor(READ_THREADS) as pool:
        read = pool.map(_read_scene, scenes, repeat(grid), repeat(names), repeat(layer), repeat(rules))
        return _stack(read, len(scenes), names, grid, rules)


@contextmanager
def _ignore_warnings() -> Iterator[None]:
    """Without warnings of the libraries.

    stackstac 0.5.1 is older than what pandas and xarray warn of; and rasterio, which keeps quiet about its
    own buffers lacking a frame, forgets to in threads.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _read_scene(
    scene: Scene,
    grid: Grid,
    names: Sequence[str],
    layer: _ReadLayer,
    rules: MergeRules,
    chunks: int | None = None,
) -> Layer:
    """One scene, merged: by band an array (y, x), in memory or lazy; of several overpasses `opacity` too."""
    items = [
        item for item in scene.items if item_window(item, grid.lattice).intersection(grid.window) is not None
    ]
    overpasses = []
    for group in group_overpasses(items):
        read = (layer(item, grid, names) for item in group)
        if (merged := merge_tiles((one for one in read if one is not None), rules)) is not None:
            overpasses.append(merged)
    if not overpasses:
        edge = chunks or max(grid.shape)
        return {name: _zeros(grid, band_dtype(name), edge if chunks else None) for name in names}
    return overpasses[0] if len(overpasses) == 1 else merge_overpasses(overpasses, rules)


def _read_layer(
    item: SourceItem, grid: Grid, names: Sequence[str], reader: Reader, chunks: int | None = None
) -> Layer:
    """One item on the grid, harmonised: for each band an array (y, x), in memory or lazy."""
    # Band by band, so that a failure names its asset: GDAL's own messages often do not.
    layer = {name: read_band(item, grid, name, reader, chunks) for name in names}
    for name in names:
        if name != SCL and item.offset:
            layer[name] = _harmonise(layer[name], item.offset)
    return layer


def _harmonise(values: Any, offset: int) -> Any:
    if isinstance(values, np.ndarray):
        return harmonise(values, offset)
    return values.map_blocks(harmonise, offset, dtype=values.dtype)


def _zeros(grid: Grid, dtype: np.dtype[Any], chunks: int | None) -> Any:
    if not chunks:
        return np.zeros(grid.shape, dtype)
    import dask.array

    return dask.array.zeros(grid.shape, dtype, chunks=chunks)


def _add_opacities(layers: list[Layer], rules: MergeRules) -> list[Layer]:
    """The layers, each with an opacity if one has it."""
    if not any(OPACITY in layer for layer in layers):
        return layers
    return [layer | {OPACITY: layer.get(OPACITY, measure_opacity(layer, rules))} for layer in layers]


def _stack(
    read: Iterable[Layer], times: int, names: Sequence[str], grid: Grid, rules: MergeRules
) -> dict[str, Any]:
    """Scenes into one array a band, each put in its place as it arrives."""
    arrays = {name: np.zeros((times, *grid.shape), band_dtype(name)) for name in names}
    opacities: dict[int, Any] = {}
    for at, scene in enumerate(read):
        for name in names:
            arrays[name][at] = scene[name]
        if OPACITY in scene:
            opacities[at] = scene[OPACITY]
    if opacities:
        layers = [{name: arrays[name][at] for name in names} for at in range(times)]
        arrays[OPACITY] = np.stack(
            [opacities[at] if at in opacities else measure_opacity(layers[at], rules) for at in range(times)]
        )
    return arrays


def _merge_rules(grid: Grid, buffer: int | None, rules: ClassRules) -> MergeRules:
    return MergeRules(metres_to_pixels(BUFFER_METRES, grid.resolution) if buffer is None else buffer, rules)


def _make_dataset(
    arrays: dict[str, Any], scenes: Sequence[Scene], grid: Grid, rules: MergeRules
) -> xr.Dataset:
    import xarray as xr  # half a second of import that a worker does without

    dates = np.array([scene.date for scene in scenes], "datetime64[ns]")
    cube = xr.Dataset(
        {name: (("time", "y", "x"), values) for name, values in arrays.items()},
        {"time": dates, "y": grid.y(), "x": grid.x()},
    )
    if OPACITY in cube:
        cube[OPACITY].attrs["buffer"] = rules.buffer
    return cube.assign_coords(spatial_ref=xr.Variable((), 0, CRS.from_epsg(grid.epsg).to_cf()))

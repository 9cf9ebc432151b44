"""The core: a cube with clouds goes in, a cube without comes out, each pixel saying where it is from.

`declouded` works on arrays, one date after the other, and is what the batch run calls; `remove_clouds` is the
same code behind a lazy xarray cube.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Any

import dask.array
import numpy as np
import xarray as xr
from dask.base import is_dask_collection
from dask.delayed import delayed
from numpy.typing import NDArray

from cloudgan import clouds
from cloudgan.clouds import State
from cloudgan.cube import lattice_window
from cloudgan.errors import InputError
from cloudgan.grid import Window
from cloudgan.normalisation import Shifts, likeness, shifts_at
from cloudgan.radiometry import REFLECTANCE_SCALE
from cloudgan.tiling import Tiling

if TYPE_CHECKING:
    from cloudgan.generator import Contract, Generator

NO_SPREAD = 65535
"""Spread where nothing was generated, or where nothing is known of it."""
_ENOUGH = 0.02  # share of a tile that tells its date's radiometry
_SOON = 10  # days in which ground changes little all over an MGRS tile
_UNLIKE = 0.25  # likeness to every date so near below which a date lies under haze
_DARKEST = np.float32(0.0001)  # reflectance that is not yet no data
QUALITY_DTYPES: dict[str, np.dtype[Any]] = {
    "provenance": np.dtype(np.uint8),
    "days_before": np.dtype(np.uint16),
    "days_after": np.dtype(np.uint16),
    "spread": np.dtype(np.uint16),
}
"""What is stored of each pixel beside its bands."""


class Provenance(IntEnum):
    """Where a pixel's value is from."""

    NO_DATA = 0
    """Nowhere: the value is 0."""
    OBSERVED = 1
    """The satellite's own value, untouched."""
    GENERATED = 2
    """The generator, wholly or feathered with the observed value at the edge of the mask."""
    MISSING_ASSET = 3
    """Nowhere, for an asset that should hold it could not be read."""


@dataclass(frozen=True, slots=True)
class Scenes:
    """The input of the core: all dates of one window, as arrays."""

    window: Window
    """Where the arrays lie on the pixel lattice."""
    bands: tuple[NDArray[np.uint16], ...]
    """For each band harmonised digital numbers (reflectance x 10000, 0 no data), shape (time, y, x)."""
    states: NDArray[np.uint8]
    """Values of `clouds.State`, shape (time, y, x)."""
    days: NDArray[np.int64]
    """Day number of each date, ascending, shape (time,)."""

    def __post_init__(self) -> None:
        shape = (len(self.days), *self.window.shape)
        if self.states.shape != shape or any(band.shape != shape for band in self.bands):
            raise InputError(f"bands and states must have the shape {shape} of dates and window")
        if (np.diff(self.days) <= 0).any():
            raise InputError("the dates of a cube must rise, each of them once; sort and merge them")

    def crop(self, window: Window) -> Scenes:
        """The same dates in a smaller window, without copying."""
        rows, cols = window.slices_in(self.window)
        bands = tuple(band[:, rows, cols] for band in self.bands)
        return Scenes(window, bands, self.states[:, rows, cols], self.days)

    def padded(self, window: Window) -> Scenes:
        """The same dates in a window that may reach further; there is no data outside."""
        if self.window.contains(window):
            return self.crop(window)
        inner = self.window.intersection(window)

        def pad(array: NDArray[Any]) -> NDArray[Any]:
            padded = np.zeros((len(array), *window.shape), array.dtype)
            if inner is not None:
                padded[:, *inner.slices_in(window)] = array[:, *inner.slices_in(self.window)]
            return padded

        return Scenes(window, tuple(map(pad, self.bands)), pad(self.states), self.days)


@dataclass(frozen=True, slots=True)
class Declouded:
    """One date of the output."""

    bands: NDArray[np.uint16]
    """Digital numbers, 0 no data, shape (band, y, x), in the order of the generator's output bands."""
    provenance: NDArray[np.uint8]
    """Values of `Provenance`, shape (y, x)."""
    days_before: NDArray[np.uint16]
    """Days to the nearest clear look before, `clouds.NEVER` without one, 0 where observed, shape (y, x)."""
    days_after: NDArray[np.uint16]
    """Days to the nearest clear look after, likewise."""
    spread: NDArray[np.uint16]
    """How far off a generated pixel is likely to be, mean over bands, x 10000; `NO_SPREAD` where observed;
    shape (y, x). It is the error that the generator foretells; of one that does not, the largest minus the
    smallest prediction of overlapping tiles, and `NO_SPREAD` where a tile is alone."""

    def clipped(self, outside: NDArray[np.bool_]) -> Declouded:
        """The same date without data where `outside`, shape (y, x)."""
        return Declouded(
            np.where(outside, np.uint16(0), self.bands),
            np.where(outside, np.uint8(Provenance.NO_DATA), self.provenance),
            np.where(outside, np.uint16(clouds.NEVER), self.days_before),
            np.where(outside, np.uint16(clouds.NEVER), self.days_after),
            np.where(outside, np.uint16(NO_SPREAD), self.spread),
        )

    def placed(self, target: Window, window: Window) -> Declouded:
        """The same date, of a target, in the middle of a window without data around it."""
        if target == window:
            return self
        there = target.slices_in(window)

        def put(values: NDArray[Any], nothing: int) -> NDArray[Any]:
            wide = np.full((*values.shape[:-2], *window.shape), nothing, values.dtype)
            wide[..., *there] = values
            return wide

        return Declouded(
            put(self.bands, 0),
            put(self.provenance, Provenance.NO_DATA),
            put(self.days_before, clouds.NEVER),
            put(self.days_after, clouds.NEVER),
            put(self.spread, NO_SPREAD),
        )

    def variables(self, bands: tuple[str, ...]) -> dict[str, NDArray[Any]]:
        """The arrays of shape (y, x) by the names under which they are stored."""
        return dict(zip(bands, self.bands, strict=True)) | {
            name: getattr(self, name) for name in QUALITY_DTYPES
        }


def read_window(target: Window, tiling: Tiling, reach: int) -> Window:
    """What must be read to decloud `target`: its tiles, and the buffer around what they show."""
    return tiling.cover(target).buffered(reach)


def default_tiling(generator: Generator) -> Tiling:
    """The generator's tile on a stride of three quarters of it."""
    tile = generator.contract.tile
    return Tiling(tile, tile * 3 // 4)


def declouded(
    scenes: Scenes,
    target: Window,
    generator: Generator,
    *,
    reach: int,
    tiling: Tiling,
    dates: Sequence[int] | None = None,
    max_age: int = clouds.MAX_AGE,
    threads: int = 1,
    elsewhere: Callable[[], Sequence[Shifts]] = tuple,
) -> Iterator[Declouded]:
    """Decloud the dates of a window, one after the other.

    The value of a pixel depends on the scenes around it alone, never on `target`: where the scenes hold all
    of `read_window(target)`, a crop of the whole equals the whole of the crop, bit for bit.

    Args:
        scenes: Input; its bands are `generator.contract.input_bands` in this order. What it lacks of
            `read_window(target)` counts as no data.
        target: The window to decloud.
        generator: What fills the mask.
        reach: Width of the buffer around cloud and shadow, in pixels.
        tiling: Where the tiles lie.
        dates: Indices of the dates that are wanted; all by default. The others show the ground around them.
        max_age: Days beyond which a clear look does not count; the scenes should reach so far around `dates`.
        threads: Tiles that are generated at once.
        elsewhere: What the dates, those of `scenes`, show of their radiometry beyond the window: where a tile
            itself shows next to nothing, its looks are brought to it; and a date that is unlike all others
            near it is hazy, and is not imitated. Asked for by generators that see time.

    Yields:
        The output of each wanted date, in order, over `target`.
    """
    scenes = scenes.padded(read_window(target, tiling, reach))
    cover = tiling.cover(target)
    rows, cols = cover.slices_in(scenes.window)
    # Half precision is a twentieth of a per cent of a weight, at half the memory of all dates.
    opacity = np.stack(
        [clouds.opacity(states, reach)[rows, cols].astype(np.float16) for states in scenes.states]
    )
    scenes = scenes.crop(cover)
    # Inside the buffer of a date's own clouds nothing vouches for a look being clear.
    clear = (scenes.states == State.CLEAR) & (opacity == 0)
    with ThreadPoolExecutor(threads) as pool:
        for at in range(len(scenes.days)) if dates is None else dates:
            near = clouds.dates_within(scenes.days, at, max_age)
            looks = clouds.nearest_looks(clear, at, near)
            date = _Date(scenes, opacity[at], clear, looks, at, near, elsewhere)
            yield _declouded_date(date, target, generator, tiling, pool)


@dataclass(frozen=True, slots=True)
class _Date:
    """One date among its neighbours in time, over the tiles that are needed."""

    scenes: Scenes
    opacity: NDArray[np.float16]
    clear: NDArray[np.bool_]
    looks: clouds.Looks
    at: int
    near: range
    elsewhere: Callable[[], Sequence[Shifts]]

    def weight(self, window: Window, *, sees_time: bool) -> NDArray[np.float32]:
        """How much of the generated value each pixel takes, shape (y, x)."""
        rows, cols = window.slices_in(self.scenes.window)
        seen = (self.looks.before[0, rows, cols] >= 0) | (self.looks.after[0, rows, cols] >= 0)
        # Without time nothing can be said of ground that no band of this date shows.
        return share_generated(
            self.scenes.states[self.at, rows, cols], self.opacity[rows, cols], seen & sees_time
        )

    def planes(self, contract: Contract, window: Window, air: _Air) -> NDArray[np.float32]:
        """The input planes of the generator over a tile, shape (plane, y, x), in the contract's units."""
        rows, cols = window.slices_in(self.scenes.window)
        clear = self.clear[:, rows, cols]
        looks = {"before": self.looks.before[:, rows, cols], "after": self.looks.after[:, rows, cols]}
        if contract.depth:
            dated = clouds.dated_looks(clear, self.at, contract.depth, self.near)
            looks |= {"earlier": dated.before, "later": dated.after}
        bands = dict(zip(contract.input_bands, self.scenes.bands, strict=False))
        of_band = dict(zip(contract.input_bands, air.shifts.T, strict=False))

        def plane(name: str) -> NDArray[np.float32]:
            kind, _, what = name.partition(":")
            if kind == "mask":
                empty = _is_empty(self.scenes.states[self.at, rows, cols])
                return ((self.opacity[rows, cols] > 0) | empty | air.hazy).astype(np.float32)
            if kind == "cloudy":
                return _reflectance(bands[what][self.at, rows, cols])
            side = kind.rstrip("23456789")
            look = looks[side][int(kind[len(side) :] or 1) - 1]
            if what == "age":
                ages = clouds.days_between(look, self.scenes.days, self.at)
                return np.where(ages == clouds.NEVER, 0, ages).astype(np.float32)
            series = bands[what][:, rows, cols]
            of_date = np.maximum(look, 0).astype(np.intp)
            values = _reflectance(np.take_along_axis(series, of_date[None], axis=0)[0])
            if of_band[what].any():
                values = np.maximum(values + of_band[what][of_date], _DARKEST)
            return np.where(look < 0, np.float32(0), values)

        return np.stack([plane(name) for name in contract.planes])

    def air(self, tile: Window, contract: Contract) -> _Air:
        """What the whole of the MGRS tile tells of the dates in a tile of the generator."""
        times, bands = len(self.scenes.days), contract.input_bands
        shifts = shifts_at(self.elsewhere(), tile, self.at) if contract.sees_time else None
        if shifts is None:
            return _Air(np.zeros((times, len(bands)), np.float32), hazy=False)
        rows, cols = tile.slices_in(self.scenes.window)
        hidden = (self.opacity[rows, cols] > 0) | _is_empty(self.scenes.states[self.at, rows, cols])
        lacking = np.float32(max(0.0, 1 - (1 - hidden.mean()) / _ENOUGH))
        alike = likeness(shifts, bands)
        soon = ~np.isnan(shifts[:, 0]) & (np.abs(self.scenes.days - self.scenes.days[self.at]) <= _SOON)
        soon[self.at] = False
        hazy = bool(soon.any()) and float(alike[soon].max()) < _UNLIKE
        return _Air(lacking * alike[:, None] * np.nan_to_num(shifts), hazy=hazy)


@dataclass(frozen=True, slots=True)
class _Air:
    """How the radiometry of dates is to be taken in one tile."""

    shifts: NDArray[np.float32]
    """Reflectance to add to each date, shape (time, band)."""
    hazy: bool
    """Whether the date itself is not to be imitated: its clear pixels are hidden from the generator too."""


def share_generated(
    states: NDArray[np.uint8], opacity: NDArray[np.float16], seen: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """How much of the generated value each pixel of one date takes; it is hidden where this is above 0.

    Args:
        states: Values of `clouds.State`, shape (y, x).
        opacity: See `clouds.opacity`, same shape.
        seen: Where another date shows the ground, same shape; without data, nothing else can fill it.
    """
    return np.where(_is_empty(states), seen.astype(np.float32), opacity.astype(np.float32))


def feathered(
    bands: NDArray[np.uint16], generated: NDArray[np.float32], share: NDArray[np.float32]
) -> NDArray[np.uint16]:
    """Observed numbers where nothing is hidden, generated ones where all is, and both at the edge.

    Args:
        bands: Digital numbers as observed, shape (band, y, x).
        generated: Reflectance, same shape; counts where the share is above 0.
        share: See `share_generated`, shape (y, x).
    """
    # Where one band lacks data there is nothing to feather with: it is generated wholly.
    part = np.where(bands == 0, np.float32(1), share)
    blended = part * generated / np.float32(REFLECTANCE_SCALE) + (1 - part) * bands
    # 0 means no data, so the darkest generated value is 1.
    filled = np.clip(np.rint(blended), 1, 65535).astype(np.uint16)
    return np.where(share > 0, filled, bands)


def _is_empty(states: NDArray[np.uint8]) -> NDArray[np.bool_]:
    empty: NDArray[np.bool_] = np.isin(states, (State.NO_DATA, State.MISSING))
    return empty


def _reflectance(numbers: NDArray[np.uint16]) -> NDArray[np.float32]:
    return numbers.astype(np.float32) * np.float32(REFLECTANCE_SCALE)


def _declouded_date(
    date: _Date, target: Window, generator: Generator, tiling: Tiling, pool: Executor
) -> Declouded:
    contract = generator.contract
    rows, cols = target.slices_in(date.scenes.window)
    states = date.scenes.states[date.at, rows, cols]
    observed = date.scenes.bands[: len(contract.bands)]
    bands = np.stack([band[date.at, rows, cols] for band in observed])
    weight = date.weight(target, sees_time=contract.sees_time)
    hidden = weight > 0
    provenance = np.full(target.shape, Provenance.OBSERVED, np.uint8)
    provenance[states == State.NO_DATA] = Provenance.NO_DATA
    provenance[states == State.MISSING] = Provenance.MISSING_ASSET
    provenance[hidden] = Provenance.GENERATED
    spread = np.full(target.shape, NO_SPREAD, np.uint16)
    if hidden.any():
        generated, doubt = _generate(date, target, hidden, generator, tiling, pool)
        bands = feathered(bands, generated, weight)
        np.copyto(spread, doubt, where=hidden)
    generated_pixels = provenance == Provenance.GENERATED
    ages = [
        np.where(
            generated_pixels, clouds.days_between(looks[0, rows, cols], date.scenes.days, date.at), 0
        ).astype(np.uint16)
        for looks in (date.looks.before, date.looks.after)
    ]
    return Declouded(bands, provenance, ages[0], ages[1], spread)


def _generate(
    date: _Date,
    target: Window,
    hidden: NDArray[np.bool_],
    generator: Generator,
    tiling: Tiling,
    pool: Executor,
) -> tuple[NDArray[np.float32], NDArray[np.uint16]]:
    """Blend the tiles that show a hidden pixel of `target`.

    Returns:
        Reflectance of shape (band, y, x), meaningful where hidden, and the spread of shape (y, x).
    """
    contract = generator.contract
    total = np.zeros((contract.outputs, *target.shape), np.float32)
    overlaps = None if contract.foretells else _Overlaps(len(contract.bands), target.shape)
    weights = tiling.weights()

    def predict(tiles: Sequence[tuple[Window, _Air]]) -> NDArray[np.float32]:
        planes = [date.planes(contract, tile, air) for tile, air in tiles]
        return generator(np.stack(planes))

    needed = [
        (tile, inner)
        for tile in tiling.tiles(target)
        if (inner := tile.intersection(target)) and hidden[inner.slices_in(target)].any()
    ]
    size = generator.batch
    tiles = [(tile, date.air(tile, contract)) for tile, _ in needed]
    batches = [tiles[at : at + size] for at in range(0, len(needed), size)]
    predictions = (prediction for batch in pool.map(predict, batches) for prediction in batch)
    # The order of tiles is the lattice's own and the sum is taken in it, so a pixel's bits never vary.
    for (tile, inner), prediction in zip(needed, predictions, strict=True):
        there, here = inner.slices_in(target), inner.slices_in(tile)
        part = prediction[:, *here]
        total[:, *there] += weights[here] * part
        if overlaps is not None:
            overlaps.add(there, part)
    if overlaps is not None:
        return total, overlaps.spread()
    return total[:-1], _as_spread(total[-1])


class _Overlaps:
    """How far the predictions of overlapping tiles lie apart."""

    def __init__(self, bands: int, shape: tuple[int, int]) -> None:
        self.lowest, self.highest = (
            np.full((bands, *shape), limit, np.float32) for limit in (np.inf, -np.inf)
        )
        self.tiles = np.zeros(shape, np.uint8)

    def add(self, there: tuple[slice, slice], part: NDArray[np.float32]) -> None:
        """Take in the prediction of a tile, shape (band, y, x)."""
        np.minimum(self.lowest[:, *there], part, out=self.lowest[:, *there])
        np.maximum(self.highest[:, *there], part, out=self.highest[:, *there])
        self.tiles[there] += 1

    def spread(self) -> NDArray[np.uint16]:
        """See `Declouded.spread`, shape (y, x)."""
        several = self.tiles > 1
        spread = np.full(several.shape, NO_SPREAD, np.uint16)
        spread[several] = _as_spread((self.highest - self.lowest)[:, several].mean(axis=0))
        return spread


def _as_spread(reflectance: NDArray[np.float32]) -> NDArray[np.uint16]:
    numbers: NDArray[np.float32] = np.clip(np.rint(reflectance / REFLECTANCE_SCALE), 0, NO_SPREAD - 1)
    return numbers.astype(np.uint16)


def remove_clouds(
    cube: xr.Dataset, generator: Generator, *, buffer: float = clouds.BUFFER_METRES
) -> xr.Dataset:
    """Decloud an xarray cube, lazily where it is lazy.

    The result is the same whatever the cube's chunks are, and that of a batch run but for tiles wholly under
    cloud, where the run looks beyond the cube (`elsewhere` of `declouded`). Near the edge of the cube the
    generator sees no data beyond it: open the cube with a margin (`read_window`) and crop the result where
    that matters.

    Args:
        cube: As `open_cube` makes it: the bands that the generator asks for, uint16, and `scl`, uint8, each
            of dimensions (time, y, x) on the pixel grid of a projected CRS.
        generator: What fills the mask.
        buffer: Reach around detected cloud and shadow, in metres.

    Returns:
        The generator's output bands, uint16, with `provenance`, `days_before`, `days_after` and `spread`, of
        the cube's dimensions, coordinates and chunks.

    Raises:
        InputError: The cube lacks a band, or has no regular grid in a projected CRS.
    """
    names = generator.contract.input_bands
    missing = [name for name in (*names, "scl") if name not in cube.data_vars]
    if missing:
        raise InputError(
            f"the cube lacks {', '.join(missing)}, which {generator.contract.name} needs; it has "
            f"{', '.join(map(str, cube.data_vars))}"
        )
    window, resolution = lattice_window(cube)
    task = _Task(
        generator, clouds.buffer_pixels(buffer, resolution), default_tiling(generator), day_numbers(cube)
    )
    bands = [cube[name].transpose("time", "y", "x").data for name in (*names, "scl")]
    lazy = any(is_dask_collection(band) for band in bands)
    arrays = _lazily(task, window, bands) if lazy else task(window, window, *bands)
    return xr.Dataset(
        {name: (("time", "y", "x"), values) for name, values in arrays.items()}, cube.coords, cube.attrs
    )


def day_numbers(cube: xr.Dataset) -> NDArray[np.int64]:
    """Days since 1970 of each date of a cube, shape (time,)."""
    return cube["time"].values.astype("datetime64[D]").astype(np.int64)


@dataclass(frozen=True, slots=True)
class _Task:
    """`declouded` for all dates at once, as one task."""

    generator: Generator
    reach: int
    tiling: Tiling
    days: NDArray[np.int64]

    def __call__(self, target: Window, window: Window, *arrays: NDArray[Any]) -> dict[str, NDArray[Any]]:
        *bands, scl = arrays
        scenes = Scenes(window, tuple(bands), clouds.classify(scl, bands), self.days)
        dates = declouded(scenes, target, self.generator, reach=self.reach, tiling=self.tiling)
        names = self.generator.contract.bands
        variables = [date.variables(names) for date in dates]
        return {name: np.stack([date[name] for date in variables]) for name in variables[0]}


def _lazily(task: _Task, window: Window, bands: list[Any]) -> dict[str, Any]:
    """One task a block of space: it depends on the blocks its tiles touch, and on no other."""
    frame = next(band for band in bands if is_dask_collection(band))
    edges = [np.cumsum([0, *sizes]).tolist() for sizes in frame.chunks[1:]]
    delayed_task = delayed(task)

    def block(top: int, bottom: int, left: int, right: int) -> dict[str, dask.array.Array]:
        target = Window.between(window.row + top, window.col + left, window.row + bottom, window.col + right)
        read = read_window(target, task.tiling, task.reach).intersection(window)
        assert read is not None  # noqa: S101
        rows, cols = read.slices_in(window)
        made = delayed_task(target, read, *(band[:, rows, cols] for band in bands))
        shape = (len(task.days), *target.shape)
        return {
            name: dask.array.from_delayed(made[name], shape, dtype).rechunk({0: frame.chunks[0]})
            for name, dtype in output_dtypes(task.generator.contract.bands).items()
        }

    grid = [
        [block(top, bottom, left, right) for left, right in zip(edges[1], edges[1][1:], strict=False)]
        for top, bottom in zip(edges[0], edges[0][1:], strict=False)
    ]
    return {name: dask.array.block([[cell[name] for cell in line] for line in grid]) for name in grid[0][0]}


def output_dtypes(bands: tuple[str, ...]) -> dict[str, np.dtype[Any]]:
    """Names and types of the output variables, in order."""
    return {band: np.dtype(np.uint16) for band in bands} | QUALITY_DTYPES

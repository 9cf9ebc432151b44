"""How a run is cut into work units: blocks of space, spans of time, and the memory that one of them needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from cloudgan.errors import InputError
from cloudgan.geo.aoi import Aoi
from cloudgan.geo.grid import Grid, Window
from cloudgan.geo.tiling import Tiling
from cloudgan.masks import temporal
from cloudgan.masks.detector import DetectorSpec
from cloudgan.masks.margins import estimate_margin
from cloudgan.model.contract import Contract
from cloudgan.observations import dates_within
from cloudgan.removal.core import window_to_read

CHUNK = 128
"""Edge of a Zarr chunk in pixels: what a reader of the store fetches at least (decision 25)."""
BLOCKS = (2048, 1024, 512)
"""Edges of a work unit, which is a Zarr shard, from the best to the smallest, in pixels."""

_SESSION_BYTES = 500_000_000
"""What a worker needs before it reads a pixel: the libraries, ONNX Runtime and its arena (measured)."""
_DETECTOR_BYTES = 300_000_000
"""What a mask detector needs beside that (csmask, measured)."""


@dataclass(frozen=True, slots=True)
class Unit:
    """One task: a block of space over a span of time, which writes whole shards and no others."""

    index: int
    """Number of the unit: by rows of blocks, and by time within a block."""
    window: Window
    """Its pixels on the lattice."""
    target: Window
    """What of them is to be declouded; the rest lies beside the area, and is no data."""
    dates: range
    """Which dates of the store it writes."""
    scenes: range
    """Which scenes of the plan it reads: its dates, and all that can show its surface clear."""


@dataclass(frozen=True, slots=True)
class TimeSpan:
    """What one unit writes, and reads for it, in time."""

    dates: range
    """Dates of the store."""
    scenes: range
    """Scenes of the plan."""


def cut_into_spans(
    days: NDArray[np.int64], written: tuple[int, ...], span: int | None, time_margin: int
) -> tuple[TimeSpan, ...]:
    """Cut a time series into spans.

    No date counts that is further away. A span that reads so far around its dates gives them the values that
    the whole time series would.

    Args:
        days: Day number of each scene, ascending.
        written: Which scenes are dates of the store.
        span: Dates of the store in one span; None for all.
        time_margin: Days around a date within which others decide its pixels.
    """
    size = span or len(written)
    spans = []
    for first in range(0, len(written), size):
        dates = range(first, min(first + size, len(written)))
        earliest, latest = (dates_within(days, written[at], time_margin) for at in (dates[0], dates[-1]))
        spans.append(TimeSpan(dates, range(earliest.start, latest.stop)))
    return tuple(spans)


# Space


@dataclass(frozen=True, slots=True)
class Blocks:
    """The blocks of a store that hold a part of the area, as arrays: there may be millions."""

    numbers: NDArray[np.int64]
    """Which blocks, counted by rows, ascending; shape (blocks,)."""
    targets: NDArray[np.int64]
    """Top, left, bottom and right of what is to be declouded in each, on the lattice; shape (blocks, 4)."""

    def target(self, position: int) -> Window:
        """What is to be declouded in one of them."""
        return Window.between(*map(int, self.targets[position]))

    @property
    def pixels(self) -> int:
        """Pixels to be declouded, of one date."""
        top, left, bottom, right = self.targets.T
        return int(((bottom - top) * (right - left)).sum())

    def tiles(self, tiling: Tiling) -> int:
        """Tiles of one date, counted once for each block that needs them."""
        top, left, bottom, right = self.targets.T
        return int((tiling.count_along(top, bottom) * tiling.count_along(left, right)).sum())

    def read_pixels(self, tiling: Tiling, buffer: int) -> int:
        """Pixels that are read of one date, counted once for each block that needs them."""
        top, left, bottom, right = self.targets.T
        edges = [
            (tiling.count_along(low, high) - 1) * tiling.stride + tiling.size + 2 * buffer
            for low, high in ((top, bottom), (left, right))
        ]
        return int((edges[0] * edges[1]).sum())


def count_blocks(grid: Grid, block: int) -> tuple[int, int]:
    """Rows and columns of blocks."""
    height, width = grid.shape
    return -(-height // block), -(-width // block)


@lru_cache(maxsize=4)  # each unit asks again
def find_blocks(grid: Grid, block: int, parts: tuple[Window, ...], clip: str | None) -> Blocks:
    """The blocks of a store that hold a part of the area.

    Args:
        grid: The pixels of the store.
        block: Edge of a block in pixels.
        parts: Boxes around the parts of the area; none where the area is all of the grid.
        clip: The area as WKT in degrees, where only what lies in it is wanted.
    """
    rows, cols = count_blocks(grid, block)
    whole = grid.window
    top = whole.row + block * np.arange(rows)[:, None]
    left = whole.col + block * np.arange(cols)[None, :]
    low_row, low_col = np.full((rows, cols), whole.bottom), np.full((rows, cols), whole.right)
    high_row, high_col = np.full((rows, cols), whole.row), np.full((rows, cols), whole.col)
    for part in parts or (whole,):
        above, below = (part.row - whole.row) // block, -(-(part.bottom - whole.row) // block)
        before, after = (part.col - whole.col) // block, -(-(part.right - whole.col) // block)
        here = np.s_[above:below, before:after]
        row, col = top[above:below], left[:, before:after]
        np.minimum(low_row[here], np.maximum(part.row, row), out=low_row[here])
        np.minimum(low_col[here], np.maximum(part.col, col), out=low_col[here])
        np.maximum(high_row[here], np.minimum(part.bottom, row + block), out=high_row[here])
        np.maximum(high_col[here], np.minimum(part.right, col + block), out=high_col[here])
    wanted = low_row < high_row
    if clip is not None:
        _unmark_outside(wanted, Aoi(shapely.from_wkt(clip)).project(grid.epsg), grid, block)
    numbers = np.flatnonzero(wanted)
    targets = np.stack([edge.ravel()[numbers] for edge in (low_row, low_col, high_row, high_col)], axis=1)
    for array in (numbers, targets):  # they are shared by all who ask
        array.setflags(write=False)
    return Blocks(numbers, targets)


def _unmark_outside(wanted: NDArray[np.bool_], area: BaseGeometry, grid: Grid, block: int) -> None:
    """Clear the blocks that the area does not touch, by quarters: not every block is tested."""
    shapely.prepare(area)
    west, _, _, north = grid.bounds
    edge = block * grid.resolution

    def unmark(top: int, left: int, bottom: int, right: int) -> None:
        if top >= bottom or left >= right:
            return
        quarter = shapely.box(
            west + left * edge, north - bottom * edge, west + right * edge, north - top * edge
        )
        if not area.intersects(quarter):
            wanted[top:bottom, left:right] = False
        elif not area.contains_properly(quarter) and (bottom - top > 1 or right - left > 1):
            row, col = -(-(top + bottom) // 2), -(-(left + right) // 2)
            unmark(top, left, row, col)
            unmark(top, col, row, right)
            unmark(row, left, bottom, col)
            unmark(row, col, bottom, right)

    unmark(0, 0, *wanted.shape)


# Memory


def compute_unit_shape(block: int, store: tuple[int, int]) -> tuple[int, int]:
    """Rows and columns of the largest unit of a store."""
    return min(block, store[0]), min(block, store[1])


def list_bands(
    contract: Contract, detectors: Sequence[DetectorSpec], *, is_temporal: bool = False
) -> tuple[str, ...]:
    """Bands that are read: the generator's, and those that masks ask for beside them."""
    others = (band for one in detectors for band in one.contract.input_bands)
    tested = temporal.NEEDED_BANDS if is_temporal else ()
    return tuple(dict.fromkeys([*contract.input_bands, *others, *tested]))


def estimate_unit_memory(
    shape: tuple[int, int],
    times: int,
    contract: Contract,
    tiling: Tiling,
    buffer: int,
    detectors: Sequence[DetectorSpec] = (),
    *,
    is_temporal: bool = False,
) -> int:
    """Bytes that a unit of so many rows and columns needs at most.

    All dates of the read window are in memory at once: the bands, the scene classification, pixel classes,
    who masks them, opacity and clear dates. Beside them is the work on one date, in float32.
    """
    # However a block lies on the tile lattice, its tiles extend at most a tile beyond it on both sides.
    height, width = window_to_read(
        Window(0, 0, shape[0] + tiling.size, shape[1] + tiling.size),
        tiling,
        buffer + estimate_margin(detectors, buffer, is_temporal=is_temporal),
    ).shape
    read = height * width
    bands = len(list_bands(contract, detectors, is_temporal=is_temporal))
    all_dates = 2 * bands + 1 + 1 + 1 + 2 + 4 + len(detectors) + temporal.BYTES_A_PIXEL * is_temporal
    passing = 4 + 16  # indices while clear dates are found, of all dates; distances of one date
    one_date = 4 * 5 * contract.output_channels + 32
    sessions = _SESSION_BYTES + len(detectors) * _DETECTOR_BYTES
    sessions += times * temporal.BYTES_A_DATE * is_temporal
    return sessions + read * (times * (all_dates + 4) + passing + one_date)


@dataclass(frozen=True, slots=True)
class Timeline:
    """The dates of a run, and how far apart they serve each other."""

    days: tuple[int, ...]
    """Day number of each scene, ascending."""
    written: tuple[int, ...]
    """Which scenes are dates of the store."""
    time_margin: int
    """Days around a date within which others decide its pixels."""

    def spans(self, span: int | None) -> tuple[TimeSpan, ...]:
        """Cut into so many dates a span; see `cut_into_spans`."""
        return cut_into_spans(np.asarray(self.days, np.int64), self.written, span, self.time_margin)


def choose_unit(
    grid: Grid,
    timeline: Timeline,
    contract: Contract,
    tiling: Tiling,
    buffer: int,
    budget: int | None,
    parts: tuple[Window, ...] = (),
    clip: str | None = None,
    detectors: Sequence[DetectorSpec] = (),
    *,
    is_temporal: bool = False,
) -> tuple[int, int | None]:
    """The work unit that fits the budget and reads the least beyond what it writes.

    Args:
        grid: The pixels of the store.
        timeline: Its dates.
        contract: What the generator asks for and gives.
        tiling: Where its tiles lie.
        buffer: Width of the buffer around cloud and shadow, in pixels.
        budget: Bytes that a worker may use; None is without limit.
        parts: See `find_blocks`.
        clip: See `find_blocks`.
        detectors: What finds clouds beside the scene classification.
        is_temporal: Whether the temporal test does.

    Returns:
        Edge of a block in pixels, and dates of the store in a unit; None for all.

    Raises:
        InputError: Not even the smallest unit fits.
    """
    shape = grid.shape
    useful = [block for block in BLOCKS if block < 2 * max(shape)] or [BLOCKS[-1]]

    margin = estimate_margin(detectors, buffer, is_temporal=is_temporal)

    def needed(block: int, spans: tuple[TimeSpan, ...]) -> int:
        times = max(len(one.scenes) for one in spans)
        edges = compute_unit_shape(block, shape)
        return estimate_unit_memory(
            edges, times, contract, tiling, buffer, detectors, is_temporal=is_temporal
        )

    fitting: list[tuple[int, int, int | None]] = []
    for block in useful:
        read = find_blocks(grid, block, parts, clip).read_pixels(tiling, buffer + margin)
        for span in (None, *_shorter(len(timeline.written))):
            spans = timeline.spans(span)
            if budget is None or needed(block, spans) <= budget:
                fitting.append((read * sum(len(one.scenes) for one in spans), -block, span))
                break  # a shorter span reads more
    if fitting:
        _, block, span = min(fitting, key=lambda choice: choice[:2])
        return -block, span
    spans = timeline.spans(1)
    least, times = needed(BLOCKS[-1], spans) / 1e9, max(len(one.scenes) for one in spans)
    rows, cols = compute_unit_shape(BLOCKS[-1], shape)
    raise _refuse_budget(budget, f"{rows} x {cols} pixels and {times} dates", least)


def _refuse_budget(budget: int | None, unit: str, least: float) -> InputError:
    return InputError(
        f"a worker's memory of {(budget or 0) / 1e9:.2g} GB cannot hold one work unit of {unit}, which needs "
        f"{least:.2g} GB; give --memory {least + 0.1:.1f}GB or more, or fewer dates"
    )


def _shorter(dates: int) -> list[int]:
    """Lengths of the spans that so many dates can be cut into evenly, the longest first, one date last."""
    return list(dict.fromkeys(-(-dates // pieces) for pieces in range(2, dates + 1)))


def find_outside(window: Window, parts: tuple[Window, ...]) -> NDArray[np.bool_] | None:
    """Which pixels of a window lie in no part, shape (height, width); None where all lie in one."""
    outside = np.ones(window.shape, np.bool_)
    for part in parts:
        inside = window.intersection(part)
        if inside == window:
            return None
        if inside is not None:
            outside[inside.slices_in(window)] = False
    return outside if parts and outside.any() else None

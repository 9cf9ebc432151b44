"""Tiles: a square of the map on a date, drawn from the pixels that it shows and no others."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cloudgan.geo.grid import Grid, Window
from cloudgan.products.indices import INDICES, find_index
from cloudgan.products.reader import StoreReader
from cloudgan.report import colours
from cloudgan.report.colours import Composite, Rgba, Stretch, find_composites
from cloudgan.report.overview import CLASS_OF, MASKED_BY, average_cells, cut_cells, read_source, share_cells
from cloudgan.schema import PROVENANCE, Provenance

EDGE = 256
"""Cells of a tile's edge."""
_SMALLEST = 512  # cells of the longer side at the coarsest level, at most
_RUNS, _RUN = 4, 128  # of rows and of columns from which brightness is estimated, and their length
_SAMPLE = 8  # pixels of a cell that are shown, along each side: a mean of 64 is one to the eye
_COMPRESSION = 3  # of PNG: a tile travels once, within the machine

State = Literal["declouded", "observed"]
"""Whether all values are shown, or those that the satellite saw alone."""
STATES: tuple[State, ...] = get_args(State)
LAYERS: dict[str, tuple[Rgba, ...]] = {
    "provenance": colours.PROVENANCE_COLOURS,
    "source": colours.SOURCE_COLOURS,
    "uncertainty": colours.UNCERTAINTY_COLOURS,
}
"""What is laid over a picture, and its colours by number."""


class AbandonedError(Exception):
    """Nobody waits for the tile any more."""


@dataclass(frozen=True, slots=True)
class Tile:
    """A square of `EDGE` x `EDGE` cells; a cell of level n is 2**n x 2**n pixels."""

    level: int
    """0 shows each pixel."""
    row: int
    """Counted from the north of the grid."""
    col: int
    """Counted from the west of the grid."""

    @property
    def step(self) -> int:
        """Pixels that a cell is wide."""
        return 1 << self.level

    @property
    def every(self) -> int:
        """Of the rows and columns of a cell, one in so many is shown."""
        return max(1, self.step // _SAMPLE)

    def window_in(self, grid: Grid) -> Window | None:
        """The pixels of a grid that the tile shows; None where it lies beside the grid."""
        edge, whole = EDGE * self.step, grid.window
        window = Window(whole.row + self.row * edge, whole.col + self.col * edge, edge, edge)
        return window.intersection(whole)


def count_levels(shape: tuple[int, int]) -> int:
    """How many levels a grid has beside the one that shows each pixel."""
    return max(0, math.ceil(math.log2(max(shape) / _SMALLEST)))


@dataclass(frozen=True, slots=True)
class Painter:
    """Draws the tiles of a store."""

    reader: StoreReader
    """The store."""
    composites: tuple[Composite, ...]
    """What its bands allow to show in colour."""
    indices: tuple[str, ...]
    """Names of the indices that its bands allow."""
    stretch: Stretch
    """How numbers become colours: the same on all dates and all tiles."""

    @classmethod
    def prepare(cls, reader: StoreReader) -> Painter:
        """Estimate brightness from a sample of dates and places, whatever the size of the store.

        Raises:
            StoreError: The store cannot be read.
        """
        composites = find_composites(reader.bands)
        indices = tuple(name for name, one in INDICES.items() if set(one.bands) <= set(reader.bands))
        wanted = {name for one in composites for name in one.bands}
        wanted |= {name for index in indices for name in INDICES[index].bands}
        dates = Stretch.sample(range(len(reader.days)))
        rows, cols = (_choose_lines(length) for length in reader.grid.shape)
        values = {name: reader.read_places(name, dates, rows, cols) for name in wanted}
        values |= {name: _compute_index(name, values) for name in indices}
        errors = reader.read_places("uncertainty", dates, rows, cols)
        return cls(reader, composites, indices, Stretch.measure(values, errors))

    def paint(
        self, at: int, content: str, state: State, tile: Tile, check: Callable[[], None] = lambda: None
    ) -> bytes | None:
        """A tile of a date as PNG, transparent where there is nothing; None beside the grid.

        Args:
            at: Index of the date.
            content: Key of a composite, name of an index, or one of `LAYERS`.
            state: Which values are shown; layers have one alone.
            tile: Where.
            check: Called before each block is read; it raises `AbandonedError` to stop.

        Raises:
            KeyError: There is no such content.
            StoreError: The store cannot be read.
        """
        window = tile.window_in(self.reader.grid)
        if content in LAYERS:
            return None if window is None else self._paint_layer(at, content, window, tile, check)
        names = self._find_names(content)
        if window is None:
            return None
        means = self._average(at, names, content, state, window, tile, check)
        if content in self.indices:
            shade = self.stretch.shade_index(content, means[content])
            return _encode_classes(_fill_tile(shade), colours.INDEX_COLOURS)
        return _encode(Image.fromarray(_fill_tile(self.stretch.colour(means, self._composite(content)))))

    def _find_names(self, content: str) -> tuple[str, ...]:
        """The bands that a picture needs."""
        if content in self.indices:
            return INDICES[content].bands
        return tuple(sorted(set(self._composite(content).bands)))

    def _composite(self, key: str) -> Composite:
        return {one.key: one for one in self.composites}[key]

    def _average(
        self,
        at: int,
        names: Sequence[str],
        content: str,
        state: State,
        window: Window,
        tile: Tile,
        check: Callable[[], None],
    ) -> dict[str, NDArray[np.float32]]:
        """Means over cells of bands, or of an index; NaN where there is nothing."""
        is_index = content in self.indices
        step, every = tile.step, tile.every
        rows, cols = (-(-length // step) for length in window.shape)
        shown = (content,) if is_index else tuple(names)
        means = {name: np.full((rows, cols), np.nan, np.float32) for name in shown}
        for block, place in cut_cells(window, step):
            check()
            values = {name: self.reader.read_reflectance(name, at, block, every) for name in names}
            if is_index:
                values = {content: _compute_index(content, values)}
            if state == "observed":
                seen = self.reader.read(PROVENANCE.name, at, block, every) == Provenance.OBSERVED
                values = {name: np.where(seen, one, np.float32(np.nan)) for name, one in values.items()}
            for name, one in values.items():
                means[name][place] = average_cells(one, step // every)
        return means

    def _paint_layer(
        self, at: int, name: str, window: Window, tile: Tile, check: Callable[[], None]
    ) -> bytes:
        step, every, cell = tile.step, tile.every, tile.step // tile.every
        rows, cols = (-(-length // step) for length in window.shape)
        drawn = np.zeros((rows, cols), np.uint8)
        for block, place in cut_cells(window, step):
            check()
            provenance = self.reader.read(PROVENANCE.name, at, block, every)
            if name == "uncertainty":
                error = self.reader.read_reflectance(name, at, block, every)
                generated = np.where(provenance == Provenance.GENERATED, error, np.float32(np.nan))
                drawn[place] = self.stretch.shade(average_cells(generated, cell))
            elif name == "source":
                numbers = CLASS_OF[read_source(self.reader, at, block, provenance, every)]
                drawn[place] = share_cells(numbers, len(MASKED_BY), cell).argmax(0)
            else:
                drawn[place] = share_cells(provenance, len(Provenance), cell).argmax(0)
        return _encode_classes(_fill_tile(drawn), LAYERS[name])


def _choose_lines(length: int) -> NDArray[np.int64]:
    """Rows or columns, evenly spread in runs; all of them where they are few."""
    if length <= _RUNS * _RUN:
        return np.arange(length)
    starts = np.linspace(0, length - _RUN, _RUNS).astype(np.int64)
    return np.unique(starts[:, None] + np.arange(_RUN))


def _compute_index(name: str, values: dict[str, NDArray[np.float32]]) -> NDArray[np.float32]:
    """An index of reflectances, NaN where it is none."""
    index = find_index(name, values)
    with np.errstate(divide="ignore", invalid="ignore"):
        found = index.compute(*(values[band] for band in index.bands))
    return np.where(np.isfinite(found), found, np.float32(np.nan))


def _fill_tile(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A whole tile: those at the edges of the grid have fewer cells."""
    if pixels.shape[:2] == (EDGE, EDGE):
        return pixels
    whole = np.zeros((EDGE, EDGE, *pixels.shape[2:]), np.uint8)
    whole[: pixels.shape[0], : pixels.shape[1]] = pixels
    return whole


def _encode_classes(numbers: NDArray[np.uint8], palette: Sequence[Rgba]) -> bytes:
    image = Image.fromarray(numbers)
    image.putpalette(bytes(value for colour in palette for value in colour[:3]))
    return _encode(image, transparency=bytes(colour[3] for colour in palette))


def _encode(image: Image.Image, **options: bytes) -> bytes:
    body = io.BytesIO()
    image.save(body, "PNG", compress_level=_COMPRESSION, **options)
    return body.getvalue()

"""Overviews: a date of a store in few cells, and its figures, read block by block."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cloudgan.geo.grid import Window
from cloudgan.products.reader import StoreReader
from cloudgan.schema import MASK_SOURCE, PROVENANCE, MaskSource, Provenance

BLOCK = 1024
"""Edge in pixels of what is held in memory at once, about."""
MASKED_BY = (
    "observed",
    *("scl", "snow", "csmask", "detector", "temporal", "user"),
    *("several", "buffer", "no_data"),
)
"""Classes of `Overview.masked_by`, in order: `several` is more than one source beside the buffer."""
_SOURCES = (
    *(MaskSource.SCL, MaskSource.SNOW, MaskSource.CSMASK),
    *(MaskSource.DETECTOR, MaskSource.TEMPORAL, MaskSource.USER),
)


@dataclass(frozen=True, slots=True)
class Figures:
    """What is counted of a date, over all its pixels."""

    pixels: dict[str, int]
    """Pixels by the name of their provenance."""
    masked: dict[str, int]
    """Pixels by the name of the source that masked them; a pixel may have several."""
    uncertainty: float | None
    """Mean expected error of the generated pixels, in reflectance."""
    ndvi: float | None
    """Mean NDVI of all pixels with data; None without any, or without the bands."""
    ndvi_observed: float | None
    """The same of the observed pixels alone."""
    ndvi_generated: float | None
    """The same of the generated pixels alone."""
    ndvi_error: float | None
    """How far `ndvi` may be off: the mean over its pixels of what `uncertainty` makes of each NDVI."""

    def share(self, *kinds: Provenance) -> float:
        """Share of all pixels that have one of these provenances."""
        total = sum(self.pixels.values())
        return sum(self.pixels[kind.name.lower()] for kind in kinds) / total if total else 0.0


@dataclass(frozen=True, slots=True)
class Overview:
    """One date of a store. A cell stands for `step` x `step` pixels, fewer at the edge of the grid."""

    day: dt.date
    """The date."""
    bands: dict[str, NDArray[np.float32]]
    """Mean reflectance of the pixels with data, shape (rows, columns); NaN where there are none."""
    provenance: NDArray[np.uint8]
    """The commonest provenance of each cell."""
    masked_by: NDArray[np.uint8]
    """The commonest class of each cell; see `MASKED_BY`."""
    uncertainty: NDArray[np.float32]
    """Mean expected error of the generated pixels; NaN where there are none."""
    shares: NDArray[np.float32]
    """Share of pixels by provenance, shape (kinds, rows, columns)."""
    figures: Figures
    """What is counted over all pixels."""


def choose_step(shape: tuple[int, int], edge: int) -> int:
    """How many pixels a cell is wide, so that no side has more than `edge` cells."""
    return max(1, -(-max(shape) // edge))


def read_overview(reader: StoreReader, at: int, step: int, bands: Sequence[str]) -> Overview:
    """Read one date in the memory of a few blocks.

    Args:
        reader: Of the store.
        at: Index of the date.
        step: Pixels that a cell is wide.
        bands: Names of the bands that are wanted, of those that the store has.

    Raises:
        StoreError: The store cannot be read.
    """
    rows, cols = (-(-length // step) for length in reader.grid.shape)
    means = {name: np.full((rows, cols), np.nan, np.float32) for name in (*bands, "uncertainty")}
    shares = np.zeros((len(Provenance), rows, cols), np.float32)
    classes = np.zeros((len(MASKED_BY), rows, cols), np.float32)
    sums = _Sums()
    for window, place in cut_cells(reader.grid.window, step):
        provenance = reader.read(PROVENANCE.name, at, window)
        values = {name: reader.read_reflectance(name, at, window) for name in means}
        for name, one in values.items():
            means[name][place] = average_cells(one, step)
        shares[:, *place] = share_cells(provenance, len(Provenance), step)
        source = read_source(reader, at, window, provenance)
        classes[:, *place] = share_cells(CLASS_OF[source], len(MASKED_BY), step)
        sums.add(provenance, source, values)
    return Overview(
        day=reader.days[at].astype(dt.date),
        bands={name: means[name] for name in bands},
        provenance=shares.argmax(0).astype(np.uint8),
        masked_by=classes.argmax(0).astype(np.uint8),
        uncertainty=means["uncertainty"],
        shares=shares,
        figures=sums.summarise(),
    )


def cut_cells(window: Window, step: int) -> Iterator[tuple[Window, tuple[slice, slice]]]:
    """The blocks of a window, each of whole cells, and where their cells lie in the overview."""
    many = max(1, BLOCK // step)
    rows, cols = (-(-length // step) for length in window.shape)
    for row in range(0, rows, many):
        for col in range(0, cols, many):
            top, left = window.row + row * step, window.col + col * step
            bottom = min(top + many * step, window.bottom)
            right = min(left + many * step, window.right)
            place = slice(row, min(row + many, rows)), slice(col, min(col + many, cols))
            yield Window.between(top, left, bottom, right), place


def average_cells(values: NDArray[np.float32], step: int) -> NDArray[np.float32]:
    """Means over cells of `step` x `step`, the last of each side smaller; NaN is left out of them."""
    if step == 1:
        return values
    known = ~np.isnan(values)
    total = _add_cells(np.where(known, values, np.float32(0)).astype(np.float64), step)
    count = _add_cells(known.astype(np.float64), step)
    means = np.full(total.shape, np.nan)
    np.divide(total, count, out=means, where=count > 0)
    return means.astype(np.float32)


def _add_cells(values: NDArray[np.float64], step: int) -> NDArray[np.float64]:
    height, width = values.shape
    rows, cols = -(-height // step), -(-width // step)
    padded = np.zeros((rows * step, cols * step))
    padded[:height, :width] = values
    summed: NDArray[np.float64] = padded.reshape(rows, step, cols, step).sum((1, 3))
    return summed


def share_cells(numbers: NDArray[np.uint8], classes: int, step: int) -> NDArray[np.float32]:
    """Share of each class among the pixels of each cell, shape (classes, rows, columns).

    Args:
        numbers: Class of each pixel; a number that is no class counts for none.
        classes: How many classes there are.
        step: Pixels that a cell is wide.
    """
    height, width = numbers.shape
    rows, cols = -(-height // step), -(-width // step)
    cells = (np.arange(height) // step)[:, None] * cols + np.arange(width) // step
    known = numbers < classes
    where = numbers[known].astype(np.int64) * (rows * cols) + cells[known]
    counts = np.bincount(where, minlength=classes * rows * cols).reshape(classes, rows, cols)
    total = np.bincount(cells.ravel(), minlength=rows * cols).reshape(rows, cols)
    return (counts / total).astype(np.float32)


def read_source(
    reader: StoreReader, at: int, window: Window, provenance: NDArray[np.uint8], every: int = 1
) -> NDArray[np.uint8]:
    """Who masked the pixels; of a store that does not say, what provenance implies."""
    if MASK_SOURCE.name in reader.arrays:
        return np.asarray(reader.read(MASK_SOURCE.name, at, window, every), np.uint8)
    masked = np.where(provenance == Provenance.GENERATED, MaskSource.USER, MaskSource.NO_DATA)
    return np.where(provenance == Provenance.OBSERVED, 0, masked).astype(np.uint8)


def _classify(source: int) -> int:
    if source & MaskSource.NO_DATA:
        return MASKED_BY.index("no_data")
    named = [one for one in _SOURCES if source & one]
    if len(named) > 1:
        return MASKED_BY.index("several")
    if named:
        return MASKED_BY.index(str(named[0].name).lower())
    return MASKED_BY.index("buffer") if source & MaskSource.BUFFER else 0


CLASS_OF = np.array([_classify(source) for source in range(256)], np.uint8)


class _Sums:
    """Adds up the figures of a date, block by block."""

    def __init__(self) -> None:
        self._kinds = np.zeros(256, np.int64)
        self._sources = np.zeros(256, np.int64)
        self._totals: dict[str, tuple[float, int]] = {}

    def add(
        self,
        provenance: NDArray[np.uint8],
        source: NDArray[np.uint8],
        values: dict[str, NDArray[np.float32]],
    ) -> None:
        """Add the pixels of a block."""
        self._kinds += np.bincount(provenance.ravel(), minlength=256)
        self._sources += np.bincount(source.ravel(), minlength=256)
        error = values["uncertainty"]
        generated = provenance == Provenance.GENERATED
        self._extend("uncertainty", error[generated])
        if not {"red", "nir"} <= values.keys():
            return
        red, nir = values["red"].astype(np.float64), values["nir"].astype(np.float64)
        known = red + nir > 0  # False where either is NaN
        with np.errstate(divide="ignore", invalid="ignore"):
            ndvi = (nir - red) / (nir + red)
            # Errors of the bands are taken for independent: the first derivatives of NDVI, squared and added.
            slope = 2 * np.hypot(red, nir) / (nir + red) ** 2
        observed = known & (provenance == Provenance.OBSERVED)
        generated &= known
        kept = observed | generated
        self._extend("ndvi", ndvi[kept])
        self._extend("ndvi_observed", ndvi[observed])
        self._extend("ndvi_generated", ndvi[generated])
        if not kept.any():
            return
        errors = np.where(observed, 0, slope * error)[kept]
        self._extend("ndvi_error", np.clip(errors, 0, 2))

    def _extend(self, name: str, values: NDArray[np.floating[Any]]) -> None:
        known = values[np.isfinite(values)]
        total, count = self._totals.get(name, (0.0, 0))
        self._totals[name] = total + float(known.sum(dtype=np.float64)), count + known.size

    def summarise(self) -> Figures:
        """The figures of all blocks."""

        def mean(name: str) -> float | None:
            total, count = self._totals.get(name, (0.0, 0))
            return total / count if count else None

        numbers = np.arange(256)
        return Figures(
            pixels={kind.name.lower(): int(self._kinds[kind]) for kind in Provenance},
            masked={
                str(one.name).lower(): int(self._sources[(numbers & one) > 0].sum()) for one in MaskSource
            },
            uncertainty=mean("uncertainty"),
            ndvi=mean("ndvi"),
            ndvi_observed=mean("ndvi_observed"),
            ndvi_generated=mean("ndvi_generated"),
            ndvi_error=mean("ndvi_error"),
        )

"""Layers: the images of an export, one for each date or for each period of the calendar, block by block."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cloudgan.errors import InputError
from cloudgan.geo.grid import Window
from cloudgan.products.indices import find_index
from cloudgan.products.periods import Period, find_starts
from cloudgan.products.reader import StoreReader
from cloudgan.products.weights import weigh_pixels
from cloudgan.schema import PROVENANCE, Provenance
from cloudgan.sentinel2.bands import MAX_NUMBER, REFLECTANCE_SCALE
from cloudgan.sentinel2.dates import DateRange

NO_INDEX = -32768
"""Stored number of an index where there is none."""
NO_SHARE = 255
"""Stored number of an observed share where there is no data on any date."""
COLOURS = {
    Provenance.NO_DATA: (0, 0, 0, 0),
    Provenance.OBSERVED: (46, 139, 87, 255),
    Provenance.GENERATED: (230, 126, 34, 255),
    Provenance.MISSING_ASSET: (192, 57, 43, 255),
    Provenance.UNRELIABLE: (142, 68, 173, 255),
}
"""Red, green, blue and opacity of each provenance."""


@dataclass(frozen=True, slots=True)
class Layer:
    """One image in time."""

    name: str
    """What its file is called: `2020-05-05`, `2020-05`, `2020-05-11-dekad`, `2020-03-season`."""
    date: dt.date
    """Its date, or the first day of its period."""
    dates: tuple[int, ...]
    """Which dates of the store it is made of."""


@dataclass(frozen=True, slots=True)
class Picture:
    """One raster file of a layer: what its numbers mean."""

    suffix: str
    """What its name has more than its layer's."""
    bands: tuple[str, ...]
    """Names of its bands."""
    dtype: str
    """Type of its numbers."""
    nodata: int
    """Number where there is nothing."""
    scale: float = 1.0
    """What a number is multiplied with."""
    colours: dict[int, tuple[int, int, int, int]] = field(default_factory=dict)
    """A colour table."""


def plan_layers(
    days: NDArray[np.datetime64], span: DateRange | None, every: Period | None
) -> tuple[Layer, ...]:
    """The layers of a store's dates.

    Args:
        days: Dates of the store.
        span: Which of them; None for all.
        every: The period of composites; None for an image of each date.

    Raises:
        InputError: No date lies in the span.
    """
    dates = [day.astype(dt.date) for day in days]
    inside = [at for at, day in enumerate(dates) if span is None or _lies_in(span, day)]
    if not inside:
        raise InputError(f"the store has no date in {span}; it has {dates[0]} to {dates[-1]}")
    if every is None:
        return tuple(Layer(dates[at].isoformat(), dates[at], (at,)) for at in inside)
    starts = find_starts(days, every)
    layers = []
    for start in np.unique(starts[inside]):
        first = start.astype(dt.date)
        name = first.isoformat() if every == "dekad" else f"{first:%Y-%m}"
        name = name if every == "month" else f"{name}-{every}"
        layers.append(Layer(name, first, tuple(at for at in inside if starts[at] == start)))
    return tuple(layers)


def _lies_in(span: DateRange, day: dt.date) -> bool:
    return span.contains(dt.datetime.combine(day, dt.time(12), dt.UTC), day)


@dataclass(frozen=True, slots=True)
class Content:
    """What the layers of an export show."""

    bands: tuple[str, ...]
    """Spectral bands, where no index is asked for."""
    index: str | None = None
    """A spectral index instead."""
    is_composite: bool = False
    """Whether a layer is a mean over its dates."""

    @property
    def picture(self) -> Picture:
        """The values."""
        if self.index is not None:
            return Picture("", (self.index,), "int16", NO_INDEX, REFLECTANCE_SCALE)
        return Picture("", self.bands, "uint16", 0, REFLECTANCE_SCALE)

    @property
    def quality(self) -> Picture:
        """What is said of them: provenance of a date, observed share of a composite."""
        if self.is_composite:
            return Picture("_observed", ("observed_share",), "uint8", NO_SHARE, 0.01)
        colours = {int(kind): colour for kind, colour in COLOURS.items()}
        return Picture("_provenance", (PROVENANCE.name,), "uint8", Provenance.NO_DATA, 1.0, colours)

    def compute_values(self, reader: StoreReader, layer: Layer, window: Window) -> NDArray[Any]:
        """The numbers of `picture` over a window, shape (bands, height, width)."""
        if self.is_composite:
            means = self._average(reader, layer, window)
            return np.stack([_store_index(one) if self.index else _store_reflectance(one) for one in means])
        at = layer.dates[0]
        if self.index is None:
            return np.stack([reader.read(name, at, window) for name in self.bands])
        return _store_index(self._read_values(reader, at, window)[0])[None]

    def compute_quality(self, reader: StoreReader, layer: Layer, window: Window) -> NDArray[np.uint8]:
        """The numbers of `quality` over a window, shape (1, height, width)."""
        if not self.is_composite:
            return reader.read(PROVENANCE.name, layer.dates[0], window)[None]
        seen, known = np.zeros(window.shape), np.zeros(window.shape, bool)
        for at in layer.dates:
            provenance = reader.read(PROVENANCE.name, at, window)
            seen += provenance == Provenance.OBSERVED
            known |= provenance != Provenance.NO_DATA
        percent = np.rint(100 * seen / len(layer.dates)).astype(np.uint8)
        return np.where(known, percent, np.uint8(NO_SHARE))[None]

    def _average(self, reader: StoreReader, layer: Layer, window: Window) -> NDArray[np.float64]:
        """Weighted means of the values, one date after the other; NaN where no value has a weight."""
        shape = (1 if self.index else len(self.bands), *window.shape)
        total, weight = np.zeros(shape), np.zeros(shape)
        for at in layer.dates:
            uncertainty = reader.read_reflectance("uncertainty", at, window)
            share = weigh_pixels(reader.read(PROVENANCE.name, at, window), uncertainty)
            values = np.stack(self._read_values(reader, at, window))
            there = np.isfinite(values)
            total += np.where(there, values, 0) * share
            weight += there * share
        means = np.full(shape, np.nan)
        np.divide(total, weight, out=means, where=weight > 0)
        return means

    def _read_values(self, reader: StoreReader, at: int, window: Window) -> list[NDArray[np.float32]]:
        """Reflectances of the bands, or the index of them."""
        if self.index is None:
            return [reader.read_reflectance(name, at, window) for name in self.bands]
        index = find_index(self.index, reader.bands)
        with np.errstate(divide="ignore", invalid="ignore"):
            values = index.compute(*(reader.read_reflectance(name, at, window) for name in index.bands))
        return [np.where(np.isfinite(values), values, np.float32(np.nan))]


def _store_reflectance(values: NDArray[np.floating[Any]]) -> NDArray[np.uint16]:
    numbers = np.clip(np.rint(np.nan_to_num(values) / REFLECTANCE_SCALE), 0, MAX_NUMBER)
    # A value is never stored as "no data".
    return np.where(np.isnan(values), 0, np.maximum(numbers, 1)).astype(np.uint16)


def _store_index(values: NDArray[np.floating[Any]]) -> NDArray[np.int16]:
    numbers = np.clip(np.rint(np.nan_to_num(values) / REFLECTANCE_SCALE), -32767, 32767)
    return np.where(np.isnan(values), NO_INDEX, numbers).astype(np.int16)

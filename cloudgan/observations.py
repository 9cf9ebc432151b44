"""A classified time series of one window: what each pixel of each date shows, and when it was last clear.

All functions are pure and work on arrays whose last two axes are y and x.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from cloudgan.errors import InputError
from cloudgan.geo.grid import Lattice, Window
from cloudgan.schema import NO_CLEAR_DATE, MaskSource
from cloudgan.sentinel2.bands import to_reflectance
from cloudgan.sentinel2.classification import PixelClass

BUFFER_METRES = 60.0
"""Default width of the buffer around detected cloud and shadow: Sen2Cor's classification is made at 20 m and
misses their soft edges by a few of its pixels."""
OPACITY = "opacity"
"""Name in a cube of `Observations.opacities`; its attribute `buffer` is the width in pixels."""
MAX_AGE = 120
"""Days beyond which a clear date does not count, since fields change within a season. With a limit, a long
series can be cut in time without any effect on the result, if so many days are read around each piece."""
ENOUGH_CLEAR = 0.1
"""Share of a tile that a date must show clear to be one of the dates common to all the tile."""


@dataclass(frozen=True, slots=True)
class Observations:
    """All dates of one window, classified."""

    window: Window
    """Where the arrays lie on the pixel lattice."""
    bands: Mapping[str, NDArray[np.uint16]]
    """By common name: harmonised digital numbers (reflectance x 10000, 0 no data), shape (time, y, x)."""
    pixel_classes: NDArray[np.uint8]
    """Values of `PixelClass`, shape (time, y, x)."""
    days: NDArray[np.int64]
    """Days since 1970-01-01 of each date, ascending, shape (time,)."""
    scl: NDArray[np.uint8] | None = None
    """Sen2Cor's scene classification, shape (time, y, x), with unconfirmed snow as cloud of high probability;
    None where it is not kept or not known."""
    opacities: NDArray[np.float16] | None = None
    """See `opacity`, shape (time, y, x), where images of several overpasses were merged into one date: each
    has clouds of its own, whose buffer must be known before. None where it follows from the pixel classes."""
    mask_sources: NDArray[np.uint8] | None = None
    """Who calls each cloudy pixel cloudy, as bits of `MaskSource`, shape (time, y, x); None where the scene
    classification calls them all so."""

    def __post_init__(self) -> None:
        shape = (len(self.days), *self.window.shape)
        if self.pixel_classes.shape != shape or any(band.shape != shape for band in self.bands.values()):
            raise InputError(f"bands and pixel classes must have the shape {shape} of dates and window")
        if (np.diff(self.days) <= 0).any():
            raise InputError("the dates of a cube must rise, each of them once; sort and merge them")

    def crop(self, window: Window) -> Observations:
        """The same dates in a smaller window, without copying."""
        rows, cols = window.slices_in(self.window)
        return self._mapped(window, lambda array: array[:, rows, cols])

    def pad(self, window: Window) -> Observations:
        """The same dates in a window that may extend further; there is no data outside."""
        if self.window.contains(window):
            return self.crop(window)
        inner = self.window.intersection(window)

        def pad(array: NDArray[Any]) -> NDArray[Any]:
            padded = np.zeros((len(array), *window.shape), array.dtype)
            if inner is not None:
                padded[:, *inner.slices_in(window)] = array[:, *inner.slices_in(self.window)]
            return padded

        return self._mapped(window, pad)

    def select_dates(self, dates: NDArray[np.intp] | NDArray[np.bool_]) -> Observations:
        """Some of the dates, in order."""
        return replace(self._mapped(self.window, lambda array: array[dates], self.days[dates]))

    def _mapped(self, window: Window, change: Any, days: NDArray[np.int64] | None = None) -> Observations:
        return Observations(
            window,
            {name: change(band) for name, band in self.bands.items()},
            change(self.pixel_classes),
            self.days if days is None else days,
            None if self.scl is None else change(self.scl),
            None if self.opacities is None else change(self.opacities),
            None if self.mask_sources is None else change(self.mask_sources),
        )

    def image(self, at: int) -> NDArray[np.uint16]:
        """Digital numbers of one date, shape (band, y, x), in the order of `bands`."""
        return np.stack([band[at] for band in self.bands.values()])

    def reflectance(self, dates: Any = slice(None)) -> NDArray[np.float32]:
        """Reflectance of some dates, bands last: shape (time, y, x, band)."""
        return np.stack([to_reflectance(band[dates]) for band in self.bands.values()], axis=-1)

    def opacity(self, buffer: int) -> NDArray[np.float16]:
        """See `compute_opacity`, of every date; shape (time, y, x)."""
        if self.opacities is not None:
            return self.opacities
        # Half precision is exact to a twentieth of a per cent, and halves the memory of all dates.
        return np.stack([compute_opacity(one, buffer).astype(np.float16) for one in self.pixel_classes])


@dataclass(frozen=True, slots=True)
class Site:
    """A place to train on or to evaluate on: its observations, and what is known of it."""

    name: str
    """Where it came from."""
    region: str
    """The place: what is held out as a whole, and resampled in an interval."""
    resolution: float
    """Edge of a pixel in metres."""
    buffer: int
    """Width of the buffer around cloud and shadow, in pixels."""
    observations: Observations
    """All dates."""
    trusted: NDArray[np.bool_]
    """Dates whose clear pixels may be taken for the truth, shape (time,)."""
    repeated: bool = False
    """Whether one clear image stands for all dates: change must be simulated."""
    lattice: Lattice | None = None
    """What the window of the observations counts on, where the place on the map is known."""
    sampling_weight: float = 1.0
    """How often training samples are drawn from it, relative to 1."""

    def select_dates(self, dates: NDArray[np.intp] | NDArray[np.bool_]) -> Site:
        """Some of the dates, in order."""
        return replace(self, observations=self.observations.select_dates(dates), trusted=self.trusted[dates])

    def crop(self, window: Window, side: str) -> Site:
        """A part of the place as a region of its own, `side` appended to its name."""
        return replace(self, region=f"{self.region}-{side}", observations=self.observations.crop(window))

    def masked(self) -> NDArray[np.bool_]:
        """See `find_masked`, shape (time, y, x)."""
        return find_masked(self.observations.pixel_classes, self.observations.opacity(self.buffer))


def is_empty(pixel_classes: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Where there is no data, of the shape given."""
    empty: NDArray[np.bool_] = np.isin(pixel_classes, (PixelClass.NO_DATA, PixelClass.MISSING))
    return empty


def lacks_surface(pixel_classes: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Where nothing vouches for what is shown, or nothing is shown at all; of the shape given."""
    lacking: NDArray[np.bool_] = is_empty(pixel_classes) | (pixel_classes == PixelClass.UNRELIABLE)
    return lacking


def find_masked(pixel_classes: NDArray[np.uint8], opacity: NDArray[Any]) -> NDArray[np.bool_]:
    """What is to be generated: cloud, shadow, their buffer, and what shows no surface; of the shape given.

    Args:
        pixel_classes: Values of `PixelClass`.
        opacity: See `compute_opacity`, of the same shape.
    """
    masked: NDArray[np.bool_] = np.logical_or(opacity > 0, lacks_surface(pixel_classes))
    return masked


def find_mask_sources(
    pixel_classes: NDArray[np.uint8], opacity: NDArray[Any], called: NDArray[np.uint8] | None = None
) -> NDArray[np.uint8]:
    """Who masked each pixel, as bits of `MaskSource`, of the shape given; 0 where `find_masked` is false.

    Args:
        pixel_classes: Values of `PixelClass`.
        opacity: See `compute_opacity`, of the same shape.
        called: See `Observations.mask_sources`, of the same shape.
    """
    cloudy = pixel_classes == PixelClass.CLOUDY
    by_cloud = np.where(cloudy, np.uint8(MaskSource.SCL) if called is None else called, np.uint8(0))
    sources: NDArray[np.uint8] = np.where((opacity > 0) & ~cloudy, np.uint8(MaskSource.BUFFER), by_cloud)
    sources[lacks_surface(pixel_classes)] |= np.uint8(MaskSource.NO_DATA)
    return sources


def find_clear(pixel_classes: NDArray[np.uint8], opacity: NDArray[Any]) -> NDArray[np.bool_]:
    """What may serve as a clear observation, of the shape given; arguments as of `find_masked`.

    Pixels inside the buffer of a date's own clouds do not count as clear.
    """
    clear: NDArray[np.bool_] = (pixel_classes == PixelClass.CLEAR) & (opacity == 0)
    return clear


def metres_to_pixels(metres: float, resolution: float) -> int:
    """Whole pixels that cover `metres` at `resolution` metres per pixel.

    Raises:
        InputError: The buffer is negative or no number.
    """
    if not (math.isfinite(metres) and metres >= 0):
        raise InputError(f"the buffer must be zero or a positive number of metres, got {metres}")
    return math.ceil(metres / resolution - 1e-9)


def compute_opacity(pixel_classes: NDArray[np.uint8], buffer: int) -> NDArray[np.float32]:
    """How much of the generated value each pixel of one date takes: 1 under cloud, 0 where it is observed.

    Around every cloudy pixel lies a buffer of `buffer` pixels (Euclidean), which belongs to the mask. Its
    inner half, rounded up to whole pixels, is generated like the cloud: detectors miss haze and shadow there.
    Over its outer half, which is probably clear, the value falls as a squared cosine from 1 to above 0, so
    that observed and generated values are feathered into each other.

    Args:
        pixel_classes: Values of `PixelClass`, shape (y, x).
        buffer: Width of the buffer in pixels; a value depends on no pixel further away.

    Returns:
        Float32 of shape (y, x); the mask is where it is above 0. No data is 0 outside cloud and buffer.
    """
    cloudy = pixel_classes == PixelClass.CLOUDY
    if buffer == 0 or not cloudy.any():
        return np.where(cloudy, np.float32(1), np.float32(0))
    distance: NDArray[np.float64] = distance_transform_edt(~cloudy)
    inner = math.ceil(buffer / 2)
    fall = np.clip((distance - inner) / (buffer - inner + 1), 0.0, 1.0)
    weight = np.where(distance > buffer, 0.0, np.cos(np.pi / 2 * fall) ** 2)
    return weight.astype(np.float32)


def dates_within(days: NDArray[np.int64], at: int, max_age: int) -> range:
    """Indices of the dates that are at most `max_age` days from date `at`.

    Args:
        days: Day number of each date, ascending, shape (time,).
        at: Index of the date in question.
        max_age: Days.
    """
    first = np.searchsorted(days, days[at] - max_age, "left")
    return range(int(first), int(np.searchsorted(days, days[at] + max_age, "right")))


@dataclass(frozen=True, slots=True)
class ClearDates:
    """For each pixel of one date, which other dates show it clear, the nearest first."""

    before: NDArray[np.int16]
    """Indices in time of clear dates before, -1 where there is none; shape (order, y, x)."""
    after: NDArray[np.int16]
    """Indices in time of clear dates after, -1 where there is none; shape (order, y, x)."""

    def any(self) -> NDArray[np.bool_]:
        """Where there is a clear date at all, shape (y, x)."""
        found: NDArray[np.bool_] = np.any((self.before >= 0) | (self.after >= 0), axis=0)
        return found


def find_nearest_clear_dates(clear: NDArray[np.bool_], at: int, among: range | None = None) -> ClearDates:
    """Find the nearest clear dates strictly before and strictly after one date, for every pixel on its own.

    Args:
        clear: See `find_clear`, shape (time, y, x), in order of time.
        at: Index of the date.
        among: Which dates may be taken; all by default.
    """
    among = among or range(len(clear))
    return ClearDates(
        _first(clear, range(at - 1, among.start - 1, -1))[None],
        _first(clear, range(at + 1, among.stop))[None],
    )


def _first(clear: NDArray[np.bool_], dates: Iterable[int]) -> NDArray[np.int16]:
    """Index of the first of the dates at which each pixel is clear, or -1."""
    found = np.full(clear.shape[1:], -1, np.int16)
    for date in dates:
        found[clear[date] & (found < 0)] = date
        if (found >= 0).all():
            break
    return found


def find_common_clear_dates(
    clear: NDArray[np.bool_], at: int, count: int, among: range | None = None
) -> ClearDates:
    """Find clear observations of the same few dates all over a tile, so that an order stands for one date.

    On each side the nearest dates are taken that show `ENOUGH_CLEAR` of the tile clear, each at an order of
    its own. Pixels that no date shows, such as beyond the edge of the swath, do not count as tile. Where none
    of these dates is clear, the last order takes the nearest clear date of the pixel.

    Args:
        clear: See `find_clear`, over the tile, shape (time, y, x), in order of time.
        at: Index of the date.
        count: How many dates on each side.
        among: Which dates may be taken; all by default.
    """
    among = among or range(len(clear))
    shown = np.count_nonzero(clear, axis=(1, 2))
    enough = ENOUGH_CLEAR * np.count_nonzero(clear[among.start : among.stop].any(axis=0))

    def find_side(dates: range) -> NDArray[np.int16]:
        good = [date for date in dates if shown[date] >= max(enough, 1)][:count]
        found = np.full((count, *clear.shape[1:]), -1, np.int16)
        for order, date in zip(found, good, strict=False):
            order[clear[date]] = date
        missing = (found < 0).all(axis=0)
        if missing.any():
            found[-1][missing] = _first(clear[:, missing], dates)
        return found

    return ClearDates(find_side(range(at - 1, among.start - 1, -1)), find_side(range(at + 1, among.stop)))


def days_to_clear_date(
    clear_dates: NDArray[np.int16], days: NDArray[np.int64], at: int
) -> NDArray[np.uint16]:
    """Days from date `at` to each pixel's clear date, without sign; `NO_CLEAR_DATE` where there is none.

    Args:
        clear_dates: Indices in time or -1, shape (y, x).
        days: Day number of each date, shape (time,).
        at: Index of the date in question.
    """
    ages = np.minimum(np.abs(days - days[at]), NO_CLEAR_DATE - 1).astype(np.uint16)
    return np.append(ages, np.uint16(NO_CLEAR_DATE))[clear_dates]

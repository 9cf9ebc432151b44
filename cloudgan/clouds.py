"""From the scene classification to what is hidden, how far around it, and when the ground was last seen.

All functions are pure and work on arrays whose last two axes are y and x.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from cloudgan.errors import InputError

BUFFER_METRES = 60.0
"""Default reach around detected cloud and shadow: Sen2Cor's classification is made at 20 m and misses
their soft edges by a few of its pixels."""


class State(IntEnum):
    """What one pixel of one date shows."""

    NO_DATA = 0
    """No band has data: outside the swath."""
    CLEAR = 1
    """The ground, seen."""
    CLOUDY = 2
    """Cloud of medium or high probability, thin cirrus, or cloud shadow."""
    DOUBTFUL = 3
    """Data that nothing vouches for: saturated or defective, without a class, or lacking in a band. It passes
    through as it is, and never serves as a clear look."""
    MISSING = 4
    """Without data because an asset that should hold it could not be read."""


SCL_MISSING = 255
"""Stands in a cube's `scl` where an asset could not be read; no class of Sen2Cor's."""


_STATE_OF_SCL = np.full(256, State.CLEAR, np.uint8)
# Classes of the Sen2Cor scene classification (Sentinel-2 L2A product definition, table of SCL values).
_STATE_OF_SCL[[0, 1]] = State.DOUBTFUL  # no data, saturated or defective
_STATE_OF_SCL[[3, 8, 9, 10]] = State.CLOUDY  # shadow, medium and high probability, thin cirrus
_STATE_OF_SCL[12:] = State.DOUBTFUL  # not a class


def classify(scl: NDArray[np.uint8], bands: Sequence[NDArray[np.uint16]]) -> NDArray[np.uint8]:
    """What each pixel shows, as values of `State`.

    Args:
        scl: Scene classification, shape (..., y, x).
        bands: Digital numbers of each band, of the same shape; 0 is no data.

    Returns:
        States of shape (..., y, x). Whether there is data is decided by the bands alone: at the edge of the
        swath the classification says otherwise here and there.
    """
    states = _STATE_OF_SCL[scl]
    empty, lacking = np.ones(scl.shape, np.bool_), np.zeros(scl.shape, np.bool_)
    for band in bands:
        empty &= band == 0
        lacking |= band == 0
    states[lacking & (states == State.CLEAR)] = State.DOUBTFUL
    states[empty] = State.NO_DATA
    states[scl == SCL_MISSING] = State.MISSING
    return states


def buffer_pixels(metres: float, resolution: float) -> int:
    """Whole pixels that cover `metres` at `resolution` metres per pixel.

    Raises:
        InputError: The buffer is negative or no number.
    """
    if not (math.isfinite(metres) and metres >= 0):
        raise InputError(f"the buffer must be zero or a positive number of metres, got {metres}")
    return math.ceil(metres / resolution - 1e-9)


def opacity(states: NDArray[np.uint8], reach: int) -> NDArray[np.float32]:
    """How much of the generated value each pixel of one date takes: 1 under cloud, 0 where it is observed.

    Around every cloudy pixel lies a buffer of `reach` pixels (Euclidean), which belongs to the mask. Its
    inner half, where detectors miss haze and shadow, is generated like the cloud; over its outer half,
    probably clear, the value falls as a squared cosine from 1 to above 0, and observed and generated feather
    into each other.

    Args:
        states: Values of `State`, shape (y, x).
        reach: Width of the buffer in pixels; a value depends on no pixel further away.

    Returns:
        Float32 of shape (y, x); the mask is where it is above 0. No data is 0 outside cloud and buffer.
    """
    cloudy = states == State.CLOUDY
    if reach == 0 or not cloudy.any():
        return np.where(cloudy, np.float32(1), np.float32(0))
    distance: NDArray[np.float64] = distance_transform_edt(~cloudy)
    fall = np.clip((distance - reach / 2) / (reach / 2 + 1), 0.0, 1.0)
    weight = np.where(distance > reach, 0.0, np.cos(np.pi / 2 * fall) ** 2)
    return weight.astype(np.float32)


NEVER = 65535
"""Days to a clear look that does not exist."""


MAX_AGE = 120
"""Days beyond which a clear look says nothing: a season further on, fields are other fields. That it ends
somewhere lets a long series be cut in time, with so many days read around a piece, without any effect."""


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
class Looks:
    """For each pixel of one date, which other dates show its ground clear, the nearest first."""

    before: NDArray[np.int16]
    """Indices in time of the nearest clear looks before, -1 where there is none; shape (depth, y, x)."""
    after: NDArray[np.int16]
    """Indices in time of the nearest clear looks after, -1 where there is none; shape (depth, y, x)."""


def nearest_looks(clear: NDArray[np.bool_], at: int, among: range | None = None) -> Looks:
    """The nearest clear looks strictly before and strictly after one date, for every pixel at once.

    Args:
        clear: Whether the ground is seen, shape (time, y, x), in order of time.
        at: Index of the date.
        among: Which dates may be looked at; all by default.
    """
    among = among or range(len(clear))
    return Looks(
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


ENOUGH = 0.1
"""Share of a tile that a date must show clear for all the tile to be told by it."""


def dated_looks(clear: NDArray[np.bool_], at: int, depth: int, among: range | None = None) -> Looks:
    """Clear looks of the same few dates all over a tile, so that what is learnt of a date here holds there.

    On each side the nearest dates count that show `ENOUGH` of the tile clear, each in a place of its own;
    ground that no date shows, such as beyond the edge of the swath, is left out of the tile.
    Where none of them is clear, the last place takes the nearest look there is.

    Args:
        clear: Whether the ground of the tile is seen, shape (time, y, x), in order of time.
        at: Index of the date.
        depth: How many dates on each side.
        among: Which dates may be looked at; all by default.
    """
    among = among or range(len(clear))
    shown = np.count_nonzero(clear, axis=(1, 2))
    enough = ENOUGH * np.count_nonzero(clear[among.start : among.stop].any(axis=0))

    def side(dates: range) -> NDArray[np.int16]:
        good = [date for date in dates if shown[date] >= max(enough, 1)][:depth]
        found = np.full((depth, *clear.shape[1:]), -1, np.int16)
        for place, date in zip(found, good, strict=False):
            place[clear[date]] = date
        unseen = (found < 0).all(axis=0)
        if unseen.any():
            found[-1][unseen] = _first(clear[:, unseen], dates)
        return found

    return Looks(side(range(at - 1, among.start - 1, -1)), side(range(at + 1, among.stop)))


def days_between(looks: NDArray[np.int16], days: NDArray[np.int64], at: int) -> NDArray[np.uint16]:
    """Days from date `at` to each pixel's look, without sign; `NEVER` where there is none.

    Args:
        looks: Indices in time or -1, shape (y, x).
        days: Day number of each date, shape (time,).
        at: Index of the date in question.
    """
    ages = np.minimum(np.abs(days - days[at]), NEVER - 1).astype(np.uint16)
    return np.append(ages, np.uint16(NEVER))[looks]

"""The temporal test: cloud, haze and shadow among pixels called clear, told by a pixel's own other dates.

What passes over a surface is gone on the next dates, and what happens to it stays: a harvest, ploughing, a
flood, a fire. So a pixel departs only by as much as it is brighter, or darker, than its clear dates before
*and* those after. How large such departures usually are is estimated from those of its other dates, which
hold the errors of dates and the drift of the season. See decision 26.

All arithmetic is of integers, so that a pixel has the same mask in whatever window it is computed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

BANDS = ("blue", "green", "red", "nir")
"""Bands that are used; blue where it is there."""
NEEDED_BANDS = BANDS[1:]
"""Bands without which there is no test."""
SIDE_DAYS = 60
"""Days from a date within which clear dates predict it."""
SCALE_DAYS = 60
"""Days from a date within which other dates say how large departures usually are."""
MARGIN_DAYS = SIDE_DAYS + SCALE_DAYS
"""Days around a date that decide its temporal mask."""
SIGNIFICANT, NOTABLE = 3.0, 0.5
"""Departures, in means of the pixel's other dates, that begin and that extend an area. Excesses are about
exponential: one in twenty, and three in five, are as large by chance. Pixels around must be so together."""
LEAST_DEPARTURES = 3
"""Departures of a pixel's other dates below which nothing is known of their size, and nothing is masked."""
VOTE_EDGE, VOTES = 5, 11
"""Edge in pixels of the square around a pixel, and how many of it must depart with it."""
AREA_EDGE, AREA = 41, 50
"""Edge in pixels of the square in which so many pixels must depart significantly for any to be masked."""

BYTES_A_PIXEL = 13
"""Bytes that the test needs of each pixel and date, a copy of the bands included."""
BYTES_A_DATE = 1_000_000
"""Bytes that it needs of each date beside that, for the pixels that are tested at once."""

_DEPTH = 3  # clear dates on each side; their median is what the side predicts
_FLOOR = 10  # digital numbers, reflectance 0.001: below it all departures are alike
_LARGEST = 10000  # reflectance 1; differences of features fit into 16 bits
_UNITS = 1024  # of a logarithm
_EULER = 0.5772  # ln of the mean of an exponential distribution, less the mean of its ln
_PIXELS = 8192  # that are tested at once: what they need stays in the processor's cache
_LOGARITHMS = np.round(_UNITS * np.log(np.maximum(np.arange(2**15), _FLOOR))).astype(np.int16)

Integers = NDArray[np.int16]
Flags = NDArray[np.bool_]


def margin_pixels(buffer: int) -> int:
    """Pixels around a window that decide its temporal mask.

    Args:
        buffer: Width of the buffer around cloud and shadow, in pixels.
    """
    return buffer + VOTE_EDGE // 2 + AREA_EDGE // 2


def find_departures(
    bands: Mapping[str, NDArray[np.uint16]], clear: Flags, days: NDArray[np.int64], *, buffer: int
) -> Flags:
    """Find cloud, haze and shadow among pixels that are called clear.

    Args:
        bands: By common name: digital numbers, shape (time, y, x): `BANDS`, with or without blue.
        clear: What is called clear so far, of the same shape.
        days: Day number of each date, ascending, shape (time,).
        buffer: Width of the buffer around what is not clear, in pixels: there a date predicts nothing, and
            is masked in any case.

    Returns:
        What is masked, of the same shape. Pixels beyond the edge do not depart: see `margin_pixels`.
    """
    tested = np.stack([_keep_distance(one, buffer) for one in clear])
    seeds, found = np.zeros_like(tested), np.zeros_like(tested)
    flat_tested, flat_seeds, flat_found = (array.reshape(len(days), -1) for array in (tested, seeds, found))
    numbers = {name: bands[name].reshape(len(days), -1) for name in BANDS if name in bands}
    for start in range(0, flat_tested.shape[1], _PIXELS):
        part = slice(start, start + _PIXELS)
        chunk = {name: np.minimum(band[:, part], _LARGEST).astype(np.int16) for name, band in numbers.items()}
        _test_pixels(chunk, flat_tested[:, part], days, flat_seeds[:, part], flat_found[:, part])
    for at in np.flatnonzero(seeds.any(axis=(1, 2))):
        dense = (_count_around(seeds[at], VOTE_EDGE) >= VOTES) & tested[at]
        near = _count_around(dense, AREA_EDGE) >= AREA
        found[at] = near & tested[at] & (_count_around(found[at], VOTE_EDGE) >= VOTES)
    found[~seeds.any(axis=(1, 2))] = False
    return found


def _keep_distance(clear: Flags, distance: int) -> Flags:
    """What of one date is clear with all pixels so near, in rows and columns; shape (y, x)."""
    if clear.all():
        return clear
    return clear & (_count_around(~clear, 2 * distance + 1) == 0) if clear.any() else clear


def _count_around(flags: Flags, edge: int) -> NDArray[np.int32]:
    """How many are true in the square of odd edge around each pixel, shape (y, x)."""
    half = edge // 2
    counts = np.pad(flags, ((half + 1, half), (half + 1, half))).astype(np.int32)
    np.cumsum(counts, axis=0, out=counts)
    counts = counts[edge:] - counts[:-edge]
    np.cumsum(counts, axis=1, out=counts)
    return counts[:, edge:] - counts[:, :-edge]


def _test_pixels(
    bands: Mapping[str, Integers], clear: Flags, days: NDArray[np.int64], seeds: Flags, found: Flags
) -> None:
    """Enter which pixels depart significantly, and notably, each on its own; all of shape (time, pixel).

    Surfaces differ and change mostly along a line on which red goes up about twice as fast as blue and
    green. Haze and cloud brighten them alike. So twice green, or blue, less red hardly knows the surface and
    shows thin cloud (the haze-optimised transformation of Zhang et al. 2002, its slope fixed). Shadow
    shows in near infrared, which the sky hardly lights. The bands themselves must depart too.
    """
    short = [name for name in ("blue", "green") if name in bands]
    tests = len(short) + 1
    signs = [*(bands[name] for name in short), bands["red"]]
    stack = np.stack([*(2 * bands[name] - bands["red"] for name in short), bands["nir"], *signs], axis=1)
    dates = _measure(stack, clear, days, tests)
    sums = np.zeros((len(days) + 1, tests, clear.shape[1]), np.int32)
    counts = np.zeros(sums.shape, np.int16)
    for at, date in enumerate(dates):
        np.add(sums[at], date.size, out=sums[at + 1])
        np.add(counts[at], date.size > 0, out=counts[at + 1])
    firsts = np.searchsorted(days, days - SCALE_DAYS, "left")
    stops = np.searchsorted(days, days + SCALE_DAYS, "right")
    for at in np.flatnonzero(clear.any(axis=1)).tolist():
        size, one = dates[at].size, dates[at].size > 0
        count = counts[stops[at]] - counts[firsts[at]] - one
        total = sums[stops[at]] - sums[firsts[at]] - size
        known = one & dates[at].signed & (count >= LEAST_DEPARTURES)
        for least, entered in ((SIGNIFICANT, seeds), (NOTABLE, found)):
            limit = np.int32(_UNITS * (math.log(least) + _EULER))
            entered[at] = (known & ((size - limit) * count > total)).any(axis=0)


class _Date(NamedTuple):
    """How far the pixels of one date depart from both sides of it, shape (test, pixel)."""

    size: Integers
    """Logarithm of the departure, up or down, in `_UNITS`; 0 where there is none, or none is known."""
    signed: Flags
    """Where it departs in the direction of cloud, haze or shadow, and the bands with it."""


def _measure(stack: Integers, clear: Flags, days: NDArray[np.int64], tests: int) -> list[_Date]:
    """How far pixels depart on each date.

    Args:
        stack: Features that are tested, shadow's last, and the bands that must agree, shape (time, feature,
            pixel).
        clear: Shape (time, pixel).
        days: Shape (time,).
        tests: How many of the features are tested.
    """
    before = list(_predict(stack, clear, days))
    after = list(_predict(stack[::-1], clear[::-1], -days[::-1]))[::-1]
    nothing = _Date(np.zeros((tests, stack.shape[2]), np.int16), np.zeros((tests, stack.shape[2]), np.bool_))
    dates = []
    for values, shown, one, other in zip(stack, clear, before, after, strict=True):
        if one is None or other is None:
            dates.append(nothing)
            continue
        brighter = values - np.maximum(one.high, other.high)
        darker = np.minimum(one.low, other.low) - values
        excess = np.maximum(brighter[:tests], darker[:tests])
        departs = (excess > 0) & (shown & one.known & other.known)
        size = np.where(departs, _LOGARITHMS[np.maximum(excess, 0)], np.int16(0))
        signed = np.minimum(brighter[:tests], brighter[tests:]) > 0
        signed[-1] = (np.minimum(darker[tests - 1], np.minimum(darker[-2], darker[-1]))) > 0
        dates.append(_Date(size, signed))
    return dates


class _Side(NamedTuple):
    """What the clear dates before one predict, or those after."""

    low: Integers
    """Median of three dates, the smaller of two, or the value of one; shape (feature, pixel)."""
    high: Integers
    """Median of three dates, the larger of two, or the value of one; shape (feature, pixel)."""
    known: Flags
    """Which pixels have a clear date at all, shape (pixel,)."""


def _predict(stack: Integers, clear: Flags, days: NDArray[np.int64]) -> Iterator[_Side | None]:
    """What the nearest clear dates before each date predict; None where it shows nothing or they do not.

    A median of three bears one date that is itself cloudy. Of two dates none is outvoted.
    Arguments as of `_measure`.
    """
    first, second, third = np.zeros((_DEPTH, *stack.shape[1:]), np.int16)
    latest, later, early = np.full((_DEPTH, stack.shape[2]), days[0] - SIDE_DAYS - 1, np.int32)
    for image, shown, day in zip(stack, clear, days.astype(np.int32), strict=True):
        if not shown.any():
            yield None
            continue
        known, two, three = (of >= day - SIDE_DAYS for of in (latest, later, early))
        if known.any():
            other = first.copy()
            _replace(other, second, two)
            low, high = np.minimum(first, other), np.maximum(first, other)
            median = np.maximum(low, np.minimum(high, third))
            _replace(low, median, three)
            _replace(high, median, three)
            yield _Side(low, high, known)
        else:
            yield None
        for old, new in ((third, second), (second, first), (first, image)):
            _replace(old, new, shown)
        for gone, day_of in ((early, later), (later, latest), (latest, np.broadcast_to(day, shown.shape))):
            np.copyto(gone, day_of, where=shown)


def _replace(array: Integers, by: Integers, where: Flags) -> None:
    """Replace some pixels, in place; several times as fast as `np.where` on 16 bits."""
    changed = array ^ by
    changed &= -where.astype(np.int16)
    array ^= changed

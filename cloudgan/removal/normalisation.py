"""Radiometric offsets between dates over a whole MGRS tile: relative radiometric normalisation.

Dates differ by atmosphere and sun more than by their surface. A fully masked tile of the generator shows
nothing of the radiometry of its date. The rest of the MGRS tile may, and its offsets depend neither on the
area of interest nor on how the work is cut.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cloudgan.estimation.trust import DateErrors, measure_errors
from cloudgan.geo.grid import Window

MIN_PIXELS = 200
"""Pixels of an overview that must be clear on both of two dates for their offset to be known."""
_LEAST_DEPTH = 1e-3  # pixels; so little that a window with its middle inside another does not notice


@dataclass(frozen=True, slots=True)
class Radiometry:
    """How the dates of one MGRS tile differ."""

    window: Window
    """Where the MGRS tile lies on the pixel lattice."""
    offsets: NDArray[np.float32]
    """Reflectance to add to one date to match another, shape (other, one, band); NaN where unknown."""
    errors: DateErrors
    """How far each date strays from what the others tell."""

    def select_dates(self, dates: range) -> Radiometry:
        """What is known of some of the dates."""
        part = slice(dates.start, dates.stop)
        return Radiometry(self.window, self.offsets[part, part], self.errors.select_dates(dates))

    def pack(self) -> NDArray[np.float32]:
        """Offsets, standard errors and trust as one array, shape (time + 2, time, band)."""
        return np.concatenate([self.offsets, self.errors.std[None], self.errors.trust[None]])

    @classmethod
    def unpack(cls, window: Window, packed: NDArray[np.float32]) -> Radiometry:
        """What `pack` made an array of."""
        return cls(window, packed[:-2], DateErrors(packed[-2], packed[-1]))


def measure_radiometry(
    window: Window,
    reflectance: NDArray[np.float32],
    clear: NDArray[np.bool_],
    days: NDArray[np.int64],
    max_age: int,
) -> Radiometry:
    """How the dates of an MGRS tile differ, from some of its pixels; arguments as of `median_offsets`."""
    offsets = median_offsets(reflectance, clear, days, max_age)
    return Radiometry(window, offsets, measure_errors(reflectance, clear, days, max_age))


def median_offsets(
    reflectance: NDArray[np.float32],
    clear: NDArray[np.bool_],
    days: NDArray[np.int64],
    max_age: int,
) -> NDArray[np.float32]:
    """Median difference between each two dates over the pixels that are clear on both.

    Args:
        reflectance: Shape (time, pixel, band).
        clear: Which pixels are clear, shape (time, pixel).
        days: Day number of each date, shape (time,).
        max_age: Days beyond which two dates are not compared.

    Returns:
        See `Radiometry.offsets`.
    """
    times = len(days)
    offsets = np.full((times, times, reflectance.shape[-1]), np.nan, np.float32)
    for at in range(times):
        offsets[at, at] = 0
        for other in range(at):
            both = clear[at] & clear[other]
            if abs(int(days[at] - days[other])) <= max_age and both.sum() >= MIN_PIXELS:
                median = np.median(reflectance[at, both] - reflectance[other, both], axis=0)
                offsets[at, other], offsets[other, at] = median, -median
    return offsets


def combine_radiometry(
    mgrs_tiles: Sequence[Radiometry], window: Window, at: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]] | None:
    """What to add to each date to match one of them around the middle of a window, and the trust in that one.

    Where MGRS tiles overlap, each is weighted by how far inside it the window lies, so that the values are
    continuous across borders.

    Args:
        mgrs_tiles: The same dates over each MGRS tile.
        window: A tile of the generator.
        at: Index of the date that the others are to match.

    Returns:
        Reflectance, shape (time, band), NaN where nothing is known, and trust, shape (band,); None where
        nothing is known of any.
    """
    depths = np.array([_depth(one.window, window) for one in mgrs_tiles])
    if not depths.any():
        return None
    offsets = np.stack([one.offsets[at] for one in mgrs_tiles])
    weights = np.where(np.isnan(offsets), 0, depths[:, None, None])
    total = weights.sum(axis=0)
    mean = (weights * np.nan_to_num(offsets)).sum(axis=0) / np.maximum(total, 1e-6)
    trust = np.average([one.errors.trust[at] for one in mgrs_tiles], axis=0, weights=depths)
    return np.where(total > 0, mean, np.nan).astype(np.float32), trust.astype(np.float32)


def _depth(outer: Window, window: Window) -> float:
    """How far the middle of a window lies inside another, in pixels; 0 only where they share nothing.

    Of a window at the edge of the imagery, whose middle lies outside, what it shows is all of the other.
    """
    shared = window.intersection(outer)
    if shared is None:
        return 0.0
    row, col = window.row + window.height / 2, window.col + window.width / 2
    inside = min(row - outer.row, outer.bottom - row, col - outer.col, outer.right - col)
    return max(inside, _LEAST_DEPTH * shared.height * shared.width / (window.height * window.width))

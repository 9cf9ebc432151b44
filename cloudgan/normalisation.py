"""How much brighter one date is than another over a whole MGRS tile: relative radiometric normalisation.

Dates differ by their air and their sun more than by their land. A tile of the generator that lies wholly
under cloud shows nothing of its own date's radiometry; the rest of the MGRS tile may, and what it shows
depends neither on the area of interest nor on how the work is cut.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cloudgan.grid import Window

FEWEST = 200
"""Pixels of an overview that two dates must both show clear, or nothing is known of the two."""
_USUAL = {"blue": 0.02, "green": 0.02, "red": 0.02}  # reflectance by which clear dates differ at most
_USUAL_ELSEWHERE = 0.04  # beyond the visible


@dataclass(frozen=True, slots=True)
class Shifts:
    """What is known of the dates of one MGRS tile."""

    window: Window
    """Where the MGRS tile lies on the pixel lattice."""
    values: NDArray[np.float32]
    """Reflectance to add to one date for it to look like another, shape (other, one, band); NaN unknown."""

    def only(self, dates: range) -> Shifts:
        """Those of some of the dates."""
        part = slice(dates.start, dates.stop)
        return Shifts(self.window, self.values[part, part])


def median_shifts(
    reflectance: NDArray[np.float32],
    clear: NDArray[np.bool_],
    days: NDArray[np.int64],
    bands: Sequence[str],
    max_age: int,
) -> NDArray[np.float32]:
    """The median difference of each two dates over what both show clear.

    Where they differ by more than clear air makes them, one lies under haze or was corrected wrongly, and is
    not to be imitated: the difference fades to nothing (Tukey's biweight at twice the usual difference, by
    the band that exceeds it most).

    Args:
        reflectance: Shape (time, pixel, band).
        clear: Which pixels show clear ground, shape (time, pixel).
        days: Day number of each date, shape (time,).
        bands: Names of the bands.
        max_age: Days beyond which two dates are not compared.

    Returns:
        See `Shifts.values`.
    """
    times = len(days)
    usual = np.array([_USUAL.get(band, _USUAL_ELSEWHERE) for band in bands], np.float32)
    shifts = np.full((times, times, len(bands)), np.nan, np.float32)
    for at in range(times):
        shifts[at, at] = 0
        for other in range(at):
            both = clear[at] & clear[other]
            if abs(int(days[at] - days[other])) <= max_age and both.sum() >= FEWEST:
                median = np.median(reflectance[at, both] - reflectance[other, both], axis=0)
                share = np.min(np.clip(1 - (median / (2 * usual)) ** 2, 0, 1) ** 2)
                shifts[at, other], shifts[other, at] = share * median, -share * median
    return shifts


def shifts_at(places: Sequence[Shifts], window: Window, at: int) -> NDArray[np.float32]:
    """What to add to each date for it to look like one of them, around the middle of a window.

    Where MGRS tiles overlap, each counts by how far inside it the window lies, so nothing jumps at a border.

    Args:
        places: MGRS tiles of the same dates.
        window: A tile of the generator.
        at: Index of the date that the others are to look like.

    Returns:
        Reflectance, shape (time, band); 0 where nothing is known.
    """
    nothing = np.zeros((1, *places[0].values.shape[1:]), np.float32) if places else np.zeros((1, 1, 1))
    shifts = np.concatenate([nothing, *(place.values[at][None] for place in places)])
    depths = np.array([0.0, *(_depth(place.window, window) for place in places)])
    weights = np.where(np.isnan(shifts), 0, depths[:, None, None])
    mean = (weights * np.nan_to_num(shifts)).sum(axis=0) / np.maximum(weights.sum(axis=0), 1e-6)
    return np.asarray(mean, np.float32)


def _depth(outer: Window, window: Window) -> float:
    """How far the middle of a window lies inside another, in pixels; 0 outside."""
    row, col = window.row + window.height / 2, window.col + window.width / 2
    return max(0.0, min(row - outer.row, outer.bottom - row, col - outer.col, outer.right - col))

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

from cloudgan.geo.grid import Window

FEWEST = 200
"""Pixels of an overview that two dates must both show clear, or nothing is known of the two."""
_USUAL = {"blue": 0.02, "green": 0.02, "red": 0.02}  # reflectance by which clear dates differ at most
_USUAL_ELSEWHERE = 0.04  # beyond the visible


@dataclass(frozen=True, slots=True)
class RadiometricOffsets:
    """What is known of the dates of one MGRS tile."""

    window: Window
    """Where the MGRS tile lies on the pixel lattice."""
    values: NDArray[np.float32]
    """Reflectance to add to one date for it to look like another, shape (other, one, band); NaN unknown."""

    def only(self, dates: range) -> RadiometricOffsets:
        """Those of some of the dates."""
        part = slice(dates.start, dates.stop)
        return RadiometricOffsets(self.window, self.values[part, part])


def median_offsets(
    reflectance: NDArray[np.float32],
    clear: NDArray[np.bool_],
    days: NDArray[np.int64],
    max_age: int,
) -> NDArray[np.float32]:
    """The median difference of each two dates over what both show clear.

    Args:
        reflectance: Shape (time, pixel, band).
        clear: Which pixels show clear ground, shape (time, pixel).
        days: Day number of each date, shape (time,).
        max_age: Days beyond which two dates are not compared.

    Returns:
        See `RadiometricOffsets.values`.
    """
    times = len(days)
    offsets = np.full((times, times, reflectance.shape[-1]), np.nan, np.float32)
    for at in range(times):
        offsets[at, at] = 0
        for other in range(at):
            both = clear[at] & clear[other]
            if abs(int(days[at] - days[other])) <= max_age and both.sum() >= FEWEST:
                median = np.median(reflectance[at, both] - reflectance[other, both], axis=0)
                offsets[at, other], offsets[other, at] = median, -median
    return offsets


def offsets_at(places: Sequence[RadiometricOffsets], window: Window, at: int) -> NDArray[np.float32] | None:
    """What to add to each date for it to look like one of them, around the middle of a window.

    Where MGRS tiles overlap, each counts by how far inside it the window lies, so nothing jumps at a border.

    Args:
        places: MGRS tiles of the same dates.
        window: A tile of the generator.
        at: Index of the date that the others are to look like.

    Returns:
        Reflectance, shape (time, band), NaN where nothing is known; None where nothing is known of any.
    """
    depths = [_depth(place.window, window) for place in places]
    if not any(depths):
        return None
    offsets = np.stack([place.values[at] for place in places])
    weights = np.where(np.isnan(offsets), 0, np.array(depths)[:, None, None])
    total = weights.sum(axis=0)
    mean = (weights * np.nan_to_num(offsets)).sum(axis=0) / np.maximum(total, 1e-6)
    return np.where(total > 0, mean, np.nan).astype(np.float32)


def similarity(offsets: NDArray[np.float32], bands: Sequence[str]) -> NDArray[np.float32]:
    """How far two dates may be taken for one another under clear air, from 0 to 1.

    Dates that differ by more than clear air makes them lie under haze, one of them, or were corrected wrongly
    (Tukey's biweight at twice the usual difference, of the band that exceeds it most).

    Args:
        shifts: What sets them apart, shape (time, band).
        bands: Names of the bands.

    Returns:
        Shape (time,); 0 where nothing is known.
    """
    usual = np.array([_USUAL.get(band, _USUAL_ELSEWHERE) for band in bands], np.float32)
    shares = np.clip(1 - (offsets / (2 * usual)) ** 2, 0, 1) ** 2
    return np.asarray(np.nan_to_num(shares).min(axis=-1), np.float32)


def _depth(outer: Window, window: Window) -> float:
    """How far the middle of a window lies inside another, in pixels; 0 outside."""
    row, col = window.row + window.height / 2, window.col + window.width / 2
    return max(0.0, min(row - outer.row, outer.bottom - row, col - outer.col, outer.right - col))

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

from cloudgan.geo.grid import Window

MIN_PIXELS = 200
"""Pixels of an overview that must be clear on both of two dates for their offset to be known."""
_USUAL = {"blue": 0.02, "green": 0.02, "red": 0.02}  # reflectance by which clear dates differ at most
_USUAL_BEYOND_VISIBLE = 0.04


@dataclass(frozen=True, slots=True)
class RadiometricOffsets:
    """Offsets between the dates of one MGRS tile."""

    window: Window
    """Where the MGRS tile lies on the pixel lattice."""
    values: NDArray[np.float32]
    """Reflectance to add to one date to match another, shape (other, one, band); NaN where unknown."""

    def select_dates(self, dates: range) -> RadiometricOffsets:
        """The offsets between some of the dates."""
        part = slice(dates.start, dates.stop)
        return RadiometricOffsets(self.window, self.values[part, part])


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
        See `RadiometricOffsets.values`.
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


def combine_offsets(
    mgrs_tiles: Sequence[RadiometricOffsets], window: Window, at: int
) -> NDArray[np.float32] | None:
    """What to add to each date to match one of them, around the middle of a window.

    Where MGRS tiles overlap, each is weighted by how far inside it the window lies, so that the offsets are
    continuous across borders.

    Args:
        mgrs_tiles: Offsets of the same dates over each MGRS tile.
        window: A tile of the generator.
        at: Index of the date that the others are to match.

    Returns:
        Reflectance, shape (time, band), NaN where nothing is known; None where nothing is known of any.
    """
    depths = [_depth(one.window, window) for one in mgrs_tiles]
    if not any(depths):
        return None
    offsets = np.stack([one.values[at] for one in mgrs_tiles])
    weights = np.where(np.isnan(offsets), 0, np.array(depths)[:, None, None])
    total = weights.sum(axis=0)
    mean = (weights * np.nan_to_num(offsets)).sum(axis=0) / np.maximum(total, 1e-6)
    return np.where(total > 0, mean, np.nan).astype(np.float32)


def similarity(offsets: NDArray[np.float32], bands: Sequence[str]) -> NDArray[np.float32]:
    """Radiometric similarity of two dates, from 0 to 1: 1 for equal dates, less for haze on one of them.

    Dates that differ by more than a clear atmosphere explains are hazy or were corrected wrongly. The value
    is Tukey's biweight at twice the usual difference, of the band that exceeds it most.

    Args:
        offsets: Their radiometric offsets, reflectance, shape (time, band).
        bands: Names of the bands.

    Returns:
        Shape (time,); 0 where nothing is known.
    """
    usual = np.array([_USUAL.get(band, _USUAL_BEYOND_VISIBLE) for band in bands], np.float32)
    shares = np.clip(1 - (offsets / (2 * usual)) ** 2, 0, 1) ** 2
    return np.asarray(np.nan_to_num(shares).min(axis=-1), np.float32)


def _depth(outer: Window, window: Window) -> float:
    """How far the middle of a window lies inside another, in pixels; 0 outside."""
    row, col = window.row + window.height / 2, window.col + window.width / 2
    return max(0.0, min(row - outer.row, outer.bottom - row, col - outer.col, outer.right - col))

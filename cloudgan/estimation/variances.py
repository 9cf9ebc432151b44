"""How far each date's values stray, and how fast the surface changes, from the dates themselves.

The mean squared difference of two dates is the sum of their error variances and of what the surface changed
in between (triple collocation with a temporal variogram). The differences of all pairs of dates are solved
for both by non-negative least squares. No truth is needed, and no limit is set by hand.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]

MIN_PIXELS = 50
"""Pixels that must be clear on both of two dates for their difference to count."""
_KNOTS = np.array([4.0, 12.0, 36.0, 108.0])  # days at which the parts of the drift reach their full height
TILE_PULL = 10.0
"""Pairs of dates that the mean of all error variances weighs for each date of a tile: the best of 1, 3 and 10
on the series of all regions, dense and sparse."""
SCENE_PULL = 1.0
"""The same of a whole scene, in whose many fields a difference of two dates is hardly chance."""
_ROUNDS = 6  # of reweighting: the variance of a squared difference is proportional to its square
_TO_SIGMA = 1.4826  # median absolute deviation of a normal distribution to its standard deviation


@dataclass(frozen=True, slots=True)
class ErrorVariances:
    """Variances of a few dates, in squared reflectance."""

    days: Doubles
    """Day number of each date, shape (time,)."""
    errors: Doubles
    """Error variance of each date, shape (time, band)."""
    drift: Doubles
    """Height of each part of the surface's drift, shape (band, part)."""
    usual: Doubles
    """Error variance to which all dates lean, shape (band,)."""
    known: NDArray[np.bool_]
    """Which dates were compared with another, shape (time,)."""

    def drifted(self, gaps: Doubles) -> Doubles:
        """Variance of how a surface changes in so many days, shape (band, ...)."""
        parts = np.minimum(gaps[..., None], _KNOTS) / _KNOTS
        return np.moveaxis(parts @ self.drift.T, -1, 0)


def estimate_variances(
    reflectance: Floats, clear: NDArray[np.bool_], days: NDArray[np.int64], pull: float = TILE_PULL
) -> ErrorVariances:
    """Estimate the error variance of each date and the drift of the surface.

    Where no two dates can be compared, dates are taken to be without error and the surface to drift steadily:
    interpolation is then linear in time.

    Args:
        reflectance: Shape (time, band, pixel).
        clear: Which pixels are clear, shape (time, pixel).
        days: Day number of each date, shape (time,).
        pull: Pairs of dates that the mean of all error variances weighs for each date.
    """
    times, bands = reflectance.shape[:2]
    day = days.astype(np.float64)
    pairs = [
        (at, other)
        for at in range(times)
        for other in range(at)
        if np.count_nonzero(clear[at] & clear[other]) >= MIN_PIXELS
    ]
    known = np.zeros(times, np.bool_)
    if not pairs:
        steady = np.zeros((bands, len(_KNOTS)))
        steady[:, -1] = 1
        return ErrorVariances(day, np.zeros((times, bands)), steady, np.zeros(bands), known)
    first, second = np.array(pairs).T
    known[first] = known[second] = True
    squares = np.empty((len(pairs), bands))
    counts = np.empty(len(pairs))
    for row, (at, other) in enumerate(pairs):
        both = clear[at] & clear[other]
        difference = reflectance[at][:, both] - reflectance[other][:, both]
        squares[row], counts[row] = _square(difference), difference.shape[1]
    involved = np.zeros((len(pairs), times))
    involved[np.arange(len(pairs)), first] = involved[np.arange(len(pairs)), second] = 1
    parts = np.minimum(np.abs(day[first] - day[second])[:, None], _KNOTS) / _KNOTS
    weights = np.sqrt(counts / counts.max())
    solved = np.array([_solve(squares[:, band], involved, parts, weights, pull) for band in range(bands)])
    errors, usual = solved[:, :times].T.copy(), solved[:, times]
    errors[~known] = np.median(errors[known], axis=0) + usual
    return ErrorVariances(day, errors, solved[:, times + 1 :], usual, known)


def _square(difference: Floats) -> Doubles:
    """Robust mean square by band of a difference of shape (band, pixel)."""
    median = _find_median(difference)
    scatter = _TO_SIGMA * _find_median(np.abs(difference - median[:, None]))
    return np.asarray(scatter**2 + median**2, np.float64)


def _find_median(values: Floats) -> Floats:
    """Of each row. numpy's own takes twice as long for rows so short: it checks for what is no number."""
    middle = values.shape[1] // 2
    if values.shape[1] % 2:
        return np.asarray(np.partition(values, middle, axis=1)[:, middle])
    parted = np.partition(values, (middle - 1, middle), axis=1)
    return np.asarray((parted[:, middle - 1] + parted[:, middle]) / np.float32(2))


def _solve(squares: Doubles, involved: Doubles, parts: Doubles, weights: Doubles, pull: float) -> Doubles:
    """Error variances of the dates, their mean, and the parts of the drift, of one band."""
    times = involved.shape[1]
    scale = float(np.median(squares)) + 1e-9
    pairs = np.hstack([involved, np.zeros((len(squares), 1)), parts])
    lean = np.hstack([np.eye(times), -np.ones((times, 1)), np.zeros((times, parts.shape[1]))])
    target = np.zeros(len(squares) + times)
    each, leaning = weights / scale, np.full(times, np.sqrt(pull) / scale)
    solved = np.zeros(pairs.shape[1])
    for _ in range(_ROUNDS):
        target[: len(squares)] = squares * each
        solved, _residual = nnls(np.vstack([pairs * each[:, None], lean * leaning[:, None]]), target)
        each = weights / np.maximum(pairs @ solved, scale * 1e-3)
        # A date that strays far leans as little on the mean as its large differences count.
        leaning = np.sqrt(pull) / np.maximum(solved[:times], scale)
    return solved

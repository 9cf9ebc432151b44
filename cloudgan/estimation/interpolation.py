"""Optimal interpolation in time: the best linear unbiased estimate from a pixel's clear dates (kriging)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cloudgan.estimation.variances import Doubles, ErrorVariances, Floats

DEPTH = 3
"""Clear dates on each side that count for a pixel: those further away are screened by them."""
_NUGGET = 1e-9  # squared reflectance; keeps dates without error, on one day, solvable
_AT_ONCE = 1024  # patterns of clear dates that are solved at once


def interpolate(reflectance: Floats, clear: NDArray[np.bool_], at: int, variances: ErrorVariances) -> Floats:
    """Estimate a date from the clear pixels of the others.

    Args:
        reflectance: Shape (time, band, pixel).
        clear: Which pixels are clear, shape (time, pixel), in order of time, of 60 dates at most.
        at: Index of the date, whose own pixels do not count.
        variances: Of the same dates.

    Returns:
        Shape (band, pixel), NaN where no other date is clear.
    """
    nearest = select_nearest(clear, at)
    patterns, of_pixel = _find_patterns(nearest)
    starts = range(0, len(patterns), _AT_ONCE)
    solved = [solve_weights(patterns[start : start + _AT_ONCE], at, variances) for start in starts]
    weights = np.ascontiguousarray(np.concatenate(solved).T, np.float32)
    total = np.zeros(reflectance.shape[1:], np.float32)
    for date in np.flatnonzero(nearest.any(axis=1)):
        part = weights[date].take(of_pixel, axis=1)
        part *= reflectance[date]
        # A pixel that is not clear has no weight, and perhaps no number.
        np.add(total, part, out=total, where=nearest[date])
    total[:, ~nearest.any(axis=0)] = np.nan
    return total


def _find_patterns(used: NDArray[np.bool_]) -> tuple[NDArray[np.bool_], NDArray[np.intp]]:
    """The different columns, shape (pattern, time), and of each column which it is."""
    bits = np.zeros(used.shape[1], np.int64)
    for date in np.flatnonzero(used.any(axis=1)):
        bits |= used[date].astype(np.int64) << date
    first, second = bits[:-1], bits[1:]
    starts = np.flatnonzero(np.concatenate([[True], first != second]))  # neighbours are mostly alike
    patterns, of_run = np.unique(bits[starts], return_inverse=True)
    of_pixel = np.repeat(of_run, np.diff(starts, append=len(bits)))
    return (patterns >> np.arange(len(used))[:, None] & 1).T.astype(np.bool_), of_pixel


def select_nearest(clear: NDArray[np.bool_], at: int) -> NDArray[np.bool_]:
    """The `DEPTH` nearest clear dates of each pixel before and after a date, of the shape of `clear`."""
    nearest = np.zeros_like(clear)
    for side in (range(at - 1, -1, -1), range(at + 1, len(clear))):
        count = np.zeros(clear.shape[1:], np.uint8)
        for date in side:
            np.less(count, DEPTH, out=nearest[date])
            nearest[date] &= clear[date]
            count += nearest[date]
    return nearest


def solve_weights(used: NDArray[np.bool_], at: int, variances: ErrorVariances) -> Doubles:
    """Weights of the dates for each pattern of dates that are used.

    Ordinary kriging with the dates' own error variances. Weights below zero, which extrapolate, are left out.

    Args:
        used: Shape (pattern, time).
        at: Index of the date to estimate.
        variances: Of the same dates.

    Returns:
        Shape (pattern, band, time); each sums to one, or to zero where no date is used.
    """
    count, times = used.shape
    bands = len(variances.usual)
    between, towards = _drifts(at, variances)
    both = used[:, None, :, None] & used[:, None, None, :]
    system = np.zeros((count, bands, times + 1, times + 1))
    system[..., :times, :times] = np.where(both, -0.5 * between, 0)
    diagonal = np.arange(times)
    system[..., diagonal, diagonal] = np.where(used[:, None], variances.errors.T + _NUGGET, 1)
    system[..., :times, times] = system[..., times, :times] = used[:, None]
    # Where nothing is used, the sum of the weights is free.
    some = np.asarray(used.any(axis=1))
    system[..., times, times] = np.where(some, 0, 1)[:, None]
    wanted = np.zeros((count, bands, times + 1, 1))
    wanted[..., :times, 0] = np.where(used[:, None], -0.5 * towards, 0)
    wanted[..., times, 0] = some[:, None]
    weights = np.maximum(np.linalg.solve(system, wanted)[..., :times, 0], 0)
    return np.asarray(weights / np.maximum(weights.sum(axis=-1, keepdims=True), 1e-12))


def error_variance(used: NDArray[np.bool_], at: int, variances: ErrorVariances) -> Doubles:
    """Variance of the error of an interpolation from some dates, shape (band,).

    Args:
        used: Shape (time,).
        at: Index of the date that is estimated.
        variances: Of the same dates.
    """
    weights = solve_weights(used[None], at, variances)[0]
    between, towards = _drifts(at, variances)
    drift = (weights * towards).sum(axis=-1) - 0.5 * np.einsum("bi,bij,bj->b", weights, between, weights)
    return np.asarray(np.maximum(drift, 0) + (weights**2 * variances.errors.T).sum(axis=-1))


def _drifts(at: int, variances: ErrorVariances) -> tuple[Doubles, Doubles]:
    """Drift between each two dates, shape (band, time, time), and to one date, shape (band, time)."""
    between = variances.drifted(np.abs(variances.days[:, None] - variances.days))
    return between, between[:, at]

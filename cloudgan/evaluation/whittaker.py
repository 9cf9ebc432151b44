"""A baseline that smooths the series of each pixel: the weighted Whittaker smoother (Eilers 2003)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solveh_banded

from cloudgan.evaluation.gaps import Floats, Gap, Mask
from cloudgan.sentinel2.bands import to_reflectance

Doubles = NDArray[np.float64]

SMOOTHNESS = np.logspace(0, 8, 17)
"""Weights of the squared curvature to choose from, in days cubed."""

_SAMPLE = 128  # pixels on which the smoothness is chosen
_LEAST = 2  # clear dates that pin a straight line
_LEAST_FREEDOM = (
    1e-6  # share of the observations that a curve leaves to chance at least: rounding errors lie below
)
_AT_ONCE = 1_000_000  # unknowns of one system


def smooth_in_time(gap: Gap) -> Floats:
    """The smoothed series of each masked pixel and band, at the date.

    Clear dates have weight 1, all others 0. The curvature is that between the dates as they lie in time. Its
    weight is chosen for each band by generalised cross-validation over a sample of the pixels. Where clear
    dates lie on one side alone, the curve is not extended: its value at the nearest clear date counts. A
    pixel with one clear date takes its value.

    Args:
        gap: What is to be filled.

    Returns:
        Reflectance, shape (band, y, x); NaN without a clear date.
    """
    filled = gap.interpolated[0].copy()
    clear = gap.clear[:, gap.masked].T
    smoothed = np.flatnonzero(np.count_nonzero(clear, axis=1) >= _LEAST)
    if not len(smoothed):
        return filled
    # Dates that show none of these pixels change nothing.
    kept: Mask = np.any(clear[smoothed], axis=0)
    kept[gap.at] = True
    clear = clear[smoothed][:, kept]
    days = gap.observations.days[kept].astype(np.float64)
    readout = _choose_readout(clear, days, int(np.count_nonzero(kept[: gap.at])))
    rows, cols = (axis[smoothed] for axis in np.nonzero(gap.masked))

    def read(band: NDArray[np.uint16], pixels: slice) -> Floats:
        return to_reflectance(band[kept][:, rows[pixels], cols[pixels]]).T

    bands = gap.observations.bands.values()
    sample = slice(None, None, -(-len(clear) // _SAMPLE))
    chosen = choose_smoothness(clear[sample], np.stack([read(band, sample) for band in bands]), days)
    for number, (band, smoothness) in enumerate(zip(bands, chosen, strict=True)):
        values = read(band, slice(None))
        filled[number, rows, cols] = smooth(clear, values, days, smoothness, readout)
    return filled


def _choose_readout(clear: Mask, days: Doubles, here: int) -> NDArray[np.intp]:
    """Index of the date at which each curve is read, shape (pixel,); `clear` of shape (pixel, time)."""
    before, after = clear[:, :here].any(axis=1), clear[:, here + 1 :].any(axis=1)
    nearest = np.argmin(np.where(clear, np.abs(days - days[here]), np.inf), axis=1)
    return np.where(before & after, here, nearest)


def curvature_penalty(days: Doubles) -> Doubles:
    """Matrix of the integral of the squared second derivative, by divided differences; shape (time, time).

    Args:
        days: Ascending, shape (time,).
    """
    steps = np.diff(days)
    widths = (steps[:-1] + steps[1:]) / 2
    rows = np.zeros((max(len(days) - 2, 0), len(days)))
    at = np.arange(len(rows))
    rows[at, at] = 1 / steps[:-1]
    rows[at, at + 1] = -1 / steps[:-1] - 1 / steps[1:]
    rows[at, at + 2] = 1 / steps[1:]
    penalty: Doubles = rows.T @ (rows / widths[:, None])
    return penalty


def choose_smoothness(clear: Mask, values: Floats, days: Doubles) -> list[float]:
    """For each band the weight of the curvature for which generalised cross-validation expects least error.

    Args:
        clear: Shape (pixel, time).
        values: Shape (band, pixel, time).
        days: Shape (time,).
    """
    weight, penalty = clear.astype(np.float64), curvature_penalty(days)
    count = weight.sum()
    scores = []
    for smoothness in SMOOTHNESS:
        inverse = np.linalg.inv(weight[:, :, None] * np.eye(len(days)) + smoothness * penalty)
        freedom = count - np.einsum("ptt,pt->", inverse, weight)
        curve = ((weight * values)[:, :, None, :] @ inverse)[:, :, 0]
        squares = np.sum(weight * (values - curve) ** 2, axis=(1, 2))
        scores.append(squares / max(freedom, _LEAST_FREEDOM * count) ** 2)
    return [float(SMOOTHNESS[best]) for best in np.argmin(scores, axis=0)]


def smooth(
    clear: Mask, values: Floats, days: Doubles, smoothness: float, readout: NDArray[np.intp]
) -> Doubles:
    """Smooth the series of many pixels, as one banded system in which they do not touch each other.

    Args:
        clear: At least two dates of each pixel, shape (pixel, time).
        values: Same shape.
        days: Shape (time,).
        smoothness: Weight of the curvature.
        readout: Index of the date that is wanted of each pixel.

    Returns:
        Shape (pixel,).
    """
    penalty = smoothness * curvature_penalty(days)
    bands = np.zeros((3, len(days)))
    for offset in range(min(len(bands), len(days))):
        bands[offset, : len(days) - offset] = np.diagonal(penalty, -offset)
    found = np.empty(len(clear))
    step = max(1, _AT_ONCE // len(days))
    for first in range(0, len(clear), step):
        part = slice(first, first + step)
        weight = clear[part].astype(np.float64)
        system = np.tile(bands, len(weight))
        system[0] += weight.ravel()
        right = (weight * values[part]).ravel()
        curve = solveh_banded(system, right, overwrite_ab=True, lower=True, check_finite=False)
        found[part] = np.take_along_axis(curve.reshape(weight.shape), readout[part, None], axis=1)[:, 0]
    return found

"""The estimate of a date: interpolated in time, then corrected by what its own clear pixels show."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation

from cloudgan.estimation.interpolation import interpolate
from cloudgan.estimation.regression import correct
from cloudgan.estimation.trust import choose_dates, find_trust, sample_pixels
from cloudgan.estimation.variances import Floats, estimate_variances
from cloudgan.observations import find_nearest_clear_dates
from cloudgan.sentinel2.bands import REFLECTANCE_SCALE

PREDICTING_DATES = (3, 6, 10)
"""Numbers of the nearest dates whose pixels predict what the target shows beyond the interpolation: each has
a regression of its own."""
_ERODED = 2  # pixels next to the mask are left out: haze that the mask misses would move the whole image
DARKEST = np.float32(REFLECTANCE_SCALE)
"""Reflectance of the darkest value that is not yet no data."""


def estimate_date(
    numbers: Floats,
    clear: NDArray[np.bool_],
    masked: NDArray[np.bool_],
    days: NDArray[np.int64],
    at: int,
    among: range | None = None,
) -> Floats:
    """Estimate one date over a tile, for any bands.

    Args:
        numbers: Reflectance of all dates, shape (band, time, y, x), 0 no data.
        clear: See `observations.find_clear`, shape (time, y, x).
        masked: The date's own mask, shape (y, x).
        days: Day number of each date, ascending, shape (time,).
        at: Index of the date.
        among: Which dates may be taken; all by default.

    Returns:
        Reflectance, shape (band, y, x); 0 where no other date is clear.
    """
    among = among or range(len(days))
    chosen = choose_dates(clear, at, among)
    here = int(np.flatnonzero(chosen == at)[0])
    shape = masked.shape
    stack = np.moveaxis(numbers[:, chosen], 0, 1)
    shown = clear[chosen]
    shown[here] &= ~binary_dilation(masked, iterations=_ERODED) & np.all(stack[here] > 0, axis=0)
    flat, flat_clear = stack.reshape(*stack.shape[:2], -1), shown.reshape(len(chosen), -1)
    thin = sample_pixels(flat.shape[-1])
    variances = estimate_variances(flat[..., thin], flat_clear[:, thin], days[chosen])
    interpolated = interpolate(flat, flat_clear, here, variances).reshape(-1, *shape)
    _fill(interpolated, numbers, clear, days, at, among)
    corrected = interpolated + _correct(interpolated, stack, shown, here, days[chosen])
    trust = find_trust(interpolated, stack[here], shown, here, variances)
    image = interpolated + trust[:, None, None] * (corrected - interpolated)
    image = np.clip(image, *_range(interpolated, stack[here], shown[here]))
    return np.where(np.isnan(image), np.float32(0), np.maximum(image, DARKEST))


def _fill(
    interpolated: Floats,
    numbers: Floats,
    clear: NDArray[np.bool_],
    days: NDArray[np.int64],
    at: int,
    among: range,
) -> None:
    """Give pixels that none of the chosen dates shows the value of their nearest clear date."""
    missing = np.isnan(interpolated[0])
    if not missing.any():
        return
    nearest = find_nearest_clear_dates(clear[:, missing][..., None], at, among)
    sides = np.stack([nearest.before[0, :, 0], nearest.after[0, :, 0]])
    gaps = np.where(sides < 0, np.iinfo(np.int64).max, np.abs(days[sides] - days[at]))
    dates = np.take_along_axis(sides, gaps.argmin(axis=0)[None], axis=0)[0]
    values = np.take_along_axis(
        numbers[:, :, missing], np.maximum(dates, 0)[None, None].astype(np.intp), axis=1
    )
    interpolated[:, missing] = np.where(dates < 0, np.float32(np.nan), values[:, 0])


def _correct(
    interpolated: Floats, stack: Floats, clear: NDArray[np.bool_], here: int, days: NDArray[np.int64]
) -> Floats:
    """What the date's own clear pixels show beyond the interpolation, predicted elsewhere."""
    others = np.delete(np.arange(len(days)), here)
    nearest = others[np.argsort(np.abs(days[others] - days[here]), kind="stable")[: max(PREDICTING_DATES)]]
    base = np.nan_to_num(interpolated)
    predictors = np.zeros((1 + len(nearest), *base.shape), np.float32)
    predictors[0] = base
    for place, date in enumerate(nearest, 1):
        np.subtract(stack[date], base, out=predictors[place], where=clear[date])
    numbers = sorted({min(number, len(nearest)) for number in PREDICTING_DATES})
    choices = [np.arange(len(base) * (1 + number)) for number in numbers]
    known = clear[here] & ~np.isnan(interpolated[0])
    return correct(predictors.reshape(-1, *known.shape), stack[here] - base, known, choices)


def _range(interpolated: Floats, image: Floats, clear: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """Smallest and largest value of each band that the tile shows, each of shape (band, 1, 1).

    A regression may extrapolate; what neither the date nor the interpolation shows anywhere is no surface.
    """
    counted = (interpolated, ~np.isnan(interpolated[0])), (image, clear)
    # numpy takes indices five times as fast as a mask.
    parts = [values.reshape(len(values), -1).take(np.flatnonzero(one), axis=1) for values, one in counted]
    shown = np.concatenate(parts, axis=1)
    low, high = shown.min(axis=1, initial=np.inf), shown.max(axis=1, initial=-np.inf)
    return low[:, None, None], high[:, None, None]

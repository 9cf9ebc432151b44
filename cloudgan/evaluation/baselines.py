"""Baselines: values for masked pixels that need no generator, to compare generators with.

They fill the mask that the generator fills, and are feathered in as its values are (`removal.blending`).
"""

from __future__ import annotations

import warnings
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation, gaussian_filter

from cloudgan.errors import InputError
from cloudgan.observations import (
    ClearDates,
    Observations,
    days_to_clear_date,
    find_clear,
    find_masked,
    find_nearest_clear_dates,
)
from cloudgan.removal.blending import feather, generated_share
from cloudgan.sentinel2.bands import REFLECTANCE_SCALE, to_reflectance

Floats = NDArray[np.float32]

CLOUDY = "cloudy"
"""The baseline that changes nothing."""
PLAIN = ("nearest", "linear", "median")
"""Nearest clear date; linear between the nearest before and after; median of the dates of `MEDIAN_DAYS`."""
ALIGNED = ("aligned nearest", "aligned linear")
"""The first two of them, with their radiometric offset to the clear pixels of the date removed."""
BASELINES = (CLOUDY, *PLAIN, *ALIGNED)
"""All baselines."""
MEDIAN_DAYS = 45
"""Days around a date within which clear dates count in the median."""

_SIGMA = 20.0  # pixels over which the offset between two images is smoothed
_ERODED = 2  # pixels next to the mask are left out: haze that the mask misses would move the whole image


@dataclass(frozen=True, slots=True)
class FilledDate:
    """One date as the baselines fill it."""

    images: Mapping[str, NDArray[np.uint16]]
    """By baseline: digital numbers, shape (band, y, x). Without a clear date a pixel keeps its value."""
    masked: NDArray[np.bool_]
    """What was to be filled, shape (y, x)."""
    available: NDArray[np.bool_]
    """Where there is a clear date, shape (y, x)."""


def fill_date(
    observations: Observations, at: int, *, buffer: int, names: Collection[str] = BASELINES
) -> FilledDate:
    """Fill one date by baselines.

    Args:
        observations: All dates; the alignment uses all clear pixels of the window.
        at: Index of the date.
        buffer: Width of the buffer around cloud and shadow, in pixels.
        names: Which of `BASELINES`.

    Raises:
        InputError: A name is not one of them.
    """
    if unknown := set(names) - set(BASELINES):
        raise InputError(f"no baseline {min(unknown)!r}; there are {', '.join(BASELINES)}")
    opacity = observations.opacity(buffer)
    clear = find_clear(observations.pixel_classes, opacity)
    clear_dates = find_nearest_clear_dates(clear, at)
    available = clear_dates.any()
    observed = observations.image(at)
    share = generated_share(observations.pixel_classes[at], opacity[at], available)
    shown = to_reflectance(observed)

    made: dict[str, Floats] = {CLOUDY: shown}
    made["nearest"], made["linear"] = _interpolate(observations, at, clear_dates)
    if "median" in names:
        made["median"] = _compute_median(observations, at, clear)
    near_mask = binary_dilation(find_masked(observations.pixel_classes[at], opacity[at]), iterations=_ERODED)
    reliable = ~near_mask & np.all(observed > 0, axis=0)
    for name in ALIGNED:
        if name in names:
            made[name] = align_to_date(made[name.removeprefix("aligned ")], shown, reliable)
    return FilledDate(
        {name: feather(observed, np.where(np.isnan(made[name]), shown, made[name]), share) for name in names},
        share > 0,
        available,
    )


def _interpolate(observations: Observations, at: int, clear_dates: ClearDates) -> tuple[Floats, Floats]:
    """Nearest clear date, and linear between both sides, (band, y, x); NaN without a clear date."""
    values, ages = [], []
    for dates in (clear_dates.before[0], clear_dates.after[0]):
        index = np.maximum(dates, 0)[None].astype(np.intp)
        numbers = np.stack(
            [np.take_along_axis(band, index, axis=0)[0] for band in observations.bands.values()]
        )
        values.append(np.where(dates < 0, np.float32(np.nan), to_reflectance(numbers)))
        ages.append(days_to_clear_date(dates, observations.days, at).astype(np.float32))
    has_before, has_after = (~np.isnan(value[0]) for value in values)
    use_before = has_before & (~has_after | (ages[0] <= ages[1]))
    nearest = np.where(use_before, values[0], values[1])
    weight = ages[1] / np.maximum(ages[0] + ages[1], 1)
    linear = np.where(has_before & has_after, weight * values[0] + (1 - weight) * values[1], nearest)
    return nearest, linear.astype(np.float32)


def _compute_median(observations: Observations, at: int, clear: NDArray[np.bool_]) -> Floats:
    """Median of the other clear dates of `MEDIAN_DAYS`, (band, y, x); NaN without a clear date."""
    near = np.abs(observations.days - observations.days[at]) <= MEDIAN_DAYS
    near[at] = False
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a pixel without a clear date is to be NaN
        medians = [
            np.nanmedian(np.where(clear[near], to_reflectance(band[near]), np.nan), axis=0)
            for band in observations.bands.values()
        ]
    return np.stack(medians).astype(np.float32)


def align_to_date(image: Floats, shown: Floats, clear: NDArray[np.bool_]) -> Floats:
    """Remove the offset of an image to the clear pixels of a date, smoothly in space.

    Far from any clear pixel, their mean offset is removed.

    Args:
        image: Reflectance, shape (band, y, x), NaN where there is none.
        shown: The date itself, same shape.
        clear: Its reliable pixels, shape (y, x).
    """
    usable = clear & ~np.isnan(image[0])
    if not usable.any():
        return image
    gap = np.where(usable, shown - np.nan_to_num(image), 0)
    mean = gap[:, usable].mean(axis=1)[:, None, None]
    weight = gaussian_filter(usable.astype(np.float32), _SIGMA)
    total = gaussian_filter(gap, (0, _SIGMA, _SIGMA))
    aligned: Floats = (image + (total + 0.01 * mean) / (weight + 0.01)).astype(np.float32)
    return np.maximum(aligned, np.float32(REFLECTANCE_SCALE))

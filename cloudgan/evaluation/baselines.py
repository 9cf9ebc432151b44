"""Baselines: values for masked pixels that need no generator, to compare generators with.

They fill the mask that the generator fills, and are feathered in as its values are (`removal.blending`).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cloudgan.errors import InputError
from cloudgan.estimation.estimate import estimate_date
from cloudgan.evaluation.alignment import align_to_date
from cloudgan.evaluation.gaps import Floats, Gap, find_gap
from cloudgan.evaluation.regression import fill_by_clear, fill_by_regression
from cloudgan.evaluation.whittaker import smooth_in_time
from cloudgan.observations import Observations
from cloudgan.removal.blending import feather
from cloudgan.sentinel2.bands import to_reflectance

MEDIAN_DAYS = 45
"""Days around a date within which clear dates count in the median."""


def take_nearest(gap: Gap) -> Floats:
    """The nearest clear date, shape (band, y, x); NaN without one, as of all that follow."""
    return gap.interpolated[0]


def interpolate_linearly(gap: Gap) -> Floats:
    """Linear between the nearest clear dates before and after; the nearest where there is only one."""
    return gap.interpolated[1]


def take_median(gap: Gap) -> Floats:
    """Median of the clear dates of `MEDIAN_DAYS`; the nearest clear date where there is none of them."""
    days = gap.observations.days
    near = np.abs(days - days[gap.at]) <= MEDIAN_DAYS
    clear = gap.clear[near]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a pixel without a clear date is NaN at first
        medians = [
            np.nanmedian(np.where(clear, to_reflectance(band[near]), np.nan), axis=0)
            for band in gap.observations.bands.values()
        ]
    median = np.stack(medians).astype(np.float32)
    return np.where(np.isnan(median), gap.interpolated[0], median)


def align_nearest(gap: Gap) -> Floats:
    """The nearest clear date, its radiometric offset to the clear pixels of the date removed."""
    return align_to_date(gap.interpolated[0], gap.shown, gap.reliable)


def align_linear(gap: Gap) -> Floats:
    """Linear interpolation, its radiometric offset to the clear pixels of the date removed."""
    return align_to_date(gap.interpolated[1], gap.shown, gap.reliable)


def interpolate_optimally(gap: Gap) -> Floats:
    """Kriging in time from the clear dates around, each with its own error variance.

    It is the first step of the estimate, without what the date's own clear pixels show.
    """
    numbers = np.stack([to_reflectance(band) for band in gap.observations.bands.values()])
    everywhere = np.ones_like(gap.masked)
    made = estimate_date(numbers, gap.clear, everywhere, gap.observations.days, gap.at)
    return np.where(gap.available, made, np.float32(np.nan))


CLOUDY = "cloudy"
"""The baseline that changes nothing."""
FILLS: Mapping[str, Callable[[Gap], Floats]] = {
    "nearest": take_nearest,
    "linear": interpolate_linearly,
    "median": take_median,
    "aligned nearest": align_nearest,
    "aligned linear": align_linear,
    "whittaker": smooth_in_time,
    "kriging": interpolate_optimally,
    "regression": fill_by_regression,
    "clear": fill_by_clear,
}
"""The one list of baselines that fill: reflectance of shape (band, y, x) by name."""
RIVALS = tuple(FILLS)
"""What a generator is measured against."""
BASELINES = (CLOUDY, *RIVALS)
"""All baselines."""


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
        observations: All dates; alignment and regression use all clear pixels of the window.
        at: Index of the date.
        buffer: Width of the buffer around cloud and shadow, in pixels.
        names: Which of `BASELINES`.

    Raises:
        InputError: A name is not one of them.
    """
    if unknown := set(names) - set(BASELINES):
        raise InputError(f"no baseline {min(unknown)!r}; there are {', '.join(BASELINES)}")
    gap = find_gap(observations, at, buffer)
    observed = observations.image(at)

    def fill(name: str) -> NDArray[np.uint16]:
        made = gap.shown if name == CLOUDY else FILLS[name](gap)
        return feather(observed, np.where(np.isnan(made), gap.shown, made), gap.share)

    return FilledDate({name: fill(name) for name in names}, gap.masked, gap.available)

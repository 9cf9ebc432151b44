"""One date whose masked pixels are to be filled: what a baseline is given."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation

from cloudgan.observations import (
    ClearDates,
    Observations,
    days_to_clear_date,
    find_clear,
    find_masked,
    find_nearest_clear_dates,
)
from cloudgan.removal.blending import generated_share
from cloudgan.sentinel2.bands import to_reflectance

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]

_ERODED = 2  # pixels next to the mask are left out: haze that the mask misses would move the whole image


@dataclass(frozen=True)
class Gap:
    """One date of a series, what of it is masked, and where the other dates are clear."""

    observations: Observations
    """All dates."""
    at: int
    """Index of the date."""
    clear: Mask
    """Where the other dates are clear, shape (time, y, x). The date itself never counts: what it shows is
    what a baseline is to be compared with."""
    clear_dates: ClearDates
    """The nearest clear dates before and after of each pixel."""
    share: Floats
    """See `generated_share`, shape (y, x)."""
    reliable: Mask
    """Pixels of the date that show the surface and do not lie next to the mask, shape (y, x)."""

    @cached_property
    def shown(self) -> Floats:
        """Reflectance of the date as it is, shape (band, y, x)."""
        return to_reflectance(self.observations.image(self.at))

    @cached_property
    def masked(self) -> Mask:
        """What is to be filled, shape (y, x)."""
        return self.share > 0

    @cached_property
    def available(self) -> Mask:
        """Where there is a clear date, shape (y, x)."""
        return self.clear_dates.any()

    @cached_property
    def interpolated(self) -> tuple[Floats, Floats]:
        """Nearest clear date, and linear between both sides, (band, y, x); NaN without a clear date."""
        return interpolate(self.observations, self.at, self.clear_dates)

    def fill_other(self, date: int) -> Floats:
        """Another date, its own gaps filled by linear interpolation in time; NaN without a clear date.

        The date of the gap takes no part: its own pixels would be among what explains them.

        Args:
            date: Index of the other date.

        Returns:
            Reflectance, shape (band, y, x).
        """
        image = to_reflectance(self.observations.image(date))
        if self.clear[date].all():
            return image
        nearest = find_nearest_clear_dates(self.clear, date)
        _, linear = interpolate(self.observations, date, nearest)
        return np.where(self.clear[date], image, linear)


def find_gap(observations: Observations, at: int, buffer: int) -> Gap:
    """The gap of one date.

    Args:
        observations: All dates.
        at: Index of the date.
        buffer: Width of the buffer around cloud and shadow, in pixels.
    """
    opacity = observations.opacity(buffer)
    classes = observations.pixel_classes
    clear = find_clear(classes, opacity)
    clear[at] = False
    clear_dates = find_nearest_clear_dates(clear, at)
    near_mask = binary_dilation(find_masked(classes[at], opacity[at]), iterations=_ERODED)
    return Gap(
        observations,
        at,
        clear,
        clear_dates,
        generated_share(classes[at], opacity[at], clear_dates.any()),
        ~near_mask & np.all(observations.image(at) > 0, axis=0),
    )


def interpolate(observations: Observations, at: int, clear_dates: ClearDates) -> tuple[Floats, Floats]:
    """Nearest clear date, and linear between both sides, (band, y, x); NaN without a clear date.

    Args:
        observations: All dates.
        at: Index of the date that is to be filled.
        clear_dates: The clear dates of each pixel around it.
    """
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

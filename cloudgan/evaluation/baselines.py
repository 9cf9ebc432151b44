"""What a user gets for free: the answers to hidden ground that need no generator, to measure one against.

They fill the mask that the generator fills, and are feather in as it is (`removal.feather`).
"""

from __future__ import annotations

import warnings
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation, gaussian_filter

from cloudgan import observations
from cloudgan.errors import InputError
from cloudgan.observations import Observations
from cloudgan.removal.blending import feather, generated_share
from cloudgan.sentinel2.bands import REFLECTANCE_SCALE
from cloudgan.sentinel2.classification import PixelClass

Floats = NDArray[np.float32]

CLOUDY = "cloudy"
"""The baseline that does nothing."""
PLAIN = ("nearest", "linear", "median")
"""Nearest clear look; linear between the nearest before and after; median of the looks of `MEDIAN_DAYS`."""
ALIGNED = ("aligned nearest", "aligned linear")
"""The same, shifted to the clear pixels of the date itself (`aligned`)."""
BASELINES = (CLOUDY, *PLAIN, *ALIGNED)
"""All there are."""
MEDIAN_DAYS = 45
"""How far off a look may be that counts in the median."""

_SIGMA = 20.0  # pixels over which a look is aligned to the date
_ERODED = 2  # pixels next to the mask: haze that the mask misses there would move the whole look


@dataclass(frozen=True, slots=True)
class Filled:
    """One date as the baselines fill it."""

    images: Mapping[str, NDArray[np.uint16]]
    """By name: digital numbers, shape (band, y, x). Without a clear look a pixel keeps what it showed."""
    masked: NDArray[np.bool_]
    """What was to be filled, shape (y, x)."""
    seen: NDArray[np.bool_]
    """Where there is a clear look, shape (y, x)."""


def filled(scenes: Observations, at: int, *, buffer: int, names: Collection[str] = BASELINES) -> Filled:
    """Fill one date by baselines.

    Args:
        scenes: All dates; the alignment leans on all clear pixels of the window.
        at: Index of the date.
        buffer: Width of the buffer around cloud and shadow, in pixels.
        names: Which of `BASELINES`.

    Raises:
        InputError: A name is not one of them.
    """
    if unknown := set(names) - set(BASELINES):
        raise InputError(f"no baseline {min(unknown)!r}; there are {', '.join(BASELINES)}")
    opacity = np.stack(
        [
            observations.compute_opacity(pixel_classes, buffer).astype(np.float16)
            for pixel_classes in scenes.pixel_classes
        ]
    )
    clear = (scenes.pixel_classes == PixelClass.CLEAR) & (opacity == 0)
    looks = observations.find_nearest_clear_dates(clear, at)
    seen = (looks.before[0] >= 0) | (looks.after[0] >= 0)
    observed = np.stack([band[at] for band in scenes.bands])
    share = generated_share(scenes.pixel_classes[at], opacity[at], seen)
    empty = np.isin(scenes.pixel_classes[at], (PixelClass.NO_DATA, PixelClass.MISSING))
    masked = (opacity[at] > 0) | empty
    shown = observed * np.float32(REFLECTANCE_SCALE)

    made: dict[str, Floats] = {CLOUDY: shown}
    made["nearest"], made["linear"] = _of_neighbours(scenes, at, looks)
    if "median" in names:
        made["median"] = _median(scenes, at, clear)
    near_mask = binary_dilation(masked, iterations=_ERODED)
    vouched = ~near_mask & np.all(observed > 0, axis=0)
    for name in ALIGNED:
        if name in names:
            made[name] = aligned(made[name.removeprefix("aligned ")], shown, vouched)
    return Filled(
        {name: feather(observed, np.where(np.isnan(made[name]), shown, made[name]), share) for name in names},
        share > 0,
        seen,
    )


def _of_neighbours(scenes: Observations, at: int, looks: observations.ClearDates) -> tuple[Floats, Floats]:
    """The nearest look and the line between the nearest on both sides, (band, y, x); NaN without a look."""
    none = np.float32(np.nan)
    values, ages = [], []
    for look in (looks.before[0], looks.after[0]):
        index = np.maximum(look, 0)[None].astype(np.intp)
        numbers = np.stack([np.take_along_axis(band, index, axis=0)[0] for band in scenes.bands])
        values.append(np.where(look < 0, none, numbers * np.float32(REFLECTANCE_SCALE)))
        ages.append(observations.days_to_clear_date(look, scenes.days, at).astype(np.float32))
    has_before, has_after = (~np.isnan(value[0]) for value in values)
    sooner = has_before & (~has_after | (ages[0] <= ages[1]))
    nearest = np.where(sooner, values[0], values[1])
    weight = ages[1] / np.maximum(ages[0] + ages[1], 1)
    linear = np.where(has_before & has_after, weight * values[0] + (1 - weight) * values[1], nearest)
    return nearest, linear.astype(np.float32)


def _median(scenes: Observations, at: int, clear: NDArray[np.bool_]) -> Floats:
    """Median of the clear looks of `MEDIAN_DAYS`, the date itself left out, (band, y, x); NaN without one."""
    near = np.abs(scenes.days - scenes.days[at]) <= MEDIAN_DAYS
    near[at] = False
    looks = clear[near]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a pixel without a look is NaN, as it should be
        medians = [
            np.nanmedian(np.where(looks, band[near] * np.float32(REFLECTANCE_SCALE), np.nan), axis=0)
            for band in scenes.bands
        ]
    return np.stack(medians).astype(np.float32)


def aligned(look: Floats, shown: Floats, clear: NDArray[np.bool_]) -> Floats:
    """A look shifted to the clear pixels of a date, smoothly in space; far from any, by their mean.

    Args:
        look: Reflectance, shape (band, y, x), NaN where there is none.
        shown: The date itself, same shape.
        clear: Its pixels that can be trusted, shape (y, x).
    """
    usable = clear & ~np.isnan(look[0])
    if not usable.any():
        return look
    gap = np.where(usable, shown - np.nan_to_num(look), 0)
    mean = gap[:, usable].mean(axis=1)[:, None, None]
    weight = gaussian_filter(usable.astype(np.float32), _SIGMA)
    total = gaussian_filter(gap, (0, _SIGMA, _SIGMA))
    shifted: Floats = (look + (total + 0.01 * mean) / (weight + 0.01)).astype(np.float32)
    return np.maximum(shifted, np.float32(REFLECTANCE_SCALE))

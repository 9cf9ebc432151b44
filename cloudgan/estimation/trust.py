"""How far a date's own values may be followed: what the other dates tell against it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cloudgan.estimation.interpolation import error_variance, interpolate, select_nearest
from cloudgan.estimation.regression import MIN_PIXELS
from cloudgan.estimation.variances import SCENE_PULL, ErrorVariances, Floats, estimate_variances
from cloudgan.observations import ENOUGH_CLEAR, dates_within

DATES_EACH_SIDE = 8
"""Dates on each side whose variances are estimated: the nearest that show enough of the tile clear."""
HAZY_BELOW = 0.5
"""Trust in a date, in each of its bands, below which it is called hazy: its error explains more of what it
departs by than its surface does."""
TILE_SAMPLE = 1024
"""Pixels of a tile, about, from which variances are estimated: four times as many change nothing."""
_SCENE_SAMPLE = 4096  # of a scene, which is measured once a run


@dataclass(frozen=True, slots=True)
class DateErrors:
    """How far the dates of a scene stray from what the others tell of them."""

    std: Floats
    """Standard error of each date, reflectance, shape (time, band); NaN where no other date is comparable."""
    trust: Floats
    """How far its own values may be followed, from 0 to 1, shape (time, band); see `find_trust`."""

    @property
    def hazy(self) -> NDArray[np.bool_]:
        """Which dates are hazy, shape (time,)."""
        return np.asarray((self.trust < HAZY_BELOW).all(axis=1))

    @classmethod
    def average(cls, scenes: Sequence[DateErrors]) -> DateErrors:
        """The errors of the same dates over several scenes together; what one does not know, others do."""
        variances = np.stack([scene.std for scene in scenes]) ** 2
        known = ~np.isnan(variances)
        count = known.sum(axis=0)
        mean = np.where(known, variances, 0).sum(axis=0) / np.maximum(count, 1)
        std = np.where(count > 0, np.sqrt(mean), np.nan).astype(np.float32)
        return cls(std, np.mean([scene.trust for scene in scenes], axis=0, dtype=np.float32))

    def select_dates(self, dates: range) -> DateErrors:
        """Those of some of the dates."""
        part = slice(dates.start, dates.stop)
        return DateErrors(self.std[part], self.trust[part])


def measure_errors(
    reflectance: Floats, clear: NDArray[np.bool_], days: NDArray[np.int64], max_age: int
) -> DateErrors:
    """Measure the error of each date over a scene, from the dates around it alone.

    Args:
        reflectance: Shape (time, pixel, band), 0 no data.
        clear: Which pixels are clear, shape (time, pixel).
        days: Day number of each date, ascending, shape (time,).
        max_age: Days beyond which a date tells nothing of another.
    """
    times, _, bands = reflectance.shape
    std, trust = np.full((times, bands), np.nan, np.float32), np.ones((times, bands), np.float32)
    thin = sample_pixels(clear.shape[1], _SCENE_SAMPLE)
    stack = np.moveaxis(reflectance[:, thin], 2, 1)
    shown = clear[:, thin] & np.all(stack > 0, axis=1)
    for at in range(times):
        chosen = choose_dates(shown[:, None], at, dates_within(days, at, max_age))
        here = int(np.flatnonzero(chosen == at)[0])
        variances = estimate_variances(stack[chosen], shown[chosen], days[chosen], SCENE_PULL)
        if variances.known[here]:
            std[at] = np.sqrt(variances.errors[here])
            interpolated = interpolate(stack[chosen], shown[chosen], here, variances)
            trust[at] = find_trust(interpolated, stack[at], shown[chosen], here, variances)
    return DateErrors(std, trust)


def sample_pixels(count: int, most: int = TILE_SAMPLE) -> slice:
    """Which of so many pixels variances are estimated from; an odd step meets all columns of an even tile."""
    return slice(None, None, max(1, count // most) | 1)


def choose_dates(clear: NDArray[np.bool_], at: int, among: range) -> NDArray[np.intp]:
    """A date and the nearest that show enough of what any of them shows, in order of time.

    Args:
        clear: Which pixels are clear, shape (time, y, x).
        at: Index of the date.
        among: Which dates may be taken.
    """
    part = clear[among.start : among.stop]
    shown = np.count_nonzero(part, axis=(1, 2))
    shown[at - among.start] = 0
    enough = max(1.0, ENOUGH_CLEAR * np.count_nonzero(part.any(axis=0)))
    good = among.start + np.flatnonzero(shown >= enough)
    return np.concatenate([good[good < at][-DATES_EACH_SIDE:], [at], good[good > at][:DATES_EACH_SIDE]])


def find_trust(
    interpolated: Floats, image: Floats, clear: NDArray[np.bool_], here: int, variances: ErrorVariances
) -> Floats:
    """How far a date's own clear pixels are followed, by band.

    Haze and thin cloud brighten every band. Of a date that is brighter in all of them than the others tell,
    the part of the difference that its error variance explains is taken for haze.

    Args:
        interpolated: What the others tell, shape (band, ...).
        image: What the date shows, of the same shape.
        clear: Which pixels of each date are clear, shape (time, ...).
        here: Index of the date.
        variances: Of the same dates.

    Returns:
        From 0 to 1, shape (band,).
    """
    known = clear[here] & ~np.isnan(interpolated[0])
    trusted = np.ones(len(image), np.float32)
    if not variances.known[here] or np.count_nonzero(known) < MIN_PIXELS:
        return trusted
    if not (image - interpolated)[:, known].mean(axis=1).min() > 0:
        return trusted
    of_surface = error_variance(_usual_pattern(clear, here), here, variances)
    return np.asarray(of_surface / np.maximum(of_surface + variances.errors[here], 1e-12), np.float32)


def _usual_pattern(clear: NDArray[np.bool_], here: int) -> NDArray[np.bool_]:
    """The dates from which most pixels are interpolated, shape (time,)."""
    all_shown = np.ones((len(clear), 1), np.bool_)
    return select_nearest(all_shown, here)[:, 0]

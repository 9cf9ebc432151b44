"""Ground that is known, hidden on purpose: the cases by which generators and baselines are judged.

* transplanted: a clear date under the real clouds of another date, judged by the date itself;
* hidden: a clear date wholly hidden, judged by itself;
* real: a cloudy date judged by another date, which is withheld from the context. Its truth has another
  radiometry, so this shows no more than that real clouds do no harm.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation, distance_transform_edt

from cloudgan.io.overviews import EDGE
from cloudgan.observations import MAX_AGE, Observations
from cloudgan.removal.normalisation import RadiometricOffsets, median_offsets
from cloudgan.sentinel2.bands import REFLECTANCE_SCALE
from cloudgan.sentinel2.classification import PixelClass

Kind = Literal["composited", "fully masked", "real"]
KINDS: tuple[Kind, ...] = get_args(Kind)
"""In the order in which they tell most."""

CLOUD_EDGE = 2
"""Pixels around a transplanted cloud that keep its haze, which the classification calls clear."""
_DISTRUST = 2  # pixels beyond the buffer of a date's own clouds that are not believed
_BRIGHT = 5000  # digital number of the imagined cloud that hides everything
CONTEXT_DAYS = 45
"""ClearDates further away play no part in a case."""
_CLOUDS = (0.1, 0.8)  # cloudy share of a date that lends its sky
_CLOUDY = 0.3  # cloudy share of a date that is judged by another
_SAME_GROUND = 3  # days within which one date may judge another
_EVERY_THIRD = 3  # clear dates are hidden wholly


@dataclass(frozen=True, slots=True)
class Place:
    """All dates of a place, from which cases are made."""

    region: str
    """Its name: what is resampled in an interval."""
    group: str
    """What is not to be mixed with others, such as "10 m"."""
    scenes: Observations
    """All dates."""
    buffer: int
    """Width of the buffer around cloud and shadow, in pixels."""
    truths: NDArray[np.bool_]
    """Dates whose clear pixels may be believed, shape (time,)."""
    scl: NDArray[np.uint8] | None = None
    """Sen2Cor's scene classification, shape (time, y, x), where known."""

    def known(self, at: int) -> NDArray[np.bool_]:
        """Where a date's own values are the truth: clear, and not near its own clouds; shape (y, x)."""
        pixel_classes = self.scenes.pixel_classes[at]
        known: NDArray[np.bool_] = pixel_classes == PixelClass.CLEAR
        cloudy = pixel_classes == PixelClass.CLOUDY
        if cloudy.any():
            known &= distance_transform_edt(~cloudy) > self.buffer + _DISTRUST
        return known

    def only(self, dates: NDArray[np.intp]) -> Place:
        """Some of the dates, in order."""
        scenes = self.scenes
        return replace(
            self,
            scenes=replace(
                scenes,
                bands=tuple(band[dates] for band in scenes.bands),
                pixel_classes=scenes.pixel_classes[dates],
                days=scenes.days[dates],
            ),
            truths=self.truths[dates],
            scl=None if self.scl is None else self.scl[dates],
        )

    def around(self, at: int) -> tuple[Place, int]:
        """The dates within `CONTEXT_DAYS` of one, and its index among them."""
        near = np.flatnonzero(np.abs(self.scenes.days - self.scenes.days[at]) <= CONTEXT_DAYS)
        return self.only(near), int(np.flatnonzero(near == at)[0])

    def offsets(self) -> RadiometricOffsets:
        """How its dates differ over all of it, as a run finds of whole MGRS tiles, from a grid of pixels."""
        scenes = self.scenes
        step = max(1, min(scenes.window.shape) // EDGE)
        times, thin = len(scenes.days), (slice(None), slice(None, None, step), slice(None, None, step))
        numbers = np.stack([band[thin].reshape(times, -1) for band in scenes.bands], axis=-1)
        clear = scenes.pixel_classes[thin].reshape(times, -1) == PixelClass.CLEAR
        found = median_offsets(numbers * np.float32(REFLECTANCE_SCALE), clear, scenes.days, MAX_AGE)
        return RadiometricOffsets(scenes.window, found)

    def cloud_field(self, at: int) -> CloudField:
        """The sky of a date."""
        return CloudField(
            _date(self.scenes, at), self.scenes.pixel_classes[at], None if self.scl is None else self.scl[at]
        )

    def day(self, at: int) -> str:
        """A date, such as 2023-08-13."""
        return str(np.datetime64(int(self.scenes.days[at]), "D"))


@dataclass(frozen=True, slots=True)
class CloudField:
    """A cloudy date: what its clouds look like and how they are classified."""

    bands: NDArray[np.uint16]
    """Digital numbers, shape (band, y, x)."""
    pixel_classes: NDArray[np.uint8]
    """Values of `clouds.PixelClass`, shape (y, x)."""
    scl: NDArray[np.uint8] | None = None
    """Sen2Cor's scene classification, shape (y, x), where known."""


@dataclass(frozen=True, slots=True)
class Case:
    """One date to decloud, and its truth."""

    kind: Kind
    """How the truth comes to be known."""
    place: Place
    """All dates, the one in question under its clouds."""
    at: int
    """Index of the date in question."""
    name: str
    """What it is."""
    truth: NDArray[np.uint16]
    """Digital numbers, shape (band, y, x)."""
    judged: NDArray[np.bool_]
    """Where the truth is true, shape (y, x)."""
    scl: NDArray[np.uint8] | None = None
    """Scene classification of the date under its clouds, shape (y, x), where known."""

    def reflectance(self) -> NDArray[np.float32]:
        """The truth, shape (y, x, band)."""
        return np.moveaxis(self.truth, 0, -1) * np.float32(REFLECTANCE_SCALE)


def _date(scenes: Observations, at: int) -> NDArray[np.uint16]:
    return np.stack([band[at] for band in scenes.bands])


def _under(place: Place, at: int, bands: NDArray[np.uint16], pixel_classes: NDArray[np.uint8]) -> Place:
    """The same dates, one of them changed."""

    def changed(series: NDArray[Any], one: NDArray[Any]) -> NDArray[Any]:
        series = series.copy()
        series[at] = one
        return series

    scenes = replace(
        place.scenes,
        bands=tuple(changed(band, one) for band, one in zip(place.scenes.bands, bands, strict=True)),
        pixel_classes=changed(place.scenes.pixel_classes, pixel_classes),
    )
    return replace(place, scenes=scenes)


def composited(place: Place, at: int, cloud_field: CloudField, name: str) -> Case:
    """A clear date under another's clouds: their pixels and classification, and `CLOUD_EDGE` pixels around.

    Args:
        place: All dates.
        at: Index of the clear one.
        sky: The clouds, of the same shape.
        name: What to call the case.
    """
    over = binary_dilation(cloud_field.pixel_classes == PixelClass.CLOUDY, iterations=CLOUD_EDGE) & np.all(
        cloud_field.bands > 0, axis=0
    )
    truth = _date(place.scenes, at)
    pixel_classes = np.where(over, cloud_field.pixel_classes, place.scenes.pixel_classes[at])
    scl: NDArray[np.uint8] | None = None
    if place.scl is not None and cloud_field.scl is not None:
        scl = np.where(over, cloud_field.scl, place.scl[at])
    under = _under(place, at, np.where(over, cloud_field.bands, truth), pixel_classes)
    return Case("composited", under, at, name, truth, place.known(at), scl)


def masked(place: Place, at: int, name: str) -> Case:
    """A date of which nothing can be seen; arguments as of `transplanted`."""
    truth, pixel_classes = _date(place.scenes, at), place.scenes.pixel_classes[at]
    covered = np.where(pixel_classes == PixelClass.NO_DATA, pixel_classes, PixelClass.CLOUDY).astype(np.uint8)
    bright = np.where(truth > 0, np.uint16(_BRIGHT), truth)
    return Case("fully masked", _under(place, at, bright, covered), at, name, truth, place.known(at))


def real(place: Place, at: int, judge: int, name: str) -> Case:
    """A cloudy date judged by another, which is withheld from the context.

    Args:
        place: All dates.
        at: Index of the cloudy one.
        judge: Index of the one that tells the truth.
        name: What to call the case.
    """
    kept = np.delete(np.arange(len(place.scenes.days)), judge)
    here = int(np.flatnonzero(kept == at)[0])
    scl = None if place.scl is None else place.scl[at]
    return Case("real", place.only(kept), here, name, _date(place.scenes, judge), place.known(judge), scl)


def draw(
    place: Place,
    kinds: Collection[Kind] = KINDS,
    *,
    dates: int = 8,
    cloud_fields: int = 2,
    seed: int = 0,
    clear: float = 0.5,
) -> Iterator[Case]:
    """Cases of a place.

    Args:
        place: All dates.
        kinds: Which kinds.
        dates: Clear dates that are hidden at most, and cloudy dates that are judged at most.
        skies: Under how many other dates' clouds each clear date is put.
        seed: Decides which, where there are more.
        clear: Share of a date that must be believed for it to be hidden.
    """
    rng = np.random.default_rng(seed)
    cloudy = np.mean(place.scenes.pixel_classes == PixelClass.CLOUDY, axis=(1, 2))
    believed = np.array([place.known(at).mean() for at in range(len(cloudy))])
    targets = _some(rng, np.flatnonzero(place.truths & (believed >= clear)), dates)
    lenders = np.flatnonzero((cloudy >= _CLOUDS[0]) & (cloudy <= _CLOUDS[1]))
    for number, at in enumerate(targets):
        near, here = place.around(at)
        for lender in _some(rng, lenders[lenders != at], cloud_fields):
            if "composited" in kinds:
                yield composited(
                    near, here, place.cloud_field(lender), f"{place.day(at)} under {place.day(lender)}"
                )
        if "fully masked" in kinds and number % _EVERY_THIRD == 0:
            yield masked(near, here, f"{place.day(at)} wholly hidden")
    if "real" in kinds:
        yield from _judged_by_others(rng, place, np.flatnonzero(cloudy >= _CLOUDY), targets, dates)


def _judged_by_others(
    rng: np.random.Generator, place: Place, cloudy: NDArray[np.intp], clear: NDArray[np.intp], most: int
) -> Iterator[Case]:
    days = place.scenes.days
    pairs = [
        (int(at), int(judge))
        for at in cloudy
        for judge in clear
        if at != judge and abs(int(days[at] - days[judge])) <= _SAME_GROUND
    ]
    for number in _some(rng, np.arange(len(pairs)), most):
        at, judge = pairs[int(number)]
        near, here = place.around(at)
        other = int(np.flatnonzero(near.scenes.days == days[judge])[0])
        yield real(near, here, other, f"{place.day(at)} judged by {place.day(judge)}")


def _some(rng: np.random.Generator, found: NDArray[np.intp], most: int) -> NDArray[np.intp]:
    return found if len(found) <= most else np.sort(rng.choice(found, most, replace=False))

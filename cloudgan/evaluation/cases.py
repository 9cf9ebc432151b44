"""Evaluation cases: dates whose truth is known, put under clouds.

* composited: a clear date under the real clouds of another date, evaluated against the date itself;
* fully masked: a clear date that is masked everywhere, evaluated against itself;
* real: a cloudy date evaluated against another date, which is withheld from the input. That truth has another
  radiometry, so these cases show no more than that real clouds do no harm.

Each of them can be had in a sparser series (`thin_dates`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation, distance_transform_edt

from cloudgan import defaults
from cloudgan.io.overviews import EDGE
from cloudgan.observations import ENOUGH_CLEAR, MAX_AGE, Observations, Site, compute_opacity
from cloudgan.removal.normalisation import Radiometry, measure_radiometry
from cloudgan.sentinel2.bands import to_reflectance
from cloudgan.sentinel2.classification import PixelClass

Kind = Literal["composited", "fully masked", "real"]
KINDS: tuple[Kind, ...] = get_args(Kind)
"""The most informative first."""

CLOUD_EDGE = 2
"""Pixels around a composited cloud that are copied with it: haze that the classification calls clear."""
CONTEXT_DAYS = max(defaults.CONTEXT_DAYS, MAX_AGE)
"""Days around a date beyond which other dates are left out of its case: what a run over a season has around a
date within it. At the ends of the span asked for it has `defaults.CONTEXT_DAYS`."""
DENSITIES: Mapping[str, int] = {"dense": 1, "sparse2": 2, "sparse4": 4}
"""Of how many clear dates one is kept, by the name of the density, see `thin_dates`."""
_TRUTH_MARGIN = 2  # pixels beyond the buffer of a date's own clouds that are not trusted either
_CLOUD_NUMBER = 5000  # digital number of the simulated cloud over a fully masked date
_SOURCE_CLOUDINESS = (0.1, 0.8)  # cloudy share of a date that lends its clouds
_REAL_CLOUDINESS = 0.3  # least cloudy share of a date that is evaluated against another
_REAL_DAYS = 3  # days within which one date may stand for the truth of another
_FULLY_MASKED_STEP = 3  # every so many of the clear dates are fully masked


@dataclass(frozen=True, slots=True)
class CloudySource:
    """A cloudy date that lends its clouds: their pixels and their classification."""

    image: NDArray[np.uint16]
    """Digital numbers, shape (band, y, x), in the order of the bands of the site."""
    pixel_classes: NDArray[np.uint8]
    """Values of `PixelClass`, shape (y, x)."""
    scl: NDArray[np.uint8] | None = None
    """Sen2Cor's scene classification, shape (y, x), where known."""

    @classmethod
    def of_date(cls, observations: Observations, at: int) -> CloudySource:
        """The clouds of one date of a series."""
        scl = None if observations.scl is None else observations.scl[at]
        return cls(observations.image(at), observations.pixel_classes[at], scl)


@dataclass(frozen=True, slots=True)
class Case:
    """One date to decloud, and its truth."""

    kind: Kind
    """How the truth is known."""
    site: Site
    """The site, with the date in question under its clouds."""
    at: int
    """Index of the date in question."""
    name: str
    """Which dates are combined."""
    truth: NDArray[np.uint16]
    """Digital numbers, shape (band, y, x), in the order of the bands of the site."""
    evaluated: NDArray[np.bool_]
    """Where the truth is trusted, shape (y, x)."""

    @property
    def group(self) -> str:
        """Cases of one pixel size, such as "10 m", which are summarised apart from all others."""
        return f"{self.site.resolution:g} m"

    @property
    def scl(self) -> NDArray[np.uint8] | None:
        """Scene classification of the date under its clouds, shape (y, x), where known."""
        scl = self.site.observations.scl
        return None if scl is None else scl[self.at]


def known_truth(site: Site, at: int) -> NDArray[np.bool_]:
    """Where a date's own values are the truth: clear, and not near its own clouds; shape (y, x)."""
    pixel_classes = site.observations.pixel_classes[at]
    known: NDArray[np.bool_] = pixel_classes == PixelClass.CLEAR
    cloudy = pixel_classes == PixelClass.CLOUDY
    if cloudy.any():
        known &= distance_transform_edt(~cloudy) > site.buffer + _TRUTH_MARGIN
    return known


def dates_around(site: Site, at: int) -> tuple[Site, int]:
    """The site with the dates within `CONTEXT_DAYS` of one date, and the index of that date among them."""
    days = site.observations.days
    near = np.flatnonzero(np.abs(days - days[at]) <= CONTEXT_DAYS)
    return site.select_dates(near), int(np.flatnonzero(near == at)[0])


def thin_dates(case: Case, every: int) -> Case:
    """The same case in a sparser series: the same date, mask and truth, and fewer clear dates around.

    Args:
        case: A case with all dates.
        every: Of the other dates that show `ENOUGH_CLEAR` of the site, every so many are kept, counted from
            the date in question on either side. 1 keeps all.
    """
    classes = case.site.observations.pixel_classes
    clear = np.mean(classes == PixelClass.CLEAR, axis=(1, 2)) >= ENOUGH_CLEAR
    clear[case.at] = True
    rank = np.cumsum(clear)
    kept = np.flatnonzero(~clear | ((rank - rank[case.at]) % every == 0))
    return replace(case, site=case.site.select_dates(kept), at=int(np.flatnonzero(kept == case.at)[0]))


def estimate_radiometry(site: Site, bands: Sequence[str] | None = None) -> Radiometry:
    """How the dates differ over all of a site, from a grid of pixels, as a run finds for whole MGRS tiles.

    Args:
        site: All dates.
        bands: Names of the bands, in order; those of the site by default.
    """
    observations = site.observations
    named = observations.bands
    step = max(1, min(observations.window.shape) // EDGE)
    times, thin = len(observations.days), (slice(None), slice(None, None, step), slice(None, None, step))
    numbers = np.stack(
        [band[thin].reshape(times, -1) for band in (named[name] for name in bands or named)], axis=-1
    )
    classes = observations.pixel_classes[thin]
    near_cloud = binary_dilation(classes == PixelClass.CLOUDY, np.ones((1, 3, 3), bool))
    clear = ((classes == PixelClass.CLEAR) & ~near_cloud).reshape(times, -1)
    return measure_radiometry(observations.window, to_reflectance(numbers), clear, observations.days, MAX_AGE)


def composite_clouds(site: Site, at: int, source: CloudySource, name: str) -> Case:
    """A clear date under the clouds of another: pixels and classification, and `CLOUD_EDGE` pixels more.

    Args:
        site: All dates.
        at: Index of the clear date.
        source: The clouds, of the same shape.
        name: Name of the case.
    """
    observations = site.observations
    over = binary_dilation(source.pixel_classes == PixelClass.CLOUDY, iterations=CLOUD_EDGE) & np.all(
        source.image > 0, axis=0
    )
    truth = observations.image(at)
    scl: NDArray[np.uint8] | None = None
    if observations.scl is not None and source.scl is not None:
        scl = np.where(over, source.scl, observations.scl[at])
    cloudy = _replace_date(
        site,
        at,
        np.where(over, source.image, truth),
        np.where(over, source.pixel_classes, observations.pixel_classes[at]),
        scl,
    )
    return Case("composited", replace(site, observations=cloudy), at, name, truth, known_truth(site, at))


def mask_fully(site: Site, at: int, name: str) -> Case:
    """A date that shows nothing of the surface; arguments as of `composite_clouds`."""
    observations = site.observations
    truth, pixel_classes = observations.image(at), observations.pixel_classes[at]
    covered = np.where(pixel_classes == PixelClass.NO_DATA, pixel_classes, PixelClass.CLOUDY).astype(np.uint8)
    bright = np.where(truth > 0, np.uint16(_CLOUD_NUMBER), truth)
    masked = _replace_date(site, at, bright, covered)
    return Case("fully masked", replace(site, observations=masked), at, name, truth, known_truth(site, at))


def withhold_truth(site: Site, at: int, truth_at: int, name: str) -> Case:
    """A cloudy date evaluated against another date, which is left out of the input.

    Args:
        site: All dates.
        at: Index of the cloudy date.
        truth_at: Index of the date that stands for the truth.
        name: Name of the case.
    """
    kept = np.delete(np.arange(len(site.observations.days)), truth_at)
    here = int(np.flatnonzero(kept == at)[0])
    truth = site.observations.image(truth_at)
    return Case("real", site.select_dates(kept), here, name, truth, known_truth(site, truth_at))


def draw_cases(
    site: Site,
    kinds: Collection[Kind] = KINDS,
    *,
    dates: int = 8,
    sources: int = 2,
    seed: int = 0,
    min_known: float = 0.5,
) -> Iterator[Case]:
    """Draw cases of a site.

    Args:
        site: All dates.
        kinds: Which kinds.
        dates: Clear dates that are masked at most, and cloudy dates that are evaluated at most.
        sources: Under how many other dates' clouds each clear date is put.
        seed: Decides which dates, where there are more.
        min_known: Share of a date whose truth must be known for the date to be masked.
    """
    rng = np.random.default_rng(seed)
    cloudy = np.mean(site.observations.pixel_classes == PixelClass.CLOUDY, axis=(1, 2))
    known = np.array([known_truth(site, at).mean() for at in range(len(cloudy))])
    targets = _choose(rng, np.flatnonzero(site.trusted & (known >= min_known)), dates)
    lenders = np.flatnonzero((cloudy >= _SOURCE_CLOUDINESS[0]) & (cloudy <= _SOURCE_CLOUDINESS[1]))
    for number, at in enumerate(targets):
        near, here = dates_around(site, at)
        day = format_date(site, at)
        for lender in _choose(rng, lenders[lenders != at], sources):
            if "composited" in kinds:
                source = CloudySource.of_date(site.observations, lender)
                yield composite_clouds(near, here, source, f"{day} under {format_date(site, lender)}")
        if "fully masked" in kinds and number % _FULLY_MASKED_STEP == 0:
            yield mask_fully(near, here, f"{day} fully masked")
    if "real" in kinds:
        yield from _draw_real(rng, site, np.flatnonzero(cloudy >= _REAL_CLOUDINESS), targets, dates)


def _draw_real(
    rng: np.random.Generator, site: Site, cloudy: NDArray[np.intp], clear: NDArray[np.intp], most: int
) -> Iterator[Case]:
    days = site.observations.days
    pairs = [
        (int(at), int(truth_at))
        for at in cloudy
        for truth_at in clear
        if at != truth_at and abs(int(days[at] - days[truth_at])) <= _REAL_DAYS
    ]
    for number in _choose(rng, np.arange(len(pairs)), most):
        at, truth_at = pairs[int(number)]
        near, here = dates_around(site, at)
        other = int(np.flatnonzero(near.observations.days == days[truth_at])[0])
        yield withhold_truth(
            near, here, other, f"{format_date(site, at)} against {format_date(site, truth_at)}"
        )


def _choose(rng: np.random.Generator, found: NDArray[np.intp], most: int) -> NDArray[np.intp]:
    return found if len(found) <= most else np.sort(rng.choice(found, most, replace=False))


def format_date(site: Site, at: int) -> str:
    """A date of a site, such as 2023-08-13."""
    return str(np.datetime64(int(site.observations.days[at]), "D"))


def _replace_date(
    site: Site,
    at: int,
    image: NDArray[np.uint16],
    pixel_classes: NDArray[np.uint8],
    scl: NDArray[np.uint8] | None = None,
) -> Observations:
    """The same dates with one of them changed; without `scl`, the scene classification is dropped."""
    observations = site.observations
    opacities = observations.opacities
    if opacities is not None:
        covered = compute_opacity(pixel_classes, site.buffer).astype(np.float16)
        opacities = _replace_at(opacities, at, np.maximum(opacities[at], covered))
    return replace(
        observations,
        bands={
            name: _replace_at(band, at, one)
            for (name, band), one in zip(observations.bands.items(), image, strict=True)
        },
        pixel_classes=_replace_at(observations.pixel_classes, at, pixel_classes),
        scl=None if scl is None or observations.scl is None else _replace_at(observations.scl, at, scl),
        opacities=opacities,
    )


def _replace_at(series: NDArray[Any], at: int, one: NDArray[Any]) -> NDArray[Any]:
    changed = series.copy()
    changed[at] = one
    return changed

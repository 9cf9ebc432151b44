"""Generators and baselines evaluated side by side: the same cases, the same mask, the same pixels.

Only pixels count that were generated, whose truth is known and which another date shows clear.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from cloudgan.errors import InputError
from cloudgan.evaluation import baselines, metrics
from cloudgan.evaluation.baselines import FilledDate
from cloudgan.evaluation.cases import Case, estimate_radiometry
from cloudgan.geo.grid import Window
from cloudgan.model.generator import Generator
from cloudgan.observations import days_to_clear_date, find_clear, find_masked, find_nearest_clear_dates
from cloudgan.removal.core import DecloudedDate, decloud_dates, default_tiling
from cloudgan.removal.normalisation import Radiometry
from cloudgan.schema import NO_UNCERTAINTY, Provenance
from cloudgan.sentinel2.bands import to_reflectance
from cloudgan.sentinel2.classification import Scl

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]

METRICS = ("psnr", "mae", "ssim", "sam")
"""Those of `metrics.Scores`, in order."""
MIN_PIXELS = 200
"""Pixels that a unit must have to count."""
THICKNESS = {
    Scl.CLOUD_SHADOW: "shadow",
    Scl.THIN_CIRRUS: "thin cirrus",
    Scl.CLOUD_MEDIUM_PROBABILITY: "medium cloud",
    Scl.CLOUD_HIGH_PROBABILITY: "thick cloud",
}
"""Strata of cloud thickness by class of the scene classification, the thinnest first."""
EDGE = "edge"
"""The stratum of what is masked around them."""
_ROWS = 300  # of a large scene that are one unit: a scene of a thousand rows is not one observation
_AGES = (0, 3, 7, 15, 30, 10_000)  # days to the nearest clear date, upper ends included
_DEPTHS = (0, 4, 16, 64, 10_000)  # pixels to the edge of the gap
_THINNING = 7  # every so many pixels are kept to compare uncertainty and error


@dataclass(frozen=True, slots=True)
class Unit:
    """One case, or a block of rows of a large one, with the scores of every method."""

    kind: str
    """See `Case`."""
    region: str
    """See `Site`."""
    group: str
    """See `Case`."""
    case: str
    """Name of the case."""
    rows: int
    """First row of the block."""
    pixels: int
    """Pixels that count."""
    methods: Mapping[str, Mapping[str, float]]
    """By method: psnr, mae, ssim, sam, pc (mean over bands) and pc of each band as `pc 0`..."""

    def as_json(self) -> dict[str, Any]:
        """All fields."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True)
class Stratum:
    """Pixels of one case that have something in common, such as the thickness of the cloud."""

    kind: str
    """See `Case`."""
    group: str
    """See `Case`."""
    division: str
    """By what the pixels are divided: "age", "depth" or "thickness"."""
    label: str
    """Which part of the division."""
    region: str
    """See `Site`."""
    pixels: int
    """How many."""
    errors: Mapping[str, float]
    """Mean absolute error by method, reflectance."""


@dataclass(frozen=True, slots=True)
class UncertaintySample:
    """Predicted uncertainty and real error of some pixels of one case."""

    model: str
    """Name of the generator."""
    group: str
    """See `Case`."""
    uncertainty: Floats
    """Reflectance, shape (n,)."""
    error: Floats
    """Absolute error, mean over bands, same shape."""


@dataclass
class Evaluation:
    """Results of an evaluation, case by case."""

    methods: tuple[str, ...]
    """Names of all methods, baselines first."""
    models: tuple[str, ...]
    """Those that are generators."""
    units: list[Unit] = field(default_factory=list)
    """One per case, or per block of a large case."""
    strata: list[Stratum] = field(default_factory=list)
    """Pixels by thickness of cloud, age and depth, of each case."""
    uncertainties: list[UncertaintySample] = field(default_factory=list)
    """One per generator and case."""


@dataclass(frozen=True, slots=True)
class _Images:
    """What every method makes of the date of a case."""

    by_method: Mapping[str, Floats]
    """Reflectance, shape (y, x, band)."""
    uncertainties: Mapping[str, NDArray[np.uint16]]
    """By generator, as stored, shape (y, x)."""
    evaluated: Mask
    """Pixels that count, shape (y, x)."""


def evaluate(
    cases: Iterable[Case],
    generators: Mapping[str, Generator],
    names: Sequence[str] = baselines.BASELINES,
    *,
    threads: int = 1,
    on_case: Callable[[Case], None] | None = None,
) -> Evaluation:
    """Evaluate generators and baselines.

    Args:
        cases: What to decloud; of the sites' bands, those count that all generators give.
        generators: By name.
        names: Which of `baselines.BASELINES`.
        threads: Tiles that are generated at once.
        on_case: Called after each case.

    Raises:
        InputError: A name is no baseline or stands for two methods, or no band is common to all.
    """
    if clash := set(names) & set(generators):
        raise InputError(f"{min(clash)!r} is a baseline; call the model by the path of its file")
    result = Evaluation((*names, *generators), tuple(generators))
    for case in cases:
        _evaluate_case(case, generators, names, threads, result)
        if on_case:
            on_case(case)
    return result


def decloud_case(
    case: Case, generator: Generator, target: Window | None = None, threads: int = 1
) -> DecloudedDate:
    """The date of a case as a run gives it, in a window; everywhere by default.

    In a run, radiometry is measured over whole MGRS tiles. Here it is measured over the whole site, where it
    is larger than a tile of the generator.
    """
    observations, contract = case.site.observations, generator.contract

    @cache
    def read_radiometry() -> list[Radiometry]:
        return [estimate_radiometry(case.site, contract.input_bands)]

    (date,) = decloud_dates(
        observations,
        target or observations.window,
        generator,
        buffer=case.site.buffer,
        tiling=default_tiling(generator),
        dates=[case.at],
        threads=threads,
        read_radiometry=read_radiometry if min(observations.window.shape) > contract.tile else list,
    )
    return date


def _evaluate_case(
    case: Case, generators: Mapping[str, Generator], names: Sequence[str], threads: int, result: Evaluation
) -> None:
    bands = _find_common_bands(case, generators)
    filled = baselines.fill_date(case.site.observations, case.at, buffer=case.site.buffer, names=names)
    evaluated = case.evaluated & filled.masked & filled.available
    if not evaluated.any():
        return
    images = _collect_images(case, bands, filled, evaluated, generators, threads)
    if images.evaluated.sum() < MIN_PIXELS:
        return
    truth = _select_bands(case.truth, tuple(case.site.observations.bands), bands)
    result.units += _score_units(case, images, truth)
    errors = {name: np.abs(image - truth).mean(axis=-1) for name, image in images.by_method.items()}
    result.strata += _measure_strata(case, images.evaluated, errors)
    for name, numbers in images.uncertainties.items():
        known = images.evaluated & (numbers != NO_UNCERTAINTY)
        thin = slice(None, None, _THINNING)
        uncertainty, error = to_reflectance(numbers[known])[thin], errors[name][known][thin]
        result.uncertainties.append(UncertaintySample(name, case.group, uncertainty, error))


def _find_common_bands(case: Case, generators: Mapping[str, Generator]) -> tuple[str, ...]:
    """Bands of a case that every generator gives, in the order of the site."""
    there = case.site.observations.bands
    given = [generator.contract.output_bands for generator in generators.values()]
    common = tuple(band for band in there if all(band in bands for bands in given))
    if not common:
        raise InputError(
            f"no band of {case.site.region} ({', '.join(there)}) is given by all of {', '.join(generators)}; "
            "evaluate models of other bands apart"
        )
    return common


def _collect_images(
    case: Case,
    bands: Sequence[str],
    filled: FilledDate,
    evaluated: Mask,
    generators: Mapping[str, Generator],
    threads: int,
) -> _Images:
    """The images of all methods; of the generators, where there is something to evaluate."""
    window = case.site.observations.window
    site_bands = tuple(case.site.observations.bands)
    images = {name: _select_bands(image, site_bands, bands) for name, image in filled.images.items()}
    target = _bound(evaluated, window)
    there = target.slices_in(window)
    uncertainties = {}
    for name, generator in generators.items():
        date = decloud_case(case, generator, target, threads)
        evaluated[there] &= date.provenance == Provenance.GENERATED
        images[name] = np.zeros((*window.shape, len(bands)), np.float32)
        images[name][there] = _select_bands(date.bands, generator.contract.output_bands, bands)
        uncertainties[name] = np.full(window.shape, NO_UNCERTAINTY, np.uint16)
        uncertainties[name][there] = date.uncertainty
    return _Images(images, uncertainties, evaluated)


def _select_bands(numbers: NDArray[np.uint16], names: Sequence[str], wanted: Sequence[str]) -> Floats:
    """Reflectance of some bands, shape (y, x, band), from digital numbers of shape (band, y, x)."""
    return np.moveaxis(to_reflectance(numbers[[names.index(name) for name in wanted]]), 0, -1)


def _bound(mask: Mask, window: Window) -> Window:
    """The smallest window that holds all of a mask: what lies around it need not be generated."""
    rows, cols = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    top, left = window.row + int(rows[0]), window.col + int(cols[0])
    return Window.between(top, left, window.row + int(rows[-1]) + 1, window.col + int(cols[-1]) + 1)


def split_rows(height: int) -> list[slice]:
    """Blocks of rows of a scene that are scored on their own."""
    cuts = np.linspace(0, height, max(1, round(height / _ROWS)) + 1).astype(int)
    return [slice(int(low), int(high)) for low, high in pairwise(cuts)]


def _score_units(case: Case, images: _Images, truth: Floats) -> Iterator[Unit]:
    for block in split_rows(len(truth)):
        mask = images.evaluated[block]
        pixels = int(mask.sum())
        if pixels >= MIN_PIXELS:
            methods = {
                name: _score_method(image[block], truth[block], mask)
                for name, image in images.by_method.items()
            }
            yield Unit(case.kind, case.site.region, case.group, case.name, block.start, pixels, methods)


def _score_method(image: Floats, truth: Floats, mask: Mask) -> dict[str, float]:
    # The window of SSIM extends over the mask's edge: outside, all methods show the truth.
    shown = np.where(mask[..., None], image, truth)
    pc = metrics.correlations(shown, truth, mask)
    return (
        metrics.score(shown, truth, mask).as_dict()
        | {"pc": round(float(np.mean(pc)), 4)}
        | {f"pc {band}": round(value, 4) for band, value in enumerate(pc)}
    )


def _measure_strata(case: Case, evaluated: Mask, errors: Mapping[str, Floats]) -> Iterator[Stratum]:
    for division, label, inside in _divide(case):
        mask = evaluated & inside
        if mask.any():
            mean = {name: float(error[mask].mean()) for name, error in errors.items()}
            pixels = int(mask.sum())
            yield Stratum(case.kind, case.group, division, label, case.site.region, pixels, mean)


def _divide(case: Case) -> list[tuple[str, str, Mask]]:
    """All strata of a case: division, label, and pixels of shape (y, x)."""
    observations, at = case.site.observations, case.at
    opacity = observations.opacity(case.site.buffer)
    clear_dates = find_nearest_clear_dates(find_clear(observations.pixel_classes, opacity), at)
    age = np.minimum(
        *(
            days_to_clear_date(dates[0], observations.days, at)
            for dates in (clear_dates.before, clear_dates.after)
        )
    )
    depth = distance_transform_edt(find_masked(observations.pixel_classes[at], opacity[at]))
    strata = [
        (division, f"{low}-{high}" if high < edges[-1] else f"{low}+", (values > low) & (values <= high))
        for division, values, edges in (("age", age, _AGES), ("depth", depth, _DEPTHS))
        for low, high in pairwise(edges)
    ]
    if case.scl is not None:
        strata += [("thickness", label, case.scl == value) for value, label in THICKNESS.items()]
        strata.append(("thickness", EDGE, ~np.isin(case.scl, list(THICKNESS))))
    return strata

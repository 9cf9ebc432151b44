"""Generators and baselines judged side by side: the same cases, the same mask, the same pixels.

Only pixels that were generated, whose truth is known and which another date shows are counted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt
from scipy.stats import spearmanr

from cloudgan import observations
from cloudgan.errors import InputError
from cloudgan.evaluation import baselines, metrics
from cloudgan.evaluation.cases import KINDS, Case, Kind
from cloudgan.geo.grid import Window
from cloudgan.geo.tiling import Tiling
from cloudgan.model.generator import Generator
from cloudgan.removal.core import DecloudedDate, declouded, default_tiling
from cloudgan.removal.normalisation import RadiometricOffsets
from cloudgan.schema import NO_UNCERTAINTY, Provenance
from cloudgan.sentinel2.bands import REFLECTANCE_SCALE
from cloudgan.sentinel2.classification import PixelClass

Mask = NDArray[np.bool_]

METRICS = ("psnr", "mae", "ssim", "sam")
"""Those of `scores.Scores`, in order."""
FEWEST = 200
"""Pixels that a unit must have to be counted."""
_ROWS = 300  # of a large scene that are one unit: a scene of a thousand rows is not one observation
_AGES = (0, 3, 7, 15, 30, 10_000)  # days to the nearest clear look, upper ends included
_DEPTHS = (0, 4, 16, 64, 10_000)  # pixels to the edge of the gap
_THICKNESS = {3: "shadow", 10: "thin cirrus", 8: "medium cloud", 9: "thick cloud"}  # of SCL
_THINNING = 7  # every so many pixels are kept to compare spread and error


@dataclass(frozen=True, slots=True)
class Unit:
    """One case, or a block of rows of a large one, with what every method scored on it."""

    kind: str
    """See `Case`."""
    region: str
    """See `Case`."""
    group: str
    """See `Case`."""
    case: str
    """Name of the case."""
    rows: int
    """First row of the block."""
    pixels: int
    """Pixels judged."""
    methods: Mapping[str, Mapping[str, float]]
    """By method: psnr, mae, ssim, sam, pc (mean over bands) and pc of each band as `pc 0`..."""

    def as_json(self) -> dict[str, Any]:
        """All of it."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass
class Evaluation:
    """What came of an evaluation, case by case."""

    methods: tuple[str, ...]
    """Names of what was judged, baselines first."""
    models: tuple[str, ...]
    """Those that are generators."""
    units: list[Unit] = field(default_factory=list)
    """One a case, or a block of a large case."""
    strata: dict[tuple[str, str, str, str], list[tuple[str, int, dict[str, float]]]] = field(
        default_factory=dict
    )
    """By kind, group, division and class: region, pixels and mean absolute error by method, of each case."""
    uncertainties: dict[str, list[tuple[str, NDArray[np.float32], NDArray[np.float32]]]] = field(
        default_factory=dict
    )
    """By model: group, spread and absolute error of some pixels of each case, in reflectance."""


def evaluate(
    cases: Iterable[Case],
    generators: Mapping[str, Generator],
    names: Sequence[str] = baselines.BASELINES,
    *,
    threads: int = 1,
    on_case: Callable[[Case], None] | None = None,
) -> Evaluation:
    """Judge generators and baselines.

    Args:
        cases: What to decloud.
        generators: By name.
        names: Which of `baselines.BASELINES`.
        threads: Tiles that are generated at once.
        on_case: Called after each case.

    Raises:
        InputError: A name is no baseline, or stands for two methods.
    """
    if clash := set(names) & set(generators):
        raise InputError(f"{min(clash)!r} is a baseline; call the model by the path of its file")
    result = Evaluation((*names, *generators), tuple(generators))
    for case in cases:
        _judge(case, generators, names, threads, result)
        if on_case:
            on_case(case)
    return result


def served(case: Case, generator: Generator, target: Window | None = None, threads: int = 1) -> DecloudedDate:
    """The date of a case as the product gives it, in a window; everywhere by default.

    Of a place larger than a tile the whole tells how the dates differ, as in a run the MGRS tile does.
    """
    window, contract = case.place.scenes.window, generator.contract

    @cache
    def elsewhere() -> list[RadiometricOffsets]:
        offsets = case.place.offsets()
        # The lattice's tiles reach beyond a place.
        return [RadiometricOffsets(offsets.window.buffered(contract.tile), offsets.values)]

    (made,) = declouded(
        case.place.scenes,
        target or window,
        generator,
        buffer=case.place.buffer,
        tiling=default_tiling(generator),
        dates=[case.at],
        threads=threads,
        elsewhere=elsewhere if min(window.shape) > contract.tile else list,
    )
    return made


def _judge(
    case: Case, generators: Mapping[str, Generator], names: Sequence[str], threads: int, result: Evaluation
) -> None:
    free = baselines.filled(case.place.scenes, case.at, buffer=case.place.buffer, names=names)
    judged = case.judged & free.masked & free.seen
    if not judged.any():
        return
    window = case.place.scenes.window
    target = _bounds(judged, window)
    images = {name: _reflectance(image) for name, image in free.images.items()}
    uncertainties = {}
    for name, generator in generators.items():
        made = served(case, generator, target, threads)
        there = target.slices_in(window)
        judged[there] &= made.provenance == Provenance.GENERATED
        images[name] = np.zeros((*window.shape, len(case.truth)), np.float32)
        images[name][there] = _reflectance(made.bands)
        uncertainties[name] = np.full(window.shape, NO_UNCERTAINTY, np.uint16)
        uncertainties[name][there] = made.uncertainty
    if judged.sum() < FEWEST:
        return
    truth = case.reflectance()
    for part in blocks(judged.shape[0]):
        mask = judged[part]
        if mask.sum() >= FEWEST:
            shown = {name: image[part] for name, image in images.items()}
            result.units.append(_unit(case, part.start, shown, truth[part], mask))
    errors = {name: np.abs(image - truth).mean(axis=-1) for name, image in images.items()}
    for division, label, mask in _classes(case, judged):
        key = (case.kind, case.place.group, division, label)
        mean = {name: float(error[mask].mean()) for name, error in errors.items()}
        result.strata.setdefault(key, []).append((case.place.region, int(mask.sum()), mean))
    for name, uncertainty in uncertainties.items():
        told = judged & (uncertainty != NO_UNCERTAINTY)
        pair = (uncertainty[told] * np.float32(REFLECTANCE_SCALE), errors[name][told])
        result.uncertainties.setdefault(name, []).append(
            (case.place.group, *(values[::_THINNING].astype(np.float32) for values in pair))
        )


def _bounds(mask: Mask, window: Window) -> Window:
    """The smallest window that holds all of a mask: what lies around it need not be generated."""
    rows, cols = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    top, left = window.row + int(rows[0]), window.col + int(cols[0])
    return Window.between(top, left, window.row + int(rows[-1]) + 1, window.col + int(cols[-1]) + 1)


def _reflectance(bands: NDArray[np.uint16]) -> NDArray[np.float32]:
    """Digital numbers (band, y, x) as reflectance (y, x, band)."""
    return np.moveaxis(bands, 0, -1) * np.float32(REFLECTANCE_SCALE)


def blocks(height: int) -> list[slice]:
    """Rows of a scene that are scored on their own."""
    cuts = np.linspace(0, height, max(1, round(height / _ROWS)) + 1).astype(int)
    return [slice(int(low), int(high)) for low, high in pairwise(cuts)]


def _unit(
    case: Case,
    row: int,
    images: Mapping[str, NDArray[np.float32]],
    truth: NDArray[np.float32],
    mask: Mask,
) -> Unit:
    methods = {}
    for name, image in images.items():
        # Outside the mask all methods look alike to the window of SSIM.
        shown = np.where(mask[..., None], image, truth)
        pc = metrics.correlations(shown, truth, mask)
        methods[name] = (
            metrics.score(shown, truth, mask).as_dict()
            | {"pc": round(float(np.mean(pc)), 4)}
            | {f"pc {band}": round(value, 4) for band, value in enumerate(pc)}
        )
    return Unit(case.kind, case.place.region, case.place.group, case.name, row, int(mask.sum()), methods)


def _classes(case: Case, judged: Mask) -> Iterable[tuple[str, str, Mask]]:
    """How the judged pixels fall into classes: (division, class, pixels of it), none of them empty."""
    scenes, at = case.place.scenes, case.at
    pixel_classes = scenes.pixel_classes
    clear = np.stack(
        [
            (state == PixelClass.CLEAR) & (observations.compute_opacity(state, case.place.buffer) == 0)
            for state in pixel_classes
        ]
    )
    looks = observations.find_nearest_clear_dates(clear, at)
    age = np.minimum(
        *(observations.days_to_clear_date(look[0], scenes.days, at) for look in (looks.before, looks.after))
    )
    empty = np.isin(pixel_classes[at], (PixelClass.NO_DATA, PixelClass.MISSING))
    depth = distance_transform_edt(
        (observations.compute_opacity(pixel_classes[at], case.place.buffer) > 0) | empty
    )
    found = [
        (division, f"{low}-{high}" if high < edges[-1] else f"{low}+", (values > low) & (values <= high))
        for division, values, edges in (("age", age, _AGES), ("depth", depth, _DEPTHS))
        for low, high in pairwise(edges)
    ]
    if case.scl is not None:
        found += [("thickness", label, case.scl == value) for value, label in _THICKNESS.items()]
        found.append(("thickness", "edge", ~np.isin(case.scl, list(_THICKNESS))))
    return [(division, label, mask) for division, label, inside in found if (mask := judged & inside).any()]


def interval(values: Sequence[float], regions: Sequence[str], draws: int = 2000) -> tuple[float, float]:
    """95 % bootstrap interval of a mean: regions are drawn, then units within each; with one, units alone.

    Args:
        values: One a unit.
        regions: The region of each.
        draws: How often; the draws are the same each time.
    """
    rng = np.random.default_rng(0)
    every = np.asarray(values, np.float64)
    places = [every[np.asarray(regions) == region] for region in dict.fromkeys(regions)]
    means = np.empty(draws)
    for draw in range(draws):
        chosen = rng.integers(len(places), size=len(places))
        parts = [rng.choice(places[place], len(places[place])) for place in chosen]
        means[draw] = np.concatenate(parts).mean()
    low, high = np.quantile(means, [0.025, 0.975])
    return round(float(low), 4), round(float(high), 4)


def summary(evaluation: Evaluation) -> list[dict[str, Any]]:
    """Means over units with their intervals, by kind and group, of all regions and of each.

    Returns:
        Of each: `kind`, `group`, `region` ("all" for all), `regions`, `units`, `pixels`, `methods` (means of
        the metrics by method, and the interval of PSNR and MAE), and `gains` of each model in dB over the
        best of the plain and of the aligned baselines that were judged.
    """
    result = []
    units = evaluation.units
    for kind, group in dict.fromkeys((unit.kind, unit.group) for unit in units):
        same = [unit for unit in units if (unit.kind, unit.group) == (kind, group)]
        regions = sorted({unit.region for unit in same})
        for region in ["all", *regions] if len(regions) > 1 else regions:
            chosen = [unit for unit in same if region in ("all", unit.region)]
            result.append(
                {
                    "kind": kind,
                    "group": group,
                    "region": region,
                    "regions": len({unit.region for unit in chosen}),
                    "units": len(chosen),
                    "pixels": sum(unit.pixels for unit in chosen),
                    "methods": {name: _means(chosen, name) for name in evaluation.methods},
                    "gains": _gains(chosen, evaluation),
                }
            )
    return result


def _means(units: Sequence[Unit], name: str) -> dict[str, Any]:
    metrics = list(units[0].methods[name])
    columns = {metric: [unit.methods[name][metric] for unit in units] for metric in metrics}
    places = [unit.region for unit in units]
    return {metric: round(float(np.mean(values)), 4) for metric, values in columns.items()} | {
        f"{metric} 95 %": interval(columns[metric], places) for metric in ("psnr", "mae")
    }


def _gains(units: Sequence[Unit], evaluation: Evaluation) -> list[dict[str, Any]]:
    found = []
    for model in evaluation.models:
        for against in (baselines.PLAIN, baselines.ALIGNED):
            there = [name for name in against if name in evaluation.methods]
            if not there:
                continue
            best = max(there, key=lambda name: np.mean([unit.methods[name]["psnr"] for unit in units]))
            gains = [unit.methods[model]["psnr"] - unit.methods[best]["psnr"] for unit in units]
            found.append(
                {
                    "model": model,
                    "over": best,
                    "gain dB": round(float(np.mean(gains)), 2),
                    "95 %": interval(gains, [unit.region for unit in units]),
                    "won": sum(gain > 0 for gain in gains),
                    "units": len(gains),
                }
            )
    return found


def by_class(evaluation: Evaluation) -> list[dict[str, Any]]:
    """Mean absolute error by thickness of cloud, age of the nearest look (days), depth in the gap (pixels).

    Returns:
        Of each class: `kind`, `group`, `by`, `class`, `regions`, `pixels`, `mae` by method.
    """
    return [
        {
            "kind": kind,
            "group": group,
            "by": division,
            "class": label,
            "regions": len({region for region, _, _ in parts}),
            "pixels": sum(pixels for _, pixels, _ in parts),
            "mae": {
                name: round(
                    float(
                        np.average(
                            [mean[name] for *_, mean in parts], weights=[count for _, count, _ in parts]
                        )
                    ),
                    5,
                )
                for name in evaluation.methods
            },
        }
        for (kind, group, division, label), parts in sorted(evaluation.strata.items(), key=_in_order)
    ]


def _in_order(entry: tuple[tuple[str, str, str, str], Any]) -> tuple[Any, ...]:
    kind, group, division, label = entry[0]
    classes = [*_THICKNESS.values(), "edge"]
    low = classes.index(label) if division == "thickness" else int(label.rstrip("+").split("-")[0])
    return list(KINDS).index(cast("Kind", kind)), group, division, low


def reliability(uncertainty: NDArray[np.floating[Any]], error: NDArray[np.floating[Any]]) -> dict[str, Any]:
    """How well a spread predicts_uncertainty the error: rank correlation, and mean of both by tenths of the spread.

    Args:
        spread: Of pixels, shape (n,).
        error: Absolute error of the same, shape (n,).
    """
    order = np.argsort(uncertainty, kind="stable")
    tenths = [part for part in np.array_split(order, 10) if len(part)]
    varies = len(uncertainty) > 1 and np.ptp(uncertainty) > 0 and np.ptp(error) > 0
    return {
        "rank correlation": round(float(spearmanr(uncertainty, error).statistic), 3) if varies else None,
        "pixels": len(uncertainty),
        "tenths": [
            {
                "spread": round(float(uncertainty[part].mean()), 5),
                "error": round(float(error[part].mean()), 5),
            }
            for part in tenths
        ],
    }


def spread_by_group(evaluation: Evaluation) -> list[dict[str, Any]]:
    """`reliability` of each model's spread (overlapping tiles), by group, of a sample of the pixels."""
    found = []
    for model, parts in evaluation.uncertainties.items():
        for group in dict.fromkeys(group for group, _, _ in parts):
            uncertainty, error = (
                np.concatenate([part[which] for part in parts if part[0] == group]) for which in (1, 2)
            )
            if len(uncertainty):
                found.append({"model": model, "group": group} | reliability(uncertainty, error))
    return found


def as_json(evaluation: Evaluation) -> dict[str, Any]:
    """All of it: `summary`, `by` (see `by_class`), `spread` (see `spread_by_group`), and `units`."""
    return {
        "summary": summary(evaluation),
        "by": by_class(evaluation),
        "spread": spread_by_group(evaluation),
        "units": [unit.as_json() for unit in evaluation.units],
    }


@dataclass(frozen=True, slots=True)
class Seams:
    """How steep generated ground is where a tile begins or ends, and elsewhere."""

    across: float
    """Mean absolute difference between neighbours on both sides of a tile's border, in reflectance."""
    elsewhere: float
    """The same between all other neighbours."""
    pairs: int
    """Neighbours on both sides of a border."""

    @property
    def ratio(self) -> float:
        """1 where nothing shows."""
        return self.across / self.elsewhere


def seams(bands: NDArray[np.uint16], generated: Mask, window: Window, tiling: Tiling) -> Seams:
    """Compare differences between neighbours across the borders of tiles with all others.

    Args:
        bands: Digital numbers, shape (band, y, x).
        generated: Pixels that count, shape (y, x): wholly generated, not feather.
        window: Where the arrays lie on the lattice.
        tiling: Where the tiles lie.

    Raises:
        InputError: No border lies in generated ground.
    """
    image = bands.astype(np.float64) * REFLECTANCE_SCALE
    found: dict[bool, list[NDArray[np.float64]]] = {True: [], False: []}
    for axis, start in ((0, window.row), (1, window.col)):
        steep = np.abs(np.diff(image, axis=axis + 1)).mean(axis=0)
        both = generated[1:] & generated[:-1] if axis == 0 else generated[:, 1:] & generated[:, :-1]
        # A tile begins at each multiple of the stride, and one ends an overlap further on.
        phase = (start + 1 + np.arange(steep.shape[axis])) % tiling.stride
        border = np.isin(phase, (0, tiling.overlap % tiling.stride))
        borders = np.broadcast_to(border[:, None] if axis == 0 else border, steep.shape)
        for is_border in (True, False):
            found[is_border].append(steep[both & (borders == is_border)])
    across, elsewhere = (np.concatenate(found[is_border]) for is_border in (True, False))
    if not len(across) or not len(elsewhere):
        raise InputError("no border of a tile lies in generated ground; give a larger scene")
    return Seams(float(across.mean()), float(elsewhere.mean()), len(across))

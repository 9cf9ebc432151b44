"""How near declouded pixels come to the truth, against what a user gets for free, on ground never trained on.

    python benchmarks/quality.py DATA [--model temporal] [--json quality.json] [--quick]

Cases, all of held-out regions (`cloudgan.training.series.HELD_OUT`), all through the serving path
(`cloudgan.removal.declouded`):

* transplanted: a clear date under the real clouds of another date (their pixels and classification, and
  two pixels around them which the classification calls clear), judged by the date itself;
* hidden: a clear date wholly hidden, judged by itself;
* real: a cloudy date judged by another date, which is withheld from the context; the truth has another
  radiometry, so this shows no more than that real clouds do no harm.

Every method fills the same mask and is feathered the same way; only generated pixels with a truth and at
least one clear look are scored. Nothing is tuned here.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation, distance_transform_edt, gaussian_filter
from scipy.stats import spearmanr

from cloudgan import clouds
from cloudgan.clouds import State
from cloudgan.generator import Generator
from cloudgan.grid import Window
from cloudgan.removal import NO_SPREAD, Provenance, Scenes, declouded, default_tiling
from cloudgan.training import scores
from cloudgan.training.series import (
    DEPTH,
    HELD_OUT,
    Series,
    Sky,
    believed,
    covered,
    planes,
    read_all,
    skies_of,
    split,
)

METHODS = ("nearest", "linear", "median", "aligned nearest", "aligned linear")
PLAIN = METHODS[:3]
_SIGMA = 20.0  # pixels over which a look is aligned to the target
_CONTEXT_DAYS = 45  # looks further away play no part in a case
_AGES = (0, 3, 7, 15, 30, 10_000)
_DEPTHS = (0, 4, 16, 64, 10_000)


@dataclass(frozen=True, slots=True)
class Case:
    """One date to decloud, and its truth."""

    kind: str
    """transplanted, hidden or real."""
    group: str
    """Pixel size."""
    name: str
    """What it is."""
    series: Series
    """All dates, the one in question with its clouds."""
    at: int
    """Index of the date in question."""
    truth: NDArray[np.float32]
    """Reflectance, shape (height, width, bands)."""
    judged: NDArray[np.bool_]
    """Where the truth is true, shape (height, width)."""


def cases(every: Sequence[Series], quick: bool) -> Iterator[Case]:
    """All cases of the held-out series."""
    for series in every:
        group = "120 m" if series.reach == 1 else "10 m"
        known = believed(series)
        if series.region.startswith("33TWM"):
            yield from _scenes_at_120_m(series, known)
            continue
        if len(series.days) < 3:
            yield from _of_a_pair(series, known)
            continue
        donors = [sky for sky in skies_of([series]) if 0.1 < np.mean(sky.states == State.CLOUDY) < 0.8]
        clear = [
            at
            for at in np.flatnonzero(series.truths)
            if np.mean(series.states[at] != State.CLEAR) < 0.02 and known[at].mean() > 0.95
        ]
        rng = np.random.default_rng(11)
        for number, at in enumerate(clear[:: 3 if series.region.startswith("romania") else 1]):
            near = _near(series, int(at))
            here = int(np.flatnonzero(near == at)[0])
            part = series.only(near)
            if quick and number % 4:
                continue
            for donor in rng.choice(len(donors), 2, replace=False):
                yield _under(part, here, donors[int(donor)], known[at], group, f"{at} under {donor}")
            if number % 3 == 0:
                yield _wholly(part, here, known[at], group)


def _scenes_at_120_m(series: Series, known: NDArray[np.bool_]) -> Iterator[Case]:
    cloudy = [at for at in range(len(series.days)) if np.mean(series.states[at] == State.CLOUDY) > 0.3]
    clear = [at for at in range(len(series.days)) if at not in cloudy]
    for at in clear:
        for donor in cloudy:
            sky = Sky(series.region, series.images[donor], series.states[donor])
            yield _under(
                series, at, sky, known[at], "120 m", f"{_day(series, at)} under {_day(series, donor)}"
            )
        yield _wholly(series, at, known[at], "120 m")
    for at in cloudy:
        for judge in clear:
            if abs(int(series.days[judge] - series.days[at])) <= 3:
                kept = np.array([date for date in range(len(series.days)) if date != judge])
                yield Case(
                    "real", "120 m", f"{_day(series, at)} judged by {_day(series, judge)}",
                    series.only(kept), int(np.flatnonzero(kept == at)[0]), series.images[judge],
                    known[judge] & series.hidden[at],
                )  # fmt: skip


def _of_a_pair(series: Series, known: NDArray[np.bool_]) -> Iterator[Case]:
    """A clear look under the clouds of its own pair, turned around; the other's clear parts are context."""
    sky = Sky(series.region, series.images[1][::-1], series.states[1][::-1])
    if 0.05 < np.mean(sky.states == State.CLOUDY) < 0.9:
        yield _under(series, 0, sky, known[0], "10 m", f"{series.name} under its own clouds")


def _day(series: Series, at: int) -> str:
    return str(np.datetime64(int(series.days[at]), "D"))[5:]


def _near(series: Series, at: int) -> NDArray[np.intp]:
    return np.flatnonzero(np.abs(series.days - series.days[at]) <= _CONTEXT_DAYS)


def _changed(series: Series, at: int, image: NDArray[np.float32], states: NDArray[np.uint8]) -> Series:
    images, every = series.images.copy(), series.states.copy()
    images[at], every[at] = image, states
    return Series.of(series.name, series.region, series.reach, series.days, images, every, series.truths)


def _under(series: Series, at: int, sky: Sky, known: NDArray[np.bool_], group: str, name: str) -> Case:
    changed = _changed(series, at, *covered(series.images[at], series.states[at], sky))
    return Case("transplanted", group, name, changed, at, series.images[at], known & changed.hidden[at])


def _wholly(series: Series, at: int, known: NDArray[np.bool_], group: str) -> Case:
    image = np.where(series.images[at] > 0, np.float32(0.5), 0)
    states = np.where(series.states[at] == State.NO_DATA, State.NO_DATA, State.CLOUDY).astype(np.uint8)
    changed = _changed(series, at, image, states)
    return Case("hidden", group, f"{at} wholly hidden", changed, at, series.images[at], known)


def baselines(case: Case) -> dict[str, NDArray[np.float32]]:
    """What a user gets for free, for every pixel; NaN where there is no look."""
    series, at = case.series, case.at
    cloudy, hidden = series.images[at], series.hidden[at]
    every = planes(cloudy, hidden, series.images, series.clear, series.days, at)
    first = 4 + 4 * DEPTH
    before, age_before, after, age_after = (
        every[..., 4:7],
        every[..., 7:8],
        every[..., first : first + 3],
        every[..., first + 3 : first + 4],
    )
    has_before, has_after = (np.all(look > 0, axis=-1, keepdims=True) for look in (before, after))
    none = np.float32(np.nan)
    sooner = has_before & (~has_after | (age_before <= age_after))
    nearest = np.where(sooner, before, np.where(has_after, after, none))
    share = age_after / np.maximum(age_before + age_after, 1)
    linear = np.where(has_before & has_after, share * before + (1 - share) * after, nearest)
    looks = np.where(
        np.delete(series.clear, at, axis=0)[..., None], np.delete(series.images, at, axis=0), none
    )
    with np.errstate(all="ignore"):
        import warnings

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            median = np.nanmedian(looks, axis=0)
    # Two pixels next to the mask are left out: what haze the mask misses would move the whole look.
    clear = ~binary_dilation(hidden, iterations=2) & np.all(cloudy > 0, axis=-1)
    return {
        "nearest": nearest,
        "linear": linear,
        "median": median.astype(np.float32),
        "aligned nearest": aligned(nearest, cloudy, clear),
        "aligned linear": aligned(linear, cloudy, clear),
    }


def aligned(
    look: NDArray[np.float32], cloudy: NDArray[np.float32], clear: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """A look shifted to the target's clear pixels, smoothly in space; far from any, by their mean."""
    usable = clear & np.isfinite(look[..., 0])
    if not usable.any():
        return look
    gap = np.where(usable[..., None], cloudy - np.nan_to_num(look), 0)
    mean = gap[usable].mean(axis=0)
    weight = gaussian_filter(usable.astype(np.float32), _SIGMA)[..., None]
    total = gaussian_filter(gap, (_SIGMA, _SIGMA, 0))
    shifted: NDArray[np.float32] = look + (total + 0.01 * mean) / (weight + 0.01)
    return np.maximum(shifted, np.float32(1e-4))


def served(case: Case, generator: Generator) -> tuple[NDArray[np.float32], NDArray[np.bool_], NDArray]:
    """What the product gives: reflectance, where it generated, and the spread."""
    series = case.series
    numbers = np.clip(np.rint(series.images * 10_000), 0, 65535).astype(np.uint16)
    window = Window(0, 0, *series.images.shape[1:3])
    scenes = Scenes(window, tuple(np.moveaxis(numbers, -1, 0)), series.states, series.days)
    (made,) = declouded(
        scenes, window, generator, reach=series.reach, tiling=default_tiling(generator), dates=[case.at]
    )
    image = np.moveaxis(made.bands, 0, -1).astype(np.float32) / np.float32(10_000)
    return image, made.provenance == Provenance.GENERATED, made.spread


def blocks(case: Case) -> list[tuple[slice, slice]]:
    """Parts of a scene that are scored on their own: a scene of 915 rows is not one observation."""
    height = case.truth.shape[0]
    cuts = np.linspace(0, height, max(1, round(height / 300)) + 1).astype(int)
    return [(slice(a, b), slice(None)) for a, b in pairwise(cuts)]


def correlation(image: NDArray, truth: NDArray, mask: NDArray) -> float:
    """Pearson's, mean over bands."""
    return float(np.mean([np.corrcoef(image[mask][:, b], truth[mask][:, b])[0, 1] for b in range(3)]))


def evaluate(found: Iterator[Case], generators: dict[str, Generator]) -> dict:
    """Scores of every method on every case."""
    rows: list[dict] = []
    pooled: dict = {
        "age": defaultdict(lambda: defaultdict(list)),
        "depth": defaultdict(lambda: defaultdict(list)),
    }
    spreads: list[tuple[NDArray, NDArray]] = []
    for case in found:
        series, at = case.series, case.at
        cloudy = series.images[at]
        share = clouds.opacity(series.states[at], series.reach)[..., None]
        share = np.where(np.all(cloudy > 0, axis=-1, keepdims=True), share, 1)
        filled = baselines(case)
        judged = case.judged & np.isfinite(filled["linear"][..., 0])
        made = {name: share * image + (1 - share) * cloudy for name, image in filled.items()}
        for name, generator in generators.items():
            image, generated, spread = served(case, generator)
            judged = judged & generated
            made[name] = image
            if name != "documented":
                seen = judged & (spread < NO_SPREAD)
                error = np.abs(image - case.truth).mean(axis=-1)
                spreads.append((spread[seen][::7], error[seen][::7]))
        if judged.sum() < 200:
            continue
        for part in blocks(case):
            mask = judged[part]
            if mask.sum() < 200:
                continue
            row = {"kind": case.kind, "group": case.group, "region": series.region, "case": case.name,
                   "rows": int(part[0].start), "pixels": int(mask.sum()), "methods": {}}  # fmt: skip
            truth = case.truth[part]
            for name, image in made.items():
                shown = np.where(mask[..., None], np.nan_to_num(image[part]), truth)
                row["methods"][name] = scores.score(shown, truth, mask).as_dict() | {
                    "pc": round(correlation(shown, truth, mask), 4)
                }
            rows.append(row)
        if case.kind == "transplanted":
            _pool(pooled, case, made, judged)
        print(f"{case.group} {series.region} {case.kind} {case.name}", file=sys.stderr)
    return {"rows": rows, "by": _pooled(pooled), "spread": _spread(spreads)}


def _pool(pooled: dict, case: Case, made: dict, judged: NDArray) -> None:
    series, at = case.series, case.at
    looks = clouds.nearest_looks(series.clear, at)
    ages = np.minimum(
        *(clouds.days_between(look[0], series.days, at) for look in (looks.before, looks.after))
    )
    depth = distance_transform_edt(series.hidden[at])
    for what, values, edges in (("age", ages, _AGES), ("depth", depth, _DEPTHS)):
        for low, high in pairwise(edges):
            mask = judged & (values > low) & (values <= high)
            if mask.any():
                for name, image in made.items():
                    pooled[what][f"{case.group} {low}-{high}"][name].append(
                        (np.abs(image - case.truth)[mask].mean(), int(mask.sum()))
                    )


def _pooled(pooled: dict) -> dict:
    return {
        what: {
            label: {
                name: round(_weighted(parts), 5) for name, parts in methods.items()
            } | {"pixels": sum(count for _, count in next(iter(methods.values())))}
            for label, methods in labels.items()
        }
        for what, labels in pooled.items()
    }  # fmt: skip


def _weighted(parts: list[tuple[float, int]]) -> float:
    values, weights = np.array(parts).T
    return float(np.average(values, weights=weights))


def _spread(spreads: list[tuple[NDArray, NDArray]]) -> dict:
    if not any(len(spread) for spread, _ in spreads):
        return {}
    spread, error = (np.concatenate(parts) for parts in zip(*spreads, strict=True))
    cuts = np.quantile(spread, [0, 0.25, 0.5, 0.75, 0.9, 1])
    return {
        "rank correlation with the error": round(float(spearmanr(spread, error).statistic), 3),
        "mean spread and mean error by quantile": [
            [round(float(spread[at].mean()) / 1e4, 5), round(float(error[at].mean()), 5)]
            for low, high in pairwise(cuts)
            if (at := (spread >= low) & (spread <= high)).any()
        ],
    }


def summary(rows: list[dict]) -> dict:
    """Means over units (a case, or a block of a large scene), and the model's gain with its interval."""
    result: dict = {}
    for kind, group in sorted({(row["kind"], row["group"]) for row in rows}):
        for region in ["all", *sorted({row["region"] for row in rows if row["group"] == group})]:
            chosen = [
                row for row in rows
                if (row["kind"], row["group"]) == (kind, group) and region in ("all", row["region"])
            ]  # fmt: skip
            if not chosen:
                continue
            names = list(chosen[0]["methods"])
            table = {
                name: {
                    metric: round(float(np.mean([row["methods"][name][metric] for row in chosen])), 4)
                    for metric in ("psnr", "mae", "ssim", "sam", "pc")
                }
                for name in names
            }
            entry = {"units": len(chosen), "pixels": sum(row["pixels"] for row in chosen), "methods": table}
            for model in names:
                if model in METHODS or model == "documented":
                    continue
                for label, against in (("plain", PLAIN), ("aligned", METHODS[3:])):
                    best = max(against, key=lambda name: table[name]["psnr"])
                    gains = np.array(
                        [r["methods"][model]["psnr"] - r["methods"][best]["psnr"] for r in chosen]
                    )
                    rng = np.random.default_rng(0)
                    means = rng.choice(gains, (2000, len(gains))).mean(axis=1)
                    low, high = np.quantile(means, [0.025, 0.975])
                    entry[f"{model} over best {label}"] = {
                        "baseline": best, "gain dB": round(float(gains.mean()), 2),
                        "95 %": [round(float(low), 2), round(float(high), 2)],
                        "won": f"{int((gains > 0).sum())} of {len(gains)}",
                    }  # fmt: skip
            result[f"{kind}, {group}, {region}"] = entry
    return result


def table(entries: dict) -> str:
    """The summary as Markdown."""
    lines = []
    for title, entry in entries.items():
        lines += [
            f"\n### {title} ({entry['units']} units, {entry['pixels']:,} pixels)\n",
            "| method | PSNR dB | MAE | SSIM | SAM deg | PC |",
            "|---|---|---|---|---|---|",
        ]
        for name, row in entry["methods"].items():
            lines.append(
                f"| {name} | {row['psnr']:.2f} | {row['mae']:.4f} | {row['ssim']:.4f} | {row['sam']:.2f} "
                f"| {row['pc']:.3f} |"
            )
        for name, gain in entry.items():
            if isinstance(gain, dict) and "gain dB" in gain:
                lines.append(
                    f"\n{name} ({gain['baseline']}): {gain['gain dB']:+.2f} dB "
                    f"(95 % {gain['95 %'][0]:+.2f} to {gain['95 %'][1]:+.2f}), won {gain['won']}"
                )
    return "\n".join(lines)


def main() -> None:
    """Score the model and the baselines, and print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, help="folder of the sample imagery")
    parser.add_argument("--model", default="temporal", help="name or path of the model (default temporal)")
    parser.add_argument("--json", type=Path, help="write all numbers here")
    parser.add_argument("--hold-out", nargs="+", default=list(HELD_OUT), metavar="REGION")
    parser.add_argument("--quick", action="store_true", help="a quarter of the 10 m cases")
    parser.add_argument(
        "--without-documented", action="store_true", help="leave out the documented generator"
    )
    options = parser.parse_args()
    _, held = split(read_all(options.data), options.hold_out)
    generators = {} if options.without_documented else {"documented": Generator.load("documented")}
    generators["temporal"] = Generator.load(options.model)
    result = evaluate(cases(held, options.quick), generators)
    result["summary"] = summary(result["rows"])
    print(table(result["summary"]))
    print("\nMAE by age of the nearest look and by depth in the gap, transplanted clouds:")
    print(json.dumps(result["by"], indent=1))
    print(json.dumps(result["spread"]))
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()

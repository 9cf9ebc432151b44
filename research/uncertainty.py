"""Which sign of doubt predicts_uncertainty the error of a generated pixel: the store's `spread`, or something better?

    python benchmarks/spread.py DATA [--json spread.json] [--picture reliability.png] [--quick]

On the transplanted clouds of `benchmarks/quality.py`, rank correlation of each sign with the absolute error
of generated pixels (mean over bands):

* spread: largest minus smallest prediction of the overlapping tiles, as stored; where two overlap;
* turned 2, 4, 8: standard deviation over as many symmetries of the tile (each another run of the network);
* depth: pixels to the edge of the gap; age: days to the nearest clear look;
* looks apart: difference of the nearest clear looks before and after; where there are both;
* moved: difference of the prediction and the line between the looks;
* fitted: a linear fit of the logarithms of depth, age, looks apart and moved to that of the error, learned on
  the other regions; "fitted + turned 8" likewise with that sign.

"pooled" ranks all pixels of a region, "within" each case on its own, then takes the mean: where in a date the
errors lie, rather than which dates are hard.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
from quality import cases
from scipy.ndimage import distance_transform_edt
from scipy.stats import spearmanr

from cloudgan import observations
from cloudgan.evaluation import baselines
from cloudgan.evaluation.cases import Case
from cloudgan.evaluation.scoring import reliability, served
from cloudgan.model.generator import Generator
from cloudgan.schema import NO_UNCERTAINTY, Provenance
from cloudgan.sentinel2.bands import REFLECTANCE_SCALE
from cloudgan.sentinel2.classification import PixelClass
from cloudgan.training.data.places import place_of
from cloudgan.training.data.records import read_all
from cloudgan.training.data.series import split

REGIONS = ("33TWM-east", "flanders-b", "romania-east")
MIDDLING = 0.02  # difference of two looks where there is but one
FITTED = ("depth", "age", "looks apart", "moved")
Signs = dict[str, np.ndarray]


class Turned:
    """A generator that sees its tiles turned, and turns its predictions back."""

    def __init__(self, generator: Generator, quarters: int, flip: bool) -> None:
        self.inner, self.quarters, self.flip = generator, quarters, flip
        self.contract, self.batch = generator.contract, generator.batch

    def __call__(self, channels: np.ndarray) -> np.ndarray:
        """See `Generator`."""
        seen = np.rot90(channels[..., ::-1] if self.flip else channels, self.quarters, (2, 3))
        made = np.rot90(self.inner(np.ascontiguousarray(seen)), -self.quarters, (2, 3))
        return made[..., ::-1] if self.flip else made


SYMMETRIES = [(0, False), (0, True), (2, True), (2, False), (1, False), (3, False), (1, True), (3, True)]


def signs(case: Case, generator: Generator) -> Signs | None:
    """Every sign and the error, of the judged pixels of a case; NaN where a sign says nothing."""
    scenes, at, buffer = case.place.scenes, case.at, case.place.buffer
    free = baselines.filled(scenes, at, buffer=buffer, names=["linear"])
    made = [served(case, Turned(generator, *symmetry)) for symmetry in SYMMETRIES]
    first = made[0]
    judged = case.judged & free.seen & (first.provenance == Provenance.GENERATED)
    if judged.sum() < 200:
        return None
    numbers = np.stack([one.bands[:, judged] for one in made]).astype(np.float32) * REFLECTANCE_SCALE
    truth = case.truth[:, judged] * REFLECTANCE_SCALE
    uncertainty = first.uncertainty[judged].astype(np.float32)
    opacity = np.stack(
        [observations.compute_opacity(pixel_classes, buffer) for pixel_classes in scenes.pixel_classes]
    )
    looks = observations.find_nearest_clear_dates(
        (scenes.pixel_classes == PixelClass.CLEAR) & (opacity == 0), at
    )
    both = (looks.before[0] >= 0) & (looks.after[0] >= 0)
    before, after = (
        np.stack([np.take_along_axis(band, np.maximum(look[0], 0)[None], axis=0)[0] for band in scenes.bands])
        for look in (looks.before.astype(np.intp), looks.after.astype(np.intp))
    )
    apart = np.abs(before.astype(np.float32) - after).mean(axis=0) * REFLECTANCE_SCALE
    ages = [observations.days_to_clear_date(look[0], scenes.days, at) for look in (looks.before, looks.after)]
    line = free.images["linear"][:, judged] * np.float32(REFLECTANCE_SCALE)
    return {
        "error": np.abs(numbers[0] - truth).mean(axis=0),
        "spread": np.where(uncertainty == NO_UNCERTAINTY, np.nan, uncertainty * REFLECTANCE_SCALE),
        "turned 2": numbers[:2].std(axis=0).mean(axis=0),
        "turned 4": numbers[:4].std(axis=0).mean(axis=0),
        "turned 8": numbers.std(axis=0).mean(axis=0),
        "depth": distance_transform_edt(free.masked)[judged],
        "age": np.minimum(*ages)[judged].astype(np.float32),
        "looks apart": np.where(both, apart, np.nan)[judged],
        "moved": np.abs(numbers[0] - line).mean(axis=0),
    }


def features(found: Signs, names: tuple[str, ...]) -> np.ndarray:
    """Logarithms of signs and a constant, (pixels, names + 1); middling where one says nothing."""
    columns = [np.log(np.where(np.isnan(found[name]), MIDDLING, found[name]) + 1e-3) for name in names]
    return np.stack([*columns, np.ones_like(columns[0])], axis=-1)


def fitted(by_region: dict[str, list[Signs]], names: tuple[str, ...], label: str) -> None:
    """Add to every case the error foretold by a fit on the other regions."""
    for region, every in by_region.items():
        others = [found for other, cases in by_region.items() if other != region for found in cases]
        weight = np.concatenate([np.full(len(one["error"]), len(one["error"]) ** -0.5) for one in others])
        x = np.concatenate([features(one, names) for one in others]) * weight[:, None]
        y = np.concatenate([np.log(one["error"] + 1e-3) for one in others]) * weight
        slopes = np.linalg.lstsq(x, y, rcond=None)[0]
        for one in every:
            one[label] = np.exp(features(one, names) @ slopes)


def ranked(sign: np.ndarray, error: np.ndarray) -> float:
    """Spearman's rank correlation where the sign says something; NaN where it is constant."""
    told = ~np.isnan(sign)
    if told.sum() < 50 or np.ptp(sign[told]) == 0:
        return float("nan")
    return float(spearmanr(sign[told], error[told]).statistic)


def table(by_region: dict[str, list[Signs]]) -> dict:
    """Rank correlations and reliability of every sign by region."""
    result: dict = {}
    for region, every in by_region.items():
        names = [name for name in every[0] if name != "error"]
        pooled = {name: np.concatenate([one[name] for one in every]) for name in (*names, "error")}
        result[region] = {"cases": len(every), "pixels": len(pooled["error"]), "signs": {}}
        for name in names:
            told = ~np.isnan(pooled[name])
            within = [ranked(one[name], one["error"]) for one in every]
            result[region]["signs"][name] = {
                "pooled": round(ranked(pooled[name], pooled["error"]), 3),
                "within": round(float(np.nanmean(within)), 3) if np.isfinite(within).any() else None,
                "share": round(float(told.mean()), 3),
                "reliability": reliability(pooled[name][told], pooled["error"][told])["tenths"],
            }
    return result


def picture(result: dict, path: Path, names: tuple[str, ...] = ("spread", "turned 8", "fitted")) -> None:
    """Reliability diagrams: mean error of each tenth of a sign, a panel a region."""
    from matplotlib.figure import Figure

    figure = Figure((9, 2.9), dpi=100, layout="constrained")
    panels = figure.subplots(1, len(result), squeeze=False)[0]
    for panel, (region, found) in zip(panels, result.items(), strict=True):
        for name in names:
            tenths = found["signs"][name]["reliability"]
            x = [part["spread"] for part in tenths]
            panel.plot(x, [part["error"] for part in tenths], "o-", markersize=3, linewidth=1, label=name)
        panel.axline((0, 0), slope=1, color="grey", linewidth=0.6, linestyle=":")
        panel.set(title=f"{region}, {found['pixels']:,} pixels", xlabel="sign, reflectance", xlim=(0, None))
        panel.set_ylim(0, None)
        panel.title.set_fontsize(9)
    panels[0].set_ylabel("mean absolute error")
    panels[0].legend(fontsize=8, frameon=False)
    figure.savefig(path)


def main() -> None:
    """Measure, print the table, and draw."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, help="folder of the sample imagery")
    parser.add_argument("--model", default="temporal", help="name or path of the model (default temporal)")
    parser.add_argument("--json", type=Path, help="write all numbers here")
    parser.add_argument("--picture", type=Path, help="draw reliability diagrams here")
    parser.add_argument("--quick", action="store_true", help="a quarter of the 10 m cases")
    options = parser.parse_args()
    generator = Generator.load(options.model)
    _, held = split(read_all(options.data), REGIONS)
    by_region: dict[str, list[Signs]] = defaultdict(list)
    for case in cases([place_of(series) for series in held], options.quick):
        if case.kind == "composited" and (found := signs(case, generator)):
            by_region[case.place.region].append(found)
            print(case.place.region, case.name, file=sys.stderr)
    fitted(by_region, FITTED, "fitted")
    fitted(by_region, (*FITTED, "turned 8"), "fitted + turned 8")
    result = table(by_region)
    print(f"| sign | {' | '.join(f'{region} pooled | within' for region in result)} |")
    print("|---" * (1 + 2 * len(result)) + "|")
    for name in next(iter(result.values()))["signs"]:
        cells = [found["signs"][name] for found in result.values()]
        print(f"| {name} | " + " | ".join("{pooled} | {within}".format(**cell) for cell in cells) + " |")
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")
    if options.picture:
        picture(result, options.picture)


if __name__ == "__main__":
    main()

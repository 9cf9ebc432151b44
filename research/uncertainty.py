"""Which indicator predicts the error of a generated pixel best: the stored uncertainty, or another?

    python research/uncertainty.py DATA [--json uncertainty.json] [--picture reliability.png] [--quick]

On the composited cases of `research/regions.py`, rank correlation of each indicator with the absolute error
of generated pixels (mean over bands):

* uncertainty: as stored;
* turned 2, 4, 8: standard deviation over as many symmetries of the tile (each another run of the network);
* depth: pixels to the edge of the gap; age: days to the nearest clear date;
* difference: between the nearest clear dates before and after, where there are both;
* departure: of the prediction from the linear interpolation between these;
* fitted: a linear fit of the logarithms of depth, age, difference and departure to that of the error, learned
  on the other regions; "fitted + turned 8" likewise with that indicator.

"pooled" ranks all pixels of a region, "within" each case on its own, then takes the mean. The second says
how well errors are located within a date, and not which dates are difficult.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
from regions import draw_cases, read_regions
from scipy.ndimage import distance_transform_edt
from scipy.stats import spearmanr

from cloudgan.evaluation import baselines
from cloudgan.evaluation.cases import Case
from cloudgan.evaluation.scoring import decloud_case
from cloudgan.evaluation.summary import reliability
from cloudgan.model.generator import Generator
from cloudgan.observations import days_to_clear_date, find_clear, find_nearest_clear_dates
from cloudgan.schema import NO_UNCERTAINTY, Provenance
from cloudgan.sentinel2.bands import REFLECTANCE_SCALE, to_reflectance

REGIONS = ("33TWM-east", "flanders-b", "romania-east")
MIDDLING = 0.02  # difference between two clear dates where there is one only
FITTED = ("depth", "age", "difference", "departure")
Indicators = dict[str, np.ndarray]


class Turned:
    """A generator that turns its tiles, and turns its predictions back."""

    def __init__(self, generator: Generator, quarters: int, flip: bool) -> None:
        self.inner, self.quarters, self.flip = generator, quarters, flip
        self.contract, self.batch = generator.contract, generator.batch

    def __call__(self, channels: np.ndarray) -> np.ndarray:
        """See `Generator`."""
        turned = np.rot90(channels[..., ::-1] if self.flip else channels, self.quarters, (2, 3))
        made = np.rot90(self.inner(np.ascontiguousarray(turned)), -self.quarters, (2, 3))
        return made[..., ::-1] if self.flip else made


SYMMETRIES = [(0, False), (0, True), (2, True), (2, False), (1, False), (3, False), (1, True), (3, True)]


def measure_indicators(case: Case, generator: Generator) -> Indicators | None:
    """Every indicator and the error, of the evaluated pixels of a case; NaN where an indicator is unknown."""
    observations, at, buffer = case.site.observations, case.at, case.site.buffer
    filled = baselines.fill_date(observations, at, buffer=buffer, names=["linear"])
    made = [decloud_case(case, Turned(generator, *symmetry)) for symmetry in SYMMETRIES]
    first = made[0]
    evaluated = case.evaluated & filled.available & (first.provenance == Provenance.GENERATED)
    if evaluated.sum() < 200:
        return None
    numbers = np.stack([one.bands[:, evaluated] for one in made]).astype(np.float32) * REFLECTANCE_SCALE
    truth = case.truth[:, evaluated] * REFLECTANCE_SCALE
    uncertainty = first.uncertainty[evaluated].astype(np.float32)
    clear = find_clear(observations.pixel_classes, observations.opacity(buffer))
    dates = find_nearest_clear_dates(clear, at)
    both = (dates.before[0] >= 0) & (dates.after[0] >= 0)
    before, after = (
        np.stack(
            [
                np.take_along_axis(band, np.maximum(side, 0).astype(np.intp), axis=0)[0]
                for band in observations.bands.values()
            ]
        )
        for side in (dates.before, dates.after)
    )
    apart = np.abs(before.astype(np.float32) - after).mean(axis=0) * REFLECTANCE_SCALE
    ages = [days_to_clear_date(side[0], observations.days, at) for side in (dates.before, dates.after)]
    linear = to_reflectance(filled.images["linear"][:, evaluated])
    return {
        "error": np.abs(numbers[0] - truth).mean(axis=0),
        "uncertainty": np.where(uncertainty == NO_UNCERTAINTY, np.nan, uncertainty * REFLECTANCE_SCALE),
        "turned 2": numbers[:2].std(axis=0).mean(axis=0),
        "turned 4": numbers[:4].std(axis=0).mean(axis=0),
        "turned 8": numbers.std(axis=0).mean(axis=0),
        "depth": distance_transform_edt(filled.masked)[evaluated],
        "age": np.minimum(*ages)[evaluated].astype(np.float32),
        "difference": np.where(both, apart, np.nan)[evaluated],
        "departure": np.abs(numbers[0] - linear).mean(axis=0),
    }


def features(found: Indicators, names: tuple[str, ...]) -> np.ndarray:
    """Logarithms of indicators and a constant, (pixels, names + 1); middling where one is unknown."""
    columns = [np.log(np.where(np.isnan(found[name]), MIDDLING, found[name]) + 1e-3) for name in names]
    return np.stack([*columns, np.ones_like(columns[0])], axis=-1)


def fit_indicators(by_region: dict[str, list[Indicators]], names: tuple[str, ...], label: str) -> None:
    """Add to every case the error that a fit on the other regions predicts."""
    for region, every in by_region.items():
        others = [found for other, cases in by_region.items() if other != region for found in cases]
        weight = np.concatenate([np.full(len(one["error"]), len(one["error"]) ** -0.5) for one in others])
        x = np.concatenate([features(one, names) for one in others]) * weight[:, None]
        y = np.concatenate([np.log(one["error"] + 1e-3) for one in others]) * weight
        slopes = np.linalg.lstsq(x, y, rcond=None)[0]
        for one in every:
            one[label] = np.exp(features(one, names) @ slopes)


def correlate_ranks(indicator: np.ndarray, error: np.ndarray) -> float:
    """Spearman's rank correlation where the indicator is known; NaN where it is constant."""
    known = ~np.isnan(indicator)
    if known.sum() < 50 or np.ptp(indicator[known]) == 0:
        return float("nan")
    return float(spearmanr(indicator[known], error[known]).statistic)


def table(by_region: dict[str, list[Indicators]]) -> dict:
    """Rank correlations and reliability of every indicator by region."""
    result: dict = {}
    for region, every in by_region.items():
        names = [name for name in every[0] if name != "error"]
        pooled = {name: np.concatenate([one[name] for one in every]) for name in (*names, "error")}
        result[region] = {"cases": len(every), "pixels": len(pooled["error"]), "indicators": {}}
        for name in names:
            known = ~np.isnan(pooled[name])
            within = [correlate_ranks(one[name], one["error"]) for one in every]
            result[region]["indicators"][name] = {
                "pooled": round(correlate_ranks(pooled[name], pooled["error"]), 3),
                "within": round(float(np.nanmean(within)), 3) if np.isfinite(within).any() else None,
                "share": round(float(known.mean()), 3),
                "reliability": reliability(pooled[name][known], pooled["error"][known])["tenths"],
            }
    return result


def picture(result: dict, path: Path, names: tuple[str, ...] = ("uncertainty", "turned 8", "fitted")) -> None:
    """Reliability diagrams: mean error of each tenth of an indicator, one panel per region."""
    from matplotlib.figure import Figure

    figure = Figure((9, 2.9), dpi=100, layout="constrained")
    panels = figure.subplots(1, len(result), squeeze=False)[0]
    for panel, (region, found) in zip(panels, result.items(), strict=True):
        for name in names:
            tenths = found["indicators"][name]["reliability"]
            x = [part["uncertainty"] for part in tenths]
            panel.plot(x, [part["error"] for part in tenths], "o-", markersize=3, linewidth=1, label=name)
        panel.axline((0, 0), slope=1, color="grey", linewidth=0.6, linestyle=":")
        panel.set(
            title=f"{region}, {found['pixels']:,} pixels", xlabel="indicator, reflectance", xlim=(0, None)
        )
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
    by_region: dict[str, list[Indicators]] = defaultdict(list)
    sites = read_regions(options.data, REGIONS)
    for case in draw_cases(sites, sites, quick=options.quick):
        if case.kind == "composited" and (found := measure_indicators(case, generator)):
            by_region[case.site.region].append(found)
            print(case.site.region, case.name, file=sys.stderr)
    fit_indicators(by_region, FITTED, "fitted")
    fit_indicators(by_region, (*FITTED, "turned 8"), "fitted + turned 8")
    result = table(by_region)
    print(f"| indicator | {' | '.join(f'{region} pooled | within' for region in result)} |")
    print("|---" * (1 + 2 * len(result)) + "|")
    for name in next(iter(result.values()))["indicators"]:
        cells = [found["indicators"][name] for found in result.values()]
        print(f"| {name} | " + " | ".join("{pooled} | {within}".format(**cell) for cell in cells) + " |")
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")
    if options.picture:
        picture(result, options.picture)


if __name__ == "__main__":
    main()

"""How near declouded pixels come to the truth, against the baselines, on regions held out of training.

    python research/quality.py DATA [--model temporal] [--json quality.json] [--publish PAGE] [--quick]

The experiment behind `research/quality.md`: all regions held out of training, every method as a run applies
it (`cloudgan.evaluation.scoring`), on the kinds of cases of `cloudgan.evaluation.cases`. At 120 m every clear
date is put under the clouds of every cloudy one. At 10 m every clear date (of the forest every third) is put
under those of two others. Nothing is tuned here.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from cloudgan.evaluation.baselines import ALIGNED, PLAIN
from cloudgan.evaluation.cases import (
    Case,
    CloudySource,
    composite_clouds,
    dates_around,
    format_date,
    known_truth,
    mask_fully,
    withhold_truth,
)
from cloudgan.evaluation.scoring import evaluate
from cloudgan.evaluation.summary import as_json
from cloudgan.model.generator import Generator
from cloudgan.observations import Site
from cloudgan.sentinel2.classification import PixelClass
from cloudgan.training.data.paths import read_sites_of

BANDS = ("green", "red", "nir")
HELD_OUT = ("33TWM-east", "flanders-b", "romania-east", "summer_102")
RECIPE = Path(__file__).parents[1] / "pipelines" / "train-temporal.toml"


def read_regions(data: Path, regions: Sequence[str] = HELD_OUT) -> list[Site]:
    """The sites of some regions of the sample imagery, as the recipe of the temporal generator reads them."""
    return [site for site in read_sites_of(RECIPE, BANDS, data) if site.region in regions]


def draw_cases(sites: Sequence[Site], quick: bool) -> Iterator[Case]:
    """All cases of some sites."""
    for site in sites:
        if site.region.startswith("33TWM"):
            yield from _at_120_m(site)
        elif len(site.observations.days) < 3:
            yield from _of_a_pair(site)
        else:
            yield from _of_a_series(site, quick)


def _cloudy(site: Site) -> np.ndarray:
    return np.mean(site.observations.pixel_classes == PixelClass.CLOUDY, axis=(1, 2))


def _of_a_series(site: Site, quick: bool) -> Iterator[Case]:
    empty = np.mean(site.observations.pixel_classes == PixelClass.NO_DATA, axis=(1, 2))
    lenders = np.flatnonzero((_cloudy(site) > 0.1) & (_cloudy(site) < 0.8) & (empty < 0.3))
    unclear = np.mean(site.observations.pixel_classes != PixelClass.CLEAR, axis=(1, 2))
    clear = [
        int(at)
        for at in np.flatnonzero(site.trusted & (unclear < 0.02))
        if known_truth(site, int(at)).mean() > 0.95
    ]
    rng = np.random.default_rng(11)
    for number, at in enumerate(clear[:: 3 if site.region.startswith("romania") else 1]):
        if quick and number % 4:
            continue
        near, here = dates_around(site, at)
        for lender in rng.choice(len(lenders), 2, replace=False):
            name = f"{format_date(site, at)} under {format_date(site, lenders[lender])}"
            source = CloudySource.of_date(site.observations, lenders[lender])
            yield composite_clouds(near, here, source, name)
        if number % 3 == 0:
            yield mask_fully(near, here, f"{format_date(site, at)} fully masked")


def _at_120_m(site: Site) -> Iterator[Case]:
    covered = _cloudy(site) > 0.3
    cloudy, clear = np.flatnonzero(covered), np.flatnonzero(~covered)
    for at in clear:
        for lender in cloudy:
            source = CloudySource.of_date(site.observations, lender)
            name = f"{format_date(site, at)} under {format_date(site, lender)}"
            yield composite_clouds(site, at, source, name)
        yield mask_fully(site, at, f"{format_date(site, at)} fully masked")
    for at in cloudy:
        for truth_at in clear:
            if abs(int(site.observations.days[truth_at] - site.observations.days[at])) <= 3:
                name = f"{format_date(site, at)} against {format_date(site, truth_at)}"
                yield withhold_truth(site, at, truth_at, name)


def _of_a_pair(site: Site) -> Iterator[Case]:
    """A clear image under the flipped clouds of its own pair, with the clear parts of the other as input."""
    source = CloudySource.of_date(site.observations, 1)
    flipped = CloudySource(source.image[:, ::-1], source.pixel_classes[::-1])
    if 0.05 < np.mean(flipped.pixel_classes == PixelClass.CLOUDY) < 0.9:
        yield composite_clouds(site, 0, flipped, "under its own clouds")


def report(result: dict) -> str:
    """All results as Markdown."""
    lines = [
        "Gain in PSNR, mean over units (95 % interval):\n",
        "| cases | over the best plain baseline | over the best aligned baseline |",
        "|---|---|---|",
    ]
    order = sorted(result["summary"], key=lambda e: (e["kind"] != "composited", e["kind"], e["group"]))
    for entry in order:
        cells = [_gain(gain) for gain in entry["gains"] if gain["model"] == "temporal"]
        lines.append(f"| {entry['kind']}, {entry['group']}, {entry['region']} | {' | '.join(cells)} |")
    for entry in order:
        if entry["region"] == "all" or (entry["regions"] == 1 and entry["group"] == "120 m"):
            lines += _scores(entry)
    for by in sorted({row["by"] for row in result["by"]}):
        lines += _classes(by, [row for row in result["by"] if row["by"] == by])
    return "\n".join(lines) + "\n"


def _gain(gain: dict) -> str:
    low, high = gain["95 %"]
    return (
        f"{gain['gain dB']:+.2f} dB ({low:+.2f} to {high:+.2f}) over {gain['over']}, "
        f"won {gain['won']} of {gain['units']}"
    )


def _scores(entry: dict) -> list[str]:
    bests = {
        metric: best(row[metric] for row in entry["methods"].values())
        for metric, best in (("psnr", max), ("mae", min), ("ssim", max), ("sam", min), ("pc", max))
    }
    digits = {"psnr": 2, "mae": 4, "ssim": 4, "sam": 2, "pc": 3}
    lines = [
        f"\n**{entry['kind']}, {entry['group']}** ({entry['units']} units of {entry['regions']} regions, "
        f"{entry['pixels']:,} pixels)\n",
        "| method | PSNR dB | MAE | SSIM | SAM deg | PC | PC green | PC red | PC nir |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, row in entry["methods"].items():
        cells = [
            f"**{row[metric]:.{places}f}**" if row[metric] == bests[metric] else f"{row[metric]:.{places}f}"
            for metric, places in digits.items()
        ]
        bands = [f"{row[f'pc {band}']:.3f}" for band in range(3)]
        lines.append(f"| {name} | {' | '.join([*cells, *bands])} |")
    return lines


def _classes(by: str, rows: Sequence[dict]) -> list[str]:
    names = list(rows[0]["mae"])
    lines = [
        f"\nMean absolute error by {by}:\n",
        f"| {by} | pixels | {' | '.join(names)} |",
        "|---" * (len(names) + 2) + "|",
    ]
    for row in rows:
        best = min(row["mae"].values())
        cells = [f"**{mae:.4f}**" if mae == best else f"{mae:.4f}" for mae in row["mae"].values()]
        where = f"{row['kind']}, {row['group']}, {row['class']}"
        lines.append(f"| {where} | {row['pixels']:,} | {' | '.join(cells)} |")
    return lines


def publish(text: str, page: Path) -> None:
    """Put the results between the marks of a page."""
    before, mark, rest = page.read_text().partition("<!-- results -->\n")
    _, end, after = rest.partition("<!-- end -->")
    if not (mark and end):
        raise SystemExit(f"{page} has no <!-- results --> and <!-- end --> to write between")
    page.write_text(f"{before}{mark}\n{text}\n{end}{after}")


def main() -> None:
    """Score the model and the baselines, and print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, help="folder of the sample imagery")
    parser.add_argument("--model", default="temporal", help="name or path of the model (default temporal)")
    parser.add_argument("--json", type=Path, help="write all numbers here")
    parser.add_argument("--publish", type=Path, metavar="PAGE", help="write the tables into this page")
    parser.add_argument("--hold-out", nargs="+", default=list(HELD_OUT), metavar="REGION")
    parser.add_argument("--quick", action="store_true", help="a quarter of the 10 m cases")
    parser.add_argument(
        "--without-documented", action="store_true", help="leave out the documented generator"
    )
    options = parser.parse_args()
    generators = {} if options.without_documented else {"documented": Generator.load("documented")}
    generators["temporal"] = Generator.load(options.model)
    found = evaluate(
        draw_cases(read_regions(options.data, options.hold_out), options.quick),
        generators,
        (*PLAIN, *ALIGNED),
        on_case=lambda case: print(case.group, case.site.region, case.kind, case.name, file=sys.stderr),
    )
    result = as_json(found)
    text = report(result)
    print(text)
    if options.publish:
        publish(text, options.publish)
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()

"""How near declouded pixels come to the truth, against what a user gets for free, on ground never trained on.

    python benchmarks/quality.py DATA [--model temporal] [--json quality.json] [--publish PAGE] [--quick]

The experiment behind `docs/quality.md`: all regions held out of training (`cloudgan.training.data.series`), every
method through the serving path (`cloudgan.evaluation.scoring`; `cloudgan.evaluation.cases` says which kinds of cases there are).
At 120 m every clear date goes under every cloudy one; at 10 m every clear date (of the forest every third)
goes under two others. Nothing is tuned here.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from cloudgan.evaluation import scoring
from cloudgan.evaluation.baselines import ALIGNED, PLAIN
from cloudgan.evaluation.cases import Case, CloudField, composited, masked, real
from cloudgan.model.generator import Generator
from cloudgan.sentinel2.classification import PixelClass
from cloudgan.training.data.places import Place, place_of
from cloudgan.training.data.records import read_all
from cloudgan.training.data.series import HELD_OUT, split


def cases(places: Sequence[Place], quick: bool) -> Iterator[Case]:
    """All cases of the held-out places."""
    for place in places:
        if place.region.startswith("33TWM"):
            yield from _at_120_m(place)
        elif len(place.scenes.days) < 3:
            yield from _of_a_pair(place)
        else:
            yield from _of_a_series(place, quick)


def _cloudy(place: Place) -> np.ndarray:
    return np.mean(place.scenes.pixel_classes == PixelClass.CLOUDY, axis=(1, 2))


def _of_a_series(place: Place, quick: bool) -> Iterator[Case]:
    empty = np.mean(place.scenes.pixel_classes == PixelClass.NO_DATA, axis=(1, 2))
    lenders = np.flatnonzero((_cloudy(place) > 0.1) & (_cloudy(place) < 0.8) & (empty < 0.3))
    unclear = np.mean(place.scenes.pixel_classes != PixelClass.CLEAR, axis=(1, 2))
    clear = [
        int(at)
        for at in np.flatnonzero(place.truths & (unclear < 0.02))
        if place.known(int(at)).mean() > 0.95
    ]
    rng = np.random.default_rng(11)
    for number, at in enumerate(clear[:: 3 if place.region.startswith("romania") else 1]):
        if quick and number % 4:
            continue
        near, here = place.around(at)
        for lender in rng.choice(len(lenders), 2, replace=False):
            name = f"{place.day(at)} under {place.day(lenders[lender])}"
            yield composited(near, here, place.cloud_field(lenders[lender]), name)
        if number % 3 == 0:
            yield masked(near, here, f"{place.day(at)} wholly hidden")


def _at_120_m(place: Place) -> Iterator[Case]:
    covered = _cloudy(place) > 0.3
    cloudy, clear = np.flatnonzero(covered), np.flatnonzero(~covered)
    for at in clear:
        for lender in cloudy:
            yield composited(
                place, at, place.cloud_field(lender), f"{place.day(at)} under {place.day(lender)}"
            )
        yield masked(place, at, f"{place.day(at)} wholly hidden")
    for at in cloudy:
        for judge in clear:
            if abs(int(place.scenes.days[judge] - place.scenes.days[at])) <= 3:
                yield real(place, at, judge, f"{place.day(at)} judged by {place.day(judge)}")


def _of_a_pair(place: Place) -> Iterator[Case]:
    """A clear look under the clouds of its own pair, turned around; the other's clear parts are context."""
    cloud_field = place.cloud_field(1)
    turned = CloudField(cloud_field.bands[:, ::-1], cloud_field.pixel_classes[::-1])
    if 0.05 < np.mean(turned.pixel_classes == PixelClass.CLOUDY) < 0.9:
        yield composited(place, 0, turned, "under its own clouds")


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
    _, held = split(read_all(options.data), options.hold_out)
    generators = {} if options.without_documented else {"documented": Generator.load("documented")}
    generators["temporal"] = Generator.load(options.model)
    found = scoring.evaluate(
        cases([place_of(series) for series in held], options.quick),
        generators,
        (*PLAIN, *ALIGNED),
        on_case=lambda case: print(
            case.place.group, case.place.region, case.kind, case.name, file=sys.stderr
        ),
    )
    result = scoring.as_json(found)
    text = report(result)
    print(text)
    if options.publish:
        publish(text, options.publish)
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()

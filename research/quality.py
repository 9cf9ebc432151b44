"""How near declouded pixels come to the truth, against all baselines, by region and by density of the series.

    python research/quality.py DATA [--model temporal] [--json quality.json] [--publish PAGE] [--quick]

The experiment behind `research/quality.md`: every region with a time series, every method as a run applies
it (`cloudgan.evaluation.scoring`), on the cases of `research/regions.py`. Series are as dense as they are, or
thinned to every second or every fourth clear date. A baseline learns from its case alone, so every region is
new to it. To a generator those are new that its card does not name. Nothing is tuned here.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from regions import LENDER, REGIONS, draw_cases, read_regions

from cloudgan.evaluation.baselines import RIVALS
from cloudgan.evaluation.cases import DENSITIES, KINDS, Case, thin_dates
from cloudgan.evaluation.scoring import Evaluation, evaluate
from cloudgan.evaluation.summary import as_json, summarise, summarise_strata
from cloudgan.model.generator import Generator
from cloudgan.observations import Site

MODEL = "temporal"
METRICS = {"psnr": (max, 2), "mae": (min, 4), "ssim": (max, 4), "sam": (min, 2), "pc": (max, 3)}
HELD_OUT, ALL = "all held out", "all"


def draw_thinned(sites: Sequence[Site], lenders: Sequence[Site], every: int, quick: bool) -> Iterator[Case]:
    """The cases in sparser series, each date under the clouds of one other date.

    Five dates at 120 m are too few to leave any out.
    """
    if every == 1:
        yield from draw_cases(sites, lenders, quick=quick)
        return
    for case in draw_cases(sites, lenders, quick=quick, fields=1):
        if case.group != "120 m":
            yield thin_dates(case, every)


def select_regions(evaluation: Evaluation, regions: Sequence[str]) -> Evaluation:
    """The part of an evaluation that lies in some regions."""
    return replace(
        evaluation,
        units=[unit for unit in evaluation.units if unit.region in regions],
        strata=[one for one in evaluation.strata if one.region in regions],
    )


def report(found: dict[str, Evaluation], trained: Sequence[str]) -> str:
    """All results as Markdown.

    Args:
        found: By density.
        trained: Regions that the model was trained on.
    """
    fresh = [region for region in REGIONS if region not in trained]
    held_out = {density: select_regions(evaluation, fresh) for density, evaluation in found.items()}
    totals = {density: _keep_totals(summarise(evaluation)) for density, evaluation in held_out.items()}
    lines = []
    for density, evaluation in found.items():
        lines += _tables_of_regions(density, summarise(evaluation), totals[density], trained)
    lines.append("\nAll metrics, on the regions held out of training:")
    for density, entries in totals.items():
        for entry in _sort(entries):
            lines += _scores(density, entry)
    rows = summarise_strata(held_out["dense"])
    for by in sorted({row["by"] for row in rows}):
        lines += _classes(by, [row for row in rows if row["by"] == by])
    return "\n".join(lines) + "\n"


def _keep_totals(entries: Sequence[dict]) -> list[dict]:
    """The entries over all regions, of which there may be one alone."""
    return [
        entry
        for entry in entries
        if entry["region"] == ALL or entry["regions"] == 1 == _count(entries, entry)
    ]


def _count(entries: Sequence[dict], like: dict) -> int:
    """How many entries there are of one kind and pixel size."""
    return sum((one["kind"], one["group"]) == (like["kind"], like["group"]) for one in entries)


def _sort(entries: Sequence[dict]) -> list[dict]:
    return sorted(entries, key=lambda entry: (KINDS.index(entry["kind"]), entry["group"]))


def _tables_of_regions(
    density: str, entries: Sequence[dict], totals: Sequence[dict], trained: Sequence[str]
) -> list[str]:
    """One table of PSNR for each kind and pixel size: a row for each region, then for all."""
    lines = []
    for kind, group in dict.fromkeys((entry["kind"], entry["group"]) for entry in _sort(entries)):
        same = [entry for entry in entries if (entry["kind"], entry["group"]) == (kind, group)]
        rows = [entry for entry in same if entry["region"] != ALL]
        if len(rows) > 1:
            rows += [
                entry | {"region": HELD_OUT}
                for entry in totals
                if (entry["kind"], entry["group"]) == (kind, group) and entry["region"] == ALL
            ]
            rows += [entry for entry in same if entry["region"] == ALL]
        methods = list(rows[0]["methods"])
        lines += [
            f"\n**{density}, {kind}, {group}**, PSNR in dB\n",
            f"| region | trained on | units | {' | '.join(methods)} | {MODEL} against the best baseline |",
            "|---" * (len(methods) + 4) + "|",
        ]
        lines += [_row_of_region(entry, trained) for entry in rows]
    return lines


def _row_of_region(entry: dict, trained: Sequence[str]) -> str:
    names = {HELD_OUT: "no", ALL: "in part"}
    best = max(row["psnr"] for row in entry["methods"].values())
    cells = [_mark(row["psnr"], best, 2) for row in entry["methods"].values()]
    (gain,) = (gain for gain in entry["gains"] if gain["model"] == MODEL)
    low, high = gain["95 %"]
    against = (
        f"{gain['gain dB']:+.2f} dB ({low:+.2f} to {high:+.2f}) over {gain['over']}, "
        f"won {gain['won']} of {gain['units']}"
    )
    known = names.get(entry["region"], "yes" if entry["region"] in trained else "no")
    return f"| {entry['region']} | {known} | {entry['units']} | {' | '.join(cells)} | {against} |"


def _mark(value: float, best: float, places: int) -> str:
    return f"**{value:.{places}f}**" if value == best else f"{value:.{places}f}"


def _scores(density: str, entry: dict) -> list[str]:
    methods = entry["methods"].values()
    bests = {metric: choose(row[metric] for row in methods) for metric, (choose, _) in METRICS.items()}
    lines = [
        f"\n**{density}, {entry['kind']}, {entry['group']}** ({entry['units']} units of {entry['regions']} "
        f"regions, {entry['pixels']:,} pixels)\n",
        "| method | PSNR dB | 95 % | MAE | SSIM | SAM deg | PC | PC green | PC red | PC nir |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, row in entry["methods"].items():
        psnr, *others = [_mark(row[metric], bests[metric], METRICS[metric][1]) for metric in METRICS]
        low, high = row["psnr 95 %"]
        bands = [f"{row[f'pc {band}']:.3f}" for band in range(3)]
        cells = [psnr, f"{low:.1f} to {high:.1f}", *others, *bands]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def _classes(by: str, rows: Sequence[dict]) -> list[str]:
    names = list(rows[0]["mae"])
    lines = [
        f"\nMean absolute error by {by}, dense, on the regions held out of training:\n",
        f"| {by} | pixels | {' | '.join(names)} |",
        "|---" * (len(names) + 2) + "|",
    ]
    for row in rows:
        best = min(row["mae"].values())
        cells = [_mark(mae, best, 4) for mae in row["mae"].values()]
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
    parser.add_argument("--model", default=MODEL, help="name or path of the model (default temporal)")
    parser.add_argument("--json", type=Path, help="write all numbers here")
    parser.add_argument("--publish", type=Path, metavar="PAGE", help="write the tables into this page")
    parser.add_argument("--regions", nargs="+", default=list(REGIONS), metavar="REGION")
    parser.add_argument("--quick", action="store_true", help="a quarter of the 10 m cases")
    options = parser.parse_args()
    generator = Generator.load(options.model)
    trained = list(generator.contract.training["data"]["train"])
    sites, lenders = (read_regions(options.data, regions) for regions in (options.regions, [LENDER]))
    found = {
        density: evaluate(
            draw_thinned(sites, lenders, every, options.quick),
            {MODEL: generator},
            RIVALS,
            on_case=lambda case: print(case.group, case.site.region, case.kind, case.name, file=sys.stderr),
        )
        for density, every in DENSITIES.items()
    }
    text = report(found, trained)
    print(text)
    if options.publish:
        publish(text, options.publish)
    if options.json:
        result = {density: as_json(evaluation) for density, evaluation in found.items()}
        options.json.write_text(json.dumps({"trained on": trained} | result, indent=1) + "\n")


if __name__ == "__main__":
    main()

"""The command `cloudgan evaluate` (and `cloudgan-evaluate`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from cloudgan.cli.output import err, make_table, open_stdout, print_json
from cloudgan.errors import InputError

if TYPE_CHECKING:
    from cloudgan.evaluation.cases import Kind
    from cloudgan.model.generator import Generator
    from cloudgan.observations import Site

_BANDS = ("green", "red", "nir")  # of baselines alone

EPILOG = "Example: cloudgan-evaluate temporal aligned-linear demo/catalog.json"


def evaluate(
    what: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL_OR_BASELINE... DATA",
            show_default=False,
            help="ONNX files, names of models that ship, or baselines: cloudy, nearest, linear, median, "
            "aligned-nearest, aligned-linear, whittaker, kriging, regression, clear (all of them where none "
            "is named); last the data: a recipe with [[data]] tables, a series-*.nc, a folder of pairs, a "
            "static STAC catalogue or a Zarr store.",
        ),
    ],
    region: Annotated[
        list[str] | None,
        typer.Option(
            help="Evaluate on this region; may be repeated. By default all that no model was trained on."
        ),
    ] = None,
    case: Annotated[
        list[str] | None,
        typer.Option(help="composited, fully-masked or real; may be repeated. By default all."),
    ] = None,
    dates: Annotated[int, typer.Option(min=1, help="Dates of a region that are masked at most.")] = 8,
    seed: Annotated[int, typer.Option(help="Decides which dates, and under which clouds.")] = 0,
    data: Annotated[
        Path | None, typer.Option(help="Folder from which the paths in a recipe count; by default its own.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print all numbers as JSON.")] = False,
) -> None:
    """Score generators and baselines where the truth is known.

    They are given clear dates under the real clouds of other dates.
    """
    from cloudgan.evaluation.cases import draw_cases
    from cloudgan.evaluation.scoring import evaluate as evaluate_cases
    from cloudgan.evaluation.summary import as_json as summarise_all

    kinds = _parse_kinds(case)
    generators, names = _load_methods(what[:-1])
    sites = _choose_sites(_read_sites(Path(what[-1]), generators, data), region, generators)
    drawn = (one for site in sites for one in draw_cases(site, kinds, dates=dates, seed=seed))
    found = evaluate_cases(
        drawn, generators, names, on_case=lambda one: err.print(f"{one.site.region} {one.kind} {one.name}")
    )
    if not found.units:
        raise InputError(
            f"nothing in {what[-1]} can be evaluated as {', '.join(kinds)}: it takes clear dates, cloudy "
            "ones, and clear observations of the same place; give a longer series"
        )
    result = summarise_all(found)
    if as_json:
        print_json({"data": what[-1], "seed": seed} | result)
        return
    _print_result(result, len(sites[0].observations.bands))


def _print_result(result: Mapping[str, Any], bands: int) -> None:
    out = open_stdout()
    for entry in result["summary"]:
        out.print(_make_scores_table(entry, bands))
        for gain in entry["gains"]:
            out.print(_describe_gain(gain))
    for table in _make_strata_tables(result["by"]):
        out.print(table)
    for entry in result["uncertainty"]:
        out.print(
            f"uncertainty of {entry['model']} against its error, {entry['group']}: rank correlation "
            f"{entry['rank correlation']} on {entry['pixels']:,} pixels; lowest tenth errs "
            f"{entry['tenths'][0]['error']:.4f}, highest {entry['tenths'][-1]['error']:.4f}"
        )


def _parse_kinds(given: Sequence[str] | None) -> tuple[Kind, ...]:
    from cloudgan.evaluation.cases import KINDS

    spelled = {kind.replace(" ", "-"): kind for kind in KINDS}
    if unknown := [word for word in given or () if word not in spelled]:
        raise InputError(f"--case {unknown[0]} is unknown; give {', '.join(spelled)}")
    return tuple(spelled[word] for word in given) if given else KINDS


def _load_methods(given: Sequence[str]) -> tuple[dict[str, Generator], tuple[str, ...]]:
    from cloudgan.evaluation.baselines import BASELINES
    from cloudgan.model.generator import Generator

    if not given:
        raise InputError("give a model or a baseline, and then the data; see cloudgan-evaluate --help")
    spelled = {name.replace(" ", "-"): name for name in BASELINES}
    names = tuple(spelled[word] for word in dict.fromkeys(given) if word in spelled)
    models = {word: Generator.load(word) for word in given if word not in spelled}
    return models, names or BASELINES


def _read_sites(path: Path, generators: Mapping[str, Generator], data: Path | None) -> list[Site]:
    from cloudgan.training.data.paths import read_sites_of

    read = [band for generator in generators.values() for band in generator.contract.input_bands]
    return read_sites_of(path, tuple(dict.fromkeys(read)) or _BANDS, data)


def _choose_sites(
    sites: Sequence[Site], wanted: Sequence[str] | None, generators: Mapping[str, Generator]
) -> list[Site]:
    """The sites to evaluate on: those that were asked for, else those that no model was trained on."""
    there = sorted({site.region for site in sites})
    if unknown := sorted(set(wanted or ()) - set(there)):
        raise InputError(f"no region {unknown[0]} in the data; there are {', '.join(there)}")
    trained = {
        region: sorted(name for name, generator in generators.items() if _was_trained_on(generator, region))
        for region in there
    }
    if wanted:
        for region in wanted:
            if trained[region]:
                err.print(f"note: {', '.join(trained[region])} was trained on {region}", style="yellow")
        return [site for site in sites if site.region in wanted]
    fresh = [site for site in sites if not trained[site.region]]
    if not fresh:
        raise InputError(
            f"the models were trained on every region of the data ({', '.join(there)}); give other data, or "
            "name regions with --region to score them all the same"
        )
    if left_out := [region for region in there if trained[region]]:
        err.print(f"note: left out, a model was trained on it: {', '.join(left_out)}", style="yellow")
    return fresh


def _was_trained_on(generator: Generator, region: str) -> bool:
    """Whether a model's card says that it was trained on a region or a part of it."""
    data = generator.contract.training.get("data", {})
    regions = (
        [str(name).removeprefix("MGRS-") for name in data.get("train", ())] if isinstance(data, dict) else []
    )
    return any(name == region or name.startswith(f"{region}-") for name in regions)


def _make_scores_table(entry: Mapping[str, Any], bands: int) -> Table:
    title = (
        f"{entry['kind']}, {entry['group']}, {entry['region']}: {entry['units']} units of "
        f"{entry['regions']} regions, {entry['pixels']:,} pixels"
    )
    columns = ("PSNR dB (95 %)", "MAE (95 %)", "SSIM", "SAM deg", "PC by band")
    table = make_table(title, "method", *columns)
    for name, row in entry["methods"].items():
        low, high = row["psnr 95 %"]
        least, most = row["mae 95 %"]
        table.add_row(
            name,
            f"{row['psnr']:.2f} ({low:.1f} to {high:.1f})",
            f"{row['mae']:.4f} ({least:.4f} to {most:.4f})",
            f"{row['ssim']:.3f}",
            f"{row['sam']:.2f}",
            " ".join(f"{row[f'pc {band}']:.3f}" for band in range(bands)),
        )
    return table


def _describe_gain(gain: Mapping[str, Any]) -> str:
    low, high = gain["95 %"]
    return (
        f"{gain['model']} over {gain['over']}: {gain['gain dB']:+.2f} dB (95 % {low:+.2f} to {high:+.2f}), "
        f"won {gain['won']} of {gain['units']}"
    )


_UNITS = {
    "age": "days to the nearest clear date",
    "depth": "pixels from the gap's edge",
    "thickness": "cloud",
}


def _make_strata_tables(rows: Sequence[Mapping[str, Any]]) -> list[Table]:
    tables: dict[tuple[str, str, str], Table] = {}
    for row in rows:
        key = (row["kind"], row["group"], row["by"])
        if key not in tables:
            title = f"mean absolute error, {row['kind']}, {row['group']}, by {row['by']}"
            tables[key] = make_table(title, _UNITS[row["by"]], "pixels", "regions", *row["mae"])
        errors = (f"{value:.4f}" for value in row["mae"].values())
        tables[key].add_row(row["class"], f"{row['pixels']:,}", str(row["regions"]), *errors)
    return list(tables.values())

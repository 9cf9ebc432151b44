"""The commands that judge: `cloudgan evaluate` and `cloudgan info`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from cloudgan.errors import InputError

if TYPE_CHECKING:
    from cloudgan.evaluation.cases import Kind
    from cloudgan.model.generator import Generator
    from cloudgan.observations import Site

err = Console(stderr=True, highlight=False, soft_wrap=True, markup=False)

evaluate_app = typer.Typer(name="cloudgan-evaluate", add_completion=False, pretty_exceptions_enable=False)

_WIDTH = 118  # of tables where stdout is no terminal


@evaluate_app.command()
def evaluate(
    what: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL_OR_BASELINE... DATA",
            show_default=False,
            help="ONNX files, names of models that ship, or baselines: cloudy, nearest, linear, median, "
            "aligned-nearest, aligned-linear (all of them where none is named); last the data: a recipe, a "
            ".nc series, a folder of pairs, a static STAC catalogue, or a Zarr store.",
        ),
    ],
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Folder that the paths in a recipe count from; that of the recipe by default."
        ),
    ] = None,
    region: Annotated[
        list[str] | None,
        typer.Option(help="Judge on this place; may be repeated. [default: all never trained on]"),
    ] = None,
    case: Annotated[
        list[str] | None,
        typer.Option(help="composited, fully-masked or real; may be repeated. [default: all]"),
    ] = None,
    dates: Annotated[int, typer.Option(min=1, help="Dates of a place that are hidden at most.")] = 8,
    seed: Annotated[int, typer.Option(help="Decides which dates, and under which clouds.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print all numbers as JSON.")] = False,
) -> None:
    """Score generators and baselines on ground whose truth is known, hidden under real clouds."""
    from cloudgan.evaluation.cases import draw_cases
    from cloudgan.evaluation.scoring import evaluate as evaluate_cases
    from cloudgan.evaluation.summary import as_json as summarise_all

    kinds = _kinds(case)
    generators, names = _methods(what[:-1])
    sites = _chosen(_read_sites(Path(what[-1]), data), region, generators)
    drawn = (one for site in sites for one in draw_cases(site, kinds, dates=dates, seed=seed))
    found = evaluate_cases(
        drawn, generators, names, on_case=lambda one: err.print(f"{one.site.region} {one.kind} {one.name}")
    )
    if not found.units:
        raise InputError(
            f"nothing in {what[-1]} can be judged as {', '.join(kinds)}: it takes clear dates, cloudy ones, "
            "and looks at the same ground; give a longer series"
        )
    result = summarise_all(found)
    if as_json:
        typer.echo(json.dumps({"data": what[-1], "seed": seed} | result, indent=1))
        return
    out = Console(highlight=False, markup=False, width=None if err.is_terminal else _WIDTH)
    for entry in result["summary"]:
        out.print(_scores_table(entry, sites[0]))
        for gain in entry["gains"]:
            out.print(_gain(gain))
    for table in _class_tables(result["by"]):
        out.print(table)
    for entry in result["uncertainty"]:
        out.print(
            f"uncertainty of {entry['model']} against its error, {entry['group']}: rank correlation "
            f"{entry['rank correlation']} on {entry['pixels']:,} pixels; lowest tenth errs "
            f"{entry['tenths'][0]['error']:.4f}, highest {entry['tenths'][-1]['error']:.4f}"
        )


def print_score(score: Mapping[str, Any]) -> None:
    """Print what `selfscore.score` found, on stderr."""
    for reason in score["failed"]:
        err.print(f"a piece could not be scored: {reason}", style="yellow")
    if score["methods"]:
        title = f"on clear ground of this cube under its own clouds: {score['pixels']:,} pixels"
        table = Table(title=f"{title}, {score['cases']} cases", title_justify="left")
        table.add_column("method")
        for column in ("PSNR dB", "MAE", "SSIM", "SAM deg"):
            table.add_column(column, justify="right")
        for name, row in score["methods"].items():
            table.add_row(
                name, f"{row['psnr']:.2f}", f"{row['mae']:.4f}", f"{row['ssim']:.3f}", f"{row['sam']:.2f}"
            )
        err.print(table)
    won = score["best"] is not None and score["model"].startswith(f"{score['best']} ")
    err.print(score["verdict"], style="green" if won else "yellow")


def _kinds(given: Sequence[str] | None) -> tuple[Kind, ...]:
    from cloudgan.evaluation.cases import KINDS

    spelled = {kind.replace(" ", "-"): kind for kind in KINDS}
    if unknown := [word for word in given or () if word not in spelled]:
        raise InputError(f"--case {unknown[0]} is unknown; give {', '.join(spelled)}")
    return tuple(spelled[word] for word in given) if given else KINDS


def _methods(given: Sequence[str]) -> tuple[dict[str, Generator], tuple[str, ...]]:
    from cloudgan.evaluation.baselines import BASELINES
    from cloudgan.model.generator import Generator

    if not given:
        raise InputError("give a model or a baseline, and then the data; see cloudgan-evaluate --help")
    spelled = {name.replace(" ", "-"): name for name in BASELINES}
    names = tuple(spelled[word] for word in dict.fromkeys(given) if word in spelled)
    models = {word: Generator.load(word) for word in given if word not in spelled}
    return models, names or BASELINES


def _read_sites(path: Path, data: Path | None) -> list[Site]:
    from cloudgan.training.data.paths import read_sites_of
    from cloudgan.training.recipe import BANDS

    return read_sites_of(path, BANDS, data)


def _chosen(
    sites: Sequence[Site], wanted: Sequence[str] | None, generators: Mapping[str, Generator]
) -> list[Site]:
    """The places to judge on: those that were asked for, else those that no model learned from."""
    there = sorted({site.region for site in sites})
    if unknown := sorted(set(wanted or ()) - set(there)):
        raise InputError(f"no region {unknown[0]} in the data; there are {', '.join(there)}")
    learned = {
        region: sorted(name for name, generator in generators.items() if _learned(generator, region))
        for region in there
    }
    if wanted:
        for region in wanted:
            if learned[region]:
                err.print(f"note: {', '.join(learned[region])} learned from {region}", style="yellow")
        return [site for site in sites if site.region in wanted]
    fresh = [site for site in sites if not learned[site.region]]
    if not fresh:
        raise InputError(
            f"the models learned from every region of the data ({', '.join(there)}); give other data, or "
            "name regions with --region to score them all the same"
        )
    if left_out := [region for region in there if learned[region]]:
        err.print(f"note: left out, a model learned from it: {', '.join(left_out)}", style="yellow")
    return fresh


def _learned(generator: Generator, region: str) -> bool:
    """Whether a model's card says that it was trained on a region or a part of it."""
    data = generator.contract.training.get("data", {})
    seen = (
        [str(name).removeprefix("MGRS-") for name in data.get("train", ())] if isinstance(data, dict) else []
    )
    return any(name == region or name.startswith(f"{region}-") for name in seen)


def _scores_table(entry: Mapping[str, Any], site: Site) -> Table:
    bands = len(site.observations.bands)
    title = (
        f"{entry['kind']}, {entry['group']}, {entry['region']}: {entry['units']} units of "
        f"{entry['regions']} regions, {entry['pixels']:,} pixels"
    )
    table = Table(title=title, title_justify="left")
    table.add_column("method")
    for column in ("PSNR dB (95 %)", "MAE (95 %)", "SSIM", "SAM deg", "PC by band"):
        table.add_column(column, justify="right")
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


def _gain(gain: Mapping[str, Any]) -> str:
    low, high = gain["95 %"]
    return (
        f"{gain['model']} over {gain['over']}: {gain['gain dB']:+.2f} dB (95 % {low:+.2f} to {high:+.2f}), "
        f"won {gain['won']} of {gain['units']}"
    )


_UNITS = {"age": "days to the nearest look", "depth": "pixels from the gap's edge", "thickness": "cloud"}


def _class_tables(rows: Sequence[Mapping[str, Any]]) -> list[Table]:
    tables: dict[tuple[str, str, str], Table] = {}
    for row in rows:
        key = (row["kind"], row["group"], row["by"])
        if key not in tables:
            title = f"mean absolute error, {row['kind']}, {row['group']}, by {row['by']}"
            tables[key] = Table(title=title, title_justify="left")
            tables[key].add_column(_UNITS[row["by"]])
            for column in ("pixels", "regions", *row["mae"]):
                tables[key].add_column(column, justify="right")
        errors = (f"{value:.4f}" for value in row["mae"].values())
        tables[key].add_row(row["class"], f"{row['pixels']:,}", str(row["regions"]), *errors)
    return list(tables.values())


def info(
    model: Annotated[str, typer.Argument(help="ONNX file, or name of a model that ships.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print the card as JSON.")] = False,
) -> None:
    """Print a model's card: what it asks for and gives, and how it was trained."""
    from cloudgan.model.generator import Generator

    generator = Generator.load(model)
    contract = generator.contract
    card: dict[str, Any] = {
        "name": contract.name,
        "version": contract.version,
        "planes": list(contract.input_channels),
        "bands": list(contract.output_bands),
        "tile": contract.tile,
        "predicts_uncertainty": contract.predicts_uncertainty,
        "bytes": len(generator.model),
        "sha256": generator.digest,
        "training": contract.training,
    }
    if as_json:
        typer.echo(json.dumps(card, indent=1))
        return
    out = Console(highlight=False, markup=False, soft_wrap=True)
    table = Table.grid(padding=(0, 2), pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, text in _card_rows(card):
        table.add_row(name, text)
    out.print(table)


def _card_rows(card: Mapping[str, Any]) -> list[tuple[str, str]]:
    rows = [
        ("model", f"{card['name']} {card['version']}"),
        ("asks for", ", ".join(card["planes"])),
        ("gives", ", ".join(card["bands"]) + (", its own error" if card["predicts_uncertainty"] else "")),
        ("tile", f"{card['tile']} pixels"),
        ("size", f"{card['bytes'] / 1e6:.1f} MB"),
        ("sha256", card["sha256"]),
    ]
    training = dict(card["training"])
    for side, label in (("train", "learned from"), ("validation", "watched on")):
        data = training.get("data")
        if isinstance(data, dict) and data.get(side):
            rows.append((label, _told(data[side])))
    training.pop("data", None)
    for region, scored in (training.pop("scores", None) or {}).items():
        rows.append((f"score, {region}", _told(scored)))
    rows += [(name.replace("_", " "), _told(value)) for name, value in training.items()]
    return rows


def _told(value: Any) -> str:
    """A value of a card for people, whatever it is."""
    if isinstance(value, dict):
        return ", ".join(f"{name} {_told(inner)}" for name, inner in value.items())
    if isinstance(value, list):
        return ", ".join(map(_told, value))
    return f"{value:g}" if isinstance(value, float) else str(value)

"""The command `cloudgan info`: the card of a model, or what a store or a catalogue holds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from cloudgan.cli.output import make_grid, open_stdout, print_json


def info(
    what: Annotated[
        str,
        typer.Argument(
            metavar="MODEL|STORE|CATALOG",
            help="ONNX file, name of a model that ships, path or URL of a store that a run wrote, or what "
            "--stac takes.",
        ),
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
) -> None:
    """Describe a model, a store, or a catalogue."""
    is_catalog = _is_catalog(what)
    is_store = not is_catalog and ("://" in what or Path(what).is_dir())
    describe = _describe_catalog if is_catalog else _describe_store if is_store else _describe_model
    described = describe(what)
    if as_json:
        print_json(described)
        return
    out = open_stdout(wrap=False)
    if is_catalog:
        out.print(make_grid(_list_catalog(described)))
        return
    if not is_store:
        out.print(make_grid(_list_model(described)))
        return
    for name, zone in described.get("zones", {"": described}).items():
        out.print(make_grid([*([("group", name)] if name else []), *_list_store(zone)]))


def _is_catalog(what: str) -> bool:
    """Whether something is a profile, a JSON file, a folder with one, or a server."""
    from cloudgan.stac.profiles import list_profiles

    folder = Path(what)
    is_folder = any((folder / name).is_file() for name in ("catalog.json", "collection.json"))
    is_server = what.startswith(("http://", "https://")) and not what.rstrip("/").endswith(".zarr")
    return is_folder or is_server or what.endswith(".json") or what in list_profiles()


def _describe_catalog(stac: str) -> dict[str, Any]:
    from cloudgan.stac.description import describe_catalog

    return describe_catalog(stac)


def _list_catalog(catalog: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield "catalogue", f"{catalog['location']} ({catalog['kind']})"
    yield "collections", ", ".join(catalog["collections"]) or "none is listed"
    if "items" not in catalog:
        return
    unreadable = f", and {catalog['unreadable']} features that are none" if catalog["unreadable"] else ""
    yield "items", f"{catalog['items']}{unreadable}"
    yield "dates", " to ".join(catalog["dates"])
    yield "MGRS tiles", ", ".join(catalog["mgrs_tiles"])
    lacking = {band: count for band, count in catalog["bands"].items() if count < catalog["items"]}
    yield (
        "bands",
        ", ".join(
            f"{band} ({lacking[band]} items)" if band in lacking else band for band in catalog["bands"]
        ),
    )


def _describe_model(source: str) -> dict[str, Any]:
    from cloudgan.model.generator import Generator

    generator = Generator.load(source)
    contract = generator.contract
    return {
        "name": contract.name,
        "version": contract.version,
        "input_channels": [str(channel) for channel in contract.input_channels],
        "output_bands": list(contract.output_bands),
        "tile": contract.tile,
        "predicts_uncertainty": contract.predicts_uncertainty,
        "bytes": len(generator.model),
        "sha256": generator.file_digest,
        "training": contract.training,
    }


def _list_model(card: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    uncertainty = ", and its uncertainty" if card["predicts_uncertainty"] else ""
    yield "model", f"{card['name']} {card['version']}"
    yield "input channels", ", ".join(card["input_channels"])
    yield "output bands", ", ".join(card["output_bands"]) + uncertainty
    yield "tile", f"{card['tile']} pixels"
    yield "size", f"{card['bytes'] / 1e6:.1f} MB"
    yield "sha256", card["sha256"]
    training = dict(card["training"])
    data = training.pop("data", None)
    for side, label in (("train", "trained on"), ("validation", "validated on")):
        if isinstance(data, dict) and data.get(side):
            yield label, _format(data[side])
    for region, scored in (training.pop("scores", None) or {}).items():
        yield f"score, {region}", _format(scored)
    for name, value in training.items():
        yield name.replace("_", " "), _format(value)


def _describe_store(location: str) -> dict[str, Any]:
    from cloudgan.io.store.description import describe_store

    return describe_store(location)


def _list_store(store: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    times, height, width = store["shape"]
    units = store["units"]
    west, south, east, north = store["bounds"]
    yield "store", store["location"]
    yield "model", f"{store['model']['name']} {store['model']['version']} ({store['model']['digest'][:12]})"
    yield "variables", ", ".join(store["variables"])
    yield "dates", f"{times}, {store['dates'][0]} to {store['dates'][-1]}"
    yield "area", f"{width} x {height} pixels of {store['resolution']:g} m, {store['crs']}"
    yield "bounds", f"{west:.5f}, {south:.5f} to {east:.5f}, {north:.5f} degrees"
    yield (
        "work units",
        f"{units['done']} of {units['total']} done"
        + (f", {units['without_assets']} of them without all assets" if units["without_assets"] else ""),
    )
    if store["provenance"] is not None:
        yield (
            "pixels",
            ", ".join(
                f"{share:.1%} {name.replace('_', ' ')}"
                for name, share in store["provenance"].items()
                if share
            ),
        )


def _format(value: Any) -> str:
    """A value of a card for people, whatever it is."""
    if isinstance(value, dict):
        return ", ".join(f"{name} {_format(inner)}" for name, inner in value.items())
    if isinstance(value, list):
        return ", ".join(map(_format, value))
    return f"{value:g}" if isinstance(value, float) else str(value)

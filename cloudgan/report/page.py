"""The report of a store: one HTML file that needs no other, and no network."""

from __future__ import annotations

import base64
import hashlib
import re
from html import escape
from importlib import resources
from pathlib import Path
from typing import IO, Any

from cloudgan.errors import InputError
from cloudgan.object_stores import is_object_store, name_failed_writes, normalise_location
from cloudgan.products.geotiff import write_whole
from cloudgan.report import charts, sections
from cloudgan.report.content import DateEntry, OnProgress, ZoneContent, open_zones, read_pictures
from cloudgan.report.html import to_json

_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
_SLOT = re.compile(r"\{\{(\w+)\}\}")


def choose_path(store: str) -> Path:
    """Where the report of a store lies: beside it, or in the working directory where it is no directory."""
    name = Path(store.rstrip("/").rpartition("/")[2]).stem or "report"
    return Path(f"{name}.html") if is_object_store(store) else Path(store).with_name(f"{name}.html")


def write_report(
    store: str,
    out: str | Path | None = None,
    *,
    command: str | None = None,
    on_progress: OnProgress | None = None,
) -> Path:
    """Write the report of a store.

    Args:
        store: Path of a directory, or URL of an object store.
        out: The file; by default beside the store, see `choose_path`.
        command: The command that made the store, to be shown.
        on_progress: Told how many dates are read, and of how many.

    Returns:
        The file.

    Raises:
        InputError: The file cannot lie there.
        StoreError: There is no store of cloudgan's, or it is damaged.
        WriteError: The place refused it.
    """
    location = normalise_location(store)
    if out is not None and is_object_store(str(out)):
        raise InputError(f"{out} is an object store, and a report is a file on a disk; give a path")
    path = choose_path(location) if out is None else Path(normalise_location(str(out)))
    if path.is_dir():
        raise InputError(f"{path} is a folder, and a report is a file; give a name such as report.html")
    zones = open_zones(location)
    pictures = read_pictures(zones, _write_pictures, on_progress or _ignore)
    with pictures.file, name_failed_writes(str(path)):
        path.parent.mkdir(parents=True, exist_ok=True)
        with write_whole(path) as piece, piece.open("w", encoding="utf-8") as target:
            text = _fill_template(location, zones, pictures.shares, command)
            before, after = text.split("{{pictures}}")
            target.write(before)
            pictures.copy_to(target)
            target.write(after)
    return path


def _ignore(done: int, total: int) -> None:
    """The default of `on_progress`."""


def _write_pictures(file: IO[str], zone: int, at: int, drawn: dict[str, str]) -> None:
    file.write(f'<script type="application/json" id="pictures-{zone}-{at}">{to_json(drawn)}</script>\n')


def _fill_template(location: str, zones: list[ZoneContent], shares: list[str], command: str | None) -> str:
    folder = resources.files("cloudgan.report")
    template, style, script = (
        (folder / name).read_text(encoding="utf-8") for name in ("page.html", "page.css", "page.js")
    )
    first, last = zones[0].dates[0].day, zones[0].dates[-1].day
    name = location.rstrip("/").rpartition("/")[2]
    slots = {
        "title": escape(f"{name}, {first} to {last}"),
        "name": escape(name),
        "span": escape(f"{first} to {last}"),
        # Nothing is fetched, and nothing runs but the script of this page.
        "policy": f"{_POLICY}; script-src '{_hash(script)}'",
        "style": style,
        "script": script,
        "zones": "".join(
            _make_zone(at, *one, command) for at, one in enumerate(zip(zones, shares, strict=True))
        ),
        "choice": _make_choice(zones),
        "data": to_json([_describe_zone(zone) for zone in zones]),
    }
    # One pass: what a store holds is never taken for a slot.
    return _SLOT.sub(lambda found: slots.get(found[1], found[0]), template)


def _hash(script: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _make_choice(zones: list[ZoneContent]) -> str:
    if len(zones) == 1:
        return ""
    options = "".join(f'<option value="{at}">{escape(zone.name)}</option>' for at, zone in enumerate(zones))
    return f'<p><label for="zone">UTM zone</label> <select id="zone">{options}</select></p>'


def _make_zone(at: int, zone: ZoneContent, shares: str, command: str | None) -> str:
    """The sections of a zone, after the viewer that all zones share."""
    parts = [
        ("Vegetation over time", sections.make_series(zone)),
        ("Clouds over time", sections.make_clouds(zone)),
        ("The area", sections.make_map(zone, shares)),
        ("Score on your own images", sections.make_score(zone)),
        ("Time by phase", sections.make_time(zone)),
        ("What failed, what was left out", sections.make_faults(zone)),
        ("Command and versions", sections.make_origin(zone, command)),
    ]
    body = "".join(f"<section><h2>{title}</h2>{text}</section>" for title, text in parts)
    return f'<div class="zone" data-zone="{at}"{" hidden" if at else ""}>{body}</div>'


def _describe_zone(zone: ZoneContent) -> dict[str, Any]:
    """What the script needs to know."""
    height, width = zone.reader.grid.shape
    places = charts.place_dates([entry.day for entry in zone.dates])
    return {
        "size": [width, height],
        "summary": sections.make_summary(zone),
        "composites": [[one.key, one.title, ", ".join(one.bands)] for one in zone.composites],
        "legends": sections.list_legends(zone),
        "dates": [
            _describe_date(entry, place, zone.pixels) for entry, place in zip(zone.dates, places, strict=True)
        ],
    }


def _describe_date(entry: DateEntry, place: float, pixels: int) -> dict[str, Any]:
    figures = entry.figures
    shares = dict(sections.list_shares(entry, pixels))
    facts = [
        [title.partition(":")[0], f"{shares[f'kind-{kind.name.lower()}']:.1%}"]
        for kind, title in sections.KINDS.items()
        if shares[f"kind-{kind.name.lower()}"] >= 0.0005
    ]
    masked = [
        f"{sections.SOURCE_TITLES[name]} {count / pixels:.1%}"
        for name, count in figures.masked.items()
        if count and name != "no_data"
    ]
    if masked:
        facts.append(["masked by", ", ".join(masked)])
    if figures.uncertainty is not None:
        facts.append(["expected error of generated pixels", f"{figures.uncertainty:.4f}"])
    if entry.is_hazy:
        facts.append(["haze", "too bright where observed"])
    if entry.cloud_cover is not None:
        facts.append(["cloud cover by the catalogue", f"{entry.cloud_cover:.0f} %"])
    return {
        "day": entry.day.isoformat(),
        "place": place,
        "observed": round(shares["kind-observed"], 4),
        "facts": facts,
        "items": list(entry.items),
    }

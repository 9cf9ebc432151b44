"""The sections of a report, as HTML: figures, map, charts, score, run."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping
from html import escape
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from cloudgan import __version__
from cloudgan.report import charts, colours
from cloudgan.report.area import draw_area
from cloudgan.report.content import DateEntry, ZoneContent
from cloudgan.report.html import make_bars, make_legend, make_list, make_table, make_tiles, to_css
from cloudgan.report.overview import MASKED_BY
from cloudgan.schema import Provenance

SOURCE_TITLES = {
    "observed": "observed",
    "scl": "scene classification",
    "snow": "snow that no other date confirms",
    "csmask": "detector csmask",
    "detector": "detector from a file",
    "temporal": "time",
    "user": "a mask of the user",
    "several": "several of these",
    "buffer": "buffer around clouds",
    "no_data": "no data",
}
KINDS = {
    Provenance.OBSERVED: "observed",
    Provenance.GENERATED: "generated",
    Provenance.UNRELIABLE: "unreliable: nothing vouches for the value",
    Provenance.MISSING_ASSET: "an asset is missing",
    Provenance.NO_DATA: "no data",
}
_PHASES = {"read": "reading", "generate": "generating", "write": "writing"}
_PACKAGES = ("numpy", "xarray", "zarr", "dask", "rasterio", "onnxruntime", "onnxruntime-gpu")


def make_summary(zone: ZoneContent) -> str:
    """What the area is, at a glance."""
    grid, dates = zone.reader.grid, zone.dates
    observed, generated = (
        sum(entry.figures.pixels[kind] for entry in dates) / (zone.pixels * len(dates))
        for kind in ("observed", "generated")
    )
    hectares = zone.pixels * grid.resolution**2 / 1e4
    size = f"{hectares:,.0f} ha" if hectares < 10_000 else f"{hectares / 100:,.0f} km²"
    return make_tiles(
        [
            ("dates", f"{len(dates)}"),
            ("area", size),
            ("observed", f"{observed:.0%}"),
            ("generated", f"{generated:.0%}"),
            ("work units done", f"{zone.done} of {len(zone.states)}"),
        ]
    )


def make_map(zone: ZoneContent, shares: str) -> str:
    """Where the area is, and how often each place was observed."""
    grid = zone.reader.grid
    height, width = grid.shape
    title = f"Map of the area: share of the {len(zone.dates)} dates on which each place was observed"
    ramp = [to_css(colour) for colour in colours.SHARE_COLOURS[1:]]
    bar = (
        '<p class="ramp"><span>0 %</span><i style="background:linear-gradient(90deg,'
        f'{",".join(ramp)})"></i><span>100 % of the dates observed</span></p>'
    )
    facts = make_list(
        [
            ("pixels", f"{width} x {height} of {grid.resolution:g} m"),
            ("CRS", f"EPSG:{grid.epsg}"),
            ("dates", f"{zone.dates[0].day} to {zone.dates[-1].day}"),
            ("bands", ", ".join(zone.reader.bands)),
        ]
    )
    outline = zone.identity.get("clip")  # only a run with --clip knows more than a bounding box
    legend = "" if outline is None else make_legend([("aoi", "area of interest")])
    drawn = draw_area(grid, shares, title, outline)
    return f'<div class="area"><div>{drawn}{bar}{legend}</div>{facts}</div>'


def make_series(zone: ZoneContent) -> str:
    """The NDVI curve, or why there is none."""
    if not {"red", "nir"} <= set(zone.reader.bands):
        return "<p>The store lacks the bands red and nir, so there is no NDVI.</p>"
    points = [
        charts.SeriesPoint(
            entry.day,
            entry.figures.ndvi,
            entry.figures.ndvi_observed,
            entry.figures.ndvi_generated,
            entry.figures.ndvi_error or 0.0,
            _share_observed(entry),
        )
        for entry in zone.dates
    ]
    chart = charts.draw_series(points, "NDVI")
    if not chart:
        return "<p>No pixel has data, so there is no NDVI.</p>"
    legend = make_legend(
        [
            ("curve", "all pixels of the area"),
            ("observed", "observed pixels alone"),
            ("generated", "generated pixels alone"),
            ("band", "expected error"),
        ]
    )
    rows = [
        (point.day, *(_number(value, 3) for value in (point.value, point.observed, point.generated)),
         _number(point.error, 3))
        for point in points
    ]  # fmt: skip
    table = make_table(("date", "all", "observed", "generated", "error"), rows, "Mean NDVI by date")
    what = _describe_uncertainty(zone)
    return (
        f"{chart}{legend}<p>The band is the store's uncertainty ({escape(what)}) carried over to NDVI: "
        "the mean over the area, with 0 for observed pixels. It widens where more is generated. "
        "A mark is the larger, the larger the part of the area is whose mean it shows.</p>"
        f"<details><summary>The numbers</summary>{table}</details>"
    )


def _share_observed(entry: DateEntry) -> float:
    observed, generated = (entry.figures.pixels[name] for name in ("observed", "generated"))
    return observed / max(observed + generated, 1)


def _describe_uncertainty(zone: ZoneContent) -> str:
    array = zone.reader.arrays.get("uncertainty")
    return str(array.attrs.get("long_name", "expected error")) if array is not None else "expected error"


def list_shares(entry: DateEntry, pixels: int) -> list[tuple[str, float]]:
    """Shares of the area by provenance, with no data as what is left of it."""
    counted = {kind: entry.figures.pixels[kind.name.lower()] / pixels for kind in KINDS}
    rest = max(0.0, 1 - sum(share for kind, share in counted.items() if kind != Provenance.NO_DATA))
    counted[Provenance.NO_DATA] = rest
    return [(f"kind-{kind.name.lower()}", share) for kind, share in counted.items()]


def make_clouds(zone: ZoneContent) -> str:
    """Shares of provenance over time."""
    days = [entry.day for entry in zone.dates]
    stacks = [list_shares(entry, zone.pixels) for entry in zone.dates]
    chart = charts.draw_stacks(days, stacks, "Share of the area by provenance, for each date")
    used = {name for stack in stacks for name, share in stack if share > 0}
    legend = make_legend(
        (f"kind-{kind.name.lower()}", title)
        for kind, title in KINDS.items()
        if f"kind-{kind.name.lower()}" in used
    )
    rows = [
        (entry.day, *(f"{share:.1%}" for _, share in stack), _number(entry.cloud_cover, 0))
        for entry, stack in zip(zone.dates, stacks, strict=True)
    ]
    head = ("date", "observed", "generated", "unreliable", "missing", "no data", "catalogue's cloud %")
    table = make_table(head, rows, "Share of the area by provenance")
    return f"{chart}{legend}<details><summary>The numbers</summary>{table}</details>"


def make_score(zone: ZoneContent) -> str:
    """What `--score` measured, or that it was not asked for."""
    score = zone.run.get("score")
    if not isinstance(score, dict) or not score.get("methods"):
        why = score.get("verdict") if isinstance(score, dict) else None
        return (
            f"<p>{escape(str(why or 'The run was not asked for it; run it with --score to measure it.'))}</p>"
        )
    model = str(score.get("model", "")).rpartition(" ")[0]
    methods = sorted(score["methods"].items(), key=lambda one: one[1]["mae"])
    bars = make_bars(
        [(name, row["mae"], f"{row['mae']:.4f}") for name, row in methods],
        "Mean absolute error of each method, in reflectance; shorter is better",
        model,
    )
    rows = [
        (name, f"{row['psnr']:.2f}", f"{row['mae']:.4f}", f"{row['ssim']:.3f}", f"{row['sam']:.2f}")
        for name, row in methods
    ]
    head = ("method", "PSNR in dB", "MAE", "SSIM", "SAM in degrees")
    table = make_table(head, rows, "Scores on clear pixels under clouds of other dates", model)
    return (
        f"<p>{escape(_begin_sentence(score['verdict']))}.</p>"
        f"<h3>Mean absolute error, shorter is better</h3>{bars}"
        f"<details><summary>All scores</summary>{table}</details>"
    )


def make_time(zone: ZoneContent) -> str:
    """What the run took, by phase."""
    spent = zone.run.get("worker_seconds") or {}
    if not spent:
        return "<p>The store has no record of a run that did work.</p>"
    rows = [(_PHASES.get(name, name), float(value), _spell_seconds(value)) for name, value in spent.items()]
    total = _spell_seconds(zone.run.get("seconds", 0))
    return (
        make_bars(rows, "Time of all workers by phase, added up")
        + f"<p>The last run took {total} and wrote {zone.run.get('pixels', 0) / 1e6:.1f} million pixels.</p>"
    )


def make_faults(zone: ZoneContent) -> str:
    """What failed and what was left out."""
    parts = [*_list_faults(zone)]
    return "".join(parts) or "<p>Nothing failed, and nothing was left out.</p>"


def _list_faults(zone: ZoneContent) -> Iterator[str]:
    pending = len(zone.states) - zone.done
    if pending:
        yield (
            f'<p class="warning">{pending} of {len(zone.states)} work units are not done. Their pixels are '
            "no data here; run the same command again to do them.</p>"
        )
    if failed := zone.run.get("failed"):
        rows = [(one["unit"], " to ".join(one["dates"]), one["reason"]) for one in failed]
        yield make_table(("unit", "dates", "reason"), rows, "Work units that failed in the last run")
    if missing := zone.run.get("missing_items"):
        yield make_table(("item",), [(name,) for name in missing], "Items whose files could not be read")
    if left_out := zone.about.get("left_out"):
        yield make_table(("item", "why"), map(_describe_item, left_out), "Items that were left out")
    if offsets := zone.about.get("offsets"):
        yield make_table(
            ("item", "what was found"), map(_describe_item, offsets), "Items whose BOA offset is in question"
        )


def _describe_item(one: Mapping[str, Any]) -> tuple[str, str]:
    rest = [f"{name}: {value}" if name != "reason" else str(value) for name, value in one.items()
            if name not in ("item", "id")]  # fmt: skip
    return str(one.get("item", one.get("id", ""))), ", ".join(rest)


def make_origin(zone: ZoneContent, command: str | None) -> str:
    """The command, and the versions of all that had a part."""
    model = zone.about.get("model") or {}
    attributes = {str(name): value for name, value in _read_root(zone).items()}
    rows: list[tuple[str, object]] = [
        ("store", zone.reader.location),
        ("written by", attributes.get("history", "unknown")),
        ("model", f"{model.get('name', 'unknown')} {model.get('version', '')}"),
        ("digest of the model", str(model.get("digest", "unknown"))[:16]),
        ("digest of the plan", attributes.get("cloudgan:plan", "unknown")),
        ("pixel rules", zone.identity.get("pixel_rules", "unknown")),
        ("licence of the data", attributes.get("license", "unknown")),
        ("this page by", f"cloudgan {__version__}, Python {platform.python_version()}"),
        ("with", ", ".join(_list_versions())),
    ]
    shown = (
        f"<pre tabindex='0'>{escape(command)}</pre>"
        if command
        else "<p>A store does not keep its command; <code>cloudgan-batch --report</code> shows it here.</p>"
    )
    return shown + make_list(rows)


def _read_root(zone: ZoneContent) -> Mapping[str, Any]:
    import zarr

    from cloudgan.io.store.access import name_damage, open_zarr_store

    with name_damage(zone.reader.location):
        group = zarr.open_group(open_zarr_store(zone.reader.location), mode="r", use_consolidated=False)
        return dict(group.attrs)


def _list_versions() -> Iterator[str]:
    for name in _PACKAGES:
        try:
            yield f"{name} {version(name)}"
        except PackageNotFoundError:
            continue


def list_legends(zone: ZoneContent) -> dict[str, str]:
    """The legend of each layer."""
    used = {name for entry in zone.dates for name, count in entry.figures.masked.items() if count}
    several = len(used - {"buffer", "no_data"}) > 1
    sources = [
        (to_css(colour), SOURCE_TITLES[name])
        for name, colour in zip(MASKED_BY, colours.SOURCE_COLOURS, strict=True)
        if name in used or (name == "several" and several)
    ]
    kinds = [
        (to_css(colours.PROVENANCE_COLOURS[kind]), title)
        for kind, title in KINDS.items()
        if colours.PROVENANCE_COLOURS[kind] != colours.CLEAR
        and any(entry.figures.pixels[kind.name.lower()] for entry in zone.dates)
    ]
    ramp = ",".join(to_css(colour) for colour in colours.UNCERTAINTY_COLOURS[1:])
    uncertainty = (
        f'<p class="ramp"><span>0</span><i style="background:linear-gradient(90deg,{ramp})"></i>'
        f"<span>{zone.stretch.uncertainty:.3f} or more, in reflectance: "
        f"{escape(_describe_uncertainty(zone))}</span></p>"
    )
    return {
        "none": "",
        "provenance": make_legend([*kinds, ("bare", "no tint: observed")]),
        "source": make_legend([*sources, ("bare", "no tint: observed")]),
        "uncertainty": uncertainty,
    }


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _begin_sentence(text: object) -> str:
    return str(text)[:1].upper() + str(text)[1:]


def _spell_seconds(seconds: Any) -> str:
    whole = float(seconds)
    if whole < 120:
        return f"{whole:.1f} s"
    return f"{whole / 60:.1f} min" if whole < 7200 else f"{whole / 3600:.1f} h"

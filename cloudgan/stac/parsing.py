"""From a STAC item as its provider wrote it to the little that a run needs, or to the reason why not."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

import shapely

from cloudgan.errors import CatalogError
from cloudgan.sentinel2.classification import SCL
from cloudgan.sentinel2.offset import Claims, Decision, OffsetBasis, OffsetPolicy, decide_offset
from cloudgan.stac.assets import find_asset, read_asset, read_declared_offset
from cloudgan.stac.items import Asset, Granule, SourceItem
from cloudgan.stac.location import Location, locate_item
from cloudgan.stac.properties import (
    name_datatake,
    parse_baseline,
    read_baseline,
    read_generation_time,
    read_offset_flag,
    read_sequence,
)
from cloudgan.stac.providers import is_planetary_computer
from cloudgan.stac.signing import Signing, needs_signature

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Sequence

    from cloudgan.stac.frames import ReadFrame
    from cloudgan.stac.raw_items import RawItem
    from cloudgan.stac.values import Json


@dataclass(frozen=True, slots=True)
class Examined:
    """What became of an item."""

    granule: Granule
    """What tells it from others, also where it cannot be used."""
    item: SourceItem | None
    """The item; None where it cannot be used."""
    fault: str | None
    """Why it cannot be used, in one sentence without a remedy; None where it can."""
    warnings: tuple[str, ...] = ()
    """Metadata that contradict each other, are missing, or were read from a file."""


def examine_item(
    raw: RawItem,
    bands: Sequence[str],
    *,
    offset: OffsetPolicy = "auto",
    read_frame: ReadFrame | None = None,
) -> Examined:
    """What a run needs of an item, or why it cannot be used.

    Args:
        raw: The item.
        bands: Common names of the bands; the scene classification is added.
        offset: What decides the BOA offset; the pixels are not read here.
        read_frame: Reads from its file where an item lies that does not state it, or states it wrongly.

    Raises:
        CatalogError: Not even its time and place are known.
    """
    planetary = is_planetary_computer(raw)
    files = _find_files(raw, bands)
    assets: dict[str, Asset] = {}
    faults = [str(error) for error in files.values() if isinstance(error, CatalogError)]
    found = {band: body for band, body in files.items() if not isinstance(body, CatalogError)}
    for band, body in found.items():
        try:
            assets[band] = read_asset(raw, band, body, signed=planetary)
        except CatalogError as error:
            faults.append(f"item {raw.id} has an address for band {band} that is not read: {error}")
    signing = _choose_signing(assets, planetary=planetary)
    instant, time_fault = _read_time(raw)
    place = locate_item(raw, found, assets, signing, read_frame)
    faults += [fault for fault in (time_fault, place.fault) if fault]
    baseline = read_baseline(raw)
    granule = _describe(raw, instant, place, baseline)
    decision = None
    try:
        decision = _decide_offset(raw, found, baseline, offset, planetary=planetary)
    except CatalogError as error:
        faults.append(str(error))
    if faults or decision is None:
        return Examined(granule, None, faults[0])
    item = SourceItem(
        **{field.name: getattr(granule, field.name) for field in fields(Granule)},
        assets=tuple(place.assets[band] for band in files),
        offset=decision.offset,
        signing=signing,
        offset_basis=decision.basis,
        href=raw.href,
    )
    warnings = [*place.warnings, *([decision.warning] if decision.warning else [])]
    if item.cloud_cover is None:
        warnings.append("no eo:cloud_cover: kept, whatever the limit")
    return Examined(granule, item, None, tuple(warnings))


def _find_files(raw: RawItem, bands: Sequence[str]) -> dict[str, Json | CatalogError]:
    """The JSON of each band's file, or why there is none."""
    files: dict[str, Json | CatalogError] = {}
    for band in (*bands, *([] if SCL in bands else [SCL])):
        try:
            files[band] = find_asset(raw, band)
        except CatalogError as error:
            files[band] = error
    return files


def _choose_signing(assets: dict[str, Asset], *, planetary: bool) -> Signing:
    """Whether the files need signatures: items of the Planetary Computer may have been downloaded."""
    remote = planetary and any(needs_signature(asset.href) for asset in assets.values())
    return Signing.PLANETARY_COMPUTER if remote else Signing.NONE


def _read_time(raw: RawItem) -> tuple[dt.datetime, str | None]:
    """When an item was taken; where it does not say, the start of its datatake, and that it does not say.

    Raises:
        CatalogError: Neither is there.
    """
    try:
        return raw.read_datetime(), None
    except CatalogError as error:
        if raw.names.datatake is None:
            raise
        return raw.names.datatake, str(error)


def _describe(raw: RawItem, instant: dt.datetime, place: Location, baseline: str | None) -> Granule:
    return Granule(
        id=raw.id,
        collection=raw.collection,
        datetime=instant,
        epsg=place.epsg or 0,
        footprint=shapely.to_wkt(place.footprint, rounding_precision=6),
        processing_baseline=baseline,
        sequence=read_sequence(raw),
        generated=read_generation_time(raw),
        cloud_cover=raw.cloud_cover,
        mgrs_tile=raw.names.mgrs_tile,
        datatake=name_datatake(raw.names, raw.properties.get("platform"), raw.id, instant),
        datastrip=raw.names.datastrip,
    )


def _decide_offset(
    raw: RawItem, files: dict[str, Json], baseline: str | None, policy: OffsetPolicy, *, planetary: bool
) -> Decision:
    """The BOA offset of the item's reflectance bands, by the table of `cloudgan.sentinel2.offset`."""
    reflectance = {band: body for band, body in files.items() if band != SCL}
    declared, warning = read_declared_offset(raw.id, reflectance)
    if isinstance(policy, int):
        return Decision(policy)
    claims = Claims(
        baseline=parse_baseline(baseline),
        collection=raw.collection,
        applied=read_offset_flag(raw),
        declared=declared,
        planetary_computer=planetary,
    )
    decision = decide_offset(claims)
    if decision is None:
        raise CatalogError(
            f"item {raw.id} states no BOA offset, neither a processing baseline nor a raster:bands offset"
            + (f" ({warning})" if warning else "")
        )
    if warning and not decision.warning:
        return replace(decision, warning=warning, basis=OffsetBasis.CONTRADICTED)
    return decision

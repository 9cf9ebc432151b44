"""From a STAC item as its provider wrote it to the little that a run needs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import shapely

from cloudgan.errors import CatalogError
from cloudgan.sentinel2.classification import SCL
from cloudgan.sentinel2.offset import Claims, Decision, decide_offset
from cloudgan.stac.assets import find_asset, read_asset, read_declared_offset
from cloudgan.stac.items import SourceItem
from cloudgan.stac.properties import (
    parse_baseline,
    read_baseline,
    read_datastrip_start,
    read_datatake,
    read_generation_time,
    read_offset_flag,
    read_sequence,
)
from cloudgan.stac.providers import is_planetary_computer
from cloudgan.stac.signing import Signing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cloudgan.stac.raw_items import RawItem
    from cloudgan.stac.values import Json


def parse_item(raw: RawItem, bands: Sequence[str]) -> tuple[SourceItem, tuple[str, ...]]:
    """What a run needs of an item, and warnings about metadata that contradict each other or are missing.

    Args:
        raw: The item.
        bands: Common names of the bands; the scene classification is added.

    Raises:
        CatalogError: The item lacks a band, its CRS, its datetime, its footprint, or everything from which
            its BOA offset can be known.
    """
    planetary = is_planetary_computer(raw)
    assets = {band: find_asset(raw, band) for band in (*bands, *([] if SCL in bands else [SCL]))}
    baseline = read_baseline(raw)
    decision = _decide_offset(raw, assets, baseline, planetary=planetary)
    instant = raw.read_datetime()
    item = SourceItem(
        id=raw.id,
        collection=raw.collection,
        datetime=instant,
        epsg=raw.read_epsg(),
        footprint=shapely.to_wkt(raw.read_footprint(), rounding_precision=6),
        assets=tuple(read_asset(raw, band, body, signed=planetary) for band, body in assets.items()),
        offset=decision.offset,
        processing_baseline=baseline,
        sequence=read_sequence(raw),
        generated=read_generation_time(raw),
        cloud_cover=raw.cloud_cover,
        mgrs_tile=raw.find_mgrs_tile(),
        datatake=read_datatake(raw, instant),
        datastrip=read_datastrip_start(raw),
        signing=Signing.PLANETARY_COMPUTER if planetary else Signing.NONE,
    )
    warnings = [decision.warning] if decision.warning else []
    if item.cloud_cover is None:
        warnings.append("no eo:cloud_cover: kept, whatever the limit")
    return item, tuple(warnings)


def _decide_offset(
    raw: RawItem, assets: dict[str, Json], baseline: str | None, *, planetary: bool
) -> Decision:
    """The BOA offset of the item's reflectance bands, by the table of `cloudgan.sentinel2.offset`."""
    reflectance = {band: body for band, body in assets.items() if band != SCL}
    claims = Claims(
        baseline=parse_baseline(baseline),
        collection=raw.collection,
        applied=read_offset_flag(raw),
        declared=read_declared_offset(raw.id, reflectance),
        planetary_computer=planetary,
    )
    decision = decide_offset(claims)
    if decision is None:
        raise CatalogError(
            f"item {raw.id} states no BOA offset: add s2:processing_baseline or a raster:bands offset"
        )
    return decision

"""What a catalogue holds, before anything is asked of it."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from typing import Any

from shapely.geometry import box

from cloudgan.errors import CatalogError
from cloudgan.sentinel2.bands import BANDS
from cloudgan.sentinel2.classification import SCL
from cloudgan.sentinel2.dates import DateRange
from cloudgan.stac.assets import find_asset
from cloudgan.stac.http import HttpLimits
from cloudgan.stac.query import Query, Source
from cloudgan.stac.raw_items import RawItem
from cloudgan.stac.source import open_source

_EVERYTHING = Query(box(-180, -90, 180, 90), DateRange.parse("2015-01-01/2100-01-01"))


def describe_catalog(stac: str) -> dict[str, Any]:
    """Describe a catalogue.

    Args:
        stac: What `--stac` takes.

    Returns:
        JSON: `location`, `kind` ("API" or "files") and `collections`; of files also `items`, `dates` (first
        and last), `mgrs_tiles`, `bands` (how many items have each) and `unreadable` (features that are no
        items). An API has too many items to be read through.

    Raises:
        CatalogError: It cannot be read, or is no STAC.
        InputError: The user's configuration file cannot be used.
    """
    with open_source(stac, HttpLimits()) as source:
        described = {"location": source.where, "kind": "files" if source.static else "API"}
        found = _describe_items(source) if source.static else {}
        return described | {"collections": source.list_collections()} | found


def _describe_items(source: Source) -> dict[str, Any]:
    features = list(source.search(_EVERYTHING))
    items = [one for one in features if isinstance(one, RawItem)]
    times = sorted(str(item.properties.get("datetime"))[:10] for item in items)
    return {
        "items": len(items),
        "dates": [times[0], times[-1]] if times else [],
        "mgrs_tiles": sorted({item.names.mgrs_tile for item in items if item.names.mgrs_tile}),
        "bands": dict(Counter(band for item in items for band in (*BANDS, SCL) if _has(item, band))),
        "unreadable": len(features) - len(items),
    }


def _has(item: RawItem, band: str) -> bool:
    with suppress(CatalogError):
        find_asset(item, band)
        return True
    return False

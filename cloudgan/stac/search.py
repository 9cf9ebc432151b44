"""A STAC search that ends in clean scenes: checked, without duplicates, one per solar day and UTM zone."""

from __future__ import annotations

import datetime as dt
import itertools
from collections import defaultdict
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from cloudgan import defaults
from cloudgan.errors import CatalogError, InputError
from cloudgan.sentinel2.dates import DateRange, solar_day
from cloudgan.stac.http import HttpLimits
from cloudgan.stac.items import SourceItem
from cloudgan.stac.parsing import parse_item
from cloudgan.stac.providers import DEFAULT_COLLECTION
from cloudgan.stac.query import Query, Source
from cloudgan.stac.raw_items import RawItem
from cloudgan.stac.signing import check_signing
from cloudgan.stac.source import open_source

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from shapely.geometry.base import BaseGeometry

SAME_STRIP = dt.timedelta(minutes=1)
"""Datastrips of one datatake that begin further apart are pieces of it, not versions of each other."""
WIDER_COUNT = 100
"""Items counted at most in a wider search for an error message: it must stay cheap."""
_ANY_TIME = DateRange(dt.date(2015, 1, 1), dt.date(2999, 12, 31))


@dataclass(frozen=True, slots=True)
class Scene:
    """What was observed of one UTM zone in one solar day."""

    date: dt.date
    """The solar day."""
    epsg: int
    """EPSG code of the UTM zone."""
    items: tuple[SourceItem, ...]
    """Its items in mosaicking order, first on top; the order depends on the items alone, not on the area."""


@dataclass(frozen=True, slots=True)
class Selection:
    """What a search found."""

    scenes: tuple[Scene, ...]
    """The scenes by date, then zone; at least one."""
    found: int
    """Items that matched, duplicates included."""
    duplicates: tuple[str, ...]
    """Ids of the items left out because a newer version of the same granule is there."""
    warnings: tuple[str, ...]
    """For the user: metadata that contradict each other or are missing, servers that filter wrongly."""

    @property
    def items(self) -> tuple[SourceItem, ...]:
        """All items of all scenes."""
        return tuple(item for scene in self.scenes for item in scene.items)


def find_scenes(
    geometry: BaseGeometry,
    dates: DateRange,
    *,
    bands: Sequence[str],
    stac: str = defaults.STAC,
    collection: str | None = None,
    max_cloud_cover: float = defaults.MAX_CLOUD_COVER,
    context_days: int = 0,
    limits: HttpLimits | None = None,
) -> Selection:
    """Search for Sentinel-2 L2A items, and make scenes of them.

    Date, area, collection and cloud cover are checked here, whatever the server filtered. Items that state no
    cloud cover are kept with a warning, unless a server that filters by cloud cover leaves them out itself.

    Args:
        geometry: Area of interest in longitude and latitude (WGS 84).
        dates: When; days are solar days, see `DateRange`.
        bands: Common names of the bands to read (`green`, `red`, `nir`...); the scene classification is
            added.
        stac: A short name (`earth-search`, `planetary-computer`), the URL of a STAC API, or the path or URL
            of a static catalogue, collection or item collection.
        collection: Collection id; None for `sentinel-2-l2a` in an API, and for everything in a static
            catalogue.
        max_cloud_cover: Percent of a granule, included.
        context_days: Days before and after `dates` whose items come along, if `dates` itself has any.
        limits: How long the server may take; the defaults of `HttpLimits` where None.

    Raises:
        CatalogError: The catalogue cannot be reached or is none, holds nothing for this request (the message
            says what a wider search finds), or holds an item that lacks a band, its CRS or its radiometry.
        InputError: The area is empty, the cloud limit is no percentage, or items need the extra `planetary`.
    """
    if not 0 <= max_cloud_cover <= 100:
        raise InputError(f"the cloud cover limit is a percentage from 0 to 100, got {max_cloud_cover:g}")
    if geometry.is_empty:
        raise InputError("the area to search in is empty: give a polygon")
    with open_source(stac, limits or HttpLimits()) as source:
        if collection is None and not source.static:
            collection = DEFAULT_COLLECTION
        query = Query(geometry, dates, collection, max_cloud_cover if max_cloud_cover < 100 else None)
        wider = replace(query, dates=dates.widen(context_days)) if context_days else query
        found = _collect(source, wider, bands)
        if not found.items and query.max_cloud_cover is not None and source.filters_clouds:
            found = _collect(source, wider, bands, trust_filter=False)
        if not any(dates.contains(item.datetime, item.solar_day) for item in found.items.values()):
            raise CatalogError(_explain_nothing(source, query))
    return _select(found)


@dataclass
class _Found:
    """Items as they come in; their JSON, ten times the size, is dropped at once."""

    items: dict[tuple[str | None, str], SourceItem] = field(default_factory=dict)
    """By collection and id: an item listed twice counts once."""
    server_warnings: list[str] = field(default_factory=list)
    """Warnings about the server."""
    item_warnings: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    """Warnings about items, and the ids of the items that each is about."""


def _collect(source: Source, query: Query, bands: Sequence[str], *, trust_filter: bool = True) -> _Found:
    """All items of the source that match the query, checked here.

    Some servers answer any cloud filter with nothing: with `trust_filter` false, none is sent.
    """
    found = _Found()
    for raw in source.search(query if trust_filter else replace(query, max_cloud_cover=None)):
        if (raw.collection, raw.id) in found.items or not _matches(raw, query):
            continue
        item, warnings = parse_item(raw, bands)
        found.items[raw.collection, raw.id] = item
        for warning in warnings:
            found.item_warnings[warning].append(item.id)
    if found.items and not trust_filter:
        found.server_warnings.append(
            f"{source.where} answers a cloud cover filter with nothing although items pass it: filtered here"
        )
    return found


def _matches(raw: RawItem, query: Query) -> bool:
    """Whether an item is what was asked for: collection, cloud cover, time and place."""
    if query.collection is not None and raw.collection != query.collection:
        return False
    cloud_cover = raw.cloud_cover
    if query.max_cloud_cover is not None and cloud_cover is not None and cloud_cover > query.max_cloud_cover:
        return False
    if not raw.read_footprint().intersects(query.area):
        return False
    instant = raw.read_datetime()
    return query.dates.contains(instant, solar_day(instant, raw.read_epsg()))


def _select(found: _Found) -> Selection:
    """The scenes of the items that matched."""
    for signing in {item.signing for item in found.items.values()}:
        check_signing(signing)
    kept, dropped = drop_duplicates(found.items.values())
    return Selection(
        scenes=group_scenes(kept),
        found=len(found.items),
        duplicates=tuple(item.id for item in dropped),
        warnings=(
            *found.server_warnings,
            *(f"{text} ({_name_items(ids)})" for text, ids in sorted(found.item_warnings.items())),
        ),
    )


def drop_duplicates(items: Iterable[SourceItem]) -> tuple[list[SourceItem], list[SourceItem]]:
    """Items without older versions of the same granule, and the versions dropped; both in mosaicking order.

    Versions share MGRS tile, datatake and the start of the datastrip to within a minute; the highest
    processing baseline stays, then the highest sequence. Two granules of one tile and datatake whose
    datastrips begin further apart are pieces (the downlink was cut), and both stay.
    """
    kept: list[SourceItem] = []
    dropped: list[SourceItem] = []
    groups: dict[tuple[str, str], list[SourceItem]] = defaultdict(list)
    for item in sorted(items, key=mosaicking_order):
        group = groups[item.mgrs_tile or item.id, item.datatake or item.id]
        if any(_time_apart(item, better) <= SAME_STRIP for better in group):
            dropped.append(item)
        else:
            group.append(item)
            kept.append(item)
    return kept, dropped


def group_scenes(items: Iterable[SourceItem]) -> tuple[Scene, ...]:
    """One scene per solar day and UTM zone, by date, then zone."""
    groups: dict[tuple[dt.date, int], list[SourceItem]] = defaultdict(list)
    for item in sorted(items, key=mosaicking_order):
        groups[item.solar_day, item.epsg].append(item)
    return tuple(Scene(day, epsg, tuple(groups[day, epsg])) for day, epsg in sorted(groups))


def mosaicking_order(item: SourceItem) -> tuple[float | str, ...]:
    """Sorts items first on top: the newest processing first, then by time and id.

    A total order of the items themselves, so that the pixel on top is the same for any area asked for.
    """
    major, minor = item.baseline
    generated = item.generated.timestamp() if item.generated else 0.0
    newest_first = (-major, -minor, -item.sequence, -generated)
    return (*newest_first, item.datetime.timestamp(), item.id, item.collection or "")


def _time_apart(one: SourceItem, other: SourceItem) -> dt.timedelta:
    """How far apart the datastrips of two items began; or they were taken, where one does not say."""
    if one.datastrip and other.datastrip:
        return abs(one.datastrip - other.datastrip)
    return abs(one.datetime - other.datetime)


def _explain_nothing(source: Source, query: Query) -> str:
    """Why there are no items: one sentence with what wider searches find, and what to change."""
    limit = query.max_cloud_cover
    asked = f"no items for {query.dates} in this AOI" + (
        "" if limit is None else f" at cloud cover <= {limit:g} %"
    )
    if limit is not None and (found := _sample(source, replace(query, max_cloud_cover=None))):
        return f"{asked}; {_describe_count(found)} without the limit: use --max-cloud-cover 100"
    known = source.list_collections()
    if query.collection is not None and known and query.collection not in known:
        missing = f"{source.where} has no collection {query.collection}"
        return f"{asked}: {missing}, change --collection (it has {_list_names(known)})"
    for dates in (query.dates.whole_years(), _ANY_TIME):
        if found := _sample(source, replace(query, dates=dates)):
            days = sorted(raw.read_datetime().date() for raw in found)
            return f"{asked}; {_describe_count(found)} between {days[0]} and {days[-1]}: widen --dates"
    where = f"collection {query.collection} of {source.where}" if query.collection else source.where
    return f"{asked}, nor at any other time in {where}: check --aoi, --collection and --stac"


def _sample(source: Source, query: Query) -> list[RawItem]:
    """Items that match a wider query: all among the first `WIDER_COUNT` that the source returns."""
    try:
        return [raw for raw in itertools.islice(source.search(query), WIDER_COUNT) if _matches(raw, query)]
    except CatalogError:
        return []  # the message does without


def _describe_count(found: Sequence[RawItem]) -> str:
    exist = "exists" if len(found) == 1 else "exist"
    return f"{'at least ' if len(found) >= WIDER_COUNT else ''}{len(found)} {exist}"


def _list_names(names: Sequence[str]) -> str:
    return ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")


def _name_items(ids: Sequence[str]) -> str:
    return ids[0] if len(ids) == 1 else f"{len(ids)} items, {min(ids)} for one"

"""A STAC search that ends in clean scenes: checked, without duplicates, one per solar day and UTM zone."""

from __future__ import annotations

import datetime as dt
import itertools
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from cloudgan import defaults
from cloudgan.errors import CatalogError, InputError
from cloudgan.sentinel2.dates import DateRange
from cloudgan.stac.frames import locate_without_frame
from cloudgan.stac.http import HttpLimits
from cloudgan.stac.items import Granule, SourceItem
from cloudgan.stac.parsing import Examined, examine_item
from cloudgan.stac.providers import DEFAULT_COLLECTION
from cloudgan.stac.query import Query, Source
from cloudgan.stac.raw_items import RawItem
from cloudgan.stac.signing import check_signing
from cloudgan.stac.source import open_source
from cloudgan.stac.versions import group_versions, mosaicking_order

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from shapely.geometry.base import BaseGeometry

    from cloudgan.sentinel2.offset import OffsetPolicy
    from cloudgan.stac.frames import ReadFrame

MAX_NAMED = 10
"""Items left out that are named in warnings; the report names all."""
WIDER_COUNT = 100
"""Items counted at most in a wider search for an error message: it must stay cheap."""
_ANY_TIME = DateRange(dt.date(2015, 1, 1), dt.date(2999, 12, 31))
_BATCH = 256  # items examined before the next ones are read
_THREADS = 8  # items whose files are asked at once: a remote file is mostly waiting


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
class LeftOut:
    """An item that was found and cannot be used."""

    id: str
    """The item's id; empty where it has none."""
    reason: str
    """Why, in one sentence that names it."""
    epsg: int | None = None
    """EPSG code of its UTM zone; None where unknown."""

    def as_json(self) -> dict[str, str]:
        """Id and reason."""
        return {"id": self.id, "reason": self.reason}


@dataclass(frozen=True, slots=True)
class Selection:
    """What a search found."""

    scenes: tuple[Scene, ...]
    """The scenes by date, then zone; at least one."""
    found: int
    """Items that matched, duplicates included."""
    duplicates: tuple[str, ...]
    """Ids of the items left out because a newer version of the same granule is there."""
    remarks: tuple[str, ...] = ()
    """Warnings of metadata that contradict each other or are missing, and of servers that fail in silence."""
    left_out: tuple[LeftOut, ...] = ()
    """Items that match and cannot be used; an older version that can be used is none of them."""

    @property
    def warnings(self) -> tuple[str, ...]:
        """All that the user should know: the remarks, and the items left out."""
        return (*self.remarks, *warn_left_out(self.left_out))

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
    offset: OffsetPolicy = "auto",
    read_frame: ReadFrame | None = None,
    limits: HttpLimits | None = None,
) -> Selection:
    """Search for Sentinel-2 L2A items, and make scenes of them.

    Date, area, collection and cloud cover are checked here, whatever the server filtered. Items that state no
    cloud cover are kept with a warning, unless a server that filters by cloud cover leaves them out itself.
    An item that cannot be used is left out and named; of its versions the newest one that can be used is
    taken.

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
        offset: What decides the BOA offset of an item; see `OffsetPolicy`. Pixels are not read here.
        read_frame: Reads where a file lies, for items that do not state it, or state it wrongly; None to do
            without.
        limits: How long the server may take; the defaults of `HttpLimits` where None.

    Raises:
        CatalogError: The catalogue cannot be reached or is none, or holds nothing that can be used for this
            request; the message says what a wider search finds, or why what was found cannot be used.
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
        return _search(source, query, context_days, _Examination(bands, offset, read_frame))


def _search(source: Source, query: Query, context_days: int, examine: _Examination) -> Selection:
    """The scenes of an open source; see `find_scenes`."""
    wider = replace(query, dates=query.dates.widen(context_days)) if context_days else query
    found = _collect(source, wider, examine)
    if not found.examined and query.max_cloud_cover is not None and source.filters_clouds:
        found = _collect(source, wider, examine, trust_filter=False)
    selection = _select(found)
    if not any(query.dates.contains(item.datetime, item.solar_day) for item in selection.items):
        within = [one for one in selection.left_out if found.may_lie_in(one, query)]
        raise CatalogError(_explain_unusable(within, query) if within else _explain_nothing(source, query))
    return selection


@dataclass(frozen=True, slots=True)
class _Examination:
    """How items are examined."""

    bands: Sequence[str]
    offset: OffsetPolicy
    read_frame: ReadFrame | None

    def __call__(self, raw: RawItem) -> Examined | CatalogError:
        """What became of an item; the error where not even its time and place are known."""
        try:
            return examine_item(raw, self.bands, offset=self.offset, read_frame=self.read_frame)
        except CatalogError as error:
            return error


@dataclass
class _Found:
    """Items as they come in; their JSON, ten times the size, is dropped at once."""

    examined: dict[tuple[str | None, str], Examined] = field(default_factory=dict)
    """By collection and id: an item listed twice counts once."""
    unknown: list[LeftOut] = field(default_factory=list)
    """Features of which not even time and place are known."""
    server_warnings: list[str] = field(default_factory=list)
    """Warnings about the server."""

    def add(self, raw: RawItem, examined: Examined | CatalogError, query: Query) -> None:
        """Keep an item if it is what was asked for."""
        if isinstance(examined, CatalogError):
            self.unknown.append(LeftOut(raw.id, str(examined)))
        elif _matches(examined.granule, query):
            self.examined.setdefault((raw.collection, raw.id), examined)

    def may_lie_in(self, one: LeftOut, query: Query) -> bool:
        """Whether an item that was left out may lie in the dates."""
        granules = [each.granule for (_, name), each in self.examined.items() if name == one.id]
        return not granules or any(_matches(granule, query) for granule in granules)


def _collect(source: Source, query: Query, examine: _Examination, *, trust_filter: bool = True) -> _Found:
    """All items of the source that match the query, checked here.

    Some servers answer any cloud filter with nothing: with `trust_filter` false, none is sent.
    """
    found = _Found()
    asked = query if trust_filter else replace(query, max_cloud_cover=None)
    with ThreadPoolExecutor(_THREADS) as pool:
        candidates = (
            raw
            for raw in _iterate_items(source, asked, found)
            if (raw.collection, raw.id) not in found.examined and _may_match(raw, query)
        )
        # In batches: a page is examined at a time, and its JSON dropped.
        while batch := list(itertools.islice(candidates, _BATCH)):
            for raw, examined in zip(batch, pool.map(examine, batch), strict=True):
                found.add(raw, examined, query)
    found.server_warnings += source.warnings
    if found.examined and not trust_filter:
        found.server_warnings.append(
            f"{source.where} answers a cloud cover filter with nothing although items pass it: filtered here"
        )
    return found


def _iterate_items(source: Source, query: Query, found: _Found) -> Iterator[RawItem]:
    """The items of a source; features that are none are named once."""
    for raw in source.search(query):
        if isinstance(raw, RawItem):
            yield raw
        elif str(raw) not in {one.reason for one in found.unknown}:
            found.unknown.append(LeftOut("", str(raw)))


def _may_match(raw: RawItem, query: Query) -> bool:
    """Whether an item may be what was asked for; where it certainly is not, no file is opened."""
    if query.collection is not None and raw.collection != query.collection:
        return False
    cloud_cover = raw.cloud_cover
    if query.max_cloud_cover is not None and cloud_cover is not None and cloud_cover > query.max_cloud_cover:
        return False
    try:
        first, last = query.dates.utc_span()
        if not first <= raw.read_datetime() <= last:
            return False
        if raw.states_transform:
            return True  # the frame decides
        place = locate_without_frame(raw.read_geometry(), raw.find_epsg())
        return place.area == 0 or bool(query.area.intersects(place))
    except CatalogError:
        return True  # it is examined, and named


def _matches(granule: Granule, query: Query) -> bool:
    """Whether an item is in the time and place that were asked for, as far as both are known."""
    if not query.dates.contains(granule.datetime, granule.solar_day):
        return False
    place = granule.geometry
    return place.is_empty or bool(query.area.intersects(place))


def _select(found: _Found) -> Selection:
    """The scenes of the items that matched: of each piece the newest version that can be used."""
    examined = {one.granule: one for one in found.examined.values()}
    kept: list[Examined] = []
    duplicates: list[Granule] = []
    left_out = list(found.unknown)
    for group in group_versions(examined):
        usable = next((at for at, granule in enumerate(group) if examined[granule].item), len(group))
        broken = (examined[granule] for granule in group[:usable])
        left_out += [LeftOut(one.granule.id, one.fault or "", one.granule.epsg or None) for one in broken]
        kept += [examined[granule] for granule in group[usable : usable + 1]]
        duplicates += group[usable + 1 :]
    items = [one.item for one in kept if one.item is not None]
    for signing in {item.signing for item in items}:
        check_signing(signing)
    remarks: dict[str, list[str]] = defaultdict(list)
    for one in kept:
        for text in one.warnings:
            remarks[text].append(one.granule.id)
    return Selection(
        scenes=group_scenes(items),
        found=len(found.examined),
        duplicates=tuple(granule.id for granule in sorted(duplicates, key=mosaicking_order)),
        remarks=(
            *found.server_warnings,
            *(f"{text} ({_name_items(ids)})" for text, ids in sorted(remarks.items())),
        ),
        left_out=tuple(left_out),
    )


def warn_left_out(left_out: Sequence[LeftOut]) -> tuple[str, ...]:
    """Warnings that name items that were left out, and why."""
    named = [f"left out: {one.reason}" for one in left_out[:MAX_NAMED]]
    more = len(left_out) - len(named)
    return (*named, *([f"left out: {more} items more, all named in the report"] if more else []))


def group_scenes(items: Iterable[SourceItem]) -> tuple[Scene, ...]:
    """One scene per solar day and UTM zone, by date, then zone."""
    groups: dict[tuple[dt.date, int], list[SourceItem]] = defaultdict(list)
    for item in sorted(items, key=mosaicking_order):
        groups[item.solar_day, item.epsg].append(item)
    return tuple(Scene(day, epsg, tuple(groups[day, epsg])) for day, epsg in sorted(groups))


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
            days = sorted(granule.datetime.date() for granule in found)
            return f"{asked}; {_describe_count(found)} between {days[0]} and {days[-1]}: widen --dates"
    where = f"collection {query.collection} of {source.where}" if query.collection else source.where
    return f"{asked}, nor at any other time in {where}: check --aoi, --collection and --stac"


def _explain_unusable(left_out: Sequence[LeftOut], query: Query) -> str:
    """Why no item is left: one sentence with the first reasons, and what to change."""
    reasons = "; ".join(one.reason for one in left_out[:3])
    more = f"; and {len(left_out) - 3} more" if len(left_out) > 3 else ""
    count = "the only item" if len(left_out) == 1 else f"all {len(left_out)} items"
    return (
        f"{count} for {query.dates} in this AOI cannot be used: {reasons}{more}; choose another "
        "--collection or --stac, other --dates, or a model that does without"
    )


def _sample(source: Source, query: Query) -> list[Granule]:
    """Items that match a wider query: all among the first `WIDER_COUNT` that the source returns."""
    try:
        raws = [
            raw for raw in itertools.islice(source.search(query), WIDER_COUNT) if isinstance(raw, RawItem)
        ]
    except CatalogError:
        return []  # the message does without
    examine = _Examination((), 0, None)
    examined = (examine(raw) for raw in raws if _may_match(raw, query))
    granules = (one.granule for one in examined if isinstance(one, Examined))
    return [granule for granule in granules if _matches(granule, query)]


def _describe_count(found: Sequence[Granule]) -> str:
    exist = "exists" if len(found) == 1 else "exist"
    return f"{'at least ' if len(found) >= WIDER_COUNT else ''}{len(found)} {exist}"


def _list_names(names: Sequence[str]) -> str:
    return ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")


def _name_items(ids: Sequence[str]) -> str:
    return ids[0] if len(ids) == 1 else f"{len(ids)} items, {min(ids)} for one"

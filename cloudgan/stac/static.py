"""Items of catalogues in JSON files, local or on the web, link by link."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from shapely.errors import ShapelyError
from shapely.geometry import box

from cloudgan.errors import CatalogError
from cloudgan.stac.documents import count_matched, find_next, read_features, read_kind, read_links
from cloudgan.stac.hrefs import resolve_href
from cloudgan.stac.query import check_count
from cloudgan.stac.raw_items import RawItem, read_items

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cloudgan.stac.http import JsonReader
    from cloudgan.stac.query import Query
    from cloudgan.stac.values import Json

MAX_DOCUMENTS = 20_000
"""Files of a catalogue that are read at most: one whose tree has no end would be read for ever."""
MAX_DEPTH = 32
"""Links from a catalogue to its deepest item."""
MAX_KEPT_BYTES = 16 << 20
"""Of the documents kept in memory for a second search; JSON takes twenty times as much memory."""


class StaticSource:
    """A catalogue, collection, item collection or item in files; see `cloudgan.stac.query.Source`."""

    static = True
    filters_clouds = False

    def __init__(self, where: str, landing: Json, reader: JsonReader) -> None:
        """Start from the document that was read from `where`."""
        self.where = where
        self.warnings: list[str] = []
        self._reader = reader
        self._bodies = {where: landing}
        self._kept_bytes = 0
        self._collections: set[str] = set()

    def search(self, query: Query) -> Iterator[RawItem | CatalogError]:
        """All items of the files that may hold what is asked for; and what they hold that is no item.

        Raises:
            CatalogError: A file cannot be read or is no STAC, or there is no end of them.
        """
        self.warnings = []
        found = 0
        todo = [_Link(self.where, None, 0)]
        visited: set[str] = set()
        while todo:
            link = todo.pop()
            if link.where in visited:  # catalogues may be linked twice, or in circles
                continue
            visited.add(link.where)
            _check_extent(len(visited), link.depth, self.where)
            body = self._read(link.where)
            kind = read_kind(body, link.where)
            if kind in ("Feature", "FeatureCollection"):
                features = [body] if kind == "Feature" else read_features(body, link.where)
                found += len(features)
                check_count(found, link.where)
                yield from read_items(features, link.where, link.parent)
            if kind == "FeatureCollection":
                todo += self._follow_next(body, link)
            elif kind != "Feature":
                todo += self._follow_links(body, kind, link, query)
        matched = count_matched(self._bodies[self.where])
        if matched is not None and found < matched:
            self.warnings.append(
                f"{self.where} counts {matched} items that match and holds {found}: {matched - found} are "
                "missing; save all pages of the search"
            )

    def list_collections(self) -> list[str]:
        """Ids of the collections met so far."""
        return sorted(self._collections)

    def _follow_next(self, body: Json, link: _Link) -> list[_Link]:
        """The page that follows a saved one, if it can be followed."""
        further = find_next(body, link.where)
        if further is None:
            return []
        if further["method"] != "GET":
            self.warnings.append(
                f"{link.where} names a further page that a saved search cannot follow: items may be "
                "missing; save all pages of the search"
            )
            return []
        return [_Link(resolve_href(further["href"], link.where), link.parent, link.depth)]

    def _follow_links(self, body: Json, kind: str, link: _Link, query: Query) -> list[_Link]:
        """The files that `body` leads to and that may hold what is asked for."""
        rels = {"child", "item"}
        parent = str(body.get("id")) if kind == "Collection" else None
        if parent is not None:
            self._collections.add(parent)
            if query.collection not in (None, parent) or not _may_hold(body, query):
                rels = {"child"}  # a collection may hold others
        every = read_links(body)
        links = [each for each in every if each["rel"] in rels and each.get("method", "GET") == "GET"]
        if kind == "Collection" and not links and any(each["rel"] == "items" for each in every):
            raise CatalogError(
                f"{link.where} is one collection of an API: give the API's own address as --stac, "
                f"and --collection {parent}"
            )
        return [_Link(resolve_href(each["href"], link.where), parent, link.depth + 1) for each in links]

    def _read(self, where: str) -> Json:
        """A document; a second, wider search reads few of them again."""
        if where in self._bodies:
            return self._bodies[where]
        before = self._reader.bytes_read
        body = self._reader.read_json(where)
        size = self._reader.bytes_read - before
        if self._kept_bytes + size <= MAX_KEPT_BYTES:
            self._kept_bytes += size
            self._bodies[where] = body
        return body


@dataclass(frozen=True, slots=True)
class _Link:
    """A document to read."""

    where: str
    """Its file or URL."""
    parent: str | None
    """Id of the collection that leads to it."""
    depth: int
    """Links from the first document to it, without those from page to page."""


def _check_extent(documents: int, depth: int, where: str) -> None:
    """Give a tree up that does not end.

    Raises:
        CatalogError: It has over `MAX_DOCUMENTS` documents, or is over `MAX_DEPTH` links deep.
    """
    if documents > MAX_DOCUMENTS or depth > MAX_DEPTH:
        extent = f"{MAX_DEPTH} links deep" if depth > MAX_DEPTH else f"{MAX_DOCUMENTS} documents large"
        raise CatalogError(
            f"the catalogue at {where} is over {extent}: give one of its collections as --stac, or an API"
        )


def _may_hold(collection: Json, query: Query) -> bool:
    """Whether the extent that a collection states meets the query; true where it states none."""
    extent: Json = collection.get("extent") or {}
    try:
        boxes = [box(*_corners(numbers)) for numbers in extent["spatial"]["bbox"]]
        intervals = [(str(start or ""), str(end or "")) for start, end in extent["temporal"]["interval"]]
    except (KeyError, TypeError, ValueError, IndexError, OverflowError, AttributeError, ShapelyError):
        return True
    first, last = (instant.isoformat()[:10] for instant in query.dates.utc_span())
    # Dates sort as text, and the day is enough: the span is wider than asked by a day on either side.
    in_time = any(start[:10] <= last and (not end or end[:10] >= first) for start, end in intervals)
    return in_time and any(area.intersects(query.area) for area in boxes)


def _corners(bbox: list[float]) -> tuple[float, float, float, float]:
    half = len(bbox) // 2
    west, south, east, north = bbox[0], bbox[1], bbox[half], bbox[half + 1]
    # Across the antimeridian the west is the larger number; such a box is not worth two.
    return (west, south, east, north) if west <= east else (-180.0, south, 180.0, north)

"""Items of catalogues in JSON files, local or on the web, link by link."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shapely.errors import ShapelyError
from shapely.geometry import box

from cloudgan.errors import CatalogError
from cloudgan.stac.documents import read_features, read_kind, read_links
from cloudgan.stac.hrefs import resolve_href
from cloudgan.stac.query import check_count
from cloudgan.stac.raw_items import RawItem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cloudgan.stac.http import JsonReader
    from cloudgan.stac.query import Query
    from cloudgan.stac.values import Json


class StaticSource:
    """A catalogue, collection, item collection or item in files; see `cloudgan.stac.query.Source`."""

    static = True
    filters_clouds = False

    def __init__(self, where: str, landing: Json, reader: JsonReader) -> None:
        """Start from the document that was read from `where`."""
        self.where = where
        self._reader = reader
        self._bodies = {where: landing}
        self._collections: set[str] = set()

    def search(self, query: Query) -> Iterator[RawItem]:
        """All items of the files that may hold what is asked for.

        Raises:
            CatalogError: A file cannot be read or is no STAC, or there is no end of them.
        """
        found = 0
        todo: list[tuple[str, str | None]] = [(self.where, None)]
        visited: set[str] = set()
        while todo:
            where, parent = todo.pop()
            if where in visited:  # catalogues may be linked twice, or in circles
                continue
            visited.add(where)
            check_count(len(visited), self.where, "files")
            body = self._read(where)
            kind = read_kind(body, where)
            if kind in ("Feature", "FeatureCollection"):
                features = [body] if kind == "Feature" else read_features(body, where)
                found += len(features)
                check_count(found, where)
                yield from (RawItem(feature, where, parent) for feature in features)
            todo += self._follow_links(body, kind, where, query)

    def list_collections(self) -> list[str]:
        """Ids of the collections met so far."""
        return sorted(self._collections)

    def _follow_links(self, body: Json, kind: str, where: str, query: Query) -> list[tuple[str, str | None]]:
        """The files that `body` leads to and that may hold what is asked for, and their collection."""
        rels = {"FeatureCollection": {"next"}, "Feature": set()}.get(kind, {"child", "item"})
        parent = str(body.get("id")) if kind == "Collection" else None
        if parent is not None:
            self._collections.add(parent)
            if query.collection not in (None, parent) or not _may_hold(body, query):
                rels = {"child"}  # a collection may hold others
        every = read_links(body)
        links = [link for link in every if link["rel"] in rels and link.get("method", "GET") == "GET"]
        if kind == "Collection" and not links and any(link["rel"] == "items" for link in every):
            raise CatalogError(
                f"{where} is one collection of an API: give the API's own address as --stac, "
                f"and --collection {parent}"
            )
        return [(resolve_href(link["href"], where), parent) for link in links]

    def _read(self, where: str) -> Json:
        if where not in self._bodies:  # a second, wider search reads nothing twice
            self._bodies[where] = self._reader.read_json(where)
        return self._bodies[where]


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

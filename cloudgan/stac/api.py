"""Items of a STAC API, by search, page by page."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import pystac
import shapely
from pystac_client import Client
from pystac_client.warnings import PystacClientWarning
from shapely.geometry import mapping

from cloudgan.errors import CatalogError
from cloudgan.stac.documents import (
    count_matched,
    find_next,
    find_self_href,
    not_stac,
    read_features,
    read_links,
)
from cloudgan.stac.hrefs import is_url, resolve_href
from cloudgan.stac.query import check_count
from cloudgan.stac.raw_items import RawItem, read_items

if TYPE_CHECKING:
    from collections.abc import Iterator

    from shapely.geometry.base import BaseGeometry

    from cloudgan.stac.http import JsonReader
    from cloudgan.stac.query import Query
    from cloudgan.stac.values import Json

MAX_EMPTY_PAGES = 3
"""Pages without items in a row, each naming a further one, after which a search ends: some servers filter
late."""
PAGE_SIZE = 100
"""Items asked for at a time: each is 10 to 40 kB of JSON, and larger pages make servers time out."""
MAX_VERTICES = {"POST": 1000, "GET": 50}
"""Vertices of an area that a request body, or a URL, can hold; larger areas are asked for by hull or box."""


class ApiSource:
    """A STAC API; see `cloudgan.stac.query.Source`."""

    static = False

    def __init__(self, where: str, landing: Json, reader: JsonReader) -> None:
        """Take the landing page that was read from `where`.

        Raises:
            CatalogError: It is broken.
        """
        self.where = where
        self.warnings: list[str] = []
        self._reader = reader
        try:
            client = reader.stac_object_from_dict(landing, href=where)
        except (KeyError, TypeError, ValueError, AttributeError, pystac.errors.STACError) as err:
            raise not_stac(where) from err
        if not isinstance(client, Client):
            raise not_stac(where)
        client.add_conforms_to("ITEM_SEARCH")  # servers of before 1.0 have the link and do not say so
        self._client = client
        links = [link for link in read_links(landing) if link["rel"] == "search"]
        methods = {str(link.get("method", "GET")).upper() for link in links}
        self._method = "POST" if "POST" in methods or not methods else "GET"

    @property
    def filters_clouds(self) -> bool:
        """Whether the server advertises a language in which the cloud cover can be limited."""
        return bool(self._cloud_filter(0.0))

    def search(self, query: Query) -> Iterator[RawItem | CatalogError]:
        """Items that may match, until the server has no further page; and what it delivers that is no item.

        Raises:
            CatalogError: The server fails, or its pages do not end.
        """
        self.warnings = []
        known: set[str] = set()
        matched: int | None = None
        address, pages = self._read_pages(self._search_arguments(query))
        for page in pages:
            matched = count_matched(page) if matched is None else matched
            features = read_features(page, self.where)
            new = [each for each in self._read_items(features, address) if _key(each) not in known]
            if features and not new:
                raise CatalogError(
                    f"{self.where} pages in circles, the same items came twice: use another --stac"
                )
            known |= {_key(each) for each in new}
            check_count(len(known), self.where)
            yield from new
        if matched is not None and len(known) < matched:
            self.warnings.append(
                f"{self.where} counts {matched} items that match and delivered {len(known)}: "
                f"{matched - len(known)} are missing; run again later, or ask for fewer dates"
            )

    @staticmethod
    def _read_items(features: list[Json], address: str) -> Iterator[RawItem | CatalogError]:
        """The items of a page; their relative hrefs count from where they say that they lie, on the web."""
        for body in features:
            yield from read_items([body], find_self_href(body) or address)

    def list_collections(self) -> list[str]:
        """Ids of the collections that the API lists; empty where it cannot be asked."""
        links = read_links(self._client.to_dict())
        href = next((link["href"] for link in links if link["rel"] == "data"), None)
        try:
            page = self._reader.read_json(href or f"{self.where.rstrip('/')}/collections")
        except CatalogError:
            return []  # only asked to make an error message more helpful
        found = page.get("collections")
        if not isinstance(found, list):
            return []
        return [str(body.get("id")) for body in found if isinstance(body, dict)]

    def _search_arguments(self, query: Query) -> dict[str, Any]:
        first, last = query.dates.utc_span()
        arguments: dict[str, Any] = {
            "method": self._method,
            "limit": PAGE_SIZE,
            "collections": [query.collection] if query.collection else None,
            "datetime": f"{first.isoformat()[:19]}Z/{last.isoformat()[:19]}Z",
            "intersects": mapping(_simplify(query.area, MAX_VERTICES[self._method])),
        }
        if query.max_cloud_cover is not None:
            arguments |= self._cloud_filter(query.max_cloud_cover)
        return arguments

    def _read_pages(self, arguments: dict[str, Any]) -> tuple[str, Iterator[Json]]:
        """The address that is searched at, and the pages that it answers."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", PystacClientWarning)  # about links that it then guesses right
                search = self._client.search(**arguments)
            address = str(search.url)
        except (KeyError, TypeError, ValueError, AttributeError, pystac.errors.STACError) as err:
            raise not_stac(self.where) from err
        if not is_url(address):  # the landing page is a file: what a server sends counts from the server
            raise CatalogError(
                f"{self.where} is the landing page of an API that names no web address to search at "
                f"({address[:100]!r}): give the API's own address as --stac"
            )
        return address, self._follow_pages(address, search.method or "GET", search.get_parameters())

    def _follow_pages(self, address: str, method: str, parameters: dict[str, Any]) -> Iterator[Json]:
        page = self._reader.read_json(address, method=method, parameters=parameters)
        empty = 0
        while True:
            yield page
            link = find_next(page, self.where)
            if link is None:
                return
            empty = 0 if page.get("features") else empty + 1
            if empty >= MAX_EMPTY_PAGES:
                self.warnings.append(
                    f"{self.where} answers with {empty} pages in a row that hold nothing and name a further "
                    "one: items may be missing; run again later, or ask for fewer dates"
                )
                return
            href = resolve_href(str(link["href"]), address)
            page = self._reader.read_json(pystac.Link.from_dict(link | {"href": href}), parameters=parameters)

    def _cloud_filter(self, limit: float) -> dict[str, Any]:
        """Search arguments that limit the cloud cover, in a language that the server advertises, or none."""
        if self._client.conforms_to("QUERY"):
            return {"query": {"eo:cloud_cover": {"lte": limit}}}
        conforms = self._client.get_conforms_to()
        if (
            self._client.conforms_to("FILTER")
            and any("cql2-json" in uri for uri in conforms)
            and self._method == "POST"
        ):
            at_most = {"op": "<=", "args": [{"property": "eo:cloud_cover"}, limit]}
            return {"filter": at_most, "filter_lang": "cql2-json"}
        return {}


def _key(found: RawItem | CatalogError) -> str:
    """What tells an item from others: its collection and id; of what is no item, the reason."""
    return f"{found.collection}/{found.id}" if isinstance(found, RawItem) else str(found)


def _simplify(area: BaseGeometry, max_vertices: int) -> BaseGeometry:
    """The area, or a simple one around it where it has more vertices than a request should hold."""
    for simpler in (area, area.convex_hull):
        if shapely.get_num_coordinates(simpler) <= max_vertices:
            return simpler
    return area.envelope

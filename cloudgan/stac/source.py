"""Where STAC items come from: a search API, or a catalogue or item collection in files.

Nothing that a server says about its own filtering is believed here: a source may return more than was asked
for, and `cloudgan.stac.search` checks every predicate again.
"""

from __future__ import annotations

import json
import time
import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

import pystac
import requests
import shapely
from pystac_client import Client
from pystac_client.exceptions import APIError
from pystac_client.stac_api_io import StacApiIO
from pystac_client.warnings import PystacClientWarning
from shapely.errors import ShapelyError
from shapely.geometry import box, mapping
from urllib3 import Retry

from cloudgan.errors import CatalogError, StoreError
from cloudgan.object_stores import read_text
from cloudgan.stac.items import Json, RawItem, absolute_href, is_object, is_url

if TYPE_CHECKING:
    from collections.abc import Iterator

    from shapely.geometry.base import BaseGeometry

    from cloudgan.sentinel2.dates import DateRange

EARTH_SEARCH = "https://earth-search.aws.element84.com/v1"
"""Element84's free API to the Sentinel-2 COGs on AWS: the default."""
PLANETARY_COMPUTER = "https://planetarycomputer.microsoft.com/api/stac/v1"
"""Microsoft's API; its assets need signed URLs (extra `planetary`)."""
SHORT_NAMES = {"earth-search": EARTH_SEARCH, "planetary-computer": PLANETARY_COMPUTER}
"""What `--stac` takes beside a URL or a path."""
DEFAULT_COLLECTION = "sentinel-2-l2a"
"""The collection of both these APIs."""

PAGE_SIZE = 100
"""Items asked for at a time: each is 10 to 40 kB of JSON, and larger pages make servers time out."""
MAX_ITEMS = 1_000_000
"""Items read from one source before giving up: a continent has fewer in a year, so it ignores the request."""
MAX_BYTES = 256 << 20
"""Of one answer or file of a server; a hundred items are 4 MB at most."""
MAX_REDIRECTS = 10
"""From one address to the next."""
MAX_VERTICES = {"POST": 1000, "GET": 50}
"""Vertices of an area that a request body, or a URL, can hold; larger areas are asked for by hull or box."""


@dataclass(frozen=True, slots=True)
class HttpLimits:
    """How long a server may take. The defaults give up a dead one in minutes, and any search in an hour."""

    connect: float = 10.0
    """Seconds to wait for a connection."""
    read: float = 60.0
    """Seconds to wait for the next bytes of an answer."""
    retries: int = 5
    """How often to repeat a request that got 429, 502, 503 or 504, or (twice at most) no answer at all."""
    backoff: float = 1.0
    """Seconds before the second retry, doubled each time; the first follows at once."""
    max_wait: int = 60
    """Seconds at most between retries, even if the server asks for more."""
    total: float = 3600.0
    """Seconds after which no further request is sent."""


@dataclass(frozen=True, slots=True)
class Query:
    """What to look for."""

    area: BaseGeometry
    """Area of interest, in longitude and latitude."""
    dates: DateRange
    """When."""
    collection: str | None = None
    """Collection id; None for whatever the source holds."""
    max_cloud_cover: float | None = None
    """Percent; None to ask for all."""


class Source(Protocol):
    """Anything that items can be searched in."""

    @property
    def where(self) -> str:
        """Its address, for messages."""

    @property
    def static(self) -> bool:
        """Whether it is a catalogue in files, so that nothing but the client can filter."""

    @property
    def filters_clouds(self) -> bool:
        """Whether a search leaves cloudy items out by itself."""

    def search(self, query: Query) -> Iterator[RawItem]:
        """Items that may match: all that do, and often more.

        Raises:
            CatalogError: The source cannot be read, or is not STAC.
        """

    def collections(self) -> list[str]:
        """Ids of the collections it lists, for messages; empty where it does not tell."""


@contextmanager
def open_source(stac: str, patience: HttpLimits) -> Iterator[Source]:
    """Open whatever `stac` names: a short name, a URL, or the path of a file or its folder.

    Raises:
        CatalogError: There is nothing, or no STAC.
    """
    where = SHORT_NAMES.get(stac, stac)
    if not is_url(where) and not is_object(where):
        where = _existing_file(where)
    reader = _Reader(patience)
    try:
        landing = reader.read_json(where)
        yield _ApiSource(where, landing, reader) if _is_api(landing) else _FileSource(where, landing, reader)
    finally:
        reader.session.close()


def _existing_file(path: str) -> str:
    if urlsplit(path).scheme not in ("", "file") and "://" in path:
        raise CatalogError(
            f"the STAC address {path!r} is neither http(s), s3, gs, az nor a file: give its web address"
        )
    found = Path(absolute_href(path, str(Path.cwd() / "here")))
    if found.is_dir():
        found = next(
            (found / name for name in ("catalog.json", "collection.json") if (found / name).exists()), found
        )
    if not found.is_file():
        raise CatalogError(
            f"no STAC catalogue at {path!r}, no such file: give a path, an http(s) address, "
            f"or one of {', '.join(SHORT_NAMES)}"
        )
    return str(found)


def _is_api(landing: Json) -> bool:
    rels = {link["rel"] for link in _links(landing)}
    return landing.get("type", "Catalog") == "Catalog" and (
        "search" in rels or any("/item-search" in str(uri) for uri in landing.get("conformsTo") or ())
    )


class _ApiSource:
    """A STAC API: items by search, page by page."""

    static = False

    def __init__(self, where: str, landing: Json, reader: _Reader) -> None:
        self.where = where
        self._reader = reader
        try:
            client = reader.stac_object_from_dict(landing, href=where)
        except (KeyError, TypeError, ValueError, AttributeError, pystac.errors.STACError) as err:
            raise _no_stac(where) from err
        if not isinstance(client, Client):
            raise _no_stac(where)
        client.add_conforms_to("ITEM_SEARCH")  # servers of before 1.0 have the link and do not say so
        self._client = client
        links = [link for link in _links(landing) if link["rel"] == "search"]
        methods = {str(link.get("method", "GET")).upper() for link in links}
        self._method = "POST" if "POST" in methods or not methods else "GET"

    @property
    def filters_clouds(self) -> bool:
        return bool(self._cloud_filter(0.0))

    def search(self, query: Query) -> Iterator[RawItem]:
        first, last = query.dates.utc_span()
        kwargs: dict[str, Any] = {
            "method": self._method,
            "limit": PAGE_SIZE,
            "collections": [query.collection] if query.collection else None,
            "datetime": f"{first.isoformat()[:19]}Z/{last.isoformat()[:19]}Z",
            "intersects": mapping(_coarse(query.area, MAX_VERTICES[self._method])),
        }
        if query.max_cloud_cover is not None:
            kwargs |= self._cloud_filter(query.max_cloud_cover)
        seen: set[str] = set()
        for page in self._pages(kwargs):
            raws = [RawItem(body, _self_href(body) or self.where) for body in _features(page, self.where)]
            new = [raw for raw in raws if f"{raw.collection}/{raw.id}" not in seen]
            if not new:
                raise CatalogError(
                    f"{self.where} pages in circles, the same items came twice: use another --stac"
                )
            seen |= {f"{raw.collection}/{raw.id}" for raw in new}
            _check_count(len(seen), self.where)
            yield from new

    def collections(self) -> list[str]:
        href = next((link["href"] for link in _links(self._client.to_dict()) if link["rel"] == "data"), None)
        try:
            page = self._reader.read_json(href or f"{self.where.rstrip('/')}/collections")
        except CatalogError:
            return []  # only asked to make an error message more helpful
        found = page.get("collections")
        return (
            [str(body.get("id")) for body in found if isinstance(body, dict)]
            if isinstance(found, list)
            else []
        )

    def _pages(self, kwargs: dict[str, Any]) -> Iterator[Json]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", PystacClientWarning)  # about links that it then guesses right
            search = self._client.search(**kwargs)
        yield from search.pages_as_dicts()

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


class _FileSource:
    """A catalogue, collection, item collection or item in JSON files, local or on the web, link by link."""

    static = True
    filters_clouds = False

    def __init__(self, where: str, landing: Json, reader: _Reader) -> None:
        self.where = where
        self._reader = reader
        self._bodies = {where: landing}
        self._collections: set[str] = set()

    def search(self, query: Query) -> Iterator[RawItem]:
        found = 0
        todo: list[tuple[str, str | None]] = [(self.where, None)]
        visited: set[str] = set()
        while todo:
            where, parent = todo.pop()
            if where in visited:  # catalogues may be linked twice, or in circles
                continue
            visited.add(where)
            _check_count(len(visited), self.where, "files")
            body = self._read(where)
            kind = _kind(body, where)
            if kind in ("Feature", "FeatureCollection"):
                features = [body] if kind == "Feature" else _features(body, where)
                found += len(features)
                _check_count(found, where)
                yield from (RawItem(feature, where, parent) for feature in features)
            todo += self._follow(body, kind, where, query)

    def collections(self) -> list[str]:
        return sorted(self._collections)

    def _follow(self, body: Json, kind: str, where: str, query: Query) -> list[tuple[str, str | None]]:
        """The files that `body` leads to and that may hold what is asked for, and their collection."""
        rels = {"FeatureCollection": {"next"}, "Feature": set()}.get(kind, {"child", "item"})
        parent = str(body.get("id")) if kind == "Collection" else None
        if parent is not None:
            self._collections.add(parent)
            if query.collection not in (None, parent) or not _may_hold(body, query):
                rels = {"child"}  # a collection may hold others
        links = [link for link in _links(body) if link["rel"] in rels and link.get("method", "GET") == "GET"]
        if kind == "Collection" and not links and any(link["rel"] == "items" for link in _links(body)):
            raise CatalogError(
                f"{where} is one collection of an API: give the API's own address as --stac, "
                f"and --collection {parent}"
            )
        return [(absolute_href(link["href"], where), parent) for link in links]

    def _read(self, where: str) -> Json:
        if where not in self._bodies:  # a second, wider search reads nothing twice
            self._bodies[where] = self._reader.read_json(where)
        return self._bodies[where]


class _Reader(StacApiIO):
    """Reads JSON from files and servers with bounded patience, and says in one sentence what went wrong."""

    def __init__(self, patience: HttpLimits) -> None:
        retry = Retry(
            total=patience.retries,
            connect=min(2, patience.retries),
            read=min(1, patience.retries),
            backoff_factor=patience.backoff,
            backoff_max=patience.max_wait,
            retry_after_max=patience.max_wait,
            status_forcelist=(429, 502, 503, 504),
            allowed_methods=None,  # any: a search by POST changes nothing, so it may be repeated
            raise_on_status=False,  # the last answer is returned, and its status told
        )
        super().__init__(timeout=(patience.connect, patience.read), max_retries=retry)
        self.session.max_redirects = MAX_REDIRECTS
        self.session.hooks["response"].append(self._take)
        self._patience = patience
        self._deadline = time.monotonic() + patience.total

    def _take(self, response: requests.Response, **_: Any) -> None:
        """Take in a body piece by piece: it may be without end, or come a byte a minute."""
        pieces, size = [], 0
        for piece in response.iter_content(1 << 16):
            pieces.append(piece)
            size += len(piece)
            if size > MAX_BYTES:
                raise CatalogError(
                    f"{response.url} answers with more than {MAX_BYTES >> 20} MiB: use another --stac"
                )
            self._check_time(response.url)
        response._content = b"".join(pieces)  # what requests itself would have done

    def _check_time(self, href: str) -> None:
        if time.monotonic() > self._deadline:
            raise CatalogError(
                f"{href} is too slow, the search took over {self._patience.total:g} s: "
                "ask for fewer dates or a smaller area, or try later"
            )

    def read_json(self, source: Any, *args: Any, **kwargs: Any) -> Json:
        where = str(source.get_href() if isinstance(source, pystac.Link) else source)
        text = self.read_text(source, *args, **kwargs)
        try:
            body = json.loads(text)
        except (ValueError, RecursionError) as err:
            kind = "HTML" if text.lstrip()[:1] == "<" else "no JSON"
            raise CatalogError(
                f"{where} holds {kind} where STAC JSON was expected: "
                f"give the root of a STAC API such as {EARTH_SEARCH}, or a catalogue file"
            ) from err
        if not isinstance(body, dict) or not {"stac_version", "features", "collections"} & body.keys():
            raise _no_stac(where)
        return body

    def read_text(self, source: Any, *args: Any, **kwargs: Any) -> str:
        if isinstance(source, pystac.Link) or is_url(str(source)):
            return super().read_text(source, *args, **kwargs)
        try:
            if is_object(str(source)):
                return read_text(str(source))
            return Path(source).read_text(encoding="utf-8")
        except StoreError as err:
            raise CatalogError(str(err)) from err
        except (OSError, UnicodeDecodeError) as err:
            reason = "no such file" if isinstance(err, FileNotFoundError) else f"it cannot be read ({err})"
            raise CatalogError(
                f"STAC file {source}: {reason}; check the catalogue's links and --stac"
            ) from err

    def request(
        self,
        href: str,
        method: str | None = None,
        headers: dict[str, str] | None = None,
        parameters: dict[str, Any] | None = None,
    ) -> str:
        self._check_time(href)
        try:
            try:
                return super().request(href, method, headers, parameters)
            except APIError as err:
                # A connection that breaks in the middle of a body is none that urllib3 tries again.
                if not isinstance(err.__context__, requests.exceptions.ChunkedEncodingError):
                    raise
            return super().request(href, method, headers, parameters)
        except APIError as err:
            if isinstance(err.__context__, CatalogError):
                raise err.__context__ from None
            raise CatalogError(self._explain(href, err)) from err

    def _explain(self, href: str, err: APIError) -> str:
        status = getattr(err, "status_code", None)
        if status is None:
            slow = "timed out" in str(err)  # requests wraps a time-out in several ways once it has retried
            reason = f"did not answer within {self._patience.read:g} s" if slow else "cannot be reached"
            remedy = "check the address and the network, or try later"
            return f"the STAC server at {href} {reason}: {remedy} ({_brief(err)})"
        answer = f"{status} {HTTPStatus(status).phrase}" if status in set(HTTPStatus) else str(status)
        if status in (429, 502, 503, 504):
            return (
                f"the STAC server at {href} answers {answer}, {self._patience.retries} retries on: try later"
            )
        detail = "" if str(err).lstrip()[:1] in ("", "<") else f" ({_brief(err)})"
        return f"the STAC server at {href} answers {answer}{detail}: check --stac and --collection"


def _kind(body: Json, where: str) -> str:
    kind = body.get("type")
    if kind is None and isinstance(body.get("links"), list):  # catalogues before STAC 1.0 have no type
        return "Collection" if "extent" in body else "Catalog"
    if kind not in ("Catalog", "Collection", "Feature", "FeatureCollection"):
        raise _no_stac(where)
    return str(kind)


def _features(page: Json, where: str) -> list[Json]:
    features = page.get("features")
    if not isinstance(features, list):
        raise _no_stac(where)
    return features


def _links(body: object) -> list[Json]:
    links = body.get("links") if isinstance(body, dict) else None
    if not isinstance(links, list):
        return []
    return [
        link for link in links if isinstance(link, dict) and _is_text(link, "rel") and _is_text(link, "href")
    ]


def _is_text(body: Json, name: str) -> bool:
    return isinstance(body.get(name), str) and body[name] != ""


def _self_href(body: Json) -> str | None:
    """Where an item says that it lies on the web; its relative hrefs count from there."""
    hrefs = (str(link["href"]) for link in _links(body) if link["rel"] == "self")
    return next((href for href in hrefs if is_url(href)), None)


def _check_count(count: int, where: str, what: str = "items") -> None:
    if count > MAX_ITEMS:
        raise CatalogError(
            f"{where} returned over {MAX_ITEMS} {what}, so it ignores what was asked for: "
            "use another --stac, or ask for fewer dates"
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


def _coarse(area: BaseGeometry, max_vertices: int) -> BaseGeometry:
    """The area, or a simple one around it where it has more vertices than a request should hold."""
    for simpler in (area, area.convex_hull):
        if shapely.get_num_coordinates(simpler) <= max_vertices:
            return simpler
    return area.envelope


def _no_stac(where: str) -> CatalogError:
    return CatalogError(
        f"{where} holds JSON that is no STAC: give the root of a STAC API such as {EARTH_SEARCH}, "
        "or a catalogue, collection or item collection"
    )


def _brief(err: Exception) -> str:
    """The first 200 characters of an error's text, on one line."""
    return " ".join(str(err).split())[:200]

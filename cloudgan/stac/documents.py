"""The JSON documents of STAC: what kind one is, its features and its links."""

from __future__ import annotations

from cloudgan.errors import CatalogError
from cloudgan.stac.hrefs import is_url
from cloudgan.stac.providers import EARTH_SEARCH
from cloudgan.stac.values import Json, iterate_objects


def read_kind(body: Json, where: str) -> str:
    """`Catalog`, `Collection`, `Feature` or `FeatureCollection`.

    Raises:
        CatalogError: The document is none of them.
    """
    kind = body.get("type")
    if kind is None and isinstance(body.get("links"), list):  # catalogues before STAC 1.0 have no type
        return "Collection" if "extent" in body else "Catalog"
    if kind not in ("Catalog", "Collection", "Feature", "FeatureCollection"):
        raise not_stac(where)
    return str(kind)


def read_features(page: Json, where: str) -> list[Json]:
    """The features of an item collection, or of one page of a search.

    Raises:
        CatalogError: The document has none.
    """
    features = page.get("features")
    if not isinstance(features, list):
        raise not_stac(where)
    return features


def read_links(body: object) -> list[Json]:
    """The links of a document that have a relation and an address."""
    links = body.get("links") if isinstance(body, dict) else None
    if not isinstance(links, list):
        return []
    return [
        link
        for link in links
        if isinstance(link, dict) and _has_text(link, "rel") and _has_text(link, "href")
    ]


def find_next(page: Json, where: str) -> Json | None:
    """The link to the page that follows one of a search, or of a saved one; None where it is the last.

    Raises:
        CatalogError: The link cannot be followed: it has no address, an odd method, or no usable parameters.
    """
    links = page.get("links")
    named = [link for link in iterate_objects(links or ()) if link.get("rel") == "next"]
    if not named:
        return None
    link = named[0]
    method = link.get("method", "GET")
    usable = (
        _has_text(link, "href")
        and isinstance(method, str)
        and method.upper() in ("GET", "POST")
        and isinstance(link.get("body") or {}, dict)
        and _is_header_table(link.get("headers") or {})
    )
    if not usable:
        raise CatalogError(
            f"{where} names a further page by a link that cannot be followed (href "
            f"{str(link.get('href'))[:60]!r}, method {str(method)[:20]!r}): use another --stac, or ask for "
            f"less"
        )
    return link | {
        "method": method.upper(),
        "body": link.get("body") or {},
        "headers": link.get("headers") or {},
    }


def count_matched(page: Json) -> int | None:
    """How many items a server counts that match a search; None where it does not count."""
    context = page.get("context")
    counts = (
        page.get("numberMatched"),
        page.get("numMatched"),
        context.get("matched") if isinstance(context, dict) else None,
    )
    return next(
        (int(count) for count in counts if isinstance(count, int) and not isinstance(count, bool)), None
    )


def find_self_href(body: Json) -> str | None:
    """Where an item says that it lies on the web; its relative hrefs count from there."""
    hrefs = (str(link["href"]) for link in read_links(body) if link["rel"] == "self")
    return next((href for href in hrefs if is_url(href)), None)


def is_api(landing: Json) -> bool:
    """Whether a document is the landing page of a STAC API that can be searched."""
    rels = {link["rel"] for link in read_links(landing)}
    return landing.get("type", "Catalog") == "Catalog" and (
        "search" in rels or any("/item-search" in str(uri) for uri in _as_list(landing.get("conformsTo")))
    )


def not_stac(where: str) -> CatalogError:
    """The error to raise for JSON that is no STAC."""
    return CatalogError(
        f"{where} holds JSON that is no STAC: give the root of a STAC API such as {EARTH_SEARCH}, "
        "or a catalogue, collection or item collection"
    )


def _as_list(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def _is_header_table(headers: object) -> bool:
    return isinstance(headers, dict) and all(
        isinstance(text, str) and text.isascii() and text.isprintable()
        for pair in headers.items()
        for text in pair
    )


def _has_text(body: object, name: str) -> bool:
    return isinstance(body, dict) and isinstance(body.get(name), str) and body[name] != ""

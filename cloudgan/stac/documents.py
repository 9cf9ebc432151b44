"""The JSON documents of STAC: what kind one is, its features and its links."""

from __future__ import annotations

from cloudgan.errors import CatalogError
from cloudgan.stac.hrefs import is_url
from cloudgan.stac.providers import EARTH_SEARCH
from cloudgan.stac.values import Json


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


def find_self_href(body: Json) -> str | None:
    """Where an item says that it lies on the web; its relative hrefs count from there."""
    hrefs = (str(link["href"]) for link in read_links(body) if link["rel"] == "self")
    return next((href for href in hrefs if is_url(href)), None)


def is_api(landing: Json) -> bool:
    """Whether a document is the landing page of a STAC API that can be searched."""
    rels = {link["rel"] for link in read_links(landing)}
    return landing.get("type", "Catalog") == "Catalog" and (
        "search" in rels or any("/item-search" in str(uri) for uri in landing.get("conformsTo") or ())
    )


def not_stac(where: str) -> CatalogError:
    """The error to raise for JSON that is no STAC."""
    return CatalogError(
        f"{where} holds JSON that is no STAC: give the root of a STAC API such as {EARTH_SEARCH}, "
        "or a catalogue, collection or item collection"
    )


def _has_text(body: object, name: str) -> bool:
    return isinstance(body, dict) and isinstance(body.get(name), str) and body[name] != ""

"""Addresses in catalogues: which ones a catalogue may name, and how relative ones become absolute."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit

from cloudgan.errors import CatalogError

_REMOTE_SCHEMES = ("https", "http", "s3", "gs", "az")
_REMOTE_VSI = re.compile(r"/vsi(s3|gs|az|curl/https?:/)/")


def resolve_href(href: str, base: str) -> str:
    """`href` as an absolute URL or path, relative to the file or URL `base`; `file:` URLs become paths.

    Only catalogues in local files may name local files, and none may name what GDAL takes for more than an
    address (`MEM:`, `VRT:`, `/vsizip/`...): whoever writes a catalogue must not choose what is read here.

    Raises:
        CatalogError: `href` is no address that `base` may name.
    """
    try:
        if not href.isprintable():
            raise ValueError("control characters or halves of them")
        parts = urlsplit(href)
    except ValueError as err:
        raise CatalogError(f"{base} has a broken address {href[:100]!r}: mend it or leave it out") from err
    if parts.scheme == "file" and "://" not in base:
        return unquote(parts.path)
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+:", href):
        if parts.scheme.lower() not in _REMOTE_SCHEMES:
            raise CatalogError(
                f"{base} leads to {href[:100]!r}: only a catalogue on this machine may name files on it, and "
                f"others {', '.join(_REMOTE_SCHEMES)} addresses"
            )
        return href
    if href.startswith("/vsi"):
        if not _REMOTE_VSI.match(href):
            raise CatalogError(f"{base} leads to {href[:100]!r}: give a plain path or address")
        return href
    return _join(base, href)


def _join(base: str, href: str) -> str:
    """A relative address as an absolute one; it counts from the file or URL `base`."""
    if is_url(base):
        return urljoin(base, href)
    if is_object(base):  # urljoin does not know these schemes; their paths are joined as those of the web are
        scheme, _, rest = base.partition("://")
        return f"{scheme}://{urljoin(f'http://{rest}', href).removeprefix('http://')}"
    return str(Path(base).resolve().parent.joinpath(href).resolve())


def is_url(text: str) -> bool:
    """Whether `text` is an address on the web."""
    return text.lower().startswith(("http://", "https://"))


def is_object(text: str) -> bool:
    """Whether `text` is an address in an object store."""
    return text.lower().startswith(("s3://", "gs://", "az://"))


def find_host(href: str) -> str | None:
    """The host that an address names; None where it names none, or is no address."""
    try:
        return urlsplit(href).hostname
    except ValueError:  # no address: whoever reads it says so
        return None


def remove_query(href: str) -> str:
    """An address without its query, in which signatures are."""
    return href.partition("?")[0]

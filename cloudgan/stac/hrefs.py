"""Addresses in catalogues: which ones a catalogue may name, and how relative ones become absolute."""

from __future__ import annotations

import os
import re
from pathlib import Path
from urllib.parse import quote, unquote, urljoin, urlsplit

from cloudgan.errors import CatalogError
from cloudgan.object_stores import path_exists, strip_file_scheme, translate_scheme

_REMOTE_SCHEMES = ("https", "http", "s3", "gs", "az")
_REMOTE_VSI = re.compile(r"/vsi(?:(?:s3|gs|az)/(?=[^/])|curl/(?=https?://[^/]))")
_WITH_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+._-]*:")
_SAFE = "!#$%&'()*+,/:;=?@[]~"  # what a web address may hold beside letters, digits and -._


def resolve_href(href: str, base: str) -> str:
    """`href` as an absolute URL or path, relative to the file or URL `base`; `file:` URLs become paths.

    Only catalogues in local files may name local files, and none may name what GDAL takes for more than an
    address (`MEM:`, `GTIFF_DIR:`, `/vsizip/`...): whoever writes a catalogue must not choose what is read
    here.

    Raises:
        CatalogError: `href` is no address that `base` may name.
    """
    if not href.isprintable():  # control characters, or halves of characters
        raise _broken(href, base)
    href = translate_scheme(href)
    if _is_local(base) and re.match("file:", href, re.IGNORECASE):
        return _check_path(_path_of_file_url(href, base), href, base)
    if re.match("/vsi", href, re.IGNORECASE):
        if not _REMOTE_VSI.match(href):
            raise CatalogError(f"{base} leads to {href[:100]!r}: give a plain path or address")
        if href.startswith("/vsicurl/"):
            _check_address(href.removeprefix("/vsicurl/"), base)
        return href
    if _WITH_SCHEME.match(href):
        return _check_address(href, base)
    joined = _join(base, href)
    return _check_path(joined, href, base) if _is_local(base) else _check_address(joined, base)


def _check_address(href: str, base: str) -> str:
    """A remote address, with spaces and the like as the web has them.

    Raises:
        CatalogError: It names no server, holds a user's name, or is of a kind that is not read.
    """
    try:
        parts = urlsplit(href)
        host, has_user = parts.hostname, "@" in parts.netloc
        _ = parts.port
    except ValueError as err:
        raise _broken(href, base) from err
    if parts.scheme not in _REMOTE_SCHEMES:
        raise CatalogError(
            f"{base} leads to {href[:100]!r}: only a catalogue on this machine may name files on it, and "
            f"others {', '.join(_REMOTE_SCHEMES)} addresses"
        )
    if not host or not re.match(rf"{parts.scheme}://", href, re.IGNORECASE):
        raise _broken(href, base)
    if has_user:
        raise CatalogError(
            f"{base} leads to {parts.scheme}://...@{host}: an address with a user's name is not read, "
            "leave the name out"
        )
    # Object stores take a key as it is; the web knows neither spaces nor letters beyond ASCII.
    return quote(href, safe=_SAFE) if is_url(href) else href


def _check_path(path: str, href: str, base: str) -> str:
    """A path that GDAL takes for one.

    Raises:
        CatalogError: GDAL would take it for one of its virtual file systems.
    """
    if path.lower().startswith("/vsi"):
        raise CatalogError(f"{base} leads to {href[:100]!r}: give a plain path or address")
    return path


def _path_of_file_url(href: str, base: str) -> str:
    """The path that a `file:` URL names on this machine; a `#` or `?` is a part of its name."""
    rest = strip_file_scheme(href)
    if not rest.startswith("/") or rest.startswith("//"):
        raise _broken(href, base)
    return os.path.normpath(rest if "%" not in rest or path_exists(rest) else unquote(rest))


def _join(base: str, href: str) -> str:
    """A relative address as an absolute one; it counts from the file or URL `base`."""
    if is_url(base):
        try:
            return urljoin(base, href)
        except ValueError as err:
            raise _broken(href, base) from err
    if is_object(base):  # urljoin does not know these schemes; their paths are joined as those of the web are
        scheme, _, rest = base.partition("://")
        return f"{scheme}://{urljoin(f'http://{rest}', href).removeprefix('http://')}"
    folder = Path(base).resolve().parent
    try:
        path = folder.joinpath(href).resolve()
    except (OSError, RuntimeError) as err:  # a loop of links, or a name that no file can have
        raise _broken(href, base) from err
    if "%" in href and not path_exists(path):  # written as on the web
        decoded = folder.joinpath(unquote(href)).resolve()
        path = decoded if path_exists(decoded) else path
    return str(path)


def _broken(href: str, base: str) -> CatalogError:
    return CatalogError(f"{base} has a broken address {href[:100]!r}: mend it or leave it out")


def _is_local(base: str) -> bool:
    return not is_url(base) and not is_object(base)


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
    """An address on the web without its query, in which signatures are; any other as it is."""
    return href.partition("?")[0] if is_url(href) or href.startswith("/vsicurl/") else href

"""Where STAC items come from: a search API, or a catalogue or item collection in files.

What a server says about its own filtering is not trusted: a source may return more than was asked for, and
`cloudgan.stac.search` checks every predicate again.
"""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from cloudgan.errors import CatalogError
from cloudgan.stac.api import ApiSource
from cloudgan.stac.documents import is_api
from cloudgan.stac.hrefs import is_object, is_url, resolve_href
from cloudgan.stac.http import HttpLimits, JsonReader
from cloudgan.stac.providers import SHORT_NAMES
from cloudgan.stac.static import StaticSource

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cloudgan.stac.query import Source


@contextmanager
def open_source(stac: str, limits: HttpLimits) -> Iterator[Source]:
    """Open whatever `stac` names: a short name, a URL, or the path of a file or its folder.

    Raises:
        CatalogError: There is nothing, or no STAC.
    """
    where = SHORT_NAMES.get(stac, stac)
    if not is_url(where) and not is_object(where):
        where = _find_file(where)
    reader = JsonReader(limits)
    try:
        landing = reader.read_json(where)
        yield ApiSource(where, landing, reader) if is_api(landing) else StaticSource(where, landing, reader)
    finally:
        reader.session.close()


def _find_file(path: str) -> str:
    """The absolute path of a catalogue's file, or of the one in a folder."""
    if urlsplit(path).scheme not in ("", "file") and "://" in path:
        raise CatalogError(
            f"the STAC address {path!r} is neither http(s), s3, gs, az nor a file: give its web address"
        )
    found = Path(resolve_href(path, str(Path.cwd() / "here")))
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

"""Where STAC items come from: a search API, or a catalogue or item collection in files.

What a server says about its own filtering is not trusted: a source may return more than was asked for, and
`cloudgan.stac.search` checks every predicate again.
"""

from __future__ import annotations

from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from cloudgan.errors import CatalogError
from cloudgan.object_stores import normalise_location, translate_scheme
from cloudgan.stac.api import ApiSource
from cloudgan.stac.documents import is_api
from cloudgan.stac.hrefs import find_host, is_object, is_url
from cloudgan.stac.http import HttpLimits, JsonReader
from cloudgan.stac.profiles import find_profile, list_profiles
from cloudgan.stac.static import StaticSource

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cloudgan.stac.query import Source


@contextmanager
def open_source(stac: str, limits: HttpLimits) -> Iterator[Source]:
    """Open whatever `stac` names: a profile, a URL, or the path of a file or its folder.

    Raises:
        CatalogError: There is nothing, or no STAC.
        InputError: The user's configuration file cannot be used.
    """
    profile = find_profile(stac)
    where = translate_scheme(normalise_location(stac if profile is None else profile.stac))
    if not is_url(where) and not is_object(where):
        where = _find_file(where)
    elif not find_host(where):
        raise CatalogError(f"the STAC address {stac[:100]!r} names no server: check it")
    reader = JsonReader(limits)
    try:
        landing = reader.read_json(where)
        yield ApiSource(where, landing, reader) if is_api(landing) else StaticSource(where, landing, reader)
    finally:
        reader.session.close()


def _find_file(path: str) -> str:
    """The absolute path of a catalogue's file, or of the one in a folder."""
    if "://" in path:
        raise CatalogError(
            f"the STAC address {path!r} is neither http(s), s3, gs, az nor a file: give its web address"
        )
    with suppress(OSError, RuntimeError, ValueError):  # a name that no file can have, or a loop of links
        found = Path(path).resolve()
        for file in (found, found / "catalog.json", found / "collection.json"):
            if file.is_file():
                return str(file)
    raise CatalogError(
        f"no STAC catalogue at {path[:200]!r}, no such file: give a path, an http(s) address, "
        f"or one of {', '.join(list_profiles())}"
    )

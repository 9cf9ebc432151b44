"""JSON of files, object stores and servers, read within limits of time and size."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pystac
import requests
from pystac_client.exceptions import APIError
from pystac_client.stac_api_io import StacApiIO
from urllib3 import Retry

from cloudgan.errors import CatalogError, StoreError
from cloudgan.object_stores import read_text
from cloudgan.stac.documents import not_stac
from cloudgan.stac.hrefs import is_object, is_url
from cloudgan.stac.providers import EARTH_SEARCH

if TYPE_CHECKING:
    from cloudgan.stac.values import Json

MAX_BYTES = 32 << 20
"""Of one answer or file of a server; a hundred items are 4 MB at most, and JSON takes twenty times as much
memory."""
MAX_FILE_BYTES = 256 << 20
"""Of one catalogue file on this machine or in a bucket."""
MAX_TOTAL_BYTES = 2 << 30
"""Of all that a search reads: 100,000 items."""
MAX_REDIRECTS = 10
"""From one address to the next."""
RETRIED_STATUSES = (429, 502, 503, 504)
"""Answers of a server that is busy, after which a request is repeated."""


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


class JsonReader(StacApiIO):
    """Reads STAC JSON within `HttpLimits`; its errors are one sentence with a remedy."""

    def __init__(self, limits: HttpLimits) -> None:
        retry = Retry(
            total=limits.retries,
            connect=min(2, limits.retries),
            read=min(1, limits.retries),
            backoff_factor=limits.backoff,
            backoff_max=limits.max_wait,
            retry_after_max=limits.max_wait,
            status_forcelist=RETRIED_STATUSES,
            allowed_methods=None,  # any: a search by POST changes nothing, so it may be repeated
            raise_on_status=False,  # the last answer is returned, and its status reported
        )
        super().__init__(timeout=(limits.connect, limits.read), max_retries=retry)
        self.session.max_redirects = MAX_REDIRECTS
        self.session.hooks["response"].append(self._read_body)
        self._limits = limits
        self._deadline = time.monotonic() + limits.total
        self._bytes = 0

    def read_json(self, source: Any, *args: Any, **kwargs: Any) -> Json:
        """A document that may be STAC.

        Raises:
            CatalogError: It cannot be read, or is no JSON object with a member that STAC documents have.
        """
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
            raise not_stac(where)
        return body

    def read_text(self, source: Any, *args: Any, **kwargs: Any) -> str:
        """The text of a file, an object or an answer.

        Raises:
            CatalogError: It cannot be read.
        """
        if isinstance(source, pystac.Link) or is_url(str(source)):
            return super().read_text(source, *args, **kwargs)
        self._check_time(str(source))
        try:
            if is_object(str(source)):
                text = read_text(str(source), MAX_FILE_BYTES)
            else:
                text = _read_file(Path(source))
            self._count(len(text), str(source))
            return text
        except StoreError as err:
            raise CatalogError(str(err)) from err
        except (OSError, UnicodeDecodeError) as err:
            reason = "no such file" if isinstance(err, FileNotFoundError) else f"it cannot be read ({err})"
            raise CatalogError(
                f"STAC file {source}: {reason}; check the catalogue's links and --stac"
            ) from err

    @property
    def bytes_read(self) -> int:
        """Bytes of all that was read so far."""
        return self._bytes

    def request(
        self,
        href: str,
        method: str | None = None,
        headers: dict[str, str] | None = None,
        parameters: dict[str, Any] | None = None,
    ) -> str:
        """The body that a server answers.

        Raises:
            CatalogError: It does not answer, answers with an error or too much, or time is up.
        """
        self._check_time(href)
        try:
            try:
                return super().request(href, method, headers, parameters)
            except APIError as err:
                # urllib3 does not retry a connection that breaks in the middle of a body.
                if not isinstance(err.__context__, requests.exceptions.ChunkedEncodingError):
                    raise
            return super().request(href, method, headers, parameters)
        except APIError as err:
            if isinstance(err.__context__, CatalogError):
                raise err.__context__ from None
            raise CatalogError(self._explain(href, err)) from err

    def _read_body(self, response: requests.Response, **_: Any) -> None:
        """Read a body piece by piece: it may be without end, or come a byte a minute."""
        pieces, size = [], 0
        for piece in response.iter_content(1 << 16):
            pieces.append(piece)
            size += len(piece)
            self._count(len(piece), response.url)
            if size > MAX_BYTES:
                raise CatalogError(
                    f"{response.url} answers with more than {MAX_BYTES >> 20} MiB: use another --stac, or "
                    "download it and give the file"
                )
            self._check_time(response.url)
        response._content = b"".join(pieces)  # what requests itself would have done

    def _count(self, size: int, where: str) -> None:
        """Add to what was read so far, which has an end."""
        self._bytes += size
        if self._bytes > MAX_TOTAL_BYTES:
            raise CatalogError(
                f"the search read more than {MAX_TOTAL_BYTES >> 20} MiB of catalogue until {where}: ask for "
                "fewer dates or a smaller area"
            )

    def _check_time(self, href: str) -> None:
        if time.monotonic() > self._deadline:
            raise CatalogError(
                f"{href} is too slow, the search took over {self._limits.total:g} s: "
                "ask for fewer dates or a smaller area, or try later"
            )

    def _explain(self, href: str, err: APIError) -> str:
        """What went wrong with a request, and what to do about it, in one sentence."""
        status = getattr(err, "status_code", None)
        if status is None:
            slow = "timed out" in str(err)  # requests wraps a time-out in several ways once it has retried
            reason = f"did not answer within {self._limits.read:g} s" if slow else "cannot be reached"
            remedy = "check the address and the network, or try later"
            return f"the STAC server at {href} {reason}: {remedy} ({_shorten(err)})"
        answer = f"{status} {HTTPStatus(status).phrase}" if status in set(HTTPStatus) else str(status)
        if status in RETRIED_STATUSES:
            return f"the STAC server at {href} answers {answer}, {self._limits.retries} retries on: try later"
        if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            return (
                f"the STAC server at {href} answers {answer}: it wants credentials, which cloudgan does not "
                "send; use a public catalogue, or save the search to a file and give that as --stac"
            )
        detail = "" if str(err).lstrip()[:1] in ("", "<") else f" ({_shorten(err)})"
        return f"the STAC server at {href} answers {answer}{detail}: check --stac and --collection"


def _read_file(path: Path) -> str:
    """A file as text; what is larger than `MAX_FILE_BYTES` is refused."""
    if path.stat().st_size > MAX_FILE_BYTES:
        raise CatalogError(f"STAC file {path} is larger than {MAX_FILE_BYTES >> 20} MiB: divide it")
    return path.read_text(encoding="utf-8-sig")


def _shorten(err: Exception) -> str:
    """The first 200 characters of an error's text, on one line."""
    return " ".join(str(err).split())[:200]

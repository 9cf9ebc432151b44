"""An HTTP server on loopback that answers as it should, or in one of the ways that servers fail.

What it serves (a folder, or another server) and how it misbehaves are two functions, so that a test may
combine them:

    with serving(files(folder), every(Fault.UNAVAILABLE, times=2, of="GET .*green.tif")) as server:
        rasterio.open(f"{server.url}/item/green.tif")
    assert server.done[Fault.UNAVAILABLE] == 2
"""

from __future__ import annotations

import random
import re
import socket
import struct
import threading
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from enum import StrEnum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit


class Fault(StrEnum):
    """How an answer goes wrong."""

    BUSY = "429 with Retry-After"
    UNAVAILABLE = "503"
    HANG = "no answer at all"
    RESET = "the connection is reset in the middle of the body"
    TRUNCATED = "the connection ends in the middle of the body"
    WRONG_RANGE = "206 with other bytes than asked for, and says so"
    IGNORED_RANGE = "200 with the whole file where a range was asked for"
    HTML = "200 with a page to log in"
    EXPIRED = "403, the signature has expired"
    REDIRECT = "a redirect to itself, without end"


@dataclass(frozen=True, slots=True)
class Request:
    """What was asked for."""

    method: str
    path: str
    """With its query."""
    headers: dict[str, str]
    """Names in lower case."""
    body: bytes = b""

    @property
    def line(self) -> str:
        """All that distinguishes one request from another: `GET /item/green.tif bytes=0-16383`."""
        return f"{self.method} {self.path} {self.headers.get('range', '')}".rstrip()


@dataclass(frozen=True, slots=True)
class Answer:
    """What is answered where nothing goes wrong."""

    status: int
    kind: str
    """Content type."""
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)


Answers = Callable[[Request], Answer]
"""What a server serves."""
Misbehaves = Callable[[Request], Fault | None]
"""How a server fails a request; None where it does not."""

NOT_FOUND = Answer(404, "text/plain", b"no such file\n")
_KINDS = {".json": "application/json", ".geojson": "application/geo+json", ".tif": "image/tiff"}


def files(folder: Path) -> Answers:
    """Serves the files of a folder, whole or in ranges, and nothing beside it."""
    root = folder.resolve()

    def answer(request: Request) -> Answer:
        path = (root / unquote(urlsplit(request.path).path).lstrip("/")).resolve()
        if not path.is_relative_to(root) or not path.is_file():
            return NOT_FOUND
        return ranged(request, path.read_bytes(), _KINDS.get(path.suffix, "application/octet-stream"))

    return answer


def proxy(url: str, own: Callable[[], str]) -> Answers:
    """Passes requests on to another server, and puts its `own` address in place of that server's in the text.

    A STAC API states absolute addresses of itself; without this a client would walk around the proxy.
    """

    def answer(request: Request) -> Answer:
        headers = {
            name: request.headers[name] for name in ("content-type", "accept") if name in request.headers
        }
        body = request.body.replace(own().encode(), url.encode()) or None
        asked = urllib.request.Request(url + request.path, body, headers, method=request.method)
        try:
            with urllib.request.urlopen(asked, timeout=30) as got:
                status, kind, text = got.status, got.headers.get_content_type(), got.read()
        except urllib.error.HTTPError as error:
            status, kind, text = error.code, error.headers.get_content_type(), error.read()
        return Answer(status, kind, text.replace(url.encode(), own().encode()))

    return answer


def ranged(request: Request, body: bytes, kind: str) -> Answer:
    """The body, or of it the range of bytes that was asked for."""
    found = re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("range", ""))
    accept = {"Accept-Ranges": "bytes"}
    if not found:
        return Answer(200, kind, body, accept)
    first = int(found[1])
    last = min(int(found[2] or len(body)), len(body) - 1)
    if first > last:
        return Answer(416, kind, b"", accept | {"Content-Range": f"bytes */{len(body)}"})
    part = {"Content-Range": f"bytes {first}-{last}/{len(body)}"}
    return Answer(206, kind, body[first : last + 1], accept | part)


def behaved(_request: Request) -> None:
    """Nothing goes wrong."""


def every(fault: Fault, *, of: str = "", times: int | None = None) -> Misbehaves:
    """The same fault for each request whose line the pattern `of` is in; no more after so many `times`."""
    lock, left = threading.Lock(), [times]

    def misbehave(request: Request) -> Fault | None:
        with lock:
            if left[0] == 0 or not re.search(of, request.line):
                return None
            if left[0] is not None:
                left[0] -= 1
            return fault

    return misbehave


def now_and_then(seed: int | str, share: float, faults: Sequence[Fault], *, in_a_row: int = 2) -> Misbehaves:
    """A share of the requests fails, which and how drawn from a seed; none more than so often in a row.

    Whether the n-th request for some bytes of a path fails depends on the seed and on these alone, not on the
    order in which workers happen to ask.
    """
    lock, asked, failed = threading.Lock(), Counter[str](), Counter[str]()

    def misbehave(request: Request) -> Fault | None:
        name = request.line
        with lock:
            asked[name] += 1
            draw = random.Random(f"{seed} {name} {asked[name]}")
            if draw.random() >= share or failed[name] >= in_a_row:
                failed[name] = 0
                return None
            failed[name] += 1
            return draw.choice(faults)

    return misbehave


@dataclass
class Server:
    """A running server; what it does wrong may be changed between requests."""

    answers: Answers
    misbehaves: Misbehaves
    url: str = ""
    """Without a slash at its end."""
    seen: list[Request] = field(default_factory=list)
    """All requests, in order."""
    done: Counter[Fault] = field(default_factory=Counter)
    """How often each fault was committed."""
    released: threading.Event = field(default_factory=threading.Event)
    """Set when the server stops, so that no answer hangs any longer."""


@contextmanager
def serving(answers: Answers, misbehaves: Misbehaves = behaved, host: str = "127.0.0.1") -> Iterator[Server]:
    """Run a server until the block ends."""
    server = Server(answers, misbehaves)

    class Bound(_Handler):
        owner = server

    http = _Quiet((host, 0), Bound)
    server.url = f"http://{host}:{http.server_port}"
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.released.set()
        http.shutdown()
        thread.join()
        http.server_close()


class _Quiet(ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        pass  # a client that hung up is what these tests are about


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 30
    owner: Server

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        headers = {name.lower(): value for name, value in self.headers.items()}
        request = Request(self.command, self.path, headers, body)
        self.owner.seen.append(request)
        fault = self.owner.misbehaves(request)
        with suppress(ConnectionError, TimeoutError):  # a client that would not wait
            if fault is None:
                self._send(self.owner.answers(request))
            else:
                self.owner.done[fault] += 1
                self._fail(fault, request)

    do_HEAD = do_POST = do_GET  # noqa: N815 - the names that the base class calls

    def _send(self, answer: Answer, body: bytes | None = None) -> None:
        """Answer, with less of a body than announced where `body` is given."""
        self.send_response(answer.status)
        for name, value in {"Content-Type": answer.kind, **answer.headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body if body is None else body)
        self.wfile.flush()

    def _fail(self, fault: Fault, request: Request) -> None:
        if fault is Fault.HANG:
            self.owner.released.wait()
            self.close_connection = True
        elif fault in (Fault.RESET, Fault.TRUNCATED):
            answer = self.owner.answers(request)
            self._send(answer, answer.body[: len(answer.body) // 2])
            self.close_connection = True
            if fault is Fault.RESET:
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.connection.close()
        elif fault is Fault.WRONG_RANGE:
            self._send(_move_range(self.owner.answers(request)))
        elif fault is Fault.IGNORED_RANGE:
            whole = {name: value for name, value in request.headers.items() if name != "range"}
            self._send(self.owner.answers(Request(request.method, request.path, whole, request.body)))
        else:
            self._send(_wrong(fault, self.owner.url + request.path))

    def log_message(self, *args: object) -> None:
        pass


def _move_range(answer: Answer) -> Answer:
    """The same number of bytes, from elsewhere."""
    found = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+)", answer.headers.get("Content-Range", ""))
    if not found:
        return answer
    first, last, size = int(found[1]) + 1000, int(found[2]) + 1000, found[3]
    moved = answer.body[len(answer.body) // 2 :] + answer.body[: len(answer.body) // 2]
    return Answer(206, answer.kind, moved, answer.headers | {"Content-Range": f"bytes {first}-{last}/{size}"})


def _wrong(fault: Fault, url: str) -> Answer:
    expired = (
        b"<?xml version='1.0'?><Error><Code>AuthenticationFailed</Code><Message>expired</Message></Error>"
    )
    return {
        Fault.BUSY: Answer(429, "text/plain", b"slow down\n", {"Retry-After": "1"}),
        Fault.UNAVAILABLE: Answer(503, "text/plain", b"back soon\n"),
        Fault.HTML: Answer(200, "text/html", b"<!doctype html><html><body>Please log in</body></html>\n"),
        Fault.EXPIRED: Answer(403, "application/xml", expired),
        Fault.REDIRECT: Answer(302, "text/plain", b"", {"Location": url}),
    }[fault]

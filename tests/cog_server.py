"""Files over HTTP with ranges, on loopback, and with the manners of a bad day."""

from __future__ import annotations

import re
import socket
import struct
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

Manners = Callable[[str, str], str | None]
"""Of the path and the query of a request: what goes wrong with it, a status, "reset" or "truncate"."""


class CogServer:
    """Serves a folder; it is also a proxy, which takes every host for its own."""

    def __init__(self, folder: Path, manners: Manners = lambda path, query: None) -> None:
        self.folder = folder
        self.manners = manners
        self.faults: Counter[str] = Counter()
        """What went wrong, and how often."""
        self.requests = 0
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, self))
        self.url = f"http://127.0.0.1:{self.http.server_port}"


@contextmanager
def serving(folder: Path, manners: Manners = lambda path, query: None) -> Iterator[CogServer]:
    """A server that answers until the end of the block."""
    server = CogServer(folder, manners)
    thread = threading.Thread(target=server.http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.http.shutdown()
        thread.join()
        server.http.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(self, cogs: CogServer, *args: Any) -> None:
        self.cogs = cogs  # before the base class, which answers from within its own
        super().__init__(*args)

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        parts = urlsplit(self.path)
        self.cogs.requests += 1
        fault = self.cogs.manners(parts.path, parts.query)
        if fault is not None:
            self.cogs.faults[fault] += 1
        try:
            if fault == "reset":
                self._reset()
            elif fault is not None and fault.isdigit():
                self._send(int(fault), b"not now")
            else:
                self._file(self.cogs.folder / parts.path.lstrip("/"), cut=fault == "truncate")
        except ConnectionError:  # a client that was killed
            self.close_connection = True

    def _file(self, path: Path, *, cut: bool) -> None:
        if not path.is_file():
            self._send(404, b"no such file")
            return
        body = path.read_bytes()
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if asked is None:
            self._send(200, body, {"Accept-Ranges": "bytes"}, cut=cut)
            return
        start, end = int(asked[1]), min(int(asked[2] or len(body)), len(body) - 1)
        where = {"Content-Range": f"bytes {start}-{end}/{len(body)}"}
        self._send(206 if start <= end else 416, body[start : end + 1], where, cut=cut)

    def _send(
        self, status: int, body: bytes, headers: dict[str, str] | None = None, *, cut: bool = False
    ) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[: len(body) // 2] if cut else body)
        if cut:
            self.close_connection = True

    def _reset(self) -> None:
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        raise ConnectionResetError

    def log_message(self, *_: object) -> None:
        pass

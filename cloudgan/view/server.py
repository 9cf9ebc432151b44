"""The server of the live view: one process, for whoever sits at this machine."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from html import escape
from importlib import resources
from ipaddress import ip_address
from typing import Any

from tornado.httpserver import HTTPServer
from tornado.httputil import HTTPServerRequest
from tornado.netutil import bind_sockets
from tornado.web import Application, HTTPError, RequestHandler

from cloudgan.errors import CloudganError, InputError
from cloudgan.object_stores import normalise_location
from cloudgan.view.site import View, open_views
from cloudgan.view.tiles import STATES, AbandonedError, Tile

HOST, PORT = "127.0.0.1", 8765
"""Where the page is served by default: to this machine alone."""
_FILES = {
    "": ("page.html", "text/html"),
    "page.css": ("page.css", "text/css"),
    "page.js": ("page.js", "text/javascript"),
    "leaflet.css": ("leaflet/leaflet.css", "text/css"),
    "leaflet.js": ("leaflet/leaflet.js", "text/javascript"),
}
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
)
_DAY, _MOMENT = 86_400, 10  # seconds that a browser keeps a tile of a finished store, and of another
_LOOPBACK = {"localhost", "127.0.0.1", "::1"}

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Site:
    """A store that is served."""

    title: str
    """Its name."""
    views: tuple[View, ...]
    """Its zones."""
    hosts: frozenset[str] | None
    """Names by which the server may be addressed; None for any."""
    pool: ThreadPoolExecutor
    """Where tiles are drawn."""
    stop: threading.Event = field(default_factory=threading.Event)
    """Set when the server ends."""
    token: str = field(default_factory=lambda: secrets.token_urlsafe(6))
    """Part of the addresses of tiles: a browser takes none for those of a former run."""


def serve_store(
    location: str, host: str = HOST, port: int = PORT, on_ready: Callable[[str], None] | None = None
) -> None:
    """Serve the page of a store, until Ctrl-C or SIGTERM.

    Args:
        location: Path of a directory, or URL of an object store.
        host: Address to listen on.
        port: Port to listen on; 0 for any that is free.
        on_ready: Told the address of the page.

    Raises:
        StoreError: There is no store of cloudgan's, or it is damaged.
        InputError: Nothing can listen there.
    """
    location = normalise_location(location)
    views = open_views(location)
    try:
        sockets = bind_sockets(port, host)
    except (OSError, OverflowError) as error:
        why = getattr(error, "strerror", None) or error
        raise InputError(
            f"{host}, port {port} cannot be listened on ({why}); give --port 0 for any that is free, or "
            "another --host"
        ) from error
    port = sockets[0].getsockname()[1]
    pool = ThreadPoolExecutor(min(8, 1 + (os.cpu_count() or 1)), thread_name_prefix="tiles")
    title = location.rstrip("/").rpartition("/")[2]
    site = Site(title, views, frozenset(_LOOPBACK | {host}) if is_loopback(host) else None, pool)
    shown = f"[{host}]" if ":" in host else host
    try:
        asyncio.run(_serve(site, sockets, lambda: on_ready and on_ready(f"http://{shown}:{port}/")))
    finally:
        site.stop.set()
        pool.shutdown(wait=False, cancel_futures=True)


def is_loopback(host: str) -> bool:
    """Whether an address is this machine's own, which no other machine reaches."""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


async def _serve(site: Site, sockets: list[Any], on_ready: Callable[[], object]) -> None:
    server = HTTPServer(make_application(site))
    server.add_sockets(sockets)
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, ended.set)
    on_ready()
    try:
        await ended.wait()
    finally:
        site.stop.set()
        server.stop()
        await server.close_all_connections()


def make_application(site: Site) -> Application:
    """What answers requests."""
    folder = resources.files("cloudgan.view")
    files = {name: ((folder / path).read_bytes(), kind) for name, (path, kind) in _FILES.items()}
    page, kind = files[""]
    files[""] = page.replace(b"{{title}}", escape(site.title).encode()), kind
    state = "|".join(STATES)
    routes: list[Any] = [
        (r"/(|page\.css|page\.js|leaflet\.css|leaflet\.js)", _FileHandler, {"site": site, "files": files}),
        (r"/store\.json", _StoreHandler, {"site": site}),
        (
            rf"/tiles/(\d{{1,4}})/(\d{{1,6}})/(\w{{1,20}})/({state})/(\d{{1,2}})/(\d{{1,7}})/(\d{{1,7}})\.png",
            _TileHandler,
            {"site": site},
        ),
        (r"/curve/(\d{1,4})/(\d{1,9})/(\d{1,9})\.svg", _CurveHandler, {"site": site}),
    ]
    return Application(
        routes,
        default_handler_class=_MissingHandler,
        default_handler_args={"site": site},
        log_function=_ignore,
    )


def _ignore(handler: RequestHandler) -> None:
    """No line for each request."""


class _Handler(RequestHandler):
    """What all answers have in common."""

    def initialize(self, site: Site, **more: Any) -> None:
        self.site = site
        self.abandoned = threading.Event()

    def set_default_headers(self) -> None:
        self.clear_header("Server")
        self.set_header("Content-Security-Policy", _POLICY)
        self.set_header("X-Content-Type-Options", "nosniff")
        self.set_header("Referrer-Policy", "no-referrer")
        self.set_header("Cross-Origin-Resource-Policy", "same-origin")
        self.set_header("Cache-Control", "no-store")

    def prepare(self) -> None:
        # A page of another site may lead its own name to this machine, and would read what is served here.
        if self.site.hosts is not None and _name_host(self.request) not in self.site.hosts:
            raise HTTPError(403, reason="Addressed by another name")

    def on_connection_close(self) -> None:
        self.abandoned.set()

    def check(self) -> None:
        """Stop work that nobody waits for."""
        if self.abandoned.is_set() or self.site.stop.is_set():
            raise AbandonedError

    async def work(self, call: Callable[[], Any]) -> Any:
        """What a call gives, which reads the store; an error of it is an answer."""

        def run() -> Any:
            self.check()
            return call()

        try:
            return await asyncio.get_running_loop().run_in_executor(self.site.pool, run)
        except AbandonedError:
            raise HTTPError(503) from None
        except (KeyError, IndexError):
            raise HTTPError(404) from None
        except CloudganError as error:
            _log.warning("%s", error)
            raise HTTPError(500) from error

    def write_error(self, status_code: int, **more: Any) -> None:
        error = more.get("exc_info", (None, None, None))[1]
        cause = getattr(error, "__cause__", None)
        self.set_header("Content-Type", "text/plain; charset=utf-8")
        self.finish(str(cause) if isinstance(cause, CloudganError) else self._reason)

    def log_exception(self, kind: Any, value: Any, trace: Any) -> None:
        if not isinstance(value, HTTPError):
            super().log_exception(kind, value, trace)


class _MissingHandler(_Handler):
    def prepare(self) -> None:
        super().prepare()
        raise HTTPError(404)


class _FileHandler(_Handler):
    def initialize(self, site: Site, **more: Any) -> None:
        super().initialize(site)
        self.files: dict[str, tuple[bytes, str]] = more["files"]

    def get(self, name: str) -> None:
        body, kind = self.files[name]
        self.set_header("Content-Type", f"{kind}; charset=utf-8")
        self.finish(body)


class _StoreHandler(_Handler):
    async def get(self) -> None:
        views = self.site.views
        zones = await self.work(lambda: [view.describe() for view in views])
        self.finish({"title": self.site.title, "token": self.site.token, "zones": zones})


class _TileHandler(_Handler):
    async def get(self, zone: str, at: str, content: str, state: Any, *place: str) -> None:
        if int(zone) >= len(self.site.views):
            raise HTTPError(404)
        view = self.site.views[int(zone)]
        level, row, col = map(int, place)

        def paint() -> bytes | None:
            if level > 31 or int(at) >= len(view.reader.days):
                raise KeyError(at)
            return view.painter.paint(int(at), content, state, Tile(level, row, col), self.check)

        body = await self.work(paint)
        if body is None:
            raise HTTPError(404)
        self.set_header("Content-Type", "image/png")
        self.set_header("Cache-Control", f"private, max-age={_DAY if view.is_finished else _MOMENT}")
        self.finish(body)


class _CurveHandler(_Handler):
    async def get(self, zone: str, row: str, col: str) -> None:
        drawn = await self.work(lambda: self.site.views[int(zone)].draw_curve(int(row), int(col)))
        self.set_header("Content-Type", "image/svg+xml; charset=utf-8")
        self.finish(drawn)


def _name_host(request: HTTPServerRequest) -> str:
    """The name by which a request addresses the server, without the port."""
    host = request.host.lower()
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.rpartition(":")[0] or host

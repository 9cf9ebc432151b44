"""A real STAC API on loopback, with the good and bad manners that public ones have."""

import datetime as dt
import json
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from buckets import serve_bucket
from clusters import workers
from networks import write_network
from shapely.geometry import box, shape

from cloudgan.model.generator import Generator

CORE = "https://api.stacspec.org/v1.0.0/core"
SEARCH = "https://api.stacspec.org/v1.0.0/item-search"
QUERY = f"{SEARCH}#query"
CQL2 = (f"{SEARCH}#filter", "http://www.opengis.net/spec/cql2/1.0/conf/cql2-json")


@pytest.fixture(scope="session")
def network64(tmp_path_factory) -> Path:
    """A quick generator on tiles of 64, as a file."""
    return write_network(tmp_path_factory.mktemp("network64") / "mean64.onnx", tile=64)


@pytest.fixture(scope="session")
def generator(network64) -> Generator:
    """The same, loaded."""
    return Generator.load(network64)


@pytest.fixture(scope="module")
def client():
    """Two workers."""
    with workers(2) as client:
        yield client


@pytest.fixture(scope="module")
def s3(tmp_path_factory):
    """A bucket, and its credentials in the environment of this process and of all that it starts."""
    with serve_bucket(tmp_path_factory.mktemp("seaweed")) as bucket:
        yield bucket


LOOPBACK = pytest.mark.allow_hosts(["127.0.0.1", "localhost", "::1"])


def pytest_collection_modifyitems(items):
    """Everything here may open sockets, to this machine only; marks apply before any fixture is set up."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(LOOPBACK)
            item.add_marker(pytest.mark.integration)


@dataclass
class StacServer:
    """A STAC API; its fields are its manners, and may be changed between requests."""

    items: list = field(default_factory=list)
    conforms: tuple = (CORE, SEARCH, QUERY)
    methods: tuple = ("POST", "GET")
    page_size: int = 2
    honest: bool = True  # False: ignores collection, area, dates and filters, and returns everything
    filters: bool = True  # False: answers any cloud filter with nothing
    circles: bool = False  # True: the next page is always the first
    failures: list = field(default_factory=list)  # statuses to answer with before working again
    reply: tuple | None = None  # (status, content type, text) for every request, or only for /search
    reply_to: str = ""  # end of the paths that `reply` is for; empty for all
    delay: float = 0.0  # seconds before every answer
    seen: list = field(default_factory=list)  # (method, path, parameters)
    url: str = ""

    def searches(self):
        return [parameters for _, path, parameters in self.seen if path == "/search"]

    def answer(self, method, path, parameters):
        """Status, content type and text."""
        self.seen.append((method, path, parameters))
        time.sleep(self.delay)
        if self.failures:
            return self.failures.pop(0), "text/plain", "try again"
        if self.reply and path.endswith(self.reply_to):
            return self.reply
        if path == "/":
            return _json(self.landing())
        if path == "/collections":
            return _json({"collections": [{"id": "sentinel-2-l2a"}, {"id": "landsat-c2-l2"}], "links": []})
        if path == "/search" and method in self.methods:
            return _json(self.page(method, parameters))
        return 404, "application/json", '{"code": "NotFound", "description": "no such path"}'

    def landing(self):
        links = [
            {"rel": "search", "type": "application/geo+json", "href": f"{self.url}/search", "method": method}
            for method in self.methods
        ]
        links += [{"rel": "data", "type": "application/json", "href": f"{self.url}/collections"}]
        return {
            "type": "Catalog",
            "stac_version": "1.0.0",
            "id": "loopback",
            "description": "A STAC API for tests",
            "conformsTo": list(self.conforms),
            "links": links,
        }

    def page(self, method, parameters):
        matched = [body for body in self.items if not self.honest or self.matches(body, parameters)]
        start = int(parameters.get("token", 0))
        end = start + min(self.page_size, int(parameters.get("limit", 10)))
        page = {"type": "FeatureCollection", "features": matched[start:end], "links": []}
        if end < len(matched):
            token = "0" if self.circles else str(end)
            page["links"] = [self.next_link(method, parameters | {"token": token})]
        return page

    def next_link(self, method, parameters):
        if method == "POST":
            return {"rel": "next", "href": f"{self.url}/search", "method": "POST", "body": parameters}
        query = "&".join(f"{key}={value}" for key, value in parameters.items())
        return {"rel": "next", "href": f"{self.url}/search?{query}"}

    def matches(self, body, parameters):
        properties = body["properties"]
        limit = _cloud_limit(parameters)
        if limit is not None and (not self.filters or properties.get("eo:cloud_cover", 101) > limit):
            return False
        collections = parameters.get("collections") or [body["collection"]]
        first, last = (_instant(text) for text in parameters["datetime"].split("/"))
        area = parameters.get("intersects")
        return (
            body["collection"] in (collections.split(",") if isinstance(collections, str) else collections)
            and first <= _instant(properties["datetime"]) <= last
            and shape(body["geometry"]).intersects(
                shape(json.loads(area) if isinstance(area, str) else area)
                if area
                else box(-180, -90, 180, 90)
            )
        )


def _instant(text):
    return dt.datetime.fromisoformat(text)


def _cloud_limit(parameters):
    if "query" in parameters:
        query = parameters["query"]
        return (json.loads(query) if isinstance(query, str) else query)["eo:cloud_cover"]["lte"]
    return parameters["filter"]["args"][1] if "filter" in parameters else None


def _json(body):
    return 200, "application/json", json.dumps(body)


def _serve(server):
    """Start an HTTP server for a `StacServer`; returns what stops it."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            parts = urlsplit(self.path)
            self.send(parts.path, {key: values[-1] for key, values in parse_qs(parts.query).items()})

        def do_POST(self):
            self.send(self.path, json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

        def send(self, path, parameters):
            status, kind, text = server.answer(self.command, path, parameters)
            body = text.encode()
            try:
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                if status == 429:
                    self.send_header("Retry-After", "3600")
                self.end_headers()
                self.wfile.write(body)
            except ConnectionError:
                self.close_connection = True  # a client that would not wait

        def log_message(self, *args):
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.url = f"http://127.0.0.1:{http.server_port}"
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()

    def stop():
        http.shutdown()
        thread.join()
        http.server_close()

    return stop


@pytest.fixture
def stac_server():
    """Starts STAC APIs: `stac_server(items, circles=True)` answers on `.url` until the test ends."""
    with ExitStack() as stack:

        def start(items=(), **manners):
            server = StacServer(list(items), **manners)
            stack.callback(_serve(server))
            return server

        yield start

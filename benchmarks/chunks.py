"""What readers fetch of a store, by the size of the chunks within its shards: requests and bytes over HTTP.

    python benchmarks/chunks.py STORE [--edge PIXELS]

The bands red and nir of a store are written again, mirrored to a shard of `--edge` pixels, with chunks of
several sizes. A server on loopback counts what a reader fetches through zarr-python: the series of a field of
20 x 20 pixels, two bands, all dates, at 25 places of chance; and the map of one date, one band.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import zarr
from obstore.store import HTTPStore
from zarr.codecs import BloscCodec

CHUNKS = (64, 128, 256, 512)
BANDS = ("red", "nir")
FIELD = 20
PLACES = 25


class Counter:
    """Requests and bytes that a server answered."""

    def __init__(self) -> None:
        self.requests, self.bytes = 0, 0

    def reset(self) -> None:
        """Begin anew."""
        self.requests, self.bytes = 0, 0


@contextmanager
def serve(folder: Path, counter: Counter) -> Iterator[str]:
    """A server of files with byte ranges, and its address."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *words: object) -> None:
            pass

        def do_HEAD(self) -> None:
            self.answer(send=False)

        def do_GET(self) -> None:
            self.answer(send=True)

        def answer(self, *, send: bool) -> None:
            counter.requests += 1
            path = folder / self.path.lstrip("/")
            if not path.is_file():
                self.send_response(404)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            body = path.read_bytes()
            size, span = len(body), self.headers.get("Range")
            if span:
                first, last = span.removeprefix("bytes=").split("-")
                start = int(first) if first else size - int(last)
                stop = int(last) + 1 if first and last else size
                body = body[start:stop]
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {start}-{start + len(body) - 1}/{size}")
            else:
                self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Last-Modified", "Mon, 01 Jan 2024 00:00:00 GMT")
            self.end_headers()
            if send:
                counter.bytes += len(body)
                self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()


def write(source: zarr.Group, target: Path, chunk: int, edge: int) -> None:
    """The bands of a store with another size of chunks, mirrored to one shard of a date."""
    group = zarr.open_group(target, mode="w")
    for name in BANDS:
        array = source[name]
        made = group.create_array(
            name,
            shape=(array.shape[0], edge, edge),
            dtype=array.dtype,
            chunks=(1, chunk, chunk),
            shards=(1, edge, edge),
            compressors=[BloscCodec(cname="zstd", clevel=3, shuffle="shuffle")],
        )
        for at in range(array.shape[0]):
            pads = [(0, edge - size) for size in array.shape[1:]]
            made[at] = np.pad(np.asarray(array[at]), pads, mode="symmetric")


def measure(address: str, counter: Counter, edge: int) -> dict[str, tuple[float, float, float]]:
    """Requests, megabytes and milliseconds of what is read."""
    store = zarr.storage.ObjectStore(HTTPStore(address, client_options={"allow_http": True}), read_only=True)
    arrays = [zarr.open_array(store, path=name, mode="r") for name in BANDS]
    rng = np.random.default_rng(5)
    found: dict[str, list[tuple[float, float, float]]] = {"series": [], "map": []}
    for row, col in rng.integers(0, edge - FIELD, (PLACES, 2)):
        counter.reset()
        started = time.perf_counter()
        for array in arrays:
            array[:, row : row + FIELD, col : col + FIELD]
        found["series"].append((counter.requests, counter.bytes / 1e6, 1e3 * (time.perf_counter() - started)))
    for at in range(5):
        counter.reset()
        started = time.perf_counter()
        arrays[0][at]
        found["map"].append((counter.requests, counter.bytes / 1e6, 1e3 * (time.perf_counter() - started)))
    return {
        name: tuple(statistics.mean(column) for column in zip(*rows, strict=True))  # type: ignore[misc]
        for name, rows in found.items()
    }


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("store", type=Path)
    parser.add_argument("--edge", type=int, default=2048)
    options = parser.parse_args()
    source = zarr.open_group(options.store, mode="r")
    dates = source[BANDS[0]].shape[0]
    print(f"{dates} dates, shards of {options.edge} pixels; series: {FIELD} x {FIELD} pixels, 2 bands\n")
    print("| chunk | MB in all | series: requests | MB | ms | map: requests | MB | ms |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    counter = Counter()
    for chunk in CHUNKS:
        with tempfile.TemporaryDirectory() as folder:
            write(source, Path(folder), chunk, options.edge)
            total = sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file()) / 1e6
            with serve(Path(folder), counter) as address:
                found = measure(address, counter, options.edge)
        cells = [f"{n:.0f} | {mb:.2f} | {ms:.0f}" for n, mb, ms in found.values()]
        print(f"| {chunk} | {total:.1f} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()

"""A real S3 server on loopback, with one bucket."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

USERS = {"writer": ("writes", ["Admin", "Read", "Write", "List"]), "reader": ("reads", ["Read", "List"])}


@dataclass(frozen=True)
class S3:
    """A bucket of a server."""

    environment: dict[str, str]

    def url(self, name: str) -> str:
        return f"s3://bucket/{name}"


def free_port() -> int:
    """A port of which the one 10,000 above is free too: the server's other half listens there."""
    while True:
        with socket.socket() as one, socket.socket() as other:
            one.bind(("127.0.0.1", 0))
            port = one.getsockname()[1]
            if port > 50_000:
                continue
            try:
                other.bind(("127.0.0.1", port + 10_000))
            except OSError:
                continue
            return port


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=1) as reply:
            return reply.status == 200
    except OSError:
        return False


@contextmanager
def seaweed(folder: Path):
    """The server's address for S3, and the one that makes buckets, until the end of the block."""
    identities = [
        {"name": name, "credentials": [{"accessKey": name, "secretKey": secret}], "actions": actions}
        for name, (secret, actions) in USERS.items()
    ]
    (folder / "users.json").write_text(json.dumps({"identities": identities}))
    (folder / "data").mkdir()
    services = ("master", "volume", "filer", "s3", "metrics", "s3.port.iceberg", "s3.port.lance")
    ports = {name: free_port() for name in services}
    options = {f"{name}.port": ports[name] for name in ("master", "volume", "filer", "s3")}
    options |= {"s3.port.iceberg": 0, "s3.port.lance": 0}
    options |= {"dir": folder / "data", "ip": "127.0.0.1", "ip.bind": "127.0.0.1", "volume.max": 8}
    options |= {"master.volumeSizeLimitMB": 64, "s3.config": folder / "users.json"}
    words = [f"-{name}={value}" for name, value in options.items()]
    weed = Path(sys.executable).with_name("weed")
    with (
        (folder / "log").open("w") as log,
        subprocess.Popen([weed, "server", "-filer", "-s3", *words], stdout=log, stderr=log) as server,
    ):
        try:
            s3, filer = (f"http://127.0.0.1:{ports[name]}" for name in ("s3", "filer"))
            deadline = time.monotonic() + 90
            while not answers(f"{s3}/healthz") and server.poll() is None and time.monotonic() < deadline:
                time.sleep(0.1)
            assert answers(f"{s3}/healthz"), (folder / "log").read_text()[-2000:]
            yield s3, filer
        finally:
            server.kill()


@contextmanager
def serve_bucket(folder: Path):
    """A bucket, and its credentials in the environment of this process and of all that it starts."""
    with seaweed(folder) as (url, filer), pytest.MonkeyPatch.context() as patch:
        make = urllib.request.Request(f"{filer}/buckets/bucket/", method="POST")
        urllib.request.urlopen(make, timeout=30).close()
        environment = {
            "AWS_ENDPOINT_URL": url,
            "AWS_ALLOW_HTTP": "true",
            "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "writer",
            "AWS_SECRET_ACCESS_KEY": USERS["writer"][0],
        }
        for name, value in environment.items():
            patch.setenv(name, value)
        yield S3(environment)

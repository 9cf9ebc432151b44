"""Azure's own emulator: what is written there is what a disk holds, and one run at a time writes."""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import hmac
import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
import xarray as xr
from zarr.storage import ObjectStore

from cloudgan.errors import StoreError
from cloudgan.io.lease import hold_lease
from cloudgan.object_stores import open_object_store

AZURITE = Path(__file__).parents[2] / ".tools" / "azurite" / "node_modules" / ".bin" / "azurite-blob"
ACCOUNT = "devstoreaccount1"
KEY = (  # of every emulator; Microsoft publishes it
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
)


def make_container(endpoint: str, name: str) -> None:
    """A signed request by hand: obstore makes no containers."""
    date = dt.datetime.now(dt.UTC).strftime("%a, %d %b %Y %H:%M:%S GMT")
    headers = {"x-ms-date": date, "x-ms-version": "2021-08-06"}
    lines = ["PUT", *[""] * 11, *(f"{key}:{value}" for key, value in headers.items())]
    text = "\n".join([*lines, f"/{ACCOUNT}/{ACCOUNT}/{name}", "restype:container"])
    digest = hmac.new(base64.b64decode(KEY), text.encode(), hashlib.sha256).digest()
    headers["Authorization"] = f"SharedKey {ACCOUNT}:{base64.b64encode(digest).decode()}"
    request = urllib.request.Request(f"{endpoint}/{name}?restype=container", method="PUT", headers=headers)
    with urllib.request.urlopen(request, timeout=10) as reply:
        assert reply.status == 201


@pytest.fixture(scope="module")
def azure(tmp_path_factory):
    """The environment that leads to a container called `cubes`."""
    if not AZURITE.exists():
        pytest.skip("Azurite is not installed; `make test` installs it where there is npm")
    folder = tmp_path_factory.mktemp("azurite")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = ["--silent", "--skipApiVersionCheck", "--location", folder, "--blobPort", port]
    endpoint = f"http://127.0.0.1:{port}/{ACCOUNT}"
    with subprocess.Popen([AZURITE, *map(str, words)], stdout=subprocess.DEVNULL) as server:
        try:
            for _ in range(300):
                with socket.socket() as knock:
                    if not knock.connect_ex(("127.0.0.1", port)):
                        break
                time.sleep(0.1)
            make_container(endpoint, "cubes")
            yield {
                "AZURE_STORAGE_ACCOUNT_NAME": ACCOUNT,
                "AZURE_STORAGE_ACCOUNT_KEY": KEY,
                "AZURE_STORAGE_ENDPOINT": endpoint,
                "AZURE_ALLOW_HTTP": "true",
            }
        finally:
            server.kill()


@pytest.fixture(autouse=True)
def environment(azure, monkeypatch):
    for name, value in azure.items():
        monkeypatch.setenv(name, value)


def run(demo, network, out: str | Path) -> str:
    words = [
        "--aoi",
        demo.aoi,
        "--dates",
        "2020-05-01/2020-05-10",
        "--stac",
        demo.catalog,
        "--model",
        network,
    ]
    call = [
        sys.executable,
        "-m",
        "cloudgan.cli.app",
        "batch",
        *words,
        "--out",
        out,
        "--workers",
        "1",
        "--json",
    ]
    done = subprocess.run(
        list(map(str, call)), env=os.environ, capture_output=True, text=True, timeout=280, check=False
    )
    assert done.returncode == 0, done.stderr
    assert KEY not in done.stdout + done.stderr
    return done.stdout


def test_a_container_holds_what_a_disk_would_and_a_rerun_does_nothing(demo, network, tmp_path):
    run(demo, network, "az://cubes/some/out.zarr")
    run(demo, network, tmp_path / "out.zarr")
    store = ObjectStore(open_object_store("az://cubes/some/out.zarr"), read_only=True)
    xr.testing.assert_equal(xr.open_zarr(store).load(), xr.open_zarr(tmp_path / "out.zarr").load())
    report = json.loads(run(demo, network, "az://cubes/some/out.zarr"))["report"]
    assert (report["done"], report["skipped"]) == (0, report["units"])


def test_one_run_at_a_time_writes():
    with (
        hold_lease("az://cubes/one.zarr"),
        pytest.raises(StoreError, match=r"another run is writing az://cubes/one\.zarr"),
        hold_lease("az://cubes/one.zarr"),
    ):
        pass
    with hold_lease("az://cubes/one.zarr"):
        pass


def test_a_wrong_key_is_one_sentence_and_is_not_told(monkeypatch):
    wrong = base64.b64encode(b"wrong" * 8).decode()
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", wrong)
    with (
        pytest.raises(StoreError, match=r"az://cubes/two\.zarr cannot be used") as refused,
        hold_lease("az://cubes/two.zarr"),
    ):
        pass
    assert "\n" not in str(refused.value)
    assert wrong not in str(refused.value)

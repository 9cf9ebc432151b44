"""Scheduler, workers and client on hosts of their own, encrypted, with a cable pulled in the middle.

A host is a network namespace: own interfaces, own routes, and to the others nothing but a pair of virtual
cables by way of the scheduler.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from distributed.security import Security
from networks import write_network
from stores import read_store

from cloudgan.io.store.fence import FOLDER

SPAN = "2020-05-05/2020-05-10"
PORT = 8786
GUESTS = {"one": 1, "two": 2, "client": 3}
"""Hosts beside the scheduler's, and the third number of their network."""


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, timeout=30)


def host(name: str) -> str:
    return f"cg{os.getpid()}{name}"


def cable(name: str) -> str:
    """The scheduler's end; a name of 15 characters at most."""
    return f"c{os.getpid()}{name[:3]}"


@pytest.fixture(scope="module")
def hosts() -> Iterator[None]:
    if shutil.which("ip") is None or os.geteuid() != 0:
        pytest.skip("network namespaces need root and iproute2")
    with ExitStack() as stack:
        for name in ("scheduler", *GUESTS):
            try:
                ip("netns", "add", host(name))
            except subprocess.CalledProcessError as error:
                pytest.skip(f"network namespaces cannot be made here: {error.stderr.decode().strip()}")
            stack.callback(ip, "netns", "del", host(name))
            ip("-n", host(name), "link", "set", "lo", "up")
        for name, number in GUESTS.items():
            ends = {host("scheduler"): (cable(name), 1), host(name): ("eth0", 2)}
            (there, (near, _)), (here, (far, _)) = ends.items()
            ip("-n", there, "link", "add", near, "type", "veth", "peer", "name", far, "netns", here)
            for space, (interface, last) in ends.items():
                ip("-n", space, "addr", "add", f"10.77.{number}.{last}/30", "dev", interface)
                ip("-n", space, "link", "set", interface, "up")
        yield


@pytest.fixture(scope="module")
def certificate(tmp_path_factory) -> dict[str, str]:
    """The environment of those who have one."""
    made = Security.temporary()
    folder = tmp_path_factory.mktemp("tls")
    files = {"CA_FILE": made.tls_ca_file}
    for role in ("SCHEDULER", "WORKER", "CLIENT"):
        files |= {f"{role}__CERT": made.tls_client_cert, f"{role}__KEY": made.tls_client_key}
    environment = {"DASK_DISTRIBUTED__COMM__REQUIRE_ENCRYPTION": "True"}
    for name, text in files.items():
        path = folder / f"{name}.pem"
        path.write_text(str(text))
        environment[f"DASK_DISTRIBUTED__COMM__TLS__{name}"] = str(path)
    return environment


@contextmanager
def running(where: str, words: list[str], environment: dict[str, str], log: Path) -> Iterator[None]:
    """A process on a host, until the block ends."""
    # How long Dask waits for a host that does not answer. Below 20 s Dask breaks.
    hurry = {"DASK_DISTRIBUTED__COMM__TIMEOUTS__TCP": "20s"}
    with log.open("wb") as file:
        process = subprocess.Popen(
            [
                "ip",
                "netns",
                "exec",
                host(where),
                sys.executable,
                "-m",
                "distributed.cli." + words[0],
                *words[1:],
            ],
            env=os.environ | hurry | environment,
            stdout=file,
            stderr=file,
        )
        try:
            yield
        finally:
            process.terminate()
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:  # a worker that cannot say goodbye
                process.kill()
                process.wait()


@pytest.fixture(scope="module")
def cluster(hosts, certificate, tmp_path_factory) -> Iterator[Path]:
    """A scheduler and a worker on either of two hosts; yields the folder of their logs."""
    logs = tmp_path_factory.mktemp("logs")
    with ExitStack() as stack:

        def start(where: str, *words: str) -> None:
            stack.enter_context(running(where, list(words), certificate, logs / f"{where}.log"))

        quiet = ("--no-dashboard",)
        start("scheduler", "dask_scheduler", "--protocol", "tls", "--port", str(PORT), *quiet)
        for name in ("one", "two"):
            address = f"tls://10.77.{GUESTS[name]}.1:{PORT}"
            options = ("--nthreads", "1", "--no-nanny", "--memory-limit", "2GB", "--local-directory")
            start(name, "dask_worker", address, *options, str(logs / f"{name}.d"), *quiet)
        yield logs


@pytest.fixture(scope="module")
def call(demo, tmp_path_factory) -> list[str]:
    """A job of many small units; without the store it goes to."""
    network = write_network(tmp_path_factory.mktemp("network") / "mean64.onnx", tile=64)
    options = {
        "--aoi": demo.aoi,
        "--dates": SPAN,
        "--stac": demo.catalog,
        "--model": network,
        "--resolution": 4,
        "--memory": "0.7GB",
    }
    words = [str(word) for pair in options.items() for word in pair]
    return [sys.executable, "-m", "cloudgan.cli.app", "batch", *words, "--json", "--out"]


def on_client(call: list[str]) -> list[str]:
    scheduler = ["--scheduler", f"tls://10.77.{GUESTS['client']}.1:{PORT}"]
    return ["ip", "netns", "exec", host("client"), *call, *scheduler]


@pytest.mark.timeout(400)
def test_a_run_survives_a_host_that_is_cut_off(cluster, certificate, call, tmp_path):
    out, undisturbed = tmp_path / "out.zarr", tmp_path / "undisturbed.zarr"
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(on_client([*call, str(out)]), env=os.environ | certificate, **pipes) as process:
        ledger = out / FOLDER / "c"
        deadline = time.monotonic() + 200
        while not (ledger.exists() and any(ledger.iterdir())) and time.monotonic() < deadline:
            assert process.poll() is None, process.communicate()[1]
            time.sleep(0.02)
        ip("-n", host("scheduler"), "link", "set", cable("one"), "down")
        done_before = len(list(ledger.iterdir()))
        output, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors + (cluster / "scheduler.log").read_text()[-3000:]
    report = json.loads(output)["report"]
    assert 0 < done_before < report["units"]
    assert report["failed"] == []
    assert "Remove worker" in (cluster / "scheduler.log").read_text()
    subprocess.run([*call, str(undisturbed), "--workers", "2"], check=True, capture_output=True, timeout=250)
    assert read_store(out) == read_store(undisturbed)


@pytest.mark.parametrize("has", ["nothing", "another certificate"])
def test_a_client_without_the_certificate_is_refused(has, cluster, call, tmp_path):
    environment = {"DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT": "5s"}
    if has == "another certificate":
        stranger = Security.temporary()
        for name, text in {
            "CA_FILE": stranger.tls_ca_file,
            "CLIENT__CERT": stranger.tls_client_cert,
            "CLIENT__KEY": stranger.tls_client_key,
        }.items():
            (tmp_path / name).write_text(str(text))
            environment[f"DASK_DISTRIBUTED__COMM__TLS__{name}"] = str(tmp_path / name)
    done = subprocess.run(
        on_client([*call, str(tmp_path / "out.zarr"), "--wait", "1"]),
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    (error,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert "no Dask scheduler answers at tls://10.77.3.1:8786" in error
    assert "DASK_DISTRIBUTED__COMM__TLS__CA_FILE" in error
    assert not (tmp_path / "out.zarr").exists()

"""What may happen to a run, for real, and that afterwards a rerun leaves the bytes of an undisturbed one."""

from __future__ import annotations

import json
import os
import pickle
import re
import resource
import shutil
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import dask
import distributed
import pytest
from clusters import workers
from misbehaving import Answer, Fault, files, serving
from stores import read_store

from cloudgan.distributed.execute import execute
from cloudgan.distributed.worker import Job
from cloudgan.distributed.workers import Cluster
from cloudgan.errors import ClusterError
from cloudgan.geo.aoi import read_aoi
from cloudgan.io.lease import hold_lease
from cloudgan.io.store.store import prepare_store
from cloudgan.planning.planner import plan_run
from cloudgan.sentinel2.dates import DateRange
from cloudgan.stac.signing import Signing

SPAN = DateRange.parse("2020-05-01/2020-05-20")


@pytest.fixture(scope="module")
def plan(demo, generator):
    """The demonstration's own area, in six units."""
    plan, _ = plan_run(read_aoi(demo.aoi), SPAN, generator, stac=str(demo.catalog))
    plan = replace(plan, block=256)
    assert plan.unit_count == 6
    return plan


def job_of(plan, generator, out: Path, **options) -> Job:
    return Job(plan, generator, prepare_store(str(out), plan.store_spec()), **options)


@pytest.fixture(scope="module")
def undisturbed(plan, generator, client, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("undisturbed") / "out.zarr"
    assert execute(job_of(plan, generator, out), client).failed == {}
    return out


def assert_same(one: Path, other: Path) -> None:
    first, second = read_store(one), read_store(other)
    assert first.keys() == second.keys()
    assert [name for name in first if first[name] != second[name]] == []


# Workers


def test_what_fails_on_one_worker_is_done_by_another(undisturbed, plan, generator, client, tmp_path):
    """A worker that may not write a file of over 300 bytes: every unit that it gets must go to the other."""

    def limit(size: int) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

    sick = next(iter(client.nthreads()))
    client.run(limit, 300, workers=[sick])
    try:
        report = execute(job_of(plan, generator, tmp_path / "out.zarr"), client)
    finally:
        client.run(limit, resource.RLIM_INFINITY, workers=[sick])
    assert report.failed == {}
    assert report.done == plan.unit_count
    assert_same(undisturbed, tmp_path / "out.zarr")


def test_a_worker_that_stands_still_is_done_without(undisturbed, plan, generator, tmp_path):
    """Stopped, not killed: its connections stay, its heart does not beat."""
    settings = {
        "distributed.scheduler.worker-ttl": "15s",
        "distributed.worker.preload": ["cloudgan.distributed.worker"],
    }
    with dask.config.set(settings), workers(2) as client:
        victim = next(iter(client.run(os.getpid).values()))
        report = execute(
            job_of(plan, generator, tmp_path / "out.zarr"),
            client,
            lambda report: os.kill(victim, signal.SIGSTOP) if report.done == 1 else None,
        )
    assert report.failed == {}
    assert_same(undisturbed, tmp_path / "out.zarr")


def test_a_unit_that_takes_too_much_memory_is_named(demo, generator, tmp_path):
    fine, _ = plan_run(read_aoi(demo.aoi), SPAN, generator, stac=str(demo.catalog), resolution=1.5)
    settings = {f"distributed.worker.memory.{name}": False for name in ("target", "spill", "pause")}
    settings["distributed.scheduler.allowed-failures"] = 1
    first = replace(fine, block=2048)
    with dask.config.set(settings), workers(1, memory="420MB") as client:
        report = execute(job_of(first, generator, tmp_path / "out.zarr"), client, only=[0])
    assert list(report.failed) == [0]
    assert "2 workers died while they worked on it" in report.failed[0].reason
    assert "give workers more memory" in report.failed[0].reason
    assert report.as_json()["failed"][0]["crs"] == "EPSG:32633"


@contextmanager
def cluster_apart(folder: Path):
    """A scheduler of its own with a worker, as processes; the scheduler, and a client of it."""
    file = folder / "scheduler.json"
    common = ["--scheduler-file", str(file), "--no-dashboard"]
    calls = [["dask_scheduler", "--host", "127.0.0.1", "--port", "0"], ["dask_worker", "--nthreads", "1"]]
    processes = [
        subprocess.Popen([sys.executable, "-m", f"distributed.cli.{name}", *words, *common])
        for name, *words in calls
    ]
    try:
        with (
            dask.config.set({"distributed.comm.timeouts.connect": "60s"}),
            distributed.Client(scheduler_file=str(file)) as client,
        ):
            client.wait_for_workers(1)
            with dask.config.set({"distributed.comm.timeouts.connect": "2s"}):
                yield processes[0], client
    finally:
        for process in processes:
            process.kill()
            process.wait()


def test_a_scheduler_that_dies_ends_the_run_with_one_sentence(undisturbed, plan, generator, client, tmp_path):
    out = tmp_path / "out.zarr"
    said = r"scheduler.*; what is done is kept, run the same command"
    with cluster_apart(tmp_path) as (scheduler, far), pytest.raises(ClusterError, match=said):
        execute(job_of(plan, generator, out), Cluster(far, patience=5.0), lambda _: scheduler.kill())
    assert not list(tmp_path.glob("*.lease"))
    report = execute(job_of(plan, generator, out), client)
    assert report.skipped > 0
    assert report.skipped + report.done == plan.unit_count
    assert_same(undisturbed, out)


# Sources


def behind(url: str, plan, root: Path, **changes):
    """The plan with its files on a server."""

    def moved(item):
        assets = [replace(asset, href=f"{url}/{Path(asset.href).relative_to(root)}") for asset in item.assets]
        return replace(item, assets=tuple(assets), **changes)

    return replace(plan, scenes=tuple(replace(s, items=tuple(map(moved, s.items))) for s in plan.scenes))


def test_a_signature_that_is_refused_is_made_anew(undisturbed, demo, plan, generator, client, tmp_path):
    """The first signatures are refused before their time; the server is token service and storage in one."""
    given = iter(range(1, 1000))
    lock = threading.Lock()

    def answers(request):
        if "/token/" not in request.path:
            return images(request)
        with lock:
            token = {"msft:expiry": "2999-01-01T00:00:00Z", "token": f"sig={next(given)}"}
        return Answer(200, "application/json", json.dumps(token).encode())

    def misbehaves(request):
        signature = re.search(r"sig=(\d+)", request.path)
        return Fault.EXPIRED if signature and int(signature[1]) <= 2 else None

    root = tmp_path / "served"
    shutil.copytree(demo.catalog.parent, root / "container")
    images = files(root)
    with serving(answers, misbehaves) as server:
        environment = {"PC_SDK_SAS_URL": f"{server.url}/token", "GDAL_HTTP_PROXY": server.url}
        client.run(lambda: os.environ.update(environment))
        signed = behind(
            "http://account.blob.core.windows.net/container",
            plan,
            demo.catalog.parent,
            signing=Signing.PLANETARY_COMPUTER,
        )
        report = execute(job_of(signed, generator, tmp_path / "out.zarr"), client)
        client.run(lambda: [os.environ.pop(name) for name in environment])
    assert server.done[Fault.EXPIRED] > 0
    assert report.failed == {}
    assert_same(undisturbed, tmp_path / "out.zarr")


def command(demo, network64, out, *more: str) -> list[str]:
    """The command as a user gives it."""
    arguments = {
        "--aoi": demo.aoi,
        "--dates": str(SPAN),
        "--stac": demo.catalog,
        "--model": network64,
        "--out": out,
    }
    words = [str(word) for pair in arguments.items() for word in pair]
    return [sys.executable, "-m", "cloudgan.cli.app", "batch", *words, "--json", *more]


def call(words: list[str]) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(words, capture_output=True, text=True, timeout=280, check=False)
    assert "Traceback" not in done.stderr
    return done


def test_a_truncated_file_becomes_a_failed_unit_that_is_retried(demo, network64, client, tmp_path):
    """Named in the report with place, item, file and reason; mended, `--retry-failed` does just that."""
    shutil.copytree(demo.catalog.parent, tmp_path / "demo")
    mine = replace(demo, catalog=tmp_path / "demo" / "catalog.json")
    broken = sorted((tmp_path / "demo").rglob("*/B04.tif"))[0]
    whole = broken.read_bytes()
    broken.write_bytes(whole[: len(whole) // 2])
    words = command(mine, network64, tmp_path / "out.zarr", "--scheduler", client.scheduler.address)
    failing = call(words)
    assert failing.returncode == 1, failing.stderr
    (failed,) = json.loads(failing.stdout)["report"]["failed"]
    assert (failed["unit"], failed["tries"]) == (0, 3)
    assert failed["items"] == [broken.parent.name]
    assert failed["asset"] == str(broken)
    assert f"item {broken.parent.name} could not be read: asset red, " in failed["reason"]
    assert "2020-05-01" <= failed["dates"][0] < failed["dates"][1] <= "2020-05-20"
    west, south, east, north = failed["bounds"]
    assert (west < east, south < north) == (True, True)
    assert failed["reason"] in failing.stderr

    broken.write_bytes(whole)
    healed = call([*words, "--retry-failed"])
    assert healed.returncode == 0, healed.stderr
    assert json.loads(healed.stdout)["report"]["done"] == 1

    again = call(words)
    assert again.returncode == 0
    assert json.loads(again.stdout)["report"]["skipped"] == 1
    assert "dashboard" not in again.stderr  # there is nothing to do, and nobody was started to do it


# The output

FULL_DISK = """
import os, sys
sys.path[:0] = {path!r}
import distributed
from cloudgan.distributed.execute import execute
from cloudgan.distributed.worker import Job
from cloudgan.io.store.store import prepare_store
import pickle, pathlib
plan, generator = pickle.loads(pathlib.Path({pickled!r}).read_bytes())
if __name__ == "__main__":
    with distributed.LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None) as cluster, \
            distributed.Client(cluster) as client:
        first = execute(Job(plan, generator, prepare_store({out!r}, plan.store_spec())), client)
        reasons = {{failed.reason for failed in first.failed.values()}}
        os.system("mount -o remount,size=200m " + {disk!r})
        second = execute(Job(plan, generator, prepare_store({out!r}, plan.store_spec())), client)
    print(len(first.failed), len(second.failed), second.skipped, reasons)
"""


@pytest.mark.skipif(
    subprocess.run(["unshare", "-Urm", "true"], capture_output=True, check=False).returncode != 0,
    reason="a small disk of one's own takes a user namespace, which this machine does not allow",
)
def test_a_full_disk_fails_units_by_name_and_room_heals_them(undisturbed, plan, generator, tmp_path):
    """A disk of half the size that the store needs, then a larger one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    pickled, script = tmp_path / "job.pickle", tmp_path / "script.py"
    pickled.write_bytes(pickle.dumps((plan, generator)))
    script.write_text(
        FULL_DISK.format(path=[], pickled=str(pickled), out=str(disk / "out.zarr"), disk=str(disk))
    )
    half = sum(file.stat().st_size for file in undisturbed.rglob("*") if file.is_file()) // 2
    steps = [
        f"mount -t tmpfs -o size={half} none {disk}",
        f"{sys.executable} {script}",
        f"cp -r {disk}/out.zarr {tmp_path}/out.zarr",
    ]
    done = subprocess.run(
        ["unshare", "-Urm", "sh", "-ec", "\n".join(steps)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    failed, failed_again, skipped, reasons = done.stdout.split(" ", 3)
    assert 0 < int(failed) <= plan.unit_count
    assert (int(failed_again), int(skipped)) == (0, plan.unit_count - int(failed))
    assert "out.zarr refused a write (No space left on device); make room" in reasons
    assert_same(undisturbed, tmp_path / "out.zarr")


def test_a_second_run_on_one_store_is_refused(demo, network64, tmp_path):
    with hold_lease(str(tmp_path / "out.zarr")):
        done = call(command(demo, network64, tmp_path / "out.zarr"))
    assert done.returncode == 2
    assert f"another run is writing {tmp_path / 'out.zarr'} (process {os.getpid()} on " in done.stderr
    assert not (tmp_path / "out.zarr").exists()

"""What happens to a night's run while nobody looks: each ends by itself, and says what it was."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import time
import urllib.request
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import dask
import distributed
import pytest
from blows import be_ended
from clusters import workers
from misbehaving import Fault, behaved, every, files, serving

import cloudgan
from cloudgan.distributed.cluster import start_workers
from cloudgan.distributed.execute import execute
from cloudgan.distributed.stopping import IN_A_ROW
from cloudgan.distributed.worker import Job
from cloudgan.distributed.workers import Cluster, share_job
from cloudgan.errors import InputError
from cloudgan.geo.aoi import read_aoi
from cloudgan.io.store.store import prepare_store
from cloudgan.planning.planner import plan_run
from cloudgan.sentinel2.dates import DateRange

SPAN = DateRange.parse("2020-05-01/2020-05-20")


@pytest.fixture(scope="module")
def plan(demo, generator):
    """The demonstration's own area, in many small units."""
    plan, _ = plan_run(read_aoi(demo.aoi), SPAN, generator, stac=str(demo.catalog))
    return replace(plan, block=128)


@pytest.fixture
def threads():
    """A client of two workers that are threads of this process, one with a GPU."""
    here = {"host": "127.0.0.1", "dashboard_address": "127.0.0.1:0"}
    both = {
        name: {"cls": distributed.Worker, "options": here | {"nthreads": 1, "name": name, "resources": has}}
        for name, has in (("with", {"GPU": 1}), ("without", {}))
    }
    scheduler = {"cls": distributed.Scheduler, "options": here | {"port": 0}}
    with (
        distributed.SpecCluster(both, scheduler=scheduler) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


@pytest.fixture
def hasty(monkeypatch):
    monkeypatch.setattr("cloudgan.distributed.scheduling.PAUSE", 0.01)


def job_of(plan, generator, out: Path) -> Job:
    return Job(plan, generator, prepare_store(str(out), plan.store_spec()))


def served_from(url: str, plan, root: Path):
    """The plan with its files on a server."""

    def move(item):
        assets = [replace(asset, href=f"{url}/{Path(asset.href).relative_to(root)}") for asset in item.assets]
        return replace(item, assets=tuple(assets))

    return replace(plan, scenes=tuple(replace(s, items=tuple(map(move, s.items))) for s in plan.scenes))


# Workers that end


def test_a_worker_that_is_terminated_costs_no_try_and_one_that_crashes_says_so(
    plan, generator, tmp_path, caplog
):
    """More ends than a unit is allowed: those by SIGTERM do not count."""
    job = job_of(plan, generator, tmp_path / "out.zarr")
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 0}),
        workers(1) as client,
        caplog.at_level(logging.WARNING, "cloudgan"),
        share_job(job, client) as shared,
    ):
        assert dict(shared.run(be_ended, [0])) == {0: "done"}
        ((_, crashed),) = shared.run(be_ended, [1])
    assert "1 worker died while they worked on it: 1 was killed by signal 11 (SIGSEGV)" in crashed.reason
    assert crashed.tries == 1
    said = "was terminated by signal 15 (SIGTERM) while it worked on unit 0"
    assert len([text for text in caplog.messages if said in text]) == 2


@pytest.mark.parametrize(
    ("nanny", "part", "said"),
    [
        ("--no-nanny", 2, "was terminated by signal 15 (SIGTERM)"),
        ("--nanny", 3, "was told to close, as by SIGTERM"),
    ],
)
def test_a_dask_worker_tells_of_its_sigterm(nanny, part, said, plan, generator, tmp_path, caplog):
    file = tmp_path / "scheduler.json"
    words = ["--nthreads", "1", nanny, "--no-dashboard", "--scheduler-file", str(file)]
    path = {"PYTHONPATH": os.pathsep.join(sys.path)}
    call = [sys.executable, "-m", "distributed.cli.dask_worker", *words]
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 0}),
        distributed.LocalCluster(n_workers=0, dashboard_address="127.0.0.1:0") as cluster,
        distributed.Client(cluster) as client,
        caplog.at_level(logging.WARNING, "cloudgan"),
        ExitStack() as stack,
    ):
        client.write_scheduler_file(file)
        for _ in range(2):
            process = subprocess.Popen(call, env=os.environ | path, stderr=subprocess.DEVNULL)
            stack.callback(process.wait)
            stack.callback(process.kill)
        client.wait_for_workers(2, timeout=100)
        with share_job(job_of(plan, generator, tmp_path / "out.zarr"), client) as shared:
            assert dict(shared.run(be_ended, [part])) == {part: "done"}
    assert any(said in text and f"on unit {part}" in text for text in caplog.messages)


def test_a_worker_of_our_own_comes_back_however_soon_dask_gives_it_up():
    with (
        dask.config.set({"distributed.deploy.lost-worker-timeout": "1 ms"}),
        start_workers(1, None) as client,
    ):
        ((before, pid),) = client.run(os.getpid).items()
        os.kill(pid, signal.SIGKILL)
        deadline = time.monotonic() + 60
        while client.nthreads().keys() <= {before} and time.monotonic() < deadline:
            time.sleep(0.1)
        ((after, _),) = client.run(os.getpid).items()
    assert after != before


# Workers that cannot do the work


def test_workers_that_may_not_read_are_found_before_any_unit(plan, demo, generator, threads, hasty, tmp_path):
    root = demo.catalog.parent
    with serving(files(root), every(Fault.EXPIRED)) as server:
        job = job_of(served_from(server.url, plan, root), generator, tmp_path / "out.zarr")
        report = execute(job, threads)
    assert report.stopped.startswith("nothing was begun, as the workers cannot do the work: item ")
    assert "403" in report.stopped
    assert (report.done, report.failed, report.pending, report.ok) == (0, {}, plan.unit_count, False)
    assert report.as_json()["stopped"] == report.stopped


def test_workers_that_may_not_write_are_found_before_any_unit(plan, generator, threads, hasty, tmp_path):
    job = job_of(plan, generator, tmp_path / "out.zarr")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cloudgan.io.store.fence._move", refuse_to_move)
        report = execute(job, threads)
    assert "out.zarr refused a write (Permission denied); make room or give it rights" in report.stopped
    assert (report.done, report.failed) == (0, {})


def refuse_to_move(piece, path) -> None:
    if "probe" in path.name:
        raise PermissionError(13, "Permission denied")
    piece.replace(path)


def test_one_broken_file_does_not_keep_a_run_from_beginning(plan, demo, generator, threads, tmp_path):
    """The probe tries files of several dates, and a broken one counts once, however many units need it."""
    root = demo.catalog.parent
    broken = Path(plan.scenes[0].items[0].asset(plan.bands[0]).href).relative_to(root)
    with (
        pytest.MonkeyPatch.context() as patch,
        serving(files(root), every(Fault.EXPIRED, of=f"/{broken}")) as server,
    ):
        patch.setattr("cloudgan.distributed.scheduling.TRIES", 1)
        job = job_of(served_from(server.url, plan, root), generator, tmp_path / "out.zarr")
        report = execute(job, threads)
    assert report.stopped is None
    assert len(report.failed) > IN_A_ROW
    assert report.done + len(report.failed) == plan.unit_count


def test_a_run_stops_when_all_units_fail_for_one_reason(plan, demo, generator, threads, hasty, tmp_path):
    root = demo.catalog.parent
    with serving(files(root)) as server:
        assert server.misbehaves is behaved

        def close(report) -> None:
            if report.done == 1:
                server.misbehaves = every(Fault.EXPIRED)

        job = job_of(served_from(server.url, plan, root), generator, tmp_path / "out.zarr")
        report = execute(job, threads, close)
    assert "units failed one after the other for one reason, so the run stops: item " in report.stopped
    assert IN_A_ROW <= len(report.failed) < plan.unit_count - report.done
    assert report.retried >= 2 * len(report.failed)


# Clusters


def list_begun(client) -> set[str]:
    """Workers that began something, as they told the scheduler."""
    return {
        event["worker"]
        for topic, events in client.get_events().items()
        if topic.startswith("cloudgan-")
        for _, event in events
        if "unit" in event
    }


def test_units_are_pinned_to_workers_that_have_the_resources(plan, generator, threads, tmp_path):
    report = execute(
        job_of(plan, generator, tmp_path / "out.zarr"), Cluster(threads, resources={"GPU": 1}), only=range(4)
    )
    assert report.done == 4
    workers = threads.scheduler_info(n_workers=-1)["workers"]
    assert {workers[address]["name"] for address in list_begun(threads)} == {"with"}


def test_resources_that_nobody_has_are_named(demo, network64, threads, tmp_path):
    config = cloudgan.BatchConfig(
        aoi=str(demo.aoi),
        dates=str(SPAN),
        stac=str(demo.catalog),
        model=str(network64),
        out=str(tmp_path / "out.zarr"),
        wait=1,
        resources="TPU=1",
    )
    said = r"got no workers with TPU=1 in 1 seconds; start some, or give a longer --wait"
    with pytest.raises(InputError, match=said):
        cloudgan.run_batch(config, client=threads)


@contextmanager
def cluster_of(file: Path):
    """A scheduler that writes a file, and a worker, as processes; what kills them and starts others."""
    running: list[subprocess.Popen[bytes]] = []

    def start() -> None:
        common = ["--scheduler-file", str(file), "--no-dashboard"]
        for name, *words in (
            ("dask_scheduler", "--host", "127.0.0.1", "--port", "0"),
            ("dask_worker", "--nthreads", "1", "--no-nanny"),
        ):
            words = [sys.executable, "-m", f"distributed.cli.{name}", *words, *common]
            running.append(subprocess.Popen(words, stderr=subprocess.DEVNULL))

    def restart() -> None:
        stop()
        file.unlink()
        start()

    def stop() -> None:
        while running:
            process = running.pop()
            process.kill()
            process.wait()

    try:
        start()
        yield restart
    finally:
        stop()


def test_a_scheduler_that_comes_back_elsewhere_is_rejoined(plan, demo, network64, tmp_path, caplog):
    """By its file, which states another address then; the run begins before there is one."""
    config = cloudgan.BatchConfig(
        aoi=str(demo.aoi),
        dates=str(SPAN),
        stac=str(demo.catalog),
        model=str(network64),
        out=str(tmp_path / "out.zarr"),
        scheduler=str(tmp_path / "scheduler.json"),
    )
    planned = cloudgan.plan_batch(config)
    planned = replace(planned, zones={"": replace(plan, block=256)})
    restarts = []
    with cluster_of(tmp_path / "scheduler.json") as restart:

        def strike(progress) -> None:
            if progress.report.done == 1 and not restarts:
                restarts.append(1)
                restart()

        with (
            dask.config.set({"distributed.comm.timeouts.connect": "3s"}),
            caplog.at_level(logging.WARNING, "cloudgan"),
        ):
            report = cloudgan.run_batch(planned, on_progress=strike)
    assert restarts
    assert report.ok
    assert any("the Dask scheduler is back" in text for text in caplog.messages)
    assert dask.config.get("scheduler", None) is None  # xarray would ask a cluster that is gone


# Seen from outside


def read_counters(client) -> dict[str, float]:
    """What a worker's page for Prometheus says of cloudgan."""
    worker = next(iter(client.scheduler_info(n_workers=-1)["workers"].values()))
    url = f"http://{worker['host']}:{worker['services']['dashboard']}/metrics"
    with urllib.request.urlopen(url, timeout=10) as reply:
        lines = reply.read().decode().splitlines()
    values = (line.rsplit(" ", 1) for line in lines if line.startswith("cloudgan_"))
    return {name: float(value) for name, value in values}


def test_counters_are_on_dasks_own_page(plan, generator, threads, tmp_path):
    before = read_counters(threads)
    report = execute(job_of(plan, generator, tmp_path / "out.zarr"), threads, only=range(3))
    after = read_counters(threads)
    grown = {name: value - before.get(name, 0.0) for name, value in after.items()}
    assert grown['cloudgan_units_total{outcome="done"}'] == report.done == 3
    assert grown['cloudgan_units_total{outcome="failed"}'] == 0
    assert grown['cloudgan_pixels_total{provenance="generated"}'] == report.generated
    assert grown['cloudgan_phase_seconds_total{phase="read"}'] == pytest.approx(report.worker_seconds["read"])
    read, written = (grown[f'cloudgan_bytes_total{{direction="{name}"}}'] for name in ("read", "written"))
    assert read > written > 0


def test_the_report_lies_beside_the_store_as_json_and_with_dasks_own(demo, network64, threads, tmp_path):
    config = cloudgan.BatchConfig(
        aoi=str(demo.aoi),
        dates=str(SPAN),
        stac=str(demo.catalog),
        model=str(network64),
        out=str(tmp_path / "out.zarr"),
        report=True,
    )
    report = cloudgan.run_batch(config, client=threads)
    assert [Path(path).name for path in report.files] == ["out.html", "out.json", "out-performance.html"]
    assert json.loads((tmp_path / "out.json").read_text())["report"]["done"] == report.zones[""].done
    assert "Duration" in (tmp_path / "out-performance.html").read_text()

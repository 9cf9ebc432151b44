"""Workers that come while a run goes on, or only because of it, and those that may not work on it."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import distributed
import pytest
from clusters import workers
from stores import read_store

import cloudgan
from cloudgan.distributed.execute import execute
from cloudgan.distributed.requirements import Requirements, list_versions
from cloudgan.distributed.worker import Job
from cloudgan.errors import ClusterError, InputError
from cloudgan.geo.aoi import read_aoi
from cloudgan.io.gdal import DRIVERS, list_foreign_drivers
from cloudgan.io.store.store import prepare_store
from cloudgan.planning.planner import plan_run
from cloudgan.sentinel2.dates import DateRange

SPAN = "2020-05-01/2020-05-20"
LATE = """
import sys
from pathlib import Path

from distributed.cli.dask_worker import main

address, difference, log, folder, memory = sys.argv[1:]
common = ["--no-nanny", "--no-dashboard", "--nthreads", "1", "--local-directory", folder]
if difference == "no cloudgan":
    sys.modules["cloudgan"] = None
    main([address, *common, "--memory-limit", memory])

import cloudgan
import cloudgan.distributed.requirements as requirements
import cloudgan.distributed.worker as worker

process = worker.process_unit


def process_unit(job, index):
    with Path(log).open("a") as file:
        file.write(f"{index}\\n")
    return process(job, index)


process_unit.__module__ = "cloudgan.distributed.worker"
worker.process_unit = process_unit
if difference == "another cloudgan":
    cloudgan.__version__ = "0.0"
elif difference:
    own = requirements.list_versions() | {difference: "0.0"}
    requirements.list_versions = lambda: own
main([address, *common, "--memory-limit", memory])
"""


@pytest.fixture(scope="module")
def plan(demo, generator):
    """The demonstration's own area, in six units."""
    plan, _ = plan_run(read_aoi(demo.aoi), DateRange.parse(SPAN), generator, stac=str(demo.catalog))
    return replace(plan, block=256)


@pytest.fixture(scope="module")
def undisturbed(plan, generator, client, tmp_path_factory) -> dict[str, bytes]:
    out = tmp_path_factory.mktemp("undisturbed") / "out.zarr"
    assert execute(Job(plan, generator, prepare_store(str(out), plan.store_spec())), client).failed == {}
    return read_store(out)


@contextmanager
def late_worker(client, difference: str, folder: Path, memory: str = "3GB") -> Iterator[Path]:
    """A worker that joins now; the file in which it notes the units that it does."""
    log, before = folder / "units", len(client.nthreads())
    words = [sys.executable, "-c", LATE, client.scheduler.address, difference, str(log), str(folder), memory]
    # One without enough memory is to be asked, and not to pause at once.
    environment = os.environ | {"DASK_DISTRIBUTED__WORKER__MEMORY__PAUSE": "False"}
    with (
        (folder / "log").open("w") as said,
        subprocess.Popen(words, stdout=said, stderr=said, env=environment) as process,
    ):
        try:
            client.wait_for_workers(before + 1, timeout=100)
            yield log
        finally:
            process.terminate()


DIFFERENCES = ["another cloudgan", "GDAL", "no cloudgan", "memory", ""]


@pytest.mark.parametrize("difference", DIFFERENCES)
def test_a_worker_that_joins_late_works_only_if_it_is_like_the_others(
    difference, undisturbed, plan, generator, tmp_path, caplog
):
    """One that differs gets no unit, and no unit loses a try by it."""
    store = prepare_store(str(tmp_path / "out.zarr"), plan.store_spec())
    # Only one of the cases is about memory.
    requirements = Requirements(memory=plan.memory if difference == "memory" else 0)
    job = Job(plan, generator, store, requirements=requirements)
    with workers(1, memory="0GB") as client, late_workers(client, difference, tmp_path) as join:
        with caplog.at_level(logging.WARNING, "cloudgan"):
            report = execute(job, client, lambda report: join() if report.done == 1 else None)
        log = tmp_path / "units"
    assert report.failed == {}
    assert report.done == plan.unit_count == 6
    assert log.exists() == (difference == "")
    assert read_store(tmp_path / "out.zarr") == undisturbed
    said = [record.getMessage() for record in caplog.records if "gets no units" in record.getMessage()]
    if difference == "":
        assert said == []
        return
    wanted = {
        "another cloudgan": f"has cloudgan 0.0 where the run began with {cloudgan.__version__}; give it",
        "no cloudgan": f"has no cloudgan where the run began with {cloudgan.__version__}; give it the same",
        "memory": f"has 0.1 GB for 1 threads, and a work unit needs {plan.memory / 1e9:.1f} GB",
    }.get(difference, f"has {difference} 0.0 where the run began with {list_versions().get(difference)}")
    assert len(said) == 1
    assert wanted in said[0]
    # It says so itself, and shows nothing of the plan.
    log = (tmp_path / "log").read_text()
    assert wanted in log
    assert "Traceback" not in log
    assert plan.scenes[0].items[0].id not in log


@contextmanager
def late_workers(client, difference: str, folder: Path):
    """What starts the worker, in the middle of a run."""
    memory = "100MB" if difference == "memory" else "3GB"
    joining = late_worker(client, "" if difference == "memory" else difference, folder, memory)
    joined = []
    try:
        yield lambda: joined.append(joining.__enter__())
    finally:
        if joined:
            joining.__exit__(None, None, None)


def test_a_worker_that_refuses_in_the_middle_costs_no_unit_a_try(
    undisturbed, plan, generator, client, tmp_path
):
    """Its units come back and are done by the other, each at its first try."""

    def refuse(dask_worker) -> None:
        for plugin in dask_worker.plugins.values():
            plugin.refusal = "has become another"

    store = prepare_store(str(tmp_path / "out.zarr"), plan.store_spec())
    sick = next(iter(client.nthreads()))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cloudgan.distributed.scheduling.TRIES", 1)
        report = execute(
            Job(plan, generator, store),
            client,
            lambda report: client.run(refuse, workers=[sick]) if report.done == 1 else None,
        )
    assert report.failed == {}
    assert read_store(tmp_path / "out.zarr") == undisturbed


def test_workers_that_all_refuse_are_named(plan, generator, client, tmp_path):
    store = prepare_store(str(tmp_path / "out.zarr"), plan.store_spec())
    other = Requirements(list_versions() | {"numpy": "0.0"})
    with pytest.raises(
        ClusterError, match=r"worker tcp://\S+ has numpy \S+ where the run began with 0\.0; give"
    ):
        execute(Job(plan, generator, store, requirements=other), client)


def test_workers_of_two_kinds_are_refused_at_the_start():
    one = list_versions()
    with pytest.raises(
        InputError, match=r"worker b has GDAL 0\.0, and worker a has .*; give all workers the same"
    ):
        Requirements.of_workers({"a": one, "b": one | {"GDAL": "0.0"}}, 0)
    with pytest.raises(InputError, match=r"worker a has cloudgan 0\.0; give them cloudgan"):
        Requirements.of_workers({"a": one | {"cloudgan": "0.0"}}, 0)
    assert Requirements.of_workers({"a": one, "b": one}, 5) == Requirements(one, 5)


def test_each_worker_leaves_out_the_formats_of_its_own_gdal(plan, generator, client, tmp_path):
    seen = []
    store = prepare_store(str(tmp_path / "out.zarr"), plan.store_spec())

    def look(report) -> None:
        seen.extend(client.run(lambda: os.environ["GDAL_SKIP"]).values())

    execute(Job(plan, generator, store), client, look, only=[0])
    assert set(seen) == {list_foreign_drivers()}
    names = set(seen[0].split(","))
    assert "VRT" in names
    assert not names & {*DRIVERS, "MEM"}
    assert set(client.run(os.environ.get, "GDAL_SKIP").values()) == {None}


# Clients of all kinds


def config_of(demo, network64, out: Path) -> cloudgan.BatchConfig:
    return cloudgan.BatchConfig(
        aoi=str(demo.aoi), dates=SPAN, stac=str(demo.catalog), model=str(network64), out=str(out)
    )


def test_a_cluster_that_scales_by_itself_may_begin_without_a_worker(demo, network64, tmp_path):
    with (
        distributed.LocalCluster(
            n_workers=0, threads_per_worker=1, memory_limit="3GB", dashboard_address="127.0.0.1:0"
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        cluster.adapt(minimum=0, maximum=2, interval="200ms", wait_count=2)
        time.sleep(1)
        assert client.nthreads() == {}
        report = cloudgan.run_batch(config_of(demo, network64, tmp_path / "out.zarr"), client=client)
        deadline = time.monotonic() + 30
        while client.nthreads() and time.monotonic() < deadline:
            time.sleep(0.2)
        assert client.nthreads() == {}  # nothing of the run holds it
    assert report.ok


def test_workers_may_be_threads_of_this_process(demo, network64, tmp_path):
    environment = dict(os.environ)
    with distributed.Client(
        processes=False,
        n_workers=1,
        host="tcp://127.0.0.1",
        threads_per_worker=2,
        dashboard_address="127.0.0.1:0",
    ) as client:
        report = cloudgan.run_batch(config_of(demo, network64, tmp_path / "out.zarr"), client=client)
    assert report.ok
    assert dict(os.environ) == environment


def test_an_asynchronous_client_is_refused(demo, network64, tmp_path):
    with pytest.raises(InputError, match="the Dask client is asynchronous; give one made with"):
        cloudgan.run_batch(
            config_of(demo, network64, tmp_path / "out.zarr"), client=SimpleNamespace(asynchronous=True)
        )

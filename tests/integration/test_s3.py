"""A real S3 server on loopback: what is written there is what a disk holds, whatever happens meanwhile."""

from __future__ import annotations

import json
import os
import pickle
import re
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import obstore
import pytest
import xarray as xr
import zarr
from buckets import USERS
from clusters import workers
from stores import read_store

from cloudgan.distributed.execute import execute
from cloudgan.distributed.worker import Job
from cloudgan.errors import StoreError
from cloudgan.geo.aoi import read_aoi
from cloudgan.io.lease import Pace, hold_lease
from cloudgan.io.store.store import prepare_store
from cloudgan.object_stores import open_object_store
from cloudgan.planning.planner import plan_run
from cloudgan.sentinel2.dates import DateRange

SPAN = DateRange.parse("2020-05-01/2020-05-20")


@pytest.fixture(scope="module")
def plan(demo, generator):
    plan, _ = plan_run(read_aoi(demo.aoi), SPAN, generator, stac=str(demo.catalog))
    return replace(plan, block=256)


@pytest.fixture(scope="module")
def client(s3):
    """Two workers, started where the credentials are."""
    with workers(2) as client:
        yield client


@pytest.fixture(scope="module")
def local(plan, generator, client, tmp_path_factory) -> Path:
    """The same job on a disk."""
    out = tmp_path_factory.mktemp("local") / "out.zarr"
    assert execute(Job(plan, generator, prepare_store(str(out), plan.store_spec())), client).failed == {}
    return out


def test_the_bucket_holds_the_bytes_of_the_disk_though_a_worker_is_killed(
    s3, local, plan, generator, tmp_path
):
    with workers(2) as client:
        victim = next(iter(client.run(os.getpid).values()))
        report = execute(
            Job(plan, generator, prepare_store(s3.url("killed.zarr"), plan.store_spec())),
            client,
            lambda report: os.kill(victim, signal.SIGKILL) if report.done == 1 else None,
        )
    assert report.failed == {}
    assert report.done == plan.unit_count
    assert read_store(s3.url("killed.zarr")) == read_store(local)
    store = xr.open_zarr(zarr.storage.ObjectStore(open_object_store(s3.url("killed.zarr")), read_only=True))
    xr.testing.assert_identical(store.load().drop_attrs(), xr.open_zarr(local).load().drop_attrs())
    left = [entry["path"] for batch in obstore.list(open_object_store("s3://bucket")) for entry in batch]
    assert not [name for name in left if ".lease" in name]


def test_the_how_to_reads_a_bucket_with_dask_as_a_disk_without(s3, local, plan, generator, client, capsys):
    """Its second example has a scheduler, whose workers read each chunk themselves."""
    out = s3.url("how-to.zarr")
    assert execute(Job(plan, generator, prepare_store(out, plan.store_spec())), client).failed == {}
    page = (Path(__file__).parents[2] / "docs" / "how-to" / "buckets.md").read_text()
    examples = re.findall(r"^```py\n(.*?)^```", page, re.S | re.M)
    assert len(examples) == 2
    for place in (out, str(local)):
        for code in examples:
            code = code.replace("s3://my-bucket/out.zarr", place)
            code = code.replace("tcp://scheduler:8786", client.scheduler_info()["address"])
            exec(compile(code, "buckets.md", "exec"), {"__name__": "__main__"})
    bucket, disk = np.array_split(capsys.readouterr().out.splitlines(), 2)
    assert bucket.tolist() == disk.tolist()


def command(demo, network64, out: str) -> list[str]:
    arguments = {
        "--aoi": demo.aoi,
        "--dates": str(SPAN),
        "--stac": demo.catalog,
        "--model": network64,
        "--out": out,
    }
    words = [str(word) for pair in arguments.items() for word in pair]
    return [sys.executable, "-m", "cloudgan.cli.app", "batch", *words, "--json"]


def test_a_client_that_is_killed_leaves_what_a_rerun_completes_at_once(
    s3, local, plan, generator, client, tmp_path
):
    """Its lease is there still; here it is known that its process is not, and nobody waits."""
    code = (
        "import os, pickle, signal, sys, pathlib, distributed\n"
        "from cloudgan.distributed.execute import execute\n"
        "from cloudgan.distributed.worker import Job\n"
        "from cloudgan.io.store.store import prepare_store\n"
        "plan, generator = pickle.loads(pathlib.Path(sys.argv[1]).read_bytes())\n"
        "kill = lambda report: os.kill(os.getpid(), signal.SIGKILL)\n"
        "with distributed.Client(sys.argv[2]) as client:\n"
        "    execute(Job(plan, generator, prepare_store(sys.argv[3], plan.store_spec())), client, kill)\n"
    )
    (tmp_path / "job.pickle").write_bytes(pickle.dumps((plan, generator)))
    out = s3.url("client.zarr")
    words = [sys.executable, "-c", code, tmp_path / "job.pickle", client.scheduler.address, out]
    assert subprocess.run(words, check=False).returncode == -signal.SIGKILL
    assert open_object_store("s3://bucket").head("client.zarr.lease")
    report = execute(Job(plan, generator, prepare_store(out, plan.store_spec())), client)
    assert 0 < report.skipped < plan.unit_count
    assert read_store(s3.url("client.zarr")) == read_store(local)


def test_a_bucket_that_refuses_is_named_and_a_rerun_with_rights_heals(s3, local, plan, generator, client):
    """Whoever prepared the store may write; the workers may only read, at first."""
    out = s3.url("refused.zarr")
    job = Job(plan, generator, prepare_store(out, plan.store_spec()))

    def log_in(name: str) -> None:
        os.environ.update(AWS_ACCESS_KEY_ID=name, AWS_SECRET_ACCESS_KEY=USERS[name][0])

    client.run(log_in, "reader")
    try:
        report = execute(job, client, only=[0, 1])
    finally:
        client.run(log_in, "writer")
    assert sorted(report.failed) == [0, 1]
    reason = report.failed[0].reason
    assert reason.startswith(f"{out} refused a write (")
    assert "AccessDenied" in reason
    assert not [secret for secret, _ in USERS.values() if f"{secret}:" in reason]
    assert not job.store.read_ledger().any()
    assert job.store.find_failed_units() == [0, 1]
    assert execute(job, client, only=job.store.find_failed_units()).done == 2
    assert execute(job, client).failed == {}
    assert read_store(s3.url("refused.zarr")) == read_store(local)


def test_a_bucket_that_one_may_not_write_is_named_before_any_worker_starts(s3, demo, network64):
    reader = {"AWS_ACCESS_KEY_ID": "reader", "AWS_SECRET_ACCESS_KEY": USERS["reader"][0]}
    done = subprocess.run(
        command(demo, network64, "s3://bucket/forbidden.zarr"),
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | reader,
    )
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "s3://bucket/forbidden.zarr cannot be used (" in done.stderr
    assert "AccessDenied" in done.stderr
    assert "dashboard" not in done.stderr


def test_a_catalogue_in_a_bucket_is_read_and_so_are_its_files(s3, local, demo, generator, client):
    """The demonstration, uploaded; GDAL and obstore get along with the same environment."""
    bucket = open_object_store("s3://bucket/demo")
    for file in demo.catalog.parent.rglob("*"):
        if file.is_file():
            bucket.put(str(file.relative_to(demo.catalog.parent)), file.read_bytes())
    found, _ = plan_run(read_aoi(demo.aoi), SPAN, generator, stac="s3://bucket/demo/catalog.json")
    assert found.scenes[0].items[0].asset("red").href.startswith("s3://bucket/demo/")
    found = replace(found, block=256)
    report = execute(Job(found, generator, prepare_store(s3.url("remote.zarr"), found.store_spec())), client)
    assert report.failed == {}
    assert read_store(s3.url("remote.zarr")) == read_store(local)


# One run a store

CONTEND = (
    "import sys; from cloudgan.io.lease import hold_lease; from cloudgan.errors import StoreError\n"
    "try:\n"
    "    with hold_lease(sys.argv[1]): print('held', flush=True); sys.stdin.read()\n"
    "except StoreError as error: print('refused', error, flush=True)\n"
)


@contextmanager
def contenders(out: str, count: int):
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen([sys.executable, "-c", CONTEND, out], **pipes) for _ in range(count)]
    try:
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def test_one_of_many_gets_the_lease(s3):
    with contenders(s3.url("many.zarr"), 4) as processes:
        answers = sorted(process.stdout.readline() for process in processes)
    assert answers[0] == "held\n"
    assert all(line.startswith("refused another run is writing") for line in answers[1:])


def test_a_dead_run_of_this_machine_is_followed_at_once(s3):
    out = s3.url("dead.zarr")
    with contenders(out, 1) as (process,):
        assert process.stdout.readline() == "held\n"
        with (
            pytest.raises(StoreError, match=rf"process {process.pid} on .*after 60 s of silence"),
            hold_lease(out),
        ):
            pass
        process.kill()
        process.wait()
        with hold_lease(out):
            pass


def show_elsewhere(name: str) -> None:
    """Make a lease look like that of a run of another machine, without its run knowing."""
    bucket = open_object_store("s3://bucket")
    text = json.loads(bytes(bucket.get(name).bytes()))
    bucket.put(name, json.dumps(text | {"kernel": f"of machine {time.time()}"}).encode())


def test_a_silent_run_of_another_machine_is_followed_after_a_while(s3):
    """It was killed: who comes after it in a cluster waits, and goes on."""
    out = s3.url("silent.zarr")
    with hold_lease(out, Pace(beat=1000)) as silent:
        show_elsewhere("silent.zarr.lease")
        started = time.monotonic()
        with hold_lease(out, Pace(beat=1, stale=5)) as follower:
            assert not follower.lost
        assert time.monotonic() - started > 3  # the server counts whole seconds
        assert not silent.lost  # it has not checked yet


def test_a_run_of_another_machine_that_lives_is_left_alone(s3):
    out = s3.url("alive.zarr")
    with hold_lease(out, Pace(beat=1000)):
        show_elsewhere("alive.zarr.lease")
        beat = threading.Timer(1, show_elsewhere, ["alive.zarr.lease"])
        beat.start()
        with pytest.raises(StoreError, match="another run is writing"), hold_lease(out, Pace(beat=1)):
            pass
        beat.join()


def test_a_run_of_another_machine_that_ends_is_followed_at_once(s3):
    out = s3.url("ended.zarr")
    with hold_lease(out, Pace(beat=1000)):
        show_elsewhere("ended.zarr.lease")
        end = threading.Timer(1, open_object_store("s3://bucket").delete, ["ended.zarr.lease"])
        end.start()
        with hold_lease(out, Pace(beat=1)) as follower:
            assert not follower.lost
        end.join()


def test_a_run_that_was_taken_for_dead_learns_of_it(s3):
    out = s3.url("woken.zarr")
    with hold_lease(out, Pace(beat=0.2)) as lease:
        time.sleep(1)
        assert not lease.lost
        open_object_store("s3://bucket").put("woken.zarr.lease", b"{}")
        deadline = time.monotonic() + 30
        while not lease.lost and time.monotonic() < deadline:
            time.sleep(0.05)
        assert lease.lost
    assert bytes(open_object_store("s3://bucket").get("woken.zarr.lease").bytes()) == b"{}"

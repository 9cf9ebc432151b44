"""Writers that outlive their run: real processes, stopped in the step in which they write, on disk and S3."""

from __future__ import annotations

import os
import pickle
import re
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from clusters import workers
from networks import write_network
from stores import read_store

from cloudgan.distributed.execute import execute
from cloudgan.distributed.worker import Job
from cloudgan.geo.aoi import read_aoi
from cloudgan.io.store.fence import FOLDER
from cloudgan.io.store.store import prepare_store
from cloudgan.io.store.verify import verify_store
from cloudgan.model.generator import Generator
from cloudgan.planning.plan import Plan
from cloudgan.planning.planner import plan_run
from cloudgan.sentinel2.dates import DateRange

SPAN = DateRange.parse("2020-05-05/2020-05-10")


@pytest.fixture(scope="module")
def plan(demo, generator) -> Plan:
    plan, _ = plan_run(read_aoi(demo.aoi), SPAN, generator, stac=str(demo.catalog))
    return replace(plan, block=512)


@pytest.fixture(scope="module")
def other(tmp_path_factory) -> Generator:
    """Another model, whose numbers are others."""
    file = tmp_path_factory.mktemp("other") / "other.onnx"
    return Generator.load(write_network(file, tile=64, radius=3))


@pytest.fixture(scope="module")
def client(s3):
    """Two workers, started where the credentials are."""
    with workers(2) as client:
        yield client


def write_whole(plan: Plan, generator: Generator, location: str, client) -> dict[str, object]:
    """A run from its beginning to its end, in place of whatever is there."""
    made = replace(plan, model=generator.digest, contract=generator.contract)
    store = prepare_store(location, made.store_spec(), overwrite=True)
    assert execute(Job(made, generator, store), client).ok
    return read_store(location)


@pytest.fixture(params=["disk", "s3"])
def out(request, tmp_path) -> str:
    """A place for a store."""
    if request.param == "disk":
        return str(tmp_path / "out.zarr")
    return request.getfixturevalue("s3").url(f"{tmp_path.name}.zarr")


WRITER = """
import os, pickle, signal, sys
from pathlib import Path
from cloudgan.distributed.worker import process_unit
from cloudgan.errors import ReadError, StoreError, WriteError
from cloudgan.io.store import fence

count, (move, put) = 0, (fence._move, fence._put)

def stop():
    global count
    count += 1
    if count == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGSTOP)

def stop_and_move(*arguments):
    stop()
    move(*arguments)

async def stop_and_put(*arguments):
    stop()
    await put(*arguments)

fence._move, fence._put = stop_and_move, stop_and_put
for _ in range(3):  # as often as the scheduler would begin it
    try:
        process_unit(pickle.loads(Path(sys.argv[1]).read_bytes()), 0)
        break
    except StoreError as error:
        print(error)
        break
    except ReadError:
        count = 0
    except WriteError:  # it is stopped once, and then tried again
        assert count >= int(sys.argv[2])
        print("the server would not wait")
"""


@contextmanager
def stopped_writer(job: Job, folder: Path, write: int):
    """A process that does a unit and is stopped in its n-th write."""
    (folder / "job.pickle").write_bytes(pickle.dumps(job))
    words = [sys.executable, "-c", WRITER, folder / "job.pickle", str(write)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        try:
            deadline = time.monotonic() + 240
            while "T (stopped)" not in Path(f"/proc/{process.pid}/status").read_text():
                assert time.monotonic() < deadline
                assert process.poll() is None
                time.sleep(0.05)
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("write", [1, 6, "ledger"])
def test_a_writer_that_goes_on_after_the_next_run_has_ended_changes_no_byte(
    out, write, plan, generator, other, client, tmp_path
):
    """Its shard is ready, its run was checked: only the step itself is left."""
    number = len(plan.written) * len(plan.store_spec().variables) + 1 if write == "ledger" else write
    store = prepare_store(out, plan.store_spec())
    with stopped_writer(Job(plan, generator, store), tmp_path, number) as old:
        wanted = write_whole(plan, other, out, client)
        assert wanted == write_whole(plan, other, str(tmp_path / "undisturbed.zarr"), client)
        os.kill(old.pid, signal.SIGCONT)
        printed, _ = old.communicate(timeout=60)
    assert old.returncode == 0
    assert re.search("another run has begun to write|the server would not wait", printed)
    assert read_store(out) == wanted
    (found,) = verify_store(out)
    assert (found.ok, found.verified) == (True, found.shards)


CLIENT = """
import os, pickle, signal, sys, time
from pathlib import Path
import distributed
from cloudgan.distributed import execute

def block():
    import time
    from pathlib import Path
    from cloudgan.io.store import fence
    move = fence._move
    def wait(*arguments):
        try:
            Path(FOLDER, "reached").touch(exist_ok=False)
        except FileExistsError:  # another task is the one that is stopped
            return move(*arguments)
        while not Path(FOLDER, "go").exists():
            time.sleep(0.05)
        try:
            move(*arguments)
        finally:
            Path(FOLDER, "over").touch()
    fence._move = wait

job = pickle.loads(Path(sys.argv[1]).read_bytes())
with distributed.Client(sys.argv[2]) as client:
    block.__globals__["FOLDER"] = sys.argv[3]
    client.run(block)
    execute.execute(job, client)
"""


def test_a_killed_client_leaves_a_task_that_the_next_run_on_the_scheduler_fences(
    plan, generator, other, tmp_path
):
    """On a shared scheduler: the first run's unit is at work when the second replaces the store."""
    out = str(tmp_path / "out.zarr")
    store = prepare_store(out, plan.store_spec())
    (tmp_path / "job.pickle").write_bytes(pickle.dumps(Job(plan, generator, store)))
    with workers(2, threads=2) as client:  # the task that is stopped leaves a thread to others
        words = [
            sys.executable,
            "-c",
            CLIENT,
            tmp_path / "job.pickle",
            client.scheduler.address,
            tmp_path,
        ]
        with subprocess.Popen(words) as first:
            while not (tmp_path / "reached").exists():
                assert first.poll() is None
                time.sleep(0.05)
            first.kill()
        wanted = write_whole(plan, other, out, client)
        left = {name for names in client.run(_list_ours).values() for name in names}
        assert left == set()
        (tmp_path / "go").touch()
        while not (tmp_path / "over").exists():
            time.sleep(0.05)
        assert write_whole(plan, other, str(tmp_path / "undisturbed.zarr"), client) == wanted
    assert read_store(out) == wanted
    assert verify_store(out)[0].ok


def _list_ours(dask_worker) -> list[str]:
    return [name for name in dask_worker.plugins if name.startswith("cloudgan-")]


def test_a_run_that_ends_leaves_nothing_in_the_store(plan, generator, client, tmp_path):
    out = tmp_path / "out.zarr"
    write_whole(plan, generator, str(out), client)
    assert sorted(path.name for path in (out / FOLDER).iterdir()) == [
        "c",
        "run.json",
        "zarr.json",
    ]
    assert list(tmp_path.iterdir()) == [out]

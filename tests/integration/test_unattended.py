"""What happens to a night's run while nobody looks: each ends by itself, and says what it was."""

from __future__ import annotations

import logging
from pathlib import Path

import dask
import pytest
from blows import be_ended
from clusters import workers

from cloudgan.distributed.worker import Job
from cloudgan.distributed.workers import share_job
from cloudgan.geo.aoi import read_aoi
from cloudgan.io.store.store import prepare_store
from cloudgan.planning.planner import plan_run
from cloudgan.sentinel2.dates import DateRange

SPAN = DateRange.parse("2020-05-01/2020-05-20")


@pytest.fixture(scope="module")
def plan(demo, generator):
    plan, _ = plan_run(read_aoi(demo.aoi), SPAN, generator, stac=str(demo.catalog))
    return plan


def job_of(plan, generator, out: Path) -> Job:
    return Job(plan, generator, prepare_store(str(out), plan.store_spec()))


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
    assert crashed.reason.startswith(
        "1 worker died while they worked on it: 1 was killed by signal 11 (SIGSEGV)"
    )
    assert crashed.tries == 1
    terminated = [
        text for text in caplog.messages if "was terminated by signal 15 (SIGTERM) while it" in text
    ]
    assert len(terminated) == 2

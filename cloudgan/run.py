"""From a plan to a store: Dask futures, bounded in flight, retried and resumable."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import distributed
import numpy as np
from distributed.diagnostics.plugin import WorkerPlugin

from cloudgan import __version__, clouds
from cloudgan.cube import Reader, foreign_drivers, open_cube, open_what_is_there
from cloudgan.errors import CloudganError, InputError, redacted
from cloudgan.generator import Generator
from cloudgan.plan import Plan
from cloudgan.removal import Provenance, Scenes, day_numbers, declouded
from cloudgan.store import DONE, DONE_WITHOUT_ASSETS, Store

GDAL_OPTIONS = {
    # GDAL caches a failed open for the life of the process: without the third of these no retry ever asks.
    "GDAL_HTTP_MAX_RETRY": "5",
    "GDAL_HTTP_RETRY_DELAY": "1",
    "CPL_VSIL_CURL_NON_CACHED": "/vsicurl/http",
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
    "GDAL_HTTP_MULTIPLEX": "YES",
    "GDAL_HTTP_CONNECTTIMEOUT": "20",
    "GDAL_HTTP_LOW_SPEED_TIME": "60",
    "GDAL_HTTP_LOW_SPEED_LIMIT": "1000",
}
"""Set in every worker unless its environment says otherwise; `rasterio.Env` would reach one thread alone."""

RETRIES = 2
"""How often a unit that failed is tried again before it is given up."""
WORKERS_WITHIN = 300
"""Seconds that a scheduler may take to get its first worker: on a cluster, pods start one after the other."""


@dataclass(frozen=True, slots=True)
class Job:
    """All that a worker needs to know of a run."""

    plan: Plan
    """What to do."""
    generator: Generator
    """What fills the mask."""
    store: Store
    """Where the result goes."""
    reader: Reader = "odc"
    """Which library reads."""
    allow_missing: bool = False
    """Whether an asset that cannot be read is recorded as missing instead of failing its unit."""
    threads: int = 1
    """Tiles that a worker generates at once."""


@dataclass(frozen=True, slots=True)
class UnitDone:
    """What came of one unit."""

    index: int
    """Number of the unit."""
    pixels: int
    """Pixels written, all dates."""
    generated: int
    """Of these, generated."""
    observed: int
    """Of these, observed."""
    missing: tuple[str, ...]
    """Ids of items that could not be read."""
    seconds: dict[str, float]
    """Time spent reading, generating (with the rest of the array work) and writing."""


def process_unit(job: Job, index: int) -> UnitDone:
    """Read, decloud and write one unit, then enter it in the ledger; repeating it changes nothing.

    Raises:
        ReadError: An asset could not be read, and the job does not allow for it.
    """
    plan, unit = job.plan, job.plan.unit(index)
    started = time.perf_counter()
    read = plan.read_grid(unit.target)
    sources = plan.scenes[unit.scenes.start : unit.scenes.stop]
    missing: tuple[str, ...] = ()
    if job.allow_missing:
        cube, missing = open_what_is_there(sources, read, plan.bands, reader=job.reader)
    else:
        cube = open_cube(sources, read, plan.bands, reader=job.reader)
    bands = tuple(cube[name].values for name in plan.bands)
    scenes = Scenes(read.window, bands, clouds.classify(cube["scl"].values, bands), day_numbers(cube))
    del cube
    seconds = {"read": time.perf_counter() - started, "generate": 0.0, "write": 0.0}
    outside = plan.outside(unit.target)
    counts = np.zeros(len(Provenance), np.int64)
    dates = declouded(
        scenes,
        unit.target,
        job.generator,
        reach=plan.reach,
        tiling=plan.tiling,
        dates=[plan.written[at] - unit.scenes.start for at in unit.dates],
        max_age=plan.max_age,
        threads=job.threads,
    )
    write = job.store.writer(plan, unit)
    mark = time.perf_counter()
    for at, date in zip(unit.dates, dates, strict=True):
        if outside is not None:
            date = date.clipped(outside)
        generated_at = time.perf_counter()
        write(at, date.placed(unit.target, unit.window))
        counts += np.bincount(date.provenance.ravel(), minlength=len(counts))
        seconds["generate"] += generated_at - mark
        mark = time.perf_counter()
        seconds["write"] += mark - generated_at
    job.store.mark(unit, DONE_WITHOUT_ASSETS if missing else DONE)
    return UnitDone(
        index,
        int(counts.sum()),
        int(counts[Provenance.GENERATED]),
        int(counts[Provenance.OBSERVED]),
        missing,
        seconds,
    )


@dataclass
class Report:
    """What came of a run."""

    units: int
    """Work units of the plan."""
    skipped: int
    """Units that an earlier run had done."""
    done: int = 0
    """Units done by this run."""
    pixels: int = 0
    """Pixels written by this run, all dates."""
    generated: int = 0
    """Of these, generated."""
    observed: int = 0
    """Of these, observed."""
    failed: dict[int, str] = field(default_factory=dict)
    """Why, by the number of the unit, the units that failed did so."""
    missing: set[str] = field(default_factory=set)
    """Ids of items that could not be read, where that is allowed."""
    seconds: float = 0.0
    """How long the run took."""
    worker_seconds: dict[str, float] = field(default_factory=dict)
    """Time the workers spent reading, generating and writing, added up."""
    score: dict[str, Any] | None = None
    """See `selfscore.score`, where the run was asked to judge itself."""

    def add(self, unit: UnitDone) -> None:
        """Count a unit that is done."""
        self.done += 1
        self.pixels += unit.pixels
        self.generated += unit.generated
        self.observed += unit.observed
        self.missing |= set(unit.missing)
        for name, seconds in unit.seconds.items():
            self.worker_seconds[name] = self.worker_seconds.get(name, 0.0) + seconds

    def as_json(self) -> dict[str, Any]:
        """The report as JSON."""
        return {
            "units": self.units,
            "skipped": self.skipped,
            "done": self.done,
            "failed": {str(index): reason for index, reason in sorted(self.failed.items())},
            "pixels": self.pixels,
            "generated": self.generated,
            "observed": self.observed,
            "missing_items": sorted(self.missing),
            "seconds": round(self.seconds, 3),
            "worker_seconds": {name: round(value, 3) for name, value in self.worker_seconds.items()},
        } | ({} if self.score is None else {"score": self.score})


class _JobPlugin(WorkerPlugin):
    """Brings the job to every worker once, also to one that joins or is restarted in the middle."""

    def __init__(self, name: str, job: Job) -> None:
        self.name = name
        self.job = job
        self.options = GDAL_OPTIONS | {"GDAL_SKIP": foreign_drivers()}

    def setup(self, worker: Any) -> None:
        for option, value in self.options.items():
            os.environ.setdefault(option, value)


def _on_worker(plugin: str, index: int) -> UnitDone:
    brought = distributed.get_worker().plugins[plugin]
    assert isinstance(brought, _JobPlugin)  # noqa: S101 - `execute` registered it
    try:
        return process_unit(brought.job, index)
    except CloudganError as error:
        told = type(error)(str(error))
    # Raised outside the handler, without a context: GDAL's own errors do not survive the way to the client.
    raise told


def execute(
    job: Job, client: distributed.Client, on_progress: Callable[[Report], None] | None = None
) -> Report:
    """Do the units of a job that are not done yet.

    A unit is a future; at most two a worker thread are in flight. A unit that fails is tried again; one whose
    worker dies is done by another.

    Args:
        job: What to do.
        client: Where the workers are.
        on_progress: Called with the report so far after every unit.

    Returns:
        The report; units that failed are named in it, and a rerun does just them.
    """
    started = time.perf_counter()
    pending = np.flatnonzero(job.store.ledger() != DONE)
    report = Report(job.plan.unit_count, job.plan.unit_count - len(pending))
    # A name of this run alone: the scheduler may still hold a failed task of a run before.
    plugin = _JobPlugin(f"cloudgan-{uuid.uuid4().hex[:12]}", job)
    client.register_plugin(plugin)
    indices: Iterator[int] = iter(map(int, pending))

    def submit(count: int) -> list[distributed.Future[UnitDone]]:
        return [
            client.submit(
                _on_worker, plugin.name, index, key=f"{plugin.name}-{index}", retries=RETRIES, pure=False
            )
            for index in islice(indices, count)
        ]

    def in_flight() -> int:  # asked again each time: workers come and go
        return int(2 * max(sum(client.nthreads().values()), 1))

    try:
        futures = distributed.as_completed(submit(in_flight()))
        for future in futures:
            _settle(future, report)
            report.seconds = time.perf_counter() - started
            if on_progress:
                on_progress(report)
            futures.update(submit(max(0, in_flight() - futures.count())))
    finally:
        with suppress(OSError):  # the scheduler may be gone, and with it the plugin
            client.unregister_worker_plugin(plugin.name)
    report.seconds = time.perf_counter() - started
    job.store.finish(report.as_json())
    return report


def _settle(future: distributed.Future[UnitDone], report: Report) -> None:
    """Enter what came of a unit in the report."""
    index = int(str(future.key).rpartition("-")[2])
    try:
        report.add(future.result())
    except CloudganError as error:
        report.failed[index] = str(error)
    except CancelledError as error:
        report.failed[index] = f"its task was cancelled ({error})"
    except Exception as error:  # whatever a unit meets, the others go on, and this one is named
        report.failed[index] = redacted(f"{type(error).__name__}: {error}")


def _version() -> str:
    return __version__


def _check_versions(client: distributed.Client) -> None:
    """Refuse workers that would compute something else, or nothing."""
    remedy = f"give them cloudgan {__version__}, as here"
    try:
        versions = client.run(_version)
    except Exception as error:  # whatever a worker says that cannot import us
        raise InputError(f"the workers cannot run cloudgan ({error}); {remedy}") from error
    for address, version in versions.items():
        if version != __version__:
            raise InputError(f"worker {address} has cloudgan {version}; {remedy}")


def check_workers(client: distributed.Client, plan: Plan) -> None:
    """Refuse workers of another version, or whose memory cannot hold the units they would work on at once.

    Raises:
        InputError: There is no worker, or one that will not do.
    """
    try:
        client.wait_for_workers(1, timeout=WORKERS_WITHIN)
    except TimeoutError as error:
        raise InputError(
            f"the Dask scheduler at {client.scheduler_info()['address']} got no workers in {WORKERS_WITHIN} "
            "seconds; start some, then run again"
        ) from error
    _check_versions(client)
    for address, worker in client.scheduler_info(n_workers=-1)["workers"].items():
        limit, threads = worker["memory_limit"], worker["nthreads"]
        if limit and plan.memory * threads > limit:
            raise InputError(
                f"worker {address} has {limit / 1e9:.1f} GB for {threads} threads, and a work unit needs "
                f"{plan.memory / 1e9:.1f} GB; give it fewer threads, or "
                f"a --memory of {limit / 1e9 / threads:.1f}GB"
            )

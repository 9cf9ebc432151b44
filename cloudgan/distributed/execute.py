"""From a plan to a store: Dask futures, bounded in flight, retried and resumable."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from functools import cache, partial
from typing import Any, TypeVar

import distributed
import numpy as np
from distributed.diagnostics.plugin import WorkerPlugin
from numpy.typing import NDArray

from cloudgan import __version__
from cloudgan.defaults import Reader
from cloudgan.distributed.scheduling import Failed, outcomes
from cloudgan.errors import CloudganError, ClusterError, InputError, ReadError, StoreError, WriteError
from cloudgan.geo.grid import Grid, Window
from cloudgan.io.cube import open_available, open_cube
from cloudgan.io.gdal import list_foreign_drivers, missing_options
from cloudgan.io.lease import Lease, hold_lease
from cloudgan.io.overviews import find_frames, measure_offsets
from cloudgan.io.store.ledger import DONE, DONE_WITHOUT_ASSETS
from cloudgan.io.store.store import Store, check_store
from cloudgan.model.generator import Generator
from cloudgan.object_stores import explain_error
from cloudgan.observations import Observations
from cloudgan.planning.plan import Plan
from cloudgan.removal.core import decloud_dates
from cloudgan.removal.normalisation import RadiometricOffsets
from cloudgan.schema import Provenance
from cloudgan.sentinel2.classification import SCL, classify
from cloudgan.sentinel2.dates import day_numbers
from cloudgan.stac.signing import forget_signatures

T = TypeVar("T")


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


def read_scenes(job: Job, target: Window, which: range) -> tuple[Observations, tuple[str, ...]]:
    """What generating a window takes: the window and what lies around it, in some of the plan's scenes.

    Returns:
        The scenes, and the ids of items that could not be read where the job allows for that.

    Raises:
        ReadError: An asset could not be read, and the job does not allow for it.
    """
    plan = job.plan
    grid, sources = plan.read_grid(target), plan.scenes[which.start : which.stop]
    missing: tuple[str, ...] = ()
    if job.allow_missing:
        cube, missing = open_available(sources, grid, plan.bands, reader=job.reader)
    else:
        cube = open_cube(sources, grid, plan.bands, reader=job.reader)
    bands = {name: cube[name].values for name in plan.bands}
    pixel_classes = classify(cube[SCL].values, list(bands.values()))
    return Observations(grid.window, bands, pixel_classes, day_numbers(cube["time"].values)), missing


def read_offsets(job: Job, target: Window, which: range) -> tuple[list[RadiometricOffsets], set[str]]:
    """How some of the plan's scenes differ over the MGRS tiles that show a window, for its hidden tiles.

    Measured once in a run, from all scenes of the plan, and kept in the store: a unit that comes later, or
    again, finds the same. Where the job allows for what cannot be read, nothing is known and nothing kept.

    Returns:
        What is known, and the ids of items that could not be read.

    Raises:
        ReadError: An image could not be read, and the job does not allow for it.
        WriteError: The store refused them.
    """
    plan, lattice = job.plan, job.plan.grid.lattice
    around = plan.read_grid(target).window
    found, missing = [], set()
    for number, frame in enumerate(find_frames(plan.scenes, lattice, plan.read_grid().window)):
        if frame.intersection(around) is None:
            continue
        offsets = job.store.read_offsets(number)
        if offsets is None:
            try:
                offsets = measure_offsets(plan.scenes, lattice, frame, plan.bands, plan.max_age).values
            except ReadError as error:
                if not job.allow_missing:
                    raise
                missing |= {error.item} if error.item else set()
                continue
            job.store.write_offsets(number, offsets)
        found.append(RadiometricOffsets(frame, offsets).select_dates(which))
    return found, missing


def process_unit(job: Job, index: int) -> UnitDone:
    """Read, decloud and write one unit, then enter it in the ledger; repeating it changes nothing.

    Raises:
        ReadError: An asset could not be read, and the job does not allow for it.
        WriteError: The store refused the result.
    """
    plan, unit = job.plan, job.plan.unit(index)
    started = time.perf_counter()
    scenes, missing = read_scenes(job, unit.target, unit.scenes)
    seconds = {"read": time.perf_counter() - started, "generate": 0.0, "write": 0.0}
    outside = plan.outside(unit.target)
    counts = np.zeros(len(Provenance), np.int64)
    unread: set[str] = set()

    @cache
    def offsets() -> list[RadiometricOffsets]:
        found, lacking = read_offsets(job, unit.target, unit.scenes)
        unread.update(lacking)
        return found

    dates = decloud_dates(
        scenes,
        unit.target,
        job.generator,
        buffer=plan.buffer,
        tiling=plan.tiling,
        dates=[plan.written[at] - unit.scenes.start for at in unit.dates],
        max_age=plan.max_age,
        threads=job.threads,
        read_offsets=offsets,
    )
    write = job.store.open_writer(plan.store_spec(), unit.window)
    mark = time.perf_counter()
    for at, date in zip(unit.dates, dates, strict=True):
        if outside is not None:
            date = date.clip(outside)
        generated_at = time.perf_counter()
        write(at, date.place(unit.target, unit.window).variables(plan.contract.output_bands))
        counts += np.bincount(date.provenance.ravel(), minlength=len(counts))
        seconds["generate"] += generated_at - mark
        mark = time.perf_counter()
        seconds["write"] += mark - generated_at
    missing = tuple(sorted({*missing, *unread}))
    job.store.mark(index, DONE_WITHOUT_ASSETS if missing else DONE)
    return UnitDone(
        index,
        int(counts.sum()),
        int(counts[Provenance.GENERATED]),
        int(counts[Provenance.OBSERVED]),
        missing,
        seconds,
    )


@dataclass(frozen=True, slots=True)
class FailedUnit:
    """A unit that was given up."""

    unit: int
    """Number of the unit."""
    crs: str
    """CRS of the bounds, as `EPSG:32633`."""
    bounds: tuple[float, float, float, float]
    """West, south, east and north of the unit, in metres."""
    dates: tuple[str, str]
    """First and last date that it writes, ISO 8601."""
    items: tuple[str, ...]
    """Ids of the items that are to blame, where it is known."""
    asset: str | None
    """Address of the file that is to blame, where it is known."""
    reason: str
    """What the last try met, in one sentence."""
    tries: int
    """How often the unit was begun."""

    @classmethod
    def of(cls, plan: Plan, index: int, failed: Failed) -> FailedUnit:
        """What came of a unit of a plan."""
        unit = plan.unit(index)
        grid = Grid(plan.grid.lattice, unit.window)
        first, last = (plan.scenes[plan.written[unit.dates[at]]].date.isoformat() for at in (0, -1))
        where = f"EPSG:{grid.epsg}", grid.bounds, (first, last)
        return cls(index, *where, failed.items, failed.asset, failed.reason, failed.tries)


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
    failed: dict[int, FailedUnit] = field(default_factory=dict)
    """Which units failed and why, by their numbers."""
    missing: set[str] = field(default_factory=set)
    """Ids of items that could not be read, where that is allowed."""
    seconds: float = 0.0
    """How long the run took."""
    worker_seconds: dict[str, float] = field(default_factory=dict)
    """Time the workers spent reading, generating and writing, added up."""
    unfinished: str | None = None
    """Why the store lacks this report and its consolidated metadata, where it does."""
    score: dict[str, Any] | None = None
    """See `selfscore.score`, where the run was asked to judge itself."""

    @classmethod
    def of_ledger(cls, ledger: NDArray[np.uint8]) -> Report:
        """The report of a run that has not done anything yet, over a store's ledger."""
        return cls(len(ledger), int((ledger == DONE).sum()))

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
            "failed": [asdict(letter) for _, letter in sorted(self.failed.items())],
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
        self.foreign_drivers = list_foreign_drivers()
        self.added: list[str] = []

    def setup(self, worker: Any) -> None:
        for option, value in (missing_options(os.environ) | {"GDAL_SKIP": self.foreign_drivers}).items():
            if option not in os.environ:
                os.environ[option] = value
                self.added.append(option)

    def teardown(self, worker: Any) -> None:
        """A worker may be a thread of somebody's own process: leave its environment as it was."""
        while self.added:
            os.environ.pop(self.added.pop(), None)


def _job(plugin: str) -> Job:
    brought = distributed.get_worker().plugins[plugin]
    assert isinstance(brought, _JobPlugin)  # noqa: S101 - `execute` registered it
    return brought.job


def _device(plugin: str, dask_worker: Any) -> str:
    brought: _JobPlugin = dask_worker.plugins[plugin]
    return brought.job.generator.runs_on


def _on_worker(work: Callable[[Job, int], T], plugin: str, device: str, index: int) -> T | Failed:
    try:
        job = _job(plugin)
        if job.generator.runs_on != device:
            raise ClusterError(
                f"this worker generates on a {job.generator.runs_on}, the others on a {device}"
            )
        return work(job, index)
    except Exception as error:  # told as plain data: GDAL's own errors do not survive the way to the client
        forget_signatures()  # one of them may have been refused: the next try signs anew
        return Failed.of(error, distributed.get_worker().address)


@dataclass(frozen=True, slots=True)
class Workers:
    """Workers that have been told of a job, all of one kind."""

    client: distributed.Client
    """Where they are."""
    plugin: str
    """The name under which they have the job."""
    device: str
    """What they generate on."""
    check: Callable[[], None]
    """Called every now and then while they work; what it raises ends the work."""

    def outcomes(
        self, work: Callable[[Job, int], T], indices: Iterable[int]
    ) -> Iterator[tuple[int, T | Failed]]:
        """What comes of numbered parts of the job, in the order of their ends; see `attempts.outcomes`.

        Args:
            work: From the job and a number to what came of it; a function of a module.
            indices: The numbers.
        """
        task = partial(_on_worker, work, self.plugin, self.device)
        return outcomes(self.client, task, indices, f"{self.plugin}-{work.__name__}", self.check)


def execute(
    job: Job,
    client: distributed.Client,
    on_progress: Callable[[Report], None] | None = None,
    *,
    only: Collection[int] | None = None,
    judge: Callable[[Job, Workers], dict[str, Any]] | None = None,
) -> Report:
    """Do the units of a job that are not done yet.

    A unit is a future; at most two a worker thread are in flight. A unit that fails is tried again, on
    another worker where there is one; one whose worker dies is done by another.

    Args:
        job: What to do.
        client: Where the workers are.
        on_progress: Called with the report so far after every unit.
        only: Numbers of the units to do, if not all.
        judge: Called at the end, while the workers are still there; what it finds is the report's score.

    Returns:
        The report; units that failed are named in it, and a rerun does just them.

    Raises:
        StoreError: The store is another run's, another plan's, or was begun on another kind of processor.
        ClusterError: The scheduler went away, or the workers did, or they are of different kinds.
    """
    started = time.perf_counter()
    with hold_lease(job.store.location) as lease:
        # Another run may have been there since it was prepared.
        check_store(job.store.location, job.plan.store_spec())
        ledger = job.store.read_ledger()
        report = Report.of_ledger(ledger)
        wanted = range(len(ledger)) if only is None else set(only)
        todo = [index for index in map(int, np.flatnonzero(ledger != DONE)) if index in wanted]
        if todo or judge:
            with brought(job, client, partial(_check_lease, lease)) as workers:
                if todo:
                    job.store.begin(workers.device)
                for index, outcome in workers.outcomes(process_unit, todo):
                    if isinstance(outcome, Failed):
                        report.failed[index] = FailedUnit.of(job.plan, index, outcome)
                    else:
                        report.add(outcome)
                    report.seconds = time.perf_counter() - started
                    if on_progress:
                        on_progress(report)
                if judge:
                    report.score = judge(job, workers)
        report.seconds = time.perf_counter() - started
        try:
            job.store.finish(report.as_json())
        except WriteError as error:
            report.unfinished = str(error)
    return report


@contextmanager
def brought(
    job: Job, client: distributed.Client, check: Callable[[], None] = lambda: None
) -> Iterator[Workers]:
    """Bring a job to the workers of a client, for as long as the context lasts.

    Args:
        job: What they are to know.
        client: Where they are.
        check: See `Workers.check`.

    Raises:
        InputError: They are of different kinds.
        ClusterError: They went away.
    """
    # A name of this run alone: the scheduler may still hold a failed task of a run before.
    plugin = _JobPlugin(f"cloudgan-{uuid.uuid4().hex[:12]}", job)
    for last in (False, False, True):
        try:
            client.register_plugin(plugin)
            break
        except OSError as error:  # a worker that dies at this moment takes the whole round with it
            if last:
                raise ClusterError(
                    f"the workers cannot be told of the job ({explain_error(error)}); run the same command again"
                ) from error
    try:
        yield Workers(client, plugin.name, _device_of(client, plugin.name), check)
    finally:
        if client.status == "running":  # the scheduler may be gone, and with it the plugin
            with suppress(OSError):
                client.unregister_worker_plugin(plugin.name)


def _device_of(client: distributed.Client, plugin: str) -> str:
    """What the workers generate on, which must be one kind: their rounding differs."""
    answers = client.run(_device, plugin, on_error="return").values()
    kinds = sorted({answer for answer in answers if isinstance(answer, str)})
    if len(kinds) > 1:
        raise InputError(
            f"the workers generate on {' and '.join(kinds)}, which round differently; "
            "give workers of one kind"
        )
    for error in answers:
        if not kinds and isinstance(error, CloudganError):
            raise error
    if not kinds:
        raise ClusterError("no worker answers any more; run the same command again")
    return kinds[0]


def _check_lease(lease: Lease) -> None:
    if lease.lost:
        raise StoreError(
            "another run has taken over the store, as this one could not show that it lives; what is done is "
            "kept, and the other does the rest"
        )


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

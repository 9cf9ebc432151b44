"""From a plan to a store: units as Dask futures, resumable, with one run at a time on a store."""

from __future__ import annotations

import hashlib
import time
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

import distributed
import numpy as np

from cloudgan import __version__
from cloudgan.distributed.report import FailedUnit, ZoneReport
from cloudgan.distributed.requirements import Requirements, list_versions
from cloudgan.distributed.scheduling import Failure, run_tasks
from cloudgan.distributed.worker import (
    Job,
    JobPlugin,
    ask_worker,
    find_device,
    find_frames,
    process_unit,
    run_part,
)
from cloudgan.errors import CloudganError, ClusterError, InputError, StoreError, WriteError
from cloudgan.estimation.trust import DateErrors
from cloudgan.io.lease import Lease, hold_lease
from cloudgan.io.store.ledger import DONE
from cloudgan.io.store.store import check_store
from cloudgan.object_stores import explain_error
from cloudgan.planning.plan import Plan
from cloudgan.removal.normalisation import Radiometry

T = TypeVar("T")

WORKERS_WITHIN = 300
"""Seconds that a scheduler may take to get its first worker: on a cluster, pods start one after the other."""


@dataclass(frozen=True, slots=True)
class Workers:
    """Workers that have been sent a job, all of one kind."""

    client: distributed.Client
    """Where they are."""
    plugin: str
    """The name under which they have the job."""
    device: str
    """What they generate on."""
    check: Callable[[], None]
    """Called at least every second while they work; what it raises ends the work."""

    def run(self, work: Callable[[Job, int], T], indices: Iterable[int]) -> Iterator[tuple[int, T | Failure]]:
        """Have them do numbered parts of the job; results come in the order of their ends, see `run_tasks`.

        Args:
            work: From the job and a number to a result; a function of a module.
            indices: The numbers.
        """
        task = partial(run_part, work, self.plugin, self.device)
        # As text: a worker whose cloudgan lacks a function that is sent drops its connection, and hangs.
        worker = "__import__('cloudgan.distributed.worker', fromlist=['ask_worker'])"
        ask = partial(eval, f"{worker}.{ask_worker.__name__}({self.plugin!r}, {self.device!r})")
        return run_tasks(self.client, task, indices, f"{self.plugin}-{work.__name__}", self.check, ask)


def execute(
    job: Job,
    client: distributed.Client,
    on_progress: Callable[[ZoneReport], None] | None = None,
    *,
    only: Collection[int] | None = None,
    evaluate: Callable[[Job, Workers], dict[str, Any]] | None = None,
) -> ZoneReport:
    """Do the units of a job that are not done yet.

    A unit is a future; at most two a worker thread are in flight. A unit that fails is tried again, on
    another worker where there is one; one whose worker dies is done by another.

    Args:
        job: What to do.
        client: Where the workers are.
        on_progress: Called with the report so far after every unit.
        only: Numbers of the units to do, if not all.
        evaluate: Called at the end, while the workers are still there; its result is the report's score.

    Returns:
        The report; units that failed are named in it, and a rerun does just them.

    Raises:
        StoreError: The store is another run's, another plan's, or was begun on another kind of processor.
        ClusterError: The scheduler went away, or the workers did, or they are of different kinds.
    """
    started = time.perf_counter()
    with hold_lease(job.store.location) as lease, _begin_run(job) as job:
        ledger = job.store.read_ledger()
        report = ZoneReport.of_ledger(ledger)
        wanted = range(len(ledger)) if only is None else set(only)
        todo = [index for index in map(int, np.flatnonzero(ledger != DONE)) if index in wanted]
        if todo or evaluate:
            with share_job(job, client, partial(_check_lease, lease)) as workers:
                for latest in _process(job, workers, todo, report, started):
                    report = latest
                    if on_progress:
                        on_progress(report)
                if evaluate:
                    report = replace(report, score=evaluate(job, workers))
        report = replace(report, seconds=time.perf_counter() - started)
        report = report.count_pending(job.store.read_ledger(), allow_missing=job.allow_missing)
        report = report.explain_emptiness(job.plan)
        try:
            report = replace(report, dates=_write_quality_of_dates(job))
            job.store.finish(report.as_json())
        except WriteError as error:
            report = replace(report, unfinished=str(error))
    return report


def _write_quality_of_dates(job: Job) -> dict[str, dict[str, Any]]:
    """Say in the store how good its dates are, where units have measured it; see `ZoneReport.dates`."""
    plan = job.plan
    frames = enumerate(find_frames(plan))
    measured = [(frame, job.store.read_radiometry(number)) for number, frame in frames]
    errors = [Radiometry.unpack(frame, packed).errors for frame, packed in measured if packed is not None]
    if not errors:
        return {}
    mean = DateErrors.average(errors)
    written, names = list(plan.written), plan.contract.input_bands
    columns = {band: names.index(band) for band in plan.contract.output_bands}
    std, hazy = mean.std[written], mean.hazy[written]
    job.store.write_quality_of_dates(hazy, {band: std[:, column] for band, column in columns.items()})
    return {
        plan.scenes[at].date.isoformat(): {
            "error_std": {band: round(float(of_date[column]), 4) for band, column in columns.items()},
            "hazy": bool(is_hazy),
        }
        for at, of_date, is_hazy in zip(written, std, hazy, strict=True)
        if not np.isnan(of_date).any()
    }


@contextmanager
def _begin_run(job: Job) -> Iterator[Job]:
    """The job as a run of its own: at the end, what is left of it writes no more."""
    job = replace(job, store=job.store.begin_run())
    try:
        # Another run may have been there since it was prepared, and from now on no other writes.
        check_store(job.store.location, job.plan.store_spec())
        yield job
    finally:
        job.store.end_run()


def _process(
    job: Job, workers: Workers, todo: Collection[int], report: ZoneReport, started: float
) -> Iterator[ZoneReport]:
    """Do units; the report after each of them."""
    if todo:
        job.store.begin(workers.device)
    for index, result in workers.run(process_unit, todo):
        unit = FailedUnit.of(job.plan, index, result) if isinstance(result, Failure) else result
        report = replace(report.add(unit), seconds=time.perf_counter() - started)
        yield report


@contextmanager
def share_job(
    job: Job, client: distributed.Client, check: Callable[[], None] = lambda: None
) -> Iterator[Workers]:
    """Send a job to the workers of a client, for as long as the context lasts.

    Args:
        job: What they are to know.
        client: Where they are.
        check: See `Workers.check`.

    Raises:
        InputError: They are of different kinds.
        ClusterError: They went away.
    """
    prefix = f"cloudgan-{hashlib.sha256(job.store.location.encode()).hexdigest()[:12]}-"
    _cancel_others(client, prefix)
    # A name of this run alone: the scheduler may still hold a failed task of a run before.
    plugin = JobPlugin(f"{prefix}{uuid.uuid4().hex[:12]}", job)
    for last in (False, False, True):
        try:
            client.register_plugin(plugin)
            break
        except OSError as error:  # a worker that dies at this moment takes the whole round with it
            if last:
                raise ClusterError(
                    f"the job cannot be sent to the workers ({explain_error(error)}); "
                    "run the same command again"
                ) from error
    try:
        yield Workers(client, plugin.name, _find_common_device(client, plugin.name), check)
    finally:
        if client.status == "running":  # the scheduler may be gone, and with it the plugin
            with suppress(OSError):
                client.unregister_worker_plugin(plugin.name)


def _cancel_others(client: distributed.Client, prefix: str) -> None:
    """Cancel what earlier runs have left on the workers: this one holds the store's lease.

    A task that is at work goes on until it writes, which the store's fence refuses.

    Args:
        client: Where the workers are.
        prefix: Begins the names of all runs' plugins and tasks for this store.
    """
    with suppress(OSError):  # workers that come and go; the fence holds without this
        tasks = {str(key) for keys in client.processing().values() for key in keys}
        futures: list[distributed.Future[Any]] = [
            distributed.Future(key, client) for key in tasks if key.startswith(prefix)
        ]
        client.cancel(futures, force=True)
        answers = client.run(_list_plugins, prefix, on_error="return").values()
        for name in {name for names in answers if isinstance(names, list) for name in names}:
            client.unregister_worker_plugin(name)


def _list_plugins(prefix: str, dask_worker: Any) -> list[str]:
    """Names of a worker's plugins for a store; Dask gives the worker by the argument's name."""
    return [name for name in dask_worker.plugins if name.startswith(prefix)]


def _find_common_device(client: distributed.Client, plugin: str) -> str:
    """What the workers generate on, which must be one kind: their rounding differs."""
    answers = client.run(find_device, plugin, on_error="return").values()
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


def keep_worker(client: distributed.Client) -> distributed.Future[int]:
    """Ask for a worker, and wait for it.

    Returns:
        A result; as long as it is kept, a cluster that scales by itself keeps a worker for it.

    Raises:
        InputError: There is none.
    """
    # A cluster that scales by itself, and has no worker yet, starts one only for a task that waits.
    kept = client.submit(int, pure=False)
    try:
        client.wait_for_workers(1, timeout=WORKERS_WITHIN)
    except TimeoutError as error:
        raise InputError(
            f"the Dask scheduler at {client.scheduler_info()['address']} got no workers in {WORKERS_WITHIN} "
            "seconds; start some, then run again"
        ) from error
    return kept


def check_workers(client: distributed.Client, plans: Iterable[Plan]) -> Requirements:
    """Refuse workers that would compute something else, or whose memory cannot hold the units of a plan.

    Returns:
        What those that join later must have too.

    Raises:
        InputError: There is one that will not do.
        ClusterError: They went away.
    """
    try:
        answers = client.run(list_versions)
    except Exception as error:  # whatever a worker says that cannot import us
        raise InputError(
            f"the workers cannot run cloudgan ({error}); give them cloudgan {__version__}, as here"
        ) from error
    if not answers:
        raise ClusterError("no worker answers any more; run the same command again")
    requirements = Requirements.of_workers(answers, max(plan.memory for plan in plans))
    for address, worker in client.scheduler_info(n_workers=-1)["workers"].items():
        shortage = requirements.find_shortage(worker["memory_limit"], worker["nthreads"])
        if shortage:
            raise InputError(f"worker {address} {shortage}")
    return requirements

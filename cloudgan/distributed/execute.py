"""From a plan to a store: units as Dask futures, resumable, with one run at a time on a store."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from typing import Any

import distributed
import numpy as np

from cloudgan.distributed.own_process import OwnProcess
from cloudgan.distributed.preflight import find_inability
from cloudgan.distributed.report import FailedUnit, ZoneReport
from cloudgan.distributed.scheduling import Failure
from cloudgan.distributed.stopping import FailureRow, longest_row
from cloudgan.distributed.worker import Job, find_frames, process_unit
from cloudgan.distributed.workers import Cluster, Workers, share_job
from cloudgan.errors import StoreError, WriteError
from cloudgan.estimation.trust import DateErrors
from cloudgan.io.lease import Lease, hold_lease
from cloudgan.io.store.ledger import DONE
from cloudgan.io.store.store import check_store
from cloudgan.removal.normalisation import Radiometry


def execute(
    job: Job,
    cluster: Cluster | distributed.Client | None,
    on_progress: Callable[[ZoneReport], None] | None = None,
    *,
    only: Collection[int] | None = None,
    evaluate: Callable[[Job, Workers | OwnProcess], dict[str, Any]] | None = None,
) -> ZoneReport:
    """Do the units of a job that are not done yet.

    A unit is a future; at most two a worker thread are in flight. A unit that fails is tried again, on
    another worker where there is one; one whose worker dies is done by another.

    Args:
        job: What to do.
        cluster: Where the workers are; None where this process is to do the units, one after the other.
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
            with _share_job(job, cluster, partial(_check_lease, lease)) as workers:
                for latest in _process(job, workers, todo, report, started):
                    report = latest
                    if on_progress:
                        on_progress(report)
                if evaluate and report.stopped is None:
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


def _share_job(
    job: Job, cluster: Cluster | distributed.Client | None, check: Callable[[], None]
) -> AbstractContextManager[Workers | OwnProcess]:
    return nullcontext(OwnProcess(job, check)) if cluster is None else share_job(job, cluster, check)


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
    job: Job, workers: Workers | OwnProcess, todo: Collection[int], report: ZoneReport, started: float
) -> Iterator[ZoneReport]:
    """Do units; the report after each of them, and after each that is going to be tried again."""
    if not todo:
        return
    job.store.begin(workers.device)
    # A few units tell by themselves, each with its own reason, and a rerun finds them by name.
    if len(todo) >= longest_row(workers.count_threads()) and (inability := find_inability(workers)):
        yield replace(report, stopped=inability)
        return
    retried: list[int] = []
    left, row = dict.fromkeys(todo), FailureRow()
    while left:
        for index, result in workers.run(process_unit, list(left), retried.append):
            del left[index]
            unit = FailedUnit.of(job.plan, index, result) if isinstance(result, Failure) else result
            report = replace(report.add(unit), seconds=time.perf_counter() - started, retried=len(retried))
            row.add(unit)
            yield report
            threads = workers.count_threads() if isinstance(unit, FailedUnit) else 1
            if row.is_hopeless(threads) or row.is_doubtful(threads):
                break
        else:
            return
        if row.is_hopeless(threads) or find_inability(workers) is not None:
            why = f"units failed one after the other for one reason, so the run stops: {row.example}"
            yield replace(report, stopped=why)
            return
        row.trust_workers()


def _check_lease(lease: Lease) -> None:
    if lease.lost:
        raise StoreError(
            "another run has taken over the store, as this one could not show that it lives; what is done is "
            "kept, and the other does the rest"
        )

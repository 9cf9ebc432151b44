"""Units as Dask futures: a few in flight, those that fail tried again elsewhere.

A cluster that went away ends the run with an error that says so.
"""

from __future__ import annotations

import heapq
import itertools
import random
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from concurrent.futures import CancelledError
from dataclasses import dataclass, field, replace
from queue import Empty, SimpleQueue
from typing import Any, Generic, TypeVar

import dask
import distributed

from cloudgan.distributed.pool import Refusal, WorkerPool, lost_cluster
from cloudgan.errors import CloudganError, InputError, ReadError
from cloudgan.object_stores import explain_error

T = TypeVar("T")

TRIES = 3
"""How often a unit is begun before it is given up."""
PAUSE = 2.0
"""Seconds before the second try of a unit, give or take half, doubled for the third."""
_POLL = 1.0  # seconds between two checks of whether the run may go on


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a try came to nothing; plain data, for errors of GDAL do not survive the way to the client."""

    reason: str
    """One sentence."""
    items: tuple[str, ...] = ()
    """Ids of the items that could not be read, where it is known."""
    asset: str | None = None
    """Address of the file that could not be read, where it is known."""
    worker: str | None = None
    """Address of the worker."""
    heals: bool = True
    """Whether another try may end otherwise."""
    tries: int = 1
    """How often the unit was begun."""

    @classmethod
    def of(cls, error: Exception, worker: str) -> Failure:
        """The failure that an error on a worker stands for."""
        text = (
            str(error)
            if isinstance(error, CloudganError)
            else f"{type(error).__name__}: {explain_error(error)}"
        )
        item, asset = (error.item, error.asset) if isinstance(error, ReadError) else (None, None)
        heals = not isinstance(error, InputError)
        return cls(text, () if item is None else (item,), asset, worker, heals)


@dataclass(frozen=True, slots=True, order=True)
class _Try:
    due: float
    """When it may begin, by the monotonic clock."""
    index: int
    """Number of the unit."""
    number: int = 1
    """Which try it is."""
    avoid: str | None = field(default=None, compare=False)
    """Address of the worker that failed it before."""
    deaths: int = field(default=0, compare=False)
    """How often all the workers that might do it died while one of them probably did it."""


def run_tasks(
    client: distributed.Client,
    task: Callable[[int], T | Failure | Refusal],
    indices: Iterable[int],
    name: str,
    check: Callable[[], None],
    ask: Callable[[], Refusal | None],
) -> Iterator[tuple[int, T | Failure]]:
    """Have the workers do units, at most two a worker thread in flight.

    A unit that fails is tried again after a pause, on another worker where there is one; one whose worker
    dies, or does not do, is done by another.

    Args:
        client: Where the workers are.
        task: What a worker does of a unit; it can be pickled.
        indices: Numbers of the units.
        name: Begins the names of the tasks; new to the scheduler, which may hold tasks of a run before.
        check: Called at least every second; what it raises ends the run.
        ask: What each worker runs first, to say whether it will do; it can be pickled.

    Yields:
        Unit by unit, in the order of their ends: its number, and its result at last.

    Raises:
        ClusterError: The scheduler went away, or all the workers did and none came back.
    """
    fresh = deque(_Try(0.0, index) for index in indices)
    again: list[_Try] = []
    in_flight: dict[str, _Flight[T]] = {}
    ended: SimpleQueue[distributed.Future[Any]] = SimpleQueue()
    pool, serial = WorkerPool(client, ask, name, ended), itertools.count()
    while fresh or again or in_flight:
        workers = pool.count_threads()
        yield from _begin_again(_recall(in_flight, workers), again)
        room = 2 * sum(workers.values())
        while len(in_flight) < room and (attempt := _take(again, fresh)) is not None:
            flight = _submit(client, task, attempt, f"{name}-{next(serial)}", workers)
            in_flight[str(flight.future.key)] = flight
            flight.future.add_done_callback(ended.put)
        check()
        try:
            future = ended.get(timeout=_POLL)
        except Empty:
            continue
        landed = None if pool.take_answer(future) else in_flight.pop(str(future.key), None)
        if landed is None:  # it was a worker's answer, or was recalled
            continue
        attempt, result = landed.attempt, _collect(future)
        if isinstance(result, Refusal):
            pool.refuse(result)
            heapq.heappush(again, replace(attempt, due=0.0))
        elif isinstance(result, Failure) and result.heals and attempt.number < TRIES:
            heapq.heappush(again, _retry(attempt, result))
        elif isinstance(result, Failure):
            yield attempt.index, replace(result, worker=None, tries=attempt.number)
        else:
            yield attempt.index, result


@dataclass(frozen=True, slots=True)
class _Flight(Generic[T]):
    """A try that a worker has or waits for."""

    attempt: _Try
    future: distributed.Future[T | Failure | Refusal]
    workers: Mapping[str, int]
    """The only workers that may do it, those that came later were not asked yet: threads by address."""


def _submit(
    client: distributed.Client,
    task: Callable[[int], T | Failure | Refusal],
    attempt: _Try,
    name: str,
    workers: Mapping[str, int],
) -> _Flight[T]:
    # Not a preference: a worker that fails at once is idle, and would steal the unit back.
    others = {worker: threads for worker, threads in workers.items() if worker != attempt.avoid} or workers
    future = client.submit(
        task,
        attempt.index,
        key=f"{name}-{attempt.index}-{attempt.number}",
        workers=list(others),
        pure=False,
    )
    return _Flight(attempt, future, others)


def _recall(in_flight: dict[str, _Flight[T]], workers: Collection[str]) -> list[_Try]:
    """Take back the tries whose only workers are gone; any worker may do them then.

    Dask counts the deaths of a task whose other workers live. It forgets them with the task, so those are
    counted here that were at work: the first that were submitted, as many as there were threads.
    """
    stranded = [key for key, one in in_flight.items() if one.workers.keys().isdisjoint(workers)]
    recalled = [in_flight.pop(key) for key in stranded]
    threads = sum({worker: count for one in recalled for worker, count in one.workers.items()}.values())
    for one in recalled:
        one.future.cancel()
    return [
        replace(one.attempt, due=0.0, avoid=None, deaths=one.attempt.deaths + (order < threads))
        for order, one in enumerate(recalled)
    ]


def _begin_again(recalled: Iterable[_Try], again: list[_Try]) -> Iterator[tuple[int, Failure]]:
    """Put tries back, but for those that have had as many deaths as Dask allows a task: these failed."""
    allowed: int = dask.config.get("distributed.scheduler.allowed-failures")
    for attempt in recalled:
        if attempt.deaths > allowed:
            yield attempt.index, replace(_fail_by_deaths(attempt.deaths), tries=attempt.number)
        else:
            heapq.heappush(again, attempt)


def _take(again: list[_Try], fresh: deque[_Try]) -> _Try | None:
    """A try that may begin now; None where there is none."""
    if again and again[0].due <= time.monotonic():
        return heapq.heappop(again)
    return fresh.popleft() if fresh else None


def _retry(attempt: _Try, failure: Failure) -> _Try:
    """The try after one that failed: units that failed together must not come back together."""
    pause = PAUSE * 2 ** (attempt.number - 1) * random.uniform(0.5, 1.5)  # noqa: S311 - no secret
    return _Try(time.monotonic() + pause, attempt.index, attempt.number + 1, failure.worker)


def _fail_by_deaths(count: int) -> Failure:
    return Failure(
        f"{count} workers died while they worked on it, as those do that run out of memory; "
        "give workers more memory, or fewer threads",
        heals=False,
    )


def _collect(future: distributed.Future[T | Failure | Refusal]) -> T | Failure | Refusal:
    try:
        return future.result()
    except distributed.scheduler.KilledWorker as error:
        return _fail_by_deaths(error.allowed_failures + 1)
    except CancelledError as error:
        if getattr(error, "reason", "") == "scheduler-connection-lost":
            raise lost_cluster("the connection to the Dask scheduler was lost") from error
        return Failure(f"its task was cancelled ({explain_error(error)})")
    except Exception as error:  # whatever a unit meets, the others go on, and this one is named
        return Failure(f"{type(error).__name__}: {explain_error(error)}")

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

from cloudgan.distributed.deaths import GRACE, Deaths, explain_deaths
from cloudgan.distributed.pool import GATHER_WITHIN, NOBODY_WITHIN, LostSchedulerError, Refusal, WorkerPool
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


class _Died:
    """What came of a try whose workers ended, as often as Dask allows, or with its result."""


@dataclass(frozen=True, slots=True)
class Run(Generic[T]):
    """What `run_tasks` does, and whom it tells."""

    task: Callable[[int], T | Failure | Refusal]
    """What a worker does of a unit; it can be pickled."""
    name: str
    """Begins the names of the tasks; new to the scheduler, which may hold tasks of a run before."""
    ask: Callable[[], str | None]
    """What each worker runs first, to say whether it will do; it can be pickled."""
    topic: str
    """On which workers tell what they begin, and how they end; see `Deaths`."""
    work: str
    """What they call it there."""
    check: Callable[[], None]
    """Called at least every second; what it raises ends the run."""
    on_retry: Callable[[int], None] = lambda index: None
    """Called when a unit is going to be tried again."""
    patience: float = NOBODY_WITHIN
    """Seconds without a worker that may work after which the run is given up."""
    resources: Mapping[str, float] = field(default_factory=dict)
    """What a task takes of a worker; see Dask's resources."""


def run_tasks(
    client: distributed.Client, run: Run[T], indices: Iterable[int]
) -> Iterator[tuple[int, T | Failure]]:
    """Have the workers do units, at most two a worker thread in flight.

    A unit that fails is tried again after a pause, on another worker where there is one; one whose worker
    dies, or does not do, is done by another.

    Args:
        client: Where the workers are.
        run: What to do, and how.
        indices: Numbers of the units.

    Yields:
        Unit by unit, in the order of their ends: its number, and its result at last.

    Raises:
        LostSchedulerError: The scheduler went away.
        ClusterError: All the workers went away and none came back.
    """
    course = _Course(client, run, deque(_Try(0.0, index) for index in indices))
    while course.is_going_on():
        yield from course.submit()
        run.check()
        yield from course.land()


class _Course(Generic[T]):
    """The tries of a run: those to come, those in flight, and what becomes of them."""

    def __init__(self, client: distributed.Client, run: Run[T], fresh: deque[_Try]) -> None:
        self._client, self._run, self._fresh = client, run, fresh
        self._again: list[_Try] = []
        self._in_flight: dict[str, _Flight[T]] = {}
        self._ended: SimpleQueue[distributed.Future[Any]] = SimpleQueue()
        self._pool = WorkerPool(
            client, run.ask, run.name, self._ended, patience=run.patience, resources=run.resources
        )
        self._deaths = Deaths(client, run.topic, run.work)
        self._workers: dict[str, int] = {}
        self._serial = itertools.count()

    def is_going_on(self) -> bool:
        """Whether a unit has no result yet."""
        return bool(self._fresh or self._again or self._in_flight)

    def submit(self) -> Iterator[tuple[int, Failure]]:
        """Give the workers that are there as much as they may have; units that are given up instead."""
        self._workers = self._pool.count_threads()
        self._deaths.update()  # so that they are said when they happen
        for stranded in _recall(self._in_flight, self._workers):
            self._begin_again(stranded)
        room = 2 * sum(self._workers.values())
        while len(self._in_flight) < room and (attempt := _take(self._again, self._fresh)) is not None:
            if (failure := _find_deaths(attempt, self._deaths, self._workers)) is not None:
                yield attempt.index, failure
                continue
            name = f"{self._run.name}-{next(self._serial)}"
            flight = _submit(self._client, self._run, attempt, name, self._workers)
            self._in_flight[str(flight.future.key)] = flight
            flight.future.add_done_callback(self._ended.put)

    def land(self) -> Iterator[tuple[int, T | Failure]]:
        """Take one future that has ended, if one does within a second; the unit's result, if it is one."""
        try:
            future = self._ended.get(timeout=_POLL)
        except Empty:
            return
        landed = None if self._pool.take_answer(future) else self._in_flight.pop(str(future.key), None)
        if landed is None:  # it was a worker's answer, or was recalled
            return
        attempt, result = landed.attempt, _collect(future)
        if isinstance(result, _Died):
            self._begin_again(attempt)
            return
        self._deaths.forget(attempt.index)
        if isinstance(result, Refusal):
            self._pool.refuse(result)
            heapq.heappush(self._again, replace(attempt, due=0.0))
        elif isinstance(result, Failure) and result.heals and attempt.number < TRIES:
            self._run.on_retry(attempt.index)
            heapq.heappush(self._again, _retry(attempt, result))
        elif isinstance(result, Failure):
            yield attempt.index, replace(result, worker=None, tries=attempt.number)
        else:
            yield attempt.index, result

    def _begin_again(self, attempt: _Try) -> None:
        """The same try once more, when nannies have had the time to say how its workers ended."""
        explained = self._deaths.is_explained(attempt.index, self._workers)
        due = 0.0 if explained else time.monotonic() + GRACE
        heapq.heappush(self._again, replace(attempt, due=due, avoid=None))


@dataclass(frozen=True, slots=True)
class _Flight(Generic[T]):
    """A try that a worker has or waits for."""

    attempt: _Try
    future: distributed.Future[T | Failure | Refusal]
    workers: Mapping[str, int]
    """The only workers that may do it, those that came later were not asked yet: threads by address."""


def _submit(
    client: distributed.Client, run: Run[T], attempt: _Try, name: str, workers: Mapping[str, int]
) -> _Flight[T]:
    # Not a preference: a worker that fails at once is idle, and would steal the unit back.
    others = {worker: threads for worker, threads in workers.items() if worker != attempt.avoid} or workers
    future = client.submit(
        run.task,
        attempt.index,
        key=f"{name}-{attempt.index}-{attempt.number}",
        workers=list(others),
        resources=dict(run.resources) or None,
        pure=False,
    )
    return _Flight(attempt, future, others)


def _recall(in_flight: dict[str, _Flight[T]], workers: Collection[str]) -> list[_Try]:
    """Take back the tries whose only workers are gone; any worker may do them then."""
    stranded = [key for key, one in in_flight.items() if one.workers.keys().isdisjoint(workers)]
    recalled = [in_flight.pop(key) for key in stranded]
    for one in recalled:
        one.future.cancel()
    return [one.attempt for one in recalled]


def _find_deaths(attempt: _Try, deaths: Deaths, workers: Collection[str]) -> Failure | None:
    """Why a unit is given up that has had more deaths than Dask allows a task; None where it had not.

    Ends of workers that say nothing against the unit, such as SIGTERM, do not count.
    """
    ends = deaths.count(attempt.index, workers)
    if sum(ends.values()) <= dask.config.get("distributed.scheduler.allowed-failures"):
        return None
    return Failure(explain_deaths(ends), heals=False, tries=attempt.number)


def _take(again: list[_Try], fresh: deque[_Try]) -> _Try | None:
    """A try that may begin now; None where there is none."""
    if again and again[0].due <= time.monotonic():
        return heapq.heappop(again)
    return fresh.popleft() if fresh else None


def draw_pause(number: int) -> float:
    """Seconds to wait after a try that failed: units that failed together must not come back together.

    Args:
        number: Which try it was.
    """
    return PAUSE * 2.0 ** (number - 1) * random.uniform(0.5, 1.5)  # noqa: S311 - no secret


def _retry(attempt: _Try, failure: Failure) -> _Try:
    """The try after one that failed."""
    due = time.monotonic() + draw_pause(attempt.number)
    return _Try(due, attempt.index, attempt.number + 1, failure.worker)


def _collect(future: distributed.Future[T | Failure | Refusal]) -> T | Failure | Refusal | _Died:
    try:
        return future.result(timeout=GATHER_WITHIN)
    except (TimeoutError, distributed.scheduler.KilledWorker):
        return _Died()
    except CancelledError as error:
        if getattr(error, "reason", "") == "scheduler-connection-lost":
            raise LostSchedulerError("the connection to the Dask scheduler was lost") from error
        return Failure(f"its task was cancelled ({explain_error(error)})")
    except Exception as error:  # whatever a unit meets, the others go on, and this one is named
        return Failure(f"{type(error).__name__}: {explain_error(error)}")

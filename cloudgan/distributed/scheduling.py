"""Units as Dask futures: a few in flight, those that fail tried again elsewhere.

A cluster that went away is noticed, and named.
"""

from __future__ import annotations

import heapq
import random
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import TypeVar

import distributed

from cloudgan.errors import CloudganError, ClusterError, InputError, ReadError
from cloudgan.object_stores import explain_error

T = TypeVar("T")

TRIES = 3
"""How often a unit is begun before it is given up."""
PAUSE = 2.0
"""Seconds before the second try of a unit, give or take half, doubled for the third."""
NOBODY_WITHIN = 300.0
"""Seconds without a single worker after which a run is given up: pods may come back, one after the other."""
_LOOK = 1.0  # seconds between two looks at whether the run may go on


@dataclass(frozen=True, slots=True)
class Failed:
    """Why a try came to nothing; plain data, for errors of GDAL do not survive the way to the client."""

    reason: str
    """One sentence."""
    items: tuple[str, ...] = ()
    """Ids of the items that are to blame, where it is known."""
    asset: str | None = None
    """Address of the file that is to blame, where it is known."""
    worker: str | None = None
    """Address of the worker."""
    heals: bool = True
    """Whether another try may end otherwise."""
    tries: int = 1
    """How often the unit was begun."""

    @classmethod
    def of(cls, error: Exception, worker: str) -> Failed:
        """What an error on a worker tells."""
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


def outcomes(
    client: distributed.Client,
    task: Callable[[int], T | Failed],
    indices: Iterable[int],
    name: str,
    check: Callable[[], None],
) -> Iterator[tuple[int, T | Failed]]:
    """Have the workers do units, at most two a worker thread in flight.

    A unit that fails is tried again after a pause, on another worker where there is one; one whose worker
    dies is done by another.

    Args:
        client: Where the workers are.
        task: What a worker does of a unit; it picks.
        indices: Numbers of the units.
        name: Begins the names of the tasks; new to the scheduler, which may hold tasks of a run before.
        check: Called every now and then; what it raises ends it all.

    Yields:
        Unit by unit, in the order of their ends: its number, and what came of it at last.

    Raises:
        ClusterError: The scheduler went away, or all the workers did and none came back.
    """
    fresh = (_Try(0.0, index) for index in indices)
    again: list[_Try] = []
    in_flight: dict[str, tuple[_Try, distributed.Future[T | Failed]]] = {}
    ended: SimpleQueue[distributed.Future[T | Failed]] = SimpleQueue()
    crew = _Crew(client)
    while True:
        workers = crew.threads()
        room = 2 * max(sum(workers.values()), 1)
        while len(in_flight) < room and (attempt := _ready(again, fresh)) is not None:
            others = [worker for worker in workers if worker != attempt.avoid] if attempt.avoid else None
            future = client.submit(
                task,
                attempt.index,
                key=f"{name}-{attempt.index}-{attempt.number}",
                workers=others or None,
                allow_other_workers=bool(others),
                pure=False,
            )
            in_flight[str(future.key)] = attempt, future
            future.add_done_callback(ended.put)
        if not in_flight and not again:
            return
        check()
        try:
            future = ended.get(timeout=_LOOK)
        except Empty:
            continue
        attempt, _ = in_flight.pop(str(future.key))
        outcome = _outcome(future)
        if isinstance(outcome, Failed):
            if outcome.heals and attempt.number < TRIES:
                heapq.heappush(again, _next(attempt, outcome))
                continue
            outcome = Failed(outcome.reason, outcome.items, outcome.asset, tries=attempt.number)
        yield attempt.index, outcome


def _ready(again: list[_Try], fresh: Iterator[_Try]) -> _Try | None:
    """A try that may begin now; None where there is none."""
    if again and again[0].due <= time.monotonic():
        return heapq.heappop(again)
    return next(fresh, None)


def _next(attempt: _Try, failed: Failed) -> _Try:
    """The try after one that failed: units that failed together must not come back together."""
    pause = PAUSE * 2 ** (attempt.number - 1) * random.uniform(0.5, 1.5)  # noqa: S311 - no secret
    return _Try(time.monotonic() + pause, attempt.index, attempt.number + 1, failed.worker)


def _outcome(future: distributed.Future[T | Failed]) -> T | Failed:
    try:
        return future.result()
    except distributed.scheduler.KilledWorker as error:
        return Failed(
            f"{error.allowed_failures + 1} workers died while they worked on it, as those do that run out of "
            "memory; give workers more memory, or fewer threads",
            heals=False,
        )
    except CancelledError as error:
        if getattr(error, "reason", "") == "scheduler-connection-lost":
            raise _gone("the connection to the Dask scheduler was lost") from error
        return Failed(f"its task was cancelled ({explain_error(error)})")
    except Exception as error:  # whatever a unit meets, the others go on, and this one is named
        return Failed(f"{type(error).__name__}: {explain_error(error)}")


class _Crew:
    """The workers of a client, as they come and go."""

    def __init__(self, client: distributed.Client) -> None:
        self._client = client
        self._seen = time.monotonic()

    def threads(self) -> dict[str, int]:
        """Threads of each worker."""
        try:
            workers: dict[str, int] = self._client.nthreads()
        except (OSError, ValueError) as error:  # a client that has given up is no longer asked
            raise _gone("the Dask scheduler went away") from error
        now = time.monotonic()
        if workers:
            self._seen = now
        elif now - self._seen > NOBODY_WITHIN:
            raise _gone(f"there has been no worker for {NOBODY_WITHIN:.0f} seconds")
        return workers


def _gone(what: str) -> ClusterError:
    return ClusterError(f"{what}; what is done is kept, run the same command again to do the rest")

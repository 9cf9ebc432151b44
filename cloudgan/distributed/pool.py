"""The workers of a run as they come and go: each is asked before it gets a unit."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from concurrent.futures import CancelledError
from dataclasses import dataclass
from itertools import count
from queue import SimpleQueue
from typing import Any

import distributed

from cloudgan.errors import ClusterError
from cloudgan.object_stores import explain_error

NOBODY_WITHIN = 300.0
"""Seconds without a worker that may work after which a run is given up: pods may come back, one by one."""
GATHER_WITHIN = 20.0
"""Seconds to fetch a result, which is small. One that goes with its worker before it is fetched is made anew,
on a worker that may be gone for good."""
_FIRST = 10  # priority of a question: before the units that wait

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Refusal:
    """A worker that does not work on a job; what it was given is for another, and loses no try by it."""

    worker: str
    """Its address."""
    reason: str
    """What is wrong with it: the rest of a sentence that begins with its name."""


class WorkerPool:
    """The workers of a client that may work on a job.

    One that comes is asked by a small task whether it will do. What the task raises is an answer too:
    another version of cloudgan may lack what is asked for.
    """

    def __init__(
        self,
        client: distributed.Client,
        ask: Callable[[], str | None],
        name: str,
        ended: SimpleQueue[distributed.Future[Any]],
        *,
        patience: float = NOBODY_WITHIN,
        resources: Mapping[str, float] | None = None,
    ) -> None:
        """Of a client.

        Args:
            client: Where the workers are.
            ask: What a worker runs to say why it does not do, as a verb with its object; it can be pickled.
            name: Begins the names of these tasks.
            ended: Where the futures of these tasks are put when they end; `take_answer` wants them.
            patience: Seconds without a worker that may work after which the pool is given up.
            resources: What a worker must have, by Dask's names; the others are no concern of this pool.
        """
        self._patience, self._resources = patience, dict(resources or {})
        self._unfit: set[str] = set()
        self._client, self._ask, self._name, self._ended = client, ask, f"{name}-ask", ended
        self._serial = count()
        self._asked: dict[str, tuple[str | None, distributed.Future[Any]]] = {}
        self._accepted: set[str] = set()
        self._refused: dict[str, str] = {}
        self._last_present = time.monotonic()

    def count_threads(self) -> dict[str, int]:
        """Threads of each worker that may work, by its address; those that are new are asked.

        Raises:
            LostSchedulerError: The scheduler went away.
            ClusterError: Nobody has been there for long.
        """
        try:
            workers = self._list_fit(self._client.nthreads())
        except (OSError, ValueError) as error:  # a client that has given up is no longer asked
            raise LostSchedulerError("the Dask scheduler went away") from error
        self._forget_all_but(workers)
        known = {*self._accepted, *self._refused, *(address for address, _ in self._asked.values())}
        for address in workers.keys() - known:
            self._submit(address)
        if not workers and not self._asked:
            self._submit(None)  # a cluster that scales by itself starts workers for what waits
        now = time.monotonic()
        if self._accepted:
            self._last_present = now
        elif now - self._last_present > self._patience:
            why = "".join(f"; worker {worker} {reason}" for worker, reason in self._refused.items())
            has = f" with {format_resources(self._resources)}" if self._resources else ""
            raise lost_cluster(f"there has been no worker{has} for {self._patience:.0f} seconds{why}")
        return {address: workers[address] for address in workers if address in self._accepted}

    def refuse(self, refusal: Refusal) -> None:
        """Give a worker no more units, as long as it is there."""
        self._accepted.discard(refusal.worker)
        if refusal.worker not in self._refused:
            self._refused[refusal.worker] = refusal.reason
            log.warning("worker %s gets no units: it %s", refusal.worker, refusal.reason)

    def take_answer(self, future: distributed.Future[Any]) -> bool:
        """Take the answer of a worker; whether the future was one of this pool's."""
        address, asked = self._asked.pop(str(future.key), (None, None))
        if asked is None:
            return str(future.key).startswith(self._name)
        try:
            answer = asked.result(timeout=GATHER_WITHIN)
        except (CancelledError, TimeoutError, distributed.scheduler.KilledWorker):
            return True  # it went away; if it comes back, it is asked again
        except Exception as error:  # whatever a worker says that has another cloudgan, or none
            reason = f"cannot run cloudgan ({explain_error(error)}); give it the version of the others"
            answer = None if address is None else Refusal(address, reason)
        if isinstance(answer, str):
            answer = None if address is None else Refusal(address, answer)
        if isinstance(answer, Refusal):
            self.refuse(answer)
        elif address is not None:
            self._accepted.add(address)
        return True

    def _submit(self, address: str | None) -> None:
        key = f"{self._name}-{next(self._serial)}"
        workers = None if address is None else [address]
        resources = self._resources if address is None else None
        future = self._client.submit(
            self._ask, key=key, workers=workers, resources=resources or None, priority=_FIRST, pure=False
        )
        self._asked[key] = (address, future)
        future.add_done_callback(self._ended.put)

    def _list_fit(self, workers: dict[str, int]) -> dict[str, int]:
        """Those of the workers that have the resources."""
        if not self._resources:
            return workers
        self._unfit &= workers.keys()
        known = {*self._unfit, *self._accepted, *self._refused}
        if workers.keys() - known:
            fit = list_workers_with(self._client, self._resources)
            self._unfit = workers.keys() - fit
        return {address: threads for address, threads in workers.items() if address not in self._unfit}

    def _forget_all_but(self, workers: dict[str, int]) -> None:
        """A worker that comes back under its old address is another, and is asked again."""
        self._accepted &= workers.keys()
        self._refused = {name: reason for name, reason in self._refused.items() if name in workers}
        gone = [key for key, (name, _) in self._asked.items() if name is not None and name not in workers]
        for key in gone:
            self._asked.pop(key)[1].cancel()


class LostSchedulerError(ClusterError):
    """The scheduler went away; it may come back."""

    def __init__(self, what: str) -> None:
        super().__init__(f"{what}; {_REMEDY}")


_REMEDY = "what is done is kept, run the same command again to do the rest"


def lost_cluster(what: str) -> ClusterError:
    """The error about a cluster that went away."""
    return ClusterError(f"{what}; {_REMEDY}")


def list_workers_with(client: distributed.Client, resources: Mapping[str, float]) -> set[str]:
    """Addresses of the workers that have so much of each resource.

    Args:
        client: Where the workers are.
        resources: How much, by Dask's names; all workers have nothing.
    """
    workers = client.scheduler_info(n_workers=-1)["workers"]
    return {
        address
        for address, worker in workers.items()
        if all(worker.get("resources", {}).get(name, 0.0) >= much for name, much in resources.items())
    }


def format_resources(resources: Mapping[str, float]) -> str:
    """Resources as a user writes them: `GPU=1`."""
    return ",".join(f"{name}={much:g}" for name, much in resources.items())

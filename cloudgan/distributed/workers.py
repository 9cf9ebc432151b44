"""The workers of a run: found, compared, sent the job, and joined again after the scheduler was lost."""

from __future__ import annotations

import hashlib
import logging
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import CancelledError
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

import distributed

from cloudgan import __version__
from cloudgan.distributed.deaths import DeathWatch
from cloudgan.distributed.plugin import JobPlugin, find_device, make_question, run_part
from cloudgan.distributed.pool import (
    NOBODY_WITHIN,
    LostSchedulerError,
    format_resources,
    list_workers_with,
)
from cloudgan.distributed.requirements import Requirements, list_versions
from cloudgan.distributed.scheduling import Failure, Run, run_tasks
from cloudgan.distributed.worker import Job
from cloudgan.errors import CloudganError, ClusterError, InputError
from cloudgan.object_stores import explain_error
from cloudgan.planning.plan import Plan

T = TypeVar("T")

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Cluster:
    """Where workers are, and how long one waits for them."""

    client: distributed.Client
    """A client of it."""
    patience: float = NOBODY_WITHIN
    """Seconds that it may take to get its first worker, or to come back when it is lost: on a cluster, pods
    start one after the other."""
    resources: Mapping[str, float] = field(default_factory=dict)
    """What a work unit takes of a worker, by Dask's names; only workers that have it get units."""
    reopen: Callable[[], distributed.Client] | None = None
    """Makes another client when this one has given up; None where only its owner could."""

    def wait_for_scheduler(self, deadline: float, check: Callable[[], None]) -> None:
        """Return when the scheduler answers again.

        Args:
            deadline: When to give up, by the monotonic clock.
            check: Called every second; what it raises ends the wait.

        Raises:
            LostSchedulerError: It does not.
        """
        while time.monotonic() < deadline:
            check()
            if self.client.status == "running":
                return
            if self.client.status == "closed":
                if self.reopen is None:
                    raise LostSchedulerError("the Dask scheduler went away, and its client has given it up")
                with suppress(InputError):
                    self.client = self.reopen()
                    return
            else:
                time.sleep(1.0)
        raise LostSchedulerError(f"the Dask scheduler did not come back within {self.patience:.0f} seconds")

    def list_workers(self) -> list[str] | None:
        """Addresses of the workers that have the resources; None for all, where none are asked for."""
        return sorted(list_workers_with(self.client, self.resources)) if self.resources else None


@dataclass(slots=True)
class Workers:
    """Workers that have been sent a job, all of one kind."""

    cluster: Cluster
    """Where they are."""
    job: Job
    """What they have been sent."""
    check: Callable[[], None]
    """Called at least every second while they work; what it raises ends the work."""
    plugin: str = ""
    """The name under which they have the job."""
    device: str = ""
    """What they generate on."""

    @property
    def client(self) -> distributed.Client:
        """A client of them."""
        return self.cluster.client

    def count_threads(self) -> int:
        """Threads of all workers that are there; 0 where the scheduler does not say."""
        with suppress(OSError, ValueError):
            return sum(self.client.nthreads().values())
        return 0

    def run(
        self,
        work: Callable[[Job, int], T],
        indices: Iterable[int],
        on_retry: Callable[[int], None] = lambda index: None,
    ) -> Iterator[tuple[int, T | Failure]]:
        """Have them do numbered parts of the job; results come in the order of their ends, see `run_tasks`.

        A scheduler that is lost is waited for, and what is left is done then.

        Args:
            work: From the job and a number to a result; a function of a module.
            indices: The numbers.
            on_retry: Called with the number of a part that is going to be tried again.
        """
        left = dict.fromkeys(indices)
        while left:
            try:
                for index, result in run_tasks(self.client, self._describe(work, on_retry), list(left)):
                    del left[index]
                    yield index, result
            except LostSchedulerError:
                self._rejoin()
            except CloudganError:
                raise
            except Exception:  # whatever Dask raises of a client that has just lost its scheduler
                if self.client.status == "running":
                    raise
                self._rejoin()

    def _describe(self, work: Callable[[Job, int], T], on_retry: Callable[[int], None]) -> Run[T]:
        return Run(
            task=partial(run_part, work, self.plugin, self.device),
            name=f"{self.plugin}-{work.__name__}",
            ask=partial(eval, make_question(self.plugin, self.device)),
            topic=self.plugin,
            work=work.__name__,
            check=self.check,
            on_retry=on_retry,
            patience=self.cluster.patience,
            resources=self.cluster.resources,
        )

    def send_job(self) -> None:
        """Send the job to the workers that are there, and to those that come.

        Raises:
            ClusterError: The scheduler went away, or workers do as often as it is tried.
        """
        prefix = f"cloudgan-{hashlib.sha256(self.job.store.location.encode()).hexdigest()[:12]}-"
        _cancel_others(self.client, prefix)
        # A name of this run alone: the scheduler may still hold a failed task of a run before.
        self.plugin = f"{prefix}{uuid.uuid4().hex[:12]}"
        for plugin in (DeathWatch(self.plugin), JobPlugin(self.plugin, self.job)):
            for last in (False, False, True):
                try:
                    self.client.register_plugin(plugin)
                    break
                except OSError as error:  # a worker that dies at this moment takes the whole round with it
                    if last:
                        raise ClusterError(
                            f"the job cannot be sent to the workers ({explain_error(error)}); "
                            "run the same command again"
                        ) from error

    def take_back_job(self) -> None:
        """Let the workers forget the job; nothing is raised where they are gone."""
        if self.client.status == "running":  # the scheduler may be gone, and with it the plugin
            with suppress(Exception):
                _forget_plugin(self.client, self.plugin)

    def _rejoin(self) -> None:
        """Wait for the scheduler, and send the job to whoever is there then.

        Raises:
            LostSchedulerError: It does not come back.
        """
        log.warning("the Dask scheduler is lost; waiting for it")
        deadline = time.monotonic() + self.cluster.patience
        while True:
            self.cluster.wait_for_scheduler(deadline, self.check)
            try:
                self.send_job()
            except Exception:  # as above: it goes away again, or the client has not noticed yet
                time.sleep(1.0)
                continue
            log.warning("the Dask scheduler is back; what was in flight is done again")
            return


@contextmanager
def share_job(
    job: Job, cluster: Cluster | distributed.Client, check: Callable[[], None] = lambda: None
) -> Iterator[Workers]:
    """Send a job to the workers of a cluster, for as long as the context lasts.

    Args:
        job: What they are to know.
        cluster: Where they are.
        check: See `Workers.check`.

    Raises:
        InputError: They are of different kinds.
        ClusterError: They went away.
    """
    workers = Workers(cluster if isinstance(cluster, Cluster) else Cluster(cluster), job, check)
    try:
        workers.send_job()
        workers.device = _find_common_device(workers)
        yield workers
    finally:
        workers.take_back_job()


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
            _forget_plugin(client, name)


def _forget_plugin(client: distributed.Client, name: str) -> None:
    """Unregister the two plugins of a run; one may have gone with its scheduler."""
    for of_nannies in (False, True):
        with suppress(OSError, ValueError, KeyError):
            client.unregister_worker_plugin(name, nanny=of_nannies)


def _list_plugins(prefix: str, dask_worker: Any) -> list[str]:
    """Names of a worker's plugins for a store; Dask gives the worker by the argument's name."""
    return [name for name in dask_worker.plugins if name.startswith(prefix)]


def _find_common_device(workers: Workers) -> str:
    """What the workers generate on, which must be one kind: their rounding differs."""
    which = workers.cluster.list_workers()
    answers = workers.client.run(find_device, workers.plugin, workers=which, on_error="return").values()
    kinds = sorted({answer for answer in answers if isinstance(answer, str)})
    if len(kinds) > 1:
        raise InputError(
            f"the workers generate on {' and '.join(kinds)}, which round differently; "
            "give workers of one kind, or pin the work units by --resources"
        )
    for error in answers:
        if not kinds and isinstance(error, CloudganError):
            raise error
    if not kinds:
        raise ClusterError("no worker answers any more; run the same command again")
    return kinds[0]


def keep_worker(cluster: Cluster) -> distributed.Future[int]:
    """Ask for a worker, and wait for it.

    Returns:
        A result; as long as it is kept, a cluster that scales by itself keeps a worker for it.

    Raises:
        InputError: There is none.
    """
    # A cluster that scales by itself, and has no worker yet, starts one only for a task that waits.
    client, patience = cluster.client, cluster.patience
    kept = client.submit(int, pure=False, resources=dict(cluster.resources) or None)
    try:
        with client.as_current():
            distributed.wait(kept, timeout=patience)
    except CancelledError as error:
        raise LostSchedulerError("the Dask scheduler went away") from error
    except TimeoutError as error:
        has = f" with {format_resources(cluster.resources)}" if cluster.resources else ""
        raise InputError(
            f"the Dask scheduler at {client.scheduler_info()['address']} got no workers{has} in "
            f"{patience:g} seconds; start some, or give a longer --wait, then run again"
        ) from error
    return kept


def check_workers(cluster: Cluster, plans: Iterable[Plan]) -> Requirements:
    """Refuse workers that would compute something else, or whose memory cannot hold the units of a plan.

    Returns:
        What those that join later must have too.

    Raises:
        InputError: There is one that will not do.
        ClusterError: They went away.
    """
    which = cluster.list_workers()
    try:
        answers = cluster.client.run(list_versions, workers=which)
    except Exception as error:  # whatever a worker says that cannot import us
        raise InputError(
            f"the workers cannot run cloudgan ({error}); give them cloudgan {__version__}, as here"
        ) from error
    if not answers:
        raise ClusterError("no worker answers any more; run the same command again")
    requirements = Requirements.of_workers(answers, max(plan.memory for plan in plans))
    for address, worker in cluster.client.scheduler_info(n_workers=-1)["workers"].items():
        if address not in answers:
            continue
        shortage = requirements.find_shortage(worker["memory_limit"], worker["nthreads"])
        if shortage:
            raise InputError(f"worker {address} {shortage}")
    return requirements

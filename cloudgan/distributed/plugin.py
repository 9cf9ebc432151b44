"""What brings a job to workers, and what they are asked and told with it."""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
from collections.abc import Callable
from typing import Any, TypeVar

import distributed
from distributed.diagnostics.plugin import WorkerPlugin

from cloudgan.distributed import metrics
from cloudgan.distributed.arrival import pack
from cloudgan.distributed.deaths import LastWord
from cloudgan.distributed.pool import Refusal
from cloudgan.distributed.report import UnitReport
from cloudgan.distributed.scheduling import Failure
from cloudgan.distributed.worker import Job, process_unit
from cloudgan.errors import CloudganError, ClusterError
from cloudgan.io.gdal import list_foreign_drivers, missing_options
from cloudgan.object_stores import explain_error
from cloudgan.stac.signing import forget_signatures

T = TypeVar("T")

log = logging.getLogger(__name__)


class JobPlugin(WorkerPlugin):
    """Brings the job to every worker once, also to one that joins or is restarted in the middle.

    A worker that differs from those with which the run began refuses: its pixels would differ.
    """

    def __init__(self, name: str, job: Job) -> None:
        self.name = name
        self.job = job
        self.refusal: str | None = None
        self.added: list[str] = []
        self.last_word: LastWord | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return pack("WorkerPlugin", self.name, self.job.requirements.versions, JobPlugin, self.name, self.job)

    async def setup(self, worker: Any) -> None:
        """See whether this worker will do, and set GDAL's options in its process."""
        limit, threads = worker.memory_manager.memory_limit, worker.state.nthreads
        self.refusal = self.job.requirements.find_refusal(limit, threads)
        if self.refusal is None:
            try:
                foreign = await asyncio.to_thread(list_foreign_drivers)
            except (OSError, subprocess.SubprocessError) as error:
                self.refusal = f"cannot list the formats of its GDAL ({explain_error(error)})"
        if self.refusal is not None:
            log.warning("this worker gets no units of %s: it %s", self.name, self.refusal)
            return
        self.last_word = LastWord(worker, self.name)
        for option, value in (missing_options(os.environ) | {"GDAL_SKIP": foreign}).items():
            if option not in os.environ:
                os.environ[option] = value
                self.added.append(option)

    def teardown(self, worker: Any) -> None:
        """Leave the environment as it was: a worker may be a thread of somebody's own process."""
        if self.last_word is not None:
            self.last_word.stop()
        while self.added:
            os.environ.pop(self.added.pop(), None)

    def find_refusal(self, device: str) -> str | None:
        """Why this worker does not work on the job; None where it does.

        Args:
            device: What the others generate on.
        """
        if self.refusal is not None:
            return self.refusal
        try:
            own = self.job.generator.runs_on
        except CloudganError as error:  # of its ONNX Runtime
            return f"cannot open the generator ({error})"
        return None if own == device else f"generates on a {own}, the others on a {device}"


def make_question(plugin: str, device: str) -> str:
    """What a worker evaluates to say why it does not work on a job; None where it does.

    As text: a worker whose cloudgan lacks a function that is sent drops its connection, and hangs.

    Args:
        plugin: Name of the plugin that brought the job.
        device: What all workers generate on.
    """
    found = f"worker.plugins[{plugin!r}].find_refusal({device!r})"
    asked = f"{found} if {plugin!r} in worker.plugins else 'has not got the job'"
    return f"(lambda worker: {asked})(__import__('distributed').get_worker())"


def find_device(plugin: str, dask_worker: Any) -> str:
    """What a worker generates on, "cpu" or "gpu"; Dask gives the worker by the argument's name.

    Raises:
        ClusterError: It refuses the job.
    """
    sent: JobPlugin = dask_worker.plugins[plugin]
    if sent.refusal:
        raise ClusterError(f"worker {dask_worker.address} {sent.refusal}")
    return sent.job.generator.runs_on


def run_part(work: Callable[[Job, int], T], plugin: str, device: str, index: int) -> T | Failure | Refusal:
    """Do a numbered part of the job that this worker was sent; what goes wrong is returned, not raised.

    Args:
        work: What to do; a function of a module.
        plugin: Name of the plugin that brought the job.
        device: What all workers generate on.
        index: Number of the part.
    """
    worker = distributed.get_worker()
    sent = worker.plugins.get(plugin)
    refusal = sent.find_refusal(device) if isinstance(sent, JobPlugin) else "has not got the job"
    if not isinstance(sent, JobPlugin) or refusal is not None:
        return Refusal(worker.address, refusal or "")
    try:
        # The scheduler knows of it before the work begins: this worker may not live to tell.
        begun = {"worker": worker.address, "work": work.__name__, "unit": index}
        distributed.utils.sync(worker.loop, worker.scheduler.log_event, topic=plugin, msg=begun)
        result = work(sent.job, index)
    except (
        Exception
    ) as error:  # returned as plain data: GDAL's own errors do not survive the way to the client
        forget_signatures()  # one of them may have been refused: the next try signs anew
        failure = Failure.of(error, worker.address)
        log.warning("%s %d failed on this worker: %s", work.__name__, index, failure.reason)
        if work is process_unit:
            metrics.count_failed()
        return failure
    if isinstance(result, UnitReport):
        metrics.count_done(result)
    return result

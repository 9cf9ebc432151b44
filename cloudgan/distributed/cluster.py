"""Workers of our own on this machine, or a connection to somebody's scheduler."""

from __future__ import annotations

import signal
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import dask
import distributed
from dask.system import CPU_COUNT
from distributed.system import MEMORY_LIMIT

from cloudgan.errors import InputError


def divide_machine(workers: int | None, memory: int | None) -> tuple[int, int]:
    """How many workers to start on this machine, and the bytes of memory of each.

    Args:
        workers: How many are wanted; None is one a core, as far as the memory goes.
        memory: Bytes that each is to have; None is an equal share.

    Raises:
        InputError: The machine has not so much memory.
    """
    if memory is not None and memory > MEMORY_LIMIT:
        raise InputError(
            f"--memory {memory / 1e9:g}GB is more than this machine has, {MEMORY_LIMIT / 1e9:.1f} GB; "
            "give less"
        )
    fitting = CPU_COUNT if memory is None else min(CPU_COUNT, MEMORY_LIMIT // memory)
    count = workers or fitting
    return count, memory or MEMORY_LIMIT // count


def count_threads(workers: int) -> int:
    """Tiles that each of so many workers generates at once: cores without a unit of their own still help."""
    return max(1, CPU_COUNT // workers)


_OWN_CLUSTER = {
    # The limit is a fuse, not the budget: a unit stays within the budget by its plan.
    **{f"distributed.worker.memory.{name}": False for name in ("target", "spill", "pause")},
    # Dask's pages ask nobody who he is: other users of the machine would see logs and tasks.
    **{f"distributed.{role}.http.routes": [] for role in ("scheduler", "worker")},
}
"""Dask's settings for workers of our own."""


@contextmanager
def start_workers(workers: int, memory: int | None) -> Iterator[distributed.Client]:
    """A client of worker processes on this machine, which end with the context.

    Whoever reaches a scheduler runs code on its workers, and all users of a machine reach its loopback. So
    they speak TLS with a certificate that this call makes and that only these processes have.

    Args:
        workers: How many.
        memory: Bytes at which one is restarted; None is an equal share of the machine's.
    """
    with tempfile.TemporaryDirectory(prefix="cloudgan-", ignore_cleanup_errors=True) as scratch:
        # Dask makes a folder of locks there, which stays.
        settings = _OWN_CLUSTER | {"temporary-directory": scratch}
        with dask.config.set(settings), _ignore_interrupts():
            cluster = distributed.LocalCluster(
                n_workers=workers,
                threads_per_worker=1,
                memory_limit=memory or "auto",
                security=distributed.Security.temporary(),
                dashboard_address="127.0.0.1:0",
                scheduler_kwargs={"dashboard": False},
                local_directory=scratch,  # Dask's own stays behind
            )
        with cluster, distributed.Client(cluster) as client:
            yield client


@contextmanager
def connect(scheduler: str) -> Iterator[distributed.Client]:
    """A client of a scheduler that is there; its workers stay.

    Args:
        scheduler: Its address, such as `tcp://host:8786`. How long it may take to answer is Dask's own
            setting, `distributed.comm.timeouts.connect`.

    Raises:
        InputError: It does not answer.
    """
    try:
        client = distributed.Client(scheduler)
    except (OSError, ValueError, TypeError) as error:
        remedy = (
            "check the address, and the certificate that DASK_DISTRIBUTED__COMM__TLS__CA_FILE, "
            "__CLIENT__CERT and __CLIENT__KEY name"
            if scheduler.startswith("tls:")
            else "check the address, as in tcp://host:8786, or tls://host:8786 where it is encrypted"
        )
        raise InputError(f"no Dask scheduler answers at {scheduler} ({error}); {remedy}") from error
    with client:
        yield client


@contextmanager
def _ignore_interrupts() -> Iterator[None]:
    """Processes started in here leave Ctrl-C to this one; a terminal sends it to all of them."""
    if threading.current_thread() is not threading.main_thread():  # only the main thread may set handlers
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)

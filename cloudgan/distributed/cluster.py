"""Workers of our own on this machine, or a connection to somebody's scheduler."""

from __future__ import annotations

import json
import logging
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import dask
import distributed
from dask.system import CPU_COUNT
from distributed.system import MEMORY_LIMIT

from cloudgan.errors import InputError
from cloudgan.object_stores import explain_error

log = logging.getLogger(__name__)


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
"""Dask's settings for workers of our own, as they start."""
_NEVER = {"distributed.deploy.lost-worker-timeout": "10000 days"}
"""So long after a worker is lost, Dask gives up its nanny if no worker stands in its place at that moment:
one that was lost again just then would never come back."""


@contextmanager
def start_workers(
    workers: int, memory: int | None, resources: Mapping[str, float] | None = None
) -> Iterator[distributed.Client]:
    """A client of worker processes on this machine, which end with the context.

    Whoever reaches a scheduler runs code on its workers, and all users of a machine reach its loopback. So
    they speak TLS with a certificate that this call makes and that only these processes have.

    Args:
        workers: How many.
        memory: Bytes at which one is restarted; None is an equal share of the machine's.
        resources: What each of them has, by Dask's names.
    """
    with tempfile.TemporaryDirectory(prefix="cloudgan-", ignore_cleanup_errors=True) as scratch:
        # Dask makes a folder of locks there, which stays.
        settings = _OWN_CLUSTER | {"temporary-directory": scratch}
        with dask.config.set(settings), _ignore_interrupts():
            cluster = distributed.LocalCluster(
                n_workers=workers,
                threads_per_worker=1,
                memory_limit=memory or "auto",
                resources=dict(resources or {}) or None,
                security=distributed.Security.temporary(),
                dashboard_address="127.0.0.1:0",
                scheduler_kwargs={"dashboard": False},
                local_directory=scratch,  # Dask's own stays behind
            )
        with dask.config.set(_NEVER), cluster, distributed.Client(cluster) as client:
            yield client


@contextmanager
def connect(scheduler: str, patience: float = 0.0) -> Iterator[distributed.Client]:
    """A client of a scheduler that is there, or comes; its workers stay.

    Args:
        scheduler: Its address, such as `tcp://host:8786`; a scheduler file; or a cluster of dask-gateway,
            `gateway://NAME`.
        patience: Seconds that it may take to answer, beyond Dask's own `distributed.comm.timeouts.connect`.

    Raises:
        InputError: It does not answer.
    """
    with (
        # A client that has lost its scheduler stays the default of the process, and xarray would ask it.
        dask.config.set(scheduler=dask.config.get("scheduler", None)),
        _wait_for_client(scheduler, patience) as client,
    ):
        yield client


def _wait_for_client(scheduler: str, patience: float) -> distributed.Client:
    deadline = time.monotonic() + patience
    while True:
        try:
            return _open_client(scheduler)
        except (OSError, ValueError, TypeError) as error:
            # A setting that is wrong, such as a missing certificate, does not heal.
            if not isinstance(error, OSError) or time.monotonic() >= deadline:
                raise InputError(
                    f"no Dask scheduler answers at {scheduler} ({explain_error(error)}); "
                    f"{_suggest_remedy(scheduler)}"
                ) from error
            log.warning("no Dask scheduler answers at %s yet; waiting for it", scheduler)
            time.sleep(min(5.0, patience))


@contextmanager
def record_performance(client: distributed.Client, write: Callable[[bytes], None]) -> Iterator[None]:
    """Have Dask record what its workers do in here, as far as it can.

    Args:
        client: Where they are.
        write: Called at the end with the page that shows it; not where bokeh is missing, here or on the
            scheduler, or where the scheduler has been lost meanwhile.
    """
    if find_spec("bokeh") is None:  # a scheduler of our own, in this process, would print a traceback
        yield
        return
    with tempfile.TemporaryDirectory(prefix="cloudgan-") as folder:
        page = Path(folder) / "performance.html"
        recorder = distributed.performance_report(filename=str(page))
        with client.as_current():
            recorder.__enter__()
        yield
        try:
            with client.as_current():
                recorder.__exit__(None, None, None)
            body = page.read_bytes()
        except Exception as error:  # bokeh's, the scheduler's; the run itself is fine
            log.info("Dask shows no performance (%s)", explain_error(error))
            return
    write(body)


def _suggest_remedy(scheduler: str) -> str:
    """What to do about a scheduler that does not answer."""
    if is_scheduler_file(scheduler):
        return "check the file that dask scheduler --scheduler-file writes, and that this machine sees it"
    if scheduler.startswith("tls:"):
        return (
            "check the address, and the certificate that DASK_DISTRIBUTED__COMM__TLS__CA_FILE, "
            "__CLIENT__CERT and __CLIENT__KEY name"
        )
    return (
        "check the address, as in tcp://host:8786, or tls://host:8786 where it is encrypted; a scheduler "
        "file is named .json"
    )


def is_scheduler_file(scheduler: str) -> bool:
    """Whether a scheduler is named by the file in which it writes its address."""
    return "://" not in scheduler and scheduler.endswith(".json")


def _open_client(scheduler: str) -> distributed.Client:
    if scheduler.startswith("gateway://"):
        return _open_gateway(scheduler)
    if not is_scheduler_file(scheduler):
        return distributed.Client(scheduler)
    try:
        address = json.loads(Path(scheduler).read_text(encoding="utf-8"))["address"]
    except (ValueError, KeyError, TypeError):  # it is being written, or is another file
        raise OSError("it states no address") from None
    return distributed.Client(address)


def _open_gateway(scheduler: str) -> distributed.Client:
    """A client of a running cluster of dask-gateway.

    Args:
        scheduler: `gateway://NAME`, or the address that dask-gateway shows, which ends in the name.

    Raises:
        InputError: The client of dask-gateway is not installed, or knows no such cluster.
    """
    try:
        import dask_gateway
    except ImportError as error:
        raise InputError(
            f"{scheduler} is a cluster of dask-gateway, whose client is not installed; pip install "
            "dask-gateway, or call cloudgan.run_batch(config, client=cluster.get_client())"
        ) from error
    name = scheduler.rstrip("/").rpartition("/")[2]
    try:
        cluster = dask_gateway.GatewayCluster.from_name(name, shutdown_on_close=False)
        client: distributed.Client = cluster.get_client()
    except Exception as error:  # of the gateway's client, which has its own types
        raise InputError(
            f"dask-gateway gives no cluster {name} ({explain_error(error)}); check the name, and the address "
            "of the gateway in DASK_GATEWAY__ADDRESS"
        ) from error
    return client


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

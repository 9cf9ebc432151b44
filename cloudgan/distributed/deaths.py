"""What workers die of, told by their nannies, so that the right thing is blamed.

Each unit that is begun, and each end of a worker, is an event on the scheduler, to which the client listens.
Dask itself counts the ends of a unit's workers, but not why they ended: a node that is drained ends its
workers by SIGTERM, which says nothing against the unit.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import threading
from collections import Counter, defaultdict
from collections.abc import Collection
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any

import distributed
from distributed.core import Status
from distributed.diagnostics.plugin import NannyPlugin

from cloudgan.distributed.arrival import pack
from cloudgan.distributed.requirements import list_versions

GRACE = 3.0
"""Seconds that a nanny may take to say what became of a worker that is gone."""
MEMORY, CLOSED = "memory", "closed"
"""Ends of a worker beside `signal N` and `exit N`: its nanny ended it at its limit; it was told to close."""
_LAST_WORD = 0.5  # seconds that a worker may take to tell of a signal before it ends by it
_LEAVING = (Status.closing, Status.closing_gracefully, Status.closed)
_HARMLESS = {CLOSED, f"signal {int(signal.SIGTERM)}", f"signal {int(signal.SIGINT)}", "exit 0"}

log = logging.getLogger(__name__)


class DeathWatch(NannyPlugin):
    """Tells how the worker of a nanny ends, on the topic of a run."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __reduce__(self) -> tuple[Any, ...]:
        return pack("NannyPlugin", self.name, list_versions(), DeathWatch, self.name)

    def setup(self, nanny: Any) -> None:
        """Hear of the ends of its processes, the one that runs and those to come."""
        if not hasattr(nanny, "cloudgan_watches"):  # one hook, however many runs it sees
            nanny.cloudgan_watches = []
            hook = _Hook(nanny)
            nanny._on_worker_exit_sync = hook
            if nanny.process is not None:
                nanny.process.on_exit = hook
        nanny.cloudgan_watches.append(self)

    async def teardown(self, nanny: Any) -> None:
        """Tell that the nanny ends, and its worker with it, where that is why it is called."""
        if self in nanny.cloudgan_watches:
            nanny.cloudgan_watches.remove(self)
        if nanny.status in _LEAVING and nanny.worker_address is not None:
            await _tell_end(nanny, self.name, nanny.worker_address, CLOSED)


class _Hook:
    """Called by a nanny when its worker's process has ended."""

    def __init__(self, nanny: Any) -> None:
        self._nanny, self._inner = nanny, nanny._on_worker_exit_sync
        self._terminated = self._get_terminated()
        self._telling: set[asyncio.Task[None]] = set()  # asyncio itself does not hold them

    def __call__(self, exitcode: int) -> None:
        nanny, terminated = self._nanny, self._get_terminated()
        end = f"signal {-exitcode}" if exitcode < 0 else f"exit {exitcode}"
        if nanny.status in _LEAVING:
            end = CLOSED
        elif terminated != self._terminated:
            end, self._terminated = MEMORY, terminated
        for watch in nanny.cloudgan_watches:
            telling = asyncio.ensure_future(_tell_end(nanny, watch.name, nanny.worker_address, end))
            self._telling.add(telling)
            telling.add_done_callback(self._telling.discard)
        self._inner(exitcode)

    def _get_terminated(self) -> int | None:
        """Process id of the last worker that the nanny ended because of its memory."""
        found: int | None = getattr(self._nanny.memory_manager, "_last_terminated_pid", None)
        return found


class LastWord:
    """Has a worker that no nanny watches tell of its SIGTERM itself, before it ends by it."""

    def __init__(self, worker: Any, topic: str) -> None:
        """Listen for the signal, where this is the worker's own process.

        Args:
            worker: Dask's worker; called on its loop.
            topic: Of the run.
        """
        self._worker, self._topic = worker, topic
        self._loop = asyncio.get_running_loop()
        self._before: Any = None
        if worker.nanny is None and threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGTERM, self._tell)

    def _tell(self, number: int, frame: Any) -> None:
        self._loop.call_soon_threadsafe(self._end, number)

    def _end(self, number: int) -> None:
        end = {"worker": self._worker.address, "end": f"signal {number}"}
        self._worker.log_event(self._topic, end)
        self.stop()
        self._loop.call_later(_LAST_WORD, os.kill, os.getpid(), number)

    def stop(self) -> None:
        """Leave the signal to whom it was before."""
        if self._before is not None and signal.getsignal(signal.SIGTERM) == self._tell:
            signal.signal(signal.SIGTERM, self._before)
        self._before = None


async def _tell_end(nanny: Any, topic: str, worker: str, end: str) -> None:
    """Tell how a worker ended, if the scheduler is there to hear it."""
    with suppress(OSError, RuntimeError):
        await nanny.scheduler.log_event(topic=topic, msg={"worker": worker, "end": end})


class Deaths:
    """The ends of workers while they were at work on units."""

    def __init__(self, client: distributed.Client, topic: str, work: str) -> None:
        """Listen to what is told from now on.

        Args:
            client: Where the workers are.
            topic: Of the run.
            work: Name of what is done of the units.
        """
        self._events: SimpleQueue[tuple[float, dict[str, Any]]] = SimpleQueue()
        self._work = work
        self._at_work: defaultdict[int, list[str]] = defaultdict(list)
        self._ends: defaultdict[int, list[str | None]] = defaultdict(list)
        client.subscribe_topic(topic, self._events.put)

    def update(self) -> None:
        """Take note of what was told since."""
        while True:
            try:
                _, event = self._events.get_nowait()
            except Empty:
                return
            if event.get("work") == self._work:
                self._at_work[event["unit"]].append(event["worker"])
            elif "end" in event:
                self._end(event["worker"], event["end"])

    def _end(self, worker: str, end: str) -> None:
        struck = [unit for unit, workers in self._at_work.items() if worker in workers]
        for unit in struck:
            self._at_work[unit].remove(worker)
            self._ends[unit].append(end)
        if struck or end not in _HARMLESS:
            units = f" while it worked on unit {', '.join(map(str, sorted(struck)))}" if struck else ""
            log.warning("worker %s %s%s", worker, describe_end(end), units)

    def is_explained(self, unit: int, workers: Collection[str]) -> bool:
        """Whether it is known how each worker ended that had begun a unit and is gone.

        Args:
            unit: Its number.
            workers: Those that are there.
        """
        self.update()
        return all(worker in workers for worker in self._at_work.get(unit, ()))

    def count(self, unit: int, workers: Collection[str]) -> Counter[str | None]:
        """How often workers ended that worked on a unit, and how, but for ends that say nothing against it.

        Args:
            unit: Its number.
            workers: Those that are there; one that is gone without a word ended by None.
        """
        self.update()
        silent = [worker for worker in self._at_work.get(unit, ()) if worker not in workers]
        for worker in silent:
            self._at_work[unit].remove(worker)
            self._ends[unit].append(None)
        return Counter(end for end in self._ends.get(unit, ()) if end not in _HARMLESS)

    def forget(self, unit: int) -> None:
        """A try of a unit has come to its own end."""
        self.update()
        self._at_work.pop(unit, None)
        self._ends.pop(unit, None)


def describe_end(end: str | None) -> str:
    """How a worker ended, as a verb with its object."""
    if end is None:
        return "went away without a word, as with its machine, its pod or its network"
    if end == MEMORY:
        return "ran out of memory and was ended by its nanny"
    if end == CLOSED:
        return "was told to close, as by SIGTERM or by scaling down"
    kind, _, number = end.partition(" ")
    if kind == "exit":
        return f"exited with status {number}"
    try:
        name = signal.Signals(int(number)).name
    except ValueError:
        name = "unknown"
    why = ", as the kernel does when memory runs out" if name == "SIGKILL" else ""
    verb = "terminated" if name == "SIGTERM" else "killed"
    return f"was {verb} by signal {number} ({name}){why}"


def explain_deaths(ends: Counter[str | None]) -> str:
    """Why a unit is given up whose workers ended so, in one sentence with the remedy."""
    count = sum(ends.values())
    parts = "; ".join(
        f"{number} {describe_end(end) if number == 1 else describe_end(end).replace('was ', 'were ')}"
        for end, number in ends.most_common()
    )
    if ends.keys() & {MEMORY, f"signal {int(signal.SIGKILL)}"}:
        remedy = "give workers more memory, or fewer threads"
    elif ends.keys() == {None}:
        remedy = "read their logs, and give workers more memory if their machines ran out of it"
    else:
        remedy = "a library of theirs crashed: give them the versions of GDAL and ONNX Runtime of uv.lock"
    workers = "1 worker" if count == 1 else f"{count} workers"
    return f"{workers} died while they worked on it: {parts}; {remedy}"

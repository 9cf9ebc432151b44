"""The demonstration job, again and again, while workers and clients die and servers and disks refuse.

    .venv/bin/python tests/chaos.py --runs 20

Each run draws its misfortunes from the seed: files and catalogue are behind a server that answers some
requests with 429 or 503, cuts them short or resets them; a worker or the client is killed, or one worker or
all may not write files for a while. A run is well if it ends with the bytes of an undisturbed one, or with a
failure that it names and that the same command, run again undisturbed, heals to these bytes. What is not, is
lost.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import multiprocessing
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from misbehaving import Fault, Server, behaved, files, now_and_then, serving
from networks import write_network
from stores import read_store

from cloudgan.demonstration.catalogue import Demo, write_catalog
from cloudgan.io.store.access import HOME

HTTP_FAULTS = (Fault.BUSY, Fault.UNAVAILABLE, Fault.RESET, Fault.TRUNCATED)
BLOWS = ("worker killed", "client killed", "client terminated", "one disk full", "all disks full")
PATIENCE = 280
"""Seconds after which a command that does not end is a defect."""


@dataclass
class Tally:
    """What was done to the runs, and what became of them."""

    faults: Counter[str] = field(default_factory=Counter)
    """How often what was inflicted."""
    ends: Counter[str] = field(default_factory=Counter)
    """How many runs survived, were healed by a rerun, or are lost."""
    losses: list[str] = field(default_factory=list)
    """What is wrong with those that are lost."""

    def as_json(self) -> dict[str, object]:
        """In figures."""
        ends = {name: self.ends[name] for name in ("survived", "healed", "lost")}
        faults = dict(sorted(self.faults.items()))
        return {"runs": sum(ends.values()), **ends, "faults": faults, "losses": self.losses}


@dataclass(frozen=True)
class Stage:
    """What all runs share: the sources behind a server, a cluster, a generator."""

    demo: Demo
    server: Server
    model: Path
    scheduler_file: Path
    nannies: int
    """Process id of the nannies' process; its children are the workers."""

    def arguments(self, out: Path) -> list[str]:
        """The job, in a few units, as arguments of the command."""
        address = json.loads(self.scheduler_file.read_text())["address"]
        options = {
            "--aoi": self.demo.aoi,
            "--dates": "2020-05-01/2020-05-20",
            "--stac": f"{self.server.url}/catalog.json",
            "--model": self.model,
            "--out": out,
            "--scheduler": address,
            "--resolution": 4,
            "--memory": "0.75GB",
        }
        return ["batch", *(str(word) for pair in options.items() for word in pair), "--json"]

    def workers(self) -> list[int]:
        """Process ids of the workers that live now."""
        found = []
        for path in Path(f"/proc/{self.nannies}/task").glob("*/children"):
            with suppress(OSError):
                found += [int(pid) for pid in path.read_text().split()]
        return [pid for pid in found if "spawn_main" in _command_line(pid)]


def _command_line(pid: int) -> str:
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_text()
    return ""


class Client:
    """The command in a process of its own, forked from one that has imported everything."""

    _forks = multiprocessing.get_context("forkserver")

    def __init__(self, arguments: list[str], folder: Path) -> None:
        self._forks.set_forkserver_preload(["cloudgan.cli.app", "cloudgan.batch"])
        self._streams = [folder / "stdout", folder / "stderr"]
        self.process = self._forks.Process(target=_command, args=(arguments, *self._streams))
        self.process.start()

    def is_over(self) -> bool:
        """Whether it has ended."""
        return self.process.exitcode is not None

    def end(self) -> tuple[int, str, str]:
        """Wait for it: its exit code, or minus the signal that killed it, and what it printed."""
        self.process.join(PATIENCE)
        if self.process.exitcode is None:
            self.process.kill()
            self.process.join()
            raise TimeoutError(f"a run did not end: {self._streams[1].read_text()[-2000:]}")
        streams = [path.read_text() if path.exists() else "" for path in self._streams]
        return self.process.exitcode, streams[0], streams[1]


def _command(arguments: list[str], out: Path, err: Path) -> None:
    for number, path in ((1, out), (2, err)):
        with path.open("w") as file:
            os.dup2(file.fileno(), number)
    from cloudgan.cli.app import main

    main(arguments)


@contextmanager
def stage(folder: Path) -> Iterator[Stage]:
    """Two workers on a scheduler of their own, and the demonstration behind a server."""
    days = [dt.date(2020, 5, day) for day in (5, 10, 15, 20)]
    demo = write_catalog(folder / "demo", dates=days)
    model = write_network(folder / "mean.onnx", tile=64)
    file = folder / "scheduler.json"
    quick = {"GDAL_HTTP_RETRY_DELAY": "0.1", "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "20"}
    common = ["--scheduler-file", str(file), "--no-dashboard"]
    calls = [
        ["dask_scheduler", "--host", "127.0.0.1", "--port", "0"],
        ["dask_worker", "--nworkers", "2", "--nthreads", "1", "--memory-limit", "0"],
    ]
    with serving(files(demo.catalog.parent)) as server, (folder / "cluster.log").open("w") as log:
        processes = [
            subprocess.Popen(
                [sys.executable, "-m", f"distributed.cli.{name}", *words, *common],
                stdout=log,
                stderr=log,
                env=os.environ | quick,
            )
            for name, *words in calls
        ]
        try:
            deadline = time.monotonic() + PATIENCE
            while not file.exists() and time.monotonic() < deadline:
                time.sleep(0.1)
            yield Stage(demo, server, model, file, processes[1].pid)
        finally:
            for process in reversed(processes):
                process.terminate()
                process.wait()


def strike(stage: Stage, blow: str, client: Client, dice: random.Random) -> bool:
    """Do one thing to a run; whether there was anything to do it to."""
    workers = stage.workers()
    if client.is_over() or not workers:
        return False
    victim = dice.choice(workers)
    with suppress(ProcessLookupError):
        if blow == "worker killed":
            os.kill(victim, signal.SIGKILL)
        elif blow == "one disk full":
            _refuse_writes([victim], dice.uniform(0.5, 4.0))
        elif blow == "all disks full":
            _refuse_writes(workers, dice.uniform(2.0, 20.0))
        else:
            os.kill(client.process.pid, signal.SIGKILL if blow == "client killed" else signal.SIGTERM)
        return True
    return False


def _refuse_writes(pids: list[int], seconds: float) -> None:
    """Keep processes from writing files of over 300 bytes for a while: a shard is larger."""
    for largest in (300, resource.RLIM_INFINITY):
        for pid in pids:
            with suppress(ProcessLookupError):
                resource.prlimit(pid, resource.RLIMIT_FSIZE, (largest, resource.RLIM_INFINITY))
        if largest == 300:
            time.sleep(seconds)


def disturbed(stage: Stage, out: Path, seed: str, tally: Tally) -> int:
    """One run under misfortunes: its exit code; its own words must name what failed."""
    dice = random.Random(seed)
    stage.server.misbehaves = now_and_then(seed, dice.choice([0.0, 0.02, 0.08]), HTTP_FAULTS)
    stage.server.done.clear()
    blows = dice.sample(BLOWS, dice.choice([1, 1, 2, 2]))
    moments = sorted(dice.randrange(4) for _ in blows)
    client = Client(stage.arguments(out), out.parent)
    watch = threading.Thread(target=_strikes, args=(stage, out, blows, moments, client, dice, tally))
    watch.start()
    code, printed, errors = client.end()
    watch.join()
    stage.server.misbehaves = behaved
    tally.faults.update({f"HTTP: {fault}": count for fault, count in stage.server.done.items()})
    if "Traceback" in errors:
        tally.losses.append(f"{seed}: a traceback\n{errors[-2000:]}")
    if code == 1 and not all(failed["reason"] for failed in _failed_units(printed)):
        tally.losses.append(f"{seed}: a failure without a reason")
    if code == 2 and "error: " not in errors:
        tally.losses.append(f"{seed}: refused without a word")
    return code


def _strikes(
    stage: Stage,
    out: Path,
    blows: list[str],
    moments: list[int],
    client: Client,
    dice: random.Random,
    tally: Tally,
) -> None:
    """Strike when so many units are in the ledger."""
    ledger = out / HOME / "units" / "c"
    for blow, moment in zip(blows, moments, strict=True):
        while not client.is_over() and not (ledger.exists() and len(list(ledger.iterdir())) >= moment):
            time.sleep(0.02)
        tally.faults[blow] += strike(stage, blow, client, dice)


def _failed_units(printed: str) -> list[dict[str, str]]:
    with suppress(ValueError, KeyError):
        return json.loads(printed)["report"]["failed"]
    return []


def chaos(runs: int, seed: int, folder: Path, tell: Callable[[str], None] = lambda line: None) -> Tally:
    """So many runs, each from a seed of its own."""
    tally = Tally()
    with stage(folder) as ready:
        reference = folder / "undisturbed.zarr"
        code, _, errors = Client(ready.arguments(reference), folder).end()
        if code != 0:
            raise RuntimeError(f"the undisturbed run failed: {errors}")
        wanted = read_store(reference)
        for number in range(runs):
            out = folder / f"{number}.zarr"
            code = disturbed(ready, out, f"{seed}-{number}", tally)
            end = "survived" if code == 0 else "healed"
            if code != 0:
                again, _, errors = Client(ready.arguments(out), folder).end()
                if again != 0:
                    tally.losses.append(f"{seed}-{number}: not healed\n{errors[-2000:]}")
            if not out.exists() or read_store(out) != wanted:
                tally.losses.append(f"{seed}-{number}: other bytes")
            if any(loss.startswith(f"{seed}-{number}: ") for loss in tally.losses):
                end = "lost"
            tally.ends[end] += 1
            tell(f"run {number}: exit {code}, {end}; so far {json.dumps(tally.as_json())}")
    return tally


def main() -> int:
    """Run it and print the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        tell = lambda line: sys.stderr.write(f"{line}\n")  # noqa: E731
        tally = chaos(options.runs, options.seed, Path(folder), tell)
    sys.stdout.write(json.dumps(tally.as_json(), indent=2) + "\n")
    return 0 if tally.ends["lost"] == 0 else 1


if __name__ == "__main__":
    sys.exit(main())

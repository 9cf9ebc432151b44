"""What the command costs beside the script that a user would write instead, by whole processes.

    python benchmarks/whole_runs.py CATALOGUE AOI FIRST LAST [--resolution METRES] [--rounds N]

Each round runs `cloudgan-batch`, `odc_linear.py` and `odc_median.py` once, from start to end of the process,
into stores that are thrown away. CPU seconds are those of a process and all that it started. Ratios are taken
within a round, for the rounds of a busy machine differ; the result has their median, smallest and largest.

`--with REPOSITORY` also runs the command of another checkout, as of the version before, in the same rounds.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
BASELINE = "odc-stac, linear in time"


@dataclass(frozen=True)
class Cost:
    """Of one process, with all that it started."""

    cpu: float
    """Seconds, user and system."""
    wall: float
    """Seconds."""
    memory: int
    """Bytes at most of the largest of its processes."""


def run(words: list[str], repository: Path) -> Cost:
    """Run a command to its end; its own output is shown where it fails.

    Raises:
        SystemExit: It failed.
    """
    environment = os.environ | {"PYTHONPATH": str(repository), "PYTHONWARNINGS": "ignore"}
    with tempfile.TemporaryFile() as output:
        started = time.perf_counter()
        process = subprocess.Popen(words, env=environment, stdout=output, stderr=output)
        _, status, used = os.wait4(process.pid, 0)
        wall = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            output.seek(0)
            raise SystemExit(f"{' '.join(words)} failed:\n{output.read().decode()}")
    return Cost(used.ru_utime + used.ru_stime, wall, used.ru_maxrss * 1024)


def list_contenders(options: argparse.Namespace, folder: str) -> dict[str, tuple[list[str], Path]]:
    """The commands by their names, each with the checkout that it runs of."""
    own = HERE.parent
    job = {
        "--stac": options.catalogue,
        "--aoi": options.aoi,
        "--dates": f"{options.first}/{options.last}",
        "--resolution": options.resolution,
    }
    words = [str(word) for pair in job.items() for word in pair]
    arguments = [options.catalogue, options.aoi, options.first, options.last, str(options.resolution)]

    def batch(name: str, *more: str) -> list[str]:
        call = "from cloudgan.cli.app import batch_main; batch_main()"
        return [
            sys.executable,
            "-P",
            "-c",
            call,
            *words,
            "--overwrite",
            "--out",
            f"{folder}/{name}.zarr",
            *more,
        ]

    def script(name: str) -> list[str]:
        return [sys.executable, str(HERE / f"{name}.py"), *arguments, f"{folder}/{name}.zarr"]

    found = {
        BASELINE: (script("odc_linear"), own),
        "odc-stac, median composite": (script("odc_median"), own),
        "cloudgan-batch": (batch("new"), own),
        "cloudgan-batch --model documented": (batch("documented", "--model", "documented"), own),
    }
    if options.other:
        found |= {f"cloudgan-batch of {options.other.name}": (batch("old"), options.other)}
    return found


def describe_machine() -> str:
    """Processor, cores, Python, and how busy they are."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    model = next(
        (line.partition(":")[2].strip() for line in lines if "model name" in line), platform.processor()
    )
    return (
        f"{model}, {os.cpu_count()} cores, Python {platform.python_version()}, load {os.getloadavg()[0]:.1f}"
    )


def spread(values: list[float]) -> dict[str, float]:
    """Median, smallest and largest."""
    return {
        "median": round(statistics.median(values), 2),
        "least": round(min(values), 2),
        "most": round(max(values), 2),
    }


def measure(options: argparse.Namespace) -> dict[str, object]:
    """All rounds, as ratios to the script with linear interpolation."""
    rounds: list[dict[str, Cost]] = []
    machine = [describe_machine()]
    for _ in range(options.rounds + 1):  # the first warms the page cache and the compiled modules
        with tempfile.TemporaryDirectory() as folder:
            contenders = list_contenders(options, folder)
            rounds.append({name: run(*how) for name, how in contenders.items()})
        print(f"round {len(rounds) - 1}", file=sys.stderr)
    machine.append(f"at the end load {os.getloadavg()[0]:.1f}")
    del rounds[0]
    return {
        "machine": ", ".join(machine),
        "rounds": len(rounds),
        "baseline": BASELINE,
        "contenders": {
            name: {
                "cpu over baseline": spread([one[name].cpu / one[BASELINE].cpu for one in rounds]),
                "wall over baseline": spread([one[name].wall / one[BASELINE].wall for one in rounds]),
                "cpu, s": spread([one[name].cpu for one in rounds]),
                "wall, s": spread([one[name].wall for one in rounds]),
                "memory of the largest process, MB": round(max(one[name].memory for one in rounds) / 1e6),
            }
            for name in rounds[0]
        },
    }


def main() -> None:
    """Parse the command line, measure, print JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("catalogue")
    parser.add_argument("aoi")
    parser.add_argument("first")
    parser.add_argument("last")
    parser.add_argument("--resolution", type=float, default=10)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--with", dest="other", type=Path, metavar="REPOSITORY")
    print(json.dumps(measure(parser.parse_args()), indent=2))


if __name__ == "__main__":
    main()

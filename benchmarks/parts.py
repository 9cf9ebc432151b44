"""What each part of a work unit costs: CPU milliseconds by tile of the generator.

    python benchmarks/parts.py CATALOG AOI DATES [--bands NAMES] [--masks NAMES]

The first unit of the plan is done in this process, on one thread. CATALOG may be that of `cloudgan demo`.
"""

from __future__ import annotations

import argparse
import os
import platform
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest.mock import patch

import cloudgan
from cloudgan.batch import plan_batch
from cloudgan.distributed import worker
from cloudgan.io.store.store import UnitWriter, prepare_store
from cloudgan.model.generator import Generator
from cloudgan.observations import Observations
from cloudgan.removal import inputs

PARTS: dict[str, tuple[Any, str]] = {
    "read and decode": (worker, "read_scenes"),
    "detectors": (worker, "detect_clouds"),
    "temporal test": (worker, "find_temporal_clouds"),
    "classes of pixels, snow": (worker, "classify_observations"),
    "buffer around clouds": (Observations, "opacity"),
    "radiometry of the scene": (worker, "read_radiometry"),
    "estimate": (inputs, "estimate_date"),
    "network": (Generator, "_run"),
    "compress and write": (UnitWriter, "write"),
}
"""Where each part is called."""


def main() -> None:
    """Do a unit, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("catalog")
    parser.add_argument("aoi")
    parser.add_argument("dates")
    parser.add_argument("--bands")
    parser.add_argument("--masks", default="scl")
    parser.add_argument("--resolution", type=float, default=10)
    asked = parser.parse_args()
    seconds: Counter[str] = Counter()
    calls: Counter[str] = Counter()

    def timed(name: str, inner: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            started, before = time.process_time(), seconds.total()
            found = inner(*args, **kwargs)
            seconds[name] += time.process_time() - started - (seconds.total() - before)
            calls[name] += 1
            return found

        return call

    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        config = cloudgan.BatchConfig(
            aoi=asked.aoi,
            dates=asked.dates,
            stac=asked.catalog,
            bands=asked.bands,
            mask=asked.masks,
            resolution=asked.resolution,
            out=str(Path(folder) / "out.zarr"),
        )
        planned = plan_batch(config)
        plan = next(iter(planned.zones.values()))
        job = worker.Job(
            plan,
            planned.generator,
            prepare_store(config.out, plan.store_spec()),
            detectors=planned.detectors,
        )
        for name, (home, function) in PARTS.items():
            stack.enter_context(patch.object(home, function, timed(name, getattr(home, function))))
        started = time.process_time()
        worker.process_unit(job, 0)
        whole = time.process_time() - started
    tiles = calls["network"]
    seconds["clear dates, blending and the rest"] = whole - seconds.total()
    print(
        f"{platform.machine()}, {os.cpu_count()} cores; {tiles} tiles of {plan.tiling.size} pixels, ", end=""
    )
    print(f"{len(plan.scenes)} dates, {len(plan.contract.output_bands)} bands, masks {asked.masks}\n")
    print("| part | CPU ms by tile | share |\n| --- | --- | --- |")
    for name in (*PARTS, "clear dates, blending and the rest"):
        print(f"| {name} | {1000 * seconds[name] / tiles:.1f} | {seconds[name] / whole:.0%} |")
    print(f"| all | {1000 * whole / tiles:.1f} | |")


if __name__ == "__main__":
    main()

"""How much of the whole job is the generator, and what reading costs: ratios within one process.

    python benchmarks/end_to_end.py CATALOGUE AOI [--dates SPAN] [--resolution METRES] [--model MODEL]

* end to end: CPU seconds of one work unit after the other (read, decloud, write, all in this thread)
  over seconds of the bare ONNX Runtime session on as many tiles;
* reading: CPU seconds of the scenes' arrays over those of hand-written rasterio that reads the same windows.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.windows import from_bounds

from cloudgan.defaults import Reader
from cloudgan.distributed.worker import Job, process_unit
from cloudgan.geo.aoi import read_aoi
from cloudgan.io import cube
from cloudgan.io.store.store import prepare_store
from cloudgan.model.contract import Contract
from cloudgan.model.generator import Generator
from cloudgan.planning.plan import Plan
from cloudgan.planning.planner import plan_run
from cloudgan.sentinel2.dates import DateRange

ROUNDS = 5


class Counted:
    """A generator that counts its tiles."""

    def __init__(self, generator: Generator) -> None:
        self.generator, self.tiles = generator, 0
        self.contract: Contract = generator.contract
        self.batch = generator.batch

    def __call__(self, channels: NDArray[np.float32]) -> NDArray[np.float32]:
        """Generate tiles, and count them."""
        self.tiles += len(channels)
        return self.generator(channels)


def timed(work: Callable[[], object], clock: Callable[[], float]) -> float:
    """Seconds by a clock."""
    started = clock()
    work()
    return clock() - started


def whole_job(plan: Plan, generator: Counted) -> None:
    """All units, in this thread, into a store that is thrown away."""
    with tempfile.TemporaryDirectory() as folder:
        job = Job(plan, generator, prepare_store(f"{folder}/out.zarr", plan.store_spec()))  # type: ignore[arg-type]
        for unit in plan.units():
            process_unit(job, unit.index)


def bare_session(generator: Generator, tiles: int) -> None:
    """As many tiles through the session, and nothing else."""
    contract = generator.contract
    one = np.random.default_rng(0).random(
        (1, len(contract.input_channels), contract.tile, contract.tile), np.float32
    )
    for _ in range(tiles):
        generator(one)


def read_cubes(plan: Plan, reader: Reader) -> None:
    """The arrays of every unit."""
    for unit in plan.units():
        grid = plan.read_grid(unit.window)
        cube.read_scenes(plan.scenes, grid, plan.bands, reader=reader)


def read_by_hand(plan: Plan) -> None:
    """The same windows of the same files with rasterio, mosaicked by assignment."""
    for unit in plan.units():
        grid = plan.read_grid(unit.window)
        for scene in plan.scenes:
            for band in (*plan.bands, "scl"):
                out = np.zeros(grid.shape, np.uint16)
                for item in reversed(scene.items):
                    with rasterio.open(item.asset(band).href) as file:
                        scale = round(file.transform.a / grid.resolution)
                        wanted = from_bounds(*grid.bounds, file.transform)
                        inside = wanted.intersection(rasterio.windows.Window(0, 0, file.width, file.height))
                        shape = round(inside.height * scale), round(inside.width * scale)
                        values = file.read(1, window=inside, out_shape=shape)
                        top = round((inside.row_off - wanted.row_off) * scale)
                        left = round((inside.col_off - wanted.col_off) * scale)
                        there = out[top : top + shape[0], left : left + shape[1]]
                        np.copyto(there, values, where=values > 0)


def measure(plan: Plan, generator: Generator) -> dict[str, float | list[float]]:
    """Over alternating rounds: of seconds the median, of ratios the median, the least and the most."""
    counted = Counted(generator)
    whole_job(plan, counted)  # warms the session and the page cache, and counts
    tiles = counted.tiles
    rows = [
        {
            "job": timed(lambda: whole_job(plan, counted), time.process_time),
            "session": timed(lambda: bare_session(generator, tiles), time.process_time),
            "rasterio": timed(lambda: read_cubes(plan, "rasterio"), time.process_time),
            "odc": timed(lambda: read_cubes(plan, "odc"), time.process_time),
            "by hand": timed(lambda: read_by_hand(plan), time.process_time),
            "stackstac": timed(lambda: read_cubes(plan, "stackstac"), time.process_time),
        }
        for _ in range(ROUNDS)
    ]

    def ratio(one: str, other: str) -> list[float]:
        ratios = [row[one] / row[other] for row in rows]
        return [round(of(ratios), 2) for of in (statistics.median, min, max)]

    job = statistics.median(row["job"] for row in rows)
    return {
        "tiles": tiles,
        "megapixels": plan.pixels / 1e6,
        "job, Mpixel a CPU second": round(plan.pixels / 1e6 / job, 3),
        "job, CPU s": round(job, 2),
        "job over bare session": ratio("job", "session"),
        "reading with rasterio over by hand, CPU": ratio("rasterio", "by hand"),
        "reading with odc-stac over by hand, CPU": ratio("odc", "by hand"),
        "reading with stackstac over by hand, CPU": ratio("stackstac", "by hand"),
    }


def main() -> None:
    """Parse the command line, measure, print JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("catalogue")
    parser.add_argument("aoi")
    parser.add_argument("--dates", default="2020-04/2020-07")
    parser.add_argument("--resolution", type=float, default=10)
    parser.add_argument("--model")
    parser.add_argument("--block", type=int, help="edge of a work unit, instead of the planner's choice")
    options = parser.parse_args()
    generator = Generator.load(options.model)
    plan, _ = plan_run(
        read_aoi(options.aoi),
        DateRange.parse(options.dates),
        generator,
        stac=options.catalogue,
        resolution=options.resolution,
        context_days=0,
    )
    plan = replace(plan, block=options.block or plan.block)
    print(json.dumps(measure(plan, generator), indent=2))


if __name__ == "__main__":
    main()

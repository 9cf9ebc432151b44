"""The peak memory of workers against what the plan says, over scenes that are made as they are read.

    python benchmarks/memory.py [--size PIXELS] [--dates N] [--memory SIZE] [--workers N] [--units N]
        [--model MODEL]

Processes beside each other do the first units of a square store, each its share, one after the other, as
workers would: reading goes the way of the real one, but a reader makes the pixels. Without `--units` they do
them all.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from dask.utils import parse_bytes
from shapely.geometry import box

from cloudgan import observations
from cloudgan.distributed.worker import Job, process_unit
from cloudgan.geo.grid import Grid, Lattice, Window
from cloudgan.io import readers
from cloudgan.io.store.store import prepare_store
from cloudgan.model.generator import Generator
from cloudgan.planning.plan import Plan
from cloudgan.planning.units import Timeline, choose_unit
from cloudgan.removal.core import default_tiling
from cloudgan.stac.items import Asset, SourceItem
from cloudgan.stac.search import Scene
from cloudgan.stac.signing import Signing

EPSG = 32633
FRAME = (900_000, 100_000), (10.0, 0.0, 0.0, 0.0, -10.0, 9_000_000.0)
"""Shape and transform of an item: all of the zone."""
CELL = 800  # pixels; a twelfth of such cells is cloudy, on each date others


def made_layer(item: SourceItem, grid: Grid, names: Sequence[str], _: int | None) -> dict[str, Any]:
    """What a reader returns of one item: bands and classes that follow from place and date."""
    row = np.arange(grid.window.row, grid.window.bottom)[:, None]
    col = np.arange(grid.window.col, grid.window.right)[None, :]
    day = item.datetime.toordinal()
    values = ((row * 31 + col * 17 + day * 101) % 4000 + 500).astype(np.uint16)
    cloudy = (5 * (row // CELL) + col // CELL + day) % 12 == 0
    scl = np.where(cloudy, 9, 4).astype(np.uint8)
    return {name: scl if name == "scl" else values + 100 * at for at, name in enumerate(names)}


def scene(day: dt.date, bands: Sequence[str]) -> Scene:
    """One item that covers the whole zone."""
    item = SourceItem(
        id=f"S2A_33TWM_{day:%Y%m%d}",
        collection=None,
        datetime=dt.datetime(day.year, day.month, day.day, 10, tzinfo=dt.UTC),
        epsg=EPSG,
        footprint=box(12, 0, 18, 84).wkt,
        assets=tuple(Asset(band, band, *FRAME) for band in (*bands, "scl")),
        offset=0,
        processing_baseline="05.09",
        sequence=0,
        generated=None,
        cloud_cover=8.0,
        mgrs_tile=None,
        datatake=None,
        datastrip=None,
        signing=Signing.NONE,
    )
    return Scene(day, EPSG, (item,))


def made_plan(size: int, dates: int, budget: int, generator: Generator) -> Plan:
    """A square of so many pixels, with a date every five days."""
    contract, tiling = generator.contract, default_tiling(generator)
    days = [dt.date(2023, 4, 1) + dt.timedelta(5 * at) for at in range(dates)]
    scenes = tuple(scene(day, contract.input_bands) for day in days)
    written = tuple(range(dates))
    grid = Grid(Lattice(EPSG, 10.0), Window(-510_000, 50_000, size, size))
    buffer = observations.metres_to_pixels(observations.BUFFER_METRES, 10)
    series = Timeline(tuple(day.toordinal() for day in days), written, observations.MAX_AGE)
    block, span = choose_unit(grid, series, contract, tiling, buffer, budget)
    return Plan(
        grid=grid,
        scenes=scenes,
        written=written,
        contract=contract,
        model=generator.digest,
        tiling=tiling,
        buffer=buffer,
        block=block,
        span=span,
    )


def work(job: Job, units: range, results: Any) -> None:
    """Do some units; report the most memory that this process held, and its pixels, all and generated."""
    readers.READERS["odc"] = made_layer  # it stands in for the files, and nothing else
    done = [process_unit(job, index) for index in units]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    results.put((peak, sum(unit.pixels for unit in done), sum(unit.generated for unit in done)))


def main() -> None:
    """Parse the command line, measure, print JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=int, default=10_000)
    parser.add_argument("--dates", type=int, default=20)
    parser.add_argument("--memory", default="8GB")
    parser.add_argument("--units", type=int)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--model")
    options = parser.parse_args()
    generator = Generator.load(options.model)
    plan = made_plan(options.size, options.dates, int(parse_bytes(options.memory)), generator)
    units = min(options.units or plan.unit_count, plan.unit_count)
    context = multiprocessing.get_context("spawn")
    results = context.SimpleQueue()
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        job = Job(plan, generator, prepare_store(f"{folder}/out.zarr", plan.store_spec()))
        workers = [
            context.Process(target=work, args=(job, range(first, units, options.workers), results))
            for first in range(options.workers)
        ]
        for worker in workers:
            worker.start()
        peaks, pixels, generated = zip(*(results.get() for _ in workers), strict=True)
        for worker in workers:
            worker.join()
    print(
        json.dumps(
            {
                "units done": f"{units} of {plan.unit_count}",
                "unit": [plan.block, plan.span],
                "bound, GB": round(plan.memory / 1e9, 2),
                "peaks, GB": [round(peak / 1e9, 2) for peak in peaks],
                "seconds": round(time.perf_counter() - started),
                "generated share": round(sum(generated) / sum(pixels), 3),
            },
            indent=2,
        )
    )


if __name__ == "__main__":
    main()

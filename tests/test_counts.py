"""What the work costs, in counts that every machine finds alike; `allowed_counts.toml` has their ranges."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.io import DatasetReader

from cloudgan.distributed.worker import Job, process_unit
from cloudgan.geo.aoi import read_aoi
from cloudgan.geo.grid import Window
from cloudgan.io.store.store import prepare_store
from cloudgan.planning.plan import Plan
from cloudgan.planning.planner import plan_run
from cloudgan.removal.core import decloud_dates
from cloudgan.schema import Provenance
from cloudgan.sentinel2.dates import DateRange

ALLOWED = tomllib.loads(Path(__file__).with_name("allowed_counts.toml").read_text(encoding="utf-8"))
SPAN = DateRange.parse("2020-05-01/2020-05-20")
# Half a second of import each, or a second, that reading now and writing do without.
NEEDLESS = ("xarray", "pandas", "dask.array", "odc", "stackstac", "matplotlib", "tensorflow", "scipy.stats")


def is_allowed(part: str, name: str, count: float) -> bool:
    least, most = ALLOWED[part][name]
    return bool(least <= count <= most)


@dataclass
class Reads:
    """Files that rasterio opened, and the bytes of the blocks that were read of them."""

    opened: Counter[str] = field(default_factory=Counter)
    touched: int = 0

    def note_window(self, file: DatasetReader, window: rasterio.windows.Window) -> None:
        (height, width), (most, widest) = file.block_shapes[0], file.shape
        rows = _find_extent(window.row_off, window.height, height, most)
        cols = _find_extent(window.col_off, window.width, width, widest)
        self.touched += rows * cols * np.dtype(file.dtypes[0]).itemsize


def _find_extent(start: float, length: float, block: int, whole: int) -> int:
    """Pixels of the blocks that a part of an edge touches."""
    return min(whole, -int(-(start + length) // block) * block) - int(start // block) * block


@pytest.fixture
def reads(monkeypatch) -> Reads:
    """What is read from now on."""
    noted, opened, read = Reads(), rasterio.open, DatasetReader.read

    def note_open(path, *args, **kwargs):
        noted.opened[str(path)] += 1
        return opened(path, *args, **kwargs)

    def note_read(self, *args, **kwargs):
        if kwargs.get("window") is not None:
            noted.note_window(self, kwargs["window"])
        return read(self, *args, **kwargs)

    monkeypatch.setattr(rasterio, "open", note_open)
    monkeypatch.setattr(DatasetReader, "read", note_read)
    return noted


def plan_of(demo, generator) -> Plan:
    plan, _ = plan_run(read_aoi(str(demo.aoi)), SPAN, generator, stac=str(demo.catalog), context_days=0)
    assert plan.unit_count == 1
    return plan


@pytest.mark.parametrize(("takes_time", "more"), [(False, None), (True, "opens_of_an_overview")])
def test_every_file_is_opened_once(demo, generator, temporal, tmp_path, reads, takes_time, more):
    made = temporal if takes_time else generator
    plan = plan_of(demo, made)
    job = Job(plan, made, prepare_store(str(tmp_path / "out.zarr"), plan.store_spec()))
    reads.opened.clear()  # planning may have asked a file for its lattice
    process_unit(job, 0)
    names = (*plan.bands, "scl")
    assets = {item.asset(name).href for scene in plan.scenes for item in scene.items for name in names}
    counts = {reads.opened[path] for path in assets}
    least, most = ALLOWED["run"]["opens_of_an_asset"]
    if more:
        least, most = least + ALLOWED["run"][more][0], most + ALLOWED["run"][more][1]
    assert least <= min(counts) <= max(counts) <= most
    assert reads.opened.keys() <= assets


def test_few_bytes_are_read_that_are_not_needed(demo, generator, tmp_path, reads):
    plan = plan_of(demo, generator)
    job = Job(plan, generator, prepare_store(str(tmp_path / "out.zarr"), plan.store_spec()))
    reads.touched = 0
    process_unit(job, 0)
    west, south, east, north = plan.read_grid(plan.unit(0).target).bounds
    needed = 0.0
    for item in (item for scene in plan.scenes for item in scene.items):
        for name in (*plan.bands, "scl"):
            with rasterio.open(item.asset(name).href) as file:
                left, bottom, right, top = file.bounds
                width = max(0, min(east, right) - max(west, left)) / file.res[0]
                height = max(0, min(north, top) - max(south, bottom)) / file.res[1]
                needed += width * height * np.dtype(file.dtypes[0]).itemsize
    assert is_allowed("unit", "blocks_read", reads.touched / needed), reads.touched / needed


def test_only_tiles_with_a_masked_pixel_are_generated(demo, generator):
    from cloudgan.io.cube import read_scenes
    from cloudgan.masks.union import classify_observations

    plan = plan_of(demo, generator)
    grid = plan.read_grid()
    arrays = read_scenes(plan.scenes, grid, plan.bands)
    days = np.array([scene.date.toordinal() for scene in plan.scenes], np.int64)
    observations = classify_observations(
        grid.window, {name: arrays[name] for name in plan.bands}, arrays["scl"], days, buffer=plan.buffer
    )
    given = 0

    class Counted:
        contract, batch = generator.contract, generator.batch

        def __call__(self, channels):
            nonlocal given
            given += len(channels)
            return generator(channels)

    target: Window = plan.grid.window
    dates = list(decloud_dates(observations, target, Counted(), buffer=plan.buffer, tiling=plan.tiling))
    masked = 0
    for date in dates:
        for tile in plan.tiling.tiles(target):
            inner = tile.intersection(target)
            part = date.provenance[inner.slices_in(target)] if inner else np.zeros(1)
            masked += bool((part == Provenance.GENERATED).any())
    assert is_allowed("unit", "tiles", given / masked), (given, masked)


SCRIPT = """
import json, subprocess, sys, threading
started = []
class Noted(subprocess.Popen):
    def __init__(self, words, *args, **kwargs):
        started.append([str(word) for word in words])
        super().__init__(words, *args, **kwargs)
subprocess.Popen = Noted
from cloudgan.cli.app import main
try:
    main(sys.argv[1:])
except SystemExit as ended:
    assert not ended.code, ended.code
import multiprocessing
started += [child.name for child in multiprocessing.active_children()]
print(json.dumps({"modules": sorted(sys.modules), "started": started}), file=sys.stderr)
"""


def run_noted(*words: str) -> dict[str, list[str]]:
    """Run the command; what it imported and started."""
    done = subprocess.run([sys.executable, "-c", SCRIPT, *words], capture_output=True, text=True, check=True)
    found: dict[str, list[str]] = json.loads(done.stderr.splitlines()[-1])
    return found


def test_the_help_imports_little():
    count = len(run_noted("--help")["modules"])
    assert is_allowed("help", "modules", count), count


def test_a_run_of_one_unit_starts_no_process_and_imports_only_what_it_needs(demo, network, tmp_path):
    job = {"--aoi": demo.aoi, "--dates": str(SPAN), "--stac": demo.catalog, "--model": network}
    words = [str(word) for pair in job.items() for word in pair]
    noted = run_noted("batch", *words, "--out", str(tmp_path / "out.zarr"))
    assert is_allowed("run", "processes", len(noted["started"])), noted["started"]
    assert is_allowed("run", "modules", len(noted["modules"])), len(noted["modules"])
    assert not set(NEEDLESS) & set(noted["modules"])

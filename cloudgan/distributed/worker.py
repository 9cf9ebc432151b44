"""What a worker does: read, decloud and write one unit of a job that was sent to it once."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cloudgan.defaults import READER, Reader
from cloudgan.distributed.report import UnitReport
from cloudgan.distributed.requirements import Requirements
from cloudgan.errors import ReadError
from cloudgan.geo.grid import Window
from cloudgan.io import overviews
from cloudgan.io.cube import read_available, read_scenes
from cloudgan.io.readers import Layer
from cloudgan.io.store.ledger import DONE, DONE_WITHOUT_ASSETS
from cloudgan.io.store.store import Store
from cloudgan.io.store.writer import UnitWriter
from cloudgan.masks.detector import Detector, detect_clouds
from cloudgan.masks.margins import cover_masks
from cloudgan.masks.union import classify_observations, find_temporal_clouds
from cloudgan.model.generator import Generator
from cloudgan.observations import OPACITY, Observations
from cloudgan.planning.plan import Plan
from cloudgan.planning.units import Unit
from cloudgan.removal.core import DecloudedDate, decloud_dates, window_to_read
from cloudgan.removal.normalisation import Radiometry
from cloudgan.schema import MaskSource, Provenance
from cloudgan.sentinel2.classification import SCL

_EPOCH = dt.date(1970, 1, 1).toordinal()


@dataclass(frozen=True, slots=True)
class Job:
    """All that a worker needs to know of a run."""

    plan: Plan
    """What to do."""
    generator: Generator
    """What fills the mask."""
    store: Store
    """Where the result goes."""
    reader: Reader = READER
    """Which library reads."""
    allow_missing: bool = False
    """Whether an asset that cannot be read is recorded as missing instead of failing its unit."""
    threads: int = 1
    """Tiles that a worker generates at once."""
    requirements: Requirements = field(default_factory=Requirements)
    """What every worker must have, also one that joins late."""
    detectors: tuple[Detector, ...] = ()
    """What finds clouds beside the scene classification: those of the plan."""


def read_observations(job: Job, target: Window, which: range) -> tuple[Observations, tuple[str, ...]]:
    """Read what generating a window takes: the window and its surroundings, in some of the plan's scenes.

    Returns:
        The observations, and the ids of items that could not be read where the job allows for that.

    Raises:
        ReadError: An asset could not be read, and the job does not allow for it.
    """
    plan = job.plan
    grid, scenes = plan.read_grid(target), plan.scenes[which.start : which.stop]
    missing: tuple[str, ...] = ()
    how: dict[str, Any] = {"reader": job.reader, "buffer": plan.buffer, "rules": plan.rules}
    if job.allow_missing:
        read, missing = read_available(scenes, grid, plan.bands, **how)
    else:
        read = read_scenes(scenes, grid, plan.bands, **how)
    part = window_to_read(target, plan.tiling, plan.buffer)
    days = np.array([scene.date.toordinal() for scene in scenes], np.int64) - _EPOCH
    called = _find_clouds(job, read, days, grid.window, part)
    arrays = _crop(read, grid.window, part)
    observations = classify_observations(
        part,
        {name: arrays[name] for name in plan.contract.input_bands},
        arrays[SCL],
        days,
        buffer=plan.buffer,
        rules=plan.rules,
        opacities=arrays.get(OPACITY),
        called=called,
    )
    return observations, missing


def _crop(arrays: Layer, window: Window, part: Window) -> Layer:
    """Arrays over a window, over a part of it."""
    rows, cols = part.slices_in(window)
    return {name: array[..., rows, cols] for name, array in arrays.items()}


def _find_clouds(
    job: Job, arrays: Layer, days: NDArray[np.int64], window: Window, part: Window
) -> dict[MaskSource, NDArray[np.bool_]]:
    """What masks beside the scene classification call cloudy in a part of what was read, by source."""
    plan = job.plan
    tested = cover_masks(part, (), plan.buffer, is_temporal=plan.is_temporal)
    called = detect_clouds(arrays, job.detectors, window, tested)
    if plan.is_temporal:
        inner = _crop(arrays, window, tested)
        called[MaskSource.TEMPORAL] = find_temporal_clouds(
            {name: inner[name] for name in plan.bands},
            inner[SCL],
            days,
            called,
            buffer=plan.buffer,
            rules=plan.rules,
        )
    rows, cols = part.slices_in(tested)
    return {source: cloudy[:, rows, cols] for source, cloudy in called.items()}


def read_radiometry(job: Job, target: Window, which: range) -> tuple[list[Radiometry], set[str]]:
    """Find how some of the plan's scenes differ over the MGRS tiles that show a window.

    Measured once in a run, from all scenes of the plan, and kept in the store: a unit that comes later, or
    again, finds the same. Where the job allows for what cannot be read, nothing is known and nothing kept.

    Returns:
        What is known, and the ids of items that could not be read.

    Raises:
        ReadError: An image could not be read, and the job does not allow for it.
        WriteError: The store refused it.
    """
    plan = job.plan
    around = plan.read_grid(target).window
    found, missing = [], set()
    for number, frame in enumerate(find_frames(plan)):
        if frame.intersection(around) is None:
            continue
        packed = job.store.read_radiometry(number)
        if packed is None:
            try:
                packed = overviews.read_radiometry(
                    plan.scenes, plan.grid.lattice, frame, plan.contract.input_bands, plan.max_age
                ).pack()
            except ReadError as error:
                if not job.allow_missing:
                    raise
                missing |= {error.item} if error.item else set()
                continue
            job.store.write_radiometry(number, packed)
        found.append(Radiometry.unpack(frame, packed).select_dates(which))
    return found, missing


def find_frames(plan: Plan) -> list[Window]:
    """The MGRS tiles whose images a plan reads, in order of place."""
    return overviews.find_frames(plan.scenes, plan.grid.lattice, plan.read_grid().window)


def process_unit(job: Job, index: int) -> UnitReport:
    """Read, decloud and write one unit, then enter it in the ledger; repeating it changes nothing.

    Raises:
        ReadError: An asset could not be read, and the job does not allow for it.
        WriteError: The store refused the result.
        StoreError: Another run has begun to write the store.
    """
    job.store.check_run()
    unit = job.plan.unit(index)
    clock = _Clock()
    with clock.measure("read"):
        observations, missing = read_observations(job, unit.target, unit.scenes)
    unread: set[str] = set()

    @cache
    def read_radiometry_once() -> list[Radiometry]:
        found, lacking = read_radiometry(job, unit.target, unit.scenes)
        unread.update(lacking)
        return found

    writer = job.store.open_writer(job.plan.store_spec(), unit.window)
    window = job.plan.read_grid(unit.target).window
    read = window.height * window.width * len(unit.scenes) * (2 * len(job.plan.bands) + 1)
    dates = _decloud(job, unit, observations, read_radiometry_once)
    counts, clamped, masked = _write_dates(job, unit, dates, writer, clock)
    missing = tuple(sorted({*missing, *unread}))
    with clock.measure("write"):
        writer.enter(index, DONE_WITHOUT_ASSETS if missing else DONE)
    return UnitReport(
        index=index,
        pixels=int(counts.sum()),
        generated=int(counts[Provenance.GENERATED]),
        observed=int(counts[Provenance.OBSERVED]),
        unreliable=int(counts[Provenance.UNRELIABLE]),
        clamped=clamped,
        masked=masked,
        missing=missing,
        seconds=clock.seconds,
        bytes={"read": read, "written": int(counts.sum()) * writer.bytes_of_pixel},
    )


@dataclass(slots=True)
class _Clock:
    """Seconds spent by name."""

    seconds: dict[str, float] = field(default_factory=lambda: {"read": 0.0, "generate": 0.0, "write": 0.0})

    @contextmanager
    def measure(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.seconds[name] += time.perf_counter() - started


def _decloud(
    job: Job, unit: Unit, observations: Observations, read: Callable[[], list[Radiometry]]
) -> Iterator[DecloudedDate]:
    plan = job.plan
    outside = plan.outside(unit.target)
    dates = decloud_dates(
        observations,
        unit.target,
        job.generator,
        buffer=plan.buffer,
        tiling=plan.tiling,
        dates=[plan.written[at] - unit.scenes.start for at in unit.dates],
        max_age=plan.max_age,
        threads=job.threads,
        read_radiometry=read,
    )
    return (date if outside is None else date.clip(outside) for date in dates)


def _write_dates(
    job: Job, unit: Unit, dates: Iterator[DecloudedDate], writer: UnitWriter, clock: _Clock
) -> tuple[NDArray[np.int64], int, dict[str, dict[str, int]]]:
    """Write the dates as they are generated.

    Returns:
        How many pixels have which provenance, how many were clamped, and by date who masked how many.
    """
    plan = job.plan
    counts, clamped, masked = np.zeros(len(Provenance), np.int64), 0, {}
    outside = plan.outside(unit.target)
    for at in unit.dates:
        with clock.measure("generate"):
            date = next(dates)
        with clock.measure("write"):
            writer.write(at, date.place(unit.target, unit.window).variables(plan.contract.output_bands))
        counts += np.bincount(date.provenance.ravel(), minlength=len(counts))
        clamped += int(date.clamped.sum())
        name = plan.scenes[plan.written[at]].date.isoformat()
        masked[name] = _count_sources(date.mask_source if outside is None else date.mask_source[~outside])
    return counts, clamped, masked


def _count_sources(sources: NDArray[np.uint8]) -> dict[str, int]:
    """How many pixels there are, and how many each source masked."""
    counts = np.bincount(sources.ravel(), minlength=256)
    values = np.arange(256)
    masked = {str(flag.name).lower(): int(counts[(values & flag) > 0].sum()) for flag in MaskSource}
    return {"pixels": sources.size} | masked

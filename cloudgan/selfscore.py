"""A run judged on its own cube: real clouds of some dates hide clear ground of others, to be generated.

A small sample, drawn by the plan's digest, so that a rerun gives the same numbers: few blocks, each a task.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import distributed
import numpy as np

from cloudgan import baselines, cases, clouds, evaluation
from cloudgan.attempts import TRIES
from cloudgan.cube import open_cube, open_what_is_there
from cloudgan.errors import CloudganError
from cloudgan.evaluation import METRICS, Unit
from cloudgan.grid import Window
from cloudgan.plan import Plan
from cloudgan.removal import Scenes, day_numbers
from cloudgan.run import GDAL_OPTIONS, Job
from cloudgan.storage import reason

BLOCKS = 4
"""Blocks that are looked at, at most."""
EDGE = 512
"""Edge of a block in pixels, no larger than a work unit."""
DATES = 3
"""Dates of a block that are hidden, at most."""
NAMES = (*baselines.PLAIN, *baselines.ALIGNED)
"""What the generator is measured against."""
_CLEAR = 0.3  # share of a block that a date must show to be hidden: the clear part is judged, and no more


def sample(plan: Plan) -> tuple[Window, ...]:
    """The blocks of a plan's store that are looked at: the same for the same plan."""
    grid, edge = plan.grid.window, min(EDGE, plan.block)
    every = [
        block
        for row in range(grid.row, grid.bottom, edge)
        for col in range(grid.col, grid.right, edge)
        if (block := Window(row, col, edge, edge).intersection(grid)) is not None
    ]
    rng = np.random.default_rng(_seed(plan))
    chosen = rng.choice(len(every), min(BLOCKS, len(every)), replace=False)
    return tuple(every[index] for index in sorted(chosen))


def _seed(plan: Plan) -> int:
    return int(plan.digest()[:16], 16)


def score_block(job: Job, window: Window) -> list[Unit]:
    """Hide clear ground of one block under its own clouds, and judge what is put in its place.

    Raises:
        ReadError: An asset could not be read, and the job does not allow for it.
    """
    plan = job.plan
    read = plan.read_grid(window)
    if job.allow_missing:
        cube, _ = open_what_is_there(plan.scenes, read, plan.bands, reader=job.reader)
    else:
        cube = open_cube(plan.scenes, read, plan.bands, reader=job.reader)
    bands = tuple(cube[name].values for name in plan.bands)
    scenes = Scenes(read.window, bands, clouds.classify(cube["scl"].values, bands), day_numbers(cube))
    place = cases.Place(
        region=f"{window.row}, {window.col}",
        group=f"{plan.grid.resolution:g} m",
        scenes=scenes,
        reach=plan.reach,
        truths=np.ones(len(scenes.days), bool),
    )
    inside = np.zeros(read.shape, bool)
    inside[window.slices_in(read.window)] = True  # around it there is less to see than a run would
    drawn = cases.draw(place, ["transplanted"], dates=DATES, skies=1, seed=_seed(plan), clear=_CLEAR)
    judged = (replace(case, judged=case.judged & inside) for case in drawn)
    found = evaluation.evaluate(judged, {job.plan.contract.name: job.generator}, NAMES, threads=job.threads)
    return found.units


def _on_worker(job: Job, window: Window) -> list[Unit] | str:
    """The units of a block, or why there are none: GDAL's own errors do not survive the way to the client."""
    for option, value in GDAL_OPTIONS.items():
        os.environ.setdefault(option, value)
    try:
        return score_block(job, window)
    except CloudganError as error:
        return str(error)


def score(job: Job, client: distributed.Client) -> dict[str, Any]:
    """Judge a run's generator on its own cube, on the run's workers.

    Args:
        job: The run.
        client: Where the workers are.

    Returns:
        JSON: `model`, `blocks`, `cases`, `pixels`, `methods` (psnr, mae, ssim and sam of each, means over
        units of some 300 rows), `best` (the method of the least mean absolute error), `verdict` (one
        sentence) and `failed` (why blocks could not be judged).
    """
    windows = sample(job.plan)
    name = f"cloudgan-score-{uuid.uuid4().hex[:12]}"
    brought = client.scatter(job, broadcast=True, hash=False)
    futures = [
        client.submit(_on_worker, brought, block, key=f"{name}-{index}", retries=TRIES - 1, pure=False)
        for index, block in enumerate(windows)
    ]
    units: list[Unit] = []
    failed: list[str] = []
    for future in futures:
        try:
            found = future.result()
        except Exception as error:  # whatever a block meets, the run itself is done
            found = f"{type(error).__name__}: {reason(error)}"
        if isinstance(found, str):
            failed.append(found)
        else:
            units += found
    return _report(job.plan, units, failed, len(windows))


def _report(plan: Plan, units: Sequence[Unit], failed: Sequence[str], blocks: int) -> dict[str, Any]:
    model = plan.contract.name
    pixels = sum(unit.pixels for unit in units)
    report: dict[str, Any] = {
        "model": f"{model} {plan.contract.version}",
        "blocks": blocks,
        "cases": len({(unit.region, unit.case) for unit in units}),
        "pixels": pixels,
        "methods": {},
        "best": None,
        "failed": list(failed),
    }
    if not units:
        why = failed[0] if failed else (
            "no date of the sampled blocks shows enough clear ground while another has clouds to lend; "
            "give a longer span of dates"
        )  # fmt: skip
        return report | {"verdict": f"{model} could not be scored: {why}"}
    means = {
        name: {
            metric: round(float(np.mean([unit.methods[name][metric] for unit in units])), 4)
            for metric in METRICS
        }
        for name in (*NAMES, model)
    }
    best = min(means, key=lambda name: means[name]["mae"])
    return report | {"methods": means, "best": best, "verdict": _verdict(model, means, best, pixels)}


def _verdict(model: str, means: dict[str, dict[str, float]], best: str, pixels: int) -> str:
    error = means[model]["mae"]
    if best == model:
        rival = min(NAMES, key=lambda name: means[name]["mae"])
        return (
            f"{model} came nearer the truth than every baseline: mean absolute error {error:.4f} against "
            f"{means[rival]['mae']:.4f} of {rival}, on {pixels:,} hidden pixels"
        )
    return (
        f"a baseline wins here: {best} came nearer the truth than {model}, mean absolute error "
        f"{means[best]['mae']:.4f} against {error:.4f} on {pixels:,} hidden pixels; a longer span of dates "
        "or a model trained on such ground may change that"
    )

"""A generator evaluated on the cube of its own run: clouds of some dates are composited over clear others.

A small sample, drawn by the plan's digest, so that a rerun gives the same numbers: few pieces, each a task.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from operator import itemgetter
from typing import Any

import numpy as np

from cloudgan.distributed.own_process import OwnProcess
from cloudgan.distributed.scheduling import Failure
from cloudgan.distributed.worker import Job, read_observations
from cloudgan.distributed.workers import Workers
from cloudgan.evaluation import scoring
from cloudgan.evaluation.baselines import RIVALS
from cloudgan.evaluation.cases import draw_cases
from cloudgan.evaluation.scoring import METRICS, Unit
from cloudgan.geo.grid import Window
from cloudgan.observations import Site
from cloudgan.planning.plan import Plan

PIECES = 4
"""Pieces of the area that are evaluated, at most."""
EDGE = 512
"""Edge of a piece in pixels, at most."""
DATES = 3
"""Dates of a piece that are masked, at most."""
SHARE = 0.5
"""Tiles that are generated for it, at most, as a share of those that the run may generate."""
_CLEAR = 0.3  # share of a piece that a date must show clear to be masked; only the clear part is evaluated
_DRAWS = 100  # after which a sample stays smaller: an area may have fewer pieces than are wanted


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a work unit; it takes as much memory to evaluate as the unit takes, or less."""

    window: Window
    """Pixels of the area, on the lattice."""
    scenes: range
    """Scenes of the plan."""


def draw_pieces(plan: Plan) -> tuple[Piece, ...]:
    """The pieces of a plan's units that are evaluated: the same for the same plan, and one at least."""
    allowed = SHARE * len(plan.written) * plan.blocks.tiles(plan.tiling)
    rng = np.random.default_rng(_seed(plan))
    pieces: dict[Piece, None] = {}
    for _ in range(_DRAWS):
        unit = plan.unit(int(rng.integers(plan.unit_count)))
        whole = unit.target
        row, col = (
            low + EDGE * int(rng.integers(-(-length // EDGE)))
            for low, length in ((whole.row, whole.height), (whole.col, whole.width))
        )
        piece = Window(row, col, min(EDGE, whole.bottom - row), min(EDGE, whole.right - col))
        allowed -= DATES * plan.tiling.count(piece)
        if pieces and allowed < 0:
            break
        pieces[Piece(piece, unit.scenes)] = None
        if len(pieces) == PIECES:
            break
    return tuple(pieces)


def _seed(plan: Plan) -> int:
    return int(plan.digest()[:16], 16)


def estimate_cost(plan: Plan) -> dict[str, int]:
    """What evaluating the generator on a plan's cube takes beside the run, in figures, as JSON."""
    pieces = draw_pieces(plan)
    read = [plan.read_grid(piece.window).window for piece in pieces]
    pixels = sum(one.height * one.width * len(piece.scenes) for one, piece in zip(read, pieces, strict=True))
    return {
        "pieces": len(pieces),
        "dates_at_most": DATES,
        "tiles_at_most": DATES * sum(plan.tiling.count(piece.window) for piece in pieces),
        "bytes_to_read_at_most": pixels * (2 * len(plan.bands) + 1),
    }


def evaluate_piece(job: Job, index: int) -> list[Unit]:
    """Put clear dates of one piece under its own clouds, and score what is generated in their place.

    Raises:
        ReadError: An asset could not be read, and the job does not allow for it.
    """
    plan, piece = job.plan, draw_pieces(job.plan)[index]
    observations, _ = read_observations(job, piece.window, piece.scenes)
    region = f"{piece.window.row}, {piece.window.col}"
    site = Site(
        name=region,
        region=region,
        resolution=plan.grid.resolution,
        buffer=plan.buffer,
        observations=observations,
        trusted=np.ones(len(observations.days), bool),
    )
    inside = np.zeros(observations.window.shape, bool)
    outside = plan.outside(piece.window)
    inside[piece.window.slices_in(observations.window)] = True if outside is None else ~outside
    drawn = draw_cases(site, ["composited"], dates=DATES, sources=1, seed=_seed(plan), min_known=_CLEAR)
    cases = (replace(case, evaluated=case.evaluated & inside) for case in drawn)
    found = scoring.evaluate(cases, {job.plan.contract.name: job.generator}, RIVALS, threads=job.threads)
    return found.units


def evaluate_generator(job: Job, workers: Workers | OwnProcess) -> dict[str, Any]:
    """Evaluate a run's generator on its own cube.

    Args:
        job: The run.
        workers: Those to which it was sent.

    Returns:
        JSON: `model`, `pieces`, `cases`, `pixels`, `methods` (psnr, mae, ssim and sam of each, means over
        parts of some 300 rows), `best` (the method of the least mean absolute error), `verdict` (one
        sentence) and `failed` (why pieces could not be evaluated).
    """
    pieces = len(draw_pieces(job.plan))
    results = [result for _, result in sorted(workers.run(evaluate_piece, range(pieces)), key=itemgetter(0))]
    failed = [result.reason for result in results if isinstance(result, Failure)]
    units = [unit for result in results if not isinstance(result, Failure) for unit in result]
    return summarise(job.plan, units, failed, pieces)


def summarise(plan: Plan, units: Sequence[Unit], failed: Sequence[str], pieces: int) -> dict[str, Any]:
    """Means over the units of all pieces, and the verdict; see `evaluate_generator`.

    Args:
        plan: The plan of the run.
        units: What was scored.
        failed: Why pieces could not be evaluated.
        pieces: How many pieces were drawn.
    """
    model = plan.contract.name
    pixels = sum(unit.pixels for unit in units)
    report: dict[str, Any] = {
        "model": f"{model} {plan.contract.version}",
        "pieces": pieces,
        "cases": len({(unit.region, unit.case) for unit in units}),
        "pixels": pixels,
        "methods": {},
        "best": None,
        "failed": list(failed),
    }
    if not units:
        why = failed[0] if failed else (
            "no date of the sampled pieces is clear enough while another has clouds to composite; "
            "give a longer span of dates"
        )  # fmt: skip
        return report | {"verdict": f"{model} could not be scored: {why}"}
    means = {
        name: {
            metric: round(float(np.mean([unit.methods[name][metric] for unit in units])), 4)
            for metric in METRICS
        }
        for name in (*RIVALS, model)
    }
    best = min(means, key=lambda name: means[name]["mae"])
    return report | {"methods": means, "best": best, "verdict": _verdict(model, means, best, pixels)}


def _verdict(model: str, means: dict[str, dict[str, float]], best: str, pixels: int) -> str:
    error = means[model]["mae"]
    if best == model:
        rival = min(RIVALS, key=lambda name: means[name]["mae"])
        return (
            f"{model} is closer to the truth than every baseline: mean absolute error {error:.4f} against "
            f"{means[rival]['mae']:.4f} of {rival}, on {pixels:,} masked pixels"
        )
    return (
        f"a baseline wins here: {best} is closer to the truth than {model}, mean absolute error "
        f"{means[best]['mae']:.4f} against {error:.4f} on {pixels:,} masked pixels; a longer span of dates "
        "or a model trained on such a landscape may change that"
    )

"""A run that evaluates its generator on its own cube: the same numbers each time, in report and store."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest

from cloudgan.cli.app import batch_main
from cloudgan.distributed import self_check
from cloudgan.distributed.execute import share_job
from cloudgan.distributed.worker import Job
from cloudgan.evaluation.baselines import RIVALS
from cloudgan.evaluation.scoring import Unit
from cloudgan.geo.aoi import read_aoi
from cloudgan.io.store.store import Store, read_about
from cloudgan.model.generator import Generator
from cloudgan.planning.planner import plan_run
from cloudgan.sentinel2.dates import DateRange

SPAN = DateRange.parse("2020-05")


@pytest.fixture(scope="module")
def job(demo, network) -> Job:
    """A run over the demonstration's farm, in blocks small enough to be several."""
    generator = Generator.load(network)
    plan, _ = plan_run(read_aoi(demo.aoi), SPAN, generator, stac=str(demo.catalog))
    return Job(replace(plan, block=128), generator, Store("nowhere"))


def test_a_rerun_evaluates_the_same_pieces_and_gets_the_same_numbers(job, client):
    with share_job(job, client) as workers:
        found = self_check.evaluate_generator(job, workers)
        assert found == self_check.evaluate_generator(job, workers)
    assert found["pieces"] == self_check.PIECES
    assert found["failed"] == []
    assert set(found["methods"]) == {*RIVALS, "mean"}
    assert found["pixels"] > 1000


def test_the_sample_lies_in_the_store_and_follows_the_plan(job):
    pieces = self_check.draw_pieces(job.plan)
    assert 1 <= len(pieces) <= self_check.PIECES
    assert all(job.plan.grid.window.contains(piece.window) for piece in pieces)
    others = {self_check.draw_pieces(replace(job.plan, buffer=buffer)) for buffer in range(1, 6)}
    assert len(others) > 1


def test_the_sample_costs_no_more_than_the_plan_says(job, client, monkeypatch):
    """Of tiles: those that a run may generate, at most by half, or those of one piece."""
    cost = self_check.estimate_cost(job.plan)
    assert cost["tiles_at_most"] <= job.plan.summary()["tiles_at_most"] / 2
    assert cost["pieces"] == len(self_check.draw_pieces(job.plan))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(self_check, "SHARE", 0.0)
        assert len(self_check.draw_pieces(job.plan)) == 1
    made = []
    whole = Generator.__call__

    def count(generator, channels):
        made.append(len(channels))
        return whole(generator, channels)

    monkeypatch.setattr(Generator, "__call__", count)
    for index in range(cost["pieces"]):
        self_check.evaluate_piece(job, index)
    assert 0 < sum(made) <= cost["tiles_at_most"]


def test_blocks_that_cannot_be_read_are_named_and_the_run_is_not_lost(job, client):
    scenes = tuple(
        replace(
            scene,
            items=tuple(
                replace(item, assets=tuple(replace(asset, href="/no/such.tif") for asset in item.assets))
                for item in scene.items
            ),
        )
        for scene in job.plan.scenes
    )
    lost = replace(job, plan=replace(job.plan, scenes=scenes))
    with share_job(lost, client) as workers:
        found = self_check.evaluate_generator(lost, workers)
    assert len(found["failed"]) == found["pieces"]
    assert "/no/such.tif" in found["failed"][0]
    assert found["verdict"].startswith("mean could not be scored: ")
    assert found["methods"] == {}


def unit(**errors: float) -> Unit:
    methods = {name: {"psnr": 30.0, "mae": mae, "ssim": 0.9, "sam": 2.0} for name, mae in errors.items()}
    return Unit("composited", "0, 0", "10 m", "case", 0, 1000, methods)


@pytest.mark.parametrize(
    ("own", "best", "said"),
    [
        (0.01, "mean", "mean is closer to the truth than every baseline: .* 0.0100 against 0.0150 of median"),
        (
            0.02,
            "median",
            "a baseline wins here: median is closer to the truth than mean, .* 0.0150 against 0.0200",
        ),
    ],
)
def test_the_verdict_is_one_honest_sentence(job, own, best, said):
    errors = dict.fromkeys(RIVALS, 0.03) | {"median": 0.015, "mean": own}
    found = self_check.summarise(job.plan, [unit(**errors)], [], 1)
    assert found["best"] == best
    assert pytest.approx(0.015) == found["methods"]["median"]["mae"]
    assert re.search(said, found["verdict"])
    assert "\n" not in found["verdict"]


def test_the_command_evaluates_the_shipped_generator(demo, tmp_path, capsys):
    out = tmp_path / "out.zarr"
    words = ["--aoi", demo.aoi, "--dates", "2020-05", "--stac", demo.catalog, "--out", out, "--workers", "1"]
    with pytest.raises(SystemExit) as end:
        batch_main([*map(str, words), "--score", "--json"])
    said = capsys.readouterr()
    assert not end.value.code
    score = json.loads(said.out)["report"]["score"]
    assert score["model"].startswith("temporal")
    assert score["pixels"] > 1000
    assert score["verdict"] in said.err.replace("\n", " ")
    assert read_about(str(out))["run"]["score"] == score
    # Which pieces are drawn follows from where the files lie: here or there a baseline wins, and is named.
    errors = {name: row["mae"] for name, row in score["methods"].items()}
    assert errors[score["best"]] == min(errors.values())
    assert score["best"] in score["verdict"]
    assert errors["temporal"] < 1.5 * min(errors.values())

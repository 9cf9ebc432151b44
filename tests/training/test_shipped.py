"""The single-image generator in the wheel: evaluated on regions held out, and as good as its card says."""

from pathlib import Path

import numpy as np
import pytest

from cloudgan.model.generator import Generator
from cloudgan.training import scores
from cloudgan.training.data.sources import read_imagery
from cloudgan.training.recipe import TrainConfig
from cloudgan.training.single_image import sample_validation

RECIPE = Path(__file__).parents[2] / "pipelines" / "train-single.toml"


@pytest.fixture(scope="module")
def shipped():
    return Generator.load("documented")


@pytest.fixture(scope="module")
def tiles(samples_dir, shipped):
    card = shipped.contract.training
    recipe = TrainConfig.load(RECIPE, data=samples_dir)
    _, held_out = read_imagery(recipe.data, recipe.bands).split(card["data"]["validation"])
    return sample_validation(held_out, recipe.seed)


def test_the_card_names_what_it_was_trained_on(shipped):
    card = shipped.contract.training
    assert not set(card["data"]["train"]) & set(card["data"]["validation"])
    assert card["steps"] > 1000
    assert {"recipe", "scores", "versions"} <= set(card)
    assert len(shipped.model) < 30e6


def test_its_scores_are_those_on_its_card(shipped, tiles):
    claimed = shipped.contract.training["scores"]
    assert set(claimed) == set(tiles)
    for group, samples in tiles.items():
        found = scores.mean_scores(samples, scores.serve_with(shipped))
        assert found.psnr == pytest.approx(claimed[group]["psnr"], abs=0.1), group
        assert found.mae == pytest.approx(claimed[group]["mae"], abs=5e-4), group


def test_it_beats_the_clouds_and_on_the_whole_a_mean_colour(shipped, tiles):
    methods = scores.serve_with(shipped), scores.keep_cloudy, scores.fill_with_mean
    rows = [[scores.mean_scores(samples, method) for method in methods] for samples in tiles.values()]
    for ours, cloudy, _ in rows:
        assert ours.mae < cloudy.mae
    for name in ("mae", "sam"):
        ours, cloudy, mean = (np.mean([getattr(row[i], name) for row in rows]) for i in range(3))
        assert ours < 0.9 * mean
        assert ours < 0.6 * cloudy

"""The generator in the wheel: trained, judged on regions that it never saw, and as good as its card says."""

import numpy as np
import pytest

from cloudgan.model.generator import Generator
from cloudgan.training import scores
from cloudgan.training.data.samples_folder import read_samples
from cloudgan.training.samples import validation_tiles


@pytest.fixture(scope="module")
def shipped():
    return Generator.load("documented")


@pytest.fixture(scope="module")
def served(shipped):
    def declouded(cloudy, masked):
        channels = np.ascontiguousarray(np.moveaxis(cloudy, -1, 0))[None]
        generated = np.moveaxis(shipped(channels)[0], 0, -1)
        return np.where(masked[..., None], generated, cloudy)

    return declouded


@pytest.fixture(scope="module")
def tiles(samples_dir, shipped):
    card = shipped.contract.training
    _, validation = read_samples(samples_dir).split(card["data"]["validation"])
    return validation_tiles(validation, card["seed"])


def test_the_card_names_what_it_was_trained_on(shipped):
    card = shipped.contract.training
    assert not set(card["data"]["train"]) & set(card["data"]["validation"])
    assert card["steps"] > 1000
    assert {"recipe", "width", "seed", "scores", "versions"} <= set(card)
    assert len(shipped.model) < 30e6


def test_its_scores_are_those_on_its_card(shipped, served, tiles):
    claimed = shipped.contract.training["scores"]
    assert set(claimed) == set(tiles)
    for group, samples in tiles.items():
        found = scores.mean_scores(samples, served)
        assert found.psnr == pytest.approx(claimed[group]["psnr"], abs=0.1), group
        assert found.mae == pytest.approx(claimed[group]["mae"], abs=5e-4), group


def test_it_beats_the_clouds_and_on_the_whole_a_mean_colour(served, tiles):
    rows = [
        [scores.mean_scores(samples, method) for method in (served, scores.as_it_is, scores.mean_colour)]
        for samples in tiles.values()
    ]
    for ours, cloudy, _ in rows:
        assert ours.mae < cloudy.mae
    for name in ("mae", "sam"):
        ours, cloudy, mean = (np.mean([getattr(row[i], name) for row in rows]) for i in range(3))
        assert ours < 0.9 * mean
        assert ours < 0.6 * cloudy

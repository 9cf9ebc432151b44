import csv
import json
from dataclasses import replace

import numpy as np
import pytest

from cloudgan.errors import InputError
from cloudgan.generator import Generator
from cloudgan.training import scores
from cloudgan.training.__main__ import main
from cloudgan.training.data import Imagery, Pair, Scene
from cloudgan.training.recipes import SHIPPED
from cloudgan.training.samples import Batches, Sampler, validation_tiles
from cloudgan.training.train import train

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning"
)


@pytest.fixture(scope="module")
def imagery(fields):
    valid = np.ones(fields.shape[:2], bool)
    valid[:5] = False
    cloud, shadow = np.zeros_like(valid), np.zeros_like(valid)
    cloud[50:120, 60:160], shadow[130:160, 60:160] = True, True
    cloudy = np.where(cloud[..., None], np.float32(0.7), fields)
    ground = tuple(Scene(region, region, fields, valid) for region in "ab")
    pairs = tuple(Pair(f"{r} pair", r, cloudy, fields, cloud, valid) for r in "ab")
    skies = tuple(Scene(f"{r} sky", r, cloudy, valid & ~cloud, cloud, shadow) for r in "ab")
    return Imagery(ground, pairs, skies)


def test_batches_repeat_by_seed_and_index(imagery):
    one, same, other = (Batches(Sampler(imagery), 3, range(10), seed, 0.1) for seed in (1, 1, 2))
    assert len(one) == 10
    for a, b in zip(one[4], same[4], strict=True):
        np.testing.assert_array_equal(a, b)
    assert not np.array_equal(one[4][0], other[4][0])
    assert not np.array_equal(one[4][0], one[5][0])
    cloudy, clear, weight = one[4]
    assert cloudy.shape == clear.shape == (3, 256, 256, 3)
    assert weight.shape == (3, 256, 256, 1)
    assert {x.dtype for x in one[4]} == {np.dtype(np.float32)}


def test_samples_teach_the_truth_and_only_it(imagery, rng):
    sampler = Sampler(imagery)
    for _ in range(12):
        sample = sampler.draw(rng, real=0.5)
        assert not (sample.hidden & sample.observed).any()
        np.testing.assert_array_equal(sample.cloudy[sample.observed], sample.clear[sample.observed])
        weights = sample.weight(0.1)[..., 0]
        assert set(np.unique(weights)) <= {np.float32(0), np.float32(0.1), np.float32(1)}
        assert (weights[~sample.hidden & ~sample.observed] == 0).all()
    with pytest.raises(InputError, match="no clear scenes"):
        Sampler(Imagery())


def test_a_run_from_imagery_to_a_model_that_serves(imagery, tmp_path):
    recipe = replace(SHIPPED, width=4, batch=2, steps=4, adversarial_after=0.5, validate_every=2)
    run = train(recipe, tmp_path, tmp_path / "run", held_out=["b"], imagery=imagery)
    rows = list(csv.DictReader((tmp_path / "run" / "metrics.csv").open()))
    assert [row["step"] for row in rows] == ["2", "4"]
    assert float(rows[1]["b simulated psnr"]) > 0
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert list(summary["data"]["train"]) == ["a"]
    assert list(summary["data"]["validation"]) == ["b"]
    assert set(summary["baselines"]) == {"cloudy itself", "mean of the visible pixels"}
    generator = Generator.load(run.model)
    card = generator.contract.training
    best = min(rows, key=lambda row: float(row["validation mae"]))
    assert card["steps"] == int(best["step"])
    # The file, not only the network in memory, reaches the scores that its card claims.
    tiles = validation_tiles(imagery.split(["b"])[1])["b simulated"]

    def served(cloudy, hidden):
        made = generator(np.ascontiguousarray(np.moveaxis(cloudy, -1, 0))[None])[0]
        return np.where(hidden[..., None], np.moveaxis(made, 0, -1), cloudy)

    assert scores.mean_scores(tiles, served).mae == pytest.approx(
        card["scores"]["b simulated"]["mae"], abs=1e-3
    )
    with pytest.raises(InputError, match="holds a run already"):
        train(recipe, tmp_path, tmp_path / "run", held_out=["b"], imagery=imagery)


def test_the_command_names_what_is_wrong(tmp_path, capsys):
    assert main(["documented", str(tmp_path / "nowhere"), str(tmp_path / "run")]) == 2
    assert "nowhere" in capsys.readouterr().err


def test_scores_by_hand(rng):
    truth = rng.uniform(0.05, 0.4, (40, 40, 3)).astype(np.float32)
    mask = np.zeros((40, 40), bool)
    mask[10:30, 10:30] = True
    same = scores.score(truth, truth, mask)
    assert (same.mae, same.ssim, same.sam) == pytest.approx((0, 1, 0), abs=0.05)
    off = truth.copy()
    off[mask] += 0.1
    off[~mask] = 9  # outside the mask nothing counts but to the window of SSIM
    found = scores.score(off, truth, mask)
    assert found.mae == pytest.approx(0.1, abs=1e-6)
    assert found.psnr == pytest.approx(20, abs=1e-3)
    doubled = scores.score(2 * truth, truth, mask)
    assert doubled.sam == pytest.approx(0, abs=0.05), "brightness is no angle"
    with pytest.raises(InputError, match="no pixel"):
        scores.score(truth, truth, np.zeros_like(mask))


def test_the_trivial_baselines(rng):
    cloudy = rng.uniform(0.1, 0.2, (32, 32, 3)).astype(np.float32)
    hidden = np.zeros((32, 32), bool)
    hidden[8:16, 8:16] = True
    cloudy[hidden] = 0.9
    painted = scores.mean_colour(cloudy, hidden)
    np.testing.assert_allclose(
        painted[hidden], np.broadcast_to(cloudy[~hidden].mean(axis=0), (64, 3)), rtol=1e-5
    )
    np.testing.assert_array_equal(painted[~hidden], cloudy[~hidden])
    np.testing.assert_array_equal(scores.as_it_is(cloudy, hidden), cloudy)

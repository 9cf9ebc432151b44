"""Judging: who knows the truth wins, everybody is judged on the same pixels, and seams show."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from cloudgan import observations
from cloudgan.errors import InputError
from cloudgan.evaluation import scoring
from cloudgan.evaluation.cases import Place, draw
from cloudgan.evaluation.scoring import evaluate, interval, reliability, seams
from cloudgan.geo.grid import Window
from cloudgan.geo.tiling import Tiling
from cloudgan.model.contract import Contract
from cloudgan.model.generator import Generator
from cloudgan.observations import Observations
from cloudgan.removal.core import declouded, default_tiling
from cloudgan.schema import Provenance
from cloudgan.sentinel2.classification import PixelClass

BANDS = ("green", "red", "nir")


class Taking:
    """A generator that takes over some of its planes, with an error if need be."""

    batch = 1

    def __init__(self, what: str, error: float = 0.0):
        self.contract = Contract(what, "1", tuple(f"{what}:{band}" for band in BANDS), BANDS, 32)
        self.error = error

    def __call__(self, channels):
        return channels + np.float32(self.error)


def place(rng: np.random.Generator, region: str = "here") -> Place:
    """Dates that all show the same ground, so that the look before is the truth; clouds on the odd ones."""
    ground = rng.integers(500, 4000, (3, 64, 64)).astype(np.uint16)
    bands = tuple(np.repeat(band[None], 6, axis=0) for band in ground)
    pixel_classes = np.full((6, 64, 64), PixelClass.CLEAR, np.uint8)
    scl = np.full((6, 64, 64), 4, np.uint8)
    for at in (1, 3, 5):
        top = 10 * at
        pixel_classes[at, top : top + 20, 8:40] = PixelClass.CLOUDY
        scl[at, top : top + 20, 8:40] = 8
        for band in bands:
            band[at, top : top + 20, 8:40] = 8000
    scenes = Observations(Window(0, 0, 64, 64), bands, pixel_classes, np.arange(6) * 5)
    return Place(region, "10 m", scenes, 2, np.arange(6) % 2 == 0, scl)


@pytest.fixture(scope="module")
def found() -> scoring.Evaluation:
    rng = np.random.default_rng(0)
    models = {"right": Taking("before"), "wrong": Taking("before", 0.05)}
    every = [case for region in ("a", "b") for case in draw(place(rng, region), ["composited"], dates=3)]
    return evaluate([case for case in every if case.at > 0], models)


def test_who_knows_the_truth_wins(found):
    (whole, *_) = scoring.summary(found)
    methods = whole["methods"]
    assert methods["right"]["psnr"] > 100
    assert methods["wrong"]["psnr"] < 30
    assert methods["cloudy"]["mae"] > methods["wrong"]["mae"] > methods["right"]["mae"] == 0
    gains = {(gain["model"], gain["over"]): gain for gain in whole["gains"]}
    assert all(gain["won"] == 0 for (model, _), gain in gains.items() if model == "wrong")


def test_pixels_units_and_regions_are_stated(found):
    whole, *each = scoring.summary(found)
    assert (whole["region"], whole["regions"]) == ("all", 2)
    assert [entry["region"] for entry in each] == ["a", "b"]
    assert whole["units"] == sum(entry["units"] for entry in each) == len(found.units)
    assert whole["pixels"] == sum(unit.pixels for unit in found.units) > 0


def test_every_division_holds_every_pixel_once(found):
    total = sum(unit.pixels for unit in found.units)
    rows = scoring.by_class(found)
    for division in ("age", "depth", "thickness"):
        assert sum(row["pixels"] for row in rows if row["by"] == division) == total
    classes = [row["class"] for row in rows if row["by"] == "thickness"]
    assert classes == ["medium cloud", "edge"]


def test_all_of_it_is_json(found):
    again = json.loads(json.dumps(scoring.as_json(found), allow_nan=False))
    assert again.keys() == {"summary", "by", "spread", "units"}


def test_only_what_is_judged_is_generated_and_it_is_the_same():
    case = next(iter(draw(place(np.random.default_rng(1)), ["composited"])))
    generator = Taking("after", 0.01)
    whole = scoring.served(case, generator)
    top = int(np.flatnonzero((whole.provenance == Provenance.GENERATED).any(axis=1))[0])
    part = Window(top, 10, 14, 25)
    rows, cols = part.slices_in(case.place.scenes.window)
    some = scoring.served(case, generator, part)
    np.testing.assert_array_equal(some.bands, whole.bands[:, rows, cols])

    inside = np.zeros((64, 64), bool)
    inside[rows, cols] = True
    (unit,) = evaluate([replace(case, judged=case.judged & inside)], {"model": generator}).units
    generated = case.judged & inside & (whole.provenance == Provenance.GENERATED)
    error = np.abs(whole.bands.astype(float) - case.truth)[:, generated].mean() / 10_000
    assert unit.pixels == generated.sum() > 0
    assert unit.methods["model"]["mae"] == pytest.approx(error, abs=6e-5)


def test_a_model_called_like_a_baseline_is_refused():
    with pytest.raises(InputError, match="'median' is a baseline"):
        evaluate([], {"median": Taking("before")})


def test_an_interval_widens_with_regions_that_differ():
    rng = np.random.default_rng(0)
    values = rng.normal(0, 0.1, 40)
    alike = interval(values, ["a"] * 20 + ["b"] * 20)
    apart = interval(np.concatenate([values[:20], values[20:] + 1]), ["a"] * 20 + ["b"] * 20)
    assert alike[0] < 0 < alike[1]
    assert apart[1] - apart[0] > 5 * (alike[1] - alike[0])


def test_a_spread_that_tells_is_told_from_one_that_does_not():
    rng = np.random.default_rng(0)
    uncertainty = rng.gamma(2, 0.01, 5000)
    good = reliability(uncertainty, np.abs(rng.normal(0, uncertainty)))
    idle = reliability(uncertainty, rng.gamma(2, 0.01, 5000))
    assert good["rank correlation"] > 0.4 > abs(idle["rank correlation"]) + 0.3
    errors = [tenth["error"] for tenth in good["tenths"]]
    assert errors[-1] > 5 * errors[0]


TILING = Tiling(32, 24)


def test_a_seam_shows_and_smooth_ground_has_none():
    rng = np.random.default_rng(0)
    window = Window(-5, 7, 200, 200)
    image = rng.integers(1000, 1400, (3, 200, 200)).astype(np.uint16)
    everywhere = np.ones((200, 200), bool)
    assert seams(image, everywhere, window, TILING).ratio == pytest.approx(1, abs=0.03)
    columns = window.col + np.arange(200)
    stepped = image + (300 * (columns // 24 % 2)).astype(np.uint16)
    assert seams(stepped, everywhere, window, TILING).ratio > 1.2
    moved = np.roll(stepped, 3, axis=2)  # the same steps, away from the borders
    assert seams(moved, everywhere, window, TILING).ratio < 1
    with pytest.raises(InputError, match="no border"):
        seams(image, ~everywhere, window, TILING)


def test_the_shipped_generator_leaves_no_seam_in_a_real_scene(real_scenes):
    from cloudgan.training.data.places import read_catalog

    there = read_catalog(str(real_scenes))
    generator = Generator.load()
    tiling = default_tiling(generator)
    at = int(np.argmax(np.mean(there.scenes.pixel_classes == PixelClass.CLOUDY, axis=(1, 2))))
    window = there.scenes.window
    (made,) = declouded(there.scenes, window, generator, buffer=there.buffer, tiling=tiling, dates=[at])
    wholly = observations.compute_opacity(there.scenes.pixel_classes[at], there.buffer) == 1
    found = seams(made.bands, wholly & (made.provenance == Provenance.GENERATED), window, tiling)
    assert found.pairs > 5000
    assert found.ratio == pytest.approx(1, abs=0.05)

"""Evaluation: the true image scores best, all methods are compared on the same pixels, and seams show."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from cloudgan.errors import InputError
from cloudgan.evaluation.baselines import RIVALS
from cloudgan.evaluation.cases import draw_cases
from cloudgan.evaluation.scoring import Evaluation, decloud_case, evaluate
from cloudgan.evaluation.seams import measure_seams
from cloudgan.evaluation.summary import as_json, interval, reliability, summarise, summarise_strata
from cloudgan.geo.grid import Window
from cloudgan.geo.tiling import Tiling
from cloudgan.model.contract import Channel, Contract, Source
from cloudgan.model.generator import Generator
from cloudgan.observations import Observations, Site, compute_opacity
from cloudgan.removal.core import decloud_dates, default_tiling
from cloudgan.schema import Provenance
from cloudgan.sentinel2.classification import PixelClass

BANDS = ("green", "red", "nir")


class Copying:
    """A generator that copies its input channels, with an error added."""

    batch = 1

    def __init__(self, source: Source, error: float = 0.0, bands: tuple[str, ...] = BANDS):
        self.contract = Contract(source, "1", tuple(Channel(source, band) for band in bands), bands, 32)
        self.error = error

    def __call__(self, channels):
        return channels + np.float32(self.error)


def site_of(rng: np.random.Generator, region: str = "here") -> Site:
    """Dates that all show the same surface, so that the date before is the truth; clouds on the odd ones."""
    surface = rng.integers(500, 4000, (3, 64, 64)).astype(np.uint16)
    bands = {name: np.repeat(band[None], 6, axis=0) for name, band in zip(BANDS, surface, strict=True)}
    pixel_classes = np.full((6, 64, 64), PixelClass.CLEAR, np.uint8)
    scl = np.full((6, 64, 64), 4, np.uint8)
    for at in (1, 3, 5):
        top = 10 * at
        pixel_classes[at, top : top + 20, 8:40] = PixelClass.CLOUDY
        scl[at, top : top + 20, 8:40] = 8
        for band in bands.values():
            band[at, top : top + 20, 8:40] = 8000
    observations = Observations(Window(0, 0, 64, 64), bands, pixel_classes, np.arange(6) * 5, scl)
    return Site("made by hand", region, 10, 2, observations, np.arange(6) % 2 == 0)


@pytest.fixture(scope="module")
def found() -> Evaluation:
    rng = np.random.default_rng(0)
    models = {"right": Copying(Source.NEAREST_BEFORE), "wrong": Copying(Source.NEAREST_BEFORE, 0.05)}
    every = [
        case for region in ("a", "b") for case in draw_cases(site_of(rng, region), ["composited"], dates=3)
    ]
    return evaluate([case for case in every if case.at > 0], models)


def test_the_generator_that_knows_the_truth_scores_best(found):
    (whole, *_) = summarise(found)
    methods = whole["methods"]
    assert methods["right"]["psnr"] > 100
    assert methods["wrong"]["psnr"] < 30
    assert methods["cloudy"]["mae"] > methods["wrong"]["mae"] > methods["right"]["mae"] == 0
    gains = {gain["model"]: gain for gain in whole["gains"]}
    assert len(whole["gains"]) == len(gains) == 2
    assert gains["wrong"]["won"] == 0


def test_a_gain_is_that_over_the_best_of_all_baselines(found):
    for entry in summarise(found):
        psnr = {name: entry["methods"][name]["psnr"] for name in RIVALS}
        for gain in entry["gains"]:
            assert psnr[gain["over"]] == max(psnr.values())
            model = entry["methods"][gain["model"]]["psnr"]
            assert gain["gain dB"] == pytest.approx(model - max(psnr.values()), abs=0.006)


def test_without_a_baseline_there_is_no_gain(found):
    alone = replace(found, methods=found.models)
    assert all(entry["gains"] == [] for entry in summarise(alone))


def test_pixels_units_and_regions_are_stated(found):
    whole, *each = summarise(found)
    assert (whole["region"], whole["regions"]) == ("all", 2)
    assert [entry["region"] for entry in each] == ["a", "b"]
    assert whole["units"] == sum(entry["units"] for entry in each) == len(found.units)
    assert whole["pixels"] == sum(unit.pixels for unit in found.units) > 0


def test_every_pixel_is_in_one_stratum_of_every_division(found):
    total = sum(unit.pixels for unit in found.units)
    rows = summarise_strata(found)
    for division in ("age", "depth", "thickness"):
        assert sum(row["pixels"] for row in rows if row["by"] == division) == total
    classes = [row["class"] for row in rows if row["by"] == "thickness"]
    assert classes == ["medium cloud", "edge"]


def test_all_results_can_be_written_as_json(found):
    again = json.loads(json.dumps(as_json(found), allow_nan=False))
    assert again.keys() == {"summary", "by", "uncertainty", "units"}


def test_only_the_evaluated_window_is_generated_and_its_values_are_the_same():
    case = next(iter(draw_cases(site_of(np.random.default_rng(1)), ["composited"])))
    generator = Copying(Source.NEAREST_AFTER, 0.01)
    whole = decloud_case(case, generator)
    top = int(np.flatnonzero((whole.provenance == Provenance.GENERATED).any(axis=1))[0])
    part = Window(top, 10, 14, 25)
    rows, cols = part.slices_in(case.site.observations.window)
    some = decloud_case(case, generator, part)
    np.testing.assert_array_equal(some.bands, whole.bands[:, rows, cols])

    inside = np.zeros((64, 64), bool)
    inside[rows, cols] = True
    (unit,) = evaluate([replace(case, evaluated=case.evaluated & inside)], {"model": generator}).units
    generated = case.evaluated & inside & (whole.provenance == Provenance.GENERATED)
    error = np.abs(whole.bands.astype(float) - case.truth)[:, generated].mean() / 10_000
    assert unit.pixels == generated.sum() > 0
    assert unit.methods["model"]["mae"] == pytest.approx(error, abs=6e-5)


def test_a_model_called_like_a_baseline_is_refused():
    with pytest.raises(InputError, match="'median' is a baseline"):
        evaluate([], {"median": Copying(Source.NEAREST_BEFORE)})


def test_only_bands_that_every_generator_gives_are_compared():
    case = next(iter(draw_cases(site_of(np.random.default_rng(1)), ["composited"])))
    both = {
        "all": Copying(Source.NEAREST_AFTER),
        "turned": Copying(Source.NEAREST_AFTER, bands=("nir", "green")),
    }
    (unit,) = evaluate([case], both).units
    assert unit.methods["all"] == unit.methods["turned"]
    assert {"pc 0", "pc 1"} <= unit.methods["all"].keys()
    assert "pc 2" not in unit.methods["all"]


def test_generators_without_a_common_band_are_refused():
    case = next(iter(draw_cases(site_of(np.random.default_rng(1)), ["composited"])))
    one, other = (Copying(Source.NEAREST_AFTER, bands=(band,)) for band in ("red", "nir"))
    with pytest.raises(InputError, match=r"no band of here .* is given by all of one, other"):
        evaluate([case], {"one": one, "other": other})


def test_an_interval_is_wider_where_regions_differ():
    rng = np.random.default_rng(0)
    values = rng.normal(0, 0.1, 40)
    alike = interval(values, ["a"] * 20 + ["b"] * 20)
    apart = interval(np.concatenate([values[:20], values[20:] + 1]), ["a"] * 20 + ["b"] * 20)
    assert alike[0] < 0 < alike[1]
    assert apart[1] - apart[0] > 5 * (alike[1] - alike[0])


def test_the_interval_is_that_of_draws_one_by_one():
    rng = np.random.default_rng(3)
    values, regions = rng.normal(size=30), ["a"] * 5 + ["b"] * 25
    parts = [values[:5], values[5:]]
    means = []
    for _ in range(4000):
        drawn = [rng.choice(parts[region], len(parts[region])) for region in rng.integers(2, size=2)]
        means.append(np.concatenate(drawn).mean())
    np.testing.assert_allclose(interval(values, regions), np.quantile(means, [0.025, 0.975]), atol=0.08)


def test_an_uncertainty_that_predicts_the_error_ranks_above_one_that_does_not():
    rng = np.random.default_rng(0)
    uncertainty = rng.gamma(2, 0.01, 5000)
    good = reliability(uncertainty, np.abs(rng.normal(0, uncertainty)))
    useless = reliability(uncertainty, rng.gamma(2, 0.01, 5000))
    assert good["rank correlation"] > 0.4 > abs(useless["rank correlation"]) + 0.3
    errors = [tenth["error"] for tenth in good["tenths"]]
    assert errors[-1] > 5 * errors[0]


TILING = Tiling(32, 24)


def test_a_seam_is_measured_and_a_smooth_surface_has_none():
    rng = np.random.default_rng(0)
    window = Window(-5, 7, 200, 200)
    image = rng.integers(1000, 1400, (3, 200, 200)).astype(np.uint16)
    everywhere = np.ones((200, 200), bool)
    assert measure_seams(image, everywhere, window, TILING).ratio == pytest.approx(1, abs=0.03)
    columns = window.col + np.arange(200)
    stepped = image + (300 * (columns // 24 % 2)).astype(np.uint16)
    assert measure_seams(stepped, everywhere, window, TILING).ratio > 1.2
    moved = np.roll(stepped, 3, axis=2)  # the same steps, away from the borders
    assert measure_seams(moved, everywhere, window, TILING).ratio < 1
    with pytest.raises(InputError, match="no border"):
        measure_seams(image, ~everywhere, window, TILING)


def test_the_shipped_generator_leaves_no_seam_in_a_real_scene(real_scenes):
    from cloudgan.training.data.paths import read_sites_of
    from cloudgan.training.recipe import BANDS

    (site,) = read_sites_of(real_scenes, BANDS)
    observations, window = site.observations, site.observations.window
    generator = Generator.load()
    tiling = default_tiling(generator)
    at = int(np.argmax(np.mean(observations.pixel_classes == PixelClass.CLOUDY, axis=(1, 2))))
    (date,) = decloud_dates(observations, window, generator, buffer=site.buffer, tiling=tiling, dates=[at])
    not_feathered = compute_opacity(observations.pixel_classes[at], site.buffer) == 1
    generated = not_feathered & (date.provenance == Provenance.GENERATED)
    found = measure_seams(date.bands, generated, window, tiling)
    assert found.pairs > 5000
    assert found.ratio == pytest.approx(1, abs=0.05)

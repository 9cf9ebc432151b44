"""Cases mask pixels whose truth is known, and keep that truth out of the input."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cloudgan.evaluation.cases import (
    CLOUD_EDGE,
    KINDS,
    CloudySource,
    composite_clouds,
    draw_cases,
    estimate_radiometry,
    known_truth,
    mask_fully,
    withhold_truth,
)
from cloudgan.geo.grid import Window
from cloudgan.observations import Observations, Site
from cloudgan.sentinel2.classification import PixelClass

SIZE = 40


@pytest.fixture
def site() -> Site:
    """Eight dates three days apart; the odd ones have clouds on a third of the surface."""
    rng = np.random.default_rng(0)
    shape = (8, SIZE, SIZE)
    bands = {name: rng.integers(500, 4000, shape).astype(np.uint16) for name in ("green", "red", "nir")}
    pixel_classes = np.full(shape, PixelClass.CLEAR, np.uint8)
    scl = np.full(shape, 4, np.uint8)
    for at in range(1, 8, 2):
        pixel_classes[at, : SIZE // 3] = PixelClass.CLOUDY
        scl[at, : SIZE // 3] = 9
    window = Window(0, 0, SIZE, SIZE)
    observations = Observations(window, bands, pixel_classes, np.arange(8) * 3 + 100, scl)
    return Site("made by hand", "here", 10, 2, observations, np.arange(8) % 2 == 0)


def test_a_composited_cloud_brings_its_pixels_its_edge_and_its_classes(site):
    case = composite_clouds(site, 2, CloudySource.of_date(site.observations, 3), "case")
    cloudy, edge = case.site.observations, SIZE // 3
    np.testing.assert_array_equal(cloudy.pixel_classes[2, :edge], PixelClass.CLOUDY)
    np.testing.assert_array_equal(cloudy.pixel_classes[2, edge:], PixelClass.CLEAR)
    np.testing.assert_array_equal(case.scl[:edge], 9)
    for (name, before), truth in zip(site.observations.bands.items(), case.truth, strict=True):
        band = cloudy.bands[name]
        np.testing.assert_array_equal(band[2, : edge + CLOUD_EDGE], before[3, : edge + CLOUD_EDGE])
        np.testing.assert_array_equal(band[2, edge + CLOUD_EDGE :], before[2, edge + CLOUD_EDGE :])
        np.testing.assert_array_equal(truth, before[2])
        np.testing.assert_array_equal(np.delete(band, 2, axis=0), np.delete(before, 2, axis=0))


def test_clouds_of_an_unknown_classification_leave_none(site):
    source = replace(CloudySource.of_date(site.observations, 3), scl=None)
    assert composite_clouds(site, 2, source, "case").scl is None


def test_a_fully_masked_date_shows_nothing_of_its_truth(site):
    case = mask_fully(site, 2, "case")
    masked = case.site.observations
    assert (masked.pixel_classes[2] == PixelClass.CLOUDY).all()
    assert all(len(np.unique(band[2])) == 1 for band in masked.bands.values())
    assert case.scl is None
    np.testing.assert_array_equal(case.truth[0], site.observations.bands["green"][2])


def test_the_date_that_stands_for_the_truth_is_withheld(site):
    case = withhold_truth(site, 3, 4, "case")
    days = site.observations.days
    assert days[4] not in case.site.observations.days
    assert case.site.observations.days[case.at] == days[3]
    np.testing.assert_array_equal(case.truth[1], site.observations.bands["red"][4])


def test_nothing_near_the_clouds_of_a_date_is_known_truth(site):
    known = known_truth(site, 1)
    assert not known[: SIZE // 3 + site.buffer + 1].any()
    assert known[SIZE // 3 + site.buffer + 4 :].all()


def test_every_kind_is_drawn_and_the_same_seed_draws_the_same(site):
    drawn = list(draw_cases(site, dates=3, seed=5))
    assert {case.kind for case in drawn} == set(KINDS)
    assert [case.name for case in drawn] == [case.name for case in draw_cases(site, dates=3, seed=5)]
    assert [case.name for case in drawn] != [case.name for case in draw_cases(site, dates=3, seed=6)]
    for case in drawn:
        assert case.evaluated.any()
        days = case.site.observations.days
        assert np.abs(days - days[case.at]).max() <= 45


def test_cases_are_grouped_by_pixel_size(site):
    assert {case.group for case in draw_cases(site)} == {"10 m"}
    assert {case.group for case in draw_cases(replace(site, resolution=120.0))} == {"120 m"}


def test_only_the_kinds_that_are_asked_for_are_drawn(site):
    assert {case.kind for case in draw_cases(site, ["composited"])} == {"composited"}


def test_a_date_that_is_not_trusted_is_no_truth(site):
    assert list(draw_cases(replace(site, trusted=np.zeros(8, bool)))) == []


def test_the_offsets_of_a_site_are_those_between_its_clear_pixels():
    rng = np.random.default_rng(3)
    surface = rng.integers(500, 3000, (1, 150, 140)) + np.array([0, 120]).reshape(2, 1, 1)
    pixel_classes = np.full(surface.shape, PixelClass.CLEAR, np.uint8)
    surface[1, :70], pixel_classes[1, :70] = 9000, PixelClass.CLOUDY
    window = Window(0, 0, 150, 140)
    bands = dict.fromkeys(("green", "red", "nir"), surface.astype(np.uint16))
    observations = Observations(window, bands, pixel_classes, np.array([0, 5], np.int64))
    found = estimate_radiometry(Site("made by hand", "here", 10, 2, observations, np.ones(2, bool)))
    assert found.window == window
    np.testing.assert_allclose(found.offsets[1, 0], 0.012, atol=1e-6)


def test_a_date_of_several_overpasses_keeps_its_masks_and_gains_those_of_its_new_clouds():
    window = Window(0, 0, 40, 40)
    classes = np.full((2, *window.shape), PixelClass.CLEAR, np.uint8)
    classes[1, :10] = PixelClass.CLOUDY
    bands = {"green": np.full(classes.shape, 900, np.uint16)}
    opacities = np.zeros(classes.shape, np.float16)
    opacities[0, 30:, 30:] = 0.5
    observations = Observations(window, bands, classes, np.array([10, 15]), opacities=opacities)
    site = Site("s", "here", 10, 3, observations, np.ones(2, bool))
    made = composite_clouds(site, 0, CloudySource.of_date(observations, 1), "case").site
    assert (made.observations.opacity(3)[0, :10] == 1).all()
    assert (made.observations.opacity(3)[0, 30:, 30:] == 0.5).all()
    assert made.masked()[0].sum() == 13 * 40 + 100
    np.testing.assert_array_equal(made.observations.opacity(3)[1], opacities[1])

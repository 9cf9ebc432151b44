"""Cases hide what is known, and keep the truth from whoever is judged."""

from __future__ import annotations

import numpy as np
import pytest

from cloudgan.evaluation.cases import CLOUD_EDGE, KINDS, Place, composited, draw, masked, real
from cloudgan.geo.grid import Window
from cloudgan.observations import Observations
from cloudgan.sentinel2.classification import PixelClass

SIZE = 40


@pytest.fixture
def place() -> Place:
    """Eight dates five days apart; the odd ones have clouds on a third of the ground."""
    rng = np.random.default_rng(0)
    shape = (8, SIZE, SIZE)
    bands = tuple(rng.integers(500, 4000, shape).astype(np.uint16) for _ in range(3))
    pixel_classes = np.full(shape, PixelClass.CLEAR, np.uint8)
    scl = np.full(shape, 4, np.uint8)
    for at in range(1, 8, 2):
        pixel_classes[at, : SIZE // 3] = PixelClass.CLOUDY
        scl[at, : SIZE // 3] = 9
    scenes = Observations(Window(0, 0, SIZE, SIZE), bands, pixel_classes, np.arange(8) * 3 + 100)
    return Place("here", "10 m", scenes, 2, np.arange(8) % 2 == 0, scl)


def test_a_transplanted_cloud_brings_its_pixels_its_edge_and_its_classes(place):
    case = composited(place, 2, place.cloud_field(3), "case")
    under, edge = case.place.scenes, SIZE // 3
    np.testing.assert_array_equal(under.pixel_classes[2, :edge], PixelClass.CLOUDY)
    np.testing.assert_array_equal(under.pixel_classes[2, edge:], PixelClass.CLEAR)
    np.testing.assert_array_equal(case.scl[:edge], 9)
    for band, before, truth in zip(under.bands, place.scenes.bands, case.truth, strict=True):
        np.testing.assert_array_equal(band[2, : edge + CLOUD_EDGE], before[3, : edge + CLOUD_EDGE])
        np.testing.assert_array_equal(band[2, edge + CLOUD_EDGE :], before[2, edge + CLOUD_EDGE :])
        np.testing.assert_array_equal(truth, before[2])
        np.testing.assert_array_equal(np.delete(band, 2, axis=0), np.delete(before, 2, axis=0))


def test_a_hidden_date_shows_nothing_of_its_truth(place):
    case = masked(place, 2, "case")
    assert (case.place.scenes.pixel_classes[2] == PixelClass.CLOUDY).all()
    assert all(len(np.unique(band[2])) == 1 for band in case.place.scenes.bands)
    np.testing.assert_array_equal(case.truth[0], place.scenes.bands[0][2])


def test_a_judge_is_withheld(place):
    case = real(place, 3, 4, "case")
    assert place.scenes.days[4] not in case.place.scenes.days
    assert case.place.scenes.days[case.at] == place.scenes.days[3]
    np.testing.assert_array_equal(case.truth[1], place.scenes.bands[1][4])


def test_nothing_near_its_own_clouds_is_believed(place):
    known = place.known(1)
    assert not known[: SIZE // 3 + place.buffer + 1].any()
    assert known[SIZE // 3 + place.buffer + 4 :].all()


def test_every_kind_is_drawn_and_the_same_seed_draws_the_same(place):
    drawn = list(draw(place, dates=3, seed=5))
    assert {case.kind for case in drawn} == set(KINDS)
    assert [case.name for case in drawn] == [case.name for case in draw(place, dates=3, seed=5)]
    assert [case.name for case in drawn] != [case.name for case in draw(place, dates=3, seed=6)]
    for case in drawn:
        assert case.judged.any()
        at = case.place.scenes.days[case.at]
        assert np.abs(case.place.scenes.days - at).max() <= 45


def test_a_date_that_is_not_to_be_believed_is_no_truth(place):
    assert all(case.kind != "real" for case in draw(place, ["composited"]))
    none = Place(place.region, place.group, place.scenes, place.buffer, np.zeros(8, bool))
    assert list(draw(none)) == []


def test_a_place_knows_how_its_dates_differ():
    rng = np.random.default_rng(3)
    ground = rng.integers(500, 3000, (1, 150, 140)) + np.array([0, 120]).reshape(2, 1, 1)
    pixel_classes = np.full(ground.shape, PixelClass.CLEAR, np.uint8)
    ground[1, :70], pixel_classes[1, :70] = 9000, PixelClass.CLOUDY
    window = Window(0, 0, 150, 140)
    scenes = Observations(window, (ground.astype(np.uint16),) * 3, pixel_classes, np.array([0, 5], np.int64))
    offsets = Place("here", "10 m", scenes, 2, np.ones(2, bool)).offsets()
    assert offsets.window == window
    np.testing.assert_allclose(offsets.values[1, 0], 0.012, atol=1e-6)

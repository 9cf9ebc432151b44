"""How dates differ over a whole MGRS tile, and what a tile of the generator takes of it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudgan.geo.grid import Window
from cloudgan.removal.normalisation import FEWEST, RadiometricOffsets, median_offsets, offsets_at, similarity

BANDS = ("green", "red", "nir")
DAYS = np.array([0, 5, 10], np.int64)


def dates(offsets, pixels=400, seed=0):
    """The same ground on each date, brighter by an offset, with noise; shape (time, pixel, band)."""
    rng = np.random.default_rng(seed)
    ground = rng.uniform(0.02, 0.4, (1, pixels, len(BANDS)))
    noise = 0.002 * rng.standard_normal((len(offsets), pixels, len(BANDS)))
    return (ground + noise + np.reshape(offsets, (-1, 1, 1))).astype(np.float32)


def measured(reflectance, clear=None, days=DAYS, max_age=120):
    clear = np.ones(reflectance.shape[:2], bool) if clear is None else clear
    return median_offsets(reflectance, clear, days, max_age)


def test_the_difference_of_dates_is_found_as_it_is():
    offsets = measured(dates([0.0, 0.04, -0.02]))
    np.testing.assert_allclose(offsets[1, 0], 0.04, atol=0.0015)
    np.testing.assert_allclose(offsets[2, 0], -0.02, atol=0.0015)


@given(st.lists(st.floats(-0.2, 0.2), min_size=3, max_size=3), st.integers(0, 9))
def test_one_date_is_to_another_what_the_other_is_not_to_it(offsets, seed):
    offsets = measured(dates(offsets, seed=seed))
    np.testing.assert_array_equal(offsets, -offsets.transpose(1, 0, 2))
    assert (offsets[np.arange(3), np.arange(3)] == 0).all()


@pytest.mark.parametrize(
    ("shift", "expected"),
    [
        ((0.0, 0.0, 0.0), 1),
        ((0.02, 0.0, 0.0), 0.5625),  # one band at its usual difference
        ((0.0, 0.0, -0.04), 0.5625),
        ((0.04, 0.0, 0.0), 0),
        ((0.0, 0.0, 0.1), 0),
        ((np.nan, np.nan, np.nan), 0),
    ],
)
def test_dates_are_alike_as_far_as_clear_air_goes(shift, expected):
    assert similarity(np.array([shift], np.float32), BANDS) == pytest.approx(expected, abs=1e-6)


@given(st.floats(0, 0.2), st.floats(0, 0.2))
def test_the_more_dates_differ_the_less_they_are_alike(one, other):
    offsets = np.array(sorted([one, other]), np.float32)[:, None].repeat(3, 1)
    more, less = similarity(offsets, BANDS)
    assert 0 <= less <= more <= 1


def test_nothing_is_known_of_dates_that_show_too_little_together_or_are_too_far_apart():
    reflectance = dates([0.0, 0.01, 0.02])
    clear = np.ones(reflectance.shape[:2], bool)
    clear[0, FEWEST - 1 :] = False
    offsets = measured(reflectance, clear, max_age=7)
    assert np.isnan(offsets[0, 1]).all()
    assert np.isnan(offsets[0, 2]).all()
    assert not np.isnan(offsets[1, 2]).any()
    assert np.isnan(measured(reflectance, max_age=7)[0, 2]).all()


def test_what_lies_under_cloud_plays_no_part():
    reflectance = dates([0.0, 0.005, 0.0], pixels=900)
    clear = np.ones(reflectance.shape[:2], bool)
    clear[1, ::2] = False
    clouded = np.where(clear[..., None], reflectance, 0.9).astype(np.float32)
    np.testing.assert_array_equal(measured(clouded, clear), measured(reflectance, clear))


def place(left, value):
    return RadiometricOffsets(Window(0, left, 100, 100), np.full((3, 3, 3), value, np.float32))


def test_a_tile_takes_what_the_mgrs_tiles_around_it_show():
    west, east = place(0, 0.01), place(80, 0.02)
    tile = Window(40, 30, 20, 20)
    np.testing.assert_allclose(offsets_at([west, east], tile, 0), 0.01)
    assert offsets_at([east], tile, 0) is None
    assert offsets_at([], tile, 0) is None


def test_from_one_mgrs_tile_to_the_next_the_shift_goes_gently():
    places = [place(0, 0.01), place(80, 0.02)]
    course = [float(offsets_at(places, Window(40, left, 20, 20), 0)[0, 0]) for left in range(40, 121)]
    assert course[0] == pytest.approx(0.01)
    assert course[-1] == pytest.approx(0.02)
    assert (np.diff(course) >= -1e-9).all()
    assert np.diff(course).max() < 0.001


def test_an_mgrs_tile_that_knows_nothing_of_a_pair_leaves_it_to_the_other():
    unknown = place(0, np.nan)
    np.testing.assert_allclose(offsets_at([unknown, place(20, 0.02)], Window(40, 40, 20, 20), 0), 0.02)
    assert np.isnan(offsets_at([unknown], Window(40, 40, 20, 20), 0)).all()


def test_some_dates_are_some_of_the_pairs():
    values = np.arange(27, dtype=np.float32).reshape(3, 3, 3)
    some = RadiometricOffsets(Window(0, 0, 9, 9), values).only(range(1, 3))
    np.testing.assert_array_equal(some.values, values[1:, 1:])

"""Radiometric offsets between dates over an MGRS tile, and what a tile of the generator takes of them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudgan.geo.grid import Window
from cloudgan.removal.normalisation import (
    MIN_PIXELS,
    RadiometricOffsets,
    combine_offsets,
    median_offsets,
    similarity,
)

BANDS = ("green", "red", "nir")
DAYS = np.array([0, 5, 10], np.int64)


def dates(offsets, pixels=400, seed=0):
    """The same surface on each date, brighter by an offset, with noise; shape (time, pixel, band)."""
    rng = np.random.default_rng(seed)
    surface = rng.uniform(0.02, 0.4, (1, pixels, len(BANDS)))
    noise = 0.002 * rng.standard_normal((len(offsets), pixels, len(BANDS)))
    return (surface + noise + np.reshape(offsets, (-1, 1, 1))).astype(np.float32)


def measure(reflectance, clear=None, days=DAYS, max_age=120):
    clear = np.ones(reflectance.shape[:2], bool) if clear is None else clear
    return median_offsets(reflectance, clear, days, max_age)


def test_the_offset_between_dates_is_found():
    offsets = measure(dates([0.0, 0.04, -0.02]))
    np.testing.assert_allclose(offsets[1, 0], 0.04, atol=0.0015)
    np.testing.assert_allclose(offsets[2, 0], -0.02, atol=0.0015)


@given(st.lists(st.floats(-0.2, 0.2), min_size=3, max_size=3), st.integers(0, 9))
def test_offsets_change_sign_with_the_order_of_the_dates(offsets, seed):
    offsets = measure(dates(offsets, seed=seed))
    np.testing.assert_array_equal(offsets, -offsets.transpose(1, 0, 2))
    assert (offsets[np.arange(3), np.arange(3)] == 0).all()


@pytest.mark.parametrize(
    ("offset", "expected"),
    [
        ((0.0, 0.0, 0.0), 1),
        ((0.02, 0.0, 0.0), 0.5625),  # one band at its usual difference
        ((0.0, 0.0, -0.04), 0.5625),
        ((0.04, 0.0, 0.0), 0),
        ((0.0, 0.0, 0.1), 0),
        ((np.nan, np.nan, np.nan), 0),
    ],
)
def test_dates_are_similar_within_the_differences_of_a_clear_atmosphere(offset, expected):
    assert similarity(np.array([offset], np.float32), BANDS) == pytest.approx(expected, abs=1e-6)


@given(st.floats(0, 0.2), st.floats(0, 0.2))
def test_similarity_falls_with_the_offset(one, other):
    offsets = np.array(sorted([one, other]), np.float32)[:, None].repeat(3, 1)
    more, less = similarity(offsets, BANDS)
    assert 0 <= less <= more <= 1


def test_dates_with_too_few_common_pixels_or_too_far_apart_have_no_offset():
    reflectance = dates([0.0, 0.01, 0.02])
    clear = np.ones(reflectance.shape[:2], bool)
    clear[0, MIN_PIXELS - 1 :] = False
    offsets = measure(reflectance, clear, max_age=7)
    assert np.isnan(offsets[0, 1]).all()
    assert np.isnan(offsets[0, 2]).all()
    assert not np.isnan(offsets[1, 2]).any()
    assert np.isnan(measure(reflectance, max_age=7)[0, 2]).all()


def test_pixels_under_cloud_do_not_count():
    reflectance = dates([0.0, 0.005, 0.0], pixels=900)
    clear = np.ones(reflectance.shape[:2], bool)
    clear[1, ::2] = False
    cloudy = np.where(clear[..., None], reflectance, 0.9).astype(np.float32)
    np.testing.assert_array_equal(measure(cloudy, clear), measure(reflectance, clear))


def mgrs_tile(left, value):
    return RadiometricOffsets(Window(0, left, 100, 100), np.full((3, 3, 3), value, np.float32))


def test_a_tile_takes_the_offsets_of_the_mgrs_tiles_around_it():
    west, east = mgrs_tile(0, 0.01), mgrs_tile(80, 0.02)
    tile = Window(40, 30, 20, 20)
    np.testing.assert_allclose(combine_offsets([west, east], tile, 0), 0.01)
    assert combine_offsets([east], tile, 0) is None
    assert combine_offsets([], tile, 0) is None


def test_offsets_change_continuously_from_one_mgrs_tile_to_the_next():
    both = [mgrs_tile(0, 0.01), mgrs_tile(80, 0.02)]
    course = [float(combine_offsets(both, Window(40, left, 20, 20), 0)[0, 0]) for left in range(40, 121)]
    assert course[0] == pytest.approx(0.01)
    assert course[-1] == pytest.approx(0.02)
    assert (np.diff(course) >= -1e-9).all()
    assert np.diff(course).max() < 0.001


def test_an_unknown_offset_is_taken_from_the_other_mgrs_tile():
    unknown = mgrs_tile(0, np.nan)
    np.testing.assert_allclose(
        combine_offsets([unknown, mgrs_tile(20, 0.02)], Window(40, 40, 20, 20), 0), 0.02
    )
    assert np.isnan(combine_offsets([unknown], Window(40, 40, 20, 20), 0)).all()


def test_selected_dates_keep_the_offsets_between_them():
    values = np.arange(27, dtype=np.float32).reshape(3, 3, 3)
    some = RadiometricOffsets(Window(0, 0, 9, 9), values).select_dates(range(1, 3))
    np.testing.assert_array_equal(some.values, values[1:, 1:])

"""Radiometric offsets between dates over an MGRS tile, and what a tile of the generator takes of them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudgan.estimation.trust import DateErrors
from cloudgan.geo.grid import Window
from cloudgan.removal.normalisation import (
    MIN_PIXELS,
    Radiometry,
    combine_radiometry,
    median_offsets,
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


def mgrs_tile(left, value, trust=1.0):
    offsets = np.full((3, 3, 3), value, np.float32)
    errors = DateErrors(np.full((3, 3), 0.01, np.float32), np.full((3, 3), trust, np.float32))
    return Radiometry(Window(0, left, 100, 100), offsets, errors)


def test_a_tile_takes_the_radiometry_of_the_mgrs_tiles_around_it():
    west, east = mgrs_tile(0, 0.01, trust=0.5), mgrs_tile(80, 0.02)
    tile = Window(40, 30, 20, 20)
    offsets, trust = combine_radiometry([west, east], tile, 0)
    np.testing.assert_allclose(offsets, 0.01)
    np.testing.assert_allclose(trust, 0.5)
    assert combine_radiometry([east], tile, 0) is None
    assert combine_radiometry([], tile, 0) is None


@pytest.mark.parametrize("left", [-15, -1, 95, 99])
def test_a_tile_at_the_edge_of_the_imagery_takes_the_radiometry_of_what_it_shows(left):
    """Its middle lies outside; without this, a hazy date would be followed along the edge."""
    offsets, trust = combine_radiometry([mgrs_tile(0, 0.01, trust=0.2)], Window(40, left, 20, 20), 0)
    np.testing.assert_allclose(offsets, 0.01)
    np.testing.assert_allclose(trust, 0.2)


def test_radiometry_changes_continuously_from_one_mgrs_tile_to_the_next():
    both = [mgrs_tile(0, 0.01, trust=0.2), mgrs_tile(80, 0.02)]
    found = [combine_radiometry(both, Window(40, left, 20, 20), 0) for left in range(40, 121)]
    offsets, trust = ([float(values.flat[0]) for values in each] for each in zip(*found, strict=True))
    assert (offsets[0], offsets[-1]) == pytest.approx((0.01, 0.02))
    assert (trust[0], trust[-1]) == pytest.approx((0.2, 1.0))
    for course in (offsets, trust):
        assert (np.diff(course) >= -1e-6).all()
        assert np.diff(course).max() < 0.1 * (course[-1] - course[0])


def test_an_unknown_offset_is_taken_from_the_other_mgrs_tile():
    unknown, tile = mgrs_tile(0, np.nan), Window(40, 40, 20, 20)
    np.testing.assert_allclose(combine_radiometry([unknown, mgrs_tile(20, 0.02)], tile, 0)[0], 0.02)
    assert np.isnan(combine_radiometry([unknown], tile, 0)[0]).all()


def test_selected_dates_keep_what_is_known_of_them():
    offsets = np.arange(27, dtype=np.float32).reshape(3, 3, 3)
    errors = DateErrors(offsets[0], offsets[1])
    some = Radiometry(Window(0, 0, 9, 9), offsets, errors).select_dates(range(1, 3))
    np.testing.assert_array_equal(some.offsets, offsets[1:, 1:])
    np.testing.assert_array_equal(some.errors.std, offsets[0, 1:])
    np.testing.assert_array_equal(some.errors.trust, offsets[1, 1:])


def test_radiometry_survives_packing():
    tile = mgrs_tile(0, 0.01, trust=0.5)
    again = Radiometry.unpack(tile.window, tile.pack())
    np.testing.assert_array_equal(again.offsets, tile.offsets)
    np.testing.assert_array_equal(again.errors.std, tile.errors.std)
    np.testing.assert_array_equal(again.errors.trust, tile.errors.trust)

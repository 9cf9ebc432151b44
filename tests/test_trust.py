"""How far dates stray from what the others tell, and how far their own values may be followed."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudgan.estimation.trust import DateErrors, measure_errors

DAYS = np.arange(0, 40, 5, dtype=np.int64)
HAZE = np.array([0.04, 0.035, 0.03], np.float32)


def season(seed=0, pixels=2500):
    """Fields that grow slowly, seen on eight dates with a little noise; shape (time, pixel, band)."""
    rng = np.random.default_rng(seed)
    fields = rng.uniform(0.05, 0.4, (1, pixels, 3))
    growth = rng.normal(0, 0.01, (1, pixels, 3)) * DAYS[:, None, None] / 40
    noise = 0.004 * rng.standard_normal((len(DAYS), pixels, 3))
    return np.maximum(fields + growth + noise, 0.001).astype(np.float32)


def measure(reflectance, clear=None, max_age=120):
    clear = np.ones(reflectance.shape[:2], bool) if clear is None else clear
    return measure_errors(reflectance, clear, DAYS, max_age)


@given(st.integers(0, len(DAYS) - 1), st.integers(0, 5))
def test_a_hazy_date_is_found_among_clear_ones(at, seed):
    reflectance = season(seed)
    reflectance[at] += HAZE
    errors = measure(reflectance)
    assert np.flatnonzero(errors.hazy).tolist() == [at]
    assert (errors.std[at] > 2 * np.delete(errors.std, at, axis=0)).all()


@given(st.integers(0, 9))
def test_no_clear_date_is_hazy(seed):
    errors = measure(season(seed))
    assert not errors.hazy.any()
    np.testing.assert_allclose(errors.std, 0.004, atol=0.004)


def test_a_ploughed_landscape_is_not_haze():
    """Red brightens and near infrared darkens, from one date on."""
    reflectance = season()
    reflectance[4:, :1500] += np.array([0.02, 0.04, -0.12], np.float32)
    assert not measure(np.maximum(reflectance, 0.001)).hazy.any()


def test_a_date_without_others_is_unknown_and_trusted():
    reflectance = season()
    clear = np.zeros(reflectance.shape[:2], bool)
    clear[2] = True
    errors = measure(reflectance, clear)
    assert np.isnan(errors.std).all()
    assert (errors.trust == 1).all()
    assert not errors.hazy.any()


def test_dates_that_lie_too_far_away_decide_nothing():
    reflectance = season()
    clear = np.ones(reflectance.shape[:2], bool)
    some, all_dates = (measure_errors(reflectance[:end], clear[:end], DAYS[:end], 7) for end in (4, 8))
    np.testing.assert_array_equal(some.std[:3], all_dates.std[:3])


def test_scenes_are_averaged_by_variance_and_what_one_lacks_others_tell():
    one = DateErrors(np.array([[0.03], [np.nan]], np.float32), np.array([[1.0], [1.0]], np.float32))
    other = DateErrors(np.array([[0.04], [0.02]], np.float32), np.array([[0.5], [0.2]], np.float32))
    mean = DateErrors.average([one, other])
    np.testing.assert_allclose(mean.std[:, 0], [np.sqrt((0.03**2 + 0.04**2) / 2), 0.02], rtol=1e-5)
    assert mean.trust[:, 0] == pytest.approx([0.75, 0.6])

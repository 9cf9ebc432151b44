"""The estimate: weights that the theory gives, errors that the dates show, and nothing from under a mask."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudgan.estimation.estimate import estimate_date
from cloudgan.estimation.interpolation import (
    DEPTH,
    error_variance,
    interpolate,
    select_nearest,
    solve_weights,
)
from cloudgan.estimation.regression import MIN_PIXELS, correct
from cloudgan.estimation.variances import estimate_variances

seeds = st.integers(0, 2**32 - 1)


def unknown_variances(days, bands=1):
    """What is assumed where no two dates can be compared."""
    return estimate_variances(
        np.zeros((len(days), bands, 4), np.float32), np.zeros((len(days), 4), bool), np.asarray(days)
    )


def surface(rng, shape=(64, 64), bands=3):
    """Fields of one colour each, reflectance, shape (band, y, x)."""
    colours = rng.uniform(0.03, 0.4, (bands, 8, 8))
    return np.kron(colours, np.ones((shape[0] // 8, shape[1] // 8))).astype(np.float32)


@given(seeds)
def test_without_errors_and_with_steady_drift_it_is_linear_interpolation(seed):
    rng = np.random.default_rng(seed)
    days = np.sort(rng.choice(100, 6, replace=False))  # less than the last knot of the drift
    at = int(rng.integers(1, 5))
    values = rng.uniform(0, 1, (6, 2, 30)).astype(np.float32)
    clear = rng.random((6, 30)) < 0.6
    clear[at] = False
    found = interpolate(values, clear, at, unknown_variances(days, 2))
    for pixel in range(30):
        there = np.flatnonzero(clear[:, pixel])
        for band in range(2):
            if len(there):
                wanted = np.interp(days[at], days[there], values[there, band, pixel])
                assert found[band, pixel] == pytest.approx(wanted, abs=1e-4)
            else:
                assert np.isnan(found[band, pixel])


@given(seeds)
def test_weights_are_those_of_ordinary_kriging_and_sum_to_one(seed):
    rng = np.random.default_rng(seed)
    days = np.sort(rng.choice(60, 5, replace=False))
    scene = surface(rng)
    series = scene.reshape(1, 3, -1) + rng.normal(0, rng.uniform(0.01, 0.05, (5, 1, 1)), (5, 3, 64 * 64))
    variances = estimate_variances(series.astype(np.float32), np.ones((5, 64 * 64), bool), days)
    used = np.array([[True, True, False, True, True], [False] * 5])
    weights = solve_weights(used, 2, variances)
    assert np.allclose(weights[0].sum(axis=-1), 1)
    assert not weights[1].any()
    assert (weights >= 0).all()
    assert not weights[:, :, 2].any()
    # One band by hand.
    there = np.flatnonzero(used[0])
    gaps = np.abs(days[there][:, None] - days[there]).astype(float)
    system = np.ones((5, 5))
    system[:4, :4] = -0.5 * variances.drifted(gaps)[0] + np.diag(variances.errors[there, 0] + 1e-9)
    system[4, 4] = 0
    towards = variances.drifted(np.abs(days[there] - days[2]).astype(float))[0]
    solved = np.linalg.solve(system, [*(-0.5 * towards), 1])[:4]
    solved = np.maximum(solved, 0)
    assert np.allclose(weights[0, 0, there], solved / solved.sum(), atol=1e-6)


def test_errors_of_dates_are_found_without_a_truth(rng):
    """Seven dates of one surface, one of them hazy: the differences of all pairs tell which."""
    stray = np.array([0.01, 0.01, 0.06, 0.01, 0.02, 0.01, 0.01])
    scene = surface(rng).reshape(1, 3, -1)
    series = scene + rng.normal(0, stray[:, None, None], (7, 3, scene.shape[-1]))
    clear = np.ones((7, scene.shape[-1]), bool)
    found = estimate_variances(series.astype(np.float32), clear, np.arange(7) * 5)
    errors = np.sqrt(found.errors)
    assert (errors.argmax(axis=0) == 2).all()
    # All dates lean on their mean, so that its error comes out too small, and theirs too large.
    assert (errors[2] > 1.5 * np.delete(errors, 2, axis=0)).all()


def test_an_offset_of_a_whole_date_is_an_error_too(rng):
    scene = surface(rng).reshape(1, 3, -1)
    series = np.repeat(scene, 6, axis=0) + rng.normal(0, 0.005, (6, 3, scene.shape[-1]))
    series[4] += 0.05
    clear = np.ones((6, scene.shape[-1]), bool)
    found = estimate_variances(series.astype(np.float32), clear, np.arange(6) * 5)
    assert (found.errors.argmax(axis=0) == 4).all()


def test_a_date_of_much_error_weighs_little(rng):
    days = np.array([0, 5, 10, 15])
    scene = surface(rng).reshape(1, 3, -1)
    series = scene + rng.normal(0, [[[0.005]], [[0.05]], [[0.005]], [[0.005]]], (4, 3, scene.shape[-1]))
    variances = estimate_variances(series.astype(np.float32), np.ones((4, scene.shape[-1]), bool), days)
    weights = solve_weights(np.array([[True, True, False, True]]), 2, variances)[0]
    assert (weights[:, 1] < 0.2).all()
    alone = error_variance(np.array([True, False, False, False]), 2, variances)
    both = error_variance(np.array([True, False, False, True]), 2, variances)
    assert (both < alone).all()


@given(seeds)
def test_the_nearest_clear_dates_are_taken_on_each_side(seed):
    rng = np.random.default_rng(seed)
    clear = rng.random((9, 12)) < 0.5
    at = int(rng.integers(9))
    found = select_nearest(clear, at)
    for pixel in range(12):
        there = np.flatnonzero(clear[:, pixel])
        wanted = [*there[there < at][-DEPTH:], *there[there > at][:DEPTH]]
        assert np.flatnonzero(found[:, pixel]).tolist() == wanted


def all_of(predictors):
    """One regression, on all predictors."""
    return [np.arange(len(predictors))]


def test_a_linear_relation_is_recovered(rng):
    predictors = rng.normal(0, 0.1, (4, 64, 64)).astype(np.float32)
    residual = np.stack([0.5 * predictors[0] - 0.2 * predictors[2] + 0.03, -predictors[1]])
    known = np.zeros((64, 64), bool)
    known[:, :40] = True
    found = correct(predictors, np.where(known, residual, np.float32(9)), known, all_of(predictors))
    assert np.allclose(found[:, ~known], residual[:, ~known], atol=1e-3)


def test_what_is_known_stays(rng):
    predictors = rng.normal(0, 0.1, (4, 64, 64)).astype(np.float32)
    residual = rng.normal(0, 0.1, (2, 64, 64)).astype(np.float32)
    known = rng.random((64, 64)) < 0.5
    found = correct(predictors, residual, known, all_of(predictors))
    assert np.array_equal(found[:, known], residual[:, known])
    assert np.array_equal(correct(predictors, residual, known | True, all_of(predictors)), residual)


def test_what_nothing_predicts_is_its_mean(rng):
    predictors = rng.normal(0, 0.1, (18, 64, 64)).astype(np.float32)
    residual = rng.normal(0.02, 0.05, (1, 64, 64)).astype(np.float32)
    known = np.zeros((64, 64), bool)
    known[:20] = True
    found = correct(predictors, residual, known, all_of(predictors))
    assert np.abs(found - 0.02)[:, ~known].max() < 0.02


def test_kinds_of_surface_change_in_ways_of_their_own(rng):
    """Crops ripen where they were green, and bare soil does not: no line through all fields tells that."""
    green = rng.random((8, 8)) < 0.5
    level = np.kron(np.where(green, 0.3, -0.3), np.ones((8, 8)))
    predictors = (level + rng.normal(0, 0.03, (6, 64, 64))).astype(np.float32)
    slope = np.where(level > 0, 1.0, -1.0)
    residual = (slope * (predictors[0] - level) + rng.normal(0, 0.005, (1, 64, 64))).astype(np.float32)
    known = np.zeros((64, 64), bool)
    known[:, :40] = True
    found = correct(predictors, residual, known, all_of(predictors))
    assert np.abs(found - residual)[:, ~known].mean() < 0.6 * np.abs(residual)[:, ~known].mean()


@given(seeds)
def test_regressions_on_several_choices_are_averaged(seed):
    rng = np.random.default_rng(seed)
    predictors = rng.normal(0, 0.1, (3, 32, 32)).astype(np.float32)
    residual = (predictors[:2] + rng.normal(0, 0.02, (2, 32, 32))).astype(np.float32)
    known = rng.random((32, 32)) < 0.5
    choices = [np.array([0]), np.array([0, 1, 2])]
    each = [correct(predictors, residual, known, [choice]) for choice in choices]
    assert np.allclose(correct(predictors, residual, known, choices), np.mean(each, axis=0), atol=1e-5)


def test_too_few_pixels_teach_nothing(rng):
    known = np.zeros((16, 16), bool)
    known.ravel()[: MIN_PIXELS - 1] = True
    predictors = rng.normal(0, 1, (3, 16, 16)).astype(np.float32)
    found = correct(predictors, predictors[:1], known, all_of(predictors))
    assert not found[:, ~known].any()


@pytest.fixture
def series(rng):
    """Five dates of fields that change, the middle one to be estimated: numbers, clear, mask, days."""
    scene = surface(rng)
    greener = scene * np.array([0.8, 0.7, 1.3], np.float32)[:, None, None]
    steps = np.linspace(0, 1, 5, dtype=np.float32)[:, None, None, None]
    numbers = scene + steps * (greener - scene) + rng.normal(0, 0.004, (5, *scene.shape))
    masked = np.zeros(scene.shape[1:], bool)
    masked[20:50, 20:50] = True
    clear = np.ones((5, *scene.shape[1:]), bool)
    clear[2] = ~masked
    return np.moveaxis(numbers, 1, 0).astype(np.float32), clear, masked, np.arange(5) * 5


def test_the_estimate_is_near_the_truth(series):
    numbers, clear, masked, days = series
    found = estimate_date(numbers, clear, masked, days, 2)
    assert found.shape == numbers[:, 2].shape
    assert found.dtype == np.float32
    assert np.abs(found - numbers[:, 2])[:, masked].mean() < 0.006


def test_nothing_under_the_mask_counts(series):
    numbers, clear, masked, days = series
    found = estimate_date(numbers, clear, masked, days, 2)
    numbers[:, 2, masked] = 0.9
    assert np.array_equal(found, estimate_date(numbers, clear, masked, days, 2))


def test_nothing_that_is_not_clear_counts(series):
    numbers, clear, masked, days = series
    clear[1, :30] = False
    found = estimate_date(numbers, clear, masked, days, 2)
    numbers[:, 1, :30] = 0.9
    assert np.array_equal(found, estimate_date(numbers, clear, masked, days, 2))


@given(seeds)
def test_nothing_is_beyond_what_the_tile_shows(seed):
    """However wildly the dates differ, and the regression extrapolates."""
    rng = np.random.default_rng(seed)
    numbers = rng.uniform(0.01, 0.6, (2, 4, 24, 24)).astype(np.float32) ** rng.integers(1, 4)
    clear = rng.random((4, 24, 24)) < 0.7
    masked = ~clear[1]
    found = estimate_date(numbers, clear, masked, np.arange(4) * 10, 1)
    shown = numbers[:, clear]
    there = found[0] > 0
    for band in range(2):
        assert found[band][there].min() >= shown[band].min() * 0.999
        assert found[band][there].max() <= shown[band].max() * 1.001


def test_bands_may_come_in_any_order(series):
    numbers, clear, masked, days = series
    found = estimate_date(numbers, clear, masked, days, 2)
    turned = estimate_date(numbers[::-1], clear, masked, days, 2)
    assert np.allclose(found, turned[::-1], atol=1e-5)


def test_a_pixel_that_no_date_shows_has_no_estimate(series):
    numbers, clear, masked, days = series
    clear[:, 30, 30] = False
    found = estimate_date(numbers, clear, masked, days, 2)
    assert not found[:, 30, 30].any()
    assert (np.delete(found.reshape(3, -1), 30 * 64 + 30, axis=1) > 0).all()


def test_a_pixel_that_one_cloudy_date_shows_has_its_value(series):
    """A date that is not one of those that show enough of the tile gives what they lack."""
    numbers, clear, masked, days = series
    clear[:, 30, 30] = False
    clear[3] = False
    clear[3, 30, 30] = True
    found = estimate_date(numbers, clear, masked, days, 2)
    # The correction of the surroundings comes on top.
    assert found[:, 30, 30] == pytest.approx(numbers[:, 3, 30, 30], abs=0.03)


def test_a_fully_masked_date_is_interpolated(series):
    numbers, clear, masked, days = series
    masked[:] = True
    clear[2] = False
    found = estimate_date(numbers, clear, masked, days, 2)
    assert np.abs(found - numbers[:, 2]).mean() < 0.006


def test_haze_over_all_the_date_is_followed_in_part_only(rng):
    """A veil brightens every band of a date whose neighbours agree: what is generated is not to show it."""
    scene = surface(rng, (64, 64))
    numbers = np.moveaxis(scene + rng.normal(0, 0.005, (7, *scene.shape)), 1, 0).astype(np.float32)
    veil = np.array([0.06, 0.05, 0.05], np.float32)[:, None, None]
    numbers[:, 3] += veil
    masked = np.zeros((64, 64), bool)
    masked[:32] = True
    clear = np.ones((7, 64, 64), bool)
    clear[3] = ~masked
    found = estimate_date(numbers, clear, masked, np.arange(7) * 3, 3)
    followed = (found - scene)[:, masked].mean(axis=1) / veil.ravel()
    assert (followed < 0.5).all()


def test_a_change_of_all_the_surface_is_followed(rng):
    """Green-up darkens red and brightens near infrared, which no veil does."""
    scene = surface(rng, (64, 64))
    numbers = np.moveaxis(scene + rng.normal(0, 0.005, (7, *scene.shape)), 1, 0).astype(np.float32)
    change = np.array([-0.01, -0.03, 0.08], np.float32)
    numbers[:, 3] += change[:, None, None]
    masked = np.zeros((64, 64), bool)
    masked[:32] = True
    clear = np.ones((7, 64, 64), bool)
    clear[3] = ~masked
    found = estimate_date(numbers, clear, masked, np.arange(7) * 3, 3)
    assert (found - scene)[:, masked].mean(axis=1) == pytest.approx(change, abs=0.006)

"""Regression and CLEAR: against a naive oracle, exact where the relation is, and never far out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from cubes import BANDS, cube_of
from hypothesis import given, settings
from hypothesis import strategies as st

from cloudgan.evaluation import regression
from cloudgan.evaluation.alignment import align_to_date
from cloudgan.evaluation.baselines import RIVALS, fill_date
from cloudgan.evaluation.gaps import Gap, find_gap
from cloudgan.evaluation.regression import CLUSTERS, DEVIATIONS, fill_by_clear, fill_by_regression
from cloudgan.geo.grid import Window
from cloudgan.observations import Observations
from cloudgan.sentinel2.bands import to_reflectance
from cloudgan.sentinel2.classification import PixelClass

AT = 2
LEARNT = pytest.mark.parametrize("fill", [fill_by_regression, fill_by_clear])


@pytest.fixture(autouse=True)
def few_pixels_are_enough(monkeypatch):
    monkeypatch.setattr(regression, "PIXELS_PER_PREDICTOR", 5)


# --- The oracle: pixel by pixel and least squares of stacked equations, as one would write it at first. ---


def fill_hole(gap: Gap, date: int, row: int, col: int) -> np.ndarray:
    """The bands of one pixel of another date, between its clear dates without the date in question."""
    numbers = np.stack([band[:, row, col] for band in gap.observations.bands.values()], axis=1) * 1e-4
    dates = [time for time in range(len(numbers)) if gap.clear[time, row, col]]
    days = gap.observations.days
    return np.array([np.interp(days[date], days[dates], numbers[dates, band]) for band in range(2)])


def solve_ridge(x: np.ndarray, y: np.ndarray, strength: float, penalty: np.ndarray) -> np.ndarray:
    """Least squares with a row of its own for each penalty."""
    rows = np.diag(np.sqrt(strength * penalty + 1e-9))
    stacked = np.concatenate([x, rows])
    return np.linalg.lstsq(stacked, np.concatenate([y, np.zeros(len(rows))]), rcond=None)[0]


def choose(xs, ys, folds, strengths, penalty) -> float:
    """The strength of least error on folds left out, over several clusters."""
    errors = [
        sum(
            np.sum(
                (y[fold == out] - x[fold == out] @ solve_ridge(x[fold != out], y[fold != out], s, penalty))
                ** 2
            )
            for x, y, fold in zip(xs, ys, folds, strict=True)
            for out in range(16)
        )
        for s in strengths
    ]
    return strengths[int(np.argmin(errors))]


def regress(gap: Gap, *, clustered: bool) -> np.ndarray:
    """What the baselines are to give, shape (band, y, x)."""
    times, height, width = gap.clear.shape
    pixels = [(row, col) for row in range(height) for col in range(width) if gap.available[row, col]]
    dates = [time for time in range(times) if time != gap.at]
    seen = np.array([[fill_hole(gap, date, *pixel) for date in dates] for pixel in pixels])
    columns = seen.reshape(len(pixels), -1)
    good = np.array([gap.reliable[pixel] for pixel in pixels])
    x = np.insert((columns - columns[good].mean(0)) / columns[good].std(0), 0, 1, axis=1)
    fold = np.array([row * 4 // height * 4 + col * 4 // width for row, col in pixels])[good]
    linear = np.array([fill_hole(gap, gap.at, *pixel) for pixel in pixels])
    shown = np.array([[band[row, col] for band in gap.shown] for row, col in pixels])
    labels = regression._cluster(x[:, 1:]) if clustered else np.zeros(len(pixels), int)
    made = np.empty_like(linear)
    for band in range(2):
        y = (shown - linear)[good, band]
        penalty = np.ones(x.shape[1])
        penalty[0] = 0
        strength = choose([x[good]], [y], [fold], regression._STRENGTHS * good.sum(), penalty)
        made[:, band] = linear[:, band] + x @ solve_ridge(x[good], y, strength, penalty)
        fit = made[:, band].copy()
        if clustered:
            correct_clusters(made[:, band], shown[:, band], x, labels, good, fold)
            fit = made[:, band].copy()
            add_residuals(made[:, band], shown[:, band] - fit, pixels, labels, good)
        for label in set(labels):
            here = labels == label
            chosen = good & here if (good & here).any() else good
            margin = DEVIATIONS * np.sqrt(np.mean((shown[:, band] - fit)[chosen] ** 2))
            values = np.concatenate([seen[here][..., band].ravel(), shown[here & good, band]])
            made[here, band] = np.clip(made[here, band], values.min() - margin, values.max() + margin)
    image = np.full((2, height, width), np.nan)
    image[:, *np.transpose(pixels)] = made.T
    return image


def correct_clusters(made, shown, x, labels, good, fold) -> None:
    parts = [good & (labels == label) for label in range(CLUSTERS)]
    xs, ys = [x[part] for part in parts], [(shown - made)[part] for part in parts]
    ones = np.ones(x.shape[1])
    strength = choose(xs, ys, [fold[part[good]] for part in parts], regression._PSEUDO_PIXELS, ones)
    for label, (one, y) in enumerate(zip(xs, ys, strict=True)):
        made[labels == label] += x[labels == label] @ solve_ridge(one, y, strength, ones)


def add_residuals(made, residual, pixels, labels, good) -> None:
    for number, (row, col) in enumerate(pixels):
        same = np.flatnonzero(good & (labels == labels[number]))
        if good[number] or not len(same):
            continue
        distance = np.array([np.hypot(pixels[one][0] - row, pixels[one][1] - col) for one in same])
        order = np.argsort(distance, kind="stable")[: regression._NEIGHBOURS]
        # Neighbours at the distance of the last are as good as it: which of them count is no matter of rule.
        if (
            np.isclose(distance, distance[order[-1]]).sum()
            > np.isclose(distance[order], distance[order[-1]]).sum()
        ):
            made[number] = np.nan
            continue
        weight = 1 / distance[order]
        made[number] += weight @ residual[same[order]] / (weight.sum() + len(order) / regression._HALVED)


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 10_000), holes=st.sampled_from([0.0, 0.15]))
def test_the_regression_is_that_of_the_oracle(seed, holes):
    gap = find_gap(cube_of(seed, holes=holes), AT, 0)
    compared = gap.masked & gap.available
    made, expected = fill_by_regression(gap), regress(gap, clustered=False)
    np.testing.assert_allclose(made[:, compared], expected[:, compared], atol=2e-6)


@settings(max_examples=4, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_clear_is_that_of_the_oracle(seed):
    gap = find_gap(cube_of(seed, size=32), AT, 0)
    expected = regress(gap, clustered=True)
    compared = gap.masked & ~np.isnan(expected[0])
    assert compared.sum() > 20
    np.testing.assert_allclose(fill_by_clear(gap)[:, compared], expected[:, compared], atol=2e-6)


def change(cube: Observations, at: int, image: np.ndarray) -> Observations:
    """The cube with another image of one date where that is clear, shape (band, y, x)."""
    bands = {name: band.copy() for name, band in cube.bands.items()}
    clear = cube.pixel_classes[at] == PixelClass.CLEAR
    for band, one in zip(bands.values(), image, strict=True):
        band[at][clear] = np.rint(one)[clear].astype(np.uint16)
    return replace(cube, bands=bands)


@LEARNT
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000), data=st.data())
def test_an_exactly_linear_relation_is_recovered(fill, seed, data):
    cube = cube_of(seed, size=32)
    part = st.floats(0.1, 0.6)
    before, after, across = data.draw(st.tuples(part, part, st.floats(0, 0.3)))
    images = [cube.image(time).astype(float) for time in (1, 3)]
    truth = 600 + before * images[0] + after * images[1] + across * images[0][::-1]
    gap = find_gap(change(cube, AT, truth), AT, 0)
    made = fill(gap)[:, gap.masked]
    # The range of the dates and of the clear pixels is kept.
    values = np.concatenate([cube.reflectance()[[0, 1, 3, 4]].reshape(-1, 2), truth[:, ~gap.masked].T * 1e-4])
    wanted = np.clip(truth[:, gap.masked].T * 1e-4, values.min(axis=0), values.max(axis=0)).T
    assert np.abs(made - wanted).mean() < 2e-4


def test_land_of_two_kinds_has_a_regression_each():
    cube = cube_of(1, size=48, masked=0.4)
    rng = np.random.default_rng(1)
    field = np.add.outer(np.arange(48) // 8, np.arange(48) // 8) % 2 == 0
    for band in cube.bands.values():
        for time in (0, 1, 3, 4):
            band[time] = np.where(field, 3000, 1000) + rng.normal(0, 200, field.shape)
    before = cube.image(1).astype(float)
    truth = np.where(field, 6000 - before, 500 + 0.5 * before)  # one greens, the other fades
    gap = find_gap(change(cube, AT, truth), AT, 0)
    errors = [
        np.abs(fill(gap) - truth * 1e-4)[:, gap.masked].mean() for fill in (fill_by_regression, fill_by_clear)
    ]
    assert errors[1] < 0.005
    assert errors[1] < errors[0] / 2


def test_residuals_of_neighbours_are_added():
    cube = cube_of(2, size=48, masked=0.2)
    offset = 400 * np.exp(-np.hypot(*np.meshgrid(np.arange(48) - 24, np.arange(48) - 9)) / 6)
    truth = cube.image(1) + offset
    gap = find_gap(change(cube, AT, truth), AT, 0)
    edge = gap.masked & (np.arange(48)[:, None] > 7)
    without, with_them = (
        np.abs(fill(gap) - truth * 1e-4)[:, edge].mean() for fill in (fill_by_regression, fill_by_clear)
    )
    assert with_them < 0.7 * without


@LEARNT
def test_a_fully_masked_date_is_interpolated_linearly(fill):
    gap = find_gap(cube_of(3, masked=1.0, holes=0.1), AT, 0)
    np.testing.assert_array_equal(fill(gap), gap.interpolated[1])


@LEARNT
def test_too_few_clear_pixels_leave_the_aligned_interpolation(fill, monkeypatch):
    gap = find_gap(cube_of(4), AT, 0)
    aligned = align_to_date(gap.interpolated[1], gap.shown, gap.reliable)
    assert not np.allclose(fill(gap), aligned)
    monkeypatch.setattr(regression, "PIXELS_PER_PREDICTOR", gap.reliable.sum() / 8 + 1)
    np.testing.assert_array_equal(fill(gap), aligned)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000), bright=st.integers(1, 15_000), fraction=st.floats(0.01, 1))
def test_nothing_blows_up_beyond_the_guard(seed, bright, fraction):
    cube = cube_of(seed)
    rng = np.random.default_rng(seed)
    for band in cube.bands.values():  # cloud that nobody knows of, over one date, under the mask of the other
        band[1, :8][rng.random((8, 24)) < fraction] = bright
    gap = find_gap(cube, AT, 0)
    others = to_reflectance(np.stack([cube.image(time) for time in (0, 1, 3, 4)]))
    shown = gap.shown[:, gap.reliable]
    low = np.minimum(others.min(axis=(0, 2, 3)), shown.min(axis=1))
    high = np.maximum(others.max(axis=(0, 2, 3)), shown.max(axis=1))
    # A constant fits the clear pixels with their own deviation: no residual is larger.
    margin = DEVIATIONS * 2 * shown.std(axis=1)
    for fill in (fill_by_regression, fill_by_clear):
        made = fill(gap)[:, gap.masked]
        assert (made >= (low - margin)[:, None]).all()
        assert (made <= (high + margin)[:, None]).all()


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10_000), holes=st.sampled_from([0.0, 0.3]), buffer=st.integers(0, 2))
def test_observed_pixels_are_untouched_and_all_else_is_finite(seed, holes, buffer):
    cube = cube_of(seed, holes=holes)
    filled = fill_date(cube, AT, buffer=buffer, names=RIVALS)
    observed = cube.image(AT)
    for image in filled.images.values():
        np.testing.assert_array_equal(image[:, ~filled.masked], observed[:, ~filled.masked])
        assert (image > 0).all()


def test_the_date_itself_fills_no_gap_of_the_dates_that_explain_it():
    cube = cube_of(5, holes=0.3)
    other = change(cube, AT, np.full((2, 24, 24), 7000.0))
    for date in (1, 3):
        filled = [find_gap(one, AT, 0).fill_other(date) for one in (cube, other)]
        np.testing.assert_array_equal(*filled)
        clear = cube.pixel_classes[date] == PixelClass.CLEAR
        np.testing.assert_array_equal(filled[0][:, clear], to_reflectance(cube.image(date))[:, clear])


def test_each_tile_of_a_large_window_has_its_own_regression(monkeypatch):
    monkeypatch.setattr(regression, "TILE", 24)
    left, right = cube_of(6), cube_of(7)
    days = left.days
    bands = {name: np.concatenate([left.bands[name], right.bands[name]], axis=2) for name in BANDS}
    classes = np.concatenate([left.pixel_classes, right.pixel_classes], axis=2)
    both = find_gap(Observations(Window(0, 0, 24, 48), bands, classes, days), AT, 0)
    alone = find_gap(replace(right, days=days), AT, 0)
    made, expected = fill_by_regression(both)[:, :, 24:], fill_by_regression(alone)
    np.testing.assert_allclose(made[:, alone.masked], expected[:, alone.masked], atol=1e-6)


def test_a_series_without_another_date_gives_nothing():
    cube = cube_of(8).select_dates(np.array([AT]))
    gap = find_gap(cube, 0, 0)
    for fill in (fill_by_regression, fill_by_clear):
        assert np.isnan(fill(gap)[:, gap.masked]).all()
    filled = fill_date(cube, 0, buffer=0, names=RIVALS)
    for image in filled.images.values():
        np.testing.assert_array_equal(image, cube.image(0))

"""The Whittaker smoother against one series at a time, solved densely, and where its answer is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from cubes import cube_of
from hypothesis import given, settings
from hypothesis import strategies as st

from cloudgan.evaluation import whittaker
from cloudgan.evaluation.gaps import find_gap
from cloudgan.evaluation.whittaker import SMOOTHNESS, choose_smoothness, smooth, smooth_in_time
from cloudgan.sentinel2.classification import PixelClass

AT = 2


def naive_penalty(days: np.ndarray) -> np.ndarray:
    """Sum over triples of dates of the squared second derivative of the parabola through them."""
    penalty = np.zeros((len(days), len(days)))
    for first in range(len(days) - 2):
        three = slice(first, first + 3)
        row = np.zeros(len(days))
        for one in range(3):
            unit = np.zeros(3)
            unit[one] = 1
            row[first + one] = 2 * np.polyfit(days[three] - days[first], unit, 2)[0]
        penalty += np.outer(row, row) * (days[first + 2] - days[first]) / 2
    return penalty


def series(seed: int, pixels: int = 12, times: int = 9) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Clear flags with at least two of each pixel, values and days."""
    rng = np.random.default_rng(seed)
    days = np.cumsum(rng.integers(1, 30, times)).astype(float)
    clear = rng.random((pixels, times)) < 0.6
    clear[:, [0, -1]] = True
    return clear, rng.normal(0.3, 0.05, (pixels, times)).astype(np.float32), days


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), smoothness=st.sampled_from(list(SMOOTHNESS)))
def test_many_series_at_once_are_each_as_alone(seed, smoothness):
    clear, values, days = series(seed)
    readout = np.random.default_rng(seed).integers(0, len(days), len(clear))
    found = smooth(clear, values, days, smoothness, readout)
    for pixel, at in enumerate(readout):
        system = np.diag(clear[pixel].astype(float)) + smoothness * naive_penalty(days)
        curve = np.linalg.solve(system, clear[pixel] * values[pixel].astype(float))
        assert found[pixel] == pytest.approx(curve[at], abs=1e-6)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_the_smoothness_is_that_of_least_cross_validation(seed):
    clear, values, days = series(seed)
    scores = []
    for smoothness in SMOOTHNESS:
        squares = trace = 0.0
        for here, one in zip(clear, values, strict=True):
            hat = np.linalg.inv(np.diag(here.astype(float)) + smoothness * naive_penalty(days)) @ np.diag(
                here
            )
            squares += np.sum((one - hat @ one)[here] ** 2)
            trace += np.trace(hat)
        scores.append(squares / clear.sum() / (1 - trace / clear.sum()) ** 2)
    assert choose_smoothness(clear, values[None], days) == [SMOOTHNESS[np.argmin(scores)]]


def test_noise_is_smoothed_and_change_is_followed():
    rng = np.random.default_rng(0)
    days = np.arange(0.0, 200, 5)
    clear = np.ones((100, len(days)), bool)
    season = 0.3 + 0.2 * np.sin(days / 10)
    noisy = 0.3 + rng.normal(0, 0.05, clear.shape)
    exact = np.repeat(season[None], 100, axis=0) + rng.normal(0, 0.001, clear.shape)
    strong, weak = choose_smoothness(clear, np.stack([noisy, exact]).astype(np.float32), days)
    assert strong >= 1e5 > 1e3 >= weak


def test_a_straight_line_is_continued_through_the_gap():
    cube = cube_of(1, times=7, masked=1.0)
    for number, band in enumerate(cube.bands.values()):
        band[:] = (1000 + (number + 1) * 20 * (cube.days - cube.days[0]))[:, None, None]
    filled = smooth_in_time(find_gap(cube, AT, 0))
    for number in range(2):
        expected = 0.1 + (number + 1) * 0.002 * (cube.days[AT] - cube.days[0])
        np.testing.assert_allclose(filled[number], expected, atol=1e-5)


def test_a_curve_is_not_extended_beyond_the_clear_dates():
    cube = cube_of(2, times=7, at=6, masked=1.0)
    for band in cube.bands.values():
        band[:] = (1000 + 100 * (cube.days - cube.days[0]))[:, None, None]
    filled = smooth_in_time(find_gap(cube, 6, 0))
    np.testing.assert_allclose(filled, 0.1 + 0.01 * (cube.days[5] - cube.days[0]), atol=1e-4)


@pytest.mark.parametrize("clear_dates", [0, 1])
def test_a_pixel_with_fewer_than_two_clear_dates_takes_what_it_has(clear_dates):
    cube = cube_of(3, times=6, masked=0.5)
    cube.pixel_classes[clear_dates:, 3, 3] = PixelClass.CLOUDY
    gap = find_gap(cube, AT, 0)
    filled = smooth_in_time(gap)
    np.testing.assert_array_equal(filled[:, 3, 3], gap.interpolated[0][:, 3, 3])
    assert np.isnan(filled[:, 3, 3]).all() == (clear_dates == 0)
    assert np.isfinite(filled[:, 4, 4]).all()


def test_pixels_are_solved_in_parts_alike(monkeypatch):
    gap = find_gap(cube_of(4, holes=0.3, times=8), AT, 0)
    whole = smooth_in_time(gap)
    monkeypatch.setattr(whittaker, "_AT_ONCE", 30)
    np.testing.assert_array_equal(smooth_in_time(gap), whole)


def test_two_dates_are_enough():
    cube = cube_of(5, times=3, at=1, masked=1.0)
    gap = find_gap(cube, 1, 0)
    np.testing.assert_allclose(smooth_in_time(gap), gap.interpolated[1], atol=1e-5)


def test_the_date_itself_is_not_seen():
    cube = cube_of(6, holes=0.2)
    other = replace(cube, bands={name: band.copy() for name, band in cube.bands.items()})
    for band in other.bands.values():
        band[AT] = 1
    made = [smooth_in_time(find_gap(one, AT, 0)) for one in (cube, other)]
    np.testing.assert_array_equal(*made)

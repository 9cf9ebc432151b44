"""Baselines fill the mask that the generator fills, feathered alike, with values worked out by hand."""

from __future__ import annotations

import inspect
from pathlib import Path

import numpy as np
import pytest

from cloudgan.cli.evaluate import evaluate
from cloudgan.errors import InputError
from cloudgan.evaluation.baselines import BASELINES, fill_date
from cloudgan.geo.grid import Window
from cloudgan.geo.tiling import Tiling
from cloudgan.model.contract import Channel, Contract, Source
from cloudgan.observations import Observations
from cloudgan.removal.core import decloud_dates
from cloudgan.schema import Provenance
from cloudgan.sentinel2.classification import PixelClass

BANDS = ("green", "red", "nir")
DAYS = [0, 6, 10, 18]
SIZE = 48
BUFFER = 3


def series_of(rng: np.random.Generator, days: list[int] = DAYS) -> Observations:
    """Clear dates of a random surface; the third has a cloud in its middle and no data in a corner."""
    shape = (len(days), SIZE, SIZE)
    bands = {name: rng.integers(500, 4000, shape).astype(np.uint16) for name in BANDS}
    pixel_classes = np.full(shape, PixelClass.CLEAR, np.uint8)
    pixel_classes[2, 16:32, 16:32] = PixelClass.CLOUDY
    pixel_classes[2, :4, :4] = PixelClass.NO_DATA
    for band in bands.values():
        band[2, 16:32, 16:32] = 9000
        band[2, :4, :4] = 0
    return Observations(Window(0, 0, SIZE, SIZE), bands, pixel_classes, np.array(days, np.int64))


class Before:
    """A generator that gives the nearest clear date before."""

    batch = 1
    contract = Contract(
        "before", "1", tuple(Channel(Source.NEAREST_BEFORE, band) for band in BANDS), BANDS, 16
    )

    def __call__(self, channels):
        return channels


def test_the_mask_and_the_feathering_are_those_of_the_generator():
    series = series_of(np.random.default_rng(1), days=[0, 6, 10, 30])  # the date before is the nearest
    filled = fill_date(series, 2, buffer=BUFFER)
    (made,) = decloud_dates(series, series.window, Before(), buffer=BUFFER, tiling=Tiling(16, 12), dates=[2])
    # The two work in other units, and round a half up or down.
    np.testing.assert_allclose(filled.images["nearest"].astype(int), made.bands, rtol=0, atol=1)
    np.testing.assert_array_equal(filled.masked, made.provenance == Provenance.GENERATED)
    assert filled.masked[0, 0]
    assert filled.masked[14, 20]
    assert not filled.masked[12, 20]


def test_observed_pixels_pass_through():
    series = series_of(np.random.default_rng(2))
    filled = fill_date(series, 2, buffer=BUFFER)
    observed = series.image(2)
    assert set(filled.images) == set(BASELINES)
    for image in filled.images.values():
        np.testing.assert_array_equal(image[:, ~filled.masked], observed[:, ~filled.masked])
    np.testing.assert_array_equal(filled.images["cloudy"][:, 20:28, 20:28], observed[:, 20:28, 20:28])


def test_values_deep_in_the_cloud_are_those_worked_out_by_hand():
    series = series_of(np.random.default_rng(3))
    images = fill_date(series, 2, buffer=BUFFER).images
    before, after = (series.image(at).astype(float) for at in (1, 3))
    deep = (slice(None), slice(18, 30), slice(18, 30))
    np.testing.assert_array_equal(images["nearest"][deep], before[deep])  # 4 days against 8
    np.testing.assert_allclose(images["linear"][deep], (2 * before + after)[deep] / 3, atol=0.51)
    clear = np.stack([series.image(at) for at in (0, 1, 3)])
    np.testing.assert_allclose(images["median"][deep], np.median(clear, axis=0)[deep], atol=0.51)


def test_alignment_removes_the_offset_between_two_dates():
    rng = np.random.default_rng(4)
    series = series_of(rng)
    surface = [rng.integers(500, 4000, (SIZE, SIZE)).astype(np.uint16) for _ in BANDS]
    for number, (band, truth) in enumerate(zip(series.bands.values(), surface, strict=True)):
        clear = series.pixel_classes[2] == PixelClass.CLEAR
        band[2][clear] = truth[clear]
        band[[0, 1, 3]] = truth + 100 * (number + 1)  # every other date is brighter, each band in its own way
    images = fill_date(series, 2, buffer=BUFFER).images
    deep = (slice(18, 30), slice(18, 30))
    for number, truth in enumerate(surface):
        np.testing.assert_allclose(images["nearest"][number][deep], truth[deep] + 100 * (number + 1))
        np.testing.assert_allclose(images["aligned nearest"][number][deep], truth[deep], atol=1)
        np.testing.assert_allclose(images["aligned linear"][number][deep], truth[deep], atol=1)


def test_a_pixel_that_no_date_shows_keeps_its_value():
    series = series_of(np.random.default_rng(5))
    series.pixel_classes[[0, 1, 3], 20, 20] = PixelClass.CLOUDY
    filled = fill_date(series, 2, buffer=0)
    assert not filled.available[20, 20]
    for image in filled.images.values():
        assert (image[:, 20, 20] == 9000).all()


def test_every_baseline_is_named_in_help_and_documentation():
    page = (Path(__file__).parents[1] / "docs" / "evaluation.md").read_text()
    told = inspect.signature(evaluate).parameters["what"].annotation
    for name in BASELINES:
        assert f"`{name.replace(' ', '-')}`" in page
        assert name.replace(" ", "-") in str(told)


def test_dates_far_off_do_not_count_in_the_median():
    series = series_of(np.random.default_rng(6), days=[0, 6, 100, 108])
    images = fill_date(series, 2, buffer=BUFFER, names=["median"]).images
    after = series.image(3)
    np.testing.assert_array_equal(images["median"][:, 20:28, 20:28], after[:, 20:28, 20:28])


def test_without_a_date_nearby_the_median_is_the_nearest_date():
    series = series_of(np.random.default_rng(6), days=[0, 6, 100, 190])
    filled = fill_date(series, 2, buffer=BUFFER, names=["median", "nearest"])
    np.testing.assert_array_equal(filled.images["median"], filled.images["nearest"])


def test_an_unknown_baseline_is_refused():
    with pytest.raises(InputError, match="no baseline 'mean'; there are cloudy, nearest"):
        fill_date(series_of(np.random.default_rng(7)), 2, buffer=BUFFER, names=["mean"])


def test_kriging_leans_on_the_dates_without_error():
    """Five dates of one surface, of which the one just before the gap is noisy."""
    rng = np.random.default_rng(3)
    surface = np.kron(rng.integers(500, 4000, (6, 6)), np.ones((8, 8)))
    stray = np.array([20, 600, 20, 20, 20])[:, None, None]
    bands = {
        name: np.clip(surface + rng.normal(0, stray, (5, SIZE, SIZE)), 1, None).astype(np.uint16)
        for name in BANDS
    }
    classes = np.full((5, SIZE, SIZE), PixelClass.CLEAR, np.uint8)
    classes[2, 16:32, 16:32] = PixelClass.CLOUDY
    noisy = Observations(Window(0, 0, SIZE, SIZE), bands, classes, np.arange(5) * 5)
    filled = fill_date(noisy, 2, buffer=BUFFER)
    error = {
        name: np.abs(filled.images[name].astype(int) - surface)[:, filled.masked].mean()
        for name in ("kriging", "linear")
    }
    assert error["kriging"] < 0.5 * error["linear"]

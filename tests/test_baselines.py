"""Baselines fill what the generator fills, feather as it is, with what can be worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from cloudgan.errors import InputError
from cloudgan.evaluation.baselines import BASELINES, filled
from cloudgan.geo.grid import Window
from cloudgan.geo.tiling import Tiling
from cloudgan.model.contract import Contract
from cloudgan.observations import Observations
from cloudgan.removal.core import declouded
from cloudgan.schema import Provenance
from cloudgan.sentinel2.classification import PixelClass

BANDS = ("green", "red", "nir")
DAYS = [0, 6, 10, 18]
SIZE = 48
REACH = 3


def scenes(rng: np.random.Generator, days: list[int] = DAYS) -> Observations:
    """Clear dates of random ground; the third has a cloud in its middle and no data in a corner."""
    shape = (len(days), SIZE, SIZE)
    bands = tuple(rng.integers(500, 4000, shape).astype(np.uint16) for _ in BANDS)
    pixel_classes = np.full(shape, PixelClass.CLEAR, np.uint8)
    pixel_classes[2, 16:32, 16:32] = PixelClass.CLOUDY
    pixel_classes[2, :4, :4] = PixelClass.NO_DATA
    for band in bands:
        band[2, 16:32, 16:32] = 9000
        band[2, :4, :4] = 0
    return Observations(Window(0, 0, SIZE, SIZE), bands, pixel_classes, np.array(days, np.int64))


class Before:
    """A generator that gives the nearest look before, and can be told by hand."""

    batch = 1
    contract = Contract("before", "1", tuple(f"before:{band}" for band in BANDS), BANDS, 16)

    def __call__(self, channels):
        return channels


def test_the_mask_and_the_feathering_are_the_generators_own():
    series = scenes(np.random.default_rng(1), days=[0, 6, 10, 30])  # the look before is the nearest
    free = filled(series, 2, buffer=REACH)
    (made,) = declouded(series, series.window, Before(), buffer=REACH, tiling=Tiling(16, 12), dates=[2])
    np.testing.assert_array_equal(free.images["nearest"], made.bands)
    np.testing.assert_array_equal(free.masked, made.provenance == Provenance.GENERATED)
    assert free.masked[0, 0]
    assert free.masked[14, 20]
    assert not free.masked[12, 20]


def test_observed_pixels_pass_through():
    series = scenes(np.random.default_rng(2))
    free = filled(series, 2, buffer=REACH)
    observed = np.stack([band[2] for band in series.bands])
    assert set(free.images) == set(BASELINES)
    for image in free.images.values():
        np.testing.assert_array_equal(image[:, ~free.masked], observed[:, ~free.masked])
    np.testing.assert_array_equal(free.images["cloudy"][:, 20:28, 20:28], observed[:, 20:28, 20:28])


def test_what_lies_deep_in_the_cloud_by_hand():
    series = scenes(np.random.default_rng(3))
    images = filled(series, 2, buffer=REACH).images
    before, after = (np.stack([band[at] for band in series.bands]).astype(float) for at in (1, 3))
    deep = (slice(None), slice(18, 30), slice(18, 30))
    np.testing.assert_array_equal(images["nearest"][deep], before[deep])  # 4 days against 8
    np.testing.assert_allclose(images["linear"][deep], (2 * before + after)[deep] / 3, atol=0.51)
    looks = np.stack([np.stack([band[at] for band in series.bands]) for at in (0, 1, 3)])
    np.testing.assert_allclose(images["median"][deep], np.median(looks, axis=0)[deep], atol=0.51)


def test_alignment_takes_off_what_sets_two_dates_apart():
    rng = np.random.default_rng(4)
    series = scenes(rng)
    ground = [rng.integers(500, 4000, (SIZE, SIZE)).astype(np.uint16) for _ in BANDS]
    for number, (band, truth) in enumerate(zip(series.bands, ground, strict=True)):
        clear = series.pixel_classes[2] == PixelClass.CLEAR
        band[2][clear] = truth[clear]
        band[[0, 1, 3]] = truth + 100 * (number + 1)  # every other date is brighter, each band in its own way
    images = filled(series, 2, buffer=REACH).images
    deep = (slice(18, 30), slice(18, 30))
    for number, truth in enumerate(ground):
        np.testing.assert_allclose(images["nearest"][number][deep], truth[deep] + 100 * (number + 1))
        np.testing.assert_allclose(images["aligned nearest"][number][deep], truth[deep], atol=1)
        np.testing.assert_allclose(images["aligned linear"][number][deep], truth[deep], atol=1)


def test_ground_that_no_date_shows_stays_as_it_was():
    series = scenes(np.random.default_rng(5))
    series.pixel_classes[[0, 1, 3], 20, 20] = PixelClass.CLOUDY
    free = filled(series, 2, buffer=0)
    assert not free.seen[20, 20]
    for image in free.images.values():
        assert (image[:, 20, 20] == 9000).all()


def test_looks_far_off_do_not_count_in_the_median():
    series = scenes(np.random.default_rng(6), days=[0, 6, 100, 108])
    images = filled(series, 2, buffer=REACH, names=["median"]).images
    after = np.stack([band[3] for band in series.bands])
    np.testing.assert_array_equal(images["median"][:, 20:28, 20:28], after[:, 20:28, 20:28])


def test_a_baseline_that_is_none_is_refused():
    with pytest.raises(InputError, match="no baseline 'mean'; there are cloudy, nearest"):
        filled(scenes(np.random.default_rng(7)), 2, buffer=REACH, names=["mean"])

"""Observed and generated values: feathered at the edge of the mask, within the range of digital numbers."""

import math

import numpy as np
import pytest
from networks import BANDS, write_network
from random_observations import AREA, BUFFER, DAYS, TILE, decloud, observations_for

from cloudgan.geo.grid import Window
from cloudgan.geo.tiling import Tiling
from cloudgan.model.generator import Generator
from cloudgan.observations import Observations
from cloudgan.removal.blending import GENERATED_RANGE
from cloudgan.removal.core import window_to_read
from cloudgan.schema import NO_UNCERTAINTY, Provenance
from cloudgan.sentinel2.classification import PixelClass


@pytest.fixture(scope="module")
def pointwise(tmp_path_factory):
    """Half, once and one and a half times the mean of a pixel's own bands."""
    return Generator.load(write_network(tmp_path_factory.mktemp("pointwise") / "pointwise.onnx", radius=0))


def strip_of_cloud():
    """An even surface, and cloud in the first column."""
    window = window_to_read(Window(0, 0, 24, 24), Tiling(TILE, 24), 8)
    pixel_classes = np.full((1, *window.shape), PixelClass.CLEAR, np.uint8)
    pixel_classes[0, :, -window.col] = PixelClass.CLOUDY
    return Observations(
        window,
        {band: np.full(pixel_classes.shape, 2000, np.uint16) for band in BANDS},
        pixel_classes,
        DAYS[:1],
    )


def test_observed_and_generated_feather_into_each_other(pointwise):
    (date,) = decloud(strip_of_cloud(), Window(0, 0, 24, 24), pointwise, buffer=8)
    green, red, nir = date.bands[:, 12].astype(int)
    fall = [math.cos(math.pi / 2 * step / 5) ** 2 for step in (1, 2, 3, 4)]
    assert nir[:9] == pytest.approx([*[3000] * 5, *(2000 + 1000 * share for share in fall)], abs=1)
    assert green[:9] == pytest.approx([*[1000] * 5, *(2000 - 1000 * share for share in fall)], abs=1)
    assert red[:9] == pytest.approx(2000, abs=1)
    assert (date.bands[:, 12, 9:] == 2000).all()


def test_a_band_without_data_is_not_feathered_with_its_zero(pointwise):
    observations = strip_of_cloud()
    row, col = 12 - observations.window.row, 7 - observations.window.col  # in the outer half of the buffer
    observations.bands["nir"][0, row, col] = 0
    observations.pixel_classes[0, row, col] = PixelClass.UNRELIABLE
    (date,) = decloud(observations, Window(0, 0, 24, 24), pointwise, buffer=8)
    share = math.cos(math.pi / 2 * 3 / 5) ** 2
    mean = 4000 / 3
    observed_and_generated = [2000 + share * (mean * gain - 2000) for gain in (0.5, 1.0)]
    assert date.bands[:, 12, 7] == pytest.approx([*observed_and_generated, mean * 1.5], abs=1)


def test_a_generator_may_predict_its_uncertainty(tmp_path, pointwise):
    path = write_network(tmp_path / "uncertain.onnx", radius=0, predicts_uncertainty=True)
    observations, target = observations_for(AREA, 24), AREA
    plain, predicting = (decloud(observations, target, one) for one in (pointwise, Generator.load(path)))
    rows, cols = target.slices_in(observations.window)
    for at, (date, without) in enumerate(zip(predicting, plain, strict=True)):
        np.testing.assert_array_equal(date.bands, without.bands)
        generated = date.provenance == Provenance.GENERATED
        own = np.mean([band[at, rows, cols] for band in observations.bands.values()], axis=0) / 10
        assert date.uncertainty[generated] == pytest.approx(own[generated], abs=1)
        assert (date.uncertainty[~generated] == NO_UNCERTAINTY).all()


def test_the_darkest_generated_value_does_not_read_as_no_data(tmp_path):
    zero = Generator.load(write_network(tmp_path / "zero.onnx", channels=["nearest-before:days"], radius=0))
    target = Window(0, 0, 8, 8)
    pixel_classes = np.full((1, 8, 8), PixelClass.CLOUDY, np.uint8)
    bands = dict.fromkeys(BANDS, np.full((1, 8, 8), 500, np.uint16))
    (date,) = decloud(Observations(target, bands, pixel_classes, DAYS[:1]), target, zero)
    assert (date.bands == 1).all()


def test_the_brightest_value_is_clipped_and_does_not_wrap(generator):
    target = Window(0, 0, 8, 8)
    window = window_to_read(target, Tiling(TILE, 24), BUFFER)
    bands = dict.fromkeys(BANDS, np.full((1, *window.shape), 65000, np.uint16))
    (date,) = decloud(
        Observations(window, bands, np.full((1, *window.shape), PixelClass.CLOUDY, np.uint8), DAYS[:1]),
        target,
        generator,
    )
    assert (date.bands[2] == GENERATED_RANGE[1]).all()
    assert date.clamped.all()

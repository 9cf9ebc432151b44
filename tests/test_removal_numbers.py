"""The numbers that a generator gives are checked; and what is unreliable is no observation."""

from __future__ import annotations

import numpy as np
import pytest
from networks import BANDS, TIME_CHANNELS, write_network
from random_observations import DAYS, TILE, decloud

from cloudgan.errors import GeneratorError
from cloudgan.geo.grid import Window
from cloudgan.geo.tiling import Tiling
from cloudgan.model.generator import Generator
from cloudgan.observations import Observations
from cloudgan.removal.blending import GENERATED_RANGE, UNKNOWN, is_out_of_range, uncertainty_numbers
from cloudgan.removal.core import window_to_read
from cloudgan.schema import NO_UNCERTAINTY, Provenance
from cloudgan.sentinel2.bands import SATURATED_NUMBER
from cloudgan.sentinel2.classification import PixelClass

TARGET = Window(0, 0, 24, 24)


def observations_of(pixel_class=PixelClass.CLOUDY, number=2000, bands=BANDS, dates=1):
    """Dates of one number, the first of which shows `pixel_class` in the middle of the target."""
    window = window_to_read(TARGET, Tiling(TILE, 24), 0)
    shape = (dates, *window.shape)
    values = {band: np.full(shape, 2000, np.uint16) for band in bands}
    classes = np.full(shape, PixelClass.CLEAR, np.uint8)
    rows, cols = Window(8, 8, 8, 8).slices_in(window)
    classes[0, rows, cols] = pixel_class
    for band in values.values():
        band[0, rows, cols] = number
    return Observations(window, values, classes, DAYS[:dates])


def generator_of(tmp_path, **options):
    return Generator.load(write_network(tmp_path / "odd.onnx", **options))


@pytest.mark.parametrize("gain", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("predicts_uncertainty", [False, True])
def test_a_generator_that_gives_no_numbers_fails_by_name(tmp_path, gain, predicts_uncertainty):
    generator = generator_of(tmp_path, gain=gain, predicts_uncertainty=predicts_uncertainty)
    with pytest.raises(GeneratorError, match=r"the model mean gave [\d,]+ values that are no numbers"):
        decloud(observations_of(), TARGET, generator, buffer=0)


def test_an_uncertainty_that_is_no_number_fails_too(tmp_path, monkeypatch):
    generator = generator_of(tmp_path, predicts_uncertainty=True)

    def give(self, channels):
        made = np.full((len(channels), 4, TILE, TILE), 0.3, np.float32)
        made[:, 3, 14, 14] = np.nan
        return made

    monkeypatch.setattr(Generator, "__call__", give)
    with pytest.raises(GeneratorError, match="no numbers"):
        decloud(observations_of(), TARGET, generator, buffer=0)


def test_what_is_no_number_where_nothing_is_generated_is_no_matter(tmp_path, monkeypatch):
    generator = generator_of(tmp_path)
    kept = Generator.__call__

    def give(self, channels):
        made = kept(self, channels)
        made[..., :2, :2] = np.nan
        return made

    monkeypatch.setattr(Generator, "__call__", give)
    (date,) = decloud(observations_of(), TARGET, generator, stride=32, buffer=0)
    assert (date.provenance == Provenance.GENERATED).sum() == 64


@pytest.mark.parametrize(("gain", "wanted"), [(-3.0, GENERATED_RANGE[0]), (1e30, GENERATED_RANGE[1])])
def test_values_out_of_range_are_clamped_there_alone_and_counted(tmp_path, gain, wanted):
    (date,) = decloud(observations_of(), TARGET, generator_of(tmp_path, gain=gain), buffer=0)
    generated = date.provenance == Provenance.GENERATED
    assert generated.sum() == 64
    np.testing.assert_array_equal(date.clamped, generated)
    assert (date.bands[:, generated] == wanted).all()
    (date,) = decloud(observations_of(), TARGET, generator_of(tmp_path), buffer=0)
    assert not date.clamped.any()


@pytest.mark.parametrize(
    ("reflectance", "outside"), [(0.0, True), (0.0001, False), (1.5999, False), (1.6, True)]
)
def test_the_range_is_what_a_sensor_gives(reflectance, outside):
    value = np.full((2, 1, 1), 0.2, np.float32)
    value[1] = reflectance
    assert is_out_of_range(value)[0, 0] == outside
    assert GENERATED_RANGE == (1, SATURATED_NUMBER - 1)


def test_an_unknown_uncertainty_is_stored_as_none():
    values = np.array([UNKNOWN, -0.1, 0.05, 9.0], np.float32)
    assert uncertainty_numbers(values).tolist() == [NO_UNCERTAINTY, 0, 500, NO_UNCERTAINTY - 1]


def test_what_is_unreliable_is_generated_where_the_generator_sees_time(tmp_path):
    observations = observations_of(PixelClass.UNRELIABLE, 64_536, ["green"], dates=2)
    generator = generator_of(tmp_path, channels=TIME_CHANNELS, bands=["green"])
    first, second = decloud(observations, TARGET, generator, buffer=0)
    assert (first.provenance == Provenance.GENERATED).sum() == 64
    assert (second.provenance == Provenance.OBSERVED).all()


def test_what_is_unreliable_is_never_observed_and_a_saturated_number_is_not_kept(tmp_path):
    generator = generator_of(tmp_path)
    for number, kept in ((64_536, 0), (16_000, 0), (15_999, 15_999), (20, 20)):
        (date,) = decloud(observations_of(PixelClass.UNRELIABLE, number), TARGET, generator, buffer=0)
        unreliable = date.provenance == Provenance.UNRELIABLE
        assert unreliable.sum() == 64
        assert (date.bands[:, unreliable] == kept).all()
        assert (date.bands[:, ~unreliable] == 2000).all()
        assert (date.days_before == 0).all()

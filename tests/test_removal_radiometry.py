"""Radiometric offsets in the core: fully masked tiles and hazy dates."""

import numpy as np
import pytest
from networks import write_network
from random_observations import BUFFER, TILE, assert_same, crop, decloud, random_observations

from cloudgan.estimation.trust import DateErrors
from cloudgan.geo.grid import Window
from cloudgan.geo.tiling import Tiling
from cloudgan.model.generator import Generator
from cloudgan.observations import Observations
from cloudgan.removal.core import window_to_read
from cloudgan.removal.normalisation import Radiometry
from cloudgan.schema import Provenance
from cloudgan.sentinel2.classification import PixelClass


def masked_date(target, visible=0.0, value=2000):
    """A clear date, and one of which a share of each column is clear."""
    window = window_to_read(target, Tiling(TILE, 24), BUFFER)
    shape = (2, *window.shape)
    pixel_classes = np.full(shape, PixelClass.CLEAR, np.uint8)
    pixel_classes[1, round(visible * window.height) :] = PixelClass.CLOUDY
    return Observations(
        window, {"green": np.full(shape, value, np.uint16)}, pixel_classes, np.array([0, 5], np.int64)
    )


def radiometry(offset, trust=1.0):
    """An MGRS tile on which the second date is brighter than the first."""
    values = np.zeros((2, 2, 1), np.float32)
    values[1, 0], values[0, 1] = offset, -offset
    errors = DateErrors(np.full((2, 1), 0.01, np.float32), np.full((2, 1), trust, np.float32))
    return lambda: [Radiometry(Window(-5000, -5000, 10_000, 10_000), values, errors)]


@pytest.mark.parametrize(
    ("offset", "trust", "expected"),
    [(0.01, 1, 1050), (-0.01, 1, 950), (0.01, 0.5, 1025), (0.01, 0, 1000), (np.nan, 1, 1000)],
)
def test_a_fully_masked_tile_takes_its_radiometry_from_the_mgrs_tile(tmp_path, offset, trust, expected):
    echo = Generator.load(
        write_network(tmp_path / "echo.onnx", channels=["nearest-before:green"], bands=["green"], radius=0)
    )
    target = Window(-9, 1000, 30, 34)
    observations = masked_date(target)
    clear, masked = decloud(observations, target, echo, read_radiometry=radiometry(offset, trust))
    assert (masked.bands == expected).all()
    assert (clear.bands == 2000).all()
    part = Window(0, 1010, 5, 7)
    _, cropped = decloud(observations, part, echo, read_radiometry=radiometry(offset, trust))
    assert_same(cropped, crop(masked, target, part))


@pytest.mark.parametrize(("trust", "hazy"), [(1, False), (0.6, False), (0.4, True)])
def test_a_date_that_is_not_trusted_is_masked_for_the_generator(tmp_path, monkeypatch, trust, hazy):
    path = write_network(tmp_path / "mask.onnx", channels=["mask", "nearest-before:green"], bands=["green"])
    received = []
    monkeypatch.setattr(
        Generator, "__call__", lambda self, channels: received.append(channels) or channels[:, :1]
    )
    target = Window(0, 0, 24, 24)
    observations = masked_date(target, visible=0.6)
    (date,) = decloud(
        observations,
        target,
        Generator.load(path),
        stride=32,
        dates=[1],
        read_radiometry=radiometry(0.05, trust),
    )
    assert (np.concatenate(received)[:, 0] == 1).all() == hazy
    observed = date.provenance == Provenance.OBSERVED
    assert observed.any()
    assert (date.bands[0][observed] == 2000).all()


def test_offsets_are_not_read_for_a_generator_without_time(generator):
    def read():
        raise AssertionError("not needed")

    target = Window(-9, 1000, 30, 34)
    decloud(random_observations(target.buffered(40)), target, generator, read_radiometry=read)

"""Any bands: their names, and what gives those that the network in a file does not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from networks import TIME_CHANNELS, write_network
from random_observations import decloud, random_observations

from cloudgan.config import BatchConfig
from cloudgan.errors import InputError
from cloudgan.estimation.estimate import DARKEST, estimate_date
from cloudgan.geo.grid import Window
from cloudgan.geo.tiling import Tiling
from cloudgan.model.contract import Channel, Source
from cloudgan.model.generator import Generator
from cloudgan.removal.core import window_to_read
from cloudgan.schema import Provenance
from cloudgan.sentinel2.bands import BAND_SETS, BANDS, parse_bands, to_reflectance
from cloudgan.sentinel2.classification import PixelClass


@given(st.lists(st.sampled_from([*BANDS, *BAND_SETS]), min_size=1))
def test_names_give_each_band_once_in_order(words):
    bands = parse_bands(" , ".join(words))
    assert len(set(bands)) == len(bands)
    assert set(bands) == {band for word in words for band in BAND_SETS.get(word, (word,))}
    first = BAND_SETS.get(words[0], (words[0],))
    assert bands[: len(first)] == first


def test_the_sets_are_what_they_say():
    assert parse_bands("rgbn") == ("blue", "green", "red", "nir")
    assert len(parse_bands("hls")) == 6
    assert parse_bands("B02,B8A,B11") == ("blue", "nir08", "swir16")
    assert len(parse_bands("all")) == 10
    assert not {"coastal", "nir09"} & set(parse_bands("all"))  # 60 m: they show the air


@pytest.mark.parametrize(
    ("text", "reason"),
    [("b04", "names 'b04', which is no band"), ("blue,ndvi", "names 'ndvi'"), (" , ", "names no band")],
)
def test_what_is_no_band_is_refused_in_one_sentence(text, reason):
    with pytest.raises(ValueError, match=reason) as caught:
        parse_bands(text)
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match=reason):
        BatchConfig(aoi="field.geojson", dates="2020-05", bands=text)


def test_the_configuration_names_the_bands():
    config = BatchConfig(aoi="field.geojson", dates="2020-05", bands="rgbn,swir16")
    assert config.band_names == ("blue", "green", "red", "nir", "swir16")
    assert BatchConfig(aoi="field.geojson", dates="2020-05").band_names is None


@pytest.fixture
def file(tmp_path):
    """A generator of green that sees time."""
    return write_network(tmp_path / "green.onnx", channels=TIME_CHANNELS, bands=["green"])


def test_a_band_that_the_network_does_not_give_is_estimated(file):
    generator = Generator.load(file, bands=["blue", "green", "swir16"])
    contract = generator.contract
    assert contract.output_bands == ("blue", "green", "swir16")
    assert contract.input_bands == ("blue", "green", "swir16")
    estimated = [Channel(Source.ESTIMATE, band) for band in ("blue", "swir16")]
    assert contract.input_channels == (*generator.network.input_channels, *estimated)
    channels = np.random.default_rng(0).random((2, 8, contract.tile, contract.tile), np.float32)
    blue, green, swir = np.moveaxis(generator(channels), 1, 0)
    assert np.array_equal(blue, channels[:, 6])
    assert np.array_equal(swir, channels[:, 7])
    assert np.array_equal(green, Generator.load(file)(channels[:, :6])[:, 0])


def test_fewer_bands_are_left_out(tmp_path):
    file = write_network(tmp_path / "both.onnx", channels=TIME_CHANNELS, bands=["green", "red"])
    whole, part = Generator.load(file), Generator.load(file, bands=["red"])
    channels = np.random.default_rng(0).random((1, 6, whole.contract.tile, whole.contract.tile), np.float32)
    assert part.contract.input_channels == whole.contract.input_channels
    assert np.array_equal(part(channels)[:, 0], whole(channels)[:, 1])


def test_a_network_of_single_images_gives_its_own_bands_alone():
    with pytest.raises(InputError, match=r"documented gives green, red, nir and uses no other dates.*blue"):
        Generator.load("documented", bands=["blue"])


def test_what_is_generated_is_the_estimate_of_the_tile(file):
    """Through the whole of the removal, on one tile."""
    generator = Generator.load(file, bands=["blue"])
    tile = generator.contract.tile
    tiling = Tiling(tile, tile)
    target = Window(0, 0, tile, tile)
    observations = random_observations(window_to_read(target, tiling, 0), bands=["blue", "green"], seed=3)
    (date,) = decloud(observations, target, generator, stride=tile, buffer=0, dates=[2])
    part = observations.crop(target)
    clear = part.pixel_classes == PixelClass.CLEAR
    numbers = to_reflectance(part.bands["blue"])[None]
    found = estimate_date(numbers, clear, ~clear[2], part.days, 2)
    generated = date.provenance == Provenance.GENERATED
    assert generated.any()
    wanted = np.maximum(found[0], DARKEST)[generated] * 10_000
    assert np.abs(date.bands[0][generated] - wanted).max() <= 0.51

"""Input channels: what the contract defines, in its order."""

import numpy as np
import pytest
from networks import TIME_CHANNELS, write_network
from random_observations import TILE, decloud, distance, nearest_clear_dates, random_observations

from cloudgan.estimation.estimate import estimate_date
from cloudgan.geo.grid import Window
from cloudgan.geo.tiling import Tiling
from cloudgan.model.contract import Channel, Source
from cloudgan.model.generator import Generator
from cloudgan.observations import find_common_clear_dates
from cloudgan.removal.core import decloud_dates, window_to_read
from cloudgan.removal.inputs import assemble_inputs
from cloudgan.schema import Provenance
from cloudgan.sentinel2.bands import to_reflectance
from cloudgan.sentinel2.classification import PixelClass


def expected_value(name, observations, at, y, x, buffer):
    """The value of one input channel at one pixel, by the definition in the contract."""
    kind, _, what = name.partition(":")
    pixel_class = observations.pixel_classes[at, y, x]
    if kind == "mask":
        masked = distance(observations.pixel_classes[at], y, x) <= buffer
        return 1.0 if masked or pixel_class not in (PixelClass.CLEAR, PixelClass.CLOUDY) else 0.0
    if kind == "target":
        return observations.bands["green"][at, y, x] / 10000
    before, after = nearest_clear_dates(observations, at, y, x, buffer)
    clear = before if kind == "nearest-before" else after
    if not clear:
        return 0.0
    if what == "days":
        return float(abs(observations.days[clear[0]] - observations.days[at]))
    return observations.bands["green"][clear[0], y, x] / 10000


@pytest.mark.parametrize("channel", TIME_CHANNELS)
@pytest.mark.parametrize("buffer", [0, 3])
def test_each_channel_is_what_the_contract_defines(tmp_path, channel, buffer):
    # The network returns half its one input channel, so the output shows what went in; of days a twentieth.
    gain = 0.1 if channel.endswith("days") else 1.0
    path = write_network(tmp_path / "echo.onnx", channels=[channel], bands=["green"], radius=0, gain=gain)
    target = Window(-9, 1000, 30, 34)
    observations = random_observations(
        window_to_read(target, Tiling(TILE, 24), buffer), bands=["green"], seed=3
    )
    rows, cols = target.slices_in(observations.window)
    checked = 0
    for at, date in enumerate(decloud(observations, target, Generator.load(path), buffer=buffer)):
        for row, col in np.ndindex(*target.shape):
            y, x = rows.start + row, cols.start + col
            near = distance(observations.pixel_classes[at], y, x)
            empty = observations.pixel_classes[at, y, x] in (PixelClass.NO_DATA, PixelClass.MISSING)
            if date.provenance[row, col] != Provenance.GENERATED or (buffer / 2 < near and not empty):
                continue  # observed, or feathered with what is
            expected = expected_value(channel, observations, at, y, x, buffer)
            assert date.bands[0, row, col] == pytest.approx(max(5000 * gain * expected, 1), abs=0.51), (
                at,
                y,
                x,
            )
            checked += 1
    assert checked > 500


@pytest.mark.parametrize("channel", ["before-1:green", "before-2:days", "after-1:days", "after-2:green"])
def test_common_clear_dates_are_chosen_over_the_whole_tile(tmp_path, channel):
    gain = 0.1 if channel.endswith("days") else 1.0
    path = write_network(tmp_path / "echo.onnx", channels=[channel], bands=["green"], radius=0, gain=gain)
    depth = max(1, Generator.load(path).contract.dates_each_side)
    tiling = Tiling(TILE, TILE)  # without overlap, each pixel has one tile
    target = Window(0, 0, TILE, 2 * TILE)
    observations = random_observations(window_to_read(target, tiling, 0), bands=["green"], seed=3)
    checked = 0
    for at, date in enumerate(
        decloud_dates(observations, target, Generator.load(path), buffer=0, tiling=tiling)
    ):
        for tile in tiling.tiles(target):
            rows, cols = tile.slices_in(observations.window)
            here, there = tile.slices_in(target)
            clear_dates = find_common_clear_dates(
                observations.pixel_classes[:, rows, cols] == PixelClass.CLEAR, at, depth
            )
            chosen = (clear_dates.before if channel.startswith("before") else clear_dates.after)[depth - 1]
            value = np.take_along_axis(
                observations.bands["green"][:, rows, cols], np.maximum(chosen, 0)[None], 0
            )[0]
            if channel.endswith("days"):
                value = 10_000 * np.abs(observations.days[chosen] - observations.days[at])
            expected = np.clip(gain * np.where(chosen < 0, 0, value) / 2, 1, 15999)
            shown = observations.pixel_classes[at, rows, cols] == PixelClass.CLOUDY
            np.testing.assert_allclose(date.bands[0, here, there][shown], expected[shown], atol=0.51)
            checked += shown.sum()
    assert checked > 500


def test_channels_are_in_the_order_of_the_contract(tmp_path, monkeypatch):
    path = write_network(tmp_path / "all.onnx", channels=TIME_CHANNELS, bands=["green"])
    target = Window(0, 0, 24, 24)  # of one tile alone: 8 to 24
    observations = random_observations(window_to_read(target, Tiling(TILE, 32), 2), bands=["green"], seed=5)
    received = []
    monkeypatch.setattr(
        Generator, "__call__", lambda self, channels: received.append(channels) or channels[:, :1]
    )
    decloud(observations, target, Generator.load(path), stride=32, buffer=2, dates=[1])
    (channels,) = received
    assert channels.shape == (1, len(TIME_CHANNELS), TILE, TILE)
    assert channels.dtype == np.float32
    top, left = -observations.window.row, -observations.window.col
    for depth, name in enumerate(TIME_CHANNELS):
        for row, col in np.ndindex(TILE, TILE):
            expected = expected_value(name, observations, 1, top + row, left + col, 2)
            assert channels[0, depth, row, col] == pytest.approx(expected, rel=1e-6), (name, row, col)


def test_the_estimate_of_the_bands_that_are_asked_for_is_a_channel():
    window = Window(0, 0, 40, 40)
    observations = random_observations(window, bands=["green", "red", "nir"], seed=4)
    clear = observations.pixel_classes == PixelClass.CLEAR
    channels = [
        Channel(Source.ESTIMATE, "nir"),
        Channel(Source.TARGET, "red"),
        Channel(Source.ESTIMATE, "red"),
    ]
    among = range(len(clear))
    found = assemble_inputs(channels, observations.bands, ~clear[1], clear, observations.days, 1, among)
    numbers = np.stack([to_reflectance(observations.bands[name]) for name in ("nir", "red")])
    nir, red = estimate_date(numbers, clear, ~clear[1], observations.days, 1)
    assert np.array_equal(found, np.stack([nir, to_reflectance(observations.bands["red"][1]), red]))

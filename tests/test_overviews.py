"""Overviews of whole images, read from COGs, and the offsets of two dates from them."""

import datetime as dt
from dataclasses import replace

import numpy as np
import pytest
import rasterio
from affine import Affine
from scenes import scene, write_item

from cloudgan.errors import ReadError
from cloudgan.geo.grid import Lattice, Window
from cloudgan.io.overviews import EDGE, find_frames, read_overview, read_radiometry

BANDS = ("green", "red", "nir")
FRAME = Affine(10, 0, 500_000, 0, -10, 5_200_000)
LATTICE = Lattice(32633, 10.0)
FIRST, SECOND = dt.date(2023, 8, 5), dt.date(2023, 8, 10)


def image(brighter=0, edge=512, cloudy=slice(0, 0)):
    """Fields of 32 pixels, and clouds in some of the rows."""
    rng = np.random.default_rng(4)
    fields = rng.integers(500, 3000, (edge // 32, edge // 32)).repeat(32, 0).repeat(32, 1)
    bands = {band: (fields + 100 * at + brighter).astype(np.uint16) for at, band in enumerate(BANDS)}
    scl = np.full((edge // 2, edge // 2), 4, np.uint8)
    scl[cloudy] = 9
    for values in bands.values():
        values[cloudy.start * 2 : cloudy.stop * 2] = 9000
    return bands | {"scl": scl}


def item(folder, name="one", day=FIRST, offset=0, **options):
    return write_item(folder, name, day, image(**options), FRAME, offset=offset)


def test_an_overview_shows_the_whole_image(tmp_path):
    reflectance, clear = read_overview(item(tmp_path), BANDS)
    assert reflectance.shape == (EDGE * EDGE, 3)
    assert clear.all()
    middles = reflectance[:, 0].reshape(EDGE, EDGE)[4::8, 4::8]
    np.testing.assert_allclose(middles, image()["green"][16::32, 16::32] / 10_000, atol=1e-6)


def test_clouds_and_what_is_next_to_them_are_not_clear(tmp_path):
    _, clear = read_overview(item(tmp_path, cloudy=slice(64, 128)), BANDS)
    rows = clear.reshape(EDGE, EDGE).all(axis=1)
    assert not rows[31:65].any()
    assert rows[:31].all()
    assert rows[65:].all()


def test_dates_differ_by_what_they_differ_over_the_whole_image_after_their_offsets(tmp_path):
    one = item(tmp_path, "one", FIRST, cloudy=slice(0, 100))
    two = item(tmp_path, "two", SECOND, brighter=1050, offset=1000)
    (frame,) = find_frames([scene(one), scene(two)], LATTICE, Window(-520_000, 50_000, 10, 10))
    found = read_radiometry([scene(one), scene(two)], LATTICE, frame, BANDS, 120)
    assert found.window == frame == Window(-520_000, 50_000, 512, 512)
    np.testing.assert_allclose(found.offsets[1, 0], 0.005, atol=2e-4)


def test_only_images_that_touch_a_window_count(tmp_path):
    one = item(tmp_path)
    assert find_frames([scene(one)], LATTICE, Window(-530_000, 50_000, 10, 10)) == []


def test_nothing_is_known_of_a_large_image_without_overviews(tmp_path):
    with_overviews = item(tmp_path, edge=4096)
    assert read_overview(with_overviews, BANDS) is not None
    path = tmp_path / "bare.tif"
    with rasterio.open(with_overviews.asset("red").href) as source:
        profile = source.profile | {"driver": "GTiff"}
        with rasterio.open(path, "w", **profile) as file:
            file.write(source.read())
    bare = tuple(
        replace(asset, href=str(path)) if asset.band == "red" else asset for asset in with_overviews.assets
    )
    without = replace(with_overviews, assets=bare)
    assert read_overview(without, BANDS) is None
    (frame,) = find_frames([scene(without)], LATTICE, Window(-520_000, 50_000, 10, 10))
    both = [scene(without), scene(item(tmp_path, "two", SECOND, edge=4096))]
    assert np.isnan(read_radiometry(both, LATTICE, frame, BANDS, 120).offsets[1, 0]).all()


def test_an_image_that_cannot_be_read_is_named(tmp_path):
    one = item(tmp_path)
    broken = tuple(replace(asset, href=asset.href.replace("nir", "gone")) for asset in one.assets)
    with pytest.raises(ReadError, match=r"item one could not be read: asset nir"):
        read_overview(replace(one, assets=broken), BANDS)

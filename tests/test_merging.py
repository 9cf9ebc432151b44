"""Images of one day become one: per pixel one image gives all bands, and the clear one is chosen."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace

import numpy as np
import pytest
from affine import Affine
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from networks import BANDS, TIME_CHANNELS, write_network
from numpy.testing import assert_array_equal
from scenes import EPSG, scene, write_item
from scipy.ndimage import gaussian_filter

from cloudgan.geo.grid import Grid, Lattice, Window
from cloudgan.geo.tiling import Tiling
from cloudgan.io.cube import open_cube
from cloudgan.io.merging import APART, MergeRules, group_overpasses, merge_overpasses
from cloudgan.io.placement import item_window
from cloudgan.model.generator import Generator
from cloudgan.observations import OPACITY, Observations, compute_opacity, is_empty
from cloudgan.removal.core import decloud_dates
from cloudgan.removal.lazy import remove_clouds
from cloudgan.schema import Provenance
from cloudgan.sentinel2.classification import ClassRules, PixelClass, classify
from cloudgan.sentinel2.dates import day_numbers

DAY = dt.date(2023, 6, 11)
FRAME = Affine(10, 0, 499980, 0, -10, 5200020)
LATTICE = Lattice.through(EPSG, 10, FRAME.c, FRAME.f)
SHAPE = (96, 112)
BUFFER = 6


def image(seed, *, cloudy=0.3, empty=0.15, brighter=0):
    """Bands and classification with patches of cloud, and with an edge of the swath."""
    rng = np.random.default_rng(seed)

    def patches(share):
        noise = gaussian_filter(rng.random((SHAPE[0] // 2, SHAPE[1] // 2)), 5)
        return noise > np.quantile(noise, 1 - share) if share else np.zeros(noise.shape, bool)

    cloud, gap = patches(cloudy), patches(empty)
    bands = {band: (rng.integers(400, 3000, SHAPE) + brighter).astype(np.uint16) for band in BANDS}
    for values in bands.values():
        values[np.kron(gap, np.ones((2, 2), bool))] = 0
    return bands | {"scl": np.where(cloud, 9, 4).astype(np.uint8)}


def item(folder, name, seed, *, minutes=0, **options):
    made = write_item(folder, name, DAY, image(seed, **options), FRAME)
    return replace(made, datetime=made.datetime + dt.timedelta(minutes=minutes))


@pytest.fixture(scope="module")
def overpasses(tmp_path_factory):
    """Two images of one day, forty minutes apart, both with clouds."""
    folder = tmp_path_factory.mktemp("overpasses")
    return item(folder, "first", 1), item(folder, "second", 2, minutes=40, brighter=3000)


def grid_of(one, window=None):
    return Grid(LATTICE, window or item_window(one, LATTICE))


def classes_of(cube):
    return classify(cube["scl"].values[0], {band: cube[band].values[0] for band in BANDS})


def test_items_are_grouped_by_when_they_were_taken(overpasses):
    first, second = overpasses
    beside = replace(first, id="beside", datetime=first.datetime + APART)
    assert group_overpasses([second, beside, first]) == [[second], [beside, first]]
    assert group_overpasses([]) == []


@pytest.mark.parametrize("reader", ["odc", "stackstac"])
@pytest.mark.parametrize("chunks", [None, 40])
def test_each_pixel_is_that_of_the_image_that_shows_the_surface(overpasses, reader, chunks):
    grid = grid_of(overpasses[0])
    alone = [open_cube([scene(one)], grid, BANDS, buffer=BUFFER) for one in overpasses]
    cube = open_cube([scene(*overpasses)], grid, BANDS, reader=reader, chunks=chunks, buffer=BUFFER)
    classes = [classes_of(one) for one in alone]
    opacities = [compute_opacity(one, BUFFER) for one in classes]
    views = [
        np.select(
            [is_empty(one), one == PixelClass.CLOUDY, opacity > 0], [0, 1, 2], default=3
        )
        for one, opacity in zip(classes, opacities, strict=True)
    ]  # fmt: skip
    second = views[1] > views[0]
    for name in (*BANDS, "scl"):
        wanted = np.where(second, alone[1][name].values[0], alone[0][name].values[0])
        assert_array_equal(cube[name].values[0], wanted, err_msg=name)
    assert_array_equal(cube[OPACITY].values[0], np.where(second, opacities[1], opacities[0]))
    assert cube[OPACITY].attrs == {"buffer": BUFFER}
    clear = (classes_of(cube) == PixelClass.CLEAR) & (cube[OPACITY].values[0] == 0)
    assert_array_equal(clear, (views[0] == 3) | (views[1] == 3))
    assert {(one, other) for one in range(4) for other in range(4)} == set(
        zip(views[0].ravel().tolist(), views[1].ravel().tolist(), strict=True)
    )


def test_a_clear_image_below_a_cloudy_or_an_empty_one_is_observed(tmp_path, generator):
    upper = item(tmp_path, "upper", 3, cloudy=1.0, empty=0.3)
    lower = item(tmp_path, "lower", 4, minutes=40, cloudy=0, empty=0)
    cube = open_cube([scene(upper, lower)], grid_of(upper), BANDS)
    made = remove_clouds(cube, generator)
    assert (made["provenance"] == Provenance.OBSERVED).all()
    for band in BANDS:
        assert_array_equal(made[band].values[0], image(4, cloudy=0, empty=0)[band])


def test_within_one_overpass_the_first_image_with_data_is_on_top(tmp_path):
    upper, lower = item(tmp_path, "upper", 3), item(tmp_path, "lower", 4, minutes=1)
    cube = open_cube([scene(upper, lower)], grid_of(upper), BANDS)
    top, below = image(3), image(4)
    for band in BANDS:
        assert_array_equal(cube[band].values[0], np.where(top["red"] > 0, top[band], below[band]))
    assert OPACITY not in cube


def test_the_unseen_edge_of_a_cloud_stays_masked_beside_a_chosen_pixel(tmp_path):
    """Else what the classification misses around a cloud would be observed where the cloud is filled."""
    bands, other = image(5, cloudy=0, empty=0), image(6, cloudy=0, empty=0)
    bands["scl"][20:28, 20:28] = 9
    for band in BANDS:
        other[band][:, 30:] = 0  # the second image ends within the cloud
    first = write_item(tmp_path, "first", DAY, bands, FRAME)
    second = write_item(tmp_path, "second", DAY, other, FRAME)
    second = replace(second, datetime=first.datetime + dt.timedelta(hours=1))
    cube = open_cube([scene(first, second)], grid_of(first), BANDS, buffer=BUFFER)
    opacity = cube[OPACITY].values[0]
    assert (opacity[40:56, :30] == 0).all()  # the second image's own
    assert (opacity[40:56, 56:60] > 0).all()  # the first one's buffer


@pytest.fixture(scope="module")
def by_time(tmp_path_factory):
    path = tmp_path_factory.mktemp("network") / "time.onnx"
    channels = [
        f"{source}:{band}" for source in ("target", "nearest-before", "nearest-after") for band in BANDS
    ]
    return Generator.load(write_network(path, channels=[*channels, TIME_CHANNELS[1]], radius=3))


def decloud(items, window, generator, tiling):
    read = tiling.cover(window).buffered(BUFFER)
    cube = open_cube([scene(*group) for group in items], Grid(LATTICE, read), BANDS, buffer=BUFFER)
    bands = {band: cube[band].values for band in BANDS}
    observations = Observations(
        read,
        bands,
        classify(cube["scl"].values, bands),
        day_numbers(cube["time"].values),
        opacities=cube[OPACITY].values.astype(np.float16) if OPACITY in cube else None,
    )
    return list(decloud_dates(observations, window, generator, buffer=BUFFER, tiling=tiling))


_WHOLE: list = []  # made once


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_crop_of_the_whole_is_the_whole_of_the_crop_whatever_the_overpasses(overpasses, by_time, data):
    whole = item_window(overpasses[0], LATTICE)
    later = [
        replace(one, id=f"{one.id}-2", datetime=one.datetime + dt.timedelta(days=5)) for one in overpasses
    ]
    groups = [overpasses, [later[1], replace(later[0], datetime=later[1].datetime)]]
    top, left = data.draw(st.integers(0, 60)), data.draw(st.integers(0, 70))
    part = Window(whole.row + top, whole.col + left, 20, 25)
    tiling = Tiling(32, 24)
    rows, cols = part.slices_in(whole)
    if not _WHOLE:
        _WHOLE.extend(decloud(groups, whole, by_time, tiling))
    for one, other in zip(_WHOLE, decloud(groups, part, by_time, tiling), strict=True):
        for name in ("provenance", "days_before", "uncertainty"):
            assert_array_equal(getattr(one, name)[rows, cols], getattr(other, name))
        assert_array_equal(one.bands[:, rows, cols], other.bands)


def test_a_lazy_cube_of_two_overpasses_gives_the_same(overpasses, by_time):
    grid = grid_of(overpasses[0])
    scenes = [scene(*overpasses)]
    eager = remove_clouds(open_cube(scenes, grid, BANDS), by_time)
    lazy = remove_clouds(open_cube(scenes, grid, BANDS, chunks=48), by_time)
    for name in eager.data_vars:
        assert_array_equal(eager[name].values, lazy[name].values, err_msg=name)


@pytest.mark.parametrize(
    ("snow", "chosen"), [("auto", [1, 0, 1, 0]), ("keep", [0, 0, 1, 0]), ("cloud", [1, 0, 0, 0])]
)
def test_a_clear_overpass_comes_before_one_of_snow_and_that_before_a_cloudy_one(snow, chosen):
    scl = [np.array([[11, 11, 9, 11]], np.uint8), np.array([[4, 9, 11, 11]], np.uint8)]
    layers = [{"scl": one, "green": np.full((1, 4), 900 + at, np.uint16)} for at, one in enumerate(scl)]
    merged = merge_overpasses(layers, MergeRules(0, ClassRules(snow=snow)))
    assert_array_equal(merged["green"][0] - 900, chosen)

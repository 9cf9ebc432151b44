import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from cloudgan.errors import InputError
from cloudgan.observations import (
    ENOUGH,
    dates_within,
    days_to_clear_date,
    find_common_clear_dates,
    find_nearest_clear_dates,
    metres_to_pixels,
    opacity,
)
from cloudgan.schema import NO_CLEAR_DATE
from cloudgan.sentinel2.classification import SCL_MISSING, PixelClass, classify

SCL_CLASSES = {  # Sentinel-2 L2A product definition
    0: ("no data", PixelClass.INCOMPLETE),
    1: ("saturated or defective", PixelClass.INCOMPLETE),
    2: ("dark area", PixelClass.CLEAR),
    3: ("cloud shadow", PixelClass.CLOUDY),
    4: ("vegetation", PixelClass.CLEAR),
    5: ("bare soil", PixelClass.CLEAR),
    6: ("water", PixelClass.CLEAR),
    7: ("unclassified", PixelClass.CLEAR),
    8: ("cloud, medium probability", PixelClass.CLOUDY),
    9: ("cloud, high probability", PixelClass.CLOUDY),
    10: ("thin cirrus", PixelClass.CLOUDY),
    11: ("snow or ice", PixelClass.CLEAR),
    12: ("no class", PixelClass.INCOMPLETE),
    254: ("no class", PixelClass.INCOMPLETE),
}


def numbers(*values):
    return np.array([values], np.uint16)


def state_of(scl, *bands):
    return PixelClass(classify(np.array([[scl]], np.uint8), [numbers(band) for band in bands])[0, 0])


# What a pixel shows


@pytest.mark.parametrize(("scl", "name", "state"), [(scl, *rest) for scl, rest in SCL_CLASSES.items()])
def test_each_class_of_the_scene_classification_has_its_state(scl, name, state):
    assert state_of(scl, 500, 400, 3000) == state


EVERY_CLASS = np.arange(255, dtype=np.uint8)[None]


def test_whether_there_is_data_is_decided_by_the_bands():
    empty, full = np.zeros((1, 255), np.uint16), np.full((1, 255), 500, np.uint16)
    assert (classify(EVERY_CLASS, [empty, empty]) == PixelClass.NO_DATA).all()
    assert not np.isin(classify(EVERY_CLASS, [full, full]), [PixelClass.NO_DATA, PixelClass.MISSING]).any()


@pytest.mark.parametrize("bands", [(500, 0, 3000), (0, 0, 1), (0, 400, 0)])
def test_a_pixel_that_lacks_a_band_never_counts_as_clear(bands):
    full = [np.full((1, 255), 500, np.uint16)] * 3
    partial = classify(EVERY_CLASS, [np.full((1, 255), band, np.uint16) for band in bands])
    whole = classify(EVERY_CLASS, full)
    np.testing.assert_array_equal(partial, np.where(whole == PixelClass.CLEAR, PixelClass.INCOMPLETE, whole))


def test_an_asset_that_could_not_be_read_is_told_from_no_data():
    assert state_of(SCL_MISSING, 0, 0, 0) == PixelClass.MISSING


def test_classes_are_told_pixel_by_pixel_and_date_by_date():
    scl = np.array([[[4, 9]], [[3, 0]], [[255, 6]]], np.uint8)
    band = np.array([[[500, 900]], [[1, 0]], [[0, 7]]], np.uint16)
    pixel_classes = classify(scl, [band, band])
    assert pixel_classes.tolist() == [[[1, 2]], [[2, 0]], [[4, 1]]]
    assert pixel_classes.dtype == np.uint8


# The buffer


@pytest.mark.parametrize(
    ("metres", "resolution", "pixels"),
    [(100, 10, 10), (100, 20, 5), (100, 60, 2), (100, 120, 1), (0, 10, 0), (1, 10, 1), (2.1, 0.3, 7)],
)
def test_a_buffer_is_covered_by_whole_pixels(metres, resolution, pixels):
    assert metres_to_pixels(metres, resolution) == pixels


@pytest.mark.parametrize("metres", [-1, math.nan, math.inf])
def test_a_buffer_that_is_no_length_is_refused(metres):
    with pytest.raises(InputError, match=f"zero or a positive number of metres, got {metres}"):
        metres_to_pixels(metres, 10)


def distance_to_cloud(pixel_classes):
    """Euclidean distance of each pixel to the nearest cloudy one, by trying all."""
    cloudy = np.argwhere(pixel_classes == PixelClass.CLOUDY)
    pixels = np.moveaxis(np.indices(pixel_classes.shape), 0, -1)
    if not len(cloudy):
        return np.full(pixel_classes.shape, 1e9)
    return np.sqrt(((pixels[:, :, None, :] - cloudy) ** 2).sum(axis=-1)).min(axis=-1)


few_clouds = npst.arrays(
    np.uint8, st.tuples(st.integers(1, 20), st.integers(1, 20)), elements=st.integers(0, 4), fill=st.just(1)
)


@given(few_clouds, st.integers(0, 8))
def test_opacity_is_one_on_cloud_and_zero_beyond_reach(pixel_classes, buffer):
    weight, distance = opacity(pixel_classes, buffer), distance_to_cloud(pixel_classes)
    assert weight.dtype == np.float32
    assert weight.shape == pixel_classes.shape
    np.testing.assert_array_equal(weight > 0, distance <= buffer)
    assert (weight[distance <= buffer / 2] == 1).all()
    assert (weight <= 1).all()


@given(few_clouds, st.integers(0, 8))
def test_opacity_falls_with_the_distance_to_the_cloud(pixel_classes, buffer):
    weight, distance = opacity(pixel_classes, buffer).ravel(), distance_to_cloud(pixel_classes).ravel()
    order = np.argsort(distance, kind="stable")
    assert (np.diff(weight[order]) <= 0).all()
    outer = distance[order] > buffer / 2
    apart = (np.diff(distance[order]) > 1e-9) & outer[1:] & (distance[order][1:] <= buffer)
    assert (np.diff(weight[order])[apart] < 0).all()


def test_opacity_is_the_squared_cosine_of_the_docstring():
    pixel_classes = np.full((1, 12), PixelClass.CLEAR, np.uint8)
    pixel_classes[0, 0] = PixelClass.CLOUDY
    fall = [math.cos(math.pi / 2 * step / 4) ** 2 for step in (1, 2, 3)]
    assert opacity(pixel_classes, 6)[0] == pytest.approx([1, 1, 1, 1, *fall, 0, 0, 0, 0, 0], abs=1e-7)


@settings(max_examples=60)
@given(few_clouds, st.integers(0, 6), st.data())
def test_opacity_depends_on_nothing_beyond_reach(pixel_classes, buffer, data):
    top, left = (data.draw(st.integers(0, edge - 1)) for edge in pixel_classes.shape)
    bottom, right = (
        data.draw(st.integers(low + 1, edge))
        for low, edge in zip((top, left), pixel_classes.shape, strict=True)
    )
    read = np.s_[max(top - buffer, 0) : bottom + buffer, max(left - buffer, 0) : right + buffer]
    inner = np.s_[min(top, buffer) :, min(left, buffer) :]
    cropped = opacity(pixel_classes[read], buffer)[inner][: bottom - top, : right - left]
    np.testing.assert_array_equal(cropped, opacity(pixel_classes, buffer)[top:bottom, left:right])


@pytest.mark.parametrize("reach", [0, 5])
def test_without_cloud_nothing_is_generated(buffer):
    pixel_classes = np.array(
        [[PixelClass.NO_DATA, PixelClass.CLEAR, PixelClass.INCOMPLETE, PixelClass.MISSING]], np.uint8
    )
    assert opacity(pixel_classes, buffer).tolist() == [[0, 0, 0, 0]]


# ClearDates in time

series = npst.arrays(
    np.bool_, st.tuples(st.integers(1, 12), st.integers(1, 3), st.integers(1, 3)), elements=st.booleans()
)


@given(series)
def test_the_nearest_looks_are_the_nearest_clear_dates_on_either_side(clear):
    for at in range(len(clear)):
        looks = find_nearest_clear_dates(clear, at)
        for row, col in np.ndindex(*clear.shape[1:]):
            dates = np.flatnonzero(clear[:, row, col])
            before, after = dates[dates < at][::-1], dates[dates > at]
            assert looks.before[:, row, col].tolist() == [*before, -1][:1]
            assert looks.after[:, row, col].tolist() == [*after, -1][:1]
        assert looks.before.dtype == looks.after.dtype == np.int16


@given(series, st.integers(1, 3))
def test_a_tile_is_told_by_the_same_dates_all_over(clear, depth):
    for at in range(len(clear)):
        looks = find_common_clear_dates(clear, at, depth)
        enough = max(1, ENOUGH * clear.any(axis=0).sum())
        for found, dates in (
            (looks.before, range(at - 1, -1, -1)),
            (looks.after, range(at + 1, len(clear))),
        ):
            good = [date for date in dates if clear[date].sum() >= enough][:depth]
            for row, col in np.ndindex(*clear.shape[1:]):
                expected = [date if clear[date, row, col] else -1 for date in good]
                expected += [-1] * (depth - len(good))
                if max(expected) < 0:  # nothing of theirs: the nearest there is
                    expected[-1] = next((date for date in dates if clear[date, row, col]), -1)
                assert found[:, row, col].tolist() == expected


@given(series, st.data())
def test_days_are_counted_to_the_look(clear, data):
    gaps = data.draw(st.lists(st.integers(1, 30), min_size=len(clear), max_size=len(clear)))
    days = np.cumsum(gaps).astype(np.int64) + 18000
    at = data.draw(st.integers(0, len(clear) - 1))
    for looks in (
        find_nearest_clear_dates(clear, at).before[0],
        find_nearest_clear_dates(clear, at).after[0],
    ):
        counted = days_to_clear_date(looks, days, at)
        assert counted.dtype == np.uint16
        for place, look in np.ndenumerate(looks):
            assert counted[place] == (NO_CLEAR_DATE if look < 0 else abs(days[look] - days[at]))


def test_two_centuries_are_not_never():
    days = np.array([0, 70_000], np.int64)
    assert days_to_clear_date(np.array([[1, 0, -1]], np.int16), days, 0).tolist() == [
        [NO_CLEAR_DATE - 1, 0, NO_CLEAR_DATE]
    ]


@given(series, st.integers(0, 40), st.data())
def test_no_look_is_older_than_it_may_be(clear, max_age, data):
    gaps = data.draw(st.lists(st.integers(1, 30), min_size=len(clear), max_size=len(clear)))
    days = np.cumsum(gaps).astype(np.int64) + 18000
    at = data.draw(st.integers(0, len(clear) - 1))
    young = np.abs(days - days[at]) <= max_age
    assert list(dates_within(days, at, max_age)) == list(np.flatnonzero(young))
    among = find_nearest_clear_dates(clear, at, dates_within(days, at, max_age))
    known = find_nearest_clear_dates(clear & young[:, None, None], at)
    np.testing.assert_array_equal(among.before, known.before)
    np.testing.assert_array_equal(among.after, known.after)

"""Observations of a window: the buffer around cloud, clear dates in time, cropping and padding."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from random_observations import DAYS, parts, random_observations

from cloudgan.errors import InputError
from cloudgan.geo.grid import Window
from cloudgan.observations import (
    ENOUGH_CLEAR,
    Observations,
    Site,
    compute_opacity,
    dates_within,
    days_to_clear_date,
    find_clear,
    find_common_clear_dates,
    find_masked,
    find_nearest_clear_dates,
    metres_to_pixels,
)
from cloudgan.schema import NO_CLEAR_DATE
from cloudgan.sentinel2.classification import PixelClass

# The buffer


@pytest.mark.parametrize(
    ("metres", "resolution", "pixels"),
    [(100, 10, 10), (100, 20, 5), (100, 60, 2), (100, 120, 1), (0, 10, 0), (1, 10, 1), (2.1, 0.3, 7)],
)
def test_a_buffer_is_covered_by_whole_pixels(metres, resolution, pixels):
    assert metres_to_pixels(metres, resolution) == pixels


@pytest.mark.parametrize("metres", [-1, math.nan, math.inf])
def test_a_buffer_of_an_invalid_length_is_refused(metres):
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
def test_opacity_is_one_on_cloud_and_zero_beyond_the_buffer(pixel_classes, buffer):
    weight, distance = compute_opacity(pixel_classes, buffer), distance_to_cloud(pixel_classes)
    assert weight.dtype == np.float32
    assert weight.shape == pixel_classes.shape
    np.testing.assert_array_equal(weight > 0, distance <= buffer)
    assert (weight[distance <= math.ceil(buffer / 2)] == 1).all()
    assert (weight <= 1).all()


@given(few_clouds, st.integers(0, 8))
def test_opacity_falls_with_the_distance_to_the_cloud(pixel_classes, buffer):
    weight, distance = (
        compute_opacity(pixel_classes, buffer).ravel(),
        distance_to_cloud(pixel_classes).ravel(),
    )
    order = np.argsort(distance, kind="stable")
    assert (np.diff(weight[order]) <= 0).all()
    outer = distance[order] > math.ceil(buffer / 2)
    apart = (np.diff(distance[order]) > 1e-9) & outer[1:] & (distance[order][1:] <= buffer)
    assert (np.diff(weight[order])[apart] < 0).all()


def test_opacity_is_the_squared_cosine_of_the_docstring():
    pixel_classes = np.full((1, 12), PixelClass.CLEAR, np.uint8)
    pixel_classes[0, 0] = PixelClass.CLOUDY
    fall = [math.cos(math.pi / 2 * step / 4) ** 2 for step in (1, 2, 3)]
    assert compute_opacity(pixel_classes, 6)[0] == pytest.approx([1, 1, 1, 1, *fall, 0, 0, 0, 0, 0], abs=1e-7)


@pytest.mark.parametrize(("buffer", "expected"), [(1, [1, 1, 0, 0, 0]), (3, [1, 1, 1, 0.5, 0])])
def test_a_buffer_of_odd_width_is_generated_in_full_beyond_its_middle(buffer, expected):
    pixel_classes = np.full((1, 5), PixelClass.CLEAR, np.uint8)
    pixel_classes[0, 0] = PixelClass.CLOUDY
    assert compute_opacity(pixel_classes, buffer)[0] == pytest.approx(expected, abs=1e-7)


@settings(max_examples=60)
@given(few_clouds, st.integers(0, 6), st.data())
def test_opacity_depends_on_nothing_beyond_the_buffer(pixel_classes, buffer, data):
    top, left = (data.draw(st.integers(0, edge - 1)) for edge in pixel_classes.shape)
    bottom, right = (
        data.draw(st.integers(low + 1, edge))
        for low, edge in zip((top, left), pixel_classes.shape, strict=True)
    )
    read = np.s_[max(top - buffer, 0) : bottom + buffer, max(left - buffer, 0) : right + buffer]
    inner = np.s_[min(top, buffer) :, min(left, buffer) :]
    cropped = compute_opacity(pixel_classes[read], buffer)[inner][: bottom - top, : right - left]
    np.testing.assert_array_equal(cropped, compute_opacity(pixel_classes, buffer)[top:bottom, left:right])


@pytest.mark.parametrize("buffer", [0, 5])
def test_without_cloud_nothing_is_generated(buffer):
    pixel_classes = np.array(
        [[PixelClass.NO_DATA, PixelClass.CLEAR, PixelClass.UNRELIABLE, PixelClass.MISSING]], np.uint8
    )
    assert compute_opacity(pixel_classes, buffer).tolist() == [[0, 0, 0, 0]]


# ClearDates in time

series = npst.arrays(
    np.bool_, st.tuples(st.integers(1, 12), st.integers(1, 3), st.integers(1, 3)), elements=st.booleans()
)


@given(series)
def test_the_nearest_clear_dates_are_those_found_pixel_by_pixel(clear):
    for at in range(len(clear)):
        found_dates = find_nearest_clear_dates(clear, at)
        for row, col in np.ndindex(*clear.shape[1:]):
            dates = np.flatnonzero(clear[:, row, col])
            before, after = dates[dates < at][::-1], dates[dates > at]
            assert found_dates.before[:, row, col].tolist() == [*before, -1][:1]
            assert found_dates.after[:, row, col].tolist() == [*after, -1][:1]
        assert found_dates.before.dtype == found_dates.after.dtype == np.int16


@given(series, st.integers(1, 3))
def test_common_clear_dates_are_the_same_all_over_a_tile(clear, depth):
    for at in range(len(clear)):
        found_dates = find_common_clear_dates(clear, at, depth)
        enough = max(1, ENOUGH_CLEAR * clear.any(axis=0).sum())
        for found, dates in (
            (found_dates.before, range(at - 1, -1, -1)),
            (found_dates.after, range(at + 1, len(clear))),
        ):
            good = [date for date in dates if clear[date].sum() >= enough][:depth]
            for row, col in np.ndindex(*clear.shape[1:]):
                expected = [date if clear[date, row, col] else -1 for date in good]
                expected += [-1] * (depth - len(good))
                if max(expected) < 0:  # none of them is clear: the nearest that is
                    expected[-1] = next((date for date in dates if clear[date, row, col]), -1)
                assert found[:, row, col].tolist() == expected


@given(series, st.data())
def test_days_are_counted_to_the_clear_date(clear, data):
    gaps = data.draw(st.lists(st.integers(1, 30), min_size=len(clear), max_size=len(clear)))
    days = np.cumsum(gaps).astype(np.int64) + 18000
    at = data.draw(st.integers(0, len(clear) - 1))
    for dates in (
        find_nearest_clear_dates(clear, at).before[0],
        find_nearest_clear_dates(clear, at).after[0],
    ):
        counted = days_to_clear_date(dates, days, at)
        assert counted.dtype == np.uint16
        for pixel, date in np.ndenumerate(dates):
            assert counted[pixel] == (NO_CLEAR_DATE if date < 0 else abs(days[date] - days[at]))


def test_an_age_of_two_centuries_does_not_read_as_no_clear_date():
    days = np.array([0, 70_000], np.int64)
    assert days_to_clear_date(np.array([[1, 0, -1]], np.int16), days, 0).tolist() == [
        [NO_CLEAR_DATE - 1, 0, NO_CLEAR_DATE]
    ]


@given(series, st.integers(0, 40), st.data())
def test_no_clear_date_is_older_than_the_limit(clear, max_age, data):
    gaps = data.draw(st.lists(st.integers(1, 30), min_size=len(clear), max_size=len(clear)))
    days = np.cumsum(gaps).astype(np.int64) + 18000
    at = data.draw(st.integers(0, len(clear) - 1))
    young = np.abs(days - days[at]) <= max_age
    assert list(dates_within(days, at, max_age)) == list(np.flatnonzero(young))
    among = find_nearest_clear_dates(clear, at, dates_within(days, at, max_age))
    known = find_nearest_clear_dates(clear & young[:, None, None], at)
    np.testing.assert_array_equal(among.before, known.before)
    np.testing.assert_array_equal(among.after, known.after)


# The series


def test_observations_of_unequal_shapes_are_refused():
    good = np.zeros((4, 5, 6), np.uint16)
    pixel_classes = np.zeros((4, 5, 6), np.uint8)
    with pytest.raises(InputError, match=r"must have the shape \(4, 5, 6\) of dates and window"):
        Observations(Window(0, 0, 5, 6), {"green": good, "red": good[:3]}, pixel_classes, DAYS)
    with pytest.raises(InputError, match=r"must have the shape \(4, 5, 7\)"):
        Observations(Window(0, 0, 5, 7), {"green": good}, pixel_classes, DAYS)


@given(parts(), st.integers(0, 30))
def test_observations_are_padded_with_no_data(part, further):
    observations = random_observations(part, bands=["green"])
    padded = observations.pad(part.buffered(further))
    assert padded.window == part.buffered(further)
    np.testing.assert_array_equal(padded.crop(part).pixel_classes, observations.pixel_classes)
    np.testing.assert_array_equal(padded.crop(part).bands["green"], observations.bands["green"])
    assert padded.pixel_classes.sum() == observations.pixel_classes.sum()
    assert padded.bands["green"].sum() == observations.bands["green"].sum()


def test_dates_out_of_order_are_refused():
    band, pixel_classes = np.zeros((2, 3, 3), np.uint16), np.zeros((2, 3, 3), np.uint8)
    for days in ([5, 5], [5, 4]):
        with pytest.raises(InputError, match="the dates of a cube must rise, each of them once"):
            Observations(Window(0, 0, 3, 3), {"green": band}, pixel_classes, np.array(days, np.int64))


@given(parts())
def test_every_pixel_is_clear_or_masked(part):
    site = Site("random", "here", 10, 3, random_observations(part), np.ones(len(DAYS), bool))
    pixel_classes, opacity = site.observations.pixel_classes, site.observations.opacity(3)
    clear, masked = find_clear(pixel_classes, opacity), find_masked(pixel_classes, opacity)
    np.testing.assert_array_equal(site.masked(), masked)
    assert not (clear & masked).any()
    assert (clear | masked).all()
    assert (pixel_classes[clear] == PixelClass.CLEAR).all()
    assert masked[np.isin(pixel_classes, [PixelClass.NO_DATA, PixelClass.MISSING, PixelClass.CLOUDY])].all()
    assert masked[pixel_classes == PixelClass.UNRELIABLE].all()


def test_a_part_of_a_site_is_a_region_of_its_own():
    observations = random_observations(Window(0, 0, 20, 30))
    site = Site("random", "here", 10, 3, observations, np.array([True, False, True, False]))
    west = site.crop(Window(0, 0, 20, 15), "west")
    assert (west.region, west.name) == ("here-west", "random")
    np.testing.assert_array_equal(west.observations.bands["red"], observations.bands["red"][..., :15])
    some = site.select_dates(np.array([0, 3]))
    assert some.trusted.tolist() == [True, False]
    assert some.observations.days.tolist() == DAYS[[0, 3]].tolist()


def test_an_image_has_the_bands_in_order():
    observations = random_observations(Window(0, 0, 4, 5))
    image = observations.image(1)
    assert list(observations.bands) == ["green", "red", "nir"]
    np.testing.assert_array_equal(image[2], observations.bands["nir"][1])
    np.testing.assert_allclose(observations.reflectance()[1], np.moveaxis(image, 0, -1) / 10_000, atol=1e-7)

"""What is called snow is clear where other dates confirm it, and cloud elsewhere."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_array_equal

from cloudgan.geo.grid import Window
from cloudgan.masks.snow import ENOUGH_DATES, SNOW_DAYS, SNOW_STAYS, classify_series, margin_days
from cloudgan.masks.union import classify_observations
from cloudgan.observations import compute_opacity, find_clear, find_mask_sources, find_masked
from cloudgan.schema import MaskSource
from cloudgan.sentinel2.classification import ClassRules, PixelClass, classify

GREEN = {11: 5000, 9: 6000}


def series(*classes):
    """One pixel over time: its classification and its band."""
    scl = np.array(classes, np.uint8)[:, None, None]
    return scl, {"green": np.vectorize(lambda one: GREEN.get(one, 700 if one else 0))(scl).astype(np.uint16)}


def seen(dates):
    """The pixel class of one pixel on each of the dates: day number to class of the classification."""
    scl, bands = series(*dates.values())
    return [
        PixelClass(one).name
        for one in classify_series(scl, bands, np.array(list(dates), np.int64)).ravel()
    ]  # fmt: skip


def naive(scl, days):
    """Whether the snow of each date of one pixel is confirmed, by the rule as it is written down."""
    found = []
    for at, day in enumerate(days):
        friends = [
            other
            for other, when in enumerate(days)
            if abs(when - day) <= 30
            and scl[other] == 11
            and not any(scl[between] in (4, 5) for between in range(min(at, other), max(at, other) + 1))
        ]
        times = [days[friend] for friend in friends]
        found.append(scl[at] == 11 and (max(times) - min(times) >= 10 or len(times) >= 3))
    return found


@given(st.data())
def test_the_rule_is_that_of_plain_loops(data):
    days = np.cumsum(data.draw(st.lists(st.integers(1, 14), min_size=1, max_size=12)))
    scl = data.draw(
        arrays(np.uint8, (len(days), 3, 2), elements=st.sampled_from([2, 4, 5, 7, 8, 9, 11, 11, 11]))
    )
    bands = {"green": np.full(scl.shape, 900, np.uint16)}
    classes = classify_series(scl, bands, days)
    assert not (classes == PixelClass.SNOW).any()
    for row, col in np.ndindex(3, 2):
        confirmed = naive(scl[:, row, col].tolist(), days.tolist())
        wanted = np.where(confirmed, PixelClass.CLEAR, PixelClass.CLOUDY)
        snow = scl[:, row, col] == 11
        assert_array_equal(classes[snow, row, col], wanted[snow])
    others = scl != 11
    assert_array_equal(classes[others], classify(scl, bands)[others])


@given(st.data())
def test_a_pixel_depends_on_no_other_and_time_may_be_cut(data):
    days = np.cumsum(data.draw(st.lists(st.integers(1, 14), min_size=3, max_size=14)))
    scl = data.draw(arrays(np.uint8, (len(days), 4, 4), elements=st.sampled_from([4, 9, 11, 11])))
    bands = {"green": np.full(scl.shape, 900, np.uint16)}
    whole = classify_series(scl, bands, days)
    at = data.draw(st.integers(0, len(days) - 1))
    near = np.abs(days - days[at]) <= margin_days(ClassRules())
    part = classify_series(scl[near, 1:3, 2:], {"green": bands["green"][near, 1:3, 2:]}, days[near])
    assert_array_equal(part[np.flatnonzero(near) == at][0], whole[at, 1:3, 2:])


def test_snow_that_stays_is_clear():
    assert seen({0: 4, 10: 11, 15: 9, 20: 11, 25: 8, 30: 11, 40: 4}) == [
        "CLEAR", "CLEAR", "CLOUDY", "CLEAR", "CLOUDY", "CLEAR", "CLEAR",
    ]  # fmt: skip


def test_snow_in_the_shade_does_not_contradict_it():
    assert seen({0: 11, 5: 7, 10: 2, 15: 11}) == ["CLEAR"] * 4


@pytest.mark.parametrize(
    "dates",
    [
        pytest.param({0: 11}, id="alone"),
        pytest.param({0: 4, 5: 11, 10: 5}, id="a single overcast day"),
        pytest.param({0: 4, 2: 11, 4: 4, 12: 11, 14: 4}, id="two overcast days, surface between"),
        pytest.param({0: 4, 2: 11, 7: 11, 12: 4}, id="two overcast days after each other"),
        pytest.param({0: 11, SNOW_DAYS + 1: 11}, id="too far apart"),
    ],
)
def test_snow_of_a_day_is_cloud(dates):
    snow = np.array(list(dates.values())) == 11
    assert set(np.array(seen(dates))[snow]) == {"CLOUDY"}


def test_several_dates_confirm_each_other_soon():
    assert seen(dict.fromkeys(range(0, 2 * ENOUGH_DATES, 2), 11)) == ["CLEAR"] * ENOUGH_DATES
    assert seen({0: 11, SNOW_STAYS: 11}) == ["CLEAR"] * 2
    assert seen({0: 11, SNOW_STAYS - 1: 11}) == ["CLOUDY"] * 2


@pytest.mark.parametrize(("snow", "expected"), [("keep", PixelClass.CLEAR), ("cloud", PixelClass.CLOUDY)])
def test_a_user_may_say_what_it_is(snow, expected):
    scl, bands = series(11, 9, 11, 11)
    classes = classify_series(scl, bands, np.array([0, 5, 10, 15]), ClassRules(snow=snow))
    assert_array_equal(classes.ravel(), [expected, PixelClass.CLOUDY, expected, expected])
    assert margin_days(ClassRules(snow=snow)) == 0 < margin_days(ClassRules())


def test_what_shows_no_surface_confirms_nothing():
    scl, bands = series(11, 11, 11)
    bands["green"][[0, 2]] = [[[0]], [[60_000]]]
    assert_array_equal(
        classify_series(scl, bands, np.array([0, 12, 24])).ravel(),
        [PixelClass.NO_DATA, PixelClass.CLOUDY, PixelClass.UNRELIABLE],
    )


def test_cloud_that_was_called_snow_has_a_buffer_where_overpasses_were_merged_too():
    scl = np.full((2, 20, 20), 4, np.uint8)
    scl[0, 5:8, 5:8], scl[1, 12:, 12:] = 11, 9
    bands = {"green": np.full(scl.shape, 900, np.uint16)}
    days, window = np.array([0, 5]), Window(0, 0, 20, 20)
    plain = classify_observations(window, bands, scl, days, buffer=3)
    assert plain.opacities is None
    other = np.zeros(scl.shape, np.float32)  # of the image that was not chosen
    other[1, 0, 0] = 0.5
    known = [compute_opacity(one, 3) for one in classify(scl, bands)]
    merged = classify_observations(
        window, bands, scl, days, buffer=3, opacities=np.maximum(np.stack(known), other)
    )
    assert_array_equal(merged.pixel_classes, plain.pixel_classes)
    assert_array_equal(merged.opacity(3), np.maximum(plain.opacity(3), other.astype(np.float16)))
    assert merged.opacity(3)[0].any()


@pytest.fixture(scope="module")
def read_real(samples_dir):
    netcdf = pytest.importorskip("cloudgan.training.data.netcdf")
    cubes = pytest.importorskip("cloudgan.training.data.cubes")

    def read(name, **options):
        cube = netcdf.read_netcdf(samples_dir / f"series-{name}-l2a-10m.nc", ("green", "red", "nir"))
        observations = cubes.site_of_cube(cube, ("green", "red", "nir"), name, name, **options).observations
        called = np.zeros(observations.pixel_classes.shape, np.bool_)
        kept = np.isin(cube["time"].values.astype("datetime64[D]").astype(int), observations.days)
        called[:] = cube["scl"].transpose("time", "y", "x").values[kept] == 11
        return observations, called

    return read


@pytest.mark.parametrize(("name", "date"), [("flanders-b", "2018-09-23"), ("flanders-a", "2018-11-12")])
def test_overcast_days_that_are_called_snow_are_cloud(read_real, name, date):
    at = np.datetime64(date).astype(int)
    observations, called = read_real(name)
    date = observations.days == at
    assert called[date].mean() > 0.95
    opacity = observations.opacity(6)
    assert not find_clear(observations.pixel_classes, opacity)[date].any()
    assert find_masked(observations.pixel_classes, opacity)[date].all()
    assert not (called & (observations.pixel_classes == PixelClass.CLEAR)).any()
    assert not (observations.scl == 11).any()
    kept, _ = read_real(name, snow="keep")
    assert (kept.pixel_classes[date] == PixelClass.CLEAR).mean() > 0.95


def test_in_romania_the_snow_of_a_winter_is_clear_and_that_of_summers_is_not(read_real):
    observations, called = read_real("romania")
    clear = called & (observations.pixel_classes == PixelClass.CLEAR)
    dates = observations.days.astype("datetime64[D]")
    summer = np.isin(dates.astype("datetime64[M]").astype(int) % 12, range(4, 10))
    assert called[summer].mean() > 0.002
    assert not clear[summer].any()
    winter = {str(date): float(share) for date, share in zip(dates, clear.mean(axis=(1, 2)), strict=True)}
    assert winter["2020-02-01"] > 0.2
    assert winter["2020-02-16"] > 0.2


def test_the_series_says_who_called_a_pixel_cloudy():
    scl = np.array([4, 11, 9, 3, 0], np.uint8)[:, None, None]
    bands = {"green": np.full(scl.shape, 900, np.uint16)}
    made = classify_observations(Window(0, 0, 1, 1), bands, scl, np.arange(5) * 5, buffer=0)
    assert made.mask_sources.ravel().tolist() == [0, MaskSource.SNOW, MaskSource.SCL, MaskSource.SCL, 0]
    masked = find_mask_sources(made.pixel_classes, made.opacity(0), made.mask_sources).ravel().tolist()
    assert masked == [0, MaskSource.SNOW, MaskSource.SCL, MaskSource.SCL, MaskSource.NO_DATA]

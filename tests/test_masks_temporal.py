"""The temporal test: what is gone on the next dates is cloud, what stays is the surface."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from scipy.ndimage import gaussian_filter

from cloudgan.errors import InputError
from cloudgan.geo.grid import Window
from cloudgan.masks import temporal
from cloudgan.masks.margins import cover_masks, estimate_margin, margin_days
from cloudgan.masks.selection import Masks
from cloudgan.masks.temporal import MARGIN_DAYS, find_departures, margin_pixels
from cloudgan.masks.union import classify_observations, find_temporal_clouds
from cloudgan.schema import MaskSource
from cloudgan.sentinel2.classification import ClassRules, PixelClass
from cloudgan.simulation.clouds import add_clouds, draw_cloud_field

SHAPE = (90, 80)
DAYS = np.arange(20) * 5
MIDDLE = 10
NAMES = ("blue", "green", "red", "nir")
SOIL, CROP = (700, 900, 1200, 2200), (300, 600, 350, 3800)
BUFFER = 2


def make_series(seed=0, days=DAYS, names=NAMES, noise=0.04):
    """Fields of soil and crops that drift with the season, each date with its own light."""
    rng = np.random.default_rng(seed)
    fields = gaussian_filter(rng.random(SHAPE), 6)
    share = (fields - fields.min()) / np.ptp(fields)
    season = 0.15 * np.sin(days / 40)[:, None, None]
    common = rng.normal(1, noise, (len(days), 1, 1))
    series = {}
    for name, soil, crop in zip(NAMES, SOIL, CROP, strict=True):
        surface = soil + np.clip(share + season, 0, 1) * (crop - soil)
        light = common * rng.normal(1, noise / 4, (len(days), 1, 1))
        grain = rng.normal(1, noise / 2, (len(days), *SHAPE))
        series[name] = np.round(surface * light * grain).astype(np.uint16)
    return {name: series[name] for name in names}


def put(series, at, where, factor=1.0, added=0.0):
    """The series with a part of one date, or of several, changed."""
    made = {name: band.copy() for name, band in series.items()}
    for name, band in made.items():
        more = added[NAMES.index(name)] if isinstance(added, tuple) else added
        band[at][..., *where] = np.round(band[at][..., *where] * factor + more)
    return made


def find(series, clear=None, days=DAYS):
    clear = np.ones(next(iter(series.values())).shape, bool) if clear is None else clear
    return find_departures(series, clear, days, buffer=BUFFER)


PART = np.s_[20:60, 20:60]
INNER = np.s_[25:55, 25:55]


@pytest.mark.parametrize("names", [NAMES, NAMES[1:]])
@pytest.mark.parametrize(
    ("what", "factor", "added"),
    [("cloud", 0.3, 3500.0), ("haze", 0.9, (700, 620, 560, 350)), ("shadow", 0.45, 0.0)],
)
def test_what_is_gone_on_the_next_dates_is_masked(names, what, factor, added):
    series = make_series(names=names)
    found = find(put(series, MIDDLE, PART, factor, added))
    assert found[MIDDLE][INNER].mean() > 0.95, what
    assert found[MIDDLE][:, 66:].mean() < 0.1
    others = np.arange(len(DAYS)) != MIDDLE
    assert found[others].mean() < 0.005


def test_a_clear_series_is_left_alone():
    assert np.mean([find(make_series(seed)).mean() for seed in range(5)]) < 0.01


@pytest.mark.parametrize(
    "surface",
    [(900, 1200, 1600, 3000), (600, 800, 1000, 1600), (700, 900, 800, 400), (400, 500, 550, 1000)],
    ids=["harvest", "plough", "flood", "fire"],
)
def test_what_happens_to_a_field_is_no_cloud(surface):
    series = make_series(noise=0.01)
    for name, value in zip(NAMES, surface, strict=True):
        band = series[name]
        light = band[MIDDLE:].mean(axis=(1, 2)) / band[MIDDLE:].mean()
        band[MIDDLE:, *PART] = np.round(value * light[:, None, None])
    assert find(series)[:, *PART].mean() < 0.005


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32 - 1), st.integers(0, 19), st.floats(0.05, 6))
def test_a_change_that_stays_is_never_masked(seed, at, factor):
    """Of a surface that is still but for one change, whatever the change and its date."""
    rng = np.random.default_rng(seed)
    still = {name: np.full((len(DAYS), 50, 50), rng.integers(200, 3000), np.uint16) for name in NAMES}
    changed = {name: (band * factor * rng.uniform(0.5, 2)).astype(np.uint16) for name, band in still.items()}
    for name in NAMES:
        still[name][at:] = changed[name][at:]
    clear = rng.random((len(DAYS), 1, 1)) < 0.7
    assert not find(still, np.broadcast_to(clear, still["red"].shape)).any()


def test_a_change_that_the_next_two_clear_dates_share_is_no_cloud():
    series = put(make_series(noise=0.01), slice(MIDDLE, MIDDLE + 3), PART, 0.4)
    assert find(series)[MIDDLE].mean() < 0.01


def test_at_the_ends_of_a_series_nothing_is_masked():
    series = make_series()
    for at in (0, -1):
        assert not find(put(series, at, PART, 0.3, 3500.0))[at].any()


def test_short_series_say_nothing():
    days = DAYS[:5]
    series = make_series(days=days, noise=0.0)
    assert not find(put(series, 2, PART, 0.3, 3500.0), days=days).any()


def test_what_is_masked_already_is_neither_tested_nor_trusted():
    series = put(make_series(), slice(MIDDLE - 2, MIDDLE), PART, 0.3, 3500.0)
    clear = np.ones((len(DAYS), *SHAPE), bool)
    clear[MIDDLE - 2 : MIDDLE, *PART] = False
    found = find(put(series, MIDDLE, PART, 0.9, (700, 620, 560, 350)), clear)
    assert found[MIDDLE][INNER].mean() > 0.95
    assert not (found & ~clear).any()


def test_small_areas_are_not_masked():
    series = put(make_series(), MIDDLE, np.s_[30:37, 30:37], 0.3, 3500.0)
    assert not find(series)[MIDDLE].any()


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 40), st.integers(0, 40), st.integers(8, 40), st.integers(8, 40), st.integers(0, 3))
def test_a_crop_of_the_whole_is_the_whole_of_the_crop(top, left, height, width, seed):
    series, clear = clouded(seed)
    whole = find(series, clear)
    around = margin_pixels(BUFFER)
    rows = slice(max(top - around, 0), min(top + height + around, SHAPE[0]))
    cols = slice(max(left - around, 0), min(left + width + around, SHAPE[1]))
    crop = find({name: band[:, rows, cols] for name, band in series.items()}, clear[:, rows, cols])
    inner = np.s_[:, top - rows.start :, left - cols.start :]
    part = np.s_[:, top : min(top + height, SHAPE[0]), left : min(left + width, SHAPE[1])]
    expected = whole[part]
    assert_array_equal(crop[inner][:, : expected.shape[1], : expected.shape[2]], expected)


def test_a_crop_test_meets_masks():
    assert np.mean([find(*clouded(seed)).mean() for seed in range(4)]) > 0.01


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 3), st.integers(0, 49))
def test_a_date_depends_on_those_within_the_margin_alone(seed, at):
    days = np.cumsum(np.random.default_rng(seed).integers(3, 12, 50))
    series = make_series(seed, days)
    series = put(series, 25, PART, 0.9, (700, 620, 560, 350))
    clear = np.random.default_rng(seed + 1).random((50, 1, 1)) < 0.8
    clear = np.broadcast_to(clear, series["red"].shape)
    near = np.abs(days - days[at]) <= MARGIN_DAYS
    cut = find({name: band[near] for name, band in series.items()}, clear[near], days[near])
    assert_array_equal(cut[days[near] == days[at]][0], find(series, clear, days)[at])


@pytest.mark.parametrize("size", [1000, 8192])
def test_how_many_pixels_are_tested_at_once_does_not_matter(size, monkeypatch):
    series, clear = clouded(0)
    found = find(series, clear)
    monkeypatch.setattr(temporal, "_PIXELS", size - 1)
    assert_array_equal(find(series, clear), found)


def test_backward_in_time_it_is_the_same():
    series, clear = clouded(1)
    backward = {name: band[::-1] for name, band in series.items()}
    assert_array_equal(find(backward, clear[::-1], -DAYS[::-1])[::-1], find(series, clear))


def clouded(seed):
    """A series under simulated cloud of which half is known, and what is clear by what is known."""
    rng = np.random.default_rng(seed)
    series = make_series(seed)
    clear = np.ones((len(DAYS), *SHAPE), bool)
    for at in rng.choice(len(DAYS), 8, replace=False):
        sky = draw_cloud_field(rng, SHAPE, "thin", rng.uniform(0.3, 0.9), (160.0, 40.0))
        image = np.stack([series[name][at] for name in NAMES], axis=-1).astype(np.float32) * np.float32(1e-4)
        cloudy = add_clouds(image, NAMES, sky)
        for channel, name in enumerate(NAMES):
            series[name][at] = np.round(cloudy.cloudy[..., channel] * 1e4)
        if rng.random() < 0.5:
            clear[at] &= sky.cloud < 0.2
    return series, clear


def predict(values, shown, at, dates):
    """The smallest and largest value that the clear dates on one side may stand for; None without any."""
    near = [values[other] for other in dates if abs(DAYS[other] - DAYS[at]) <= 60 and shown[other]][:3]
    return (np.median(near),) * 2 if len(near) == 3 else (min(near), max(near)) if near else None


def excess(values, shown, at):
    """By how much a date is above, and below, what both sides predict; None where nothing does."""
    sides = [predict(values, shown, at, dates) for dates in (range(at - 1, -1, -1), range(at + 1, len(DAYS)))]
    if not shown[at] or None in sides:
        return None
    return values[at] - max(high for _, high in sides), min(low for low, _ in sides) - values[at]


def naive(of, shown, at):
    """The largest departure of one pixel that agrees with cloud or shadow, in means of its other dates."""
    tests = [*((2 * of[name] - of["red"], [of[name]], 0) for name in NAMES[:2])]
    tests.append((of["nir"], [of["green"], of["red"]], 1))
    largest = 0.0
    for values, signs, direction in tests:
        here = excess(values, shown, at)
        if here is None or not all(excess(one, shown, at)[direction] > 0 for one in signs):
            continue
        near = [other for other in range(len(DAYS)) if 0 < abs(DAYS[other] - DAYS[at]) <= 60]
        others = [excess(values, shown, other) for other in near]
        sizes = [max(*one, 10) for one in others if one is not None and max(one) > 0]
        if here[direction] > 0 and len(sizes) >= 3:
            usual = np.exp(np.mean(np.log(sizes)) + 0.5772)
            largest = max(largest, max(here[direction], 10) / usual)
    return largest


def test_a_pixel_departs_as_the_definition_says():
    series, clear = clouded(2)
    flat = {name: band.reshape(len(DAYS), -1).astype(np.int16) for name, band in series.items()}
    seeds, found = np.zeros((2, len(DAYS), SHAPE[0] * SHAPE[1]), bool)
    temporal._test_pixels(flat, clear.reshape(len(DAYS), -1), DAYS, seeds, found)
    rng, met = np.random.default_rng(0), set()
    for at, row, col in zip(*(rng.integers(0, size, 400) for size in clear.shape), strict=True):
        of = {name: band[:, row, col].astype(int) for name, band in series.items()}
        size = naive(of, clear[:, row, col], at)
        for flags, least in ((seeds, temporal.SIGNIFICANT), (found, temporal.NOTABLE)):
            flag = flags.reshape(clear.shape)[at, row, col]
            if not 0.98 < size / least < 1.02:  # logarithms are rounded
                assert flag == (size > least), (at, row, col, size)
                met.add((least, bool(flag)))
    assert len(met) == 4


# In the product


def test_the_union_says_that_time_found_it():
    series = put(make_series(), MIDDLE, PART, 0.9, (700, 620, 560, 350))
    scl = np.full((len(DAYS), *SHAPE), 4, np.uint8)
    scl[:, :5] = 9
    found = find_temporal_clouds(series, scl, DAYS, {}, buffer=BUFFER)
    called = {MaskSource.TEMPORAL: found}
    made = classify_observations(Window(0, 0, *SHAPE), series, scl, DAYS, buffer=BUFFER, called=called)
    assert (made.mask_sources[MIDDLE][INNER] == MaskSource.TEMPORAL).mean() > 0.95
    assert (made.pixel_classes[found] == PixelClass.CLOUDY).all()
    assert (made.mask_sources[:, :5] == MaskSource.SCL).all()


def test_what_a_detector_finds_is_not_trusted():
    series = put(make_series(), MIDDLE, PART, 0.9, (700, 620, 560, 350))
    scl = np.full((len(DAYS), *SHAPE), 4, np.uint8)
    cloudy = np.zeros(scl.shape, bool)
    cloudy[MIDDLE] = True
    assert not find_temporal_clouds(series, scl, DAYS, {MaskSource.DETECTOR: cloudy}, buffer=BUFFER)[
        MIDDLE
    ].any()


def test_its_name_is_one_of_the_masks():
    assert Masks.load(["scl", "temporal"], "auto", NAMES) == Masks(is_temporal=True)
    assert not Masks.load(["scl"], "auto", NAMES).is_temporal


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        (["temporal"], "--mask temporal tests what another mask calls clear; give --mask scl,temporal"),
        (["none", "temporal"], "--mask none trusts no mask, and others are named"),
        (["scl", "temporl"], "--mask temporl is unknown; give scl, csmask, temporal, an ONNX file, or none"),
    ],
)
def test_a_name_that_cannot_be_meant_is_refused(names, reason):
    with pytest.raises(InputError, match=reason):
        Masks.load(names, "auto", NAMES)


def test_it_reads_more_around():
    window = Window(-3, 70, 50, 60)
    around = margin_pixels(BUFFER)
    assert cover_masks(window, (), BUFFER, is_temporal=True) == window.buffered(around)
    assert cover_masks(window, (), BUFFER, is_temporal=False) == window
    assert estimate_margin((), BUFFER, is_temporal=True) == around
    assert margin_days(ClassRules(snow="keep"), is_temporal=True) == MARGIN_DAYS
    assert margin_days(ClassRules(), is_temporal=True) > MARGIN_DAYS

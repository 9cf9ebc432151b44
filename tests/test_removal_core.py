"""The core: equal to plain loops, independent of chunks, crops and threads, with the provenance of pixels."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import BANDS
from random_observations import (
    AREA,
    BUFFER,
    DAYS,
    TILE,
    assert_same,
    crop,
    decloud,
    distance,
    naive_weight,
    nearest_clear_dates,
    observations_for,
    parts,
    random_observations,
)
from threadpoolctl import threadpool_info, threadpool_limits

from cloudgan import schema
from cloudgan.geo.grid import Window
from cloudgan.geo.tiling import Tiling
from cloudgan.observations import find_masked, lacks_surface
from cloudgan.planning.units import cut_into_spans
from cloudgan.removal.core import decloud_dates, default_tiling, window_to_read
from cloudgan.schema import NO_CLEAR_DATE, NO_UNCERTAINTY, MaskSource, Provenance
from cloudgan.sentinel2.classification import PixelClass

STRIDES = [16, 24, 28, 32]
DTYPES = {one.name: one.dtype for one in schema.variables(BANDS)}


def naive_tiles(observations, at, generator, stride):
    """Every tile of the lattice, one after the other: their weighted sum, and all predictions of a pixel."""
    window = observations.window
    edge = np.ones(TILE)
    for i in range(TILE - stride):
        edge[i] = math.sin(math.pi / 2 * (i + 0.5) / (TILE - stride)) ** 2
        edge[stride + i] = 1 - edge[i]
    total = np.zeros((3, *window.shape), np.float32)
    predictions = {pixel: [] for pixel in np.ndindex(*window.shape)}
    for row in range(-10 * stride, 10 * stride, stride):
        for col in range(30 * stride, 80 * stride, stride):
            tile = Window(row, col, TILE, TILE)
            if not window.contains(tile):
                continue
            rows, cols = tile.slices_in(window)
            channels = np.stack([band[at, rows, cols] for band in observations.bands.values()]).astype(
                np.float32
            )
            made = generator(channels[None] * np.float32(0.0001))[0]
            total[:, rows, cols] += np.outer(edge, edge).astype(np.float32) * made
            for i, j in np.ndindex(TILE, TILE):
                predictions[rows.start + i, cols.start + j].append(made[:, i, j])
    return total, predictions


def naive_decloud(observations, at, target, generator, stride, buffer):
    """One date, pixel by pixel: values, provenance and uncertainty over the target."""
    weight = naive_weight(observations.pixel_classes[at], buffer)
    total, predictions = naive_tiles(observations, at, generator, stride)
    rows, cols = target.slices_in(observations.window)
    values = np.stack([band[at] for band in observations.bands.values()])
    provenance = np.ones(weight.shape, np.uint8)
    uncertainty = np.full(weight.shape, 65535, np.uint16)
    provenance[observations.pixel_classes[at] == PixelClass.NO_DATA] = 0
    provenance[observations.pixel_classes[at] == PixelClass.MISSING] = 3
    provenance[observations.pixel_classes[at] == PixelClass.UNRELIABLE] = 4
    for y in range(rows.start, rows.stop):
        for x in range(cols.start, cols.stop):
            if provenance[y, x] in (0, 3) or weight[y, x] == 0:
                continue
            provenance[y, x] = 2
            share = np.where(values[:, y, x] == 0, np.float32(1), weight[y, x])
            dn = share * total[:, y, x] / np.float32(0.0001) + (1 - share) * values[:, y, x]
            values[:, y, x] = np.clip(np.rint(dn), 1, 65535)
            each = np.array(predictions[y, x])
            if len(each) > 1:
                apart = (each.max(axis=0) - each.min(axis=0)).mean() / 0.0001
                uncertainty[y, x] = min(round(float(apart)), 65534)
    return values[:, rows, cols], provenance[rows, cols], uncertainty[rows, cols]


@pytest.mark.parametrize("stride", STRIDES)
def test_the_core_equals_plain_loops(generator, stride):
    target = Window(-20, 1013, 37, 41)
    observations = observations_for(target, stride)
    made = decloud(observations, target, generator, stride)
    assert len(made) == len(DAYS)
    for at in (0, 2):
        values, provenance, uncertainty = naive_decloud(observations, at, target, generator, stride, BUFFER)
        assert (provenance == Provenance.GENERATED).sum() > 200
        np.testing.assert_array_equal(made[at].bands, values)
        np.testing.assert_array_equal(made[at].provenance, provenance)
        np.testing.assert_allclose(made[at].uncertainty.astype(int), uncertainty.astype(int), atol=1)


@pytest.fixture(scope="module")
def wholes(generator):
    """For each stride: observations, and all of `AREA` at once."""
    observations = {stride: observations_for(AREA, stride) for stride in STRIDES}
    return {
        stride: (observations[stride], decloud(observations[stride], AREA, generator, stride))
        for stride in STRIDES
    }


def cuts(size):
    """Where to cut an edge of this many pixels, ends included."""
    inner = st.lists(st.integers(1, size - 1), max_size=2, unique=True)
    return inner.map(lambda places: [0, *sorted(places), size])


@settings(max_examples=25)
@given(stride=st.sampled_from(STRIDES), rows=cuts(AREA.height), cols=cuts(AREA.width))
def test_chunks_change_nothing(wholes, generator, stride, rows, cols):
    observations, whole = wholes[stride]
    for top, bottom in pairwise(rows):
        for left, right in pairwise(cols):
            part = Window.between(AREA.row + top, AREA.col + left, AREA.row + bottom, AREA.col + right)
            only_needed = observations.crop(window_to_read(part, Tiling(TILE, stride), BUFFER))
            for made, date in zip(decloud(only_needed, part, generator, stride), whole, strict=True):
                assert_same(made, crop(date, AREA, part))


@settings(max_examples=40)
@given(part=parts(), stride=st.sampled_from(STRIDES))
def test_a_crop_of_the_whole_is_the_whole_of_the_crop(wholes, generator, part, stride):
    observations, whole = wholes[stride]
    for made, date in zip(decloud(observations, part, generator, stride), whole, strict=True):
        assert_same(made, crop(date, AREA, part))


def test_values_do_not_depend_on_what_lies_beyond_the_window_to_read(wholes, generator):
    observations, _ = wholes[24]
    part = Window(-10, 1040, 5, 5)
    read = window_to_read(part, Tiling(TILE, 24), BUFFER)
    rows, cols = read.slices_in(observations.window)
    elsewhere = random_observations(observations.window, seed=1)
    for values, theirs in zip(
        (*elsewhere.bands.values(), elsewhere.pixel_classes),
        (*observations.bands.values(), observations.pixel_classes),
        strict=True,
    ):
        values[:, rows, cols] = theirs[:, rows, cols]
    for one, other in zip(
        decloud(elsewhere, part, generator), decloud(observations, part, generator), strict=True
    ):
        assert_same(one, other)


def test_threads_change_nothing(wholes, generator):
    observations, whole = wholes[24]
    for made, date in zip(decloud(observations, AREA, generator, threads=3), whole, strict=True):
        assert_same(made, date)


@pytest.mark.parametrize("dates", [[0], [2], [1, 3], [3, 0], []])
def test_some_dates_alone_are_the_same_as_among_all(wholes, generator, dates):
    observations, whole = wholes[24]
    made = decloud(observations, AREA, generator, dates=dates)
    assert len(made) == len(dates)
    for date, at in zip(made, dates, strict=True):
        assert_same(date, whole[at])


def test_observations_of_a_smaller_window_have_no_data_around_it(generator):
    target = Window(0, 1000, 20, 20)
    observations = random_observations(target)
    padded = observations.pad(window_to_read(target, Tiling(TILE, 24), BUFFER))
    for one, other in zip(
        decloud(observations, target, generator), decloud(padded, target, generator), strict=True
    ):
        assert_same(one, other)


@pytest.mark.parametrize("stride", STRIDES)
def test_outside_the_mask_every_value_is_the_observed_one(wholes, stride):
    observations, whole = wholes[stride]
    rows, cols = AREA.slices_in(observations.window)
    for at, date in enumerate(whole):
        observed = np.stack([band[at, rows, cols] for band in observations.bands.values()])
        untouched = np.isin(date.provenance, [Provenance.OBSERVED, Provenance.NO_DATA, Provenance.UNRELIABLE])
        assert 0.2 < untouched.mean() < 0.9
        np.testing.assert_array_equal(date.bands[:, untouched], observed[:, untouched])
        for name, value in (("days_before", 0), ("days_after", 0), ("uncertainty", NO_UNCERTAINTY)):
            assert (getattr(date, name)[untouched] == value).all()


def test_provenance_states_where_each_value_is_from(wholes):
    observations, whole = wholes[24]
    rows, cols = AREA.slices_in(observations.window)
    for at, date in enumerate(whole):
        pixel_classes = observations.pixel_classes[at]
        near_cloud = naive_weight(pixel_classes, BUFFER)[rows, cols] > 0
        pixel_classes = pixel_classes[rows, cols]
        valid = ~np.isin(pixel_classes, [PixelClass.NO_DATA, PixelClass.MISSING])
        assert (date.provenance[pixel_classes == PixelClass.NO_DATA] == Provenance.NO_DATA).all()
        assert (date.provenance[pixel_classes == PixelClass.MISSING] == Provenance.MISSING_ASSET).all()
        assert (date.provenance[pixel_classes == PixelClass.CLOUDY] == Provenance.GENERATED).all()
        assert (date.provenance[valid & near_cloud] == Provenance.GENERATED).all()
        unreliable = pixel_classes == PixelClass.UNRELIABLE
        assert (date.provenance[valid & ~near_cloud & ~unreliable] == Provenance.OBSERVED).all()
        assert (date.provenance[valid & ~near_cloud & unreliable] == Provenance.UNRELIABLE).all()
        assert (date.bands[:, pixel_classes == PixelClass.CLOUDY] > 0).all()
        assert (date.bands[:, ~valid] == 0).all()


@pytest.mark.parametrize("stride", STRIDES)
def test_the_uncertainty_is_known_where_tiles_overlap(wholes, stride):
    _, whole = wholes[stride]
    starts = [
        range(start - start % stride - 2 * stride, start + size, stride)
        for start, size in ((-37, 61), (1013, 70))
    ]
    tiles = [
        np.array([sum(start <= pixel < start + TILE for start in axis) for pixel in range(low, low + size)])
        for axis, low, size in zip(starts, (-37, 1013), (61, 70), strict=True)
    ]
    overlapping = np.outer(*tiles) > 1
    assert overlapping.any() == (stride < TILE)
    for date in whole:
        generated = date.provenance == Provenance.GENERATED
        np.testing.assert_array_equal(date.uncertainty != NO_UNCERTAINTY, generated & overlapping)
        # near the edge of a tile the network takes in its zero padding, so that tiles differ
        assert stride == TILE or date.uncertainty[generated & overlapping].max() > 100


def test_whoever_masked_a_pixel_is_named_and_nobody_else_is(wholes):
    observations, whole = wholes[24]
    rows, cols = AREA.slices_in(observations.window)
    masked = find_masked(observations.pixel_classes, observations.opacity(BUFFER))[:, rows, cols]
    for at, date in enumerate(whole):
        classes = observations.pixel_classes[at, rows, cols]
        np.testing.assert_array_equal(date.mask_source > 0, masked[at])
        np.testing.assert_array_equal((date.mask_source & MaskSource.SCL) > 0, classes == PixelClass.CLOUDY)
        np.testing.assert_array_equal((date.mask_source & MaskSource.NO_DATA) > 0, lacks_surface(classes))
        assert not (date.mask_source & ~(MaskSource.SCL | MaskSource.NO_DATA | MaskSource.BUFFER)).any()
        assert (date.provenance[date.mask_source == 0] == Provenance.OBSERVED).all()


def test_a_clipped_date_has_no_data_outside(wholes):
    _, (date, *_) = wholes[24]
    outside = np.zeros(AREA.shape, bool)
    outside[:, :20] = True
    clipped = date.clip(outside)
    inside = Window(AREA.row, AREA.col + 20, AREA.height, AREA.width - 20)
    assert_same(crop(clipped, AREA, inside), crop(date, AREA, inside))
    assert (clipped.bands[:, outside] == 0).all()
    assert (clipped.provenance[outside] == Provenance.NO_DATA).all()
    assert (clipped.mask_source[outside] == MaskSource.NO_DATA).all()
    assert (clipped.uncertainty[outside] == NO_UNCERTAINTY).all()
    assert (clipped.days_before[outside] == NO_CLEAR_DATE).all()
    assert (clipped.days_after[outside] == NO_CLEAR_DATE).all()


def test_a_date_is_placed_in_a_wider_window_without_data_around_it(wholes):
    _, (date, *_) = wholes[24]
    wide = AREA.buffered(3)
    placed = date.place(AREA, wide)
    assert_same(crop(placed, wide, AREA), date)
    outside = np.ones(wide.shape, bool)
    outside[AREA.slices_in(wide)] = False
    assert_same(placed, placed.clip(outside))
    assert date.place(AREA, AREA) is date


@pytest.mark.parametrize("max_age", [1, 30, 120])
def test_a_series_cut_in_time_gives_the_same_bits(temporal, max_age):
    """With the dates around each span that may serve as clear dates."""
    days = 18353 + np.cumsum([0, 2, 28, 1, 40, 3, 30, 90, 5, 121, 7], dtype=np.int64)
    observations = random_observations(window_to_read(AREA, Tiling(TILE, 24), BUFFER), days=days)
    whole = decloud(observations, AREA, temporal, max_age=max_age)
    for span in cut_into_spans(days, tuple(range(len(days))), 3, max_age):
        piece = slice(span.scenes.start, span.scenes.stop)
        part = observations.select_dates(np.arange(piece.start, piece.stop))
        dates = [at - piece.start for at in span.dates]
        made = decloud(part, AREA, temporal, dates=dates, max_age=max_age)
        for at, date in zip(span.dates, made, strict=True):
            assert_same(date, whole[at])
    ages = np.stack([date.days_before for date in whole])
    assert 0 < ages[ages != NO_CLEAR_DATE].max() <= max_age


def test_a_date_gives_its_variables_by_name(wholes):
    _, (date, *_) = wholes[24]
    variables = date.variables(BANDS)
    assert {name: values.dtype for name, values in variables.items()} == DTYPES
    assert all(values.shape == AREA.shape for values in variables.values())
    np.testing.assert_array_equal(variables["red"], date.bands[1])


def test_gaps_are_filled_where_another_date_shows_the_surface(temporal):
    target = Window(-9, 1000, 30, 34)
    observations = observations_for(target, 24, bands=["green"], seed=4)
    rows, cols = target.slices_in(observations.window)
    kinds = set()
    unfilled = {
        PixelClass.NO_DATA: Provenance.NO_DATA,
        PixelClass.MISSING: Provenance.MISSING_ASSET,
        PixelClass.UNRELIABLE: Provenance.UNRELIABLE,
    }
    for at, date in enumerate(decloud(observations, target, temporal)):
        for row, col in np.ndindex(*target.shape):
            y, x = rows.start + row, cols.start + col
            pixel_class = observations.pixel_classes[at, y, x]
            if pixel_class not in unfilled:
                continue
            before, after = nearest_clear_dates(observations, at, y, x, BUFFER)
            expected = Provenance.GENERATED if before or after else unfilled[pixel_class]
            if not (before or after) and distance(observations.pixel_classes[at], y, x) <= BUFFER:
                continue  # what is unreliable in the buffer of a cloud is generated
            assert date.provenance[row, col] == expected
            if pixel_class != PixelClass.UNRELIABLE:
                assert (date.bands[0, row, col] > 0) == (expected == Provenance.GENERATED)
            kinds.add((PixelClass(pixel_class), expected))
    assert len(kinds) >= 5


def test_days_are_counted_to_the_clear_dates_of_each_generated_pixel(temporal, generator):
    target = Window(-9, 1000, 30, 34)
    for network, bands in ((temporal, ["green"]), (generator, BANDS)):
        observations = observations_for(target, 24, bands=bands, seed=4)
        rows, cols = target.slices_in(observations.window)
        for at, date in enumerate(decloud(observations, target, network)):
            for row, col in np.argwhere(date.provenance == Provenance.GENERATED):
                clear = nearest_clear_dates(observations, at, rows.start + row, cols.start + col, BUFFER)
                days = [abs(DAYS[one[0]] - DAYS[at]) if one else NO_CLEAR_DATE for one in clear]
                assert [date.days_before[row, col], date.days_after[row, col]] == days


@settings(max_examples=20)
@given(part=parts())
def test_chunks_change_nothing_with_other_dates(temporal, part):
    observations = observations_for(AREA, 24, bands=["green"])
    only_needed = observations.crop(window_to_read(part, Tiling(TILE, 24), BUFFER))
    whole = decloud(observations, AREA, temporal, dates=[1])[0]
    assert_same(decloud(only_needed, part, temporal, dates=[1])[0], crop(whole, AREA, part))


def test_the_default_stride_is_three_quarters_of_a_tile(generator):
    assert default_tiling(generator) == Tiling(32, 24)


def test_the_window_to_read_holds_the_tiles_and_the_buffer_around_them():
    assert window_to_read(Window(30, -5, 10, 10), Tiling(32, 24), 4) == Window.between(-4, -28, 60, 36)


def test_linear_algebra_has_one_thread_as_long_as_any_dates_are_declouded(temporal):
    observations = random_observations(AREA, ["green"])

    def count_threads():
        return {one["num_threads"] for one in threadpool_info() if one["user_api"] == "blas"}

    def begin():
        return decloud_dates(observations, AREA, temporal, buffer=BUFFER, tiling=Tiling(TILE, 24))

    with threadpool_limits(2, user_api="blas"):
        assert count_threads() == {2}
        first, second = begin(), begin()
        next(first), next(second)
        assert count_threads() == {1}
        first.close()
        assert count_threads() == {1}
        second.close()
        assert count_threads() == {2}

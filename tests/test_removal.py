import math
from itertools import pairwise

import dask
import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import BANDS, write_network
from scipy.ndimage import gaussian_filter

from cloudgan.errors import InputError
from cloudgan.geo.grid import Grid, Lattice, Window
from cloudgan.geo.tiling import Tiling
from cloudgan.model.generator import Generator
from cloudgan.observations import Observations, find_common_clear_dates
from cloudgan.planning.units import cut_into_spans
from cloudgan.removal.core import DecloudedDate, declouded, default_tiling, output_dtypes, window_to_read
from cloudgan.removal.lazy import remove_clouds
from cloudgan.removal.normalisation import RadiometricOffsets
from cloudgan.schema import NO_CLEAR_DATE, NO_UNCERTAINTY, Provenance
from cloudgan.sentinel2.classification import SCL_MISSING, PixelClass
from cloudgan.sentinel2.dates import day_numbers

DAYS = np.array([0, 2, 5, 6], np.int64) + 18353
TILE = 32
STRIDES = [16, 24, 28, 32]
REACH = 4
AREA = Window(-37, 1013, 61, 70)  # across the lattice's own zero, and no multiple of a stride


def random_states(rng, shape):
    """Clouds, a swath edge, a broken asset and doubtful pixels, in patches."""

    def patches(share):
        noise = gaussian_filter(rng.random(shape), (0, 4, 4))
        return noise > np.quantile(noise, 1 - share)

    pixel_classes = np.full(shape, PixelClass.CLEAR, np.uint8)
    pixel_classes[patches(0.25)] = PixelClass.CLOUDY
    pixel_classes[rng.random(shape) < 0.03] = PixelClass.INCOMPLETE
    pixel_classes[patches(0.1)] = PixelClass.NO_DATA
    pixel_classes[patches(0.05)] = PixelClass.MISSING
    return pixel_classes


def random_scenes(window, bands=3, days=DAYS, seed=0):
    """All dates of a window, made up."""
    rng = np.random.default_rng(seed)
    shape = (len(days), *window.shape)
    pixel_classes = random_states(rng, shape)
    seen = ~np.isin(pixel_classes, [PixelClass.NO_DATA, PixelClass.MISSING])
    values = [np.where(seen, rng.integers(1, 9000, shape), 0).astype(np.uint16) for _ in range(bands)]
    if bands > 1:
        values[1][(pixel_classes == PixelClass.INCOMPLETE) & (rng.random(shape) < 0.5)] = (
            0  # one band alone has no data
        )
    return Observations(window, tuple(values), pixel_classes, days)


def scenes_for(target, stride, *, bands=3, seed=0):
    """Observations that hold all that `target` depends on."""
    return random_scenes(window_to_read(target, Tiling(TILE, stride), REACH), bands, seed=seed)


def decloud(scenes, target, generator, stride=24, buffer=REACH, **options):
    tiling = Tiling(TILE, stride)
    return list(declouded(scenes, target, generator, buffer=buffer, tiling=tiling, **options))


def crop(date, window, part):
    """What `date`, over `window`, holds over `part`."""
    rows, cols = part.slices_in(window)
    return DecloudedDate(
        date.bands[:, rows, cols],
        *(getattr(date, name)[rows, cols] for name in ("provenance", "days_before", "days_after", "spread")),
    )


def assert_same(one, other):
    """Bit for bit."""
    for name in ("bands", "provenance", "days_before", "days_after", "spread"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)
        assert getattr(one, name).dtype == getattr(other, name).dtype


# The core against loops that anyone can follow


def naive_weight(pixel_classes, buffer):
    """Opacity by trying all cloudy pixels, and none where there is no data."""
    cloudy = np.argwhere(pixel_classes == PixelClass.CLOUDY)
    weight = np.zeros(pixel_classes.shape)
    for pixel in np.ndindex(*pixel_classes.shape):
        distance = np.sqrt(((cloudy - pixel) ** 2).sum(axis=1)).min() if len(cloudy) else math.inf
        if distance == 0:
            weight[pixel] = 1
        elif distance <= buffer:
            fall = max(distance - buffer / 2, 0) / (buffer / 2 + 1)
            weight[pixel] = math.cos(math.pi / 2 * fall) ** 2
    return weight.astype(np.float16).astype(np.float32)  # it is kept in half precision


def naive_tiles(scenes, at, generator, stride):
    """Every tile of the lattice, one after the other: their weighted sum, and what each says of a pixel."""
    window = scenes.window
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
            channels = np.stack([band[at, rows, cols] for band in scenes.bands]).astype(np.float32)
            made = generator(channels[None] * np.float32(0.0001))[0]
            total[:, rows, cols] += np.outer(edge, edge).astype(np.float32) * made
            for i, j in np.ndindex(TILE, TILE):
                predictions[rows.start + i, cols.start + j].append(made[:, i, j])
    return total, predictions


def naive_declouded(scenes, at, target, generator, stride, buffer):
    """One date by the book, pixel by pixel: values, provenance and spread over the target."""
    weight = naive_weight(scenes.pixel_classes[at], buffer)
    total, predictions = naive_tiles(scenes, at, generator, stride)
    rows, cols = target.slices_in(scenes.window)
    values = np.stack([band[at] for band in scenes.bands])
    provenance = np.ones(weight.shape, np.uint8)
    uncertainty = np.full(weight.shape, 65535, np.uint16)
    provenance[scenes.pixel_classes[at] == PixelClass.NO_DATA] = 0
    provenance[scenes.pixel_classes[at] == PixelClass.MISSING] = 3
    for y in range(rows.start, rows.stop):
        for x in range(cols.start, cols.stop):
            if provenance[y, x] != 1 or weight[y, x] == 0:
                continue
            provenance[y, x] = 2
            share = np.where(values[:, y, x] == 0, np.float32(1), weight[y, x])
            dn = share * total[:, y, x] / np.float32(0.0001) + (1 - share) * values[:, y, x]
            values[:, y, x] = np.clip(np.rint(dn), 1, 65535)
            seen = np.array(predictions[y, x])
            if len(seen) > 1:
                apart = (seen.max(axis=0) - seen.min(axis=0)).mean() / 0.0001
                uncertainty[y, x] = min(round(float(apart)), 65534)
    return values[:, rows, cols], provenance[rows, cols], uncertainty[rows, cols]


@pytest.mark.parametrize("stride", STRIDES)
def test_the_core_equals_the_plainest_loops(generator, stride):
    target = Window(-20, 1013, 37, 41)
    scenes = scenes_for(target, stride)
    made = decloud(scenes, target, generator, stride)
    assert len(made) == len(DAYS)
    for at in (0, 2):
        values, provenance, uncertainty = naive_declouded(scenes, at, target, generator, stride, REACH)
        assert (provenance == Provenance.GENERATED).sum() > 200
        np.testing.assert_array_equal(made[at].bands, values)
        np.testing.assert_array_equal(made[at].provenance, provenance)
        np.testing.assert_allclose(made[at].uncertainty.astype(int), uncertainty.astype(int), atol=1)


# What no chunk, crop or worker may change


@pytest.fixture(scope="module")
def wholes(generator):
    """For each stride: scenes, and all of `AREA` at once."""
    scenes = {stride: scenes_for(AREA, stride) for stride in STRIDES}
    return {stride: (scenes[stride], decloud(scenes[stride], AREA, generator, stride)) for stride in STRIDES}


def cuts(size):
    """Where to cut an edge of this many pixels, ends included."""
    inner = st.lists(st.integers(1, size - 1), max_size=2, unique=True)
    return inner.map(lambda places: [0, *sorted(places), size])


@settings(max_examples=25)
@given(stride=st.sampled_from(STRIDES), rows=cuts(AREA.height), cols=cuts(AREA.width))
def test_chunks_change_nothing(wholes, generator, stride, rows, cols):
    scenes, whole = wholes[stride]
    for top, bottom in pairwise(rows):
        for left, right in pairwise(cols):
            part = Window.between(AREA.row + top, AREA.col + left, AREA.row + bottom, AREA.col + right)
            only_needed = scenes.crop(window_to_read(part, Tiling(TILE, stride), REACH))
            for made, date in zip(decloud(only_needed, part, generator, stride), whole, strict=True):
                assert_same(made, crop(date, AREA, part))


@st.composite
def parts(draw):
    top, left = draw(st.integers(0, AREA.height - 1)), draw(st.integers(0, AREA.width - 1))
    bottom, right = draw(st.integers(top + 1, AREA.height)), draw(st.integers(left + 1, AREA.width))
    return Window.between(AREA.row + top, AREA.col + left, AREA.row + bottom, AREA.col + right)


@settings(max_examples=40)
@given(part=parts(), stride=st.sampled_from(STRIDES))
def test_a_crop_of_the_whole_is_the_whole_of_the_crop(wholes, generator, part, stride):
    scenes, whole = wholes[stride]
    for made, date in zip(decloud(scenes, part, generator, stride), whole, strict=True):
        assert_same(made, crop(date, AREA, part))


def test_what_lies_beyond_the_read_window_decides_nothing(wholes, generator):
    scenes, _ = wholes[24]
    part = Window(-10, 1040, 5, 5)
    read = window_to_read(part, Tiling(TILE, 24), REACH)
    rows, cols = read.slices_in(scenes.window)
    elsewhere = random_scenes(scenes.window, seed=1)
    for values, theirs in zip(
        (*elsewhere.bands, elsewhere.pixel_classes), (*scenes.bands, scenes.pixel_classes), strict=True
    ):
        values[:, rows, cols] = theirs[:, rows, cols]
    for one, other in zip(decloud(elsewhere, part, generator), decloud(scenes, part, generator), strict=True):
        assert_same(one, other)


def test_threads_change_nothing(wholes, generator):
    scenes, whole = wholes[24]
    for made, date in zip(decloud(scenes, AREA, generator, threads=3), whole, strict=True):
        assert_same(made, date)


@pytest.mark.parametrize("dates", [[0], [2], [1, 3], [3, 0], []])
def test_the_wanted_dates_are_those_of_all(wholes, generator, dates):
    scenes, whole = wholes[24]
    made = decloud(scenes, AREA, generator, dates=dates)
    assert len(made) == len(dates)
    for date, at in zip(made, dates, strict=True):
        assert_same(date, whole[at])


def test_scenes_that_are_too_small_count_as_no_data_around(generator):
    target = Window(0, 1000, 20, 20)
    scenes = random_scenes(target)
    padded = scenes.padded(window_to_read(target, Tiling(TILE, 24), REACH))
    for one, other in zip(
        decloud(scenes, target, generator), decloud(padded, target, generator), strict=True
    ):
        assert_same(one, other)


# What each pixel is


@pytest.mark.parametrize("stride", STRIDES)
def test_outside_the_mask_every_value_is_the_observed_one(wholes, stride):
    scenes, whole = wholes[stride]
    rows, cols = AREA.slices_in(scenes.window)
    for at, date in enumerate(whole):
        observed = np.stack([band[at, rows, cols] for band in scenes.bands])
        untouched = date.provenance != Provenance.GENERATED
        assert 0.2 < untouched.mean() < 0.9
        np.testing.assert_array_equal(date.bands[:, untouched], observed[:, untouched])
        for name, value in (("days_before", 0), ("days_after", 0), ("spread", NO_UNCERTAINTY)):
            assert (getattr(date, name)[untouched] == value).all()


def test_provenance_says_where_each_value_is_from(wholes):
    scenes, whole = wholes[24]
    rows, cols = AREA.slices_in(scenes.window)
    for at, date in enumerate(whole):
        pixel_classes = scenes.pixel_classes[at]
        near_cloud = naive_weight(pixel_classes, REACH)[rows, cols] > 0
        pixel_classes = pixel_classes[rows, cols]
        seen = ~np.isin(pixel_classes, [PixelClass.NO_DATA, PixelClass.MISSING])
        assert (date.provenance[pixel_classes == PixelClass.NO_DATA] == Provenance.NO_DATA).all()
        assert (date.provenance[pixel_classes == PixelClass.MISSING] == Provenance.MISSING_ASSET).all()
        assert (date.provenance[pixel_classes == PixelClass.CLOUDY] == Provenance.GENERATED).all()
        assert (date.provenance[seen & near_cloud] == Provenance.GENERATED).all()
        assert (date.provenance[seen & ~near_cloud] == Provenance.OBSERVED).all()
        assert (date.bands[:, pixel_classes == PixelClass.CLOUDY] > 0).all()
        assert (date.bands[:, ~seen] == 0).all()


@pytest.mark.parametrize("stride", STRIDES)
def test_spread_is_known_where_tiles_overlap(wholes, stride):
    _, whole = wholes[stride]
    starts = [
        range(start - start % stride - 2 * stride, start + size, stride)
        for start, size in ((-37, 61), (1013, 70))
    ]
    looks = [
        np.array([sum(start <= pixel < start + TILE for start in axis) for pixel in range(low, low + size)])
        for axis, low, size in zip(starts, (-37, 1013), (61, 70), strict=True)
    ]
    overlapping = np.outer(*looks) > 1
    assert overlapping.any() == (stride < TILE)
    for date in whole:
        generated = date.provenance == Provenance.GENERATED
        np.testing.assert_array_equal(date.uncertainty != NO_UNCERTAINTY, generated & overlapping)
        # near a tile's edge the network sees its zero padding, so the tiles do disagree
        assert stride == TILE or date.uncertainty[generated & overlapping].max() > 100


@pytest.fixture(scope="module")
def pointwise(tmp_path_factory):
    """Half, once and one and a half times the mean of a pixel's own bands."""
    return Generator.load(write_network(tmp_path_factory.mktemp("pointwise") / "pointwise.onnx", buffer=0))


def strip_of_cloud():
    """Even ground, and cloud in the first column."""
    window = window_to_read(Window(0, 0, 24, 24), Tiling(TILE, 24), 8)
    pixel_classes = np.full((1, *window.shape), PixelClass.CLEAR, np.uint8)
    pixel_classes[0, :, -window.col] = PixelClass.CLOUDY
    return Observations(
        window, tuple(np.full(pixel_classes.shape, 2000, np.uint16) for _ in BANDS), pixel_classes, DAYS[:1]
    )


def test_observed_and_generated_feather_into_each_other(pointwise):
    (date,) = decloud(strip_of_cloud(), Window(0, 0, 24, 24), pointwise, buffer=8)
    green, red, nir = date.bands[:, 12].astype(int)
    fall = [math.cos(math.pi / 2 * step / 5) ** 2 for step in (1, 2, 3, 4)]
    assert nir[:9] == pytest.approx([*[3000] * 5, *(2000 + 1000 * share for share in fall)], abs=1)
    assert green[:9] == pytest.approx([*[1000] * 5, *(2000 - 1000 * share for share in fall)], abs=1)
    assert red[:9] == pytest.approx(2000, abs=1)
    assert (date.bands[:, 12, 9:] == 2000).all()


def test_a_band_without_data_is_not_feathered_with_its_zero(pointwise):
    scenes = strip_of_cloud()
    row, col = 12 - scenes.window.row, 7 - scenes.window.col  # in the outer half of the buffer
    scenes.bands[2][0, row, col] = 0
    scenes.pixel_classes[0, row, col] = PixelClass.INCOMPLETE
    (date,) = decloud(scenes, Window(0, 0, 24, 24), pointwise, buffer=8)
    share = math.cos(math.pi / 2 * 3 / 5) ** 2
    mean = 4000 / 3
    observed_and_generated = [2000 + share * (mean * gain - 2000) for gain in (0.5, 1.0)]
    assert date.bands[:, 12, 7] == pytest.approx([*observed_and_generated, mean * 1.5], abs=1)


def test_a_generator_may_foretell_its_error(tmp_path, pointwise):
    path = write_network(tmp_path / "foretelling.onnx", buffer=0, predicts_uncertainty=True)
    scenes, target = scenes_for(AREA, 24), AREA
    plain, told = (decloud(scenes, target, one) for one in (pointwise, Generator.load(path)))
    rows, cols = target.slices_in(scenes.window)
    for at, (date, without) in enumerate(zip(told, plain, strict=True)):
        np.testing.assert_array_equal(date.bands, without.bands)
        generated = date.provenance == Provenance.GENERATED
        own = np.mean([band[at, rows, cols] for band in scenes.bands], axis=0) / 10
        assert date.uncertainty[generated] == pytest.approx(own[generated], abs=1)
        assert (date.uncertainty[~generated] == NO_UNCERTAINTY).all()


def test_the_darkest_generated_value_is_not_no_data(tmp_path):
    zero = Generator.load(write_network(tmp_path / "zero.onnx", channels=["before:age"], buffer=0))
    target = Window(0, 0, 8, 8)
    pixel_classes = np.full((1, 8, 8), PixelClass.CLOUDY, np.uint8)
    bands = tuple(np.full((1, 8, 8), 500, np.uint16) for _ in BANDS)
    (date,) = decloud(Observations(target, bands, pixel_classes, DAYS[:1]), target, zero)
    assert (date.bands == 1).all()


def test_the_brightest_value_is_clipped_not_wrapped(generator):
    target = Window(0, 0, 8, 8)
    window = window_to_read(target, Tiling(TILE, 24), REACH)
    bands = tuple(np.full((1, *window.shape), 65000, np.uint16) for _ in BANDS)
    (date,) = decloud(
        Observations(window, bands, np.full((1, *window.shape), PixelClass.CLOUDY, np.uint8), DAYS[:1]),
        target,
        generator,
    )
    assert (date.bands[2] == 65535).all()


def test_a_clipped_date_has_no_data_outside(wholes):
    _, (date, *_) = wholes[24]
    outside = np.zeros(AREA.shape, bool)
    outside[:, :20] = True
    clipped = date.clipped(outside)
    inside = Window(AREA.row, AREA.col + 20, AREA.height, AREA.width - 20)
    assert_same(crop(clipped, AREA, inside), crop(date, AREA, inside))
    assert (clipped.bands[:, outside] == 0).all()
    assert (clipped.provenance[outside] == Provenance.NO_DATA).all()
    assert (clipped.uncertainty[outside] == NO_UNCERTAINTY).all()
    assert (clipped.days_before[outside] == NO_CLEAR_DATE).all()
    assert (clipped.days_after[outside] == NO_CLEAR_DATE).all()


def test_a_date_is_placed_where_nothing_is_around_it(wholes):
    _, (date, *_) = wholes[24]
    wide = AREA.buffered(3)
    placed = date.placed(AREA, wide)
    assert_same(crop(placed, wide, AREA), date)
    outside = np.ones(wide.shape, bool)
    outside[AREA.slices_in(wide)] = False
    assert_same(placed, placed.clipped(outside))
    assert date.placed(AREA, AREA) is date


@pytest.mark.parametrize("max_age", [1, 30, 120])
def test_a_series_cut_in_time_gives_the_same_bits(seer, max_age):
    """With the dates around each piece that a look may be on."""
    days = 18353 + np.cumsum([0, 2, 28, 1, 40, 3, 30, 90, 5, 121, 7], dtype=np.int64)
    scenes = random_scenes(window_to_read(AREA, Tiling(TILE, 24), REACH), days=days)
    whole = decloud(scenes, AREA, seer, max_age=max_age)
    for span in cut_into_spans(days, tuple(range(len(days))), 3, max_age):
        piece = slice(span.scenes.start, span.scenes.stop)
        bands = tuple(band[piece] for band in scenes.bands)
        part = Observations(scenes.window, bands, scenes.pixel_classes[piece], days[piece])
        dates = [at - piece.start for at in span.dates]
        made = decloud(part, AREA, seer, dates=dates, max_age=max_age)
        for at, date in zip(span.dates, made, strict=True):
            assert_same(date, whole[at])
    ages = np.stack([date.days_before for date in whole])
    assert 0 < ages[ages != NO_CLEAR_DATE].max() <= max_age


def test_a_date_names_its_variables(wholes):
    _, (date, *_) = wholes[24]
    variables = date.variables(BANDS)
    assert {name: values.dtype for name, values in variables.items()} == output_dtypes(BANDS)
    assert all(values.shape == AREA.shape for values in variables.values())
    np.testing.assert_array_equal(variables["red"], date.bands[1])


def test_scenes_of_unequal_shapes_are_refused():
    good = np.zeros((4, 5, 6), np.uint16)
    pixel_classes = np.zeros((4, 5, 6), np.uint8)
    with pytest.raises(InputError, match=r"must have the shape \(4, 5, 6\) of dates and window"):
        Observations(Window(0, 0, 5, 6), (good, good[:3]), pixel_classes, DAYS)
    with pytest.raises(InputError, match=r"must have the shape \(4, 5, 7\)"):
        Observations(Window(0, 0, 5, 7), (good,), pixel_classes, DAYS)


@given(parts(), st.integers(0, 30))
def test_scenes_are_padded_with_no_data(part, further):
    scenes = random_scenes(part, bands=1)
    padded = scenes.padded(part.buffered(further))
    assert padded.window == part.buffered(further)
    np.testing.assert_array_equal(padded.crop(part).pixel_classes, scenes.pixel_classes)
    np.testing.assert_array_equal(padded.crop(part).bands[0], scenes.bands[0])
    assert padded.pixel_classes.sum() == scenes.pixel_classes.sum()
    assert padded.bands[0].sum() == scenes.bands[0].sum()


# Generators that see time


def looks_of(scenes, at, y, x, buffer):
    """Dates on which a pixel is clear, with no cloud near, the nearest before and after `at`."""
    clear = [
        t
        for t in range(len(scenes.days))
        if scenes.pixel_classes[t, y, x] == PixelClass.CLEAR
        and distance(scenes.pixel_classes[t], y, x) > buffer
    ]
    return [t for t in clear if t < at][-1:], [t for t in clear if t > at][:1]


def distance(pixel_classes, y, x):
    cloudy = np.argwhere(pixel_classes == PixelClass.CLOUDY)
    return np.hypot(*(cloudy - (y, x)).T).min() if len(cloudy) else math.inf


def expected_plane(name, scenes, at, y, x, buffer):
    """What one input plane should be at one pixel, straight from the contract's words."""
    kind, _, what = name.partition(":")
    state = scenes.pixel_classes[at, y, x]
    if kind == "mask":
        masked = distance(scenes.pixel_classes[at], y, x) <= buffer
        return 1.0 if masked or state in (PixelClass.NO_DATA, PixelClass.MISSING) else 0.0
    if kind == "cloudy":
        return scenes.bands[0][at, y, x] / 10000
    before, after = looks_of(scenes, at, y, x, buffer)
    look = before if kind == "before" else after
    if not look:
        return 0.0
    if what == "age":
        return float(abs(scenes.days[look[0]] - scenes.days[at]))
    return scenes.bands[0][look[0], y, x] / 10000


PLANES = ["cloudy:green", "mask", "before:green", "before:age", "after:green", "after:age"]


@pytest.mark.parametrize("plane", PLANES)
@pytest.mark.parametrize("reach", [0, 3])
def test_each_plane_is_what_the_contract_says(tmp_path, plane, buffer):
    # The network gives back half its one input plane, so the output shows what went in.
    path = write_network(tmp_path / "echo.onnx", channels=[plane], bands=["green"], buffer=0)
    target = Window(-9, 1000, 30, 34)
    scenes = random_scenes(window_to_read(target, Tiling(TILE, 24), buffer), bands=1, seed=3)
    rows, cols = target.slices_in(scenes.window)
    checked = 0
    for at, date in enumerate(decloud(scenes, target, Generator.load(path), buffer=buffer)):
        for row, col in np.ndindex(*target.shape):
            y, x = rows.start + row, cols.start + col
            near = distance(scenes.pixel_classes[at], y, x)
            empty = scenes.pixel_classes[at, y, x] in (PixelClass.NO_DATA, PixelClass.MISSING)
            if date.provenance[row, col] != Provenance.GENERATED or (buffer / 2 < near and not empty):
                continue  # observed, or feather with what is
            expected = expected_plane(plane, scenes, at, y, x, buffer)
            assert date.bands[0, row, col] == pytest.approx(max(5000 * expected, 1), abs=0.51), (at, y, x)
            checked += 1
    assert checked > 500


@pytest.mark.parametrize("plane", ["earlier:green", "earlier2:age", "later:age", "later2:green"])
def test_the_dates_of_a_tile_are_looked_up_over_the_tile(tmp_path, plane):
    path = write_network(tmp_path / "echo.onnx", channels=[plane], bands=["green"], buffer=0)
    depth = max(1, Generator.load(path).contract.depth)
    tiling = Tiling(TILE, TILE)  # without overlap, each pixel has one tile
    target = Window(0, 0, TILE, 2 * TILE)
    scenes = random_scenes(window_to_read(target, tiling, 0), bands=1, seed=3)
    checked = 0
    for at, date in enumerate(declouded(scenes, target, Generator.load(path), buffer=0, tiling=tiling)):
        for tile in tiling.tiles(target):
            rows, cols = tile.slices_in(scenes.window)
            here, there = tile.slices_in(target)
            looks = find_common_clear_dates(
                scenes.pixel_classes[:, rows, cols] == PixelClass.CLEAR, at, depth
            )
            look = (looks.before if plane.startswith("earlier") else looks.after)[depth - 1]
            value = np.take_along_axis(scenes.bands[0][:, rows, cols], np.maximum(look, 0)[None], 0)[0]
            if plane.endswith("age"):
                value = 10_000 * np.abs(scenes.days[look] - scenes.days[at])
            expected = np.clip(np.where(look < 0, 0, value) / 2, 1, 65535)
            shown = scenes.pixel_classes[at, rows, cols] == PixelClass.CLOUDY
            np.testing.assert_allclose(date.bands[0, here, there][shown], expected[shown], atol=0.51)
            checked += shown.sum()
    assert checked > 500


def under_cloud(target, visible=0.0, value=2000):
    """A clear date, and one of which a share of each column shows."""
    window = window_to_read(target, Tiling(TILE, 24), REACH)
    shape = (2, *window.shape)
    pixel_classes = np.full(shape, PixelClass.CLEAR, np.uint8)
    pixel_classes[1, round(visible * window.height) :] = PixelClass.CLOUDY
    return Observations(
        window, (np.full(shape, value, np.uint16),), pixel_classes, np.array([0, 5], np.int64)
    )


def elsewhere(shift):
    """What the whole of an MGRS tile shows: the second date is brighter than the first."""
    values = np.zeros((2, 2, 1), np.float32)
    values[1, 0], values[0, 1] = shift, -shift
    return [RadiometricOffsets(Window(-5000, -5000, 10_000, 10_000), values)]


@pytest.mark.parametrize(("shift", "expected"), [(0.01, 1044), (-0.01, 956), (-0.3, 1000), (np.nan, 1000)])
def test_a_tile_that_shows_nothing_takes_its_radiometry_from_elsewhere(tmp_path, shift, expected):
    echo = Generator.load(
        write_network(tmp_path / "echo.onnx", channels=["before:green"], bands=["green"], buffer=0)
    )
    target = Window(-9, 1000, 30, 34)
    scenes = under_cloud(target)
    before, under = decloud(scenes, target, echo, elsewhere=lambda: elsewhere(shift))
    assert (under.bands == expected).all()
    assert (before.bands == 2000).all()
    part = Window(0, 1010, 5, 7)
    _, crop_of_it = decloud(scenes, part, echo, elsewhere=lambda: elsewhere(shift))
    assert_same(crop_of_it, crop(under, target, part))


@pytest.mark.parametrize(("shift", "hazy"), [(0.01, False), (0.1, True), (np.nan, False)])
def test_a_date_unlike_those_near_it_shows_the_generator_nothing(tmp_path, monkeypatch, shift, hazy):
    path = write_network(tmp_path / "mask.onnx", channels=["mask", "before:green"], bands=["green"])
    seen = []
    monkeypatch.setattr(
        Generator, "__call__", lambda self, channels: seen.append(channels) or channels[:, :1]
    )
    target = Window(0, 0, 24, 24)
    scenes = under_cloud(target, visible=0.6)
    (date,) = decloud(
        scenes, target, Generator.load(path), stride=32, dates=[1], elsewhere=lambda: elsewhere(shift)
    )
    assert (np.concatenate(seen)[:, 0] == 1).all() == hazy
    observed = date.provenance == Provenance.OBSERVED
    assert observed.any()
    assert (date.bands[0][observed] == 2000).all()


def test_elsewhere_is_not_asked_by_a_generator_that_sees_no_time(generator):
    def asked():
        raise AssertionError("nobody needs this")

    target = Window(-9, 1000, 30, 34)
    decloud(random_scenes(target.buffered(40)), target, generator, elsewhere=asked)


def test_the_planes_go_in_in_the_order_of_the_contract(tmp_path, monkeypatch):
    path = write_network(tmp_path / "all.onnx", channels=PLANES, bands=["green"])
    target = Window(0, 0, 24, 24)  # of one tile alone: 8 to 24
    scenes = random_scenes(window_to_read(target, Tiling(TILE, 32), 2), bands=1, seed=5)
    seen = []
    monkeypatch.setattr(
        Generator, "__call__", lambda self, channels: seen.append(channels) or channels[:, :1]
    )
    decloud(scenes, target, Generator.load(path), stride=32, buffer=2, dates=[1])
    (channels,) = seen
    assert channels.shape == (1, len(PLANES), TILE, TILE)
    assert channels.dtype == np.float32
    top, left = -scenes.window.row, -scenes.window.col
    for depth, name in enumerate(PLANES):
        for row, col in np.ndindex(TILE, TILE):
            expected = expected_plane(name, scenes, 1, top + row, left + col, 2)
            assert channels[0, depth, row, col] == pytest.approx(expected, rel=1e-6), (name, row, col)


@pytest.fixture(scope="module")
def seer(tmp_path_factory):
    """A generator that sees time, and from each pixel far enough to notice what lies at its tile's edge."""
    path = tmp_path_factory.mktemp("seer") / "seer.onnx"
    return Generator.load(write_network(path, channels=PLANES, bands=["green"], buffer=12))


def test_gaps_are_filled_where_another_date_shows_the_ground(seer):
    target = Window(-9, 1000, 30, 34)
    scenes = scenes_for(target, 24, bands=1, seed=4)
    rows, cols = target.slices_in(scenes.window)
    kinds = set()
    for at, date in enumerate(decloud(scenes, target, seer)):
        for row, col in np.ndindex(*target.shape):
            y, x = rows.start + row, cols.start + col
            state = scenes.pixel_classes[at, y, x]
            if state not in (PixelClass.NO_DATA, PixelClass.MISSING):
                continue
            before, after = looks_of(scenes, at, y, x, REACH)
            unseen = Provenance.NO_DATA if state == PixelClass.NO_DATA else Provenance.MISSING_ASSET
            expected = Provenance.GENERATED if before or after else unseen
            assert date.provenance[row, col] == expected
            assert (date.bands[0, row, col] > 0) == (expected == Provenance.GENERATED)
            kinds.add((PixelClass(state), expected))
    assert len(kinds) == 4


def test_days_are_counted_to_the_looks_of_each_generated_pixel(seer, generator):
    target = Window(-9, 1000, 30, 34)
    for network, bands in ((seer, 1), (generator, 3)):
        scenes = scenes_for(target, 24, bands=bands, seed=4)
        rows, cols = target.slices_in(scenes.window)
        for at, date in enumerate(decloud(scenes, target, network)):
            for row, col in np.argwhere(date.provenance == Provenance.GENERATED):
                looks = looks_of(scenes, at, rows.start + row, cols.start + col, REACH)
                days = [abs(DAYS[look[0]] - DAYS[at]) if look else NO_CLEAR_DATE for look in looks]
                assert [date.days_before[row, col], date.days_after[row, col]] == days


@settings(max_examples=20)
@given(part=parts())
def test_chunks_change_nothing_where_time_is_seen(seer, part):
    scenes = scenes_for(AREA, 24, bands=1)
    only_needed = scenes.crop(window_to_read(part, Tiling(TILE, 24), REACH))
    whole = decloud(scenes, AREA, seer, dates=[1])[0]
    assert_same(decloud(only_needed, part, seer, dates=[1])[0], crop(whole, AREA, part))


# The cube


def make_cube(height=50, width=67, seed=0, bands=BANDS, resolution=20.0):
    """A cube made by hand, on a lattice of 20 m."""
    rng = np.random.default_rng(seed)
    grid = Grid(Lattice(32633, resolution), Window(-260_021, 19_991, height, width))
    pixel_classes = random_states(rng, (len(DAYS), height, width))
    scl = np.array([0, 4, 9, 1, SCL_MISSING], np.uint8)[pixel_classes]
    seen = ~np.isin(pixel_classes, [PixelClass.NO_DATA, PixelClass.MISSING])
    return xr.Dataset(
        {
            band: (
                ("time", "y", "x"),
                np.where(seen, rng.integers(1, 9000, pixel_classes.shape), 0).astype(np.uint16),
            )
            for band in bands
        }
        | {"scl": (("time", "y", "x"), scl)},
        {
            "time": DAYS.astype("datetime64[D]").astype("datetime64[ns]"),
            "y": grid.y(),
            "x": grid.x(),
            "spatial_ref": 0,
            "item_ids": ("time", ["a", "b", "c", "d"]),
        },
        {"title": "made by hand"},
    )


def never(*args, **kwargs):
    raise AssertionError("computed too early")


def test_the_cube_gets_what_the_core_makes(generator):
    cube = make_cube()
    made = remove_clouds(cube, generator, buffer_metres=80)
    window = Window(-260_021, 19_991, 50, 67)
    rng_states = np.zeros((4, 50, 67), np.uint8)
    for scl, state in ((0, 0), (4, 1), (9, 2), (1, 3), (SCL_MISSING, 4)):
        rng_states[cube["scl"].values == scl] = state
    scenes = Observations(window, tuple(cube[band].values for band in BANDS), rng_states, DAYS)
    for at, date in enumerate(decloud(scenes, window, generator, buffer=4)):
        for name, values in date.variables(BANDS).items():
            np.testing.assert_array_equal(made[name].values[at], values, err_msg=name)


@pytest.mark.parametrize(
    "chunks",
    [
        {"time": 1, "y": 50, "x": 67},
        {"time": 4, "y": 20, "x": 20},
        {"time": 1, "y": 17, "x": 31},
        {"time": (3, 1), "y": (1, 40, 9), "x": (33, 34)},
    ],
)
def test_a_lazy_cube_gives_the_same_bits(generator, chunks):
    cube = make_cube()
    whole = remove_clouds(cube, generator)
    lazy = cube.chunk(chunks)
    with dask.config.set(scheduler=never):
        made = remove_clouds(lazy, generator)
    for name in whole:
        assert dask.is_dask_collection(made[name].data)
        assert made[name].chunks == lazy["green"].chunks
        assert made[name].dtype == whole[name].dtype
    xr.testing.assert_identical(made.compute(scheduler="threads"), whole)


def test_a_part_of_a_lazy_cube_reads_no_more_than_it_needs(generator):
    cube = make_cube(height=160, width=40).chunk({"time": 4, "y": 16, "x": 40})
    read = []

    def note(block, block_info=None):
        read.append(block_info[0]["chunk-location"][1])
        return block

    green = cube["green"].data.map_blocks(note, dtype=np.uint16, meta=np.empty((0, 0, 0), np.uint16))
    cube["green"] = (("time", "y", "x"), green)
    made = remove_clouds(cube, generator, buffer_metres=20)
    made["green"].isel(y=slice(0, 16)).compute(scheduler="synchronous")
    assert read
    assert max(read) <= 3


def test_a_time_seeing_generator_sees_time_through_the_cube(seer):
    cube = make_cube(bands=["green"])
    made = remove_clouds(cube, seer)
    lazy = remove_clouds(cube.chunk({"time": 2, "y": 30, "x": 25}), seer)
    xr.testing.assert_identical(lazy.compute(scheduler="threads"), made)
    assert set(made) == {"green", "provenance", "days_before", "days_after", "spread"}
    gap = cube["green"].values == 0
    assert (made["provenance"].values[gap] == Provenance.GENERATED).any()


def test_coordinates_and_attributes_stay(generator):
    cube = make_cube()
    made = remove_clouds(cube, generator)
    assert made.attrs == {"title": "made by hand"}
    assert set(made.coords) == {"time", "y", "x", "spatial_ref", "item_ids"}
    xr.testing.assert_identical(made.coords.to_dataset(), cube.coords.to_dataset())
    assert {name: made[name].dtype for name in made} == output_dtypes(BANDS)
    assert all(made[name].dims == ("time", "y", "x") for name in made)


def test_the_order_of_dimensions_does_not_matter(generator):
    cube = make_cube()
    xr.testing.assert_identical(
        remove_clouds(cube.transpose("y", "x", "time"), generator), remove_clouds(cube, generator)
    )


def test_the_buffer_is_in_metres(generator):
    cube = make_cube()
    masks = [
        (remove_clouds(cube, generator, buffer_metres=metres)["provenance"] == Provenance.GENERATED).values
        for metres in (0, 20, 100)
    ]
    seen = cube["green"].values > 0
    np.testing.assert_array_equal(masks[0], (cube["scl"].values == 9) & seen)
    assert masks[0].sum() < masks[1].sum() < masks[2].sum()


def test_a_cube_that_lacks_a_band_is_refused(generator):
    cube = make_cube()
    with pytest.raises(InputError, match="the cube lacks nir, which mean needs; it has green, red, scl"):
        remove_clouds(cube.drop_vars("nir"), generator)
    with pytest.raises(InputError, match="the cube lacks scl"):
        remove_clouds(cube.drop_vars("scl"), generator)


@pytest.mark.parametrize(
    "change",
    [
        {"x": lambda x: x**1.01},
        {"y": lambda y: y[::-1]},
        {"x": lambda x: x[::-1]},
        {"x": lambda x: 2 * x},
        {"x": lambda x: np.where(np.arange(len(x)) > 30, x + 20, x)},
    ],
)
def test_an_irregular_grid_is_refused(generator, change):
    cube = make_cube()
    (name, bend), *_ = change.items()
    with pytest.raises(InputError, match="no regular grid, x rising and y falling by the same step"):
        remove_clouds(cube.assign_coords({name: bend(cube[name].values)}), generator)


def test_a_cube_of_one_pixel_does_not_tell_its_resolution(generator):
    with pytest.raises(InputError, match="one pixel does not tell its resolution; open it with a margin"):
        remove_clouds(make_cube().isel(y=slice(0, 1), x=slice(0, 1)), generator)


def test_a_negative_buffer_is_refused(generator):
    with pytest.raises(InputError, match="zero or a positive number of metres"):
        remove_clouds(make_cube(), generator, buffer_metres=-1)


def test_days_are_counted_from_1970():
    assert day_numbers(make_cube()).tolist() == DAYS.tolist()


def test_the_default_stride_is_three_quarters_of_a_tile(generator):
    assert default_tiling(generator) == Tiling(32, 24)


def test_what_must_be_read_is_the_tiles_and_the_buffer_around_them():
    assert window_to_read(Window(30, -5, 10, 10), Tiling(32, 24), 4) == Window.between(-4, -28, 60, 36)

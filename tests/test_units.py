from dataclasses import replace

import numpy as np
import pytest
import shapely
from dask.utils import parse_bytes
from hypothesis import given
from hypothesis import strategies as st
from networks import BANDS
from pyproj import Transformer
from shapely.geometry import Polygon, box

from cloudgan.errors import InputError
from cloudgan.geo.aoi import Aoi
from cloudgan.geo.grid import Grid, Lattice, Window
from cloudgan.geo.tiling import Tiling
from cloudgan.model.contract import Channel, Contract, Source
from cloudgan.planning.units import (
    BLOCKS,
    Timeline,
    choose_unit,
    cut_into_spans,
    estimate_unit_memory,
    find_blocks,
    find_outside,
)
from cloudgan.removal.core import window_to_read

CONTRACT = Contract("mean", "1", tuple(Channel(Source.TARGET, band) for band in BANDS), BANDS, 256)
TILING = Tiling(256, 192)
BUFFER = 10
LATTICE = Lattice(32633, 10.0)

# Space

windows = st.builds(Window, *[st.integers(-60, 60)] * 2, *[st.integers(1, 60)] * 2)


def around(parts):
    """The smallest window that holds them all."""
    return Window.between(
        min(part.row for part in parts),
        min(part.col for part in parts),
        max(part.bottom for part in parts),
        max(part.right for part in parts),
    )


@given(st.lists(windows, min_size=1, max_size=6), st.integers(5, 40))
def test_just_the_blocks_that_hold_a_part_are_units_and_their_targets_hold_it(parts, block):
    whole = around(parts)
    grid = Grid(LATTICE, whole)
    wanted = np.zeros(whole.shape, np.bool_)
    for part in parts:
        wanted[part.slices_in(whole)] = True
    blocks = find_blocks(grid, block, tuple(parts), None)
    cols = -(-whole.width // block)
    for number in range(-(-whole.height // block) * cols):
        row, col = number // cols * block, number % cols * block
        here = np.argwhere(wanted[row : row + block, col : col + block])
        found = np.flatnonzero(blocks.numbers == number)
        assert len(found) == (len(here) > 0)
        if len(found):
            target = blocks.target(found[0])
            (top, left), (bottom, right) = here.min(0), here.max(0) + 1
            assert target == Window.between(
                whole.row + row + top,
                whole.col + col + left,
                whole.row + row + bottom,
                whole.col + col + right,
            )


@given(st.lists(windows, max_size=6), windows)
def test_between_the_parts_is_nothing(parts, window):
    expected = np.ones(window.shape, np.bool_)
    for part in parts:
        if inside := window.intersection(part):
            expected[inside.slices_in(window)] = False
    outside = find_outside(window, tuple(parts))
    if parts and expected.any():
        np.testing.assert_array_equal(outside, expected)
    else:
        assert outside is None


@given(windows, st.integers(5, 40))
def test_sums_over_blocks_are_sums_over_their_tiles_and_windows(whole, block):
    blocks = find_blocks(Grid(LATTICE, whole), block, (), None)
    tiling = Tiling(16, 12)
    targets = [blocks.target(at) for at in range(len(blocks.numbers))]
    assert blocks.pixels == whole.height * whole.width
    assert blocks.tiles(tiling) == sum(len(tiling.tiles(target)) for target in targets)
    shapes = [window_to_read(target, tiling, BUFFER).shape for target in targets]
    assert blocks.read_pixels(tiling, BUFFER) == sum(height * width for height, width in shapes)


RING = Polygon(
    [(15, 46), (15.2, 46), (15.3, 46.2), (15.05, 46.1)], [[(15.1, 46.03), (15.18, 46.03), (15.15, 46.08)]]
)


@pytest.mark.parametrize("block", [37, 64, 200, 5000])
def test_a_clipped_area_needs_just_the_blocks_that_it_touches(block):
    aoi = Aoi(RING)
    grid = Grid(LATTICE, aoi.window(LATTICE))
    blocks = find_blocks(grid, block, (), RING.wkt)
    area = aoi.project(32633)
    rows, cols = -(-grid.shape[0] // block), -(-grid.shape[1] // block)
    west, _, _, north = grid.bounds
    edge = block * 10
    touched = [
        row * cols + col
        for row in range(rows)
        for col in range(cols)
        if area.intersects(
            box(west + col * edge, north - (row + 1) * edge, west + (col + 1) * edge, north - row * edge)
        )
    ]
    assert blocks.numbers.tolist() == touched
    if block < 200:
        assert len(touched) < 0.7 * rows * cols


def test_no_pixel_of_a_clipped_area_is_beside_its_blocks():
    aoi = Aoi(RING)
    grid = Grid(LATTICE, aoi.window(LATTICE))
    inside = ~aoi.mask_outside(grid)
    for at in range(len((blocks := find_blocks(grid, 128, (), RING.wkt)).numbers)):
        inside[blocks.target(at).slices_in(grid.window)] = False
    assert not inside.any()


def test_a_million_blocks_are_four_arrays():
    """No object a block: so many would be slow and large."""
    blocks = find_blocks(Grid(LATTICE, Window(7, -3, 512_000, 512_000)), 512, (), None)
    assert len(blocks.numbers) == 1_000_000
    assert blocks.numbers.nbytes + blocks.targets.nbytes == 40_000_000
    assert blocks.target(999_999) == Window(7 + 511_488, -3 + 511_488, 512, 512)


def test_a_large_area_is_not_tested_block_by_block(monkeypatch):
    lon, lat = Transformer.from_crs(32633, 4326, always_xy=True).transform([5e5, 6e5], [5e6, 5.1e6])
    tested = []
    real = shapely.box
    monkeypatch.setattr(
        "cloudgan.planning.units.shapely.box", lambda *edges: tested.append(edges) or real(*edges)
    )
    area = box(lon[0], lat[0], lon[1], lat[1])
    grid = Grid(LATTICE, Aoi(area).window(LATTICE))
    blocks = find_blocks(grid, 10, (), area.wkt)
    assert len(blocks.numbers) > 900_000
    assert len(tested) < 50_000


# Time

gaps = st.lists(st.integers(1, 40), min_size=1, max_size=40)


@given(gaps, st.integers(1, 50), st.integers(0, 200), st.data())
def test_spans_write_each_date_once_and_read_all_that_counts(gaps, span, max_age, data):
    days = np.cumsum(gaps)
    written = tuple(at for at in range(len(days)) if data.draw(st.booleans())) or (0,)
    spans = cut_into_spans(days, written, span, max_age)
    assert [at for one in spans for at in one.dates] == list(range(len(written)))
    for one in spans:
        assert len(one.dates) <= span
        near = [
            at
            for at, day in enumerate(days)
            if any(abs(day - days[written[to]]) <= max_age for to in one.dates)
        ]
        assert set(near) <= set(one.scenes)
        first, last = days[written[one.dates[0]]], days[written[one.dates[-1]]]
        assert all(first - max_age <= days[at] <= last + max_age for at in one.scenes)


def test_without_a_limit_a_series_is_one_span():
    (only,) = cut_into_spans(np.arange(0, 50, 5), (2, 3, 4), None, 1000)
    assert (only.dates, only.scenes) == (range(3), range(10))


# Memory


def memory(block, times=10, contract=CONTRACT, tiling=TILING, buffer=BUFFER):
    return estimate_unit_memory((block, block), times, contract, tiling, buffer)


@given(block=st.sampled_from(BLOCKS[:-1]), times=st.integers(1, 200), buffer=st.integers(0, 50))
def test_memory_grows_with_all_that_a_unit_holds(block, times, buffer):
    smaller = BLOCKS[BLOCKS.index(block) + 1]
    at_all = memory(block, times, buffer=buffer)
    assert memory(smaller, times, buffer=buffer) < at_all
    assert memory(block, times + 1, buffer=buffer) > at_all
    assert memory(block, times, buffer=buffer + 1) > at_all
    assert memory(block, times, replace(CONTRACT, output_bands=(*BANDS, "blue")), buffer=buffer) > at_all


@given(row=st.integers(-3000, 3000), col=st.integers(-3000, 3000))
def test_memory_covers_the_input_of_a_unit_wherever_it_lies(row, col):
    height, width = window_to_read(Window(row, col, 512, 512), TILING, BUFFER).shape
    assert memory(512, 30) > 30 * height * width * (3 * 2 + 1)


def series(times, days_apart=5, max_age=120):
    """A date every few days, all written."""
    return Timeline(tuple(range(0, times * days_apart, days_apart)), tuple(range(times)), max_age)


def choose(shape=(9000, 9000), dates=None, budget=None):
    grid = Grid(LATTICE, Window(0, 0, *shape))
    return choose_unit(grid, dates or series(10), CONTRACT, TILING, BUFFER, budget)


def test_without_a_limit_the_largest_unit_is_the_best():
    assert choose() == (2048, None)
    assert choose(dates=series(500)) == (2048, None)


@given(times=st.integers(1, 24), budget=st.integers(10**8, 4 * 10**10))
def test_of_a_short_series_the_largest_unit_that_fits_is_chosen(times, budget):
    """Where clear dates count over the whole of it, cutting the time spares nothing."""
    fitting = [block for block in BLOCKS if memory(block, times) <= budget]
    if fitting:
        assert choose(dates=series(times), budget=budget) == (fitting[0], None)
    else:
        with pytest.raises(InputError, match="cannot hold one work unit"):
            choose(dates=series(times), budget=budget)


@pytest.mark.parametrize("block", BLOCKS)
def test_a_unit_that_fits_to_the_byte_fits(block):
    assert choose(budget=memory(block)) == (block, None)


@given(times=st.integers(60, 400), budget=st.integers(2 * 10**9, 2 * 10**10))
def test_a_long_series_is_cut_so_that_it_fits_and_little_is_read_twice(times, budget):
    dates = series(times)
    block, span = choose(dates=dates, budget=budget)

    def cost(block, span):
        spans = dates.spans(span)
        blocks = find_blocks(Grid(LATTICE, Window(0, 0, 9000, 9000)), block, (), None)
        read = blocks.read_pixels(TILING, BUFFER) * sum(len(one.scenes) for one in spans)
        return memory(block, max(len(one.scenes) for one in spans)), read

    needed, read = cost(block, span)
    assert needed <= budget
    for other in BLOCKS:
        for pieces in (1, 2, 3, 5, 10, times):
            more, other_read = cost(other, -(-times // pieces))
            assert more > budget or other_read >= read


def test_ten_years_fit_where_one_does():
    """1460 dates, one every two and a half days, in 8 GB."""
    days = tuple(int(2.5 * at) for at in range(1460))
    block, span = choose(dates=Timeline(days, tuple(range(1460)), 120), budget=8 * 10**9)
    assert block in BLOCKS
    assert span is not None
    assert span > 100


@pytest.mark.parametrize(
    ("shape", "block"),
    [((10, 10), 512), ((500, 20), 512), ((900, 10), 1024), ((1500, 300), 2048), ((5, 9999), 2048)],
)
def test_a_small_store_gets_small_units(shape, block):
    assert choose(shape) == (block, None)


@given(times=st.integers(1, 24))
def test_a_budget_too_small_is_refused_and_the_remedy_works(times):
    with pytest.raises(InputError) as refusal:
        choose(dates=series(times), budget=10**8)
    message = str(refusal.value)
    assert message.startswith(
        f"a worker's memory of 0.1 GB cannot hold one work unit of 512 x 512 pixels and {times}"
    )
    assert "or fewer dates" in message
    enough = parse_bytes(message.partition("give --memory ")[2].split()[0])
    assert choose((10, 10), series(times), enough) == (512, None)

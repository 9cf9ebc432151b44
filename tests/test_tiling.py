import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloudgan.errors import InputError
from cloudgan.geo.grid import Window
from cloudgan.geo.tiling import Tiling

STRIDES = [128, 192, 224, 256]

tilings = st.builds(
    lambda size, share: Tiling(size, size // 2 + round(share * (size - size // 2))),
    st.sampled_from([2, 8, 16, 32]),
    st.floats(0, 1),
)
windows = st.builds(
    Window, st.integers(-99, 99), st.integers(-99, 99), st.integers(1, 70), st.integers(1, 70)
)


def all_tiles(tiling, window):
    """Every tile of the lattice that meets the window, found by trying far more than can."""
    buffer = (max(window.shape) + tiling.size) // tiling.stride + 2
    first_row, first_col = window.row // tiling.stride - buffer, window.col // tiling.stride - buffer
    candidates = [
        Window(row * tiling.stride, col * tiling.stride, tiling.size, tiling.size)
        for row in range(first_row, first_row + 2 * buffer + 2)
        for col in range(first_col, first_col + 2 * buffer + 2)
    ]
    return [tile for tile in candidates if tile.intersection(window)]


@given(tilings, windows)
def test_the_tiles_of_a_window_are_those_that_meet_it(tiling, window):
    tiles = tiling.tiles(window)
    assert tiles == all_tiles(tiling, window)
    assert tiling.count(window) == len(tiles)
    assert all(tile.row % tiling.stride == 0 and tile.col % tiling.stride == 0 for tile in tiles)
    assert tiles == sorted(tiles, key=lambda tile: (tile.row, tile.col))


@given(tilings, windows)
def test_the_cover_is_the_union_of_the_tiles(tiling, window):
    tiles = tiling.tiles(window)
    cover = tiling.cover(window)
    assert cover.contains(window)
    covered = np.zeros(cover.shape, bool)
    for tile in tiles:
        covered[tile.slices_in(cover)] = True
    assert covered.all()


@given(tilings, windows, st.data())
def test_a_part_of_a_window_has_a_part_of_its_tiles(tiling, window, data):
    top, left = (data.draw(st.integers(0, edge - 1)) for edge in window.shape)
    height, width = (
        data.draw(st.integers(1, window.height - top)),
        data.draw(st.integers(1, window.width - left)),
    )
    part = Window(window.row + top, window.col + left, height, width)
    whole = tiling.tiles(window)
    assert tiling.tiles(part) == [tile for tile in whole if tile.intersection(part)]
    assert tiling.cover(window).contains(tiling.cover(part))


@pytest.mark.parametrize("stride", STRIDES)
@pytest.mark.parametrize("corner", [(0, 0), (-1000, 77)])
def test_at_each_pixel_the_weights_sum_to_one(stride, corner):
    tiling, window = Tiling(256, stride), Window(*corner, 600, 500)
    weights, total = tiling.weights(), np.zeros(window.shape)
    for tile in tiling.tiles(window):
        shared = tile.intersection(window)
        total[shared.slices_in(window)] += weights[shared.slices_in(tile)]
    np.testing.assert_allclose(total, 1, rtol=0, atol=3e-7)


@settings(max_examples=50)
@given(tilings, windows)
def test_weights_of_any_tiling_sum_to_one(tiling, window):
    weights, total = tiling.weights(), np.zeros(window.shape)
    for tile in tiling.tiles(window):
        shared = tile.intersection(window)
        total[shared.slices_in(window)] += weights[shared.slices_in(tile)]
    np.testing.assert_allclose(total, 1, rtol=0, atol=3e-7)


@pytest.mark.parametrize("stride", STRIDES)
def test_a_tile_counts_most_in_its_middle(stride):
    weights = Tiling(256, stride).weights()
    assert weights.shape == (256, 256)
    assert weights.dtype == np.float32
    assert (weights > 0).all()
    assert weights[128, 128] == pytest.approx(1, abs=1e-3)
    assert (np.diff(weights[128, :128]) >= 0).all()
    np.testing.assert_allclose(weights, weights[::-1, ::-1], atol=1e-7)
    np.testing.assert_array_equal(weights, weights.T)


def test_the_weight_is_the_raised_cosine_of_the_docstring():
    # sin(pi/2 * 1/4)^2 and sin(pi/2 * 3/4)^2 on an overlap of two pixels
    assert Tiling(6, 4).weights()[2] == pytest.approx(
        [0.146447, 0.853553, 1, 1, 0.853553, 0.146447], abs=1e-6
    )


def test_tiles_without_overlap_count_wholly():
    assert Tiling(256, 256).overlap == 0
    assert (Tiling(256, 256).weights() == 1).all()


def test_the_default_overlaps_by_a_quarter():
    assert (Tiling().size, Tiling().stride, Tiling().overlap) == (256, 192, 64)


def test_left_of_zero_tiles_go_on():
    starts = [(tile.row, tile.col) for tile in Tiling(256, 192).tiles(Window(-10, -200, 20, 20))]
    assert starts == [(row, col) for row in (-192, 0) for col in (-384, -192)]


@pytest.mark.parametrize("stride", [127, 257, 0, -192])
def test_a_stride_that_leaves_gaps_or_more_than_four_tiles_a_pixel_is_refused(stride):
    with pytest.raises(InputError, match=rf"half a tile and a tile \(256 pixels\), got {stride}"):
        Tiling(256, stride)

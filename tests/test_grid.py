import math

import numpy as np
import pytest
import rasterio.transform
from affine import Affine
from hypothesis import example, given
from hypothesis import strategies as st
from pyproj import Transformer

from cloudgan.errors import InputError
from cloudgan.geo.grid import Grid, Lattice, Window

EDGE = 12  # windows are drawn within this many pixels, so that sets of pixels can be compared


@st.composite
def windows(draw):
    row, col = draw(st.integers(-EDGE, EDGE)), draw(st.integers(-EDGE, EDGE))
    return Window(row, col, draw(st.integers(1, EDGE)), draw(st.integers(1, EDGE)))


def pixels(window):
    """A window as the set of its pixels: the oracle of its algebra."""
    rows, cols = range(window.row, window.bottom), range(window.col, window.right)
    return set() if window is None else {(row, col) for row in rows for col in cols}


# Windows


@given(windows(), windows())
def test_an_intersection_holds_the_pixels_of_both(one, other):
    shared = one.intersection(other)
    assert (pixels(shared) if shared else set()) == pixels(one) & pixels(other)


@given(windows(), windows())
def test_a_window_contains_its_subsets(one, other):
    assert one.contains(other) == (pixels(other) <= pixels(one))


@given(windows(), st.integers(0, 4))
def test_a_buffer_adds_a_frame(window, pixels_around):
    buffered = window.buffered(pixels_around)
    around = range(-pixels_around, pixels_around + 1)
    assert pixels(buffered) == {(r + dr, c + dc) for r, c in pixels(window) for dr in around for dc in around}
    assert buffered.buffered(-pixels_around) == window


@given(windows(), windows())
def test_slices_find_a_window_in_an_array_of_another(outer, other):
    inner = outer.intersection(other)
    if inner is None:
        with pytest.raises(InputError, match="leaves"):
            other.slices_in(outer)
        return
    rows, cols = np.mgrid[outer.row : outer.bottom, outer.col : outer.right]
    found = zip(rows[inner.slices_in(outer)].flat, cols[inner.slices_in(outer)].flat, strict=True)
    assert sorted(found) == sorted(pixels(inner))


def test_slices_of_a_window_that_leaves_the_array_are_refused():
    with pytest.raises(InputError, match=r"row=0.* leaves .*row=1"):
        Window(0, 0, 2, 2).slices_in(Window(1, 0, 2, 2))


@given(windows())
def test_a_window_knows_its_edges(window):
    assert Window.between(window.row, window.col, window.bottom, window.right) == window
    assert window.shape == (window.bottom - window.row, window.right - window.col)
    assert len(pixels(window)) == math.prod(window.shape)


@pytest.mark.parametrize(("height", "width"), [(0, 1), (1, 0), (-1, 5)])
def test_a_window_without_pixels_is_refused(height, width):
    with pytest.raises(InputError, match=f"at least one pixel, got {height} x {width}"):
        Window(0, 0, height, width)
    with pytest.raises(InputError, match="at least one pixel"):
        Window.between(3, 3, 3 + height, 3 + width)


# Lattices


def test_the_120_m_sample_lies_half_a_pixel_off():
    assert Lattice.through(32633, 120, 399960, 5200020) == Lattice(32633, 120, 0.0, 60.0)


def test_sentinel_2_lies_on_the_lattice_of_its_zone():
    assert Lattice.through(32633, 10, 399960, 5200020) == Lattice(32633, 10)


@pytest.mark.parametrize("noise", [-1e-8, 1e-8])
def test_rounding_does_not_make_another_lattice(noise):
    assert Lattice.through(32633, 120, 399960 + noise, 5200020 + noise) == Lattice(32633, 120, 0.0, 60.0)


@given(
    resolution=st.sampled_from([10, 20, 60, 120, 0.5, 30]),
    phase=st.tuples(st.floats(0, 0.999), st.floats(0, 0.999)),
    steps=st.tuples(st.integers(-90_000, 90_000), st.integers(-90_000, 90_000)),
)
def test_all_corners_of_a_lattice_name_the_same_lattice(resolution, phase, steps):
    x, y = (round(part * resolution, 3) for part in phase)
    lattice = Lattice.through(32633, resolution, x, y)
    shifted = Lattice.through(32633, resolution, x + steps[0] * resolution, y + steps[1] * resolution)
    assert shifted == lattice


@pytest.mark.parametrize("resolution", [0, -10, math.nan, math.inf])
def test_a_resolution_is_a_positive_number(resolution):
    with pytest.raises(InputError, match="the resolution must be a positive number of metres, got"):
        Lattice(32633, resolution)


@pytest.mark.parametrize("phase", [-1, 10, math.nan])
def test_a_phase_is_less_than_a_pixel(phase):
    with pytest.raises(InputError, match=r"the lattice phase must lie in \[0, 10\)"):
        Lattice(32633, 10, phase_x=phase)


@pytest.mark.parametrize(("phase", "shift"), [(0.0, 0), (4.0, 4)])
def test_bounds_on_pixel_edges_stay_as_they_are(phase, shift):
    lattice = Lattice(32633, 10, phase, phase)
    assert lattice.covering(50 + shift, 20 + shift, 80 + shift, 40 + shift) == Window.between(-4, 5, -2, 8)


@pytest.mark.parametrize("noise", [-1e-7, 1e-7])
def test_rounding_does_not_add_a_row(noise):
    assert Lattice(32633, 10).covering(50 + noise, 20 + noise, 80 - noise, 40 - noise).shape == (2, 3)


def test_bounds_within_a_pixel_snap_outward():
    assert Lattice(32633, 10).covering(51, 21, 79, 39) == Window.between(-4, 5, -2, 8)
    assert Lattice(32633, 10).covering(49, 19, 81, 41) == Window.between(-5, 4, -1, 9)


def test_a_point_is_covered_by_one_pixel():
    assert Lattice(32633, 10).covering(55, 25, 55, 25).shape == (1, 1)
    assert Lattice(32633, 10).covering(50, 20, 50, 20).shape == (1, 1)


@given(
    resolution=st.sampled_from([10.0, 20.0, 120.0]),
    phase=st.floats(0, 0.99),
    corner=st.tuples(st.floats(1e5, 9e5), st.floats(-9e6, 9e6)),
    size=st.tuples(st.floats(0, 3000), st.floats(0, 3000)),
)
def test_a_window_covers_its_bounds_and_no_pixel_more(resolution, phase, corner, size):
    lattice = Lattice(32633, resolution, phase * resolution, phase * resolution)
    (west, south), (east, north) = corner, np.add(corner, size)
    grid = Grid(lattice, lattice.covering(west, south, east, north))
    left, low, right, high = grid.bounds
    slack = 1e-5 * resolution
    assert left <= west + slack
    assert low <= south + slack
    assert right >= east - slack
    assert high >= north - slack
    # The smallest one: each edge is less than a pixel away, but that one pixel always stays.
    assert grid.window.width == 1 or (west - left < resolution and right - east < resolution + slack)
    assert grid.window.height == 1 or (high - north < resolution and south - low < resolution + slack)


@example(lon=14.5, lat=46.0, size=(1.0, 1.0), inside=[])  # its south edge dips by 120 m at 15 degrees
@given(
    lon=st.floats(12.0, 17.0),
    lat=st.floats(-79, 83),
    size=st.tuples(st.floats(0.001, 1), st.floats(0.001, 1)),
    inside=st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=20),
)
def test_degrees_are_covered_in_metres(lon, lat, size, inside):
    lattice = Lattice(32633, 10)
    window = lattice.covering_lonlat((lon, lat, lon + size[0], lat + size[1]))
    west, south, east, north = Grid(
        lattice, window.buffered(1)
    ).bounds  # an edge bulges between its 21 points
    project = Transformer.from_crs(4326, 32633, always_xy=True)
    for right, up in [*inside, (0, 0), (0, 1), (1, 0), (1, 1), (0.5, 1), (0.5, 0)]:
        x, y = project.transform(lon + right * size[0], lat + up * size[1])
        assert west <= x <= east
        assert south <= y <= north


# Grids


@given(
    windows(),
    st.sampled_from([10.0, 20.0, 120.0]),
    st.tuples(st.integers(0, 9), st.integers(0, 9)).map(tuple),
)
def test_a_grid_says_what_rasterio_says(window, resolution, phase):
    grid = Grid(Lattice(32733, resolution, *phase), window)
    height, width = grid.shape
    west, north = phase[0] + window.col * resolution, phase[1] - window.row * resolution
    transform = rasterio.transform.from_origin(west, north, resolution, resolution)
    assert grid.transform == transform
    assert grid.bounds == rasterio.transform.array_bounds(height, width, transform)
    assert grid.x() == pytest.approx(rasterio.transform.xy(transform, 0, np.arange(width))[0])
    assert grid.y() == pytest.approx(rasterio.transform.xy(transform, np.arange(height), 0)[1])


@given(windows(), st.sampled_from([10.0, 120.0]), st.integers(0, 9))
def test_the_bounds_of_a_grid_lead_back_to_its_window(window, resolution, phase):
    lattice = Lattice(32733, resolution, phase, phase)
    assert lattice.covering(*Grid(lattice, window).bounds) == window


def test_a_grid_north_of_a_pixel_counts_downwards():
    grid = Grid(Lattice(32633, 10), Window(-2, 3, 2, 4))
    assert grid.epsg == 32633
    assert grid.resolution == 10
    assert grid.transform == Affine(10, 0, 30, 0, -10, 20)
    assert grid.bounds == (30, 0, 70, 20)
    assert grid.x().tolist() == [35, 45, 55, 65]
    assert grid.y().tolist() == [15, 5]

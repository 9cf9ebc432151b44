"""Files that store their numbers otherwise than L2A does: read right by both readers alike, or refused."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from rasterio.enums import ColorInterp
from scenes import EPSG, random_bands, scene, write_item

from cloudgan.errors import ReadError
from cloudgan.geo.grid import Grid, Lattice, Window
from cloudgan.io.cube import open_cube, read_available
from cloudgan.io.encodings import LARGEST_REFLECTANCE
from cloudgan.io.overviews import read_overview
from cloudgan.io.placement import item_window
from cloudgan.sentinel2.classification import PixelClass, classify

BANDS = ("green", "red", "nir")
DAY = dt.date(2023, 6, 21)
FRAME = Affine(10, 0, 499980, 0, -10, 5200020)
SHAPE = (120, 140)
LATTICE = Lattice.through(EPSG, 10, FRAME.c, FRAME.f)


def write_red(
    path: str, values, *, nodata=None, mask=None, alpha=None, scale=None, names=(), crs=EPSG, frame=FRAME
):
    """Replace the file of an item's red band."""
    values = np.atleast_3d(values.T).T if values.ndim == 2 else values
    count = len(values) + (alpha is not None)
    profile = {"driver": "GTiff", "count": count, "dtype": values.dtype.name, "nodata": nodata}
    place = {"height": values.shape[1], "width": values.shape[2], "transform": frame, "crs": f"EPSG:{crs}"}
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
        rasterio.open(path, "w", tiled=True, **profile, **place) as file,
    ):
        file.write(values, range(1, len(values) + 1))
        if alpha is not None:
            colours = [ColorInterp.gray, *[ColorInterp.undefined] * (len(values) - 1)]
            file.colorinterp = [*colours, ColorInterp.alpha]
            file.write(alpha.astype(values.dtype) * 255, count)
        if mask is not None:
            file.write_mask(mask)
        if scale is not None:
            file.scales, file.offsets = [scale[0]] * count, [scale[1]] * count
        if names:
            file.descriptions = names


@pytest.fixture
def item(tmp_path):
    bands = random_bands(np.random.default_rng(1), SHAPE)
    bands["scl"][:] = 4
    return write_item(tmp_path, "odd", DAY, bands, FRAME)


def numbers(seed=2):
    """Digital numbers of red, and where there is data."""
    rng = np.random.default_rng(seed)
    known = rng.random(SHAPE) > 0.2
    return np.where(known, rng.integers(100, 9000, SHAPE), 0), known


def floats(dn, known, *, none, dtype=np.float32):
    return np.where(known, dn / 10_000, none).astype(dtype)


def with_some_negative(dn, known):
    return np.where(known, dn - 1500, -9999).astype(np.int16)


KINDS = {
    "float reflectance, NaN": lambda p, dn, ok: write_red(p, floats(dn, ok, none=np.nan), nodata=np.nan),
    "float reflectance, NaN undeclared": lambda p, dn, ok: write_red(p, floats(dn, ok, none=np.nan)),
    "float reflectance, zero": lambda p, dn, ok: write_red(p, floats(dn, ok, none=0)),
    "float reflectance, -9999": lambda p, dn, ok: write_red(p, floats(dn, ok, none=-9999), nodata=-9999),
    "float reflectance, -9999 undeclared": lambda p, dn, ok: write_red(p, floats(dn, ok, none=-9999)),
    "double reflectance": lambda p, dn, ok: write_red(p, floats(dn, ok, none=np.nan, dtype=np.float64)),
    "float numbers": lambda p, dn, ok: write_red(p, np.where(ok, dn, np.nan).astype(np.float32)),
    "float numbers, tagged": lambda p, dn, ok: write_red(
        p, np.where(ok, dn, np.nan).astype(np.float32), scale=(0.0001, 0)
    ),
    "signed": lambda p, dn, ok: write_red(p, np.where(ok, dn, -9999).astype(np.int16), nodata=-9999),
    "signed, undeclared": lambda p, dn, ok: write_red(p, np.where(ok, dn, -9999).astype(np.int16)),
    "32 bits": lambda p, dn, ok: write_red(p, np.where(ok, dn, 0).astype(np.int32)),
    "no data of 65535": lambda p, dn, ok: write_red(
        p, np.where(ok, dn, 65535).astype(np.uint16), nodata=65535
    ),
    "internal mask": lambda p, dn, ok: write_red(p, np.where(ok, dn, 4321).astype(np.uint16), mask=ok),
    "alpha band": lambda p, dn, ok: write_red(p, np.where(ok, dn, 4321).astype(np.uint16), alpha=ok),
    "tag of the usual scale": lambda p, dn, ok: write_red(p, dn.astype(np.uint16), scale=(0.0001, 0)),
    "tag of another scale": lambda p, dn, ok: write_red(p, (2 * dn).astype(np.uint16), scale=(0.00005, 0)),
    "several bands": lambda p, dn, ok: write_red(
        p, np.stack([dn + 7, dn, dn + 9]).astype(np.uint16), names=("B03", "B04", "B08"), nodata=0
    ),
    "plain, no data undeclared": lambda p, dn, ok: write_red(p, dn.astype(np.uint16)),
}
WITH_READERS = pytest.mark.parametrize("reader", ["odc", "stackstac"])


@WITH_READERS
@pytest.mark.parametrize("chunks", [None, 64])
@pytest.mark.parametrize("kind", KINDS)
def test_what_a_file_holds_is_read_right_whatever_its_type(item, kind, reader, chunks):
    dn, known = numbers()
    KINDS[kind](item.asset("red").href, dn, known)
    whole = item_window(item, LATTICE)
    for window in (whole, whole.buffered(7), Window(whole.row + 17, whole.col + 30, 33, 41)):
        cube = open_cube([scene(item)], Grid(LATTICE, window), BANDS, reader=reader, chunks=chunks)
        wanted = np.zeros(whole.buffered(7).shape, np.uint16)
        wanted[7:-7, 7:-7] = np.where(known, dn, 0)
        rows, cols = window.slices_in(whole.buffered(7))
        assert_array_equal(cube["red"].values[0], wanted[rows, cols])
    assert cube["red"].dtype == np.uint16


@WITH_READERS
def test_negative_reflectance_is_dark_surface(item, reader):
    dn, known = numbers()
    write_red(item.asset("red").href, with_some_negative(dn, known), nodata=-9999)
    cube = open_cube([scene(item)], Grid(LATTICE, item_window(item, LATTICE)), BANDS, reader=reader)
    assert_array_equal(cube["red"].values[0], np.where(known, np.maximum(dn - 1500, 1), 0))


@WITH_READERS
def test_tags_that_the_item_repeats_are_no_contradiction(item, reader):
    dn, known = numbers()
    write_red(item.asset("red").href, np.where(known, dn + 1000, 0).astype(np.uint16), scale=(0.0001, -0.1))
    raised = replace(item, offset=1000)
    cube = open_cube([scene(raised)], Grid(LATTICE, item_window(item, LATTICE)), BANDS, reader=reader)
    assert_array_equal(cube["red"].values[0], np.where(known, dn, 0))


@WITH_READERS
def test_one_large_float_divides_nothing(item, reader):
    dn, known = numbers()
    values = floats(dn, known, none=0)
    values[3, 5] = 30.0
    write_red(item.asset("red").href, values)
    cube = open_cube([scene(item)], Grid(LATTICE, item_window(item, LATTICE)), BANDS, reader=reader)
    wanted = np.where(known, dn, 0)
    wanted[3, 5] = 65535
    assert_array_equal(cube["red"].values[0], wanted)
    classes = classify(cube["scl"].values[0], {band: cube[band].values[0] for band in BANDS})
    assert classes[3, 5] == PixelClass.UNRELIABLE


@WITH_READERS
def test_a_classification_that_marks_no_data_with_255_is_not_missing(item, reader):
    path = item.asset("scl").href
    values = np.full((60, 70), 4, np.uint8)
    values[:30] = 255
    half = Affine(20, 0, FRAME.c, 0, -20, FRAME.f)
    write_red(path, values, nodata=255, frame=half)
    grid = Grid(LATTICE, item_window(item, LATTICE))
    cube, missing = read_available([scene(item)], grid, BANDS, reader=reader)
    assert not missing
    assert_array_equal(cube["scl"][0], np.kron(np.where(values == 255, 0, 4), np.ones((2, 2))))
    write_red(path, values, frame=half)  # undeclared
    undeclared = open_cube([scene(item)], grid, BANDS, reader=reader)
    assert_array_equal(undeclared["scl"].values, cube["scl"])


FAULTS = {
    "in EPSG:32634, and the item states EPSG:32633": lambda p, dn: write_red(p, dn, crs=32634),
    "covers 501980 .* and the item states 499980": lambda p, dn: write_red(
        p, dn, frame=Affine.translation(2000, 0) @ FRAME
    ),
    "not north up": lambda p, dn: write_red(p, dn, frame=FRAME @ Affine.rotation(5)),
    "of type complex64": lambda p, dn: write_red(p, dn.astype(np.complex64)),
    "8 bits without a tag of scale": lambda p, dn: write_red(p, (dn // 40).astype(np.uint8)),
    "tag of scale 3": lambda p, dn: write_red(p, dn, scale=(3, 0)),
    "subtracts 1000 DN, where 0": lambda p, dn: write_red(p, dn, scale=(0.0001, -0.1)),
    "holds 2 bands": lambda p, dn: write_red(p, np.stack([dn, dn])),
}


@WITH_READERS
@pytest.mark.parametrize("fault", FAULTS)
def test_a_file_that_is_not_what_its_item_says_is_refused_by_name(item, fault, reader):
    dn, _ = numbers()
    FAULTS[fault](item.asset("red").href, dn.astype(np.uint16))
    grid = Grid(LATTICE, item_window(item, LATTICE))
    for chunks in (None, 64):
        with pytest.raises(ReadError, match=f"^item odd .*file of (band )?red.*{fault}"):
            open_cube([scene(item)], grid, BANDS, reader=reader, chunks=chunks)
    with pytest.raises(ReadError, match=fault):
        read_overview(item, BANDS)
    _, missing = read_available([scene(item)], grid, BANDS, reader=reader)
    assert missing == ("odd",)


TYPES = ("uint8", "uint16", "int16", "int32", "uint32", "float32", "float64")
VALUES = st.sampled_from(
    [0, 1, 29, 500, 9000, 15_999, 16_000, 64_536, 65_535, -1, -9999, 0.05, 25.0, np.nan, np.inf, 1e30]
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_whatever_a_file_holds_both_readers_give_the_same_or_the_same_error(item, data):
    dtype = np.dtype(data.draw(st.sampled_from(TYPES)))
    chosen = data.draw(st.lists(VALUES, min_size=1, max_size=5))
    with np.errstate(invalid="ignore", over="ignore"):
        pool = np.nan_to_num(np.array(chosen)) if dtype.kind in "iu" else np.array(chosen)
        values = np.random.default_rng(0).choice(pool, SHAPE).astype(dtype)
    nodata = data.draw(st.sampled_from([None, 0, 255, 1]))
    mask = data.draw(st.sampled_from([None, values > 0]))
    scale = data.draw(st.sampled_from([None, (0.0001, 0), (0.0001, -0.1), (1e-9, 0), (0.004, 0)]))
    write_red(item.asset("red").href, values, nodata=nodata, mask=mask, scale=scale)
    grid = Grid(LATTICE, item_window(item, LATTICE))
    made = []
    for reader, chunks in (("odc", None), ("stackstac", None), ("odc", 50)):
        try:
            made.append(open_cube([scene(item)], grid, BANDS, reader=reader, chunks=chunks)["red"].values)
        except ReadError as error:
            made.append(str(error))
    for other in made[1:]:
        assert_array_equal(made[0], other)


def test_no_reflectance_is_larger_than_the_limit():
    assert LARGEST_REFLECTANCE * 10_000 > 65_535


def test_a_file_may_change_between_two_reads(item):
    grid = Grid(LATTICE, item_window(item, LATTICE))
    dn, known = numbers()
    for kind in ("float reflectance, zero", "plain, no data undeclared", "alpha band"):
        KINDS[kind](item.asset("red").href, dn, known)
        cube = open_cube([scene(item)], grid, BANDS)
        assert_array_equal(cube["red"].values[0], np.where(known, dn, 0))
    assert Path(item.asset("red").href).exists()

"""Imagery to train and to evaluate on: whatever a file holds, a result or one sentence that names it."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from geotiff import write
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cloudgan.errors import CloudganError, InputError
from cloudgan.sentinel2.classification import PixelClass
from cloudgan.training.data.imagery import Imagery
from cloudgan.training.data.paths import read_sites_of
from cloudgan.training.data.sites import holds_numbers, numbers_of, reflectance_of
from cloudgan.training.data.sources import Source, read_imagery, read_sites

BANDS = ("green", "red", "nir")
FILES = ("B03", "B04", "B08")
COMMON = dict(zip(FILES, BANDS, strict=True))


def fields(seed=0, shape=(3, 40, 50)):
    return np.random.default_rng(seed).integers(300, 3000, shape, dtype=np.uint16)


def series(times=3, **changed) -> xr.Dataset:
    """A netCDF series that can be used, but for what is changed."""
    values = fields(shape=(times, 40, 50))
    time = ("time", np.arange(times) * 10, {"units": "days since 2020-01-01"})
    made = xr.Dataset(
        dict.fromkeys(FILES, (("time", "y", "x"), values)),
        {
            "time": time,
            "y": 5e6 - 5 - 10 * np.arange(40.0),
            "x": 5e5 + 5 + 10 * np.arange(50.0),
        },
        {"epsg": 32631},
    )
    return made.assign(changed)


def write_netcdf(folder: Path, made: xr.Dataset) -> Path:
    made.to_netcdf(folder / "s.nc", engine="h5netcdf")
    return folder / "s.nc"


def damage(path: Path, at: float = 0.5) -> Path:
    body = bytearray(path.read_bytes())
    middle = 8 + int(len(body) * at)
    body[middle : middle + 400] = b"\xff" * 400
    path.write_bytes(bytes(body))
    return path


def cut_off(path: Path) -> Path:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path


def index(folder: Path, text: bytes) -> Path:
    for name in ("a", "b"):
        write(folder / f"{name}.tif", fields(), FILES)
    (folder / "index.csv").write_bytes(text)
    return folder


def texture(folder: Path, **arrays: np.ndarray) -> Path:
    np.savez(folder / "t.npz", **arrays)
    return folder / "t.npz"


def zarr_of(folder: Path, made: xr.Dataset) -> Path:
    made.to_zarr(folder / "s.zarr", zarr_format=3, consolidated=False)
    return folder / "s.zarr"


def no_time(made: xr.Dataset) -> xr.Dataset:
    return made.drop_vars("time")


def place(folder: Path, name: str, **options) -> Path:
    write(folder / name, fields(), FILES, **options)
    return folder


def other_shape() -> tuple[tuple[str, ...], np.ndarray]:
    return ("time", "y2", "x2"), fields(shape=(3, 20, 25))


KINDS = {
    "an index in Latin-1": (
        "pairs",
        lambda f: index(f, "clear,cloudy,region\na.tif,b.tif,Köln\n".encode("latin-1")),
    ),
    "an index that is an image": ("pairs", lambda f: index(f, b"\x89PNG\r\n\x1a\n\0\0" * 40)),
    "an index with short lines": ("pairs", lambda f: index(f, b"clear,cloudy,region\na.tif\n")),
    "an index with NUL": ("pairs", lambda f: index(f, b"clear,cloudy,region\na.tif,\0,b\n")),
    "an empty index": ("pairs", lambda f: index(f, b"")),
    "a series without units of time": (
        "netcdf",
        lambda f: write_netcdf(f, series().assign_coords(time=("time", np.arange(3)))),
    ),
    "a series without time": ("netcdf", lambda f: write_netcdf(f, no_time(series()))),
    "a series with bands of other shapes": ("netcdf", lambda f: write_netcdf(f, series(B04=other_shape()))),
    "a series with a flat band": (
        "netcdf",
        lambda f: write_netcdf(f, series(B04=(("y", "x"), fields(shape=(40, 50))))),
    ),
    "a series with a classification of another shape": (
        "netcdf",
        lambda f: write_netcdf(f, series(SCL=(("y2", "x2"), np.full((3, 4), 4, np.uint8)))),
    ),
    "a series of text": (
        "netcdf",
        lambda f: write_netcdf(f, series(B04=(("time", "y", "x"), np.full((3, 40, 50), "a", object)))),
    ),
    "a corrupt series": ("netcdf", lambda f: damage(write_netcdf(f, series()), 0.0)),
    "a series cut off": ("netcdf", lambda f: cut_off(write_netcdf(f, series()))),
    "a series beyond the Earth": (
        "netcdf",
        lambda f: write_netcdf(f, series().assign_coords(x=1e300 + 10 * np.arange(50.0))),
    ),
    "a series whose place is no number": (
        "netcdf",
        lambda f: write_netcdf(f, series().assign_coords(x=np.full(50, np.nan))),
    ),
    "an image beyond the Earth": ("clear", lambda f: place(f, "a.tif", west=1e300)),
    "an image cut off": ("clear", lambda f: cut_off(f / "a.tif") and f if place(f, "a.tif") else f),
    "a texture of other axes": (
        "texture",
        lambda f: texture(f, img=fields(shape=(40, 50)), msk=fields(shape=(40, 50))),
    ),
    "a texture of too few bands": (
        "texture",
        lambda f: texture(f, img=fields(shape=(40, 50, 2)), msk=fields(shape=(40, 50, 1))),
    ),
    "a texture of objects": ("texture", lambda f: texture(f, img=np.array([{}]), msk=np.array([{}]))),
    "a texture cut off": (
        "texture",
        lambda f: cut_off(texture(f, img=fields(shape=(40, 50, 6)), msk=fields(shape=(40, 50, 1)))),
    ),
    "a store without time": ("cube", lambda f: zarr_of(f, no_time(series().rename(COMMON)))),
    "a store whose time are numbers": (
        "cube",
        lambda f: zarr_of(
            f, series().rename(COMMON).assign_coords(time=("time", np.arange(3.5, 6)))
        ),
    ),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("what", KINDS)
def test_what_cannot_be_read_is_named_in_one_sentence(tmp_path, what):
    kind, make = KINDS[what]
    source = Source(kind=kind, path=str(make(tmp_path)), region="there" if kind not in ("pairs",) else "")
    for read in (read_imagery, read_sites):
        with pytest.raises(InputError, match=rf"{tmp_path.name}|(^|of )s[ :]") as caught:
            read([source], BANDS)
        assert len(str(caught.value)) < 1500
        assert "\n" not in str(caught.value)


def names_it(error: CloudganError, name: str) -> None:
    assert name in str(error)
    assert len(str(error)) < 1500


def use(imagery: Imagery) -> None:
    for image in imagery.clear:
        assert np.isfinite(image.reflectance).all()
    imagery.outlines()


@pytest.mark.filterwarnings("ignore")
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.data())
def test_images_with_anything_in_them(tmp_path, data):
    dtype = np.dtype(data.draw(st.sampled_from(["uint8", "int16", "uint16", "float32", "float64", "int32"])))
    pool = [0, 1, 200, 3000, 16_000, 65_535, -9999, 0.05, 0.3, 25.0, np.nan, np.inf, 1e38]
    chosen = data.draw(st.lists(st.sampled_from(pool), min_size=1, max_size=4))
    with np.errstate(invalid="ignore", over="ignore"):
        numbers = np.nan_to_num(np.array(chosen, float)) if dtype.kind in "iu" else np.array(chosen, float)
        values = np.random.default_rng(0).choice(numbers, (3, 32, 32)).astype(dtype)
    nodata = data.draw(st.sampled_from([None, 0, np.nan if dtype.kind == "f" else 255]))
    west = data.draw(st.sampled_from([5e5, 1e9, -1e12, 1e300]))
    path = write(tmp_path / "a.tif", values, FILES, nodata=nodata, west=west)
    try:
        use(read_imagery([Source(kind="clear", path=str(path), region="there")], BANDS))
    except CloudganError as error:
        names_it(error, str(path))


@pytest.mark.filterwarnings("ignore")
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.data())
def test_series_with_bytes_changed(tmp_path, data):
    # A file of its own: HDF5 may hold a broken one open until it is collected.
    path = write_netcdf(Path(tempfile.mkdtemp(dir=tmp_path)), series(times=2))
    body = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(body) - 1))
        body[at : at + 8] = data.draw(st.binary(min_size=1, max_size=8))
    path.write_bytes(bytes(body))
    try:
        (site,) = read_sites_of(path, BANDS)
        assert site.observations.bands["red"].dtype == np.uint16
    except CloudganError as error:
        names_it(error, "s")


# One float above 20


def test_a_float_above_twenty_divides_nothing_and_is_said(tmp_path, caplog):
    values = (fields() / 10_000).astype(np.float32)
    values[1, 3, 4] = 31.0
    path = write(tmp_path / "a.tif", values, FILES)
    (image,) = read_imagery([Source(kind="clear", path=str(path), region="there")], BANDS).clear
    wanted = np.moveaxis(values, 0, -1).copy()
    wanted[3, 4, 1] = 0
    np.testing.assert_allclose(image.reflectance, wanted)
    assert not image.valid[3, 4]
    assert image.valid.sum() == image.valid.size - 1
    assert "a.tif holds 1 values above 20 among reflectance: they are taken for no data" in caplog.text


def test_digital_numbers_as_floats_are_known_by_most_of_them():
    numbers = np.array([0, 5, 300, 900, 2000, np.nan], np.float32)
    assert holds_numbers(numbers)
    assert not holds_numbers(numbers / 10_000)
    assert not holds_numbers(np.array([0.1, 0.2, 400], np.float32))
    assert holds_numbers(np.array([1, 2], np.int16))
    assert numbers_of(numbers, numbers=True).tolist() == [0, 5, 300, 900, 2000, 0]
    assert reflectance_of(numbers[None])[:, 0] == pytest.approx([0, 5e-4, 0.03, 0.09, 0.2, 0])


def test_a_series_of_reflectance_with_a_large_value_is_unreliable_there(tmp_path, caplog):
    made = series()
    for name in FILES:
        made[name] = made[name].astype(np.float32) / 10_000
    made["B04"][1, 2, 3] = 31.0
    made["B08"][1, 5, 6] = 2.0
    (site,) = read_sites_of(write_netcdf(tmp_path, made), BANDS)
    classes = site.observations.pixel_classes
    assert classes[1, 2, 3] == classes[1, 5, 6] == PixelClass.UNRELIABLE
    assert (classes == PixelClass.CLEAR).sum() == classes.size - 2
    assert "1 values above 20" in caplog.text

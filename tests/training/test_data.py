"""Readers of single formats, and the sample imagery as the shipped recipes name it."""

import numpy as np
import pytest
import xarray as xr

from cloudgan.errors import InputError
from cloudgan.observations import Site
from cloudgan.sentinel2.classification import PixelClass
from cloudgan.training.data import sites
from cloudgan.training.data.cubes import site_of_cube
from cloudgan.training.data.imagery import split_sites
from cloudgan.training.data.netcdf import read_netcdf
from cloudgan.training.data.textures import read_texture
from cloudgan.training.recipe import BANDS


def write_series(
    path, bands, *, scl=None, days=None, engine="h5netcdf", dims=("time", "y", "x"), **attributes
):
    """A netCDF series of some bands, one date every ten days by default."""
    times = len(next(iter(bands.values())))
    series = xr.Dataset(
        {name: (dims, values) for name, values in bands.items()},
        {
            dims[0]: (
                dims[0],
                np.arange(times) * 10 if days is None else days,
                {"units": "days since 2020-01-01"},
            )
        },
        attributes,
    )
    if scl is not None:
        series["SCL"] = (dims, scl)
        series["SCL"].encoding["_FillValue"] = 0
    series.to_netcdf(path, engine=engine)
    return path


@pytest.mark.parametrize(("engine", "dims"), [("h5netcdf", ("time", "y", "x")), ("scipy", ("t", "y", "x"))])
def test_a_netcdf_series_of_any_version(tmp_path, rng, engine, dims):
    values = {name: rng.integers(0, 4000, (5, 6, 7), dtype=np.int16) for name in ("B3", "B04", "nir")}
    scl = rng.integers(0, 12, (5, 6, 7), dtype=np.int8)
    path = write_series(tmp_path / "s.nc", values, scl=scl, engine=engine, dims=dims)
    cube = read_netcdf(path, ("nir", "green", "red"))
    assert list(cube["time"].values.astype("datetime64[D]").astype(str))[:2] == ["2020-01-01", "2020-01-11"]
    site = site_of_cube(cube, ("nir", "green", "red"), "s", "here")
    assert list(site.observations.bands) == ["nir", "green", "red"]
    np.testing.assert_array_equal(site.observations.bands["nir"], values["nir"])
    np.testing.assert_array_equal(site.observations.bands["green"], values["B3"])
    known = scl != 11  # snow that no other date confirms
    np.testing.assert_array_equal(site.observations.scl[known], scl[known])
    with pytest.raises(InputError, match="no band blue; its variables are"):
        read_netcdf(path, ("blue",))


def test_what_is_no_netcdf_series_is_named(tmp_path, rng):
    (tmp_path / "text.nc").write_text("no cube")
    with pytest.raises(InputError, match=r"text.nc cannot be read as netCDF: .*; give a netCDF series"):
        read_netcdf(tmp_path / "text.nc", BANDS)
    with pytest.raises(InputError, match="cannot be read as netCDF"):
        read_netcdf(tmp_path / "nothing.nc", BANDS)
    flat = xr.Dataset({"B03": (("y", "x"), rng.random((6, 7)))})
    flat.to_netcdf(tmp_path / "flat.nc", engine="h5netcdf")
    with pytest.raises(InputError, match="a series has time, y and x"):
        read_netcdf(tmp_path / "flat.nc", ("green",))


@pytest.mark.parametrize("factor", [1, 10_000])
def test_floats_are_reflectance_or_digital_numbers_with_nan(tmp_path, rng, factor):
    reflectance = rng.uniform(0.01, 1.4, (2, 6, 7)).astype(np.float32)
    values = reflectance * factor
    values[0, 0, 0], values[1, 0, 0] = np.nan, -0.01 * factor
    path = write_series(tmp_path / "s.nc", dict.fromkeys(("B03", "B04", "B08"), values))
    site = site_of_cube(read_netcdf(path, BANDS), BANDS, "s", "here")
    green = site.observations.bands["green"]
    assert green[0, 0, 0] == 0
    assert site.observations.pixel_classes[0, 0, 0] == PixelClass.NO_DATA
    assert green[1, 0, 0] == 1, "dark surface is not missing"
    np.testing.assert_array_equal(green[1, 1:], np.rint(reflectance[1, 1:] * 1e4))


def test_numbers_keep_what_is_known():
    values = np.array([0, -3, 0.00002, 0.5, 12, np.nan, np.inf], np.float32)
    assert sites.numbers_of(values, numbers=False).tolist() == [0, 1, 1, 5000, 65535, 0, 0]
    whole = np.array([0, -1, 7, 32767], np.int16)
    assert sites.numbers_of(whole, numbers=True).tolist() == [0, 1, 7, 32767]
    np.testing.assert_allclose(sites.reflectance_of(whole[None])[:, 0], [0, 1e-4, 7e-4, 3.2767], rtol=1e-6)


def test_a_place_on_the_map_is_known_from_its_coordinates(tmp_path, rng):
    values = dict.fromkeys(("B03", "B04", "B08"), rng.integers(300, 3000, (3, 40, 50), dtype=np.uint16))
    series = xr.open_dataset(write_series(tmp_path / "s.nc", values, epsg=32631))
    y, x = 5e6 - 5 - 10 * np.arange(40.0), 5e5 + 5 + 10 * np.arange(50.0)
    series.assign_coords(x=x, y=y).to_netcdf(tmp_path / "down.nc", engine="h5netcdf")
    flipped = series.isel(y=slice(None, None, -1)).assign_coords(x=x, y=y[::-1])
    flipped.to_netcdf(tmp_path / "up.nc", engine="h5netcdf")
    down, up = (
        site_of_cube(read_netcdf(tmp_path / f"{name}.nc", BANDS), BANDS, "s", "r") for name in ("down", "up")
    )
    assert (down.lattice.epsg, down.resolution, down.buffer) == (32631, 10, 6)
    assert down.observations.window == up.observations.window
    for band in BANDS:
        np.testing.assert_array_equal(down.observations.bands[band], up.observations.bands[band])
    irregular = series.assign_coords(x=x, y=np.sort(rng.random(40))[::-1])
    irregular.to_netcdf(tmp_path / "odd.nc", engine="h5netcdf")
    with pytest.raises(InputError, match="no regular grid"):
        site_of_cube(read_netcdf(tmp_path / "odd.nc", BANDS), BANDS, "s", "r")


@pytest.fixture
def site(tmp_path, rng) -> Site:
    """Ten dates, of which the fourth is half cloudy and the sixth shows next to nothing."""
    values = rng.integers(300, 3000, (10, 20, 30), dtype=np.uint16)
    scl = np.full(values.shape, 4, np.uint8)
    scl[3, :10], values[5, 1:] = 9, 0
    path = write_series(tmp_path / "s.nc", dict.fromkeys(("B03", "B04", "B08"), values), scl=scl)
    return site_of_cube(read_netcdf(path, BANDS), BANDS, "s", "here")


def test_dates_are_trusted_where_little_of_them_is_cloudy(site):
    assert len(site.observations.days) == 9
    assert np.flatnonzero(~site.trusted).tolist() == [3]
    fewer = sites.exclude_dates(site, ["2020-01-11"])
    assert len(fewer.observations.days) == 8
    distrusted = sites.distrust_dates(site, ["2020-01-11"])
    assert len(distrusted.observations.days) == 9
    assert np.flatnonzero(~distrusted.trusted).tolist() == [1, 3]
    for change in (sites.exclude_dates, sites.distrust_dates):
        with pytest.raises(InputError, match=r"has no date 2020-01-12 to .*; it has dates from 2020-01-01"):
            change(site, ["2020-01-12"])
        with pytest.raises(InputError, match="write dates as 2018-10-18"):
            change(site, ["last may"])


def test_halves_are_neighbours(site):
    west, east = sites.split_at_column(site, 11)
    assert (west.region, east.region) == ("here-west", "here-east")
    for band, values in site.observations.bands.items():
        both = np.concatenate([west.observations.bands[band], east.observations.bands[band]], axis=2)
        np.testing.assert_array_equal(both, values)
    assert west.observations.window.right == east.observations.window.col
    training, validation = split_sites([west, east], ["here-east"])
    assert ([one.region for one in training], [one.region for one in validation]) == (
        ["here-west"],
        ["here-east"],
    )
    for column in (0, 30, -2):
        with pytest.raises(InputError, match="does not cut s, 30 pixels wide"):
            sites.split_at_column(site, column)


def test_the_cumulus_sample_is_a_cloudy_image(samples_dir):
    image = read_texture(samples_dir / "cloud-texture-512.npz", "cumulus", ("nir", "green"))
    assert image.reflectance.shape == (512, 512, 2)
    assert image.region == "cumulus"
    assert 0.1 < image.cloud.mean() < 0.3
    cloud, shadow, surface = (
        image.reflectance[mask].mean(axis=0) for mask in (image.cloud, image.shadow, image.valid)
    )
    assert (shadow < 0.8 * surface).all()
    assert (surface < cloud).all()
    with pytest.raises(InputError, match="no band scl"):
        read_texture(samples_dir / "cloud-texture-512.npz", "cumulus", ("scl",))


def test_a_texture_that_is_none_is_named(tmp_path):
    np.savez(tmp_path / "t.npz", other=np.zeros(3))
    with pytest.raises(InputError, match="cannot be read as a cloud texture"):
        read_texture(tmp_path / "t.npz", "t", BANDS)

"""What is made of a finished store: datasets that other formats take, indices, composites."""

from __future__ import annotations

import datetime as dt
import json
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rioxarray  # noqa: F401 - an accessor
import xarray as xr
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from networks import BANDS
from test_store import PLAN, quick_disk, scene  # noqa: F401 - a fixture
from zarr.storage import LocalStore

import cloudgan
from cloudgan.errors import InputError, StoreError
from cloudgan.geo.grid import Grid, Lattice, Window
from cloudgan.io.store.store import make_root_group, prepare_store
from cloudgan.planning.plan import Plan
from cloudgan.products.periods import find_starts
from cloudgan.products.weights import OBSERVED_ERROR, weigh_pixels
from cloudgan.removal.core import DecloudedDate
from cloudgan.schema import Provenance

DAYS = (3, 8, 13, 21, 28)
TALL = replace(
    PLAN,
    grid=Grid(Lattice(32633, 10.0), Window(0, 40_000, 70, 50)),
    scenes=tuple(scene(day) for day in DAYS),
    written=tuple(range(len(DAYS))),
    block=32,
)


def fill(out: str, plan: Plan = TALL) -> None:
    """A finished store with numbers of chance."""
    store = prepare_store(out, plan.store_spec())
    rng = np.random.default_rng(3)
    for unit in plan.units():
        writer = store.open_writer(plan.store_spec(), unit.window)
        for at in range(len(plan.written)):
            shape = unit.window.shape
            provenance = rng.integers(0, 5, shape).astype(np.uint8)
            bands = rng.integers(1, 6000, (len(plan.contract.output_bands), *shape)).astype(np.uint16)
            empty = np.isin(provenance, (Provenance.NO_DATA, Provenance.MISSING_ASSET))
            days = rng.integers(1, 40, (2, *shape)).astype(np.uint16)
            days[:, provenance == Provenance.OBSERVED] = 0
            spread = rng.integers(1, 900, shape).astype(np.uint16)
            spread[provenance != Provenance.GENERATED] = 65535
            masked = (provenance != Provenance.OBSERVED).astype(np.uint8)  # by the scene classification
            date = DecloudedDate(
                np.where(empty, 0, bands).astype(np.uint16),
                provenance,
                masked,
                *days,
                spread,
                provenance == 2,
            )
            writer.write(at, date.variables(plan.contract.output_bands))
        writer.enter(unit.index, 1)
    store.finish({"missing_items": [], "failed": []})
    store.end_run()


@pytest.fixture(scope="module")
def out(tmp_path_factory) -> Path:
    """A finished store of several shards."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cloudgan.io.store.fence._sync", lambda path: None)
        path = tmp_path_factory.mktemp("products") / "out.zarr"
        fill(str(path))
    return path


@pytest.fixture
def ds(out) -> xr.Dataset:
    return cloudgan.open(out)


def assert_same_values(one: xr.Dataset, other: xr.Dataset) -> None:
    for name in other.data_vars:
        np.testing.assert_allclose(one[name].values, other[name].values, rtol=1e-6, err_msg=str(name))


# The store


def test_no_reader_fetches_what_is_not_for_it(out):
    """Attributes are short, name no path of this machine, and are strings, numbers and lists of them."""
    documents = {path.parent.name: json.loads(path.read_text()) for path in out.glob("**/zarr.json")}
    seen = {name: one["attributes"] for name, one in documents.items() if name != "units"}
    for name, attributes in seen.items():
        text = json.dumps(attributes)
        assert len(text) < 6000, name
        assert "/data/" not in text
        for key, value in attributes.items():
            parts = value if isinstance(value, list) else [value]
            assert all(isinstance(one, str | int | float) for one in parts), key
    arrays = [one for one in documents.values() if one["node_type"] == "array"]
    assert all(one["dimension_names"] for one in arrays if one["shape"])  # a scalar has none
    members = json.loads((out / "zarr.json").read_text())["consolidated_metadata"]["metadata"]
    assert not [name for name in members if "/" in name or name == "ledger"]


def test_no_coordinate_is_an_object(out):
    bare = xr.open_zarr(out)
    assert {one.dtype.kind for one in bare.coords.values()} <= set("UfiuM")
    assert bare["item_ids"].values[0] == "S2A_33TWM_20200403_0_L2A"
    assert bare["processing_baseline"].values[0] == "05.09"


def test_the_time_of_day_of_each_scene_is_kept_beside_its_date(out, ds, tmp_path):
    """The earliest item of a date counts; a subset and netCDF keep it."""
    expected = np.array([f"2020-04-{day:02d}T10:00:00" for day in DAYS], "datetime64[s]")
    for one in (xr.open_zarr(out), ds):
        np.testing.assert_array_equal(one["acquired"].values.astype("datetime64[s]"), expected)
        np.testing.assert_array_equal(one["red"].acquired.values, one["acquired"].values)
    ds.isel(time=[1, 3]).to_netcdf(tmp_path / "part.nc")
    again = xr.open_dataset(tmp_path / "part.nc", decode_coords="all")
    np.testing.assert_array_equal(again["acquired"].values.astype("datetime64[s]"), expected[[1, 3]])


def test_bare_xarray_does_what_users_do(out, tmp_path):
    bare = xr.open_zarr(out)
    assert bare["red"].attrs["proj:code"] == "EPSG:32633"
    assert list(xr.open_datatree(out, engine="zarr").groups) == ["/"]
    assert xr.open_zarr(out, chunks="auto")["red"].mean().compute() > 0
    assert bare.resample(time="1MS").mean()["red"].compute().sizes["time"] == 1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of zarr-python about text
        xr.open_zarr(out, chunks=None).isel(x=slice(3, 40)).to_zarr(tmp_path / "part.zarr")
    assert_same_values(xr.open_zarr(tmp_path / "part.zarr"), bare.isel(x=slice(3, 40)))


@pytest.mark.filterwarnings("ignore:endian-ness of dtype")  # netCDF4, of what xarray keeps of an encoding
@pytest.mark.parametrize("engine", ["netcdf4", "h5netcdf"])
@pytest.mark.parametrize("chunks", [{}, "auto", None], ids=["zarr's", "auto", "none"])
def test_bare_xarray_goes_to_netcdf_and_comes_back(out, tmp_path, engine, chunks):
    pytest.importorskip({"netcdf4": "netCDF4"}.get(engine, engine))
    part = xr.open_zarr(out, chunks=chunks).isel(x=slice(3, 40), time=slice(1, 4))
    part.to_netcdf(tmp_path / "part.nc", engine=engine)
    with xr.open_dataset(tmp_path / "part.nc", engine=engine, decode_coords="all") as found:
        assert_same_values(found, part)
        assert list(found["item_ids"].values) == list(part["item_ids"].values)
        assert found.rio.crs.to_epsg() == 32633  # by CF
        assert found.rio.transform() == TALL.grid.transform * Affine.translation(3, 0)


@pytest.mark.filterwarnings("ignore:endian-ness of dtype")
def test_bare_xarray_goes_on_from_a_tree_and_from_a_mean(out, tmp_path):
    xr.open_datatree(out, engine="zarr").to_netcdf(tmp_path / "tree.nc")
    xr.open_zarr(out).resample(time="1MS").mean().to_netcdf(tmp_path / "month.nc")
    assert xr.open_dataset(tmp_path / "month.nc")["red"].sizes["time"] == 1
    assert xr.open_dataset(tmp_path / "tree.nc")["red"].sizes["time"] == len(DAYS)


def test_bare_xarray_writes_a_part_of_chunks_as_zarr(out, tmp_path):
    """A part does not fill the shards of the whole, so xarray is told to align."""
    part = xr.open_zarr(out).isel(x=slice(3, 40))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of zarr-python about text
        part.to_zarr(tmp_path / "part.zarr", align_chunks=True)
    assert_same_values(xr.open_zarr(tmp_path / "part.zarr"), part)


def test_root_and_arrays_are_as_the_zarr_conventions_write_them(out):
    """They are not declared, for netCDF has no place for that; declared, they are valid."""
    zarr_cm = pytest.importorskip("zarr_cm")
    west, south, east, north = TALL.grid.bounds
    for name in (".", *BANDS, "provenance", "days_before", "uncertainty"):
        node = json.loads((out / name / "zarr.json").read_text())
        assert "zarr_conventions" not in node["attributes"]
        node["attributes"]["zarr_conventions"] = [zarr_cm.geo_proj.CMO, zarr_cm.spatial.CMO]
        for convention in (zarr_cm.geo_proj, zarr_cm.spatial):
            getattr(convention, f"validate_{node['node_type']}_metadata")(node)
        attributes = node["attributes"]
        assert attributes["proj:code"] == "EPSG:32633"
        assert Affine(*attributes["spatial:transform"]) == TALL.grid.transform
        assert attributes["spatial:shape"] == list(TALL.grid.shape)
        assert attributes["spatial:bbox"] == [west, south, east, north]


def test_the_dataset_as_netcdf_breaks_no_rule_of_cf(ds, tmp_path):
    pytest.importorskip("compliance_checker", reason="compliance-checker is not installed")
    path = tmp_path / "cf.nc"
    ds.to_netcdf(path)
    call = [Path(sys.executable).with_name("compliance-checker"), "--test=cf:1.11", "--format=json"]
    done = subprocess.run([*call, path, "-o", "-"], capture_output=True, text=True, timeout=200, check=False)
    found = json.loads(done.stdout[done.stdout.index("{") :])["cf:1.11"]
    assert [each["msgs"] for each in found["high_priorities"] if each["msgs"]] == []


# What cloudgan.open gives


def test_the_dataset_is_lazy_and_its_values_are_those_of_the_store(out, ds):
    bare = xr.open_zarr(out)
    assert ds["red"].chunks is not None
    assert {ds[name].dtype for name in (*BANDS, "uncertainty")} == {np.dtype(np.float32)}
    assert ds["provenance"].dtype == np.uint8
    assert_same_values(ds, bare)
    assert ds.cloudgan.bands == list(BANDS)
    assert ds.rio.crs.to_epsg() == 32633
    assert ds.rio.transform() == TALL.grid.transform


@pytest.mark.parametrize(
    "select",
    [{}, {"time": slice(1, 3)}, {"y": slice(3, 29), "x": slice(2, 30)}, {"time": [0], "y": slice(0, 64)}],
    ids=["all", "dates", "pixels", "both"],
)
def test_any_part_goes_to_netcdf_and_zarr_and_comes_back(ds, tmp_path, select):
    part = ds.isel(select)
    part.to_netcdf(tmp_path / "part.nc")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of zarr-python about text
        part.to_zarr(tmp_path / "part.zarr")
        part.drop_encoding().to_zarr(tmp_path / "part2.zarr", zarr_format=2)
    with xr.open_dataset(tmp_path / "part.nc", decode_coords="all") as found:
        assert_same_values(found, part)
        assert found.rio.crs.to_epsg() == 32633
        assert list(found["item_ids"].values) == list(part["item_ids"].values)
    assert_same_values(xr.open_zarr(tmp_path / "part.zarr"), part)
    assert_same_values(xr.open_zarr(tmp_path / "part2.zarr"), part)


def test_a_series_of_a_field_reads_its_chunks_alone(tmp_path, monkeypatch):
    """Through Dask too, whose chunks are shards of four of the store's."""
    plan = replace(TALL, grid=Grid(Lattice(32633, 10.0), Window(0, 40_000, 256, 256)), block=256)
    fill(str(tmp_path / "out.zarr"), plan)
    read: list[int] = []
    get = LocalStore.get

    async def count(self, key, *arguments, **options):
        found = await get(self, key, *arguments, **options)
        if "/c/" in key and found is not None:
            read.append(len(found))
        return found

    opened = cloudgan.open(tmp_path / "out.zarr")
    monkeypatch.setattr(LocalStore, "get", count)
    opened["red"].isel(y=slice(10, 30), x=slice(10, 30)).load()
    size = sum(path.stat().st_size for path in (tmp_path / "out.zarr" / "red").rglob("0") if path.is_file())
    assert 0 < sum(read) < 0.3 * size
    assert len(read) == 2 * len(DAYS)  # the index of a shard, and a chunk


def test_an_unfinished_store_is_opened_too(tmp_path):
    prepare_store(str(tmp_path / "out.zarr"), PLAN.store_spec())
    assert bool(cloudgan.open(tmp_path / "out.zarr")["red"].isnull().all())


def test_what_is_no_store_and_a_zone_that_is_not_named_are_refused(out, tmp_path):
    with pytest.raises(StoreError, match=r"^there is no store at .*none\.zarr; give the --out of a run$"):
        cloudgan.open(tmp_path / "none.zarr")
    make_root_group(str(tmp_path / "zones.zarr"), ["utm32n", "utm33n"])
    fill(str(tmp_path / "zones.zarr" / "utm33n"))
    with pytest.raises(InputError, match=r"none was named; give group=, one of utm32n, utm33n$"):
        cloudgan.open(tmp_path / "zones.zarr")
    assert cloudgan.open(tmp_path / "zones.zarr", group="utm33n").sizes["time"] == len(DAYS)
    with pytest.raises(InputError, match="has one UTM zone and no groups; leave utm33n out"):
        cloudgan.open(out, group="utm33n")


# The accessor


def test_observed_is_observed_alone(ds):
    seen = ds.cloudgan.observed()
    mask = ds["provenance"].values == Provenance.OBSERVED
    for name in BANDS:
        assert np.isnan(seen[name].values[~mask]).all()
        np.testing.assert_array_equal(seen[name].values[mask], ds[name].values[mask])


@given(st.floats(0.0001, 2.0), st.floats(0.0001, 2.0))
def test_a_generated_pixel_weighs_less_the_larger_its_error(one, other):
    kind = np.full(2, Provenance.GENERATED)
    first, second = weigh_pixels(kind, np.array([one, other]))
    assert 0 < first < 1
    assert (first >= second) == (one <= other) or np.isclose(first, second)
    variance = np.pi / 2 * one**2
    np.testing.assert_allclose(first, OBSERVED_ERROR**2 / (OBSERVED_ERROR**2 + variance), rtol=1e-5)


def test_only_what_is_known_weighs_anything(ds):
    unknown = np.array([np.nan, 0.01, 0.01, 0.01, np.nan])
    kinds = np.array([Provenance.GENERATED, Provenance.NO_DATA, 3, 4, Provenance.OBSERVED])
    assert weigh_pixels(kinds, unknown).tolist() == [0, 0, 0, 0, 1]
    assert ds.cloudgan.weights().dtype == np.float32


def test_an_index_is_its_formula(ds):
    nir, red, green = (ds[name].values.astype(float) for name in ("nir", "red", "green"))
    np.testing.assert_allclose(ds.cloudgan.index("NDVI"), (nir - red) / (nir + red), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(ds.cloudgan.index("ndwi"), (green - nir) / (green + nir), rtol=1e-4, atol=1e-6)
    assert ds.cloudgan.index("ndvi").dtype == np.float32


def test_an_index_of_five_bands(ds):
    bands = {"blue": 0.04, "swir16": 0.2, "swir22": 0.1, "nir": 0.3, "red": 0.05}
    made = ds.isel(time=[0])[["red"]].assign(
        {name: ds["red"].isel(time=[0]) * 0 + value for name, value in bands.items()}
    )
    for name in bands:
        made[name].attrs = ds["red"].attrs
    wanted = {"evi": 2.5 * 0.25 / (0.3 + 0.3 - 0.3 + 1), "ndmi": 0.1 / 0.5, "nbr": 0.2 / 0.4}
    for name, value in wanted.items():
        np.testing.assert_allclose(float(made.cloudgan.index(name).mean()), value, rtol=1e-5)


def test_an_index_without_its_band_or_without_a_name_is_refused(ds):
    with pytest.raises(InputError, match=r"^nbr needs the band swir22, and the store has green, red, nir;"):
        ds.cloudgan.index("nbr")
    with pytest.raises(
        InputError, match=r"^there is no index 'savi'; give one of ndvi, evi, ndwi, ndmi, nbr"
    ):
        ds.cloudgan.index("savi")
    with pytest.raises(InputError, match="the dataset has no provenance; open the store with"):
        ds.drop_vars("provenance").cloudgan.observed()


@given(st.dates(dt.date(1900, 1, 1), dt.date(2200, 1, 1)))
def test_a_period_begins_where_the_calendar_says(day):
    def start(period):
        return find_starts(np.array([day], "datetime64[D]"), period)[0].astype(dt.date)

    assert start("month") == day.replace(day=1)
    assert start("dekad") == day.replace(day=1 if day.day < 11 else 11 if day.day < 21 else 21)
    season = start("season")
    assert (season.day, season.month % 3) == (1, 0)
    assert 0 <= (day.year - season.year) * 12 + day.month - season.month < 3


@pytest.mark.parametrize(
    ("every", "groups"), [("month", [[0, 1, 2, 3, 4]]), ("dekad", [[0, 1], [2], [3, 4]])]
)
def test_a_composite_is_the_weighted_mean_of_its_dates(ds, every, groups):
    made = ds.cloudgan.composite(every)
    weights, kinds = ds.cloudgan.weights().values.astype(float), ds["provenance"].values
    assert made.sizes["time"] == len(groups)
    for at, inside in enumerate(groups):
        for name in BANDS:
            values = np.ma.masked_invalid(ds[name].values[inside].astype(float))
            total = (weights[inside] * ~values.mask).sum(0)
            with np.errstate(invalid="ignore", divide="ignore"):
                wanted = (values.filled(0) * weights[inside]).sum(0) / total
            np.testing.assert_allclose(made[name].values[at], wanted, rtol=1e-4)
        share = (kinds[inside] == Provenance.OBSERVED).mean(0)
        np.testing.assert_allclose(made["observed_share"].values[at], share, rtol=1e-6)


def test_a_composite_goes_to_netcdf_and_can_be_of_an_index(ds, tmp_path):
    made = ds.cloudgan.composite("season", index="ndvi")
    made.to_netcdf(tmp_path / "season.nc")
    assert str(made["time"].values[0])[:10] == "2020-03-01"
    assert set(made.data_vars) == {"ndvi", "observed_share"}
    with pytest.raises(InputError, match="there is no period 'week'; give one of month, dekad, season"):
        ds.cloudgan.composite("week")


def test_a_pixel_is_from_its_own_date_or_from_the_nearest_clear_one(ds):
    sources = ds.cloudgan.source_date().values
    before, after = (ds[name].values for name in ("days_before", "days_after"))
    kinds = ds["provenance"].values
    for at, row, col in np.ndindex(len(DAYS), 5, 5):
        if kinds[at, row, col] == Provenance.NO_DATA:
            assert np.isnat(sources[at, row, col])
            continue
        days = before[at, row, col], after[at, row, col]
        step = -days[0] if days[0] <= days[1] else days[1]
        assert (sources[at, row, col] - ds["time"].values[at]) / np.timedelta64(1, "D") == step


def test_the_nearest_item_is_named(ds):
    assert ds.cloudgan.nearest_items("2020-04-11") in (
        ["S2A_33TWM_20200413_0_L2A"],
        ["S2A_33TWM_20200408_0_L2A"],
    )
    assert ds.cloudgan.nearest_items("2020-04-27") == ["S2A_33TWM_20200428_0_L2A"]

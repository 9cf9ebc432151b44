"""Anything the batch command can read, one can train on: from every kind of source, the same pixels."""

import json
import tomllib

import h5py
import numpy as np
import pytest
import xarray as xr
from geotiff import write

from cloudgan.distributed.execute import Job, process_unit
from cloudgan.errors import CatalogError, InputError
from cloudgan.geo.aoi import read_aoi
from cloudgan.geo.grid import Grid
from cloudgan.io.cube import open_cube
from cloudgan.io.placement import source_lattice
from cloudgan.io.store.store import prepare_store
from cloudgan.model.generator import Generator
from cloudgan.planning.plan import Plan
from cloudgan.planning.planner import plan_run
from cloudgan.schema import Provenance
from cloudgan.sentinel2.dates import DateRange
from cloudgan.stac.search import find_scenes
from cloudgan.training.data import cubes
from cloudgan.training.data.imagery import BANDS
from cloudgan.training.data.sources import Source, read_imagery, read_series


@pytest.fixture(scope="module")
def catalogue(demo):
    """The demonstration catalogue as a source."""
    return Source("catalogue", str(demo.catalog), "farm", aoi=str(demo.aoi), dates="2020-05")


@pytest.fixture(scope="module")
def cube(demo):
    """What the batch command would read of it."""
    area = read_aoi(demo.aoi)
    scenes = find_scenes(
        area.geometry, DateRange.parse("2020-05"), bands=BANDS, stac=str(demo.catalog)
    ).scenes
    scenes = [scene for scene in scenes if scene.epsg == area.epsg]
    lattice = source_lattice(scenes, 10.0)
    return open_cube(scenes, Grid(lattice, area.window(lattice)), BANDS)


def test_a_catalogue_gives_the_pixels_that_serving_reads(catalogue, cube):
    (record,) = read_series([catalogue])
    assert record.region == "farm"
    for at, band in enumerate(BANDS):
        np.testing.assert_allclose(record.images[..., at], cube[band].values / 1e4, rtol=1e-6)
    wanted = classify(cube["scl"].values, [cube[band].values for band in BANDS])
    np.testing.assert_array_equal(record.pixel_classes, wanted)
    assert [str(np.datetime64(int(day), "D")) for day in record.days] == [
        str(t)[:10] for t in cube.time.values
    ]
    assert record.frame.crs == f"EPSG:{read_aoi(catalogue.aoi).epsg}"
    assert record.frame.transform.c == cube.x.values[0] - 5


def day_of(name):
    """Day number of a scene's name, which ends in its date."""
    return int(np.datetime64(name[-10:]).astype(int))


def test_a_series_becomes_ground_pairs_and_skies(catalogue):
    (record,) = read_series([catalogue])
    imagery = read_imagery([catalogue])
    assert imagery.regions() == ("farm",)
    assert len(imagery.clear) == record.truths.sum() > 0
    assert len(imagery.pairs) > 0
    for pair in imagery.pairs:
        cloudy, clear = (day_of(part) for part in pair.name.split(" / "))
        assert abs(clear - cloudy) == min(abs(day_of(scene.name) - cloudy) for scene in imagery.clear)
        assert abs(clear - cloudy) <= catalogue.apart
        assert 0.1 < pair.masked.mean() < 1
        # What is in plain view in both looks alike; what is hidden does not.
        gap = np.abs(pair.cloudy - pair.clear).mean(-1)
        assert gap[pair.masked & pair.valid].mean() > 3 * gap[~pair.masked & pair.valid].mean()
    assert all(cloud_field.cloud.any() for cloud_field in imagery.cloud_fields)


def test_a_saved_cube_gives_the_same_as_its_catalogue(catalogue, cube, tmp_path):
    cube.to_zarr(tmp_path / "farm.zarr", zarr_format=3, consolidated=False)
    source = Source("cube", str(tmp_path / "farm.zarr"), "farm")
    (one,), (other,) = read_series([catalogue]), read_series([source])
    np.testing.assert_array_equal(one.images, other.images)
    np.testing.assert_array_equal(one.pixel_classes, other.pixel_classes)
    np.testing.assert_array_equal(one.days, other.days)
    assert one.frame == other.frame
    assert len(read_imagery([source]).pairs) == len(read_imagery([catalogue]).pairs)
    with pytest.raises(InputError, match="has no band swir; its variables are"):
        read_imagery([source], ("swir",))


@pytest.fixture(scope="module")
def batch_store(demo, generator: Generator, tmp_path_factory):
    """A store as the batch command writes it, and its plan."""
    span = DateRange.parse("2020-05-01/2020-05-20")
    plan: Plan = plan_run(read_aoi(demo.aoi), span, generator, stac=str(demo.catalog))[0]
    store = prepare_store(str(tmp_path_factory.mktemp("store") / "out.zarr"), plan.store_spec())
    for index in range(plan.unit_count):
        process_unit(Job(plan, generator, store), index)
    store.finish({"missing_items": []})
    return store.location


def test_of_a_batch_store_observed_pixels_alone_are_believed(batch_store, cube):
    (record,) = read_series([Source("cube", batch_store, "farm")])
    stored = xr.open_zarr(batch_store, mask_and_scale=False)
    kept = np.isin(stored["time"].values.astype("datetime64[D]").astype(int), record.days)
    stored = stored.isel(time=kept)
    assert kept.sum() >= 3, "dates that show next to nothing are dropped"
    observed = stored["provenance"].values == Provenance.OBSERVED
    assert 0 < observed.mean() < 1
    assert not record.images[~observed].any()
    np.testing.assert_allclose(
        record.images[observed][:, 0], stored["green"].values[observed] / 1e4, rtol=1e-6
    )
    assert (record.pixel_classes[~observed] == PixelClass.NO_DATA).all()
    imagery = read_imagery([Source("cube", batch_store, "farm")])
    assert imagery.clear
    assert not imagery.pairs, "clouds are gone from such a store"
    assert not imagery.cloud_fields


def series_file(path, rng, scl=True, units="days since 2020-01-01", days=(0, 3, 8, 20)):
    """A netCDF 4 series of 4 dates of which the second is cloudy."""
    with h5py.File(path, "w") as file:
        file["time"] = np.array(days)
        file["time"].attrs["units"] = units
        for name in ("B03", "B04", "B08"):
            values = rng.integers(300, 3000, (len(days), 40, 50), dtype=np.uint16)
            file[name] = values
        if scl:
            classes = np.full((len(days), 40, 50), 4, np.uint8)
            classes[1, :20] = 9
            file["SCL"] = classes
        file["y"], file["x"] = 5e6 - 5 - 10 * np.arange(40.0), 5e5 + 5 + 10 * np.arange(50.0)
        file.attrs["epsg"] = np.array([32631])
    return Source("netcdf", str(path), "there")


def test_a_netcdf_series_has_days_place_and_pairs(tmp_path, rng):
    source = series_file(tmp_path / "s.nc", rng)
    (record,) = read_series([source])
    assert record.days[0] == np.datetime64("2020-01-01").astype(int)
    assert (record.frame.crs, record.resolution) == ("EPSG:32631", 10)
    assert record.frame.transform.f == 5e6
    imagery = read_imagery([source])
    assert (len(imagery.clear), len(imagery.pairs), len(imagery.cloud_fields)) == (3, 1, 1)
    assert imagery.pairs[0].name.endswith("2020-01-04 / s 2020-01-01")
    left = read_imagery([Source("netcdf", source.path, "there", without=("2020-01-01",))])
    assert left.pairs[0].name.endswith("2020-01-04 / s 2020-01-09")
    assert not read_imagery([Source("netcdf", source.path, "there", apart=2)]).pairs
    with pytest.raises(InputError, match="no date 2019-05-05 to leave out; it has dates from 2020-01-01"):
        read_imagery([Source("netcdf", source.path, "there", without=("2019-05-05",))])
    with pytest.raises(InputError, match="write dates as 2018-10-18"):
        read_imagery([Source("netcdf", source.path, "there", without=("last may",))])


def test_a_series_without_classification_is_taken_for_clear_and_says_so(tmp_path, rng, caplog):
    imagery = read_imagery([series_file(tmp_path / "s.nc", rng, scl=False)])
    assert (len(imagery.clear), len(imagery.pairs), len(imagery.cloud_fields)) == (4, 0, 0)
    assert "no scene classification" in caplog.text


def test_a_series_that_cannot_be_used_is_named(tmp_path, rng):
    with pytest.raises(InputError, match="write it in days since a date"):
        read_series([series_file(tmp_path / "a.nc", rng, units="moons")])
    with pytest.raises(InputError, match="do not rise"):
        read_series([series_file(tmp_path / "b.nc", rng, days=(0, 3, 3, 8))])
    with h5py.File(series_file(tmp_path / "c.nc", rng).path, "a") as file:
        file["SCL"][:] = 9
    with pytest.raises(InputError, match="no date with less than 10% cloud"):
        read_imagery([Source("netcdf", str(tmp_path / "c.nc"), "there")])
    (tmp_path / "d.zarr").mkdir()
    with pytest.raises(InputError, match="cannot be read as a Zarr store"):
        read_series([Source("cube", str(tmp_path / "d.zarr"), "there")])


def test_a_catalogue_with_nothing_says_what_a_wider_search_finds(demo):
    source = Source("catalogue", str(demo.catalog), "farm", aoi=str(demo.aoi), dates="2018-05")
    with pytest.raises(CatalogError, match=r"no items for 2018-05 in this AOI.*widen"):
        read_imagery([source])


def test_what_does_not_fit_into_memory_is_refused(catalogue, monkeypatch):
    monkeypatch.setattr(cubes, "_MOST_BYTES", 1e5)
    with pytest.raises(InputError, match="give a smaller area or fewer dates"):
        read_imagery([catalogue])


def test_folders_of_geotiffs_are_sources_from_toml(tmp_path, rng):
    clear = rng.integers(300, 2000, (4, 32, 32), dtype=np.uint16)
    cloudy = clear.copy()
    cloudy[:, :10] = 7000
    for name, west in (("a", 5e5), ("b", 6e5)):
        write(tmp_path / name / "x.tif", clear, west=west)
    write(tmp_path / "p" / "clear" / "x.tif", clear, west=7e5)
    write(tmp_path / "p" / "cloudy" / "x.tif", cloudy, west=7e5)
    tables = tomllib.loads("""
        [[data]]
        kind = "clear"
        path = "a"
        region = "west"
        [[data]]
        kind = "clear"
        path = "b"
        region = "east"
        [[data]]
        kind = "pairs"
        path = "p"
        region = "south"
    """)["data"]
    sources = [Source.of(table, tmp_path) for table in tables]
    assert sources[0].path == str(tmp_path / "a")
    imagery = read_imagery(sources)
    assert imagery.regions() == ("east", "south", "west")
    assert len(imagery.pairs) == 1
    training, validation = imagery.split(["east"])
    assert (training.regions(), validation.regions()) == (("south", "west"), ("east",))
    with pytest.raises(InputError, match=r"the clear source .* is no time series"):
        read_series(sources)


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        ({"path": "x"}, "lacks kind; every"),
        ({"kind": "clear"}, "lacks path"),
        ({"kind": "movies", "path": "x"}, "kind 'movies' is unknown; kinds are catalogue, clear"),
        ({"kind": "clear", "path": "x"}, "the clear source 'x' lacks region"),
        ({"kind": "clear", "path": "x", "region": "r", "dates": "2020"}, "does not take dates; it takes"),
        ({"kind": "clear", "path": "x", "regoin": "r"}, "does not know regoin; it may have"),
        ({"kind": "clear", "path": "x", "region": "r", "offset": "1000"}, "offset = '1000' .* wrong type"),
        ({"kind": "clear", "path": "x", "region": "r", "offset": -5}, "offset from 0 to 9999"),
        ({"kind": "catalogue", "path": "x", "region": "r", "dates": "2020"}, "lacks aoi"),
        ({"kind": "cube", "path": "x", "region": "r", "apart": 0}, "apart of 1 day or more"),
        ({"kind": "cube", "path": "x", "region": "r", "apart": True}, "wrong type"),
    ],
)
def test_a_table_that_names_no_source_is_refused(table, reason):
    with pytest.raises(InputError, match=reason):
        Source.of(table)


def test_a_recipe_without_data_is_refused():
    with pytest.raises(InputError, match=r"add a \[\[data\]\] table"):
        read_imagery([])


def test_the_real_catalogue_and_series(samples_dir, tmp_path):
    box = [[15.2, 46.4], [15.8, 46.4], [15.8, 46.8], [15.2, 46.8], [15.2, 46.4]]
    (tmp_path / "styria.geojson").write_text(json.dumps({"type": "Polygon", "coordinates": [box]}))
    catalogue = Source(
        "catalogue",
        str(samples_dir / "s2-l2a-33TWM-120m" / "catalog.json"),
        "styria",
        aoi=str(tmp_path / "styria.geojson"),
        dates="2023-08",
        resolution=120,
    )
    series = Source("netcdf", str(samples_dir / "series-romania-l2a-10m.nc"), "romania")
    imagery = read_imagery([catalogue, series])
    assert imagery.regions() == ("romania", "styria")
    names = [pair.name for pair in imagery.pairs if pair.region == "styria"]
    assert names == ["styria 2023-08-10 / styria 2023-08-13", "styria 2023-08-18 / styria 2023-08-20"]
    for scene in imagery.clear:
        green, _, nir = scene.image[scene.valid].mean(axis=0)
        assert 0.01 < green < 0.25, scene.name
        assert 0.05 < nir < 0.6, scene.name
    imagery.split(["romania"])

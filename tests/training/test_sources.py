"""Anything the batch command can read, one can train on: from every kind of source, the same pixels."""

import json
import tomllib
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from geotiff import write

from cloudgan.distributed.worker import Job, process_unit
from cloudgan.errors import CatalogError, InputError
from cloudgan.geo.aoi import read_aoi
from cloudgan.geo.grid import Grid
from cloudgan.io.cube import open_cube
from cloudgan.io.placement import source_lattice
from cloudgan.io.store.store import prepare_store
from cloudgan.model.generator import Generator
from cloudgan.observations import Site
from cloudgan.planning.plan import Plan
from cloudgan.planning.planner import plan_run
from cloudgan.schema import Provenance
from cloudgan.sentinel2.classification import PixelClass, classify
from cloudgan.sentinel2.dates import DateRange, day_numbers
from cloudgan.stac.search import find_scenes
from cloudgan.training.data import cubes
from cloudgan.training.data.imagery import split_sites
from cloudgan.training.data.paths import read_sites_of
from cloudgan.training.data.sources import Source, read_imagery, read_sites
from cloudgan.training.recipe import BANDS, TrainConfig


@pytest.fixture(scope="module")
def catalogue(demo):
    """The demonstration catalogue as a source."""
    return Source(kind="catalogue", path=str(demo.catalog), region="farm", aoi=str(demo.aoi), dates="2020-05")


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


def sites_of(source) -> list[Site]:
    """The sites of one source."""
    return read_sites([source], BANDS)


def imagery_of(source):
    """The imagery of one source."""
    return read_imagery([source], BANDS)


def test_a_catalogue_gives_the_pixels_that_serving_reads(catalogue, cube):
    (site,) = sites_of(catalogue)
    assert site.region == "farm"
    for band in BANDS:
        np.testing.assert_array_equal(site.observations.bands[band], cube[band].values)
    wanted = classify(cube["scl"].values, {band: cube[band].values for band in BANDS})
    np.testing.assert_array_equal(site.observations.pixel_classes, wanted)
    np.testing.assert_array_equal(site.observations.scl, cube["scl"].values)
    assert [str(np.datetime64(int(day), "D")) for day in site.observations.days] == [
        str(t)[:10] for t in cube.time.values
    ]
    assert site.lattice.epsg == read_aoi(catalogue.aoi).epsg
    assert Grid(site.lattice, site.observations.window).transform.c == cube.x.values[0] - 5


def test_a_static_catalogue_is_read_whole_without_an_area(demo, cube):
    (site,) = read_sites_of(demo.catalog, BANDS)
    day = np.flatnonzero(site.observations.days == day_numbers(cube.time.values[:1])[0])
    grid = Grid(site.lattice, site.observations.window)
    row, col = round((grid.y()[0] - cube.y.values[0]) / 10), round((cube.x.values[0] - grid.x()[0]) / 10)
    part = np.s_[row : row + cube.sizes["y"], col : col + cube.sizes["x"]]
    for band in BANDS:
        np.testing.assert_array_equal(site.observations.bands[band][day[0]][part], cube[band].values[0])
    assert site.region in ("33UWP", "33UXP")


def day_of(name):
    """Day number of a scene's name, which ends in its date."""
    return int(np.datetime64(name[-10:]).astype(int))


def test_a_series_becomes_clear_images_pairs_and_cloudy_images(catalogue):
    (site,) = sites_of(catalogue)
    imagery = imagery_of(catalogue)
    assert imagery.regions() == ("farm",)
    assert 0 < len(imagery.clear) <= site.trusted.sum()
    assert len(imagery.pairs) > 0
    for pair in imagery.pairs:
        cloudy, clear = (day_of(part) for part in pair.name.split(" / "))
        assert abs(clear - cloudy) == min(abs(day_of(image.name) - cloudy) for image in imagery.clear)
        assert abs(clear - cloudy) <= catalogue.max_pair_days
        assert 0.1 < pair.masked.mean() < 1
        # What is in clear view in both is nearly the same; what is masked is not.
        gap = np.abs(pair.cloudy - pair.clear).mean(-1)
        assert gap[pair.masked & pair.valid].mean() > 3 * gap[~pair.masked & pair.valid].mean()
    assert all(image.cloud.any() for image in imagery.cloudy)


def test_a_saved_cube_gives_the_same_as_its_catalogue(catalogue, cube, tmp_path):
    cube.to_zarr(tmp_path / "farm.zarr", zarr_format=3, consolidated=False)
    source = Source(kind="cube", path=str(tmp_path / "farm.zarr"), region="farm")
    (one,), (other,) = sites_of(catalogue), sites_of(source)
    for band in BANDS:
        np.testing.assert_array_equal(one.observations.bands[band], other.observations.bands[band])
    np.testing.assert_array_equal(one.observations.pixel_classes, other.observations.pixel_classes)
    np.testing.assert_array_equal(one.observations.days, other.observations.days)
    assert (one.lattice, one.observations.window) == (other.lattice, other.observations.window)
    assert len(imagery_of(source).pairs) == len(imagery_of(catalogue).pairs)
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


def test_of_a_batch_store_observed_pixels_alone_are_trusted(batch_store, cube):
    source = Source(kind="cube", path=batch_store, region="farm")
    (site,) = sites_of(source)
    stored = xr.open_zarr(batch_store, mask_and_scale=False)
    kept = np.isin(stored["time"].values.astype("datetime64[D]").astype(int), site.observations.days)
    stored = stored.isel(time=kept)
    assert kept.sum() >= 3, "dates that show next to nothing are dropped"
    observed = stored["provenance"].values == Provenance.OBSERVED
    assert 0 < observed.mean() < 1
    for band in BANDS:
        values = site.observations.bands[band]
        assert not values[~observed].any()
        np.testing.assert_array_equal(values[observed], stored[band].values[observed])
    assert (site.observations.pixel_classes[~observed] == PixelClass.NO_DATA).all()
    imagery = imagery_of(source)
    assert imagery.clear
    assert not imagery.pairs, "clouds are gone from such a store"
    assert not imagery.cloudy
    (same,) = read_sites_of(Path(batch_store), BANDS)
    np.testing.assert_array_equal(same.observations.pixel_classes, site.observations.pixel_classes)


def write_series(
    path, rng, scl=True, units="days since 2020-01-01", days=(0, 3, 8, 20), cloudy=np.s_[1, :20]
):
    """A netCDF series of 4 dates of which the second is cloudy, as a source."""
    shape = (len(days), 40, 50)
    dims = ("time", "y", "x")
    series = xr.Dataset(
        {name: (dims, rng.integers(300, 3000, shape, dtype=np.uint16)) for name in ("B03", "B04", "B08")},
        {
            "time": ("time", np.array(days), {"units": units} if units else {}),
            "y": 5e6 - 5 - 10 * np.arange(40.0),
            "x": 5e5 + 5 + 10 * np.arange(50.0),
        },
        {"epsg": 32631},
    )
    if scl:
        classes = np.full(shape, 4, np.uint8)
        classes[cloudy] = 9
        series["SCL"] = (dims, classes)
    series.to_netcdf(path, engine="h5netcdf")
    return Source(kind="netcdf", path=str(path), region="there")


def test_a_netcdf_series_has_days_place_and_pairs(tmp_path, rng):
    source = write_series(tmp_path / "s.nc", rng)
    (site,) = sites_of(source)
    assert site.observations.days[0] == np.datetime64("2020-01-01").astype(int)
    assert (site.lattice.epsg, site.resolution) == (32631, 10)
    assert Grid(site.lattice, site.observations.window).transform.f == 5e6
    assert site.trusted.tolist() == [True, False, True, True]
    imagery = imagery_of(source)
    assert (len(imagery.clear), len(imagery.pairs), len(imagery.cloudy)) == (3, 1, 1)
    assert imagery.pairs[0].name.endswith("2020-01-04 / s 2020-01-01")
    for key in ("exclude", "untrusted"):
        left = imagery_of(source.replace(**{key: ("2020-01-01",)}))
        assert left.pairs[0].name.endswith("2020-01-04 / s 2020-01-09")
        assert len(left.clear) == 2
    assert not imagery_of(source.replace(max_pair_days=2)).pairs
    assert len(imagery_of(source.replace(max_pair_days=20, pair_with="every")).pairs) == 3
    with pytest.raises(InputError, match="no date 2019-05-05 to leave out; it has dates from 2020-01-01"):
        imagery_of(source.replace(exclude=("2019-05-05",)))
    with pytest.raises(InputError, match="write dates as 2018-10-18"):
        imagery_of(source.replace(exclude=("last may",)))


def test_a_site_is_cut_weighted_and_trusted_as_its_source_says(tmp_path, rng):
    source = write_series(tmp_path / "s.nc", rng)
    cut = source.replace(split_column=20, sampling_weight=3, max_trusted_cloud=0.6, untrusted=("2020-01-09",))
    west, east = sites_of(cut)
    assert (west.region, east.region) == ("there-west", "there-east")
    assert west.observations.window.width == 20
    for site in (west, east):
        assert site.sampling_weight == 3
        assert site.trusted.tolist() == [True, True, False, True]
    assert imagery_of(cut).regions() == ("there-east", "there-west")


def test_a_series_without_classification_is_taken_for_clear_and_says_so(tmp_path, rng, caplog):
    imagery = imagery_of(write_series(tmp_path / "s.nc", rng, scl=False))
    assert (len(imagery.clear), len(imagery.pairs), len(imagery.cloudy)) == (4, 0, 0)
    assert "no scene classification" in caplog.text


def test_a_series_that_cannot_be_used_is_named(tmp_path, rng):
    for units in ("moons", ""):
        with pytest.raises(InputError, match="write it in days since a date"):
            sites_of(write_series(tmp_path / "a.nc", rng, units=units))
    with pytest.raises(InputError, match="do not rise"):
        sites_of(write_series(tmp_path / "b.nc", rng, days=(0, 3, 3, 8)))
    with pytest.raises(InputError, match="no trusted date with less than 10% cloud"):
        imagery_of(write_series(tmp_path / "c.nc", rng, cloudy=np.s_[:]))
    (tmp_path / "d.zarr").mkdir()
    with pytest.raises(InputError, match="cannot be read as a Zarr store"):
        sites_of(Source(kind="cube", path=str(tmp_path / "d.zarr"), region="there"))


def test_a_catalogue_with_nothing_says_what_a_wider_search_finds(catalogue):
    with pytest.raises(CatalogError, match=r"no items for 2018-05 in this AOI.*widen"):
        imagery_of(catalogue.replace(dates="2018-05"))


def test_what_does_not_fit_into_memory_is_refused(catalogue, monkeypatch):
    monkeypatch.setattr(cubes, "_MOST_BYTES", 1e5)
    with pytest.raises(InputError, match="give a smaller area or fewer dates"):
        imagery_of(catalogue)


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
    sources = [Source(**table).locate(tmp_path / "nowhere", tmp_path) for table in tables]
    assert sources[0].path == str(tmp_path / "a")
    imagery = read_imagery(sources, BANDS)
    assert imagery.regions() == ("east", "south", "west")
    assert len(imagery.pairs) == 1
    training, validation = imagery.split(["east"])
    assert (training.regions(), validation.regions()) == (("south", "west"), ("east",))
    with pytest.raises(InputError, match=r"the clear source .* is no time series"):
        read_sites(sources, BANDS)


def test_geotiffs_become_series(tmp_path, rng):
    clear = rng.integers(300, 2000, (2, 4, 32, 32), dtype=np.uint16)
    clear[1, :, 0, 0] = 0
    for name, values in zip("ab", clear, strict=True):
        write(tmp_path / "months" / f"{name}.tif", values)
    months = Source(kind="clear", path=str(tmp_path / "months"), region="here", days_between=30)
    (site,) = sites_of(months)
    assert np.diff(site.observations.days).tolist() == [30]
    np.testing.assert_array_equal(site.observations.bands["green"], clear[:, 1])
    assert site.observations.pixel_classes[1, 0, 0] == PixelClass.NO_DATA
    assert site.trusted.all()
    assert (site.buffer, site.repeated) == (6, False)
    singles = sites_of(months.replace(repeat=5, days_between=12, resolution=20))
    assert [one.name for one in singles] == ["months/a", "months/b"]
    for one in singles:
        assert one.repeated
        assert one.buffer == 3
        assert np.diff(one.observations.days).tolist() == [12] * 4
        assert (one.observations.bands["red"] == one.observations.bands["red"][0]).all()
    write(tmp_path / "months" / "c.tif", clear[0][:, :16])
    with pytest.raises(InputError, match="differ in shape or region"):
        sites_of(months)


def test_a_pair_becomes_a_series_of_two_dates(tmp_path, rng):
    clear = rng.integers(300, 2000, (4, 32, 32), dtype=np.uint16)
    cloudy = clear.copy()
    cloudy[:, :10] = 7000
    write(tmp_path / "clear" / "x.tif", clear)
    write(tmp_path / "cloudy" / "x.tif", cloudy)
    source = Source(kind="pairs", path=str(tmp_path), region="south")
    (site,) = sites_of(source)
    (pair,) = imagery_of(source).pairs
    assert site.observations.days.tolist() == [0, 12]
    assert site.trusted.tolist() == [True, False]
    np.testing.assert_array_equal(site.observations.bands["nir"], np.stack([clear[3], cloudy[3]]))
    np.testing.assert_array_equal(site.observations.pixel_classes[1] == PixelClass.CLOUDY, pair.masked)
    assert (site.observations.pixel_classes[0] == PixelClass.CLEAR).all()


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        ({"path": "x"}, "kind must be given; see the recipes"),
        ({"kind": "clear"}, "path must be given"),
        ({"kind": "movies", "path": "x"}, "kind movies is unknown; give clear, pairs, catalogue"),
        ({"kind": "netcdf", "path": "x"}, "the netcdf source 'x' lacks region"),
        ({"kind": "clear", "path": "x", "region": "r", "dates": "2020"}, "does not take dates; it takes"),
        ({"kind": "clear", "path": "x", "regoin": "r"}, "there is no key regoin; there are"),
        ({"kind": "clear", "path": "x", "region": "r", "offset": "1000"}, "offset '1000' is no whole number"),
        ({"kind": "clear", "path": "x", "region": "r", "offset": -5}, "offset -5 is not between 0 and 10000"),
        ({"kind": "catalogue", "path": "x", "region": "r", "dates": "2020"}, "lacks aoi"),
        ({"kind": "cube", "path": "x", "region": "r", "max_pair_days": 0}, "max_pair_days 0 is not above 0"),
        ({"kind": "cube", "path": "x", "region": "r", "max_pair_days": True}, "is no whole number"),
        ({"kind": "cube", "path": "x", "region": "r", "pair_with": "all"}, "give nearest or every"),
        ({"kind": "texture", "path": "x", "region": "r", "untrusted": ["a"]}, "does not take untrusted"),
    ],
)
def test_a_table_that_names_no_source_is_refused(table, reason):
    with pytest.raises(InputError, match=reason):
        Source(**table)


def test_dates_of_a_table_may_be_dates_of_toml():
    table = tomllib.loads('kind = "cube"\npath = "x"\nregion = "r"\nuntrusted = [2020-01-03, "2020-01-05"]')
    source = Source(**table)
    assert source.untrusted == ("2020-01-03", "2020-01-05")
    assert Source(**tomllib.loads(source.as_toml())) == source


@pytest.mark.parametrize("read", [read_imagery, read_sites])
def test_a_recipe_without_data_is_refused(read):
    with pytest.raises(InputError, match=r"add a \[\[data\]\] table"):
        read([], BANDS)


def test_sites_of_a_path(tmp_path, rng):
    write_series(tmp_path / "series-there-l2a-10m.nc", rng)
    (alone,) = read_sites_of(tmp_path / "series-there-l2a-10m.nc", BANDS)
    assert alone.region == "there"
    (tmp_path / "recipes").mkdir()
    recipe = tmp_path / "recipes" / "r.toml"
    table = '[[data]]\nkind = "netcdf"\npath = "series-there-l2a-10m.nc"\nregion = "here"\n'
    recipe.write_text(f'name = "r"\nheld_out = ["here"]\n[samples]\n{table}')
    (site,) = read_sites_of(recipe, BANDS, data=tmp_path)
    assert site.region == "here"
    np.testing.assert_array_equal(site.observations.bands["red"], alone.observations.bands["red"])
    with pytest.raises(InputError, match="cannot be read as netCDF"):
        read_sites_of(recipe, BANDS)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"is neither a recipe, a .nc series"):
        read_sites_of(tmp_path / "empty", BANDS)
    with pytest.raises(InputError, match="no imagery at"):
        read_sites_of(tmp_path / "nothing", BANDS)
    recipe.write_text('name = "r"\nheld_out = ["here"]\ndata = 3\n[samples]\n')
    with pytest.raises(InputError, match="with double brackets"):
        read_sites_of(recipe, BANDS)


def test_the_real_catalogue_and_series(samples_dir, tmp_path):
    box = [[15.2, 46.4], [15.8, 46.4], [15.8, 46.8], [15.2, 46.8], [15.2, 46.4]]
    (tmp_path / "styria.geojson").write_text(json.dumps({"type": "Polygon", "coordinates": [box]}))
    catalogue = Source(
        kind="catalogue",
        path=str(samples_dir / "s2-l2a-33TWM-120m" / "catalog.json"),
        region="styria",
        aoi=str(tmp_path / "styria.geojson"),
        dates="2023-08",
        resolution=120,
    )
    series = Source(kind="netcdf", path=str(samples_dir / "series-romania-l2a-10m.nc"), region="romania")
    imagery = read_imagery([catalogue, series], BANDS)
    assert imagery.regions() == ("romania", "styria")
    names = [pair.name for pair in imagery.pairs if pair.region == "styria"]
    assert names == ["styria 2023-08-10 / styria 2023-08-13", "styria 2023-08-18 / styria 2023-08-20"]
    for image in imagery.clear:
        green, _, nir = image.reflectance[image.valid].mean(axis=0)
        assert 0.01 < green < 0.25, image.name
        assert 0.05 < nir < 0.6, image.name
    imagery.split(["romania"])


def read_recipe(name, folder):
    """Sources and held-out regions of a recipe that ships."""
    recipe = TrainConfig.load(Path(__file__).resolve().parents[2] / "pipelines" / f"{name}.toml", data=folder)
    return recipe.data, recipe.held_out


def test_the_imagery_of_the_single_image_recipe(samples_dir):
    sources, held_out = read_recipe("train-single", samples_dir)
    imagery = read_imagery(sources, BANDS)
    assert (len(imagery.clear), len(imagery.pairs), len(imagery.cloudy)) == (82, 21, 5)
    training, validation = imagery.split(held_out)
    assert set(validation.regions()) == set(held_out)
    assert not set(training.regions()) & set(held_out)
    assert {image.region for image in training.cloudy} == {"33TWM-west", "cloud-texture-512"}
    for image in imagery.clear:
        assert image.reflectance.shape == (*image.valid.shape, 3)
        green, _, nir = image.reflectance[image.valid].mean(axis=0)
        assert 0.02 < green < 0.2, f"{image.name} is not clear land"
        assert 0.1 < nir < 0.6, f"{image.name} is not clear land"


def test_the_sites_of_the_temporal_recipe(samples_dir):
    sources, held_out = read_recipe("train-temporal", samples_dir)
    sites = read_sites(sources, BANDS)
    assert len(sites) == 52
    training, validation = split_sites(sites, held_out)
    assert {site.region for site in validation} == set(held_out)
    assert not {site.region for site in training} & set(held_out)
    (west,) = (site for site in sites if site.region == "33TWM-west")
    assert west.observations.window.width == 457
    assert (west.buffer, west.sampling_weight) == (1, 30)
    assert west.trusted.tolist() == [False, True, True, False, True]
    (flanders,) = (site for site in sites if site.region == "flanders-a")
    days = [str(np.datetime64(int(day), "D")) for day in flanders.observations.days[~flanders.trusted]]
    assert {"2018-10-18", "2019-11-12"} <= set(days)
    assert sum(site.repeated for site in sites) == 34

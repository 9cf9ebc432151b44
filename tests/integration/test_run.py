"""Whole runs on real Dask workers: what they write, and that nothing that happens to them changes it."""

from __future__ import annotations

import datetime as dt
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import dask
import numpy as np
import pytest
import rasterio
import rioxarray  # noqa: F401 - the accessor
import shapely
import xarray as xr
from affine import Affine
from clusters import workers
from networks import write_detector, write_network
from scenes import scene, write_item
from shapely.geometry import box, mapping
from stores import read_store

from cloudgan import BatchConfig, run_batch
from cloudgan.distributed.execute import execute
from cloudgan.distributed.worker import Job, process_unit
from cloudgan.errors import ReadError, StoreError
from cloudgan.geo.aoi import Aoi, read_aoi
from cloudgan.geo.grid import Grid, Lattice, Window
from cloudgan.geo.tiling import Tiling
from cloudgan.io.cube import open_cube
from cloudgan.io.store.fence import FOLDER
from cloudgan.io.store.identity import read_identity
from cloudgan.io.store.ledger import DONE, DONE_WITHOUT_ASSETS, PENDING
from cloudgan.io.store.store import prepare_store, read_about
from cloudgan.model.generator import Generator
from cloudgan.observations import Observations, compute_opacity
from cloudgan.planning.plan import Plan
from cloudgan.planning.planner import plan_run
from cloudgan.removal.core import decloud_dates
from cloudgan.removal.lazy import remove_clouds
from cloudgan.schema import MaskSource, Provenance
from cloudgan.sentinel2.bands import SATURATED_NUMBER
from cloudgan.sentinel2.classification import PixelClass, Scl, classify
from cloudgan.sentinel2.dates import DateRange, day_numbers

SPAN = DateRange.parse("2020-05-01/2020-05-20")
VARIABLES = ("green", "red", "nir", "provenance", "mask_source", "days_before", "days_after", "uncertainty")


@pytest.fixture(scope="module")
def plan(demo, generator):
    """The demonstration's own area, in units small enough to be many."""
    return planned(demo, generator, read_aoi(demo.aoi))


def planned(demo, generator, area: Aoi, block: int = 128, **options) -> Plan:
    plan, _ = plan_run(area, SPAN, generator, stac=str(demo.catalog), **options)
    return replace(plan, block=block)


@pytest.fixture(scope="module")
def written(plan, generator, client, tmp_path_factory):
    """A store that two workers wrote undisturbed, and the report."""
    out = tmp_path_factory.mktemp("written") / "out.zarr"
    report = execute(Job(plan, generator, prepare_store(str(out), plan.store_spec())), client)
    return out, report


def stored(path) -> xr.Dataset:
    """A store's raw numbers, in memory."""
    return xr.open_zarr(path, mask_and_scale=False)[list(VARIABLES)].load()


def assert_same(one: Path, other: Path) -> None:
    """The same files with the same bytes."""
    first, second = read_store(one), read_store(other)
    assert first.keys() == second.keys()
    assert [name for name in first if first[name] != second[name]] == []


def test_the_report_counts_what_the_store_holds(written, plan):
    out, report = written
    store = stored(out)
    assert report.failed == {}
    assert (report.units, report.done, report.skipped) == (plan.unit_count, plan.unit_count, 0)
    assert report.pixels == store["green"].size
    assert report.generated == (store["provenance"] == Provenance.GENERATED).sum()
    assert report.observed == (store["provenance"] == Provenance.OBSERVED).sum()
    assert 0 < report.generated < report.pixels


def test_the_store_opens_as_anyone_would_open_it(written, plan):
    store = xr.open_zarr(written[0])
    assert store.rio.crs.to_epsg() == plan.grid.epsg
    assert store.rio.transform() == plan.grid.transform
    assert store["green"].attrs["units"] == "1"
    assert 0 < float(store["green"].mean()) < 1
    assert store["green"].chunks[1][0] == plan.block
    assert store["provenance"].attrs["flag_meanings"] == (
        "no_data observed generated missing_asset unreliable"
    )
    assert [str(time)[:10] for time in store["time"].values] == [
        "2020-05-05",
        "2020-05-10",
        "2020-05-15",
        "2020-05-20",
    ]
    assert store["mask_source"].attrs["flag_masks"] == [1, 2, 4, 8, 16, 32, 64, 128]
    assert store["mask_source"].attrs["flag_meanings"].split()[:2] == ["scl", "snow"]
    source, provenance = store["mask_source"].values, store["provenance"].values
    np.testing.assert_array_equal(source == 0, provenance == Provenance.OBSERVED)
    about = read_about(str(written[0]))
    masked = about["run"]["masked"]
    assert list(masked) == ["2020-05-05", "2020-05-10", "2020-05-15", "2020-05-20"]
    for at, shares in enumerate(masked.values()):
        for name, bit in (("scl", 1), ("buffer", 64), ("no_data", 128)):
            assert shares.get(name, 0) == pytest.approx(((source[at] & bit) > 0).mean(), abs=5e-5)
    assert all("S2" in ids for ids in store["item_ids"].values)
    assert about["model"]["name"] == "mean"
    assert about["run"]["failed"] == []


def test_the_store_is_the_core_over_the_cube(written, plan, generator):
    """No Dask, no units: the array core over one cube, and the lazy form over another."""
    store = stored(written[0])
    read = plan.read_grid()
    cube = open_cube(plan.scenes, read, plan.bands)
    bands = {name: cube[name].values for name in plan.bands}
    pixel_classes = classify(cube["scl"].values, bands)
    observations = Observations(read.window, bands, pixel_classes, day_numbers(cube["time"].values))
    core = decloud_dates(observations, plan.grid.window, generator, buffer=plan.buffer, tiling=plan.tiling)
    for at, date in enumerate(core):
        for name, values in date.variables(plan.contract.output_bands).items():
            np.testing.assert_array_equal(values, store[name].values[at], err_msg=name)
    lazy = remove_clouds(open_cube(plan.scenes, read, plan.bands, chunks=300), generator)
    rows, cols = plan.grid.window.slices_in(read.window)
    with dask.config.set(scheduler="threads"):
        lazy = lazy[list(VARIABLES)].isel(y=rows, x=cols).compute()
    for name in VARIABLES:
        np.testing.assert_array_equal(lazy[name].values, store[name].values, err_msg=name)


def test_observed_pixels_are_the_sources_own(written, plan, demo):
    """Straight from the COGs with rasterio, each with the offset that its item states."""
    store = stored(written[0])
    west, south, east, north = plan.grid.bounds
    for at, day in enumerate(plan.scenes):
        observed = store["provenance"].values[at] == Provenance.OBSERVED
        for band in ("green", "red", "nir"):
            mosaic = np.zeros(plan.grid.shape, np.int64)
            for item in reversed(day.items):
                with rasterio.open(item.asset(band).href) as file:
                    window = rasterio.windows.from_bounds(west, south, east, north, file.transform)
                    values = file.read(1, window=window.round(), boundless=True).astype(int)
                raw = json.loads(Path(next(demo.catalog.parent.rglob(f"{item.id}.json"))).read_text())
                applied = raw["properties"]["earthsearch:boa_offset_applied"]
                numbers = np.where(values == 0, 0, np.maximum(values - (0 if applied else 1000), 1))
                mosaic = np.where(numbers > 0, numbers, mosaic)
            np.testing.assert_array_equal(store[band].values[at][observed], mosaic[observed])


def test_a_crop_of_the_whole_is_the_whole_of_the_crop(written, plan, demo, generator, client, tmp_path):
    """The area cut in half: the common pixels are equal bit for bit."""
    west, south, east, north = read_aoi(demo.aoi).geometry.bounds
    half = Aoi(box(west, south, (west + east) / 2, north))
    cropped = planned(demo, generator, half)
    execute(Job(cropped, generator, prepare_store(str(tmp_path / "half.zarr"), cropped.store_spec())), client)
    part, whole = stored(tmp_path / "half.zarr"), stored(written[0])
    common = plan.grid.window.intersection(cropped.grid.window)
    there, here = common.slices_in(plan.grid.window), common.slices_in(cropped.grid.window)
    assert common.width > 100
    for name in VARIABLES:
        np.testing.assert_array_equal(
            whole[name].values[:, *there], part[name].values[:, *here], err_msg=name
        )


@pytest.mark.parametrize("context_days", [0, 5])
def test_a_date_at_the_edge_of_the_span_sees_what_lies_beyond(
    written, demo, generator, client, tmp_path, context_days
):
    """May 10 and 15 alone, with the 5 and the 20 for context: the same as in the middle of a longer run."""
    span = DateRange.parse("2020-05-10/2020-05-15")
    area = read_aoi(demo.aoi)
    plan, _ = plan_run(area, span, generator, stac=str(demo.catalog), context_days=context_days)
    execute(Job(plan, generator, prepare_store(str(tmp_path / "out.zarr"), plan.store_spec())), client)
    short, long = stored(tmp_path / "out.zarr"), stored(written[0]).isel(time=[1, 2])
    assert len(plan.scenes) == (4 if context_days else 2)
    same = [(short[name].values == long[name].values).all() for name in VARIABLES]
    assert all(same) == (context_days == 5)
    assert short.sizes["time"] == 2


def test_stackstac_writes_the_same_store(written, plan, generator, client, tmp_path):
    out = tmp_path / "out.zarr"
    execute(Job(plan, generator, prepare_store(str(out), plan.store_spec()), reader="stackstac"), client)
    assert_same(written[0], out)


def test_one_worker_writes_the_same_store(written, plan, generator, tmp_path):
    out = tmp_path / "out.zarr"
    with workers(1) as client:
        execute(Job(plan, generator, prepare_store(str(out), plan.store_spec()), threads=2), client)
    assert_same(written[0], out)


def test_larger_units_hold_the_same_values(written, demo, generator, client, tmp_path):
    out = tmp_path / "out.zarr"
    plan = planned(demo, generator, read_aoi(demo.aoi), block=1024)
    execute(Job(plan, generator, prepare_store(str(out), plan.store_spec())), client)
    xr.testing.assert_identical(stored(written[0]).drop_attrs(), stored(out).drop_attrs())


@pytest.mark.parametrize("max_age", [5, 120])
def test_units_cut_in_time_hold_the_same_values(plan, generator, client, tmp_path, max_age):
    """One date a unit, with the dates around it that it may use, and two, against all four at once."""
    stores = []
    for span in (None, 1, 2):
        cut = replace(plan, span=span, max_age=max_age)
        out = tmp_path / f"{span}.zarr"
        report = execute(Job(cut, generator, prepare_store(str(out), cut.store_spec())), client)
        assert (report.failed, report.done) == ({}, plan.unit_count * {None: 1, 1: 4, 2: 2}[span])
        stores.append(stored(out).drop_attrs())
    xr.testing.assert_identical(stores[0], stores[1])
    xr.testing.assert_identical(stores[0], stores[2])
    days = stores[0]["days_before"].values
    assert days[days < 65535].max() == (5 if max_age == 5 else 15)


def test_a_rerun_does_only_what_is_missing(written, plan, generator, client, tmp_path):
    out = tmp_path / "out.zarr"
    store = prepare_store(str(out), plan.store_spec())
    job = Job(plan, generator, store)
    process_unit(job, 1)
    assert list(np.flatnonzero(store.read_ledger() == DONE)) == [1]
    report = execute(Job(plan, generator, prepare_store(str(out), plan.store_spec())), client)
    assert (report.skipped, report.done) == (1, plan.unit_count - 1)
    assert_same(written[0], out)
    again = execute(job, client)
    assert (again.skipped, again.done) == (plan.unit_count, 0)


def test_a_unit_done_twice_changes_nothing(written, plan, generator, tmp_path):
    out = tmp_path / "out.zarr"
    job = Job(plan, generator, prepare_store(str(out), plan.store_spec()))
    process_unit(job, 0)
    before = read_store(out)
    process_unit(job, 0)
    assert read_store(out) == before


def test_another_plan_is_refused_and_leaves_the_store_as_it_was(written, plan, generator):
    out, _ = written
    before = read_store(out)
    other = replace(plan, buffer=plan.buffer + 1, model="0" * 64)
    said = r"other settings; .*--overwrite.*:\n  buffer: 6 -> 7\n  model: [0-9a-f]{37}... -> 0{37}"
    with pytest.raises(StoreError, match=said):
        prepare_store(str(out), other.store_spec())
    assert read_store(out) == before
    assert read_identity(str(out)) == plan.identity()


def test_overwriting_keeps_what_was_done_with_the_same_settings(plan, generator, tmp_path):
    out = str(tmp_path / "out.zarr")
    process_unit(Job(plan, generator, prepare_store(out, plan.store_spec())), 2)
    assert list(
        np.flatnonzero(prepare_store(out, plan.store_spec(), overwrite=True).read_ledger() == DONE)
    ) == [2]


@pytest.mark.parametrize("out", ["/proc/nowhere/out.zarr", "nowhere://bucket/out.zarr"])
def test_a_place_that_cannot_be_written_is_named(plan, out):
    with pytest.raises(StoreError, match=r"cannot be used \(.*\); give an --out that can be written"):
        prepare_store(out, plan.store_spec())


def test_overwriting_replaces_a_store_of_ours_and_nothing_else(plan, tmp_path):
    out = tmp_path / "out.zarr"
    prepare_store(str(out), replace(plan, buffer=1).store_spec())
    prepare_store(str(out), plan.store_spec(), overwrite=True)
    assert read_identity(str(out)) == plan.identity()
    precious = tmp_path / "thesis"
    precious.mkdir()
    (precious / "chapter1.txt").write_text("years of work")
    for target in (precious, precious / "chapter1.txt"):
        with pytest.raises(StoreError, match="is no store of cloudgan's; give another --out"):
            prepare_store(str(target), plan.store_spec(), overwrite=True)
    assert (precious / "chapter1.txt").read_text() == "years of work"


def test_clipping_leaves_no_data_outside_the_polygon(demo, generator, client, tmp_path):
    west, south, east, north = read_aoi(demo.aoi).geometry.bounds
    triangle = Aoi(shapely.Polygon([(west, south), (east, south), (west, north)]))
    out = tmp_path / "out.zarr"
    plan = planned(demo, generator, triangle, clip=True)
    execute(Job(plan, generator, prepare_store(str(out), plan.store_spec())), client)
    store = stored(out)
    outside = triangle.mask_outside(plan.grid)
    assert 0.3 < outside.mean() < 0.7
    for name, nothing in [("green", 0), ("provenance", 0), ("uncertainty", 65535), ("days_before", 65535)]:
        assert (store[name].values[:, outside] == nothing).all()
    assert (store["provenance"].values[:, ~outside] > 0).mean() > 0.5


# What may happen to a run


def test_a_lost_asset_fails_its_units_by_name_and_the_rest_is_written(demo, generator, client, tmp_path):
    plan = planned(demo, generator, read_aoi(demo.aoi))
    item = plan.scenes[1].items[-1]
    gone = tuple(replace(asset, href=f"{asset.href}.gone") for asset in item.assets)
    items = tuple(replace(one, assets=gone) if one == item else one for one in plan.scenes[1].items)
    scenes = (plan.scenes[0], replace(plan.scenes[1], items=items), *plan.scenes[2:])
    broken = replace(plan, scenes=scenes)
    job = Job(broken, generator, prepare_store(str(tmp_path / "out.zarr"), broken.store_spec()))
    report = execute(job, client)
    assert 0 < len(report.failed) < plan.unit_count
    assert all(failed.items == (item.id,) for failed in report.failed.values())
    assert report.done == plan.unit_count - len(report.failed)

    allowed = execute(replace(job, allow_missing=True), client)
    assert (allowed.failed, allowed.missing) == ({}, {item.id})
    provenance = stored(tmp_path / "out.zarr")["provenance"].values
    assert (provenance[1] == Provenance.MISSING_ASSET).any()
    assert not (provenance[[0, 2, 3]] == Provenance.MISSING_ASSET).any()


def command(demo, network64, out, *more: str) -> list[str]:
    """The command as a user gives it."""
    arguments = {
        "--aoi": demo.aoi,
        "--dates": str(SPAN),
        "--stac": demo.catalog,
        "--model": network64,
        "--out": out,
        "--workers": 2,
    }
    words = [str(word) for pair in arguments.items() for word in pair]
    return [sys.executable, "-m", "cloudgan.cli.app", "batch", *words, "--json", *more]


def test_somebody_elses_scheduler_does_the_work(demo, network64, client, tmp_path):
    out = tmp_path / "out.zarr"
    call = command(demo, network64, out, "--scheduler", client.scheduler.address)
    done = subprocess.run(call, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["report"]["done"] == 1
    assert len(client.scheduler_info()["workers"]) == 2  # it leaves them as they were


def test_a_scheduler_that_does_not_answer_is_named(demo, network64, tmp_path):
    out = tmp_path / "out.zarr"
    call = command(demo, network64, out, "--scheduler", "tcp://127.0.0.1:9", "--wait", "1")
    environment = os.environ | {"DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT": "3s"}
    done = subprocess.run(call, capture_output=True, text=True, timeout=200, check=False, env=environment)
    assert done.returncode == 2
    assert "no Dask scheduler answers at tcp://127.0.0.1:9" in done.stderr
    assert "Traceback" not in done.stderr
    assert not out.exists()


def test_a_server_that_is_no_catalogue_is_named(demo, network64, stac_server, tmp_path):
    out = tmp_path / "out.zarr"
    call = command(demo, network64, out)
    page = (200, "text/html", "<html>log in</html>")
    call[call.index(str(demo.catalog))] = stac_server(reply=page).url
    done = subprocess.run(call, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert not out.exists()


def test_a_killed_worker_costs_nothing(written, plan, generator, tmp_path):
    out = tmp_path / "out.zarr"
    with workers(2) as client:
        victims = list(client.run(os.getpid).values())
        killed = []

        def kill_once(_report: object) -> None:
            if not killed:
                killed.append(victims[0])
                os.kill(victims[0], signal.SIGKILL)

        report = execute(Job(plan, generator, prepare_store(str(out), plan.store_spec())), client, kill_once)
    assert killed
    assert report.failed == {}
    assert_same(written[0], out)


@pytest.mark.parametrize("blow", [signal.SIGKILL, signal.SIGINT])
def test_a_client_that_goes_leaves_a_store_that_a_rerun_completes(demo, network64, tmp_path, blow):
    out = tmp_path / "out.zarr"
    # Finer pixels make more of them, and little memory many units.
    call = command(demo, network64, out, "--resolution", "4", "--memory", "0.7GB")
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    # Tests that run in the background of a shell are deaf to Ctrl-C, and so would their children be.
    hears = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)}
    with subprocess.Popen(call, **pipes, **hears, start_new_session=True) as process:
        ledger = out / FOLDER / "c"
        deadline = time.monotonic() + 120
        while not (ledger.exists() and any(ledger.iterdir())) and time.monotonic() < deadline:
            time.sleep(0.02)
        # Ctrl-C goes to all processes of a terminal, a kill to one.
        os.killpg(process.pid, blow) if blow == signal.SIGINT else process.send_signal(blow)
        _, errors = process.communicate(timeout=120)
    done = len(list(ledger.iterdir()))
    assert done > 0
    if blow == signal.SIGINT:
        assert process.returncode == 130
        assert "run the same command again" in errors
        assert "Traceback" not in errors
    again = subprocess.run(call, capture_output=True, text=True, check=True, timeout=200)
    report = json.loads(again.stdout)["report"]
    assert report["skipped"] >= done
    assert report["skipped"] + report["done"] == report["units"]
    undisturbed = tmp_path / "undisturbed.zarr"
    subprocess.run(
        [word if word != str(out) else str(undisturbed) for word in call], check=True, capture_output=True
    )
    assert_same(undisturbed, out)


# Real scenes


def test_the_real_scenes(real_scenes, tmp_path):
    """Five real dates at 120 m, through the command, with the model that ships."""
    area = box(15.60, 46.25, 16.05, 46.65)
    aoi = tmp_path / "aoi.geojson"
    aoi.write_text(json.dumps(mapping(area)))
    out = tmp_path / "out.zarr"
    call = [sys.executable, "-m", "cloudgan.cli.app", "batch", "--aoi", aoi, "--dates", "2023-08"]
    call += ["--stac", real_scenes, "--resolution", "120", "--out", out]
    subprocess.run(list(map(str, call)), check=True, capture_output=True, timeout=300)

    store = xr.open_zarr(out)
    assert store.sizes["time"] == 5
    # The near infrared of 10 August is a third too bright, in thin haze beside its clouds.
    assert store["hazy"].values.tolist() == [1, 0, 0, 0, 0]
    assert store["error_std_nir"].values.argmax() == 0
    assert store.rio.crs.to_epsg() == 32633
    assert store["red"].attrs["units"] == "1"
    assert read_about(str(out))["model"]["training"]
    raw = stored(out)
    west, south, east, north = store.rio.bounds()
    for at, item in enumerate(store["item_ids"].values):
        folder = real_scenes.parent / str(item)
        source = {}
        for name, file in {"green": "B03", "red": "B04", "nir": "B08", "scl": "SCL"}.items():
            with rasterio.open(folder / f"{file}.tif") as band:
                window = rasterio.windows.from_bounds(west, south, east, north, band.transform)
                assert window.round() == window
                source[name] = band.read(1, window=window.round())
        observed = raw["provenance"].values[at] == Provenance.OBSERVED
        generated = raw["provenance"].values[at] == Provenance.GENERATED
        bands = {name: source[name] for name in ("green", "red", "nir")}
        for name, values in bands.items():
            saturated = ~generated & (values >= SATURATED_NUMBER)
            kept = ~generated & ~saturated
            np.testing.assert_array_equal(raw[name].values[at][kept], values[kept])
            assert (raw[name].values[at][saturated] == 0).all()
            assert (raw[name].values[at][generated] > 0).all()
        # No date confirms what the classification calls snow in August: it is cloud.
        scl = np.where(source["scl"] == Scl.SNOW_OR_ICE, np.uint8(Scl.CLOUD_HIGH_PROBABILITY), source["scl"])
        pixel_classes = classify(scl, bands)
        with_data = np.any(list(bands.values()), axis=0)
        reliable = pixel_classes != PixelClass.UNRELIABLE
        cloudy = np.isin(scl, [3, 8, 9, 10]) & with_data
        assert generated[cloudy].all()
        # Inside the area, away from its edge, the mask is cloud and its buffer, and what is unreliable.
        inner = (slice(1, -1), slice(1, -1))
        np.testing.assert_array_equal(
            (generated & with_data & reliable)[inner],
            ((compute_opacity(pixel_classes, 1) > 0) & with_data & reliable)[inner],
        )
        assert observed[inner].sum() == (with_data & ~generated & reliable)[inner].sum()


# What the rest of the image tells of a tile wholly under cloud

DAYS = (dt.date(2023, 8, 5), dt.date(2023, 8, 10))
BRIGHTER = 100  # digital numbers by which the second date is brighter


@pytest.fixture
def under_a_bank(tmp_path):
    """A unit in the corner of two images, all of it under cloud on the second date."""
    rng = np.random.default_rng(7)
    surface = rng.integers(800, 3000, (16, 16)).repeat(32, 0).repeat(32, 1)
    frame = Affine(10, 0, 500_000, 0, -10, 5_200_000)
    items = []
    for at, day in enumerate(DAYS):
        scl = np.full((256, 256), 4, np.uint8)
        scl[:100, :100] = 9 if at else 4
        bands = {band: (surface + at * BRIGHTER).astype(np.uint16) for band in ("green", "red", "nir")}
        items.append(write_item(tmp_path / "images", f"day{at}", day, bands | {"scl": scl}, frame))
    channels = [f"nearest-before:{band}" for band in ("green", "red", "nir")]
    path = write_network(tmp_path / "nearest.onnx", channels=channels, radius=0)
    generator = Generator.load(path)
    plan = Plan(
        grid=Grid(Lattice(32633, 10.0), Window(-519_960, 50_040, 64, 64)),
        scenes=tuple(scene(item) for item in items),
        written=(0, 1),
        contract=generator.contract,
        model=generator.digest,
        tiling=Tiling(32, 24),
        buffer=2,
        block=64,
    )
    return Job(plan, generator, prepare_store(str(tmp_path / "out.zarr"), plan.store_spec()))


def generated(job: Job) -> np.ndarray:
    return xr.open_zarr(job.store.location, mask_and_scale=False, consolidated=False).green.values[1]


def test_the_rest_of_the_image_shows_how_bright_a_masked_date_is(under_a_bank, monkeypatch):
    job = under_a_bank
    assert process_unit(job, 0).generated == 64 * 64
    packed = job.store.read_radiometry(0)
    offsets, trust = packed[:2], packed[3, 1]
    np.testing.assert_allclose(10_000 * offsets[1, 0], BRIGHTER, atol=1)
    assert (trust > 0).all()
    followed = BRIGHTER * trust[0]
    # Its one input of three is the green of the clear date, and green's gain is a half of the mean of them.
    clear = xr.open_zarr(job.store.location, mask_and_scale=False, consolidated=False).green.values[0]
    np.testing.assert_allclose(generated(job), (clear + followed) / 2, atol=0.6)

    first = generated(job)
    monkeypatch.setattr(
        "cloudgan.distributed.worker.overviews.read_radiometry", lambda *args: pytest.fail("it was kept")
    )
    process_unit(job, 0)
    np.testing.assert_array_equal(generated(job), first)


def test_an_overview_that_cannot_be_read_is_no_clear_sky(under_a_bank, monkeypatch):
    def unreadable(*args):
        raise ReadError("item day1 could not be read", "day1")

    job = under_a_bank
    with monkeypatch.context() as patch:
        patch.setattr("cloudgan.distributed.worker.overviews.read_radiometry", unreadable)
        with pytest.raises(ReadError, match="day1"):
            process_unit(job, 0)
        assert job.store.read_ledger()[0] == PENDING
        assert process_unit(replace(job, allow_missing=True), 0).missing == ("day1",)
        assert job.store.read_ledger()[0] == DONE_WITHOUT_ASSETS
        assert job.store.read_radiometry(0) is None
    assert process_unit(job, 0).missing == ()
    assert job.store.read_ledger()[0] == DONE


def test_masks_are_united_and_a_crop_stays_a_crop(demo, network, written, client, tmp_path):
    """A detector beside the classification, over the area and over half of it, and no mask at all."""
    mask = str(write_detector(tmp_path / "bright.onnx"))
    west, south, east, north = read_aoi(demo.aoi).geometry.bounds
    half = tmp_path / "half.geojson"
    half.write_text(json.dumps(mapping(box(west, south, (west + east) / 2, north))))

    def run(name, aoi, masks):
        out = tmp_path / name
        options = {"aoi": str(aoi), "dates": "2020-05", "stac": str(demo.catalog), "model": str(network)}
        report = run_batch(BatchConfig(**options, out=str(out), mask=masks), client=client)
        assert report.ok
        return stored(out), report.as_json()["report"]["masked"]

    both, shares = run("both.zarr", demo.aoi, ["scl", mask])
    alone, plain = run("alone.zarr", demo.aoi, mask)[0], stored(written[0])
    detected = (both["mask_source"].values & 8) > 0
    assert 0.001 < detected.mean() < 0.9
    assert shares["2020-05-05"]["detector"] == pytest.approx(detected[0].mean(), abs=5e-5)
    classified = (plain["mask_source"].values & 1) > 0
    np.testing.assert_array_equal((both["mask_source"].values & 1) > 0, classified)
    assert (both["provenance"].values[detected] != Provenance.OBSERVED).all()
    assert not (alone["mask_source"].values & 1).any()
    np.testing.assert_array_equal((alone["mask_source"].values & 8) > 0, detected)
    part, _ = run("half.zarr", half, ["scl", mask])
    here, there = xr.align(part, both, join="inner")
    assert here.sizes["x"] > 200
    for name in VARIABLES:
        np.testing.assert_array_equal(here[name].values, there[name].values, err_msg=name)
    none, _ = run("none.zarr", half, "none")
    assert set(np.unique(none["mask_source"].values)) <= {0, 128}


def test_a_detector_that_gives_no_numbers_fails_its_unit_by_name(demo, network, client, tmp_path):
    mask = str(write_detector(tmp_path / "nan.onnx", gain=float("nan")))
    config = BatchConfig(
        aoi=str(demo.aoi),
        dates="2020-05-05",
        stac=str(demo.catalog),
        model=str(network),
        out=str(tmp_path / "out.zarr"),
        mask=mask,
    )
    report = run_batch(config, client=client)
    assert not report.ok
    assert "mask detector bright gave" in report.failed[0].reason


def test_time_masks_what_the_classification_calls_clear(network, client, tmp_path):
    """Haze over a part of one date of sixteen, whole and in halves of the area and of the dates."""
    rng = np.random.default_rng(3)
    surface = rng.integers(800, 2000, (20, 20)).repeat(16, 0).repeat(16, 1)
    frame = Affine(10, 0, 500_000, 0, -10, 5_200_000)
    items = []
    for at in range(16):
        day, light = dt.date(2023, 6, 1) + dt.timedelta(days=5 * at), rng.normal(1, 0.02)
        bands = {
            band: np.round(surface * light * rng.normal(1, 0.01, surface.shape)).astype(np.uint16)
            for band in ("green", "red", "nir")
        }
        if at == 8:
            for band, haze in {"green": 700, "red": 600, "nir": 350}.items():
                bands[band][140:200, 140:200] += haze
        scl = np.full((160, 160), 4, np.uint8)
        items.append(write_item(tmp_path / "images", f"day{at}", day, bands | {"scl": scl}, frame))
    generator = Generator.load(network)

    def run(name, window, written, **options):
        plan = Plan(
            grid=Grid(Lattice(32633, 10.0), window),
            scenes=tuple(scene(item) for item in items),
            written=written,
            contract=generator.contract,
            model=generator.digest,
            tiling=Tiling(generator.contract.tile, generator.contract.tile * 3 // 4),
            buffer=2,
            block=128,
            **options,
        )
        store = prepare_store(str(tmp_path / name), plan.store_spec())
        assert execute(Job(plan, generator, store), client).ok
        return stored(tmp_path / name)

    area, dates = Window(-519_900, 50_100, 128, 128), tuple(range(6, 12))
    whole = run("whole.zarr", area, dates, is_temporal=True)
    temporal = (whole["mask_source"].values & MaskSource.TEMPORAL) > 0
    hazy = temporal[2, 44:96, 44:96]
    assert hazy.mean() > 0.95
    assert temporal.sum() < 70 * 70
    assert (whole["provenance"].values[temporal] == Provenance.GENERATED).all()
    plain = run("plain.zarr", area, dates)
    assert not (plain["mask_source"].values & MaskSource.TEMPORAL).any()
    half = run("half.zarr", Window(-519_900, 50_150, 100, 60), dates[1:4], is_temporal=True)
    here, there = xr.align(half, whole, join="inner")
    assert here.sizes["x"] == 60
    cut = run("cut.zarr", area, dates, is_temporal=True, span=2)
    for name in VARIABLES:
        np.testing.assert_array_equal(here[name].values, there[name].values, err_msg=name)
        np.testing.assert_array_equal(cut[name].values, whole[name].values, err_msg=name)

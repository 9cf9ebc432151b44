"""Small inputs from the field whose fault lies in the pixels, where they are there.

The like of them is built in `test_merging`, `test_classification` and `test_removal_numbers`.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from networks import write_network

from cloudgan.distributed.worker import Job, process_unit
from cloudgan.geo.aoi import read_aoi
from cloudgan.io.store.store import prepare_store
from cloudgan.model.generator import Generator
from cloudgan.planning.planner import plan_run
from cloudgan.schema import Provenance
from cloudgan.sentinel2.dates import DateRange

xr = pytest.importorskip("xarray")
CASES = Path(__file__).parents[3] / "shared" / "cases"
BANDS = ("green", "red", "nir")


def case(name: str) -> Path:
    if not (CASES / name / "items.json").exists():
        pytest.skip(f"the inputs from the field are not at {CASES / name}")
    return CASES / name


def run(folder: Path, dates: str, out: Path, generator: Generator, reader: str):
    plan, _ = plan_run(
        read_aoi(folder / "aoi.geojson"), DateRange.parse(dates), generator, stac=str(folder / "items.json")
    )
    job = Job(plan, generator, prepare_store(str(out), plan.store_spec()), reader=reader)
    units = [process_unit(job, index) for index in range(plan.unit_count)]
    return xr.open_zarr(out, consolidated=False, mask_and_scale=False), units


@pytest.fixture(scope="module")
def by_time(tmp_path_factory):
    channels = [
        f"{source}:{band}" for source in ("target", "nearest-before", "nearest-after") for band in BANDS
    ]
    path = tmp_path_factory.mktemp("network") / "time.onnx"
    return Generator.load(write_network(path, channels=[*channels, "mask"], tile=64))


@pytest.fixture(scope="module")
def of_one_date(tmp_path_factory):
    return Generator.load(write_network(tmp_path_factory.mktemp("network") / "one.onnx", tile=64))


@pytest.mark.parametrize("reader", ["odc", "stackstac"])
def test_what_the_clear_one_of_two_images_of_a_day_shows_is_observed(tmp_path, by_time, reader):
    store, _ = run(case("two-orbits-one-day"), "2023-06-11", tmp_path / "out.zarr", by_time, reader)
    assert (store["provenance"] == Provenance.OBSERVED).all()
    means = [float(store[band].mean()) for band in BANDS]
    assert means == pytest.approx([792, 592, 2992], abs=4)


@pytest.mark.parametrize("sees_time", [True, False])
def test_numbers_beyond_what_a_sensor_gives_are_never_observed(tmp_path, by_time, of_one_date, sees_time):
    folder = case("dn-beyond-range")
    assert len(json.loads((folder / "items.json").read_text())["features"]) == 4
    generator = by_time if sees_time else of_one_date
    store, units = run(folder, "2023-06", tmp_path / "out.zarr", generator, "odc")
    date = store.sel(time="2023-06-21").squeeze()
    wanted = Provenance.GENERATED if sees_time else Provenance.UNRELIABLE
    assert (date["provenance"] == wanted).all()
    for band in BANDS:
        assert int(store[band].max()) < 16_000
        assert sees_time or not date[band].any()
    counted = sum(unit.unreliable for unit in units)
    assert counted == (0 if sees_time else np.count_nonzero(store["provenance"] == Provenance.UNRELIABLE))

"""Runs over several UTM zones, and over several fields: each piece is as if it were alone."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import shapely
import xarray as xr
import zarr
from scenes import write_border
from shapely.geometry import box, mapping

from cloudgan.cli.app import batch_main
from cloudgan.distributed.worker import Job, process_unit
from cloudgan.geo.aoi import Aoi
from cloudgan.io.lease import hold_lease
from cloudgan.io.store.ledger import UNITS
from cloudgan.io.store.store import REPORT, prepare_store
from cloudgan.model.generator import Generator
from cloudgan.planning.planner import plan_zones
from cloudgan.schema import Provenance
from cloudgan.sentinel2.dates import DateRange

VARIABLES = ("green", "red", "nir", "provenance", "mask_source", "days_before", "days_after", "uncertainty")
ACROSS = box(11.985, 45.992, 12.012, 46.006)


@pytest.fixture(scope="module")
def generator(network) -> Generator:
    """That of the command below."""
    return Generator.load(network)


@pytest.fixture(scope="module")
def border(tmp_path_factory) -> Path:
    return write_border(tmp_path_factory.mktemp("border"))


@pytest.fixture
def command(border, network, tmp_path, capsys):
    """Decloud an area of the border with the command; returns its exit code and JSON."""

    def run(area, out="out.zarr", retry_failed=False, **options):
        aoi = tmp_path / "aoi.geojson"
        aoi.write_text(json.dumps(mapping(area)))
        words = {"aoi": aoi, "dates": "2023-08", "stac": border, "model": network, "workers": 1}
        words |= {"out": tmp_path / out} | options
        arguments = [str(word) for name, value in words.items() for word in (f"--{name}", value)]
        with pytest.raises(SystemExit) as end:
            batch_main([*arguments, *["--retry-failed"] * retry_failed, "--json"])
        said = capsys.readouterr()
        return int(end.value.code or 0), said.out and json.loads(said.out), said.err

    return run


def written(plan, generator, out) -> xr.Dataset:
    """The raw numbers of a store that all units of a plan have written, in this process."""
    job = Job(plan, generator, prepare_store(str(out), plan.store_spec()))
    for unit in plan.units():
        process_unit(job, unit.index)
    job.store.finish({"missing_items": []})
    return xr.open_zarr(out, mask_and_scale=False)[list(VARIABLES)].load().drop_attrs()


def planned(border, generator, area, **options):
    plans, _ = plan_zones(Aoi(area), DateRange.parse("2023-08"), generator, stac=str(border), **options)
    return plans


def assert_common_pixels_are_equal(whole: xr.Dataset, part: xr.Dataset) -> None:
    """Bit for bit, at the coordinates of the part."""
    xr.testing.assert_identical(
        whole.sel(x=part.x, y=part.y).drop_vars("item_ids"), part.drop_vars("item_ids")
    )


def test_each_zone_gets_a_group_as_if_it_were_alone(command, border, generator, tmp_path):
    code, answer, _ = command(ACROSS)
    assert code == 0
    assert list(answer["plan"]["zones"]) == list(answer["report"]["zones"]) == ["utm32n", "utm33n"]
    for name, west, east, epsg in (("utm32n", 11.985, 12, 32632), ("utm33n", 12, 12.012, 32633)):
        group = xr.open_zarr(tmp_path / "out.zarr", group=name, mask_and_scale=False)
        assert group.attrs["proj:code"] == f"EPSG:{epsg}"
        half = box(west, 45.992, east, 46.006)
        alone = written(planned(border, generator, half)[""], generator, tmp_path / f"{name}.zarr")
        xr.testing.assert_identical(group[list(VARIABLES)].load().drop_attrs(), alone)
        assert (alone["provenance"] == Provenance.GENERATED).any()
    tree = xr.open_datatree(tmp_path / "out.zarr", engine="zarr")
    assert set(tree.children) >= {"utm32n", "utm33n"}


def test_a_rerun_over_zones_has_nothing_to_do_and_other_settings_are_refused(command):
    assert command(ACROSS)[0] == 0
    code, answer, errors = command(ACROSS)
    assert code == 0
    assert "dashboard" not in errors  # there is nothing to do, and nobody was started to do it
    assert [report["skipped"] for report in answer["report"]["zones"].values()] == [1, 1]
    west = box(11.985, 45.992, 12, 46.006)
    code, _, errors = command(west)
    assert code == 2
    assert "was made with other settings" in errors
    assert "zones" in errors
    assert command(ACROSS, resolution=20)[0] == 2


def test_failed_units_are_retried_in_each_zone(command, tmp_path):
    code, _, errors = command(ACROSS, retry_failed=True)
    assert (code, "utm32n has no failed units yet: run without --retry-failed first" in errors) == (2, True)
    assert not (tmp_path / "out.zarr").exists()
    assert command(ACROSS)[0] == 0
    for name, failed in (("utm32n", []), ("utm33n", [{"unit": 0}])):
        group = tmp_path / "out.zarr" / name
        (group / REPORT).write_text(json.dumps({"failed": failed, "missing_items": []}))
        zarr.open_array(group, path=UNITS)[0] = ""
    code, answer, errors = command(ACROSS, retry_failed=True)
    assert code == 1  # for a unit that nobody named is still pending
    assert "1 of 1 units are not done; run the same command without --retry-failed" in errors
    assert [report["done"] for report in answer["report"]["zones"].values()] == [0, 1]
    assert [report["done"] for report in command(ACROSS)[1]["report"]["zones"].values()] == [1, 0]


def test_a_second_run_over_the_same_zones_is_refused(command, tmp_path):
    with hold_lease(str(tmp_path / "out.zarr")):
        code, _, errors = command(ACROSS)
    assert code == 2
    assert f"another run is writing {tmp_path / 'out.zarr'} (process " in errors
    assert command(ACROSS)[0] == 0
    assert not list(tmp_path.rglob("*.lease"))


@pytest.mark.parametrize("block", [64, 512])
@pytest.mark.parametrize("clip", [False, True])
def test_each_field_of_many_is_as_if_it_were_alone(border, generator, tmp_path, block, clip):
    fields = [box(11.982, 45.99, 11.985, 45.992), box(11.994, 45.999, 11.997, 46.004)]
    (plan,) = planned(border, generator, shapely.union_all(fields), clip=clip).values()
    plan = replace(plan, block=block)
    whole = written(plan, generator, tmp_path / "whole.zarr")
    covered = np.zeros(plan.grid.shape, bool)
    for number, field in enumerate(fields):
        (one,) = planned(border, generator, field, clip=clip).values()
        alone = written(one, generator, tmp_path / f"{number}.zarr")
        assert_common_pixels_are_equal(whole, alone)
        covered[one.grid.window.slices_in(plan.grid.window)] = True
        assert (alone["provenance"] > 0).mean() > 0.8
    nothing = whole.isel(time=0).to_array().values[:, ~covered]
    assert (~covered).mean() > 0.5
    assert (nothing == np.array([0, 0, 0, 0, 128, 65535, 65535, 65535])[:, None]).all()


def test_blocks_without_a_field_are_no_units(border, generator):
    fields = [box(11.982, 45.988, 11.983, 45.989), box(11.997, 46.003, 11.998, 46.009)]
    (plan,) = planned(border, generator, shapely.union_all(fields)).values()
    small = replace(plan, block=16)
    height, width = small.grid.shape
    assert small.unit_count < 0.3 * -(-height // 16) * -(-width // 16)


def test_a_hole_is_cut_out_where_the_area_is_clipped(border, generator, tmp_path):
    hole = box(11.985, 45.995, 11.988, 45.998)
    (plan,) = planned(border, generator, box(11.982, 45.99, 11.994, 46.004) - hole, clip=True).values()
    store = written(plan, generator, tmp_path / "out.zarr")
    (inner,) = planned(border, generator, hole).values()
    rows, cols = inner.grid.window.slices_in(plan.grid.window)
    nothing = store["provenance"].values == 0
    assert nothing[:, rows, cols][:, 3:-3, 3:-3].all()
    assert nothing.mean() < 0.2


def test_one_pixel_is_an_area(border, generator, tmp_path):
    whole = written(
        planned(border, generator, box(11.98, 45.99, 11.99, 46.0))[""], generator, tmp_path / "w.zarr"
    )
    plan = planned(border, generator, box(11.9851, 45.9951, 11.98511, 45.99511))[""]
    assert plan.grid.shape in ((1, 1), (1, 2), (2, 1), (2, 2))
    assert_common_pixels_are_equal(whole, written(plan, generator, tmp_path / "pixel.zarr"))

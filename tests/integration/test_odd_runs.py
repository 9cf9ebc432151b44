"""Runs over odd items and odd places, from the configuration to the store."""

import json

import numpy as np
import pytest
import xarray as xr
from granules import EDGE, FIELD, LEVELS, save, write_granule, write_image
from shapely.geometry import mapping

from cloudgan.batch import run_batch
from cloudgan.cli.app import batch_main
from cloudgan.config import BatchConfig
from cloudgan.io.store.store import read_about


@pytest.fixture
def config(tmp_path, network64):
    """The configuration of a run over these items."""

    def make(*items, folder=tmp_path, **options):
        (folder / "field.geojson").write_text(json.dumps(mapping(FIELD)))
        return BatchConfig(
            aoi=str(folder / "field.geojson"),
            dates="2023-06",
            stac=save(folder, *items),
            out=str(tmp_path / "out.zarr"),
            model=str(network64),
            **options,
        )

    return make


def empty(tmp_path, day):
    """A granule whose files hold nothing here."""
    item = write_granule(tmp_path, day)
    for band in (*LEVELS, "scl"):
        edge = EDGE // 2 if band == "scl" else EDGE
        kind = np.uint8 if band == "scl" else np.uint16
        metres = 20 if band == "scl" else 10
        write_image(tmp_path / item["assets"][band]["href"], np.zeros((edge, edge), kind), metres=metres)
    return item


def test_a_run_that_finds_nothing_says_why(tmp_path, config, client):
    asked = config(empty(tmp_path, "2023-06-11"))
    for _ in range(2):  # a rerun does nothing, and says the same
        report = run_batch(asked, client=client)
        assert not report.ok
        reason = report.zones[""].empty
        assert "nothing was observed and nothing generated: the 1 items found hold no usable pixel" in reason
        assert "S2A_33UWP_20230611_0_L2A" in reason
        assert report.as_json()["report"]["empty"] == reason
    assert read_about(asked.out)["run"]["empty"] == reason


def test_one_date_with_data_is_enough(tmp_path, config, client):
    asked = config(empty(tmp_path, "2023-06-11"), write_granule(tmp_path, "2023-06-21"))
    report = run_batch(asked, client=client)
    assert report.ok
    assert report.zones[""].empty is None


def test_an_item_that_was_left_out_is_in_the_report_and_in_the_store(tmp_path, config, client):
    odd = write_granule(tmp_path, "2023-06-11")
    del odd["assets"]["red"]
    report = run_batch(config(odd, write_granule(tmp_path, "2023-06-21")), client=client).as_json()
    assert any(f"left out: item {odd['id']} has no band red" in each for each in report["warnings"])
    assert [one["id"] for one in report["plan"]["left_out"]] == [odd["id"]]
    store = xr.open_zarr(tmp_path / "out.zarr")
    assert read_about(str(tmp_path / "out.zarr"))["left_out"] == report["plan"]["left_out"]
    assert store.sizes["time"] == 1


@pytest.mark.parametrize("reader", ["odc", "stackstac"])
@pytest.mark.parametrize("name", ["a b", "a#1", "a?1", "a%20b", "50%", "ä", "a&b=c", "a:b"])
def test_folders_of_any_name(tmp_path, config, client, name, reader):
    folder = tmp_path / name
    folder.mkdir()
    items = [write_granule(folder, day) for day in ("2023-06-11", "2023-06-21")]
    for asset in items[1]["assets"].values():  # by an address, as some tools write it
        asset["href"] = (folder / asset["href"]).as_uri()
    report = run_batch(config(*items, folder=folder, reader=reader), client=client)
    assert report.ok
    store = xr.open_zarr(tmp_path / "out.zarr")
    assert np.isclose(np.median(store["red"], axis=(1, 2)), 0.0592, atol=0.002).all()


def test_a_file_in_another_crs_fails_its_unit_by_name(tmp_path, config, client):
    item = write_granule(tmp_path, "2023-06-11")
    for band in LEVELS:
        image = np.full((EDGE, EDGE), LEVELS[band], np.uint16)
        write_image(tmp_path / item["assets"][band]["href"], image, epsg=32632)
    report = run_batch(config(item, write_granule(tmp_path, "2023-06-21")), client=client)
    assert not report.ok
    (failed,) = report.failed
    assert failed.reason.startswith(
        f"item {item['id']} contradicts its file of band green: it is in EPSG:32632"
    )


def test_the_command_ends_with_1_where_there_is_nothing(tmp_path, config, capsys):
    asked = config(empty(tmp_path, "2023-06-11"))
    flags = [f"--{name}={getattr(asked, name)}" for name in ("aoi", "dates", "stac", "out", "model")]
    with pytest.raises(SystemExit) as end:
        batch_main([*flags, "--workers=1", "--json"])
    said = capsys.readouterr()
    assert end.value.code == 1
    assert "nothing was observed and nothing generated" in said.err
    assert "nothing was observed" in json.loads(said.out)["report"]["empty"]

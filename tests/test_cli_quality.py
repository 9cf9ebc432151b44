"""The commands that evaluate and describe, as a user meets them."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import xarray as xr
from networks import write_network
from scenes import write_border
from shapely.geometry import box

from cloudgan.cli.app import evaluate_main, main
from cloudgan.distributed.worker import Job, process_unit
from cloudgan.geo.aoi import Aoi, read_aoi
from cloudgan.io.store.store import prepare_store
from cloudgan.io.store.zones import Zones
from cloudgan.model.generator import Generator
from cloudgan.planning.planner import plan_run, plan_zones
from cloudgan.sentinel2.bands import BAND_SETS
from cloudgan.sentinel2.dates import DateRange


@pytest.fixture
def ask(capsys):
    """Give a command its words; returns the exit code, stdout and stderr."""

    def run(command, *words) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as end:
            command([str(word) for word in words])
        said = capsys.readouterr()
        return int(end.value.code or 0), said.out, said.err

    return run


def test_info_prints_the_card_of_a_model_that_ships(ask):
    code, out, _ = ask(main, "info", "temporal")
    assert code == 0
    for word in (
        "temporal",
        "target:green",
        "before-1:days",
        "green, red, nir, and its uncertainty",
        "256 pixels",
        "33TWM-west",
        "flanders-b",
        "sha256",
    ):
        assert word in out


def test_info_as_json_is_the_contract(ask, network):
    code, out, _ = ask(main, "info", network, "--json")
    card = json.loads(out)
    assert code == 0
    assert (card["name"], card["version"], card["tile"]) == ("mean", "1", 32)
    assert card["bytes"] == network.stat().st_size
    assert len(card["sha256"]) == 64


@pytest.mark.parametrize("model", ["nosuch", __file__])
def test_info_of_what_is_no_model_is_one_sentence(ask, model):
    code, out, err = ask(main, "info", model)
    assert (code, out) == (2, "")
    assert err.count("error:") == 1
    assert model in err


def written_store(demo, network, out):
    """A store over the demonstration's farm, half of whose units are done."""
    generator = Generator.load(network)
    plan, _ = plan_run(read_aoi(demo.aoi), DateRange.parse("2020-05"), generator, stac=str(demo.catalog))
    plan = replace(plan, block=512)
    job = Job(plan, generator, prepare_store(str(out), plan.store_spec()))
    process_unit(job, 0)
    return plan


def test_info_describes_a_store(ask, demo, network, tmp_path):
    out = tmp_path / "out.zarr"
    plan = written_store(demo, network, out)
    code, printed, _ = ask(main, "info", out, "--json")
    found = json.loads(printed)
    assert code == 0
    assert (found["crs"], found["resolution"], found["model"]["name"]) == ("EPSG:32633", 10, "mean")
    assert found["dates"] == ["2020-05-05", "2020-05-10", "2020-05-15", "2020-05-20"]
    assert found["shape"] == [4, *plan.grid.shape]
    assert found["units"] == {"total": plan.unit_count, "done": 1, "without_assets": 0}
    assert {"green", "red", "nir", "provenance", "uncertainty"} <= set(found["variables"])
    west, south, east, north = found["bounds"]
    assert 16.4 < west < east < 16.6
    assert 48.4 < south < north < 48.6
    shares = xr.open_zarr(out, mask_and_scale=False, consolidated=False)["provenance"].values
    assert found["provenance"]["generated"] == pytest.approx((shares == 2).mean(), abs=1e-4)
    code, printed, _ = ask(main, "info", out)
    assert code == 0
    assert f"1 of {plan.unit_count} done" in printed
    assert "4, 2020-05-05 to 2020-05-20" in printed
    assert "% generated" in printed


def test_info_describes_each_zone_of_a_store(ask, network, tmp_path):
    border = write_border(tmp_path)
    area = Aoi(box(11.998, 45.999, 12.002, 46.001))
    generator, out = Generator.load(network), str(tmp_path / "out.zarr")
    plans, _ = plan_zones(area, DateRange.parse("2023-08"), generator, stac=str(border))
    zones = Zones.of(out, plans)
    with zones.hold():
        for name, plan in plans.items():
            prepare_store(zones.at(name), plan.store_spec())
    code, printed, _ = ask(main, "info", out, "--json")
    assert code == 0
    found = json.loads(printed)["zones"]
    assert {name: zone["crs"] for name, zone in found.items()} == {
        "utm32n": "EPSG:32632",
        "utm33n": "EPSG:32633",
    }
    assert found["utm33n"]["units"]["done"] == 0
    assert "utm33n" in ask(main, "info", out)[1]


def test_info_of_a_folder_that_is_no_store_is_one_sentence(ask, tmp_path):
    (tmp_path / "cat.jpg").write_bytes(b"meow")
    code, out, err = ask(main, "info", tmp_path)
    assert (code, out) == (2, "")
    assert "is no store of cloudgan's" in err


def test_info_describes_a_catalogue_in_files(ask, demo, tmp_path):
    code, out, _ = ask(main, "info", demo.catalog, "--json")
    assert code == 0
    found = json.loads(out)
    assert (found["kind"], found["items"], found["unreadable"]) == ("files", 9, 0)
    assert found["dates"] == ["2020-05-05", "2020-05-20"]
    assert found["collections"] == ["sentinel-2-l2a"]
    assert found["mgrs_tiles"] == ["33UWP", "33UXP"]
    assert found["bands"].keys() == {*BAND_SETS["all"], "scl"}
    assert set(found["bands"].values()) == {9}
    folder = tmp_path / "some"
    folder.mkdir()
    collection = {"type": "FeatureCollection", "features": [{"type": "Feature", "id": "no item"}]}
    (folder / "items.json").write_text(json.dumps(collection))
    printed = ask(main, "info", folder / "items.json")[1]
    assert "0, and 1 features that are none" in printed


def test_info_of_a_catalogue_that_is_none_is_one_sentence(ask, tmp_path):
    (tmp_path / "cat.json").write_text("{}")
    code, out, err = ask(main, "info", tmp_path / "cat.json")
    assert (code, out) == (2, "")
    assert "cat.json" in err


def test_evaluate_scores_on_a_static_catalogue(ask, demo, network):
    words = [network, "linear", "aligned-linear", demo.catalog, "--dates", "1", "--case", "composited"]
    code, out, _ = ask(evaluate_main, *words, "--json")
    found = json.loads(out)
    (entry,) = found["summary"]
    assert code == 0
    assert set(entry["methods"]) == {str(network), "linear", "aligned linear"}
    assert entry["pixels"] > 1000
    assert entry["methods"]["linear"]["psnr"] > entry["methods"][str(network)]["psnr"] + 10
    assert {row["by"] for row in found["by"]} == {"age", "depth", "thickness"}
    assert json.loads(ask(evaluate_main, *words, "--json")[1]) == found

    code, out, _ = ask(main, "evaluate", *words)
    assert code == 0
    assert "aligned linear" in out
    assert f"{entry['pixels']:,} pixels" in out


def trained_on(folder, region: str):
    """A generator whose card says that it was trained on a region."""
    contract = {
        "format": 1, "name": "mean", "version": "1", "planes": ["cloudy:green"], "tile": 32,
        "bands": ["green", "red", "nir"], "training": {"data": {"train": {region: {}}}},
    }  # fmt: skip
    return write_network(folder / "trained.onnx", channels=["cloudy:green"], contract=contract)


def test_regions_that_a_model_was_trained_on_are_left_out(ask, demo, tmp_path):
    region = "33UXP"
    model = trained_on(tmp_path, region)
    code, _, err = ask(evaluate_main, model, demo.catalog)
    assert code == 2
    assert f"trained on every region of the data ({region})" in err


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ((), "Missing argument"),
        (("linear",), "give a model or a baseline, and then the data"),
        (("linear", "nowhere"), "no imagery at nowhere"),
        (("linear", "CATALOG", "--case", "simulated"), "--case simulated is unknown"),
        (("linear", "CATALOG", "--region", "atlantis"), "no region atlantis in the data; there are 33U"),
        (("nosuch", "CATALOG"), "no model file at nosuch"),
        (("linear", "EMPTY"), "nor a Zarr store; give one of them"),
    ],
)
def test_what_cannot_be_evaluated_is_one_sentence(ask, demo, tmp_path, words, reason):
    places = {"CATALOG": demo.catalog, "EMPTY": tmp_path}
    code, out, err = ask(evaluate_main, *(places.get(word, word) for word in words))
    assert (code, out) == (2, "")
    assert reason in err


def test_baselines_are_evaluated_on_the_real_series(ask, real_scenes):
    series = real_scenes.parents[1] / "series-flanders-b-l2a-10m.nc"
    code, out, _ = ask(evaluate_main, "linear", "median", series, "--dates", "2", "--json")
    found = json.loads(out)
    assert code == 0
    assert {entry["kind"] for entry in found["summary"]} >= {"composited", "fully masked"}
    assert {entry["region"] for entry in found["summary"]} == {"flanders-b"}
    for entry in found["summary"]:
        assert 10 < entry["methods"]["linear"]["psnr"] < 50

"""The commands that judge, as a user meets them."""

from __future__ import annotations

import json

import pytest
from networks import write_network

from cloudgan.cli.app import evaluate_main, main


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
        "cloudy:green",
        "earlier:age",
        "green, red, nir, its own error",
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


def test_evaluate_judges_a_static_catalogue(ask, demo, network):
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
    """A generator whose card says that it learned from a region."""
    contract = {
        "format": 1, "name": "mean", "version": "1", "planes": ["cloudy:green"], "tile": 32,
        "bands": ["green", "red", "nir"], "training": {"data": {"train": {region: {}}}},
    }  # fmt: skip
    return write_network(folder / "trained.onnx", channels=["cloudy:green"], contract=contract)


def test_ground_that_a_model_learned_from_is_left_out(ask, demo, tmp_path):
    region = "33UXP"
    model = trained_on(tmp_path, region)
    code, _, err = ask(evaluate_main, model, demo.catalog)
    assert code == 2
    assert f"learned from every region of the data ({region})" in err


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ((), "Missing argument"),
        (("linear",), "give a model or a baseline, and then the data"),
        (("linear", "nowhere"), "no imagery at nowhere"),
        (("linear", "CATALOG", "--case", "simulated"), "--case simulated is unknown"),
        (("linear", "CATALOG", "--region", "atlantis"), "no region atlantis in the data; there are 33U"),
        (("nosuch", "CATALOG"), "no model file at nosuch"),
        (("linear", "EMPTY"), "holds neither series-*.nc"),
    ],
)
def test_what_cannot_be_judged_is_one_sentence(ask, demo, tmp_path, words, reason):
    places = {"CATALOG": demo.catalog, "EMPTY": tmp_path}
    code, out, err = ask(evaluate_main, *(places.get(word, word) for word in words))
    assert (code, out) == (2, "")
    assert reason in err


def test_the_real_series_is_judged_by_a_baseline(ask, real_scenes):
    series = real_scenes.parents[1] / "series-flanders-b-l2a-10m.nc"
    code, out, _ = ask(evaluate_main, "linear", "median", series, "--dates", "2", "--json")
    found = json.loads(out)
    assert code == 0
    assert {entry["kind"] for entry in found["summary"]} >= {"composited", "fully masked"}
    assert {entry["region"] for entry in found["summary"]} == {"flanders-b"}
    for entry in found["summary"]:
        assert 10 < entry["methods"]["linear"]["psnr"] < 50

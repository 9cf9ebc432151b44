"""The command as a user meets it: what it says, where it says it, and how it ends."""

from __future__ import annotations

import datetime as dt
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from networks import write_detector, write_network
from shapely.geometry import box, mapping

import cloudgan
from cloudgan.cli.app import batch_main, main
from cloudgan.config import BatchConfig
from cloudgan.geo.aoi import read_aoi


@pytest.fixture
def ask(demo, network, tmp_path, capsys):
    """Give the command, with a word that is right for each option that is not given here."""

    def run(*flags: str, **options: object) -> tuple[int, str, str]:
        words = {"aoi": demo.aoi, "dates": "2020-05", "stac": demo.catalog, "model": network}
        words |= {"out": tmp_path / "out.zarr"} | options
        arguments = [
            str(word) for name, value in words.items() for word in (f"--{name.replace('_', '-')}", value)
        ]
        with pytest.raises(SystemExit) as end:
            batch_main([*arguments, *flags])
        said = capsys.readouterr()
        return int(end.value.code or 0), said.out, said.err

    return run


def geojson(folder: Path, content: object) -> Path:
    path = folder / "aoi.geojson"
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


SQUARE = [[16.45, 48.6], [16.5, 48.6], [16.5, 48.65], [16.45, 48.65], [16.45, 48.6]]
BAD_AOI = {
    "not JSON": ("POLYGON ((0 0, 1 1))", "is not JSON"),
    "JSON, but no GeoJSON": ([1, 2, 3], "is JSON but no GeoJSON"),
    "a point": ({"type": "Point", "coordinates": [16.4, 48.6]}, "holds a Point, and an area needs polygons"),
    "no feature": ({"type": "FeatureCollection", "features": []}, "holds no polygon"),
    "no coordinates": ({"type": "Polygon", "coordinates": []}, "holds no polygon"),
    "latitude first": (mapping(box(48.6, 160, 48.7, 190)), "outside \\+-180 and \\+-90 degrees"),
    "metres": (mapping(box(605000, 5376000, 606000, 5377000)), "reproject it to EPSG:4326"),
    "the pole": (mapping(box(10, 83, 20, 90)), "mapped from -80 to 84; leave out what lies beyond"),
    "another CRS": (
        {
            "type": "Polygon",
            "coordinates": [SQUARE],
            "crs": {"properties": {"name": "urn:ogc:def:crs:EPSG::3857"}},
        },
        "is in urn:ogc:def:crs:EPSG::3857",
    ),
}


@pytest.mark.parametrize(("content", "reason"), BAD_AOI.values(), ids=BAD_AOI)
def test_an_unusable_area_is_named(ask, tmp_path, content, reason):
    refused(ask(aoi=geojson(tmp_path, content)), reason)


def test_an_area_that_is_not_there_is_named(ask, tmp_path):
    refused(
        ask(aoi=tmp_path / "nowhere.geojson"),
        "nowhere.geojson cannot be read .*; give the path of a GeoJSON file",
    )


BAD_OPTIONS = {
    "dates the wrong way round": ({"dates": "2020-07/2020-04"}, "2020-07/2020-04"),
    "dates nobody can read": ({"dates": "last spring"}, "last spring"),
    "dates without a beginning": ({"dates": "../2020-05-01"}, "\\.\\./2020-05-01"),
    "a month without items": ({"dates": "2021-02"}, "no items for 2021-02"),
    "too few clouds allowed": ({"max_cloud_cover": 0}, "without the limit"),
    "no such percentage": ({"max_cloud_cover": 120}, "is not between 0 and 100; give 100, say"),
    "an unknown reader": ({"reader": "gdal"}, "--reader gdal is unknown; give rasterio, odc or stackstac"),
    "too little memory": (
        {"memory": "300MB"},
        "cannot hold one work unit of 268 x 512 .*give --memory",
    ),
    "memory that is no size": ({"memory": "plenty"}, "--memory plenty is no size; give one such as 4GB"),
    "pixels without size": ({"resolution": 0}, "--resolution 0 "),
    "nobody to work": ({"workers": 0}, "--workers 0 is below 1; give 1 or more"),
    "another collection": ({"collection": "landsat-c2-l2"}, "landsat-c2-l2"),
    "no such model": ({"model": "nowhere.onnx"}, "no model file at nowhere.onnx"),
    "no such catalogue": ({"stac": "nowhere/catalog.json"}, "nowhere/catalog.json"),
    "no such job": ({"job": "nowhere.toml"}, "the job file nowhere.toml cannot be read"),
}


@pytest.mark.parametrize(("options", "reason"), BAD_OPTIONS.values(), ids=BAD_OPTIONS)
def test_an_unusable_option_is_named(ask, options, reason):
    refused(ask(**options), reason)


def test_what_must_be_given_is_asked_for(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as end:
        batch_main(["--out", "out.zarr"])
    refused((end.value.code, "", capsys.readouterr().err), "--aoi and --dates must be given")
    assert list(tmp_path.iterdir()) == []


def test_a_model_of_another_make_is_refused(ask, tmp_path):
    foreign = write_network(tmp_path / "foreign.onnx", contract=None)
    refused(ask(model=foreign), "foreign.onnx is an ONNX model without a cloudgan contract")


def test_a_model_cut_short_is_refused(ask, network, tmp_path):
    short = tmp_path / "short.onnx"
    short.write_bytes(network.read_bytes()[:200])
    refused(ask(model=short), "short.onnx is not a readable ONNX model")


def test_a_model_that_wants_a_band_that_is_not_there_is_refused(ask, tmp_path):
    greedy = write_network(tmp_path / "greedy.onnx", channels=["target:coastal"])
    refused(ask(model=greedy), "has no band coastal")


def test_a_catalogue_that_is_none_is_refused(ask, tmp_path):
    page = tmp_path / "catalog.json"
    page.write_text("<html>login</html>")
    refused(ask(stac=page), "catalog.json")


def test_a_folder_of_somebody_elses_is_left_alone(ask, tmp_path):
    theirs = tmp_path / "photos"
    theirs.mkdir()
    (theirs / "cat.jpg").write_bytes(b"meow")
    for flags in ([], ["--overwrite"]):
        refused(ask(*flags, out=theirs), "photos exists and is no store of cloudgan's; give another --out")
    assert [path.name for path in theirs.iterdir()] == ["cat.jpg"]


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        (["--mask", "fmask"], "--mask fmask is unknown; give scl, csmask, temporal, an ONNX file, or none"),
        (["--mask", "scl,none"], "--mask none trusts no mask"),
        (["--mask", "scl", "--mask", "gone.onnx"], "no mask detector at gone.onnx"),
        (["--mask", ","], "--mask names nothing"),
        (["--snow", "melt"], "--snow"),
    ],
)
def test_masks_that_cannot_be_taken_are_refused(ask, flags, reason):
    refused(ask("--plan", *flags), reason)


def test_a_detector_of_another_contract_is_refused(ask, network):
    refused(ask("--plan", mask=f"scl,{network}"), "without the contract of a mask detector")


def test_csmask_without_its_package_is_refused(ask, monkeypatch):
    monkeypatch.setattr("cloudgan.masks.detector.find_spec", lambda name: None)
    refused(ask("--plan", mask="csmask"), r"csmask is not installed; pip install 'cloudgan\[masks\]'")


def refused(end: tuple[object, str, str], reason: str) -> None:
    """It ended with 2, in one sentence on stderr, with nothing on stdout and nothing written."""
    code, out, err = end
    assert code == 2, err
    assert out == ""
    assert "Traceback" not in err
    sentence = err.strip().splitlines()[-1]
    assert sentence.startswith("error: ")
    assert re.search(reason, sentence), sentence


@pytest.fixture(autouse=True)
def nothing_half_written(tmp_path):
    """No test here gets as far as a store."""
    yield
    assert not (tmp_path / "out.zarr").exists()


# What goes well


def test_masks_are_named_in_the_plan_in_a_row_or_one_by_one(ask, tmp_path):
    path = str(write_detector(tmp_path / "bright.onnx"))
    plans = [
        json.loads(ask("--plan", "--json", *flags)[1])
        for flags in (["--mask", f"scl,{path}"], ["--mask", "scl", "--mask", path])
    ]
    assert all(plan.pop("work") for plan in plans)  # it is measured
    assert plans[0] == plans[1]
    assert plans[0]["mask"] == ["scl", "bright 1"]
    assert plans[0]["bands"] == ["green", "red", "nir"]


def test_a_plan_is_printed_and_nothing_is_written(ask):
    code, out, err = ask("--plan")
    assert (code, out) == (0, "")
    for words in ("4, 2020-05-05 to 2020-05-20", "8, baselines 05.00", "EPSG:32633", "memory of a unit"):
        assert words in err


def test_a_plan_is_json_where_json_is_asked_for(ask):
    code, out, _ = ask("--plan", "--json")
    plan = json.loads(out)
    assert code == 0
    assert plan["dates"] == ["2020-05-05", "2020-05-10", "2020-05-15", "2020-05-20"]
    assert plan["units"] == 1
    assert plan["duplicates"] == ["S2B_33UXP_20200510_0_L2A"]


def test_a_plan_says_core_hours_and_at_a_price_what_they_cost(ask):
    work = json.loads(ask("--plan", "--json")[1])["work"]
    assert 0 < work["core_hours_generating"] < work["core_hours"]
    assert 0 < work["seconds_of_tile"] < 10
    assert "cost" not in work
    priced = json.loads(ask("--plan", "--json", "--price", "1000")[1])["work"]
    assert priced["cost"] == pytest.approx(1000 * priced["core_hours"], abs=0.1)
    code, _, err = ask("--plan", "--price", "1000")
    assert code == 0
    said = r"core hours +some [\d.]+, of them [\d.]+ generating.* at the price given"
    assert re.search(said, err, re.DOTALL)


def test_events_are_json_lines(ask):
    code, out, err = ask("--plan", "--log", "json")
    assert (code, out) == (0, "")
    events = [json.loads(line) for line in err.splitlines()]
    assert [event["event"] for event in events] == ["warning", "planned"]
    assert "boa_offset_applied" in events[0]["message"]
    assert events[1]["plan"]["units"] == 1
    assert events[1]["work"]["core_hours"] > 0
    assert dt.datetime.fromisoformat(events[1]["time"]).utcoffset() == dt.timedelta(0)


def test_an_error_is_an_event_too(ask):
    code, _, err = ask("--plan", "--log", "json", dates="2020-13")
    (event,) = [json.loads(line) for line in err.splitlines()]
    assert (code, event["event"]) == (2, "error")
    assert "2020-13" in event["message"]


def test_an_area_that_crosses_itself_is_mended_with_a_word(ask, demo, tmp_path):
    west, south, east, north = read_aoi(demo.aoi).geometry.bounds
    bow = [[west, south], [east, north], [east, south], [west, north], [west, south]]
    code, _, err = ask("--plan", aoi=geojson(tmp_path, {"type": "Polygon", "coordinates": [bow]}))
    assert code == 0
    assert "aoi.geojson crosses itself and was repaired; check its outline" in err


def test_flags_override_the_job_file(ask, demo, tmp_path):
    job = tmp_path / "job.toml"
    job.write_text('dates = "2019-01"\nmax-cloud-cover = 20\n')
    code, out, _ = ask("--plan", "--json", job=job)
    assert code == 0
    assert json.loads(out)["dates"] == ["2020-05-05", "2020-05-10"]


def test_both_commands_are_one(capsys):
    for call, words in ((batch_main, ["--help"]), (main, ["batch", "--help"])):
        with pytest.raises(SystemExit) as end:
            call(words)
        assert end.value.code == 0
        said = " ".join(capsys.readouterr().out.split())
        assert "A rerun of the same command does only what is missing" in said


def test_the_help_shows_every_default_on_one_screen(capsys):
    with pytest.raises(SystemExit):
        batch_main(["--help"])
    said = capsys.readouterr().out
    words = "".join(said.split())  # lines are broken at blanks and hyphens
    for name, field in BatchConfig.model_fields.items():
        assert f"--{name.replace('_', '-')}" in words
        described = field.description
        if not (field.is_required() or field.default is None or isinstance(field.default, bool)):
            described += f" [default: {field.default}]"
        assert "".join(described.split()) in words
    assert "Example: cloudgan-batch --aoi" in said
    assert len(said.splitlines()) <= 80


def test_the_commands_are_listed_in_the_order_of_their_use(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    said = capsys.readouterr().out
    names = [line.split()[0] for line in said.partition("Commands:\n")[2].splitlines()[:5]]
    assert names == ["demo", "batch", "evaluate", "train", "export"]
    assert "--install-completion" in said
    assert "..." not in said.partition("Commands:")[2]


def test_the_version_is_printed(capsys):
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out == f"cloudgan {cloudgan.__version__}\n"


@pytest.mark.parametrize("out", ["loop", "loop/out.zarr", "a" * 300])
def test_an_output_that_no_path_leads_to_is_refused_in_one_sentence(out, ask, tmp_path):
    (tmp_path / "loop").symlink_to("loop")
    code, said, errors = ask("--plan", out=tmp_path / out)
    assert (code, said) == (2, "")
    assert re.search(r"error: .*(loop|aaa)\S* cannot be used \(.*\); give an --out that can be", errors)
    assert len([line for line in errors.splitlines() if line.startswith("error: ")]) == 1


@pytest.mark.parametrize("name", ["aoi", "stac", "model", "out"])
def test_a_path_too_long_in_a_job_file_is_refused_in_one_sentence(name, demo, network, tmp_path, capsys):
    values = {"aoi": demo.aoi, "dates": "2020-05", "stac": demo.catalog, "model": network}
    values |= {"out": tmp_path / "out.zarr"} | {name: "a" * 300 + ".json"}
    job = tmp_path / "job.toml"
    job.write_text("".join(f'{key} = "{value}"\n' for key, value in values.items()))
    with pytest.raises(SystemExit) as end:
        batch_main(["--job", str(job), "--plan"])
    said = capsys.readouterr()
    assert (end.value.code, said.out) == (2, "")
    (error,) = [line for line in said.err.splitlines() if "error: " in line]
    assert "aaa" in error


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's device that is always full")
@pytest.mark.parametrize("words", [["--version"], ["info", "temporal"], ["-h"]])
def test_a_full_standard_output_is_named_in_one_sentence(words):
    with Path("/dev/full").open("w") as full:
        call = [sys.executable, "-m", "cloudgan.cli.app", *words]
        done = subprocess.run(call, stdout=full, stderr=subprocess.PIPE, text=True, timeout=100, check=False)
    assert done.returncode == 2
    assert done.stderr == "error: standard output cannot be written (No space left on device); make room\n"

"""The batch command with `--quiet`: warnings and errors, and no word of what is as it should be."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

WORDS = ("--dates", "2020-05-05", "--context-days", "5", "--workers", "1", "--model")


def run(folder: Path, network: Path, *more: str) -> subprocess.CompletedProcess[str]:
    call = [sys.executable, "-m", "cloudgan.cli.app", "batch", "--aoi", str(folder / "field.geojson")]
    call += ["--stac", str(folder / "catalog.json"), *WORDS, str(network), *more]
    return subprocess.run(call, capture_output=True, text=True, timeout=300, check=False)


@pytest.fixture
def folder(demo, tmp_path) -> Path:
    """A copy of the catalogue, to be damaged."""
    return Path(shutil.copytree(demo.catalog.parent, tmp_path / "demo"))


def without_notes(text: str) -> list[str]:
    """The demonstration's items contradict themselves about the BOA offset, which is a warning."""
    return [line for line in text.splitlines() if not line.startswith("note: earthsearch:boa_offset_applied")]


def test_a_run_that_is_well_says_nothing(folder, network64, tmp_path):
    done = run(folder, network64, "--quiet", "--out", str(tmp_path / "out.zarr"))
    assert (done.returncode, done.stdout, without_notes(done.stderr)) == (0, "", [])
    again = run(folder, network64, "--quiet", "--json", "--log", "json", "--out", str(tmp_path / "out.zarr"))
    assert again.returncode == 0
    assert {json.loads(line)["event"] for line in again.stderr.splitlines()} == {"warning"}
    assert json.loads(again.stdout)


def test_what_went_wrong_is_said(folder, network64, tmp_path):
    for broken in folder.glob("sentinel-2-l2a/*20200505*/B04.tif"):
        broken.write_bytes(b"no raster")
    done = run(folder, network64, "--quiet", "--out", str(tmp_path / "out.zarr"))
    assert done.returncode == 1
    assert done.stdout == ""
    assert "B04.tif" in done.stderr
    assert "units failed; run the same command again" in done.stderr
    assert "generator tiles" not in done.stderr  # of the plan


def test_an_input_that_is_wrong_is_said(folder, network64, tmp_path):
    done = run(folder, tmp_path / "none.onnx", "--quiet", "--out", str(tmp_path / "out.zarr"))
    assert done.returncode == 2
    assert "none.onnx" in done.stderr

"""What the documentation shows works, and its lists are complete."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import typer
import xarray as xr
from scenes import write_border
from shapely.geometry import box, mapping

from cloudgan.cli.app import batch_app

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(language: str) -> list:
    return [
        pytest.param(code, id=f"{page.name}-{number}")
        for page in PAGES
        for number, code in enumerate(
            re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.S | re.M)
        )
    ]


@pytest.fixture(scope="module")
def home(demo, network, tmp_path_factory) -> Path:
    """A folder as `make demo` leaves it."""
    folder = tmp_path_factory.mktemp("home")
    shutil.copytree(demo.catalog.parent, folder / "demo")
    words = ["--aoi", "demo/field.geojson", "--dates", "2020-05", "--stac", "demo/catalog.json"]
    words += ["--model", network, "--out", "demo/out.zarr", "--overwrite"]
    call = [sys.executable, "-m", "cloudgan.cli.app", "batch", *map(str, words)]
    subprocess.run(call, cwd=folder, check=True, capture_output=True, timeout=300)
    (folder / "border.geojson").write_text(json.dumps(mapping(box(11.985, 45.992, 12.012, 46.006))))
    words = ["--aoi", "border.geojson", "--dates", "2023-08", "--stac", write_border(folder)]
    words += ["--model", network, "--out", "zones.zarr"]
    call = [sys.executable, "-m", "cloudgan.cli.app", "batch", *map(str, words)]
    subprocess.run(call, cwd=folder, check=True, capture_output=True, timeout=300)
    return folder


@pytest.mark.parametrize("code", blocks("python"))
def test_python_examples_run(code, home):
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=home, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr


def test_the_mosaic_of_the_how_to_has_each_zone_in_its_place(home):
    """East of the border its pixels are the eastern group's own, and west of it there are some."""
    page = (ROOT / "docs" / "how-to" / "zones.md").read_text()
    code = next(code for code in re.findall(r"^```python\n(.*?)^```", page, re.S | re.M) if "to_zarr" in code)
    subprocess.run([sys.executable, "-c", code], cwd=home, check=True, capture_output=True, timeout=300)
    mosaic, east, west = (
        xr.open_zarr(home / store, group=group)["red"].load()
        for store, group in (("mosaic.zarr", None), ("zones.zarr", "utm33n"), ("zones.zarr", "utm32n"))
    )
    inner = east.isel(x=slice(20, None))  # beside the slanted border, where both have data
    np.testing.assert_array_equal(mosaic.sel(x=inner.x, y=inner.y).values, inner.values)
    beside = mosaic.sel(x=mosaic.x < east.x[0].item())
    assert int(beside.notnull().sum()) > 0.9 * west.size


def test_the_options_are_all_in_the_readme_and_no_others():
    command = typer.main.get_command(batch_app)
    real = {name for option in command.params for name in option.opts if name != "--help"}
    table = re.findall(r"^\| (`--.*?) \|", (ROOT / "README.md").read_text(), re.M)
    told = {word for row in table for word in re.findall(r"--[a-z-]+", row)}
    assert told == real


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), target

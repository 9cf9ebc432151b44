"""What the documentation shows works, and its lists are complete."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from cloudgan.cli import batch_app

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
    (folder / "demo").symlink_to(demo.catalog.parent)
    words = ["--aoi", "demo/field.geojson", "--dates", "2020-05", "--stac", "demo/catalog.json"]
    words += ["--model", network, "--out", "demo/out.zarr", "--overwrite"]
    call = [sys.executable, "-m", "cloudgan.cli", "batch", *map(str, words)]
    subprocess.run(call, cwd=folder, check=True, capture_output=True, timeout=300)
    return folder


@pytest.mark.parametrize("code", blocks("python"))
def test_python_examples_run(code, home):
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=home, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr


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

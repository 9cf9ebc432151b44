"""What the documentation shows works, and its lists are complete."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
import typer
import xarray as xr
from scenes import write_border
from shapely.geometry import box, mapping

import cloudgan
from cloudgan.cli.app import batch_app

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BESIDE = (
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "RELEASING.md",
    "SECURITY.md",
    "deploy/README.md",
    "deploy/RUNBOOK.md",
)
LINKED = [*PAGES, *(ROOT / name for name in BESIDE), *sorted((ROOT / "research").rglob("*.md"))]


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
    # A network of one date gives its own bands alone, so those of the second store come from the default.
    for more in (
        ["--out", "demo/out.zarr", "--model", network],
        ["--out", "demo/all.zarr", "--bands", "all"],
    ):
        call = [sys.executable, "-m", "cloudgan.cli.app", "batch", *map(str, [*words, *more])]
        subprocess.run([*call, "--overwrite"], cwd=folder, check=True, capture_output=True, timeout=300)
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


NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_run(path, home):
    cells = json.loads(path.read_text())["cells"]
    code = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    environment = os.environ | {"MPLBACKEND": "agg"}
    call = [sys.executable, "-W", "ignore", "-c", code]
    done = subprocess.run(
        call, cwd=home, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_hold_what_they_printed_and_drew(path):
    """They were run from the first cell to the last, without an error, and are small."""
    text = path.read_text()
    cells = [cell for cell in json.loads(text)["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert all(output["output_type"] != "error" and output.get("name") != "stderr" for output in outputs)
    assert sum("image/png" in output.get("data", {}) for output in outputs) >= 2
    assert len(text) < 400_000
    assert "/home/" not in text
    assert "/tmp/" not in text


def test_there_are_notebooks():
    assert len(NOTEBOOKS) >= 2


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


def test_indices_of_the_demonstration_tell_green_fields_from_water_and_soil(home):
    """The how-to's store has the bands, and their indices lie where those of farmland in May do."""
    store = cloudgan.open(home / "demo" / "all.zarr").isel(time=0).load()
    assert len(store.cloudgan.bands) == 10
    seen = store.cloudgan.observed().nir.notnull()
    ndvi, ndwi, ndmi, nbr = (
        store.cloudgan.index(name).where(seen) for name in ("ndvi", "ndwi", "ndmi", "nbr")
    )
    green, bare = (ndvi > 0.75) & (ndwi < 0), (ndvi < 0.3) & (ndwi < 0)
    assert min(int(green.sum()), int(bare.sum())) > 1000
    for index in (ndmi, nbr):
        assert float(index.where(green).median()) > 0.3 > float(index.where(bare).median())


def test_the_options_are_all_in_the_readme_and_no_others():
    command = typer.main.get_command(batch_app)
    real = {name for option in command.params for name in option.opts if name.startswith("--")}
    real -= {"--help", "--install-completion", "--show-completion"}
    table = re.findall(r"^\| (`--.*?) \|", (ROOT / "README.md").read_text(), re.M)
    listed = {word for row in table for word in re.findall(r"--[a-z-]+", row)}
    assert listed == real


def test_the_extras_are_all_in_the_readme_and_no_others():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for page in (ROOT / "README.md", ROOT / "docs" / "index.md"):
        rows = re.findall(r"^\| (`\[.*?) \|", page.read_text(), re.M)
        assert {name for row in rows for name in re.findall(r"\[(\w+)\]", row)} == set(extras), page


def test_every_public_name_is_in_the_reference():
    page = (ROOT / "docs" / "reference" / "python.md").read_text()
    described = set(re.findall(r"^::: cloudgan\.(\w+)$", page, re.M))
    assert set(cloudgan.__all__) - {"__version__"} <= described


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub and the site make them."""
    prose = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.S | re.M)
    titles = re.findall(r"^#+ (.*)$", prose, re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", LINKED, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page):
    generated = {"docs/reference/commands.md", "docs/decisions/index.md"}  # by docs/hooks.py
    for target, anchor in re.findall(r"\]\(([^)#\s]*)(?:#([^)\s]+))?\)", page.read_text()):
        if "://" in target:
            continue
        path = (page.parent / target).resolve() if target else page
        assert path.exists() or path.relative_to(ROOT).as_posix() in generated, target
        if anchor and path.suffix == ".md":
            assert anchor in anchors(path) or path.parent.name == "reference", f"{target}#{anchor}"


def test_no_page_leads_off_the_site_for_its_assets():
    """Fonts, scripts and pictures are the site's own: it opens without a network."""
    assert "font: false" in (ROOT / "mkdocs.yml").read_text()
    for page in LINKED:
        assert not re.findall(r"!\[[^\]]*\]\(https?:", page.read_text()), page


def test_the_architecture_lists_the_import_levels():
    layers = re.search(r'LAYERS = """\n(.*?)\n"""', (ROOT / "tests" / "test_imports.py").read_text(), re.S)
    page = (ROOT / "docs" / "architecture.md").read_text()
    folders = page.partition("## Folders")[2].partition("\n## ")[0]
    listed = [
        (int(level), name)
        for level, names in re.findall(r"^\| (\d) \| (.*?) \|", folders, re.M)
        for name in re.findall(r"`(\w+)`", names)
    ]
    real = [(level, name) for level, line in enumerate(layers[1].split("\n"), 1) for name in line.split()]
    assert sorted(listed) == sorted(real)

"""What lies in `pipelines/`, run as its first lines say."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio
import xarray as xr

from cloudgan.config import BatchConfig
from cloudgan.model.generator import Generator
from cloudgan.schema import Provenance

PIPELINES = Path(__file__).parents[2] / "pipelines"


def call(*words: object) -> str:
    done = subprocess.run(
        [sys.executable, *map(str, words)], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


JOBS = sorted(path for path in PIPELINES.glob("*.toml") if not path.stem.startswith("train-"))


@pytest.mark.parametrize("path", JOBS, ids=lambda path: path.stem)
def test_every_job_is_one_that_the_command_takes(path):
    job = BatchConfig.load(path, {"aoi": "field.geojson", "dates": "2020-04/2020-07"})
    assert job.aoi == "field.geojson"


def test_every_pipeline_is_short():
    for path in PIPELINES.glob("*.py"):
        assert len(path.read_text().splitlines()) < 80, path


def test_the_demonstration_job_with_its_report_and_picture(demo, network, tmp_path):
    job = tmp_path / "job.toml"
    job.write_text(
        f'aoi = "{demo.aoi}"\ndates = "2020-05"\nstac = "{demo.catalog}"\nmodel = "{network}"\n'
        f'out = "{tmp_path / "out.zarr"}"\nreport = true\n'
    )
    printed = call(PIPELINES / "batch.py", job)
    assert printed == f"{tmp_path / 'out.zarr'}\n"
    page = (tmp_path / "out.html").read_text()
    assert f"cloudgan-batch --aoi {demo.aoi} --dates 2020-05" in page
    assert "2020-05-05" in page
    picture = tmp_path / "before-after.png"
    assert (
        call("-m", "cloudgan.cli.app", "quicklook", tmp_path / "out.zarr", "--out", picture) == f"{picture}\n"
    )
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_clouds_are_removed_without_a_store(demo):
    series = call(PIPELINES / "remove_clouds.py", demo.aoi, "2020-05-05/2020-05-10", demo.catalog).split("\n")
    values = {line.split()[0]: float(line.split()[1]) for line in series if line.startswith("2020")}
    assert list(values) == ["2020-05-05", "2020-05-10"]
    assert all(0.2 < value < 0.9 for value in values.values())


def test_a_generator_is_trained_on_a_folder_and_used(demo, tmp_path):
    rng = np.random.default_rng(0)
    for name, west in (("here", 5e5), ("there", 6e5)):
        (tmp_path / name).mkdir()
        fields = np.kron(rng.integers(500, 4000, (3, 20, 20)), np.ones((1, 16, 16))).astype(np.uint16)
        profile = {"driver": "GTiff", "count": 3, "height": 320, "width": 320, "dtype": "uint16"}
        frame = {"crs": "EPSG:32633", "transform": rasterio.transform.from_origin(west, 5e6, 10, 10)}
        with rasterio.open(tmp_path / name / "clear.tif", "w", **profile, **frame) as file:
            file.write(fields)
            file.descriptions = ("B03", "B04", "B08")
    printed = call(PIPELINES / "train.py", tmp_path / "here", tmp_path / "there", tmp_path / "run", 2)
    generator = Generator.load(printed.split()[-1])
    channels = [str(channel) for channel in generator.contract.input_channels]
    assert channels == ["target:green", "target:red", "target:nir"]
    made = generator(rng.random((1, 3, 256, 256), np.float32))
    assert made.shape == (1, 3, 256, 256)
    assert np.isfinite(made).all()
    out = tmp_path / "out.zarr"
    words = ["--aoi", demo.aoi, "--dates", "2020-05", "--stac", demo.catalog, "--model", printed.split()[-1]]
    call("-m", "cloudgan.cli.app", "batch", *words, "--out", out)
    store = xr.open_zarr(out, mask_and_scale=False)
    generated = store["provenance"].values == Provenance.GENERATED
    assert generated.any()
    assert (store["nir"].values[generated] > 0).all()

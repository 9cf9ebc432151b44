"""A first training, as the tutorial has it: from the demonstration catalogue to a generator that declouds."""

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from cloudgan.cli.app import batch_main
from cloudgan.model.generator import Generator
from cloudgan.training.recipe import TrainConfig
from cloudgan.training.trainer import train

RECIPE = Path(__file__).parents[2] / "pipelines" / "train-demo.toml"

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning"
)


@pytest.mark.allow_hosts(["127.0.0.1", "localhost", "::1"])  # of the batch command's workers
def test_the_demo_recipe_trains_a_generator_that_declouds(demo, tmp_path, capsys):
    """As in `pipelines/`, but for the dates, the width and the steps."""
    recipe = TrainConfig.load(RECIPE, data=demo.catalog.parent)
    small = recipe.replace(
        generator=recipe.generator.replace(width=2), stages=(recipe.stages[0].replace(steps=3),)
    )
    run = train(small, tmp_path / "run")
    card = Generator.load(run.model).contract.training
    assert set(card["data"]["train"]) == {"demo-west"}
    assert set(card["data"]["validation"]) == {"demo-east"}
    assert set(card["scores"]["demo-east"]) == {"psnr", "mae", "ssim", "sam", "units"}
    out = tmp_path / "out.zarr"
    words = ["--aoi", demo.aoi, "--dates", "2020-05-15", "--stac", demo.catalog]
    words += ["--model", run.model, "--out", out]
    with pytest.raises(SystemExit) as end:
        batch_main(list(map(str, words)))
    assert not end.value.code, capsys.readouterr().err
    with xr.open_zarr(out) as cube:
        generated = cube.provenance.isel(time=0).values == 2
        assert generated.any()
        assert np.isfinite(cube.green.isel(time=0).values[generated]).all()

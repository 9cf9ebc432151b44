"""Train a generator on clear GeoTIFFs of your own region under simulated clouds, and decloud with it.

    python pipelines/train.py TRAINING_FOLDER VALIDATION_FOLDER RUN_FOLDER [STEPS]
    cloudgan-batch ... --model RUN_FOLDER/model.onnx

Each folder holds clear Sentinel-2 GeoTIFFs (at least 256 x 256 pixels, reflectance x 10000, bands described
as B03, B04, B08 or green, red, nir). The two must show different places: a generator is judged on ground it
has not seen. The same as a recipe in TOML: see train-single.toml.
"""

from __future__ import annotations

import sys
from pathlib import Path

from cloudgan.training.data.sources import Source
from cloudgan.training.models.scaling import Scaling
from cloudgan.training.recipe import Networks, Objective, Recipe, Samples
from cloudgan.training.trainer import Run, train


def trained(training: Path, validation: Path, folder: Path, steps: int = 5600) -> Run:
    """Train on one place, keep what does best on another."""
    recipe = Recipe(
        name="own",
        data=(
            Source("clear", str(training), region="training"),
            Source("clear", str(validation), region="validation"),
        ),
        held_out=("validation",),
        samples=Samples(jitter=0.2, observed_weight=0.25),
        networks=Networks(width=16, judge_normalisation="instance", dropout=0.2),
        objective=Objective(generator_rate=6e-4, adversarial_after=0.7, decay=True, average=0.995),
        scaling=Scaling(gamma=0.5),
        batch=4,
        steps=steps,
        rows_every=min(250, steps),
    )
    return train(recipe, folder)


if __name__ == "__main__":
    folders, steps = [Path(word) for word in sys.argv[1:4]], map(int, sys.argv[4:])
    print(trained(*folders, *steps).model)

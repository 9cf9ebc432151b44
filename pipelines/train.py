"""Train a generator on clear GeoTIFFs of your own region under simulated clouds, and decloud with it.

    python pipelines/train.py TRAINING_FOLDER VALIDATION_FOLDER RUN_FOLDER [STEPS]
    cloudgan-batch ... --model RUN_FOLDER/model.onnx

Each folder holds clear Sentinel-2 GeoTIFFs (at least 256 x 256 pixels, reflectance x 10000, bands described
as B03, B04, B08 or green, red, nir). The two must show different places: a generator is evaluated where it
has not been trained. The same as a recipe in TOML: see train-single.toml.
"""

from __future__ import annotations

import sys
from pathlib import Path

from cloudgan.training.data.sources import Source
from cloudgan.training.recipe import Discriminator, Samples, Scaling, Stage, TrainConfig, UNet
from cloudgan.training.trainer import Run, train


def train_on_folders(training: Path, validation: Path, run: Path, steps: int = 5600) -> Run:
    """Train on one place, keep what does best on another."""
    recipe = TrainConfig(
        name="own",
        data=(
            Source(kind="clear", path=str(training), region="training"),
            Source(kind="clear", path=str(validation), region="validation"),
        ),
        held_out=("validation",),
        samples=Samples(jitter=0.2, observed_weight=0.25),
        generator=UNet(width=16, dropout=0.2, scaling=Scaling(gamma=0.5)),
        discriminator=Discriminator(normalisation="instance", adversarial_after=0.7),
        stages=(Stage(steps=steps, learning_rate=6e-4, schedule="cosine"),),
        batch=4,
        ema_decay=0.995,
        eval_every=min(250, steps),
    )
    return train(recipe, run)


if __name__ == "__main__":
    folders, steps = [Path(word) for word in sys.argv[1:4]], map(int, sys.argv[4:])
    print(train_on_folders(*folders, *steps).model)

"""Train a generator on clear GeoTIFFs of your own region under simulated clouds, and decloud with it.

    python pipelines/train.py TRAINING_FOLDER VALIDATION_FOLDER RUN_FOLDER [STEPS]
    cloudgan-batch ... --model RUN_FOLDER/model.onnx

Each folder holds clear Sentinel-2 GeoTIFFs (at least 256 x 256 pixels, reflectance x 10000, bands described
as B03, B04, B08 or green, red, nir). The two must show different places: a generator is judged on ground it
has not seen.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

from cloudgan.training.data import Imagery, read_folder
from cloudgan.training.recipes import SHIPPED
from cloudgan.training.train import Run, train


def trained(training: Path, validation: Path, folder: Path, steps: int = SHIPPED.steps) -> Run:
    """Train on one place, keep what does best on another."""
    clear = [*read_folder(training, "training"), *read_folder(validation, "validation")]
    recipe = replace(SHIPPED, steps=steps, validate_every=min(SHIPPED.validate_every, steps))
    return train(recipe, training, folder, held_out=["validation"], imagery=Imagery(clear=tuple(clear)))


if __name__ == "__main__":
    folders, steps = [Path(word) for word in sys.argv[1:4]], map(int, sys.argv[4:])
    print(trained(*folders, *steps).model)

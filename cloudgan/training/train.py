"""One training run: imagery in, a folder with metrics, the best checkpoint and the exported model out."""

from __future__ import annotations

import csv
import json
import logging
import platform
import time
from collections.abc import Collection
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import keras
import numpy as np

from cloudgan.errors import InputError
from cloudgan.training import networks, scores
from cloudgan.training.data import BANDS, Floats, Imagery, Mask, read_samples
from cloudgan.training.export import contract, export_onnx, with_reflectance
from cloudgan.training.pix2pix import Pix2Pix
from cloudgan.training.recipes import Recipe
from cloudgan.training.samples import Batches, Sample, Sampler, validation_tiles

log = logging.getLogger(__name__)

HELD_OUT = ("33UUB", "MGRS-33TWM-east", "summer_102")
"""Regions of the sample imagery that the shipped generator never saw."""


@dataclass(frozen=True, slots=True)
class Run:
    """What a run left behind."""

    model: Path
    """The exported generator."""
    summary: dict[str, Any]
    """Recipe, split, scores: the file `summary.json`."""


def train(
    recipe: Recipe,
    data_dir: Path,
    run_dir: Path,
    *,
    seed: int = 0,
    held_out: Collection[str] = HELD_OUT,
    imagery: Imagery | None = None,
    minutes: float | None = None,
    model_version: str = "0.1.0",
) -> Run:
    """Train a generator by a recipe and export the best checkpoint by validation.

    The run folder receives `metrics.csv` (a row per validation), `best.weights.h5`, `model.onnx` (rewritten
    at each new best) and `summary.json`.

    Args:
        recipe: What to do.
        data_dir: Holds the sample imagery, see `data.read_samples`.
        run_dir: Is made; must not hold a run yet.
        seed: Of weights, batches and validation tiles.
        held_out: Regions to validate on.
        imagery: Instead of what `data_dir` holds.
        minutes: Stop at the first validation after so many minutes, instead of after the recipe's steps.
        model_version: Written into the contract.

    Raises:
        InputError: The imagery or the split cannot be used, or the folder holds a run already.
    """
    if (run_dir / "metrics.csv").exists():
        raise InputError(f"{run_dir} holds a run already; give another folder")
    run_dir.mkdir(parents=True, exist_ok=True)
    keras.utils.set_random_seed(seed)
    training, validation = (imagery or read_samples(data_dir)).split(held_out)
    tiles = validation_tiles(validation, seed)
    model = build(recipe)
    course = _Course(
        model, recipe, tiles, run_dir, _card(recipe, training, validation, seed), model_version, minutes
    )
    sampler = Sampler(training, jitter=recipe.jitter)
    turn = round(recipe.adversarial_after * recipe.steps)
    for adversarial, steps in (
        (False, range(turn)),
        (recipe.adversarial_weight > 0, range(turn, recipe.steps)),
    ):
        if steps and not course.over:
            model.adversarial = adversarial
            model.make_train_function(force=True)
            batches = Batches(sampler, recipe.batch, steps, seed, recipe.observed_weight)
            model.fit(batches, shuffle=False, verbose=0, callbacks=[course])
    return course.finished()


def build(recipe: Recipe) -> Pix2Pix:
    """Networks and optimisers of a recipe, compiled and ready to fit."""
    depth = len(BANDS)
    generator = networks.generator(
        depth, depth, recipe.width, recipe.normalisation, recipe.upsampling, recipe.dropout
    )
    discriminator = networks.discriminator(depth, depth, recipe.width, recipe.judge_normalisation)
    model = Pix2Pix(generator, discriminator, recipe)
    model.compile()
    return model


def declouder(model: keras.Model) -> scores.Declouder:
    """The whole product on one tile: what is hidden is generated, what is observed stays.

    Args:
        model: From reflectance to reflectance, NHWC.
    """

    def declouded(cloudy: Floats, hidden: Mask) -> Floats:
        generated = np.asarray(model(cloudy[None], training=False))[0]
        return np.where(hidden[..., None], generated, cloudy).astype(np.float32)

    return declouded


def evaluate(tiles: dict[str, list[Sample]], method: scores.Declouder) -> dict[str, dict[str, float]]:
    """Scores on hidden pixels by group of tiles."""
    return {group: scores.mean_scores(samples, method).as_dict() for group, samples in tiles.items()}


class _Course(keras.callbacks.Callback):  # type: ignore[misc]
    """Validates, keeps and exports the best, and stops when time is up."""

    def __init__(
        self,
        model: Pix2Pix,
        recipe: Recipe,
        tiles: dict[str, list[Sample]],
        run_dir: Path,
        card: dict[str, Any],
        model_version: str,
        minutes: float | None,
    ) -> None:
        super().__init__()
        self._product = with_reflectance(model.averaged, recipe.scaling)
        self._recipe, self._tiles, self._run_dir, self._card = recipe, tiles, run_dir, card
        self._version, self._minutes = model_version, minutes
        self.over = False
        self._best = np.inf
        self._start = time.monotonic()
        self._losses: list[dict[str, float]] = []

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        step = int(self.model.steps)
        self._losses.append(dict(logs or {}))
        late = self._minutes is not None and time.monotonic() - self._start > 60 * self._minutes
        if step % self._recipe.validate_every == 0 or step == self._recipe.steps or late:
            self._validate(step)
            if late:
                self.over = self.model.stop_training = True

    def _validate(self, step: int) -> None:
        rows = evaluate(self._tiles, declouder(self._product))
        mae = float(np.mean([row["mae"] for row in rows.values()]))
        losses = {name: float(np.mean([row[name] for row in self._losses])) for name in self._losses[0]}
        self._losses = []
        flat = {f"{group} {name}": value for group, row in rows.items() for name, value in row.items()}
        row = {
            "step": step,
            "seconds": round(time.monotonic() - self._start),
            **losses,
            "validation mae": mae,
            **flat,
        }
        path = self._run_dir / "metrics.csv"
        fresh = not path.exists()
        with path.open("a", newline="") as file:
            writer = csv.DictWriter(file, row)
            if fresh:
                writer.writeheader()
            writer.writerow(row)
        log.info("step %d, %d s: %s, validation MAE %.4f", step, row["seconds"], losses, mae)
        if mae < self._best:
            self._best = mae
            self._keep(step, rows)

    def _keep(self, step: int, rows: dict[str, dict[str, float]]) -> None:
        self._product.save_weights(self._run_dir / "best.weights.h5")
        self._card |= {"steps": step, "scores": rows, "scores_data_range": scores.DATA_RANGE}
        tiles = [sample.cloudy for group in self._tiles.values() for sample in group[:1]]
        export_onnx(
            self._product, self._run_dir / "model.onnx", contract(self._card, self._version), np.stack(tiles)
        )

    def finished(self) -> Run:
        """Write the summary, with the baselines on the same tiles."""
        self._product.load_weights(self._run_dir / "best.weights.h5")
        summary = {
            **self._card,
            "seconds": round(time.monotonic() - self._start),
            "baselines": {
                "cloudy itself": evaluate(self._tiles, scores.as_it_is),
                "mean of the visible pixels": evaluate(self._tiles, scores.mean_colour),
            },
        }
        (self._run_dir / "summary.json").write_text(json.dumps(summary, indent=1) + "\n")
        return Run(self._run_dir / "model.onnx", summary)


def _card(recipe: Recipe, training: Imagery, validation: Imagery, seed: int) -> dict[str, Any]:
    return {
        "recipe": asdict(recipe),
        "width": recipe.width,
        "steps": 0,
        "data": {"train": _by_region(training), "validation": _by_region(validation)},
        "scores": {},
        "seed": seed,
        "versions": {name: version(name) for name in ("keras", "tensorflow")}
        | {"python": platform.python_version()},
    }


def _by_region(imagery: Imagery) -> dict[str, dict[str, int]]:
    """How many scenes and pairs each region gives."""
    return {
        region: {
            "clear scenes": sum(scene.region == region for scene in imagery.clear),
            "real pairs": sum(pair.region == region for pair in imagery.pairs),
        }
        for region in imagery.regions()
    }

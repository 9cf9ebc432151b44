"""One training run: imagery in, a folder with metrics, checkpoints, pictures and the exported model out."""

from __future__ import annotations

import logging
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import keras
import numpy as np

from cloudgan.errors import InputError
from cloudgan.evaluation.metrics import DATA_RANGE
from cloudgan.training import pictures, scores, study, validation
from cloudgan.training.data.imagery import Floats, Imagery
from cloudgan.training.data.sources import read_imagery
from cloudgan.training.export import contract, export_onnx
from cloudgan.training.models import networks
from cloudgan.training.models.pix2pix import Pix2Pix
from cloudgan.training.models.scaling import giving_reflectance, seeing_reflectance
from cloudgan.training.recipe import Recipe, Stack
from cloudgan.training.run_folder import Row, RunFolder
from cloudgan.training.samples import Batches, Sample, drawn, stack_sample, validation_tiles
from cloudgan.training.validation import Product

log = logging.getLogger(__name__)

Listener = Callable[[int, dict[str, float]], None]
"""Is told the number of each step and its losses."""

_COLLAPSE = 6.0  # dB below the best
_TRAIN_TILES = 6


@dataclass(frozen=True, slots=True)
class Run:
    """What a run left behind."""

    model: Path
    """The exported generator."""
    summary: dict[str, Any]
    """Recipe, split, scores: the file `summary.json`."""


@dataclass(frozen=True, slots=True)
class Panel:
    """The fixed images that a run is judged on."""

    train: list[Sample]
    """Of the training regions."""
    validation: dict[str, list[Sample]]
    """Of the regions held out, by group."""
    study: Sample | None
    """The pair of a documented recipe, for the study's own measure."""

    def row(self, product: Product, recipe: Recipe) -> Row:
        """All metrics of a generator."""
        columns = validation.row("train", self.train, product, recipe.bands)
        held_out = [sample for samples in self.validation.values() for sample in samples]
        columns |= validation.row("validation", held_out, product, recipe.bands)
        if self.study is not None:
            clear, valid = self.study.clear, self.study.masked | self.study.observed
            noisy = study.validation_image(clear, recipe.bands, recipe.seed)
            for name, image in (("train", self.study.cloudy), ("val", noisy)):
                columns |= study.row(name, product(image[None])[0], clear, valid, recipe.bands)
        return columns


def train(
    recipe: Recipe,
    run_dir: Path,
    *,
    resume: bool = False,
    minutes: float | None = None,
    imagery: Imagery | None = None,
    model_version: str = "0.1.0",
    listener: Listener | None = None,
) -> Run:
    """Train a generator by a recipe and export the best checkpoint by validation.

    Args:
        recipe: What to do.
        run_dir: Is made, and must not hold a run yet; or is that of the run to resume.
        resume: Go on with the run in the folder.
        minutes: Stop after so many minutes, at a row of metrics, instead of after the recipe's steps.
        imagery: Instead of what the recipe's sources name.
        model_version: Written into the contract.
        listener: Is told of each step.

    Raises:
        InputError: The imagery, the split, the folder or its checkpoint cannot be used.
    """
    training, held_out = (imagery or read_imagery(recipe.data, recipe.bands)).split(recipe.held_out)
    draw, panel = drawn(recipe, training), _panel(recipe, training, held_out)
    keras.utils.set_random_seed(recipe.seed)
    model = build(recipe)
    if resume:
        folder = RunFolder.reopen(run_dir, recipe)
        done = folder.restore(_state(model))
    else:
        folder, done = RunFolder.create(run_dir, recipe), 0
    card = _card(recipe, training, held_out)
    folder.write_json("run.json", card)
    course = _Course(model, recipe, panel, folder, card, model_version, minutes, listener, done)
    joins = round(recipe.objective.adversarial_after * recipe.steps)
    for steps, adversarial in ((range(done, joins), False), (range(max(done, joins), recipe.steps), True)):
        if steps and not course.over:
            model.adversarial = adversarial and recipe.objective.adversarial_weight > 0
            model.make_train_function(force=True)  # Keras keeps the step that it traced
            model.fit(Batches(draw, steps), verbose=0, shuffle=False, callbacks=[course])
    return course.finished()


def build(recipe: Recipe) -> Pix2Pix:
    """The networks and optimisers of a recipe, compiled and ready to fit."""
    bands, how = len(recipe.bands), recipe.networks
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(how.precision)
    try:
        unet = _generator(recipe, how.size)
        judge = networks.discriminator(bands, bands, how.width, how.judge_normalisation, how.size)
        model = Pix2Pix(
            seeing_reflectance(unet, recipe.scaling),
            seeing_reflectance(judge, recipe.scaling),
            recipe.objective,
            recipe.scaling,
            recipe.steps,
        )
    finally:
        keras.config.set_dtype_policy(before)
    # XLA passes oneDNN's kernels by: on a CPU a step then takes 2.4 times as long.
    model.compile(jit_compile=False if keras.backend.backend() == "tensorflow" else "auto")
    return model


def product_of(recipe: Recipe) -> keras.Model:
    """The generator to judge and to ship, in float32: reflectance to reflectance, for images of any size."""
    unet = _generator(recipe, size=None)
    return giving_reflectance(seeing_reflectance(unet, recipe.scaling), recipe.scaling)


def _generator(recipe: Recipe, size: int | None) -> keras.Model:
    bands, how = len(recipe.bands), recipe.networks
    return networks.generator(
        bands, bands, how.width, how.normalisation, how.upsampling, how.dropout, how.residual, size
    )


def _panel(recipe: Recipe, training: Imagery, held_out: Imagery) -> Panel:
    validation = validation_tiles(held_out, recipe.seed, bands=recipe.bands)
    pair = stack_sample(recipe, recipe.stack or Stack(), training) if recipe.study else None
    if recipe.stack is not None:
        return Panel([pair or stack_sample(recipe, recipe.stack, training)], validation, pair)
    seen = [
        tile for tiles in validation_tiles(training, recipe.seed, 1, recipe.bands).values() for tile in tiles
    ]
    return Panel(seen[:_TRAIN_TILES], validation, pair)


def _state(model: Pix2Pix) -> list[keras.Variable]:
    """All that a step reads and changes, chance included."""
    return [*model.variables, *model.optimizer.variables]


class _Course(keras.callbacks.Callback):  # type: ignore[misc]
    """Judges, keeps and exports the best, and stops on a collapse or when time is up."""

    def __init__(
        self,
        model: Pix2Pix,
        recipe: Recipe,
        panel: Panel,
        folder: RunFolder,
        card: dict[str, Any],
        model_version: str,
        minutes: float | None,
        listener: Listener | None,
        done: int,
    ) -> None:
        super().__init__()
        self._product = product_of(recipe)
        self._recipe, self._panel, self._folder, self._card = recipe, panel, folder, card
        self._version, self._minutes, self._listener = model_version, minutes, listener
        self._step = done
        self._rows = folder.read_rows(done)
        self._start = time.monotonic()
        self._before = self._rows[-1]["seconds"] if self._rows else 0.0
        self._losses: list[dict[str, float]] = []
        self.over = False

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Count the step, and judge where a row is due."""
        self._step += 1
        losses = dict(logs or {})
        self._losses.append(losses)
        if self._listener:
            self._listener(self._step, losses)
        if not all(np.isfinite(value) for value in losses.values()):
            self._stop(f"the losses are no longer finite at step {self._step}: {losses}; lower the rates")
            return
        late = self._minutes is not None and time.monotonic() - self._start > 60 * self._minutes
        if self._step % self._recipe.rows_every == 0 or self._step == self._recipe.steps or late:
            self._judge()
            if late:
                self._stop(f"time is up at step {self._step}")
            elif self._collapsed():
                self._stop(
                    f"collapse: the last {self._recipe.collapse_rows} rows lie {_COLLAPSE:g} dB too low; "
                    f"the best is kept, stopped at step {self._step}"
                )

    def _judge(self) -> None:
        self._product.set_weights(self.model.averaged.get_weights())
        losses = {name: float(np.mean([row[name] for row in self._losses])) for name in self._losses[0]}
        self._losses = []
        seconds = round(self._before + time.monotonic() - self._start, 1)
        columns = self._panel.row(self._generate, self._recipe)
        row = {"step": self._step, "seconds": seconds, **losses, **columns}
        best = min((row[_CHOSEN_BY] for row in self._rows), default=np.inf)
        if row[_CHOSEN_BY] < best:
            self._product.save_weights(self._folder.best)
        self._rows.append(row)
        self._folder.write_rows(self._rows)
        self._folder.save(_state(self.model), self._step)
        pictures.curves(self._rows, self._folder.path / "curves.png")
        shown = [*self._panel.train[:2], *(tiles[0] for tiles in self._panel.validation.values())]
        pictures.samples(shown, self._generate, self._folder.path / "samples" / f"{self._step:06}.png")
        log.info("step %d, %.0f s: validation MAE %.4f", self._step, seconds, row[_CHOSEN_BY])

    def _generate(self, channels: Floats) -> Floats:
        return np.asarray(self._product.predict_on_batch(channels), np.float32)

    def _collapsed(self) -> bool:
        values = [row["validation generated psnr"] for row in self._rows]
        latest = values[-self._recipe.collapse_rows :]
        return (
            bool(self._recipe.collapse_rows)
            and len(values) > len(latest)
            and max(latest) < max(values) - _COLLAPSE
        )

    def _stop(self, why: str) -> None:
        log.warning("%s", why)
        self._card["stopped"] = why
        self.over = self.model.stop_training = True

    def finished(self) -> Run:
        """Export the best checkpoint, and write the summary, with the baselines on the same tiles.

        Raises:
            InputError: The run ended before its first row.
        """
        if not self._rows or not self._folder.best.exists():
            raise InputError(
                f"the run in {self._folder.path} ended without a row: {self._card.get('stopped')}"
            )
        best = min(self._rows, key=lambda row: row[_CHOSEN_BY])
        tiles = self._panel.validation
        self._product.load_weights(self._folder.best)
        per_group = validation.evaluate(tiles, validation.declouder(self._generate))
        self._card |= {"steps": best["step"], "scores": per_group, "scores_data_range": DATA_RANGE}
        terms = contract(self._card, self._version, self._recipe.name, self._recipe.bands)
        checked = np.stack([samples[0].cloudy for samples in tiles.values()])
        export_onnx(self._product, self._folder.model, terms, checked)
        summary = {
            **self._card,
            "best": best,
            "last": self._rows[-1],
            "baselines": {
                "cloudy itself": validation.evaluate(tiles, scores.as_it_is),
                "mean of the visible pixels": validation.evaluate(tiles, scores.mean_colour),
            },
        }
        self._folder.write_json("summary.json", summary)
        return Run(self._folder.model, summary)


_CHOSEN_BY = "validation generated mae"


def _card(recipe: Recipe, training: Imagery, validation: Imagery) -> dict[str, Any]:
    return {
        "recipe": recipe.as_dict(),
        "width": recipe.networks.width,
        "steps": 0,
        "data": {"train": _by_region(training), "validation": _by_region(validation)},
        "scores": {},
        "seed": recipe.seed,
        "versions": {"python": platform.python_version(), "backend": keras.backend.backend()} | _versions(),
    }


def _versions() -> dict[str, str]:
    found = {}
    for name in ("cloudgan", "keras", keras.backend.backend(), "numpy"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _by_region(imagery: Imagery) -> dict[str, dict[str, int]]:
    """How many scenes and pairs each region gives."""
    return {
        region: {
            "clear scenes": sum(scene.region == region for scene in imagery.clear),
            "real pairs": sum(pair.region == region for pair in imagery.pairs),
        }
        for region in imagery.regions()
    }

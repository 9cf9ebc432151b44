"""One training run: a recipe and data in, a folder with metrics, checkpoints, pictures and the model out."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from cloudgan.errors import InputError
from cloudgan.evaluation.metrics import DATA_RANGE
from cloudgan.model.generator import Generator
from cloudgan.observations import Site
from cloudgan.training import pictures, scores, validation
from cloudgan.training.card import describe_file, describe_software
from cloudgan.training.data.imagery import Imagery
from cloudgan.training.export import export_onnx, write_contract
from cloudgan.training.models.gan import ConditionalGan
from cloudgan.training.models.temporal import UNCERTAINTY_LAYERS
from cloudgan.training.recipe import TILE, TrainConfig
from cloudgan.training.run_folder import RunFolder
from cloudgan.training.samples import Floats, draw_ahead
from cloudgan.training.tasks import Task, make_task

log = logging.getLogger(__name__)

Listener = Callable[[int, dict[str, float]], None]
"""Takes the number of each step and its losses."""

_COLLAPSE = 6.0  # dB below the best
_SHOWN = 2  # training samples in a picture


@dataclass(frozen=True, slots=True)
class Run:
    """What a run left behind."""

    model: Path
    """The exported generator."""
    summary: dict[str, Any]
    """Recipe, data, scores: the file `summary.json`."""


def train(
    recipe: TrainConfig,
    run_dir: Path,
    *,
    resume: bool = False,
    start: Path | None = None,
    data: Imagery | Sequence[Site] | None = None,
    listener: Listener | None = None,
) -> Run:
    """Train a generator by a recipe and export it.

    Args:
        recipe: What to do.
        run_dir: Is made, and must not hold a run yet; or is that of the run to resume.
        resume: Go on with the run in the folder; `start` is then that of the run.
        start: Weights of a generator of the same recipe to start from, such as another run's
            `averaged.weights.h5`.
        data: Imagery (for a U-Net) or sites instead of what the recipe's sources name.
        listener: Called after each step.

    Raises:
        InputError: The data, the split, the folder or its checkpoint cannot be used.
    """
    task = make_task(recipe, data)
    keras.utils.set_random_seed(recipe.seed)
    model = build(task)
    started: dict[str, Any] = {}
    done = 0
    if resume:
        folder = RunFolder.reopen(run_dir, recipe)
        done = folder.restore(_state(model))
        started = folder.read_start()
    else:
        if start is not None:
            _load_start(model, start)
            started = {"start": describe_file(start)}
        folder = RunFolder.create(run_dir, recipe)
        folder.save(_state(model), done)
    course = _Course(task, model, folder, done, listener)
    course.card |= started
    folder.write_json("run.json", course.card)
    course.run()
    return course.finish()


def build(task: Task) -> ConditionalGan:
    """The networks of a task, compiled and ready to train."""
    model = task.build()
    # XLA passes oneDNN's kernels by: on a CPU a step then takes 2.4 times as long.
    model.compile(jit_compile=False if keras.backend.backend() == "tensorflow" else "auto")
    return model


def _load_start(model: ConditionalGan, start: Path) -> None:
    try:
        for network in (model.generator, model.averaged):
            network.load_weights(start)
    except (OSError, ValueError) as error:
        raise InputError(
            f"the weights {start} do not fit the recipe's generator ({error}); give those of the same recipe"
        ) from error


def _state(model: ConditionalGan) -> list[keras.Variable]:
    """All that a step reads and changes, seeds included."""
    return [*model.variables, *model.optimizer.variables]


class _Course:
    """The steps of a run, and what happens between them."""

    def __init__(
        self, task: Task, model: ConditionalGan, folder: RunFolder, done: int, listener: Listener | None
    ) -> None:
        self._task, self._model, self._folder, self._listener = task, model, folder, listener
        self._recipe, self._step = task.recipe, done
        self._product = task.build_product()
        self._rows = folder.read_rows(done)
        self._before = self._rows[-1]["seconds"] if self._rows else 0.0
        self._begun = time.monotonic()
        self._losses: list[dict[str, float]] = []
        self.card: dict[str, Any] = {
            "recipe": self._recipe.as_json(),
            "steps": 0,
            "data": task.describe_data(),
            "scores": {},
            "versions": describe_software(),
        }

    def run(self) -> None:
        """Take all steps that are left, or as many as make sense."""
        steps = range(self._step, self._recipe.steps)
        phase = None
        with closing(draw_ahead(self._task.draw, steps)) as batches:
            for step, batch in zip(steps, batches, strict=True):
                number, stage, within = self._recipe.stage_at(step)
                adversarial = step >= self._joins
                if within == 0 and number > 0:
                    self._model.restart()
                if phase != (number, adversarial):
                    phase = number, adversarial
                    alone = UNCERTAINTY_LAYERS if stage.trainable == "uncertainty" else None
                    self._model.prepare(adversarial=adversarial, layers=alone)
                self._set_learning_rates(step)
                losses = self._model.train_on_batch(*batch, return_dict=True)
                if not self._note(step + 1, {name: float(value) for name, value in losses.items()}):
                    return

    @property
    def _joins(self) -> int:
        """The step at which the discriminator joins."""
        how = self._recipe.discriminator
        return 0 if how is None else round(how.adversarial_after * self._recipe.steps)

    def _set_learning_rates(self, step: int) -> None:
        _, stage, within = self._recipe.stage_at(step)
        self._model.generator_optimizer.learning_rate = stage.learning_rate * stage.rate_factor(within)
        how = self._recipe.discriminator
        if how is not None:
            late = max(0, step - max(self._joins, step - within))
            self._model.discriminator_optimizer.learning_rate = how.learning_rate * stage.rate_factor(late)

    def _note(self, step: int, losses: dict[str, float]) -> bool:
        """Count a step and evaluate where a row is due; returns whether to go on."""
        self._step = step
        self._losses.append(losses)
        if self._listener:
            self._listener(step, losses)
        if not all(np.isfinite(value) for value in losses.values()):
            return self._stop(
                f"the losses are no longer finite at step {step}: {losses}; lower the learning rates"
            )
        if step % self._recipe.eval_every and step not in self._stage_ends():
            return True
        self._evaluate()
        if self._collapsed():
            return self._stop(
                f"collapse: the last {self._recipe.collapse_rows} rows lie {_COLLAPSE:g} dB too low; "
                f"the best is kept, stopped at step {step}"
            )
        return True

    def _stage_ends(self) -> list[int]:
        return [int(end) for end in np.cumsum([stage.steps for stage in self._recipe.stages])]

    def _evaluate(self) -> None:
        """Write a row of metrics, a checkpoint, the best weights so far, and pictures."""
        self._product.set_weights(self._model.averaged.get_weights())
        losses = {name: float(np.mean([row[name] for row in self._losses])) for name in self._losses[0]}
        self._losses = []
        seconds = round(self._before + time.monotonic() - self._begun, 1)
        columns = validation.compute_row(self._task, self._generate)
        row = {"step": self._step, "seconds": seconds, **losses, **columns}
        best = min((row[validation.CHOSEN_BY] for row in self._rows), default=np.inf)
        if row[validation.CHOSEN_BY] < best:
            self._product.save_weights(self._folder.best)
        self._product.save_weights(self._folder.averaged)
        self._rows.append(row)
        self._folder.write_rows(self._rows)
        self._folder.save(_state(self._model), self._step)
        pictures.draw_curves(self._rows, self._folder.path / "curves.png")
        shown = [*self._task.training[:_SHOWN], *(group[0] for group in self._task.held_out.values())]
        pictures.draw_samples(shown, self._generate, self._folder.path / "samples" / f"{self._step:06}.png")
        log.info(
            "step %d, %.0f s: validation MAE %.4f, PSNR %.2f dB",
            self._step,
            seconds,
            row[validation.CHOSEN_BY],
            row["validation generated psnr"],
        )

    def _generate(self, channels: Floats) -> Floats:
        generated = np.asarray(self._product.predict_on_batch(channels), np.float32)
        return generated[..., : len(self._recipe.bands)]

    def _collapsed(self) -> bool:
        values = [row["validation generated psnr"] for row in self._rows]
        latest = values[-self._recipe.collapse_rows :]
        return (
            bool(self._recipe.collapse_rows)
            and len(values) > len(latest)
            and max(latest) < max(values) - _COLLAPSE
        )

    def _stop(self, why: str) -> bool:
        log.warning("%s", why)
        self.card["stopped"] = why
        return False

    def finish(self) -> Run:
        """Export what the recipe keeps, and write the summary, with baselines on the same samples.

        Raises:
            InputError: The run ended before its first row.
        """
        folder, held_out = self._folder, self._task.held_out
        if not self._rows or not folder.best.exists():
            raise InputError(f"the run in {folder.path} ended without a row: {self.card.get('stopped')}")
        best = min(self._rows, key=lambda row: row[validation.CHOSEN_BY])
        last = self._recipe.keep == "last" and "stopped" not in self.card
        self._product.load_weights(folder.averaged if last else folder.best)
        self.card |= {"steps": (self._rows[-1] if last else best)["step"], "scores_data_range": DATA_RANGE}
        exported = self._task.build_product(TILE)
        exported.set_weights(self._product.get_weights())
        tiles = np.stack([_fit(samples[0].channels, TILE) for samples in held_out.values()])
        export_onnx(exported, folder.model, self._task.contract(self.card), tiles)
        # The scores are those of the file itself.
        self.card["scores"] = self._task.score(Generator.load(folder.model))
        write_contract(folder.model, self._task.contract(self.card))
        methods = {
            "model": scores.generate_with(self._generate),
            "cloudy itself": scores.keep_cloudy,
            "mean of the visible pixels": scores.fill_with_mean,
        }
        summary = {
            **self.card,
            "best": best,
            "last": self._rows[-1],
            "samples": {name: scores.score_groups(held_out, method) for name, method in methods.items()},
        }
        folder.write_json("summary.json", summary)
        return Run(folder.model, summary)


def _fit(channels: Floats, size: int) -> Floats:
    """Input channels repeated to a tile's size, or cut to it."""
    grow = [(0, max(0, size - edge)) for edge in channels.shape[:2]]
    return np.pad(channels, (*grow, (0, 0)), mode="wrap")[:size, :size]

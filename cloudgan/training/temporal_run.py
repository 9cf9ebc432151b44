"""One training run of the temporal generator: series in, a folder with metrics and the exported model out."""

from __future__ import annotations

import argparse
import csv
import json
import logging
import platform
import sys
import time
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from cloudgan.errors import CloudganError, InputError
from cloudgan.evaluation.metrics import DATA_RANGE
from cloudgan.training.data.records import read_all
from cloudgan.training.data.imagery import BANDS, Floats
from cloudgan.training.data.series import DEPTH, HELD_OUT, PLANES, Series, split
from cloudgan.training.export import contract, export_onnx
from cloudgan.training.models import temporal
from cloudgan.training.models.networks import TILE, discriminator
from cloudgan.training.temporal_samples import Sampler, batches

log = logging.getLogger(__name__)

_CONDITIONS = 7  # planes that the discriminator sees beside the image
_DOUBT = 0.01  # weight of what is foretold: its own layers alone learn from it, and no gradient is clipped


@dataclass(frozen=True, slots=True)
class Recipe:
    """The numbers of a run."""

    width: int = 16
    """Filters at full resolution."""
    classes: int = 4
    """Soft classes of ground in the alignment."""
    rate: float = 5e-4
    """Adam's learning rate at its highest; it falls along a cosine over the run's minutes."""
    pixels: int = 2 * 128 * 128
    """Of a batch; patches of 64, 96 or 128 pixels an edge make it up."""
    plain: float = 0.6
    """Share of real samples without simulated change: 0 to learn widely, more to end a course by."""
    average: float = 0.999
    """Memory of the weights' moving average, per step."""
    near: float = 0.02
    """Weight of the logarithms of the absolute and of the root mean squared error."""
    gradient: float = 0.3
    """Weight of the absolute error of differences between neighbours."""
    structure: float = 0.1
    """Weight of one minus SSIM."""
    angle: float = 0.05
    """Weight of one minus the cosine of the spectral angle."""
    adversarial: float = 0.0
    """Weight of the PatchGAN's cross entropy; 0 trains without a discriminator."""
    doubt_alone: bool = False
    """Whether only what predicts_uncertainty the error learns, and the bands stay as they are."""


class Trainer:
    """The generator, its average, and one step of training."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.model = temporal.generator(recipe.width, recipe.classes)
        self.averaged = temporal.generator(recipe.width, recipe.classes)
        self.averaged.set_weights(self.model.get_weights())
        if recipe.doubt_alone:
            for layer in self.model.layers:
                layer.trainable = layer.name.startswith("doubt")
        self.optimizer = keras.optimizers.Adam(recipe.rate, global_clipnorm=1.0)
        self.optimizer.build(self.model.trainable_variables)
        self.steps = tf.Variable(0.0)
        self.judge = None
        if recipe.adversarial > 0:
            self.judge = _judge(recipe.width)
            self.judge_optimizer = keras.optimizers.Adam(2e-4, beta_1=0.5)
            self.judge_optimizer.build(self.judge.trainable_variables)

    @tf.function(reduce_retracing=True)  # type: ignore[untyped-decorator]
    def step(self, channels: Any, truth: Any, weight: Any) -> tuple[Any, Any]:
        """One step on a batch; returns the loss and the weighted absolute error."""
        recipe = self.recipe
        with tf.GradientTape() as tape:
            made, foretold = tf.split(self.model(channels, training=True), [len(BANDS), 1], axis=-1)
            loss, error = losses(recipe, made, truth, weight)
            loss = loss + _DOUBT * unforeseen(foretold, made, truth, weight)
            if self.judge is not None:
                # What has no truth is alike in both.
                shown = tf.where(weight >= 1, made, truth)
                odds = self.judge([_conditions(channels), shown], training=True)
                loss = loss + recipe.adversarial * tf.reduce_mean(tf.nn.softplus(-odds))
        variables = self.model.trainable_variables
        self.optimizer.apply(tape.gradient(loss, variables), variables)
        if self.judge is not None:
            self._judge_step(channels, truth, shown)
        self.steps.assign_add(1.0)
        keep = tf.minimum(recipe.average, (1.0 + self.steps) / (10.0 + self.steps))
        for slow, fast in zip(self.averaged.weights, self.model.weights, strict=True):
            slow.assign(keep * slow + (1.0 - keep) * fast)
        return loss, error

    def _judge_step(self, channels: Any, truth: Any, shown: Any) -> None:
        assert self.judge is not None  # noqa: S101
        with tf.GradientTape() as tape:
            real = self.judge([_conditions(channels), truth], training=True)
            generated = self.judge([_conditions(channels), tf.stop_gradient(shown)], training=True)
            loss = tf.reduce_mean(tf.nn.softplus(-real)) + tf.reduce_mean(tf.nn.softplus(generated))
        variables = self.judge.trainable_variables
        self.judge_optimizer.apply(tape.gradient(loss / 2, variables), variables)


def losses(recipe: Recipe, made: Any, truth: Any, weight: Any) -> tuple[Any, Any]:
    """The loss of a batch, and the absolute error in it, both over the weighted pixels."""
    error = made - truth
    total = 3 * tf.reduce_sum(weight, axis=(1, 2, 3)) + 1e-3
    # Logarithms, sample by sample, as PSNR has them: else the samples that nothing can foretell rule.
    absolute = tf.reduce_sum(tf.abs(error) * weight, axis=(1, 2, 3)) / total
    squared = tf.reduce_sum(tf.square(error) * weight, axis=(1, 2, 3)) / total
    near = tf.reduce_mean(tf.math.log(absolute + 1e-3) + 0.5 * tf.math.log(squared + 1e-5))
    masked = tf.cast(weight >= 1, tf.float32)
    # An error is steep only where both neighbours have a truth.
    down = tf.abs(error[:, 1:] - error[:, :-1]) * masked[:, 1:] * masked[:, :-1]
    right = tf.abs(error[:, :, 1:] - error[:, :, :-1]) * masked[:, :, 1:] * masked[:, :, :-1]
    steep = (tf.reduce_sum(down) + tf.reduce_sum(right)) / (6 * (tf.reduce_sum(masked) + 1e-3))
    shown = tf.where(weight > 0, made, truth)
    ssim = _similarity(shown, truth)
    inner = masked[:, 3:-3:2, 3:-3:2]
    unlike = tf.reduce_sum((1 - ssim) * inner) / (tf.reduce_sum(inner) + 1e-3)
    lengths = tf.norm(shown, axis=-1) * tf.norm(truth, axis=-1) + 1e-6
    cosine = tf.reduce_sum(shown * truth, axis=-1) / lengths
    turned = tf.reduce_sum((1 - cosine) * masked[..., 0]) / (tf.reduce_sum(masked) + 1e-3)
    loss = recipe.near * near + recipe.gradient * steep + recipe.structure * unlike + recipe.angle * turned
    return loss, tf.reduce_sum(tf.abs(error) * masked) / (3 * tf.reduce_sum(masked) + 1e-3)


def unforeseen(foretold: Any, made: Any, truth: Any, weight: Any) -> Any:
    """How badly a foretold error tells the real one of hidden pixels: Laplace's negative log-likelihood."""
    masked = tf.cast(weight >= 1, tf.float32)
    error = tf.stop_gradient(tf.reduce_mean(tf.abs(made - truth), axis=-1, keepdims=True))
    surprise = tf.math.log(foretold) + error / foretold
    return tf.reduce_sum(surprise * masked) / (tf.reduce_sum(masked) + 1e-3)


def _similarity(made: Any, truth: Any) -> Any:
    """SSIM, band mean, over square windows of 7 pixels on every other pixel: cheap to train by."""

    def mean(values: Any) -> Any:
        return tf.nn.avg_pool2d(values, 7, 2, "VALID")

    c1, c2 = (0.01 * DATA_RANGE) ** 2, (0.03 * DATA_RANGE) ** 2
    a, b = mean(made), mean(truth)
    aa, bb, ab = mean(made * made) - a * a, mean(truth * truth) - b * b, mean(made * truth) - a * b
    ssim = (2 * a * b + c1) * (2 * ab + c2) / ((a * a + b * b + c1) * (aa + bb + c2))
    return tf.reduce_mean(ssim, axis=-1, keepdims=True)


def _judge(width: int) -> keras.Model:
    whole = discriminator(_CONDITIONS, len(BANDS), 2 * width, "none")
    inputs = [keras.Input((None, None, _CONDITIONS)), keras.Input((None, None, len(BANDS)))]
    x = keras.layers.Concatenate()(inputs)
    for layer in whole.layers:
        if isinstance(layer, keras.layers.Conv2D):
            last = layer.filters == 1
            x = keras.layers.Conv2D(layer.filters, 4, strides=layer.strides, padding="same")(x)
            x = x if last else keras.layers.LeakyReLU(negative_slope=0.2)(x)
    return keras.Model(inputs, x, name="judge")


def _conditions(channels: Any) -> Any:
    """The mask and the nearest looks before and after."""
    first = 4 + 4 * DEPTH
    return tf.concat([channels[..., 3:7], channels[..., first : first + 3]], axis=-1)


def validation_batches(every: Sequence[Series], seed: int, count: int = 10) -> list[Any]:
    """Fixed samples of each held-out region, to watch a run by."""
    held: list[Any] = []
    for region in sorted({series.region for series in every}):
        sampler = Sampler([series for series in every if series.region == region], observed=0.0)
        rng = np.random.default_rng(seed)
        for size in sampler.sizes():
            drawn = [sampler.draw(rng, size, plain=True) for _ in range(count)]
            held.append(
                (
                    region,
                    np.stack([s.channels for s in drawn]),
                    np.stack([s.truth for s in drawn]),
                    np.stack([s.weight for s in drawn]),
                )
            )
    return held


def psnr(made: Floats, truth: Floats, weight: Floats) -> float:
    """Mean over samples of the PSNR on weighted pixels, data range 1."""
    square = np.sum((made - truth) ** 2 * weight, axis=(1, 2, 3)) / (3 * weight.sum(axis=(1, 2, 3)))
    return float(np.mean(-10 * np.log10(np.maximum(square, 1e-9))))


def train(
    data_dir: Path,
    run_dir: Path,
    minutes: float,
    recipe: Recipe,
    *,
    seed: int = 0,
    held_out: Collection[str] = HELD_OUT,
    every: Sequence[Series] | None = None,
    start: Path | None = None,
    model_version: str = "0.1.0",
    watch: float = 4.0,
) -> Path:
    """Train for some minutes and export the averaged generator, again and again on the way.

    Args:
        data_dir: Holds the sample imagery.
        run_dir: Is made; receives `metrics.csv`, `averaged.weights.h5`, `model.onnx` and `summary.json`.
        minutes: How long; the learning rate falls to nearly nothing by then.
        recipe: The numbers.
        seed: Of weights and samples.
        held_out: Regions that are only watched, never learned from.
        every: Series instead of those in `data_dir`.
        start: Weights to start from.
        model_version: Written into the contract.
        watch: Minutes between validations.

    Returns:
        The exported file.

    Raises:
        InputError: The folder holds a run already, or the data cannot be used.
    """
    if (run_dir / "metrics.csv").exists():
        raise InputError(f"{run_dir} holds a run already; give another folder")
    run_dir.mkdir(parents=True, exist_ok=True)
    keras.utils.set_random_seed(seed)
    training, validation = split(every or read_all(data_dir), held_out)
    trainer = Trainer(recipe)
    if start is not None:
        for model in (trainer.model, trainer.averaged):
            model.load_weights(start)
    held = validation_batches(validation, seed)
    card: dict[str, Any] = {
        "recipe": {"name": "temporal", **asdict(recipe)},
        "width": recipe.width,
        "steps": 0,
        "data": {
            "train": _dates(training),
            "validation": _dates(validation),
        },
        "scores": {},
        "scores_data_range": DATA_RANGE,
        "seed": seed,
        "versions": {name: version(name) for name in ("keras", "tensorflow")}
        | {"python": platform.python_version()},
    }
    begun = watched = time.monotonic()
    recent: list[tuple[float, float]] = []
    sampler = Sampler(training, plain=recipe.plain)
    _watch(trainer, held, run_dir, 0, 0.0, [(0.0, 0.0)])
    for channels, truth, weight in batches(sampler, np.random.default_rng(seed + 1), recipe.pixels):
        passed = (time.monotonic() - begun) / (60 * minutes)
        card["steps"] += 1
        warm = min(1.0, card["steps"] / 200)
        trainer.optimizer.learning_rate.assign(
            recipe.rate * warm * (0.01 + 0.99 * 0.5 * (1 + np.cos(np.pi * min(passed, 1.0))))
        )
        loss, error = trainer.step(channels, truth, weight)
        recent.append((float(loss), float(error)))
        if time.monotonic() - watched > 60 * watch or passed >= 1:
            card["scores"] = _watch(trainer, held, run_dir, card["steps"], time.monotonic() - begun, recent)
            _export(trainer, run_dir, card, held, model_version)
            recent, watched = [], time.monotonic()
        if passed >= 1:
            break
    (run_dir / "summary.json").write_text(json.dumps(card, indent=1) + "\n")
    return run_dir / "model.onnx"


def _dates(every: Sequence[Series]) -> dict[str, dict[str, int]]:
    return {
        region: {"dates": sum(len(series.days) for series in every if series.region == region)}
        for region in sorted({series.region for series in every})
    }


def _watch(
    trainer: Trainer, held: list[Any], run_dir: Path, step: int, seconds: float, recent: list[Any]
) -> dict[str, Any]:
    result = {
        region: {"psnr": round(psnr(_apply(trainer.averaged, channels), truth, weight), 3)}
        for region, channels, truth, weight in held
    }
    loss, error = np.mean(recent, axis=0)
    row: dict[str, Any] = {"step": step, "seconds": round(seconds)}
    row |= {"loss": round(float(loss), 5), "mae": round(float(error), 5)}
    row |= {f"{region} psnr": scored["psnr"] for region, scored in result.items()}
    path = run_dir / "metrics.csv"
    fresh = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, row)
        if fresh:
            writer.writeheader()
        writer.writerow(row)
    log.info("%s", row)
    return result


def _apply(model: keras.Model, channels: Floats) -> Floats:
    made = [np.asarray(model(part[None], training=False)) for part in channels]
    return np.concatenate(made)[..., : len(BANDS)]


def _export(
    trainer: Trainer, run_dir: Path, card: dict[str, Any], held: list[Any], model_version: str
) -> None:
    trainer.averaged.save_weights(run_dir / "averaged.weights.h5")
    export(trainer.averaged.get_weights(), run_dir / "model.onnx", card, held[0][1][:2], model_version)


def export(weights: list[Any], path: Path, card: dict[str, Any], samples: Floats, model_version: str) -> None:
    """Write a trained generator as ONNX with the contract of the temporal planes.

    Args:
        weights: Of `temporal.generator` at the recipe in `card`.
        path: The file to write.
        card: The model card.
        samples: Planes to check on, NHWC, of a tile or smaller.
        model_version: Written into the contract.
    """
    fixed = temporal.generator(card["recipe"]["width"], card["recipe"]["classes"], TILE)
    fixed.set_weights(weights)
    grow = TILE - samples.shape[1]
    tiles = np.pad(samples, ((0, 0), (0, grow), (0, grow), (0, 0)), mode="wrap")
    terms = contract(card, model_version, "temporal") | {"planes": list(PLANES), "predicts_uncertainty": True}
    export_onnx(fixed, path, terms, tiles)


def main(arguments: list[str]) -> int:
    """Parse the command line, train, and say where the model lies."""
    parser = argparse.ArgumentParser(prog="python -m cloudgan.training temporal", description=__doc__)
    parser.add_argument("data", type=Path, help="folder of the sample imagery")
    parser.add_argument("run", type=Path, help="folder to make for the run")
    parser.add_argument("--minutes", type=float, default=60, help="how long to train (default 60)")
    parser.add_argument("--threads", type=int, default=0, help="of TensorFlow (default: all)")
    parser.add_argument("--seed", type=int, default=0, help="of weights and samples (default 0)")
    parser.add_argument("--start", type=Path, help="weights of an earlier run to go on from")
    parser.add_argument("--rate", type=float, default=Recipe().rate, help="highest learning rate")
    parser.add_argument(
        "--plain", type=float, default=Recipe().plain, help="share of samples without simulated change"
    )
    parser.add_argument("--width", type=int, default=Recipe().width, help="filters at full resolution")
    parser.add_argument("--adversarial", type=float, default=0.0, help="weight of the discriminator")
    parser.add_argument(
        "--doubt-alone", action="store_true", help="train what predicts_uncertainty the error, no more"
    )
    parser.add_argument("--hold-out", nargs="+", default=list(HELD_OUT), metavar="REGION")
    parser.add_argument("--model-version", default="0.1.0", help="written into the model's contract")
    options = parser.parse_args(arguments)
    if options.threads:
        tf.config.threading.set_intra_op_parallelism_threads(options.threads)
        tf.config.threading.set_inter_op_parallelism_threads(1)
    recipe = Recipe(
        width=options.width,
        rate=options.rate,
        plain=options.plain,
        adversarial=options.adversarial,
        doubt_alone=options.doubt_alone,
    )
    try:
        model = train(
            options.data, options.run, options.minutes, recipe, seed=options.seed,
            held_out=options.hold_out, start=options.start, model_version=options.model_version,
        )  # fmt: skip
    except CloudganError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    sys.stdout.write(f"{model}\n")
    return 0

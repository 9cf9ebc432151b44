"""The conditional GAN: one step trains the discriminator, then the generator, each on its own variables."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf
from keras import ops

from cloudgan.training.recipes import Recipe


class Pix2Pix(keras.Model):  # type: ignore[misc]
    """Generator and discriminator, trained against each other.

    A batch is a tuple (cloudy, clear, weight) in reflectance, NHWC; the weight, (batch, 256, 256, 1), says
    how much each pixel counts in the mean absolute error, and 0 leaves out what has no truth.
    The discriminator sees the whole image, with the pixels without truth made alike in real and generated.
    """

    def __init__(self, generator: keras.Model, discriminator: keras.Model, recipe: Recipe) -> None:
        super().__init__(name="pix2pix")
        self.generator = generator
        self.discriminator = discriminator
        self.recipe = recipe
        self.averaged = keras.models.clone_model(generator) if recipe.average > 0 else generator
        """The generator to judge and to ship: its weights averaged over the steps if the recipe says so."""
        if recipe.average > 0:
            self.averaged.set_weights(generator.get_weights())
        self.adversarial = recipe.adversarial_weight > 0
        """Whether the discriminator takes part; set before `fit`."""
        self.steps = self.add_weight(shape=(), dtype="int64", trainable=False, name="steps")

    def compile(self, **kwargs: Any) -> None:
        """Set up the recipe's optimisers."""
        super().compile(**kwargs)
        recipe = self.recipe
        self.generator_optimizer = keras.optimizers.Adam(_rate(recipe, recipe.generator_rate), beta_1=0.5)
        self.discriminator_optimizer = keras.optimizers.Adam(
            _rate(recipe, recipe.discriminator_rate), beta_1=0.5
        )
        self.generator_optimizer.build(self.generator.trainable_variables)
        self.discriminator_optimizer.build(self.discriminator.trainable_variables)

    def call(self, inputs: Any, training: bool = False) -> Any:
        """Cloudy reflectance to declouded reflectance, by the averaged generator."""
        scaling = self.recipe.scaling
        return scaling.reflectance(self.averaged(scaling.scaled(inputs), training=training))

    def discriminator_step(self, cloudy: Any, real: Any, generated: Any) -> Any:
        """One step of the discriminator alone, on scaled images; returns its loss."""
        with tf.GradientTape() as tape:
            on_real = self.discriminator([cloudy, real], training=True)
            on_generated = self.discriminator([cloudy, generated], training=True)
            # The study trains on a real and a generated batch in turn, each weighted by half.
            loss = self.recipe.discriminator_weight * (
                _cross_entropy(on_real, 1.0) + _cross_entropy(on_generated, 0.0)
            )
        variables = self.discriminator.trainable_variables
        self.discriminator_optimizer.apply(tape.gradient(loss, variables), variables)
        return loss

    def generator_step(self, cloudy: Any, real: Any, weight: Any) -> tuple[Any, Any]:
        """One step of the generator alone, on scaled images; returns its adversarial loss and its MAE."""
        recipe = self.recipe
        known = ops.cast(weight > 0, "float32")
        with tf.GradientTape() as tape:
            generated = self.generator(cloudy, training=True)
            error = _weighted_mean(ops.abs(real - generated), weight)
            loss = recipe.mae_weight * error
            adversarial = ops.convert_to_tensor(0.0)
            if self.adversarial:
                judged = generated * known + real * (1.0 - known)
                # In inference mode: its moving averages too move on discriminator steps only.
                adversarial = _cross_entropy(self.discriminator([cloudy, judged], training=False), 1.0)
                loss = loss + recipe.adversarial_weight * adversarial
        variables = self.generator.trainable_variables
        self.generator_optimizer.apply(tape.gradient(loss, variables), variables)
        return adversarial, error

    def train_step(self, data: tuple[Any, Any, Any]) -> dict[str, Any]:
        """Discriminator, then generator, on one batch."""
        cloudy, clear, weight = data
        scaling = self.recipe.scaling
        source, real = scaling.scaled(cloudy), scaling.scaled(clear)
        judge_loss: Any = ops.convert_to_tensor(0.0)
        if self.adversarial:
            known = ops.cast(weight > 0, "float32")
            generated = self.generator(source, training=False)
            judge_loss = self.discriminator_step(source, real, generated * known + real * (1.0 - known))
        adversarial, error = self.generator_step(source, real, weight)
        self.steps.assign_add(1)
        self._average()
        return {"discriminator": judge_loss, "adversarial": adversarial, "mae": error}

    def test_step(self, data: tuple[Any, Any, Any]) -> dict[str, Any]:
        """The weighted mean absolute error in reflectance, of the averaged generator at inference."""
        cloudy, clear, weight = data
        return {"mae": _weighted_mean(ops.abs(self(cloudy) - clear), weight)}

    def _average(self) -> None:
        if self.averaged is self.generator:
            return
        # Early on a long memory would hold the random start: it grows with the steps.
        steps = ops.cast(self.steps, "float32")
        keep = ops.minimum(self.recipe.average, (1.0 + steps) / (10.0 + steps))
        for slow, fast in zip(self.averaged.weights, self.generator.weights, strict=True):
            if slow.dtype == "float32":
                slow.assign(keep * slow + (1.0 - keep) * fast)


def _rate(recipe: Recipe, rate: float) -> Any:
    if not recipe.decay:
        return rate
    return keras.optimizers.schedules.CosineDecay(rate, recipe.steps, alpha=0.02)


def _cross_entropy(probability: Any, truth: float) -> Any:
    return ops.mean(keras.losses.binary_crossentropy(ops.full_like(probability, truth), probability))


def _weighted_mean(error: Any, weight: Any) -> Any:
    bands = error.shape[-1]
    return ops.sum(error * weight) / (bands * ops.sum(weight) + 1e-6)

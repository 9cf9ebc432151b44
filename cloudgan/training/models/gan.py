"""The conditional GAN: one step trains the discriminator, then the generator, each on its own variables."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from cloudgan.training.models.gradients import descend
from cloudgan.training.models.losses import PixelLoss, cross_entropy
from cloudgan.training.recipe import Discriminator, Optimizer, Stage


class ConditionalGan(keras.Model):  # type: ignore[misc]
    """A generator, trained by a pixel loss and, where there is one, against a discriminator.

    The generator is any Keras model from input channels to what the pixel loss compares with the truth, the
    discriminator one from input channels and an image to probabilities. A batch is a tuple (channels, truth,
    weight), NHWC: the channels are what the generator takes, the truth is reflectance of its bands, and the
    weight, one channel, says how much a pixel counts; 0 leaves out what has no truth. The discriminator sees
    the whole image, with the pixels that do not count made equal in real and generated.
    """

    def __init__(
        self,
        generator: keras.Model,
        pixel_loss: PixelLoss,
        optimizer: Optimizer | None = None,
        discriminator: tuple[keras.Model, Discriminator] | None = None,
        ema_decay: float = 0.0,
    ) -> None:
        """Pair the networks.

        Args:
            generator: From input channels to what the loss takes.
            pixel_loss: What the generator is to come near.
            optimizer: Of the generator; the study's by default.
            discriminator: From [input channels, image] to probabilities, and its settings.
            ema_decay: Memory of the weights' moving average, per step; 0 keeps none.
        """
        super().__init__(name="conditional_gan")
        self.generator = generator
        self.pixel_loss = pixel_loss
        network, adversary = discriminator or (None, None)
        self.discriminator: Any = network
        self.adversary: Any = adversary
        self.ema_decay = ema_decay
        self.averaged = generator
        """The generator to evaluate and to ship: its weights averaged over the steps where so asked."""
        if ema_decay > 0:
            self.averaged = keras.models.clone_model(generator)
            self.averaged.set_weights(generator.get_weights())
            self.averaged.trainable = False
        self.adversarial = discriminator is not None
        """Whether the discriminator takes part; see `prepare`."""
        self._optimizer_settings = optimizer or Optimizer()
        self.steps = self.add_weight(
            shape=(), dtype="int32", trainable=False, aggregation="only_first_replica", name="steps"
        )
        self.built = True  # both networks are

    def compile(self, **kwargs: Any) -> None:
        """Set up the optimisers; takes the other arguments of `keras.Model.compile`."""
        ours = self._optimizer_settings
        stage = Stage()
        first = keras.optimizers.Adam(stage.learning_rate, beta_1=ours.beta_1, global_clipnorm=ours.clip_norm)
        first.build(self.generator.trainable_variables)
        second = None
        if self.discriminator is not None and self.adversary is not None:
            second = keras.optimizers.Adam(self.adversary.learning_rate, beta_1=self.adversary.beta_1)
            second.build(self.discriminator.trainable_variables)
        super().compile(optimizer=_Pair(first, second), **kwargs)

    def prepare(self, *, adversarial: bool, layers: str | None = None) -> None:
        """Choose what the steps from here on train.

        Args:
            adversarial: Whether the discriminator takes part.
            layers: What the names of the generator's layers begin with that learn; all of them by default.
        """
        if layers is not None:
            for layer in self.generator.layers:
                layer.trainable = layer.name.startswith(layers)
        self.adversarial = adversarial and self.discriminator is not None
        self.make_train_function(force=True)  # Keras keeps the step that it traced

    def restart(self) -> None:
        """Go on from the averaged weights with an optimiser and an average that remember nothing."""
        self.generator.set_weights(self.averaged.get_weights())
        rate = float(self.generator_optimizer.learning_rate)
        for variable in self.generator_optimizer.variables:
            variable.assign(ops.zeros_like(variable))
        self.generator_optimizer.learning_rate = rate
        self.steps.assign(0)

    @property
    def generator_optimizer(self) -> keras.optimizers.Optimizer:
        """Moves the generator."""
        return self.optimizer.first

    @property
    def discriminator_optimizer(self) -> keras.optimizers.Optimizer:
        """Moves the discriminator."""
        return self.optimizer.second

    def call(self, inputs: Any, training: bool = False) -> Any:
        """Input channels to reflectance, by the averaged generator."""
        return self.pixel_loss.to_reflectance(self.averaged(inputs, training=training))

    def discriminator_step(self, channels: Any, real: Any, generated: Any) -> Any:
        """One step of the discriminator alone, on images of the loss's scale; returns its loss."""
        network, adversary = self.discriminator, self.adversary

        def objective() -> tuple[Any, None]:
            on_real = network([channels, real], training=True)
            on_generated = network([channels, generated], training=True)
            # The study trains on a real and a generated batch in turn, each weighted by half.
            both = cross_entropy(on_real, 1.0) + cross_entropy(on_generated, 0.0)
            return adversary.weight * both, None

        variables = network.trainable_variables
        return descend(objective, self.discriminator_optimizer, variables, self._state())[0]

    def generator_step(self, channels: Any, truth: Any, weight: Any) -> dict[str, Any]:
        """One step of the generator alone; returns its losses."""
        compare, adversary = self.pixel_loss, self.adversary
        real = compare.from_reflectance(truth)

        def objective() -> tuple[Any, dict[str, Any]]:
            generated = self.generator(channels, training=True)
            loss, error = compare(generated, real, weight)
            losses = {"mae": error}
            if self.adversarial:
                image = compare.compose(generated, real, weight)
                # In inference mode: its moving averages too move on discriminator steps only.
                losses["adversarial"] = cross_entropy(
                    self.discriminator([channels, image], training=False), 1.0
                )
                loss = loss + adversary.adversarial_weight * losses["adversarial"]
            losses["loss"] = loss
            return loss, {name: ops.stop_gradient(value) for name, value in losses.items()}

        variables = self.generator.trainable_variables
        losses: dict[str, Any] = descend(objective, self.generator_optimizer, variables, self._state())[1]
        return losses

    def train_step(self, *given: Any) -> Any:
        """Discriminator, then generator, on one batch: of the data, or (JAX) of the state and the data."""
        if keras.backend.backend() == "jax":
            return self._stateless(self._train, self.optimizer.variables, *given)
        return self._train(*given)

    def test_step(self, *given: Any) -> Any:
        """The weighted mean absolute error of the averaged generator at inference."""
        if keras.backend.backend() == "jax":
            return self._stateless(self._test, [], *given)
        return self._test(*given)

    def _train(self, data: tuple[Any, Any, Any]) -> dict[str, Any]:
        channels, truth, weight = (ops.convert_to_tensor(part) for part in data)
        zero = ops.zeros(())
        losses = {"discriminator": zero, "adversarial": zero} if self.discriminator is not None else {}
        if self.adversarial:
            real = self.pixel_loss.from_reflectance(truth)
            generated = ops.stop_gradient(self.generator(channels, training=False))
            image = self.pixel_loss.compose(generated, real, weight)
            losses["discriminator"] = self.discriminator_step(channels, real, image)
        losses |= self.generator_step(channels, truth, weight)
        self.steps.assign(self.steps + 1)
        self._average()
        return losses

    def _test(self, data: tuple[Any, Any, Any]) -> dict[str, Any]:
        channels, truth, weight = (ops.convert_to_tensor(part) for part in data)
        error = ops.abs(self(channels)[..., : truth.shape[-1]] - truth)
        return {"mae": ops.sum(error * weight) / (truth.shape[-1] * ops.sum(weight) + 1e-6)}

    def _stateless(self, step: Any, optimizer: list[Any], state: Any, data: Any) -> Any:
        """A step as Keras's JAX trainer wants it: variables' values in, logs and new values out."""
        lists = [self.trainable_variables, self.non_trainable_variables, self.metrics_variables]
        if optimizer:
            lists.insert(2, optimizer)
        mapping = [
            pair
            for variables, values in zip(lists, state, strict=True)
            for pair in zip(variables, values, strict=True)
        ]
        with keras.StatelessScope(mapping) as scope:
            logs = step(data)
        return logs, tuple(
            [scope.get_current_value(variable) for variable in variables] for variables in lists
        )

    def _state(self) -> list[keras.Variable]:
        return [*self.trainable_variables, *self.non_trainable_variables, *self.optimizer.variables]

    def _average(self) -> None:
        if self.averaged is self.generator:
            return
        # Early on a long memory would hold the random start: it grows with the steps.
        steps = ops.cast(self.steps, "float32")
        keep = ops.minimum(self.ema_decay, (1.0 + steps) / (10.0 + steps))
        for slow, fast in zip(self.averaged.weights, self.generator.weights, strict=True):
            slow.assign(keep * slow + (1.0 - keep) * fast)


class _Pair(keras.optimizers.Optimizer):  # type: ignore[misc]
    """One or two optimisers as one, so that Keras carries and saves the state of both."""

    def __init__(self, first: keras.optimizers.Optimizer, second: keras.optimizers.Optimizer | None) -> None:
        super().__init__(learning_rate=0.0, name="pair")
        self.first, self.second = first, second
        self.built = True

    @property
    def variables(self) -> list[Any]:
        """Of both; of its own it has none."""
        return [*self.first.variables, *(self.second.variables if self.second is not None else ())]

"""The conditional GAN: one step trains the discriminator, then the generator, each on its own variables."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from cloudgan.training.models.gradients import descend
from cloudgan.training.models.scaling import Scaling
from cloudgan.training.recipe import Objective


class Pix2Pix(keras.Model):  # type: ignore[misc]
    """Generator and discriminator, trained against each other.

    The generator is any Keras model from input planes to scaled bands, the discriminator one from planes and
    scaled bands to probabilities. A batch is a tuple (planes, truth, weight), NHWC: the planes are what the
    generator takes, the truth is reflectance of its bands, and the weight, one plane, says how much a pixel
    counts in the mean absolute error; 0 leaves out what has no truth. The discriminator sees the whole image,
    with the pixels without truth made alike in real and generated.
    """

    def __init__(
        self,
        generator: keras.Model,
        discriminator: keras.Model,
        objective: Objective,
        scaling: Scaling,
        steps: int,
    ) -> None:
        """Pair the networks.

        Args:
            generator: From planes to scaled bands.
            discriminator: From [planes, scaled bands] to probabilities.
            objective: Losses and rates.
            scaling: Of the bands.
            steps: In all; rates that fall, and a discriminator that joins late, go by them.
        """
        super().__init__(name="pix2pix")
        self.generator = generator
        self.discriminator = discriminator
        self.objective = objective
        self.scaling = scaling
        self.planned = steps
        self.averaged = generator
        """The generator to judge and to ship: its weights averaged over the steps where so asked."""
        if objective.average > 0:
            self.averaged = keras.models.clone_model(generator)
            self.averaged.set_weights(generator.get_weights())
            self.averaged.trainable = False
        self.adversarial = objective.adversarial_weight > 0
        """Whether the discriminator takes part; set before `fit`."""
        self.steps = self.add_weight(
            shape=(), dtype="int32", trainable=False, aggregation="only_first_replica", name="steps"
        )
        self.built = True  # both networks are

    def compile(self, **kwargs: Any) -> None:
        """Set up the objective's optimisers; takes the other arguments of `keras.Model.compile`."""
        rates = self.objective.generator_rate, self.objective.discriminator_rate
        networks = self.generator, self.discriminator
        optimizers = []
        for rate, network in zip(rates, networks, strict=True):
            schedule = _falling(rate, self.planned) if self.objective.decay else rate
            optimizer = keras.optimizers.Adam(schedule, beta_1=self.objective.beta_1)
            optimizer.build(network.trainable_variables)
            optimizers.append(optimizer)
        super().compile(optimizer=_Both(*optimizers), **kwargs)

    @property
    def generator_optimizer(self) -> keras.optimizers.Optimizer:
        """Moves the generator."""
        return self.optimizer.first

    @property
    def discriminator_optimizer(self) -> keras.optimizers.Optimizer:
        """Moves the discriminator."""
        return self.optimizer.second

    def call(self, inputs: Any, training: bool = False) -> Any:
        """Planes to declouded reflectance, by the averaged generator."""
        return self.scaling.reflectance(self.averaged(inputs, training=training))

    def discriminator_step(self, channels: Any, real: Any, generated: Any) -> Any:
        """One step of the discriminator alone, on scaled images; returns its loss."""

        def objective() -> tuple[Any, None]:
            on_real = self.discriminator([channels, real], training=True)
            on_generated = self.discriminator([channels, generated], training=True)
            # The study trains on a real and a generated batch in turn, each weighted by half.
            both = _cross_entropy(on_real, 1.0) + _cross_entropy(on_generated, 0.0)
            return self.objective.discriminator_weight * both, None

        variables = self.discriminator.trainable_variables
        return descend(objective, self.discriminator_optimizer, variables, self._state())[0]

    def generator_step(self, channels: Any, real: Any, weight: Any) -> tuple[Any, Any]:
        """One step of the generator alone, on scaled images; returns its adversarial loss and its MAE."""
        known = ops.cast(weight > 0, "float32")

        def objective() -> tuple[Any, tuple[Any, Any]]:
            generated = self.generator(channels, training=True)
            error = _weighted_mean(ops.abs(real - generated), weight)
            loss = self.objective.mae_weight * error
            adversarial = ops.zeros(())
            if self.adversarial:
                judged = generated * known + real * (1.0 - known)
                # In inference mode: its moving averages too move on discriminator steps only.
                adversarial = _cross_entropy(self.discriminator([channels, judged], training=False), 1.0)
                loss = loss + self.objective.adversarial_weight * adversarial
            return loss, (ops.stop_gradient(adversarial), ops.stop_gradient(error))

        variables = self.generator.trainable_variables
        losses: tuple[Any, Any] = descend(objective, self.generator_optimizer, variables, self._state())[1]
        return losses

    def train_step(self, *given: Any) -> Any:
        """Discriminator, then generator, on one batch: of the data, or (JAX) of the state and the data."""
        if keras.backend.backend() == "jax":
            return self._stateless(self._train, self.optimizer.variables, *given)
        return self._train(*given)

    def test_step(self, *given: Any) -> Any:
        """The weighted mean absolute error in reflectance, of the averaged generator at inference."""
        if keras.backend.backend() == "jax":
            return self._stateless(self._test, [], *given)
        return self._test(*given)

    def _train(self, data: tuple[Any, Any, Any]) -> dict[str, Any]:
        channels, truth, weight = (ops.convert_to_tensor(part) for part in data)
        real = self.scaling.scaled(truth)
        judge_loss: Any = ops.zeros(())
        if self.adversarial:
            known = ops.cast(weight > 0, "float32")
            generated = ops.stop_gradient(self.generator(channels, training=False))
            judge_loss = self.discriminator_step(channels, real, generated * known + real * (1.0 - known))
        adversarial, error = self.generator_step(channels, real, weight)
        self.steps.assign(self.steps + 1)
        self._average()
        return {"discriminator": judge_loss, "adversarial": adversarial, "mae": error}

    def _test(self, data: tuple[Any, Any, Any]) -> dict[str, Any]:
        channels, truth, weight = (ops.convert_to_tensor(part) for part in data)
        return {"mae": _weighted_mean(ops.abs(self(channels) - truth), weight)}

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
        keep = ops.minimum(self.objective.average, (1.0 + steps) / (10.0 + steps))
        for slow, fast in zip(self.averaged.weights, self.generator.weights, strict=True):
            slow.assign(keep * slow + (1.0 - keep) * fast)


class _Both(keras.optimizers.Optimizer):  # type: ignore[misc]
    """Two optimisers in one hand, so that Keras carries and saves the state of both."""

    def __init__(self, first: keras.optimizers.Optimizer, second: keras.optimizers.Optimizer) -> None:
        super().__init__(learning_rate=0.0, name="both")
        self.first, self.second = first, second
        self.built = True

    @property
    def variables(self) -> list[Any]:
        """Of both; of its own it has none."""
        return [*self.first.variables, *self.second.variables]


def _falling(rate: float, steps: int) -> Any:
    return keras.optimizers.schedules.CosineDecay(rate, steps, alpha=0.02)


def _cross_entropy(probability: Any, truth: float) -> Any:
    return ops.mean(keras.losses.binary_crossentropy(ops.full_like(probability, truth), probability))


def _weighted_mean(error: Any, weight: Any) -> Any:
    bands = error.shape[-1]
    return ops.sum(error * weight) / (bands * ops.sum(weight) + 1e-6)

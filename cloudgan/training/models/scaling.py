"""Between reflectance and the [-1, 1] in which the networks work: one fixed scale for cloudy and clear."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
from keras import ops

from cloudgan.errors import InputError


@dataclass(frozen=True, slots=True)
class Scaling:
    """The fixed scale of a recipe: `2 * (clip(reflectance, 0, full) / full) ** gamma - 1`.

    It knows nothing of the image at hand: scaling each image by its own maximum, as the study's notebooks do,
    moves the colours of a pair apart and flatters the scores.
    """

    full: float = 1.0
    """Reflectance that becomes 1; brighter is clipped (only clouds are)."""
    gamma: float = 1.0
    """1 is linear; 0.5 spreads the dark end, where green and red of fields lie."""

    def __post_init__(self) -> None:
        if not (self.full > 0 and 0 < self.gamma <= 1):
            raise InputError(f"scaling needs full > 0 and gamma in (0, 1], got {self}")

    def scaled(self, reflectance: Any) -> Any:
        """Reflectance to [-1, 1], a tensor of the same shape."""
        unit = ops.clip(reflectance, 0.0, self.full) / self.full
        if self.gamma == 0.5:
            unit = ops.sqrt(unit)
        elif self.gamma != 1:
            unit = ops.power(unit, self.gamma)
        return 2.0 * unit - 1.0

    def reflectance(self, scaled: Any) -> Any:
        """The way back: [-1, 1] to reflectance, a tensor of the same shape."""
        unit = ops.clip((scaled + 1.0) / 2.0, 0.0, 1.0)
        if self.gamma == 0.5:
            unit = ops.square(unit)
        elif self.gamma != 1:
            unit = ops.power(unit, 1.0 / self.gamma)
        return unit * self.full


@keras.saving.register_keras_serializable(package="cloudgan")
class ToScaled(keras.layers.Layer):  # type: ignore[misc]
    """Reflectance to [-1, 1], as a layer, so that the scale travels inside the exported model."""

    def __init__(self, full: float = 1.0, gamma: float = 1.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.scaling = Scaling(full, gamma)

    def call(self, inputs: Any) -> Any:
        """Scale a tensor of any shape."""
        return self.scaling.scaled(inputs)

    def get_config(self) -> dict[str, Any]:
        """What Keras needs to build it again."""
        return {**super().get_config(), "full": self.scaling.full, "gamma": self.scaling.gamma}


@keras.saving.register_keras_serializable(package="cloudgan")
class ToReflectance(keras.layers.Layer):  # type: ignore[misc]
    """[-1, 1] to reflectance, as a layer."""

    def __init__(self, full: float = 1.0, gamma: float = 1.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.scaling = Scaling(full, gamma)

    def call(self, inputs: Any) -> Any:
        """Unscale a tensor of any shape."""
        return self.scaling.reflectance(inputs)

    def get_config(self) -> dict[str, Any]:
        """What Keras needs to build it again."""
        return {**super().get_config(), "full": self.scaling.full, "gamma": self.scaling.gamma}


def seeing_reflectance(model: keras.Model, scaling: Scaling) -> keras.Model:
    """A network whose first input is reflectance instead of scaled planes, sharing the weights."""
    inputs = [keras.Input(given.shape[1:], name=f"input_{i}") for i, given in enumerate(model.inputs)]
    scaled = ToScaled(scaling.full, scaling.gamma, dtype="float32")(inputs[0])
    if len(inputs) == 1:
        return keras.Model(inputs[0], model(scaled), name=model.name)
    return keras.Model(inputs, model([scaled, *inputs[1:]]), name=model.name)


def giving_reflectance(model: keras.Model, scaling: Scaling) -> keras.Model:
    """A network whose output is reflectance instead of scaled bands, sharing the weights."""
    inputs = keras.Input(model.input_shape[1:], name="reflectance")
    unscaled = ToReflectance(scaling.full, scaling.gamma, dtype="float32")(model(inputs))
    return keras.Model(inputs, unscaled, name="declouder")

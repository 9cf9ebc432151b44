"""Between reflectance and the [-1, 1] in which the U-Net works: one fixed scale for cloudy and clear.

It knows nothing of the image at hand. Scaling each image by its own maximum, as the study's notebooks do,
moves the colours of a pair apart and flatters the scores.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from cloudgan.training.recipe import Scaling


def scale(reflectance: Any, scaling: Scaling) -> Any:
    """Reflectance to [-1, 1], a tensor of the same shape."""
    unit = ops.clip(reflectance, 0.0, scaling.full) / scaling.full
    if scaling.gamma == 0.5:
        unit = ops.sqrt(unit)
    elif scaling.gamma != 1:
        unit = ops.power(unit, scaling.gamma)
    return 2.0 * unit - 1.0


def unscale(scaled: Any, scaling: Scaling) -> Any:
    """The way back: [-1, 1] to reflectance, a tensor of the same shape."""
    unit = ops.clip((scaled + 1.0) / 2.0, 0.0, 1.0)
    if scaling.gamma == 0.5:
        unit = ops.square(unit)
    elif scaling.gamma != 1:
        unit = ops.power(unit, 1.0 / scaling.gamma)
    return unit * scaling.full


class _ScalingLayer(keras.layers.Layer):  # type: ignore[misc]
    def __init__(self, full: float = 1.0, gamma: float = 1.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.scaling = Scaling(full=full, gamma=gamma)

    def get_config(self) -> dict[str, Any]:
        """What Keras needs to build it again."""
        return {**super().get_config(), "full": self.scaling.full, "gamma": self.scaling.gamma}


@keras.saving.register_keras_serializable(package="cloudgan")
class ToScaled(_ScalingLayer):
    """Reflectance to [-1, 1], as a layer, so that the scale travels inside the exported model."""

    def call(self, inputs: Any) -> Any:
        """Scale a tensor of any shape."""
        return scale(inputs, self.scaling)


@keras.saving.register_keras_serializable(package="cloudgan")
class ToReflectance(_ScalingLayer):
    """[-1, 1] to reflectance, as a layer."""

    def call(self, inputs: Any) -> Any:
        """Unscale a tensor of any shape."""
        return unscale(inputs, self.scaling)


def take_reflectance(model: keras.Model, scaling: Scaling) -> keras.Model:
    """A network whose first input is reflectance instead of scaled channels, sharing the weights."""
    inputs = [keras.Input(given.shape[1:], name=f"input_{i}") for i, given in enumerate(model.inputs)]
    scaled = ToScaled(scaling.full, scaling.gamma, dtype="float32")(inputs[0])
    if len(inputs) == 1:
        return keras.Model(inputs[0], model(scaled), name=model.name)
    return keras.Model(inputs, model([scaled, *inputs[1:]]), name=model.name)


def give_reflectance(model: keras.Model, scaling: Scaling) -> keras.Model:
    """A network whose output is reflectance instead of scaled bands, sharing the weights."""
    inputs = keras.Input(model.input_shape[1:], name="reflectance")
    unscaled = ToReflectance(scaling.full, scaling.gamma, dtype="float32")(model(inputs))
    return keras.Model(inputs, unscaled, name="declouder")

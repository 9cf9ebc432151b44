"""The documented networks, U-Net generator and PatchGAN discriminator, as plain Keras 3 functional models.

Both work on scaled images in [-1, 1] (see `scaling`), NHWC. `width` 64 is what the study documents; a smaller
width thins every layer alike. Batch normalisation and dropout carry no `training=True`: they are off at
inference, so that a pixel depends neither on the batch nor on chance.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any, get_args

import keras
from keras import layers

from cloudgan.errors import InputError
from cloudgan.training.recipe import TILE, Normalisation, Upsampling

_ENCODER = (1, 2, 4, 8, 8, 8, 8)  # times width: 64-128-256-512-512-512-512
_BOTTLENECK = 8
_DROPPED = 3  # decoder blocks with dropout
_DISCRIMINATOR = (1, 2, 4, 8, 8)  # times width: 64-128-256-512-512, then 1
# Keras's 0.99 would need some thousand steps to forget that a fresh variance is 1: in so short a training the
# network at inference would lag behind the one that learns.
_MOMENTUM = 0.9


def generator(
    channels: int = 3,
    bands: int = 3,
    width: int = 64,
    normalisation: Normalisation = "batch",
    upsampling: Upsampling = "transposed",
    dropout: float = 0.5,
    residual: bool = False,
    size: int | None = TILE,
) -> keras.Model:
    """The U-Net: cloudy channels to declouded bands.

    Args:
        channels: Input channels.
        bands: Output bands.
        width: Filters of the first layer; 64 is documented.
        normalisation: "batch" is documented; "instance" and "none" are variants.
        upsampling: "transposed" convolutions are documented; "resize" (nearest neighbour, then a convolution)
            leaves no checkerboard.
        dropout: Share of features dropped in the first three decoder blocks while training.
        residual: Whether what it makes is added to the first `bands` channels, not put in their place, so
            that what is in clear view stays as it is from the first step on. Not as documented.
        size: Edge of the images in pixels, a multiple of 256, or None for any; the weights are the same.

    Returns:
        A model from (batch, size, size, channels) to (batch, size, size, bands), both in [-1, 1].
        Residual ones may go beyond.

    Raises:
        InputError: An argument is out of range.
    """
    _check(width, size, normalisation, upsampling)
    inputs = keras.Input((size, size, channels), name="scaled_channels")
    skips = []
    x = inputs
    for level, factor in enumerate(_ENCODER):
        x = _halved(x, factor * width, normalisation)
        if level > 0:  # the first layer sees the colours themselves
            x = _normalised(x, normalisation)
        x = layers.LeakyReLU(negative_slope=0.2)(x)
        skips.append(x)
    # Here a tile is one pixel: no statistics to normalise by.
    x = layers.ReLU()(_halved(x, _BOTTLENECK * width, normalisation))
    for level, (factor, skip) in enumerate(zip(reversed(_ENCODER), reversed(skips), strict=True)):
        x = _normalised(_doubled(x, factor * width, upsampling, normalisation), normalisation)
        if level < _DROPPED and dropout > 0:
            x = layers.Dropout(dropout)(x)
        x = layers.ReLU()(layers.Concatenate()([x, skip]))
    x = _doubled(x, bands, upsampling, normalisation, "zeros" if residual else None)
    # In full precision, also where the rest is mixed.
    if residual:
        # No tanh: a white cloud lies at its end, where no gradient would come through.
        outputs = layers.Add(dtype="float32", name="scaled_bands")([inputs[..., :bands], x])
    else:
        outputs = layers.Activation("tanh", dtype="float32", name="scaled_bands")(x)
    return keras.Model(inputs, outputs, name="generator")


def discriminator(
    channels: int = 3,
    bands: int = 3,
    width: int = 64,
    normalisation: Normalisation = "batch",
    size: int | None = TILE,
) -> keras.Model:
    """The PatchGAN: how real each patch of a (cloudy, clear) pair is.

    Args:
        channels: Channels of the cloudy image.
        bands: Bands of the clear or declouded image.
        width: Filters of the first layer; 64 is documented.
        normalisation: As of `generator`.
        size: As of `generator`.

    Returns:
        A model from two images in [-1, 1], (batch, size, size, channels) and (batch, size, size, bands), to a
        probability per patch of 142 x 142 pixels, (batch, size / 16, size / 16, 1).

    Raises:
        InputError: An argument is out of range.
    """
    _check(width, size, normalisation, "transposed")
    cloudy = keras.Input((size, size, channels), name="scaled_channels")
    image = keras.Input((size, size, bands), name="scaled_bands")
    x = layers.Concatenate()([cloudy, image])
    for level, factor in enumerate(_DISCRIMINATOR):
        strides = 1 if level == len(_DISCRIMINATOR) - 1 else 2
        x = _convolution(factor * width, strides, normalisation)(x)
        if level > 0:
            x = _normalised(x, normalisation)
        x = layers.LeakyReLU(negative_slope=0.2)(x)
    x = layers.Conv2D(1, 4, padding="same", kernel_initializer=_initial("batch"))(x)
    outputs = layers.Activation("sigmoid", dtype="float32", name="probability")(x)
    return keras.Model([cloudy, image], outputs, name="discriminator")


def select_channels(model: keras.Model, channels: int, selected: Sequence[int]) -> keras.Model:
    """A discriminator that takes all input channels and sees some of them, sharing the weights.

    Args:
        model: From [selected channels, image].
        channels: How many there are.
        selected: Their indices, in the order in which the model takes them.
    """
    inputs = keras.Input((*model.inputs[0].shape[1:3], channels), name="channels")
    image = keras.Input(model.inputs[1].shape[1:], name="image")
    seen = layers.Concatenate(name="selected")([inputs[..., index : index + 1] for index in selected])
    return keras.Model([inputs, image], model([seen, image]), name=model.name)


def summary(width: int = 64, size: int = TILE) -> list[str]:
    """Both networks as lines of a Markdown table: layer, output, parameters, GFLOP per image at inference.

    Args:
        width: Filters of the first layer.
        size: Edge of the images in pixels.
    """
    lines = ["| layer | output | what | parameters | GFLOP |", "|---|---|---|---|---|"]
    for model in (generator(width=width, size=size), discriminator(width=width, size=size)):
        work = [_gflop(layer) for layer in model.layers]
        for layer, gflop in zip(model.layers, work, strict=True):
            if layer.count_params():
                shape = " x ".join(map(str, layer.output.shape[1:]))
                kind = type(layer).__name__
                lines.append(f"| {layer.name} | {shape} | {kind} | {layer.count_params():,} | {gflop:.3f} |")
        lines.append(f"| **{model.name}** |  | all | {model.count_params():,} | {sum(work):.3f} |")
    return [re.sub(r"_\d+ \|", " |", line) for line in lines]


def _gflop(layer: keras.layers.Layer) -> float:
    """Of one image: a product and a sum each for every weight of a convolution at every place it is put."""
    if isinstance(layer, layers.Conv2DTranspose):
        places = layer.input.shape[1:3]
    elif isinstance(layer, layers.Conv2D):
        places = layer.output.shape[1:3]
    else:
        return 0.0
    return 2e-9 * float(math.prod(places) * math.prod(layer.kernel.shape))


def _check(width: int, size: int | None, normalisation: str, upsampling: str) -> None:
    if width < 1:
        raise InputError(f"a network needs a width of at least 1, got {width}")
    if size is not None and (size < TILE or size % TILE):
        raise InputError(f"a network takes images of a multiple of {TILE} pixels, got {size}")
    if normalisation not in get_args(Normalisation):
        raise InputError(f"normalisation is one of {get_args(Normalisation)}, got {normalisation!r}")
    if upsampling not in get_args(Upsampling):
        raise InputError(f"upsampling is one of {get_args(Upsampling)}, got {upsampling!r}")


def _initial(normalisation: str) -> keras.initializers.Initializer:
    # pix2pix draws N(0, 0.02) and lets normalisation restore the scale; without it the signal would die out.
    if normalisation == "none":
        return keras.initializers.HeNormal()
    return keras.initializers.RandomNormal(stddev=0.02)


def _convolution(
    filters: int, strides: int, normalisation: str, size: int = 4, initial: str | None = None
) -> keras.layers.Layer:
    start = initial or _initial(normalisation)
    return layers.Conv2D(filters, size, strides=strides, padding="same", kernel_initializer=start)


def _halved(x: Any, filters: int, normalisation: str) -> Any:
    return _convolution(filters, 2, normalisation)(x)


def _doubled(x: Any, filters: int, upsampling: str, normalisation: str, initial: str | None = None) -> Any:
    if upsampling == "resize":
        x = layers.UpSampling2D(2, interpolation="nearest")(x)
        return _convolution(filters, 1, normalisation, 3, initial)(x)
    start = initial or _initial(normalisation)
    return layers.Conv2DTranspose(filters, 4, strides=2, padding="same", kernel_initializer=start)(x)


def _normalised(x: Any, normalisation: str) -> Any:
    if normalisation == "batch":
        return layers.BatchNormalization(momentum=_MOMENTUM)(x)
    if normalisation == "instance":
        # One group per feature: statistics over the image alone.
        return layers.GroupNormalization(groups=-1)(x)
    return x

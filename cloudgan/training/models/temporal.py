"""The temporal generator: dates before and after, brought to the target's radiometry, and a U-Net on top.

One graph from input channels to reflectance, for any size that 16 divides:

1. Each clear observation is aligned to the clear pixels of the target. The difference between the two is
   averaged around each place over surface of the same soft class, which the network learns, and added to the
   observation. The mean of a class with few pixels in view is shrunk towards that of all surface, and that
   towards zero. A learned trust leaves out clear pixels that deviate from those around: haze and shadow that
   nothing masks. A learned gate says how far the target is followed at all. It lets through little of what
   sets the target apart from the dates before and after in the same way: a hazy target must not make the
   generated surface hazy. Averages are taken in cells of 8 pixels.
2. The aligned dates are averaged. The nearer in time the heavier, and the further a date deviates from the
   others the lighter: a cloud or shadow that the classification missed is seen on one date alone. A ridge
   regression of the target's clear pixels on the dates corrects the mean.
3. A residual U-Net corrects the mean and its weights. Its last layer starts at zero, so that the network
   starts at the robust mean of the aligned dates.
4. Where no date is clear, the mean colour of the clear pixels around takes the place of the mean.

There is no normalisation: a pixel depends on nothing but its tile.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import layers

from cloudgan.model.contract import Channel, Source
from cloudgan.training.models.alignment import (
    DifferenceFeatures,
    LocalRadiometricAlignment,
    MaskEdge,
    Prepare,
)
from cloudgan.training.models.estimation import (
    CombineDates,
    RidgeCorrection,
    RobustMean,
    RobustWeighting,
    Uncertainty,
    UncertaintyFeatures,
)
from cloudgan.training.models.tensors import BANDS, channels_first, register

UNCERTAINTY_LAYERS = "uncertainty"
"""What the names of the layers begin with that predict the uncertainty alone."""
MULTIPLE = 16
"""Of which the edge of an image is a multiple."""


def input_channels(bands: tuple[str, ...], dates_each_side: int) -> tuple[Channel, ...]:
    """What the generator asks for, in order.

    Args:
        bands: Common names of its bands.
        dates_each_side: Dates before, and as many after.
    """
    dated = (
        Channel(side, band, order)
        for side in (Source.BEFORE, Source.AFTER)
        for order in range(1, dates_each_side + 1)
        for band in (*bands, None)
    )
    return (*(Channel(Source.TARGET, band) for band in bands), Channel(Source.MASK), *dated)


def generator(
    width: int = 16,
    surface_classes: int = 4,
    dates_each_side: int = 4,
    size: int | None = None,
) -> keras.Model:
    """The temporal generator.

    The arithmetic before and after the U-Net is in float32 whatever the policy of Keras. Half precision there
    would cost as much as the network adds.

    Args:
        width: Filters at full resolution.
        surface_classes: Soft classes of surface in the alignment.
        dates_each_side: Dates before, and as many after.
        size: Edge of the tile, or None for any multiple of 16.

    Returns:
        A model from the channels of `input_channels`, NHWC, to reflectance, and in a last channel the mean
        absolute error over the bands that it predicts.
    """
    dates = 2 * dates_each_side
    full: dict[str, Any] = {"dtype": "float32"}
    inputs = keras.Input((size, size, BANDS + 1 + dates * (BANDS + 1)), name="channels_nhwc")
    # Alignment and weights are smooth: every other pixel will do, at a quarter of the cost.
    half = Prepare(dates, name="prepare_half", **full)(inputs[:, ::2, ::2])
    edge = MaskEdge(name="mask_edge", **full)(inputs)
    compared, surface, features = DifferenceFeatures(name="difference_features", **full)(half, edge)
    classes, trust = _classes_and_trust(surface, features, surface_classes)
    offset, colour, known, trusted = LocalRadiometricAlignment(surface_classes, name="alignment", **full)(
        half, compared, classes, trust
    )
    factor, wide, (mean, terms) = RobustWeighting(name="robust_weighting", **full)(half, offset, known)
    coefficients = RidgeCorrection(name="ridge_correction", **full)(half, trusted, mean, terms)
    p = Prepare(dates, name="prepare", **full)(inputs)
    aligned, share, colour, fine = RobustMean(name="robust_mean", **full)(
        p, offset, factor, colour, known[:, 1:2], coefficients
    )
    x = _unet(fine, wide, width)
    change = layers.Conv2D(
        BANDS + dates, 3, padding="same", kernel_initializer="zeros", name="change", **full
    )(x)
    generated = CombineDates(name="combine_dates", **full)(p, aligned, share, colour, change)
    predicted = _uncertainty(UncertaintyFeatures(name="why", **full)(p, aligned, share, generated, x), width)
    outputs = layers.Concatenate(name="declouded", **full)([generated, predicted])
    return keras.Model(inputs, outputs, name="temporal")


def _uncertainty(features: Any, width: int) -> Any:
    full: dict[str, Any] = {"dtype": "float32"}
    x = layers.Conv2D(width, 1, activation="relu", name=f"{UNCERTAINTY_LAYERS}_features", **full)(features)
    bias = keras.initializers.Constant(-1.0)
    x = layers.Conv2D(1, 1, name=f"{UNCERTAINTY_LAYERS}_size", bias_initializer=bias, **full)(x)
    return Uncertainty(name="predicted", **full)(x)


@register
class ChannelsFirst(keras.layers.Layer):  # type: ignore[misc]
    """From (batch, y, x, channel) to (batch, channel, y, x)."""

    def call(self, x: Any) -> Any:
        """Transpose a tensor."""
        return channels_first(x)


def _classes_and_trust(surface: Any, features: Any, surface_classes: int) -> tuple[Any, Any]:
    """Soft classes of surface, and how far a clear pixel is free of haze and shadow of its own."""
    full: dict[str, Any] = {"dtype": "float32"}
    classes = _conv(_conv(surface, 12, **full), surface_classes, 1, active=False, **full)
    trust = _conv(_conv(features, 8, **full), 8, dilation_rate=2, **full)
    bias = keras.initializers.Constant(2.0)
    trust = _conv(trust, 1, 1, active=False, bias_initializer=bias, activation="sigmoid", **full)
    classes = layers.Softmax(axis=-1, **full)(classes)
    return ChannelsFirst(**full)(classes), ChannelsFirst(**full)(trust)


def _unet(fine: Any, wide: Any, width: int) -> Any:
    """The body of the residual U-Net; `wide` are features at half resolution."""
    widths = (width, 2 * width, 3 * width, 4 * width, 6 * width)
    skips = []
    x = _conv(_conv(fine, widths[0], 1), widths[0])
    for level, filters in enumerate(widths[1:]):
        skips.append(x)
        x = _conv(x, filters, strides=2)
        x = _conv(layers.Concatenate()([x, wide]) if level == 0 else x, filters)
    x = _conv(x, widths[-1])
    for filters, skip in zip(reversed(widths[:-1]), reversed(skips), strict=True):
        x = _conv(x, filters)  # thinned before it grows: half the work
        x = layers.UpSampling2D(2, interpolation="nearest")(x)
        x = _conv(layers.Concatenate()([x, skip]), filters)
    return x


def _conv(x: Any, filters: int, size: int = 3, strides: int = 1, active: bool = True, **kwargs: Any) -> Any:
    x = layers.Conv2D(
        filters, size, strides=strides, padding="same", kernel_initializer="he_normal", **kwargs
    )(x)
    return layers.LeakyReLU(negative_slope=0.1, dtype=kwargs.get("dtype"))(x) if active else x

"""Layers of the temporal generator that make one estimate, and its uncertainty, of aligned observations."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from cloudgan.training.models.tensors import (
    BANDS,
    channels_first,
    channels_last,
    constant_image,
    enlarge,
    join_dates,
    register,
    split_dates,
)

_NEWTON = 16  # steps to the inverse of a matrix, each of which doubles the digits
_ROUNDS = 3  # of reweighting the dates by how far they deviate


@register
class RobustWeighting(keras.layers.Layer):  # type: ignore[misc]
    """Weights of the aligned dates: the further a date deviates from the others, the less it counts."""

    def build(self, shapes: Any) -> None:
        """Make the learned strength and scale of the reweighting."""
        self.power = self.add_weight(shape=(), initializer=keras.initializers.Constant(1.5), name="power")
        self.scale = self.add_weight(
            shape=(), initializer=keras.initializers.Constant(np.log(0.01)), name="scale"
        )
        self.even = self.add_weight(shape=(2,), initializer="zeros", name="even")

    def call(self, p: dict[str, Any], offset: Any, known: Any) -> tuple[Any, Any, Any]:
        """Factors on the weights, (batch, date, y, x), features of the U-Net, and the terms."""
        aligned, scale = p["images"] + offset, ops.exp(self.scale)
        # How little the age of a date matters depends on how much of the target is in clear view.
        visible = ops.max(known[:, 2:], axis=1, keepdims=True)
        even = self.even[0] + self.even[1] * visible / (visible + 0.02)
        older = ops.exp(4 * even * p["age"][:, :, 0])
        weight = p["weight"] * older[:, :, None]
        for _ in range(_ROUNDS):
            mean = ops.sum(weight * aligned, axis=1) / (ops.sum(weight, axis=1) + 1e-6)
            deviation = ops.mean(ops.abs(aligned - mean[:, None]) * p["has"], axis=2)
            # What one date alone shows, a cloud or its shadow, is wider than a pixel.
            around = channels_first(ops.average_pool(channels_last(deviation), 3, strides=1, padding="same"))
            deviation = 0.4 * deviation + 0.6 * around
            factor = older * ops.power(scale / (deviation + scale), self.power)
            weight = p["weight"] * factor[:, :, None]
        share = weight / (ops.sum(weight, axis=1, keepdims=True) + 1e-6)
        features = [20 * ops.sum(share * offset, axis=1), known, 20 * deviation]
        features += [p["has"][:, :, 0], p["age"][:, :, 0], share[:, :, 0]]
        mean = ops.sum(share * aligned, axis=1)
        return (
            factor,
            channels_last(ops.concatenate(features, axis=1)),
            (mean, _regressors(p, aligned, mean)),
        )


def _regressors(p: dict[str, Any], aligned: Any, mean: Any) -> Any:
    """Terms of the regression, (batch, term, y, x): one, the colour, its square, how each date differs."""
    colour = 5 * (mean - constant_image(0.1, 0.1, 0.25)) * p["any"]
    difference = 20 * (aligned - mean[:, None]) * p["has"]
    parts = [p["any"], colour, colour * colour, ops.clip(join_dates(difference), -3, 3)]
    return ops.concatenate(parts, axis=1)


@register
class RidgeCorrection(keras.layers.Layer):  # type: ignore[misc]
    """Ridge regression of the target's clear pixels on the clear observations, over the tile."""

    def build(self, *shapes: Any) -> None:
        """Make the learned strength of the ridge, in pixels."""
        self.ridge = self.add_weight(
            shape=(), initializer=keras.initializers.Constant(np.log(1.5)), name="ridge"
        )

    def call(self, p: dict[str, Any], trusted: Any, mean: Any, terms: Any) -> Any:
        """Coefficients, (batch, band, term); zero where nothing of the target is clear."""
        gap = 10 * (p["target"] - mean)
        # What deviates far is no surface: haze, shadow, or a field that was cut.
        weight = trusted * p["any"] / (1 + ops.mean(ops.abs(gap), axis=1, keepdims=True)) ** 2
        count = terms.shape[1]
        known = ops.reshape(terms * weight, (-1, count, ops.shape(terms)[2] * ops.shape(terms)[3]))
        terms = ops.reshape(terms, ops.shape(known))
        gap = ops.reshape(gap, (-1, BANDS, ops.shape(known)[2]))
        one = ops.eye(count)[None]
        moments = ops.matmul(known, ops.transpose(terms, (0, 2, 1))) + ops.exp(self.ridge) * one
        size = ops.sum(moments * one, axis=(1, 2), keepdims=True)
        moments = moments / size
        inverse = one * ops.ones_like(size)
        for _ in range(_NEWTON):
            inverse = 2 * inverse - ops.matmul(inverse, ops.matmul(moments, inverse))
        sums = ops.matmul(gap, ops.transpose(known, (0, 2, 1))) / size
        return 0.1 * ops.matmul(sums, inverse)


@register
class RobustMean(keras.layers.Layer):  # type: ignore[misc]
    """The robust mean of the aligned dates at full resolution, and the features that the U-Net sees."""

    def call(
        self, p: dict[str, Any], offset: Any, factor: Any, colour: Any, follow: Any, coefficients: Any
    ) -> tuple[Any, ...]:
        """Returns aligned dates, their shares, the mean colour around, and the features, channels last."""
        dates = p["images"].shape[1]
        maps = enlarge(ops.concatenate([join_dates(offset), factor, colour, follow], axis=1), 2)
        cuts = [BANDS * dates, (BANDS + 1) * dates, (BANDS + 1) * dates + BANDS]
        offset, factor, colour, follow = ops.split(maps, cuts, axis=1)
        aligned = p["images"] + split_dates(offset, dates)
        weight = p["weight"] * factor[:, :, None]
        share = weight / (ops.sum(weight, axis=1, keepdims=True) + 1e-6)
        mean = ops.sum(share * aligned, axis=1)
        terms = _regressors(p, aligned, mean)
        flat = ops.reshape(terms, (-1, terms.shape[1], ops.shape(terms)[2] * ops.shape(terms)[3]))
        change = follow * ops.reshape(ops.matmul(coefficients, flat), ops.shape(mean))
        aligned = aligned + change[:, None]
        mean = mean + change + (1 - p["any"]) * colour
        gap = p["clear"] * (p["target"] - mean)
        nearest = (aligned[:, :: dates // 2] - mean[:, None]) * p["has"][:, :: dates // 2]
        features = [4 * p["target"] * (1 - p["mask"]), p["target"], p["mask"], 4 * mean]
        features += [20 * nearest[:, 0], 20 * nearest[:, 1], 20 * gap / (1 + 10 * ops.abs(gap))]
        features.append(share[:, :, 0])
        return aligned, share, colour, channels_last(ops.concatenate(features, axis=1))


@register
class CombineDates(keras.layers.Layer):  # type: ignore[misc]
    """The mean of the aligned dates, with its weights and its values corrected by the U-Net."""

    def call(self, p: dict[str, Any], aligned: Any, share: Any, colour: Any, change: Any) -> Any:
        """From the U-Net's maps to reflectance, channels last."""
        change = 0.3 * channels_first(change)
        weight = p["has"] * (share + 1e-3) * ops.exp(ops.clip(change[:, BANDS:], -6, 6))[:, :, None]
        mean = ops.sum(weight * aligned, axis=1) / (ops.sum(weight, axis=1) + 1e-6)
        mean = mean + (1 - p["any"]) * colour
        return channels_last(ops.clip(mean + 0.1 * change[:, :BANDS], 1e-4, 1.5))


@register
class UncertaintyFeatures(keras.layers.Layer):  # type: ignore[misc]
    """Why a pixel may be wrong: dates that differ, dates far away in time, and surface unlike others."""

    def call(self, p: dict[str, Any], aligned: Any, share: Any, generated: Any, x: Any) -> Any:
        """Features, those of the U-Net among them, channels last; no gradient goes back through them."""
        mean = ops.sum(share * aligned, axis=1, keepdims=True)
        deviation = ops.sum(share * ops.abs(aligned - mean), axis=1)
        age = ops.sum(share * p["age"], axis=1)
        parts = [20 * deviation, age, p["any"], p["mask"], 4 * channels_first(generated), channels_first(x)]
        return ops.stop_gradient(channels_last(ops.concatenate(parts, axis=1)))


@register
class Uncertainty(keras.layers.Layer):  # type: ignore[misc]
    """An absolute error of about a hundredth, and above a thousandth."""

    def call(self, x: Any) -> Any:
        """Of a tensor of any shape."""
        return 0.001 + 0.02 * ops.softplus(x)

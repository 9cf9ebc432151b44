"""Layers of the temporal generator that bring clear observations to the radiometry of the target."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import layers, ops

from cloudgan.training.models.tensors import (
    BANDS,
    HALF,
    average_around,
    channels_first,
    channels_last,
    constant_image,
    cut_points,
    enlarge,
    join_dates,
    mean_image,
    register,
    split_dates,
)


@register
class Prepare(keras.layers.Layer):  # type: ignore[misc]
    """Input channels, channels last, to named tensors with channels and dates first."""

    def __init__(self, dates: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.dates = dates

    def call(self, x: Any) -> dict[str, Any]:
        """Returns tensors of shape (batch, n, y, x), and those of dates of shape (batch, date, n, y, x)."""
        x = channels_first(x)
        target, mask = ops.clip(x[:, :BANDS], 0.0, 1.2), x[:, BANDS : BANDS + 1]
        has_data = ops.cast(ops.min(target, axis=1, keepdims=True) > 0, "float32")
        stacked = split_dates(x[:, BANDS + 1 :], self.dates)
        images, days = stacked[:, :, :BANDS], stacked[:, :, BANDS:]
        has = ops.cast(ops.min(images, axis=2, keepdims=True) > 0, "float32")
        return {
            "target": target,
            "mask": mask,
            "clear": (1 - mask) * has_data,
            "images": images,
            "has": has,
            "any": ops.max(has, axis=1),
            "age": ops.log(1 + days) / 4,
            "weight": has / ops.sqrt(days + 1.5),
        }

    def get_config(self) -> dict[str, Any]:
        """What Keras needs to build it again."""
        return {**super().get_config(), "dates": self.dates}


@register
class MaskEdge(keras.layers.Layer):  # type: ignore[misc]
    """Where the mask is at most two pixels away: detectors miss its soft edge, so clear counts little."""

    def call(self, x: Any) -> Any:
        """From all channels to (batch, 1, y, x) at half resolution; no pixel of the mask is passed over."""
        mask = x[..., BANDS : BANDS + 1]
        return channels_first(ops.max_pool(mask, 5, strides=1, padding="same")[:, ::2, ::2])


@register
class DifferenceFeatures(keras.layers.Layer):  # type: ignore[misc]
    """How the target's clear pixels differ from the clear observations, and which deviate from others."""

    def call(self, p: dict[str, Any], edge: Any) -> tuple[Any, Any, Any]:
        """Pixels that may be compared, (batch, 1, y, x), and the features of surface class and of trust."""
        mean = mean_image(p)
        compared = p["clear"] * (1.001 - edge)
        counted = compared * p["any"]
        gap = ops.clip(p["target"] - mean, -0.3, 0.3)
        (near, _, whole) = average_around([gap * counted, counted])
        usual = whole[0] / (whole[1] + 0.01)
        usual = enlarge((near[0] + 0.01 * usual) / (near[1] + 0.01), HALF)
        around = channels_first(ops.average_pool(channels_last(p["mask"]), 5, strides=1, padding="same"))
        surface = ops.concatenate([5 * mean, p["any"]], axis=1)
        features = [surface, 10 * (gap - usual) * p["clear"], p["mask"], around, p["clear"]]
        return compared, channels_last(surface), channels_last(ops.concatenate(features, axis=1))


@register
class LocalRadiometricAlignment(keras.layers.Layer):  # type: ignore[misc]
    """Radiometric offsets between target and clear observations: local means over surface of the same class.

    A mean of few pixels is shrunk towards a wider one: of a class near a pixel towards the same class further
    around, then towards all classes around, then towards the whole tile, then towards zero.
    """

    def __init__(self, surface_classes: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.surface_classes = surface_classes
        self.first = layers.Dense(32, activation="leaky_relu", dtype=self.dtype_policy)
        self.second = layers.Dense(16, activation="leaky_relu", dtype=self.dtype_policy)
        self.follow = layers.Dense(
            2,
            activation="sigmoid",
            bias_initializer=keras.initializers.Constant(2.0),
            dtype=self.dtype_policy,
        )
        self.shrink = layers.Dense(3, kernel_initializer="zeros", dtype=self.dtype_policy)

    def build(self, *shapes: Any) -> None:
        """Make the learned strengths of the shrinkage, and the limits of what is followed."""
        strengths = np.log([0.15, 0.05, 0.02, 0.005])
        self.strengths = self.add_weight(
            shape=(4,), initializer=keras.initializers.Constant(strengths), name="strengths"
        )
        limits = np.log([0.05, 0.05, 0.1])
        self.limit = self.add_weight(
            shape=(BANDS,), initializer=keras.initializers.Constant(limits), name="limit"
        )
        self.first.build((None, None, None, 6 * BANDS + 6))
        self.second.build((None, None, None, 32))
        self.follow.build((None, None, None, 16))
        self.shrink.build((None, None, None, 16))

    def call(self, p: dict[str, Any], compared: Any, classes: Any, trust: Any) -> tuple[Any, ...]:
        """The offset of each clear observation, the mean colour around, and how much is known of both.

        Returns:
            Shapes (batch, date, band, y, x), (batch, band, y, x), (batch, 2 + date, y, x): how far the
            target is followed by the offset and by the regression, and the weight of what each date shows
            around; and (batch, 1, y, x): the weight of each of the target's own pixels.
        """
        dates = p["images"].shape[1]
        trusted = (compared * trust)[:, None]
        shares = ops.split(classes, self.surface_classes, axis=1)
        near, wide, whole = average_around(_sums_to_average(p, trusted, shares))
        fine, coarse, every, tile = ops.unstack(ops.exp(self.strengths))

        def shrunk(sums: Any, towards: Any, strength: Any) -> Any:
            sums = split_dates(sums, dates)
            return (sums[:, :, :BANDS] + strength * towards) / (sums[:, :, BANDS:] + strength)

        zero = shrunk(whole[0], 0.0, tile)
        around = shrunk(wide[0], zero, every)
        place = shrunk(near[0], around, fine)
        weight = near[self.surface_classes + 4][:, :, None]
        weight = weight / (ops.sum(weight, axis=1, keepdims=True) + 1e-6)
        known = split_dates(near[0], dates)[:, :, BANDS:]
        features = self._tile_features(near, wide, whole, (place, around, zero), weight, known)
        encoded = self.second(self.first(channels_last(ops.concatenate(features, axis=1))))
        follow = channels_first(self.follow(encoded)) * self._plausibility(around, weight)
        # Noisy surface is shrunk further, which the residuals show.
        more = ops.split(ops.exp(2 * ops.tanh(channels_first(self.shrink(encoded)))), 3, axis=1)
        fine, coarse, every = (
            strength * factor[:, None] for strength, factor in zip((fine, coarse, every), more, strict=True)
        )
        around = shrunk(wide[0], zero, every)
        by_class = [
            shrunk(close, shrunk(far, around, coarse), fine)
            for close, far in zip(
                near[1 : self.surface_classes + 1], wide[1 : self.surface_classes + 1], strict=True
            )
        ]
        # Followed in part, the dates still agree with each other.
        kept = [
            offset - (1 - follow[:, None, :1]) * ops.sum(weight * offset, axis=1)[:, None]
            for offset in by_class
        ]
        maps = [*(join_dates(offset) for offset in kept), self._mean_colour(near, wide, whole)]
        maps += [follow, known[:, :, 0]]
        *offsets, colour, follow, known = ops.split(
            enlarge(ops.concatenate(maps, axis=1), HALF), cut_points(maps), axis=1
        )
        offset = sum(share * part for share, part in zip(shares, offsets, strict=True))
        return (
            split_dates(offset, dates),
            colour,
            ops.concatenate([follow, known], axis=1),
            trusted[:, 0],
        )

    def _tile_features(
        self, near: Any, wide: Any, whole: Any, offsets: tuple[Any, Any, Any], weight: Any, known: Any
    ) -> list[Any]:
        """What gate and shrinkage are computed from: offsets, contrast, how much is in clear view."""
        at = self.surface_classes + 1
        place, around, zero = offsets

        def common(offset: Any) -> Any:
            return ops.sum(weight * offset, axis=1)

        counted = split_dates(wide[0], place.shape[1])[:, :, BANDS:]
        residual = ops.sum(weight * ops.abs(around - common(around)[:, None]), axis=1)
        features = [20 * common(place), 20 * common(around), 20 * common(zero), 20 * residual]
        features += [*_contrast(wide[at + 4]), common(known), common(counted), 20 * wide[at + 1]]
        return [*features, near[at + 2], wide[at + 2], ops.ones_like(near[at + 2]) * whole[at + 2]]

    def _mean_colour(self, near: Any, wide: Any, whole: Any) -> Any:
        """Mean of the target's clear pixels, shrunk towards a wider one in the same way."""
        at = self.surface_classes + 1
        colour = (whole[at] + 0.003 * constant_image(0.08, 0.08, 0.25)) / (whole[at + 1] + 0.003)
        colour = (wide[at] + 0.01 * colour) / (wide[at + 1] + 0.01)
        return (near[at] + 0.01 * colour) / (near[at + 1] + 0.01)

    def _plausibility(self, offset: Any, weight: Any) -> Any:
        """Near one, and near zero where the target differs in the same way from the dates before and after.

        The surface changes from before to after. What is brighter or darker than both is the atmosphere.
        """
        sides = []
        for part, shares in zip(ops.split(offset, 2, axis=1), ops.split(weight, 2, axis=1), strict=True):
            share = ops.sum(shares, axis=1)
            sides.append((ops.sum(shares * part, axis=1) / (share + 1e-6), share / (share + 0.05)))
        (before, has_before), (after, has_after) = sides
        before = has_before * before + (1 - has_before) * after
        after = has_after * after + (1 - has_after) * before
        common = ops.relu(ops.minimum(before, after)) + ops.relu(ops.minimum(-before, -after))
        limit = ops.reshape(ops.exp(self.limit), (1, BANDS, 1, 1))
        return ops.prod(1 / (1 + (common / limit) ** 4), axis=1, keepdims=True)

    def get_config(self) -> dict[str, Any]:
        """What Keras needs to build it again."""
        return {**super().get_config(), "surface_classes": self.surface_classes}


def _sums_to_average(p: dict[str, Any], trusted: Any, shares: list[Any]) -> list[Any]:
    """What is averaged around each cell: differences over all and by class, colour, mask, products."""
    counted = trusted * p["has"]
    gaps = (p["target"][:, None] - p["images"]) * counted
    sums = join_dates(ops.concatenate([gaps, counted], axis=2))
    own = trusted[:, 0]
    return [
        sums,
        *(sums * share for share in shares),
        p["target"] * own,
        own,
        p["mask"],
        join_dates(p["weight"]),
        _products(p, own),
    ]


def _products(p: dict[str, Any], trusted: Any) -> Any:
    """What contrast is computed from: target, mean image, and their products, band by band."""
    usual = constant_image(0.1, 0.1, 0.25)
    x, y, counted = mean_image(p) - usual, p["target"] - usual, trusted * p["any"]
    return ops.concatenate([part * counted for part in (x, y, x * x, x * y, y * y)] + [counted], axis=1)


def _contrast(products: Any) -> tuple[Any, Any]:
    """Slope of the target on the mean image less one, which haze lowers, and what remains unexplained."""
    x, y, xx, xy, yy, counted = ops.split(products, [3, 6, 9, 12, 15], axis=1)
    count = counted + 1e-3
    x, y = x / count, y / count
    variance, covariance = ops.relu(xx / count - x * x), xy / count - x * y
    slope = (covariance + 1e-4) / (variance + 1e-4)
    remaining = ops.sqrt(ops.relu(yy / count - y * y - slope * covariance) + 1e-6)
    return ops.clip(slope, 0.0, 2.0) - 1, 10 * remaining

"""The temporal generator: looks before and after, brought to the target's radiometry, and a U-Net on top.

One graph from the planes of `series.PLANES` to reflectance, any size that 16 divides:

1. Each of the six looks is aligned to the clear pixels of the target. The difference between target and look
   is averaged around each place over ground of like colour (soft classes that the network learns; the mean of
   a class that is not in sight leans on the mean of all ground, and that on zero), and added to the look. A
   learned trust keeps unmasked haze and shadow out of the averages, and a learned gate says how far to follow
   them, for a hazy target should not make the ground hazy. Averages are taken in cells of 8 pixels.
2. The aligned looks are averaged, the sooner the heavier, and the lighter the further a look strays from the
   others: a cloud or shadow that the classification missed is seen by one look alone.
3. A residual U-Net corrects the mean and its weights. Its last layer starts at zero: the network starts at
   the robust mean of aligned looks.
4. Where there is no look, the mean colour of the clear pixels around takes its place.

No normalisation: a pixel depends on nothing but its tile.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops

from cloudgan.training.series import DEPTH, PLANES

CELL = 8
"""Edge of a cell of the alignment in pixels."""
LOOKS = 2 * DEPTH
"""Looks that the generator sees of each pixel, nearest first, those before and then those after."""
_FINE, _COARSE = 1.5, 5.0  # standard deviations of the averages, in cells: 12 and 40 pixels
_BANDS = 3
_ROUNDS = 3  # of reweighting the looks by how far they stray


def register(cls: type) -> type:
    """Let Keras find the class in a file."""
    registered: type = keras.saving.register_keras_serializable(package="cloudgan")(cls)
    return registered


@register
class Prepare(keras.layers.Layer):  # type: ignore[misc]
    """Planes to what the rest needs: looks, their ages and weights, what of the target is clear."""

    def call(self, x: Any) -> dict[str, Any]:
        """From (batch, y, x, planes) to a dictionary; looks run along an axis before the bands."""
        cloudy, mask = ops.clip(x[..., :_BANDS], 0.0, 1.2), x[..., _BANDS : _BANDS + 1]
        seen = ops.cast(ops.min(cloudy, axis=-1, keepdims=True) > 0, "float32")
        stacked = _unfolded(x[..., _BANDS + 1 :], LOOKS)
        looks, ages = stacked[..., :_BANDS], stacked[..., _BANDS:]
        has = ops.cast(ops.min(looks, axis=-1, keepdims=True) > 0, "float32")
        clear = (1 - mask) * seen
        # Detectors miss the soft edge: near the mask clear pixels count little.
        edge = ops.max_pool(mask, 5, strides=1, padding="same")
        weight = has / (ages + 1.5)
        total = ops.sum(weight, axis=-2)
        return {
            "cloudy": cloudy,
            "mask": mask,
            "looks": looks,
            "has": has,
            "age": ops.log(1 + ages) / 4,
            "weight": weight,
            "mean": ops.sum(weight * looks, axis=-2) / (total + 1e-6),
            "some": ops.max(has, axis=-2),
            "inner": clear * (1.001 - edge),
            "clear": clear,
        }


@register
class Halve(keras.layers.Layer):  # type: ignore[misc]
    """What the alignment works on, at half the resolution: it is smooth, and costs a quarter there."""

    def call(self, p: dict[str, Any]) -> dict[str, Any]:
        """Means of two by two pixels."""
        inner = p["inner"][..., None, :]
        weight = inner * p["has"]
        gaps = ops.concatenate([(p["cloudy"][..., None, :] - p["looks"]) * weight, weight], axis=-1)
        parts = {
            "gaps": _folded(gaps),
            "colours": ops.concatenate([p["cloudy"] * p["inner"], p["inner"]], axis=-1),
            "cloudy": p["cloudy"],
            "mean": p["mean"],
            "mask": p["mask"],
            "some": p["some"],
            "weight": _folded(p["weight"]),
        }
        x = ops.average_pool(ops.concatenate(list(parts.values()), axis=-1), 2)
        depths = [value.shape[-1] for value in parts.values()]
        return dict(zip(parts, ops.split(x, list(np.cumsum(depths)[:-1]), axis=-1), strict=True))


@register
class Align(keras.layers.Layer):  # type: ignore[misc]
    """Means of the differences between target and looks, around each pixel, over ground of its class."""

    def __init__(self, classes: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.classes = classes
        self.hidden = layers.Dense(16, activation="leaky_relu")
        self.follow = layers.Dense(1, activation="sigmoid", bias_initializer=keras.initializers.Constant(3.0))

    def build(self, shapes: Any) -> None:
        """Make the learned strengths of the leanings."""

        def strength(name: str, value: float) -> Any:
            return self.add_weight(
                shape=(), initializer=keras.initializers.Constant(np.log(value)), name=name
            )

        self.lean_fine = strength("lean_fine", 0.06)
        self.lean_class = strength("lean_class", 0.04)
        self.lean_all = strength("lean_all", 0.03)
        self.lean_tile = strength("lean_tile", 0.01)
        self.hidden.build((None, None, None, 3 * _BANDS + 6))
        self.follow.build((None, None, None, 16))

    def call(self, half: dict[str, Any], kinds: Any, trust: Any) -> tuple[Any, Any, Any]:
        """At full resolution: the shift of each look, the mean colour around, and how much is known of it.

        Returns:
            Shapes (batch, y, x, looks, bands), (batch, y, x, bands) and (batch, y, x, 1 + looks): how far the
            target is followed, and the weight of what each look shows around.
        """
        classes = self.classes
        gaps = half["gaps"] * trust
        # Split rather than sliced: the gradient of a slice is a plane of zeros each time.
        shares = ops.split(kinds, classes, axis=-1)
        square = ops.sum(ops.square(_unfolded(half["gaps"], LOOKS)[..., :_BANDS]), axis=(-2, -1))[..., None]
        parts = [gaps, *(gaps * share for share in shares), half["colours"] * trust]
        parts += [half["mask"], half["weight"], square]
        cells = ops.average_pool(ops.concatenate(parts, axis=-1), CELL // 2, padding="same")
        fine, coarse = _blurred(cells, _FINE), _blurred(cells, _COARSE)
        tile = ops.mean(cells, axis=(1, 2), keepdims=True)
        lean = {name: ops.exp(getattr(self, f"lean_{name}")) for name in ("fine", "class", "all", "tile")}
        per_class = 4 * LOOKS
        cuts = [per_class * (at + 1) for at in range(classes + 1)]
        cuts += [cuts[-1] + 4, cuts[-1] + 5, cuts[-1] + 5 + LOOKS]
        near = dict(zip(range(classes + 5), ops.split(fine, cuts, axis=-1), strict=True))
        wide = dict(zip(range(classes + 5), ops.split(coarse, cuts, axis=-1), strict=True))
        whole = dict(zip(range(classes + 5), ops.split(tile, cuts, axis=-1), strict=True))

        def leaning(sums: Any, on: Any, by: Any) -> Any:
            sums = _unfolded(sums, LOOKS)
            return (sums[..., :_BANDS] + by * on) / (sums[..., _BANDS:] + by)

        zero = leaning(whole[0], 0.0, lean["tile"])
        around = leaning(wide[0], zero, lean["all"])
        place = leaning(near[0], around, lean["fine"])
        of_class = [
            leaning(near[k], leaning(wide[k], around, lean["class"]), lean["fine"])
            for k in range(1, classes + 1)
        ]
        weight = near[classes + 3][..., None]
        total = ops.sum(weight, axis=-2)

        def common(shift: Any) -> Any:
            return ops.sum(weight * shift, axis=-2) / (total + 1e-6)

        known = _unfolded(near[0], LOOKS)[..., _BANDS]
        evidence = ops.sum(weight[..., 0] * known, axis=-1, keepdims=True) / (total + 1e-6)
        far = _unfolded(wide[0], LOOKS)[..., _BANDS]
        far = ops.sum(weight[..., 0] * far, axis=-1, keepdims=True) / (total + 1e-6)
        counted = ops.sum(_unfolded(wide[0], LOOKS)[..., _BANDS], axis=-1, keepdims=True)
        rough = ops.sqrt(wide[classes + 4] / (counted + 1e-3) + 1e-6)
        signs = [
            20 * common(place),
            20 * common(around),
            20 * common(zero),
            evidence,
            far,
            near[classes + 2],
            wide[classes + 2],
            ops.ones_like(evidence) * whole[classes + 2],
            10 * rough,
        ]
        follow = self.follow(self.hidden(ops.concatenate(signs, axis=-1)))
        usual = ops.convert_to_tensor(np.array([0.08, 0.08, 0.25], np.float32))
        last = classes + 1
        colour = (whole[last][..., :3] + 0.003 * usual) / (whole[last][..., 3:] + 0.003)
        colour = (wide[last][..., :3] + 0.01 * colour) / (wide[last][..., 3:] + 0.01)
        colour = (near[last][..., :3] + 0.01 * colour) / (near[last][..., 3:] + 0.01)
        # Followed in part, the looks still agree with each other.
        kept = [shift - (1 - follow[..., None]) * common(shift)[..., None, :] for shift in of_class]
        maps = ops.concatenate([*(_folded(shift) for shift in kept), colour, follow, known], axis=-1)
        maps = _enlarged(maps, CELL // 2)
        *by_class, colour, known = ops.split(
            maps, [_BANDS * LOOKS * (k + 1) for k in range(classes)] + [_BANDS * LOOKS * classes + 3], axis=-1
        )
        shift = sum(share * part for share, part in zip(shares, by_class, strict=True))
        full = _enlarged(ops.concatenate([shift, colour, known], axis=-1), 2)
        shift, colour, known = ops.split(full, [_BANDS * LOOKS, _BANDS * LOOKS + _BANDS], axis=-1)
        return _unfolded(shift, LOOKS), colour, known

    def get_config(self) -> dict[str, Any]:
        """What Keras needs to build it again."""
        return {**super().get_config(), "classes": self.classes}


def _unfolded(x: Any, parts: int) -> Any:
    """The last axis as two, the first of so many parts."""
    shape = ops.shape(x)
    return ops.reshape(x, (*shape[:-1], parts, x.shape[-1] // parts))


def _folded(x: Any) -> Any:
    """The last two axes as one."""
    shape = ops.shape(x)
    return ops.reshape(x, (*shape[:-2], x.shape[-2] * x.shape[-1]))


def _blurred(cells: Any, sigma: float) -> Any:
    """Gaussian mean, nothing beyond the edge; two matrix products, which train faster than convolutions."""
    shape = tf.shape(cells)
    rows, cols = _gaussian(shape[1], sigma), _gaussian(shape[2], sigma)
    depth = cells.shape[-1]
    down = tf.matmul(rows[None], tf.reshape(cells, (-1, shape[1], shape[2] * depth)))
    down = tf.reshape(down, (-1, shape[2], depth))
    return tf.reshape(tf.matmul(cols[None], down), (-1, shape[1], shape[2], depth))


def _gaussian(size: Any, sigma: float) -> Any:
    at = tf.cast(tf.range(size), tf.float32)
    apart = (at[:, None] - at[None]) / sigma
    return tf.exp(-0.5 * apart * apart) / (sigma * float(np.sqrt(2 * np.pi)))


def _enlarged(x: Any, factor: int) -> Any:
    # Keras' own asks for a size known in advance.
    return tf.image.resize(x, tf.shape(x)[1:3] * factor, method="bilinear")


@register
class Surroundings(keras.layers.Layer):  # type: ignore[misc]
    """Mean over some pixels around, smoothly."""

    def call(self, x: Any) -> Any:
        """Same shape as `x`."""
        return _enlarged(ops.average_pool(x, 2), 2)


@register
class Agree(keras.layers.Layer):  # type: ignore[misc]
    """The robust mean of aligned looks, and the features that the U-Net sees."""

    def build(self, shapes: Any) -> None:
        """Make the learned strength and scale of the reweighting."""
        self.power = self.add_weight(shape=(), initializer=keras.initializers.Constant(1.5), name="power")
        self.scale = self.add_weight(
            shape=(), initializer=keras.initializers.Constant(np.log(0.01)), name="scale"
        )

    def call(self, p: dict[str, Any], shift: Any, colour: Any, known: Any) -> Any:
        """Returns aligned looks, their odds, the mean colour around, and the features."""
        none, weight = 1 - p["some"], p["weight"]
        aligned = p["looks"] + shift

        def mean(weight: Any) -> Any:
            return ops.sum(weight * aligned, axis=-2) / (ops.sum(weight, axis=-2) + 1e-6)

        agreed = mean(weight)
        for _ in range(_ROUNDS):
            apart = ops.mean(ops.abs(aligned - agreed[..., None, :]), axis=-1) * p["has"][..., 0]
            # What a look alone shows, a cloud or its shadow, is wider than a pixel.
            apart = 0.4 * apart + 0.6 * ops.average_pool(apart, 5, strides=1, padding="same")
            scale = ops.exp(self.scale)
            robust = weight * ops.power(scale / (apart[..., None] + scale), self.power)
            agreed = mean(robust)
        share = robust / (ops.sum(robust, axis=-2, keepdims=True) + 1e-6)
        agreed = agreed * p["some"] + none * colour
        gap = p["cloudy"] - agreed
        features = ops.concatenate(
            [
                4 * p["cloudy"] * (1 - p["mask"]),
                p["cloudy"],
                p["mask"],
                4 * agreed,
                20 * _folded((aligned[..., ::DEPTH, :] - agreed[..., None, :]) * p["has"][..., ::DEPTH, :]),
                20 * ops.sum(share * shift, axis=-2),
                20 * p["clear"] * gap / (1 + 10 * ops.abs(gap)),
                20 * apart,
                known,
                p["has"][..., 0],
                p["age"][..., 0],
                share[..., 0],
            ],
            axis=-1,
        )
        return aligned, share, colour, features


@register
class Combine(keras.layers.Layer):  # type: ignore[misc]
    """The corrected mean of the aligned looks."""

    def call(self, p: dict[str, Any], aligned: Any, share: Any, colour: Any, change: Any) -> Any:
        """From the U-Net's maps to reflectance."""
        odds = p["has"] * (share + 1e-3) * ops.exp(ops.clip(change[..., _BANDS:, None], -6, 6))
        mean = ops.sum(odds * aligned, axis=-2) / (ops.sum(odds, axis=-2) + 1e-6)
        mean = p["some"] * mean + (1 - p["some"]) * colour
        return ops.clip(mean + 0.1 * change[..., :_BANDS], 1e-4, 1.5)


def generator(width: int = 16, classes: int = 4, size: int | None = None) -> keras.Model:
    """The temporal generator.

    Args:
        width: Filters at full resolution.
        classes: Soft classes of ground in the alignment.
        size: Edge of the tile, or None for any multiple of 16.

    Returns:
        A model from planes, NHWC, in the units of the contract, to reflectance.
    """
    inputs = keras.Input((size, size, len(PLANES)), name="planes_nhwc")
    p = Prepare(name="prepare")(inputs)
    half = Halve(name="halve")(p)
    shift, colour, known = Align(classes, name="align")(half, _kinds(half, classes), _trust(half))
    aligned, share, colour, features = Agree(name="agree")(p, shift, colour, known)
    change = _unet(features, width)
    outputs = Combine(name="combine")(p, aligned, share, colour, change)
    return keras.Model(inputs, outputs, name="temporal")


def _conv(x: Any, filters: int, size: int = 3, strides: int = 1, active: bool = True, **kwargs: Any) -> Any:
    x = layers.Conv2D(
        filters, size, strides=strides, padding="same", kernel_initializer="he_normal", **kwargs
    )(x)
    return layers.LeakyReLU(negative_slope=0.1)(x) if active else x


def _kinds(half: dict[str, Any], classes: int) -> Any:
    """Soft classes of the ground, from the looks alone, so that they are known under cloud too."""
    x = layers.Concatenate()([5 * half["mean"], half["some"]])
    x = _conv(x, 12)
    x = _conv(x, classes, 1, active=False)
    return layers.Softmax(axis=-1)(x)


def _trust(half: dict[str, Any]) -> Any:
    """How far a clear pixel is free of haze and shadow."""
    near = Surroundings()(half["mask"])
    gap = half["cloudy"] - half["mean"]
    x = layers.Concatenate()(
        [5 * half["mean"], 10 * ops.clip(gap, -0.3, 0.3), half["mask"], near, half["some"]]
    )
    x = _conv(x, 8)
    x = _conv(x, 8, dilation_rate=2)
    return _conv(
        x, 1, 1, active=False, bias_initializer=keras.initializers.Constant(2.0), activation="sigmoid"
    )


def _unet(x: Any, width: int) -> Any:
    widths = (width, 2 * width, 3 * width, 4 * width, 6 * width)
    skips = []
    x = _conv(x, widths[0], 1)  # many planes, of which each pixel needs a few mixtures
    x = _conv(x, widths[0])
    for filters in widths[1:]:
        skips.append(x)
        x = _conv(x, filters, strides=2)
        x = _conv(x, filters)
    x = _conv(x, widths[-1])
    for filters, skip in zip(reversed(widths[:-1]), reversed(skips), strict=True):
        x = _conv(x, filters)  # thinned before it grows: half the work
        x = layers.UpSampling2D(2, interpolation="nearest")(x)
        x = _conv(layers.Concatenate()([x, skip]), filters)
    return layers.Conv2D(_BANDS + LOOKS, 3, padding="same", kernel_initializer="zeros", name="change")(x)

"""The temporal generator: looks before and after, brought to the target's radiometry, and a U-Net on top.

One graph from the planes of `series.PLANES` to reflectance, any size that 16 divides:

1. Each look is aligned to the clear pixels of the target. The difference between target and look is averaged
   around each place over ground of like colour (soft classes that the network learns; the mean of a class
   that is not in sight leans on the mean of all ground, and that on zero), and added to the look. A learned
   trust keeps unmasked haze and shadow out of the averages. Averages are taken in cells of 8 pixels.
2. The aligned looks are weighted by their ages, and a residual U-Net corrects the mean and its weights. Its
   last layer starts at zero: the network starts at the aligned interpolation.
3. Where there is no look, the mean colour of the clear pixels around takes its place.

No normalisation: a pixel depends on nothing but its tile.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops

from cloudgan.training.series import PLANES

CELL = 8
"""Edge of a cell of the alignment in pixels."""
_FINE, _COARSE = 1.5, 5.0  # standard deviations of the averages, in cells: 12 and 40 pixels
_BANDS = 3


def register(cls: type) -> type:
    """Let Keras find the class in a file."""
    registered: type = keras.saving.register_keras_serializable(package="cloudgan")(cls)
    return registered


@register
class Prepare(keras.layers.Layer):  # type: ignore[misc]
    """Planes to what the rest needs: looks, their validity, ages, first differences."""

    def call(self, x: Any) -> dict[str, Any]:
        """From (batch, y, x, 12) to a dictionary of planes."""
        cloudy, mask = ops.clip(x[..., :3], 0.0, 1.2), x[..., 3:4]
        seen = ops.cast(ops.min(cloudy, axis=-1, keepdims=True) > 0, "float32")
        before, after = x[..., 4:7], x[..., 8:11]
        has_before = ops.cast(ops.min(before, axis=-1, keepdims=True) > 0, "float32")
        has_after = ops.cast(ops.min(after, axis=-1, keepdims=True) > 0, "float32")
        age_before, age_after = x[..., 7:8], x[..., 11:12]
        share = (age_after + 0.5) / (age_before + age_after + 1.0)
        share = has_before * ((1 - has_after) + has_after * share)
        some = ops.maximum(has_before, has_after)
        linear = share * before + (some - share) * after
        clear = (1 - mask) * seen
        # Detectors miss the soft edge: near the mask clear pixels count little.
        edge = ops.max_pool(mask, 5, strides=1, padding="same")
        inner = clear * (1.001 - edge)
        return {
            "cloudy": cloudy,
            "mask": mask,
            "before": before,
            "after": after,
            "has_before": has_before,
            "has_after": has_after,
            "share": share,
            "some": some,
            "linear": linear,
            "inner": inner,
            "clear": clear,
            "age_before": ops.log(1 + age_before) / 4,
            "age_after": ops.log(1 + age_after) / 4,
        }


@register
class Align(keras.layers.Layer):  # type: ignore[misc]
    """Means of the differences between target and looks, around each pixel, over ground of its class."""

    def __init__(self, classes: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.classes = classes

    def build(self, shapes: Any) -> None:
        """Make the learned strengths of the leanings."""

        def strength(name: str, value: float) -> Any:
            return self.add_weight(
                shape=(), initializer=keras.initializers.Constant(np.log(value)), name=name
            )

        self.lean_fine = strength("lean_fine", 0.05)
        self.lean_class = strength("lean_class", 0.02)
        self.lean_all = strength("lean_all", 0.02)
        self.lean_tile = strength("lean_tile", 0.01)

    def call(self, inputs: dict[str, Any]) -> tuple[Any, Any, Any, Any]:
        """Shifts of both looks by class, by place, the mean colour around, and how much is known."""
        classes = self.classes
        # Split rather than sliced: the gradient of a slice is a plane of zeros each time.
        kinds = ops.split(inputs["kinds"], classes, axis=-1)
        parts = []
        for gap in (inputs["gap_before"], inputs["gap_after"]):
            values = gap * inputs["trust"]
            parts.append(values)
            parts += [values * kind for kind in kinds]
        parts.append(inputs["colours"] * inputs["trust"])
        cells = ops.average_pool(ops.concatenate(parts, axis=-1), CELL // 2, padding="same")
        fine, coarse = _blurred(cells, _FINE), _blurred(cells, _COARSE)
        tile = ops.mean(cells, axis=(1, 2), keepdims=True)
        lean = {name: ops.exp(getattr(self, f"lean_{name}")) for name in ("fine", "class", "all", "tile")}
        maps, known = [], []
        per_side = 4 * (classes + 1)
        for side in range(2):
            first = side * per_side

            def four(values: Any, k: int, first: int = first) -> tuple[Any, Any]:
                at = first + 4 * k
                return values[..., at : at + 3], values[..., at + 3 : at + 4]

            total, weight = four(tile, 0)
            whole = total / (weight + lean["tile"])
            total, weight = four(coarse, 0)
            around = (total + lean["all"] * whole) / (weight + lean["all"])
            total, weight = four(fine, 0)
            near = (total + lean["fine"] * around) / (weight + lean["fine"])
            maps.append(near)
            known.append(weight)
            for k in range(1, classes + 1):
                total, weight = four(coarse, k)
                of_class = (total + lean["class"] * around) / (weight + lean["class"])
                total, weight = four(fine, k)
                maps.append((total + lean["fine"] * of_class) / (weight + lean["fine"]))
        usual = ops.convert_to_tensor(np.array([0.08, 0.08, 0.25], np.float32))
        whole = (tile[..., -4:-1] + 0.003 * usual) / (tile[..., -1:] + 0.003)
        around = (coarse[..., -4:-1] + 0.01 * whole) / (coarse[..., -1:] + 0.01)
        colour = (fine[..., -4:-1] + 0.01 * around) / (fine[..., -1:] + 0.01)
        wide = ops.concatenate([*maps, colour, *known], axis=-1)
        wide = _enlarged(wide, CELL // 2)
        pieces = ops.split(wide, [3 * (at + 1) for at in range(2 * (classes + 1))], axis=-1)
        by_class, by_place = [], []
        for side in range(2):
            near, *of_class = pieces[side * (classes + 1) : (side + 1) * (classes + 1)]
            by_place.append(near)
            by_class.append(sum(kind * shift for kind, shift in zip(kinds, of_class, strict=True)))
        whole = _enlarged(ops.concatenate([*by_class, *by_place, pieces[-1]], axis=-1), 2)
        return whole[..., :6], whole[..., 6:12], whole[..., 12:15], whole[..., 15:]

    def get_config(self) -> dict[str, Any]:
        """What Keras needs to build it again."""
        return {**super().get_config(), "classes": self.classes}


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
class Halve(keras.layers.Layer):  # type: ignore[misc]
    """What the alignment works on, at half the resolution: it is smooth, and costs a quarter there."""

    def call(self, p: dict[str, Any]) -> dict[str, Any]:
        """Means of two by two pixels."""
        gaps = []
        for side in ("before", "after"):
            weight = p["inner"] * p[f"has_{side}"]
            gaps += [(p["cloudy"] - p[side]) * weight, weight]
        sides = [f"{what}_{side}" for what in ("has", "age") for side in ("before", "after")]
        names = ("linear", "before", "after", *sides, "mask", "some")
        planes = [*gaps, p["cloudy"] * p["inner"], p["inner"], p["cloudy"], *(p[name] for name in names)]
        x = ops.average_pool(ops.concatenate(planes, axis=-1), 2)
        half = {"gap_before": x[..., :4], "gap_after": x[..., 4:8], "colours": x[..., 8:12]}
        half["cloudy"] = x[..., 12:15]
        at = 15
        for name in names:
            depth = p[name].shape[-1]
            half[name] = x[..., at : at + depth]
            at += depth
        return half


@register
class Select(keras.layers.Layer):  # type: ignore[misc]
    """Aligned looks, their mean, and the features that the U-Net sees."""

    def call(self, p: dict[str, Any], by_class: Any, by_place: Any, colour: Any, known: Any) -> Any:
        """Returns aligned before, aligned after, their start weight, the mean, and the features."""
        none = 1 - p["some"]
        before = p["before"] + by_class[..., :3]
        after = p["after"] + by_class[..., 3:]
        start = p["share"]
        linear = start * before + (p["some"] - start) * after + none * colour
        place = start * by_place[..., :3] + (p["some"] - start) * by_place[..., 3:]
        classed = start * by_class[..., :3] + (p["some"] - start) * by_class[..., 3:]
        features = ops.concatenate(
            [
                4 * p["cloudy"] * (1 - p["mask"]),
                p["cloudy"],
                p["mask"],
                4 * linear,
                20 * p["has_before"] * p["has_after"] * (before - after),
                20 * (place - classed),
                20 * classed,
                20 * p["clear"] * (p["cloudy"] - linear) / (1 + 10 * ops.abs(p["cloudy"] - linear)),
                known,
                p["has_before"],
                p["has_after"],
                p["age_before"],
                p["age_after"],
                start,
            ],
            axis=-1,
        )
        return before, after, linear, features


@register
class Combine(keras.layers.Layer):  # type: ignore[misc]
    """The corrected mean of the aligned looks."""

    def call(self, p: dict[str, Any], before: Any, after: Any, linear: Any, change: Any) -> Any:
        """From the U-Net's seven maps to reflectance."""
        both = p["has_before"] * p["has_after"]
        start = ops.clip(p["share"], 0.03, 0.97)
        odds = ops.log(start / (1 - start)) + change[..., 3:4]
        share = both * ops.sigmoid(odds) + (1 - both) * p["share"]
        some = p["some"]
        mean = share * before + (some - share) * after + (1 - some) * linear
        return ops.clip(mean + 0.1 * change[..., :3], 1e-4, 1.5)


def generator(width: int = 16, classes: int = 8, size: int | None = None) -> keras.Model:
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
    kinds = _kinds(half, classes)
    trust = _trust(half)
    by_class, by_place, colour, known = Align(classes, name="align")(
        {"kinds": kinds, "trust": trust}
        | {name: half[name] for name in ("gap_before", "gap_after", "colours")}
    )
    before, after, linear, features = Select(name="select")(p, by_class, by_place, colour, known)
    change = _unet(features, width)
    return keras.Model(inputs, Combine(name="combine")(p, before, after, linear, change), name="temporal")


def _conv(x: Any, filters: int, size: int = 3, strides: int = 1, active: bool = True, **kwargs: Any) -> Any:
    x = layers.Conv2D(
        filters, size, strides=strides, padding="same", kernel_initializer="he_normal", **kwargs
    )(x)
    return layers.LeakyReLU(negative_slope=0.1)(x) if active else x


def _kinds(p: dict[str, Any], classes: int) -> Any:
    """Soft classes of the ground, from the looks alone, so that they are known under cloud too."""
    x = layers.Concatenate()(
        [
            5 * p["linear"],
            5 * (p["before"] - p["linear"]) * p["has_before"],
            5 * (p["after"] - p["linear"]) * p["has_after"],
            p["has_before"],
            p["has_after"],
            p["age_before"],
            p["age_after"],
        ]
    )
    x = _conv(x, 12)
    x = _conv(x, classes, 1, active=False)
    return layers.Softmax(axis=-1)(x)


def _trust(p: dict[str, Any]) -> Any:
    """How far a clear pixel is free of haze and shadow."""
    near = Surroundings()(p["mask"])
    gap = p["cloudy"] - p["linear"]
    x = layers.Concatenate()([5 * p["linear"], 10 * ops.clip(gap, -0.3, 0.3), p["mask"], near, p["some"]])
    x = _conv(x, 8)
    x = _conv(x, 8, dilation_rate=2)
    return _conv(
        x, 1, 1, active=False, bias_initializer=keras.initializers.Constant(2.0), activation="sigmoid"
    )


def _unet(x: Any, width: int) -> Any:
    widths = (width, 2 * width, 3 * width, 4 * width, 6 * width)
    skips = []
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
    return layers.Conv2D(_BANDS + 1, 3, padding="same", kernel_initializer="zeros", name="change")(x)

"""The temporal generator: looks before and after, brought to the target's radiometry, and a U-Net on top.

One graph from the planes of `series.PLANES` to reflectance, any size that 16 divides:

1. Each look is aligned to the clear pixels of the target. The difference between target and look is
   averaged around each place over ground of like colour (soft classes that the network learns; the mean of
   a class that is not in sight leans on the mean of all ground, and that on zero, the more the noisier it
   is), and added to the look. A learned trust leaves out clear pixels that stray from those around: haze
   and shadow that nothing masks. A learned gate says how far the target is followed at all, and hardly lets
   through what sets it apart from the dates before and after alike: a hazy target should not make the
   ground hazy. Averages are taken in cells of 8 pixels.
2. The aligned looks are averaged, the sooner the heavier, and the lighter the further a look strays from
   the others: a cloud or shadow that the classification missed is seen by one look alone. A ridge
   regression of the target's clear pixels on the looks corrects the mean.
3. A residual U-Net corrects the mean and its weights. Its last layer starts at zero: the network starts at
   the robust mean of aligned looks.
4. Where there is no look, the mean colour of the clear pixels around takes its place.

No normalisation: a pixel depends on nothing but its tile.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import layers, ops

from cloudgan.training.data.series import DEPTH, PLANES

CELL = 8
"""Edge of a cell of the alignment in pixels."""
LOOKS = 2 * DEPTH
"""ClearDates that the generator sees of each pixel, nearest first, those before and then those after."""
_FINE, _COARSE = 1.5, 5.0  # standard deviations of the averages, in cells: 12 and 40 pixels
_BANDS = 3
_NEWTON = 16  # steps to the inverse of a matrix, each of which doubles the digits
_ROUNDS = 3  # of reweighting the looks by how far they stray


def register(cls: type) -> type:
    """Let Keras find the class in a file."""
    registered: type = keras.saving.register_keras_serializable(package="cloudgan")(cls)
    return registered


@register
class Prepare(keras.layers.Layer):  # type: ignore[misc]
    """Planes, bands last, to what the rest needs, bands and looks first: ONNX Runtime is fastest so."""

    def call(self, x: Any) -> dict[str, Any]:
        """Returns planes of shape (batch, n, y, x), and those of looks of shape (batch, looks, n, y, x)."""
        x = ops.transpose(x, (0, 3, 1, 2))
        cloudy, mask = ops.clip(x[:, :_BANDS], 0.0, 1.2), x[:, _BANDS : _BANDS + 1]
        seen = ops.cast(ops.min(cloudy, axis=1, keepdims=True) > 0, "float32")
        stacked = _unfolded(x[:, _BANDS + 1 :])
        looks, ages = stacked[:, :, :_BANDS], stacked[:, :, _BANDS:]
        has = ops.cast(ops.min(looks, axis=2, keepdims=True) > 0, "float32")
        return {
            "cloudy": cloudy,
            "mask": mask,
            "clear": (1 - mask) * seen,
            "looks": looks,
            "has": has,
            "some": ops.max(has, axis=1),
            "age": ops.log(1 + ages) / 4,
            "weight": has / ops.sqrt(ages + 1.5),
        }


@register
class Edge(keras.layers.Layer):  # type: ignore[misc]
    """Where the mask is at most two pixels away: detectors miss its soft edge, so clear counts little."""

    def call(self, x: Any) -> Any:
        """From all planes to (batch, 1, y, x) at half resolution; no pixel of the mask is passed over."""
        mask = x[..., _BANDS : _BANDS + 1]
        return _first(ops.max_pool(mask, 5, strides=1, padding="same")[:, ::2, ::2])


@register
class Differ(keras.layers.Layer):  # type: ignore[misc]
    """How the target's clear pixels differ from the looks, and which of them stray from those around."""

    def call(self, p: dict[str, Any], edge: Any) -> tuple[Any, Any, Any]:
        """The pixels that may be compared, (batch, 1, y, x); what classes and what trust are told by."""
        mean = _mean_look(p)
        compared = p["clear"] * (1.001 - edge)
        counted = compared * p["some"]
        gap = ops.clip(p["cloudy"] - mean, -0.3, 0.3)
        (near, _, whole) = _averaged([gap * counted, counted])
        usual = whole[0] / (whole[1] + 0.01)
        usual = _enlarged((near[0] + 0.01 * usual) / (near[1] + 0.01), CELL // 2)
        around = _first(ops.average_pool(_last(p["mask"]), 5, strides=1, padding="same"))
        ground = ops.concatenate([5 * mean, p["some"]], axis=1)
        signs = [ground, 10 * (gap - usual) * p["clear"], p["mask"], around, p["clear"]]
        return compared, _last(ground), _last(ops.concatenate(signs, axis=1))


@register
class Align(keras.layers.Layer):  # type: ignore[misc]
    """Means of the differences between target and looks, around each pixel, over ground of its class."""

    def __init__(self, classes: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.classes = classes
        self.masked = layers.Dense(32, activation="leaky_relu")
        self.deeper = layers.Dense(16, activation="leaky_relu")
        self.follow = layers.Dense(2, activation="sigmoid", bias_initializer=keras.initializers.Constant(2.0))
        self.lean = layers.Dense(3, kernel_initializer="zeros")

    def build(self, *shapes: Any) -> None:
        """Make the learned strengths of the leanings."""
        strengths = np.log([0.15, 0.05, 0.02, 0.005])
        self.strengths = self.add_weight(
            shape=(4,), initializer=keras.initializers.Constant(strengths), name="strengths"
        )
        limits = np.log([0.05, 0.05, 0.1])
        self.limit = self.add_weight(
            shape=(_BANDS,), initializer=keras.initializers.Constant(limits), name="limit"
        )
        self.masked.build((None, None, None, 6 * _BANDS + 6))
        self.deeper.build((None, None, None, 32))
        self.follow.build((None, None, None, 16))
        self.lean.build((None, None, None, 16))

    def call(self, p: dict[str, Any], compared: Any, kinds: Any, trust: Any) -> tuple[Any, ...]:
        """The shift of each look, the mean colour around, how much is known of it, and what to believe.

        Returns:
            Shapes (batch, looks, bands, y, x), (batch, bands, y, x), (batch, 2 + looks, y, x): how far the
            target is followed by the shift and by the regression, and the weight of what each look shows
            around; and (batch, 1, y, x): the weight of each of the target's own pixels.
        """
        trusted = (compared * trust)[:, None]
        counted = trusted * p["has"]
        gaps = (p["cloudy"][:, None] - p["looks"]) * counted
        sums = _folded(ops.concatenate([gaps, counted], axis=2))
        shares = ops.split(kinds, self.classes, axis=1)
        parts = [sums, *(sums * share for share in shares)]
        parts += [p["cloudy"] * trusted[:, 0], trusted[:, 0], p["mask"], _folded(p["weight"])]
        parts.append(_products(p, trusted[:, 0]))
        near, wide, whole = _averaged(parts)
        fine, coarse, every, tile = ops.unstack(ops.exp(self.strengths))

        def leaning(sums: Any, on: Any, by: Any) -> Any:
            sums = _unfolded(sums)
            return (sums[:, :, :_BANDS] + by * on) / (sums[:, :, _BANDS:] + by)

        zero = leaning(whole[0], 0.0, tile)
        around = leaning(wide[0], zero, every)
        place = leaning(near[0], around, fine)
        near_colour, near_known, near_mask, weight, _ = near[self.classes + 1 :]
        wide_colour, wide_known, wide_mask, _, products = wide[self.classes + 1 :]
        whole_colour, whole_known, whole_mask, _, _ = whole[self.classes + 1 :]
        weight = weight[:, :, None] / (ops.sum(weight[:, :, None], axis=1, keepdims=True) + 1e-6)

        def common(shift: Any) -> Any:
            return ops.sum(weight * shift, axis=1)

        known = _unfolded(near[0])[:, :, _BANDS:]
        counted = _unfolded(wide[0])[:, :, _BANDS:]
        apart = ops.sum(weight * ops.abs(around - common(around)[:, None]), axis=1)
        signs = [20 * common(place), 20 * common(around), 20 * common(zero), 20 * apart]
        signs += [*_contrast(products), common(known), common(counted), 20 * wide_known]
        signs += [near_mask, wide_mask, ops.ones_like(near_mask) * whole_mask]
        told = self.deeper(self.masked(_last(ops.concatenate(signs, axis=1))))
        follow = _first(self.follow(told)) * self._usual(around, weight)
        # Noisy ground leans further, which the residuals tell.
        more = ops.split(ops.exp(2 * ops.tanh(_first(self.lean(told)))), 3, axis=1)
        fine, coarse, every = (
            by * times[:, None] for by, times in zip((fine, coarse, every), more, strict=True)
        )
        around = leaning(wide[0], zero, every)
        of_class = [
            leaning(close, leaning(far, around, coarse), fine)
            for close, far in zip(near[1 : self.classes + 1], wide[1 : self.classes + 1], strict=True)
        ]
        colour = (whole_colour + 0.003 * _colour(0.08, 0.08, 0.25)) / (whole_known + 0.003)
        colour = (wide_colour + 0.01 * colour) / (wide_known + 0.01)
        colour = (near_colour + 0.01 * colour) / (near_known + 0.01)
        # Followed in part, the looks still agree with each other.
        kept = [shift - (1 - follow[:, None, :1]) * common(shift)[:, None] for shift in of_class]
        maps = [*(_folded(shift) for shift in kept), colour, follow, known[:, :, 0]]
        cuts = [int(at) for at in np.cumsum([part.shape[1] for part in maps])[:-1]]
        *by_class, colour, follow, known = ops.split(
            _enlarged(ops.concatenate(maps, axis=1), CELL // 2), cuts, axis=1
        )
        shift = sum(share * part for share, part in zip(shares, by_class, strict=True))
        return _unfolded(shift), colour, ops.concatenate([follow, known], axis=1), trusted[:, 0]

    def _usual(self, shift: Any, weight: Any) -> Any:
        """Near one, and near zero where the target is unlike the dates before and after it alike.

        Ground changes from before to after; what is brighter or darker than both is the air.
        """
        sides = []
        for part, shares in zip(ops.split(shift, 2, axis=1), ops.split(weight, 2, axis=1), strict=True):
            share = ops.sum(shares, axis=1)
            sides.append((ops.sum(shares * part, axis=1) / (share + 1e-6), share / (share + 0.05)))
        (before, has_before), (after, has_after) = sides
        before = has_before * before + (1 - has_before) * after
        after = has_after * after + (1 - has_after) * before
        alike = ops.relu(ops.minimum(before, after)) + ops.relu(ops.minimum(-before, -after))
        limit = ops.reshape(ops.exp(self.limit), (1, _BANDS, 1, 1))
        return ops.prod(1 / (1 + (alike / limit) ** 4), axis=1, keepdims=True)

    def get_config(self) -> dict[str, Any]:
        """What Keras needs to build it again."""
        return {**super().get_config(), "classes": self.classes}


def _averaged(parts: list[Any]) -> tuple[list[Any], list[Any], list[Any]]:
    """Planes averaged in cells, then around each cell closely, widely, and all over."""
    cuts = [int(at) for at in np.cumsum([part.shape[1] for part in parts])[:-1]]
    cells = _first(ops.average_pool(_last(ops.concatenate(parts, axis=1)), CELL // 2, padding="same"))
    whole = ops.mean(cells, axis=(2, 3), keepdims=True)
    near, wide = (_blurred(cells, sigma) for sigma in (_FINE, _COARSE))
    return tuple(ops.split(means, cuts, axis=1) for means in (near, wide, whole))


def _mean_look(p: dict[str, Any]) -> Any:
    """The looks as they are, averaged, the sooner the heavier."""
    return ops.sum(p["weight"] * p["looks"], axis=1) / (ops.sum(p["weight"], axis=1) + 1e-6)


def _colour(*bands: float) -> Any:
    """A colour to set against images, (1, bands, 1, 1)."""
    return ops.reshape(ops.convert_to_tensor(np.array(bands, np.float32)), (1, _BANDS, 1, 1))


def _products(p: dict[str, Any], trusted: Any) -> Any:
    """What contrast is reckoned from: target, mean look, and their products, band by band."""
    usual = _colour(0.1, 0.1, 0.25)
    x, y, counted = _mean_look(p) - usual, p["cloudy"] - usual, trusted * p["some"]
    return ops.concatenate([part * counted for part in (x, y, x * x, x * y, y * y)] + [counted], axis=1)


def _contrast(products: Any) -> tuple[Any, Any]:
    """Slope of the target on the mean look less one, which haze lowers, and how much is left of it."""
    x, y, xx, xy, yy, counted = ops.split(products, [3, 6, 9, 12, 15], axis=1)
    count = counted + 1e-3
    x, y = x / count, y / count
    uncertainty, shared = ops.relu(xx / count - x * x), xy / count - x * y
    slope = (shared + 1e-4) / (uncertainty + 1e-4)
    left = ops.sqrt(ops.relu(yy / count - y * y - slope * shared) + 1e-6)
    return ops.clip(slope, 0.0, 2.0) - 1, 10 * left


def _first(x: Any) -> Any:
    return ops.transpose(x, (0, 3, 1, 2))


def _last(x: Any) -> Any:
    return ops.transpose(x, (0, 2, 3, 1))


def _unfolded(x: Any) -> Any:
    """ClearDates apart: (batch, looks * planes, y, x) to (batch, looks, planes, y, x)."""
    return ops.reshape(x, (-1, LOOKS, x.shape[1] // LOOKS, *ops.shape(x)[2:]))


def _folded(x: Any) -> Any:
    """ClearDates and their planes along one axis again."""
    return ops.reshape(x, (-1, x.shape[1] * x.shape[2], *ops.shape(x)[3:]))


def _blurred(cells: Any, sigma: float) -> Any:
    """Gaussian mean, nothing beyond the edge; two matrix products, which train faster than convolutions."""
    rows, cols = (_gaussian(size, sigma) for size in ops.shape(cells)[2:])
    return ops.matmul(ops.matmul(rows, cells), cols)


def _gaussian(size: Any, sigma: float) -> Any:
    at = ops.cast(ops.arange(size), "float32")
    apart = (at[:, None] - at[None]) / sigma
    return ops.exp(-0.5 * apart * apart) / (sigma * float(np.sqrt(2 * np.pi)))


def _enlarged(x: Any, factor: int) -> Any:
    """Linear interpolation between the centres of pixels, as two matrix products."""
    rows, cols = (_interpolation(size, factor) for size in ops.shape(x)[2:])
    return ops.matmul(ops.matmul(rows, x), ops.transpose(cols))


def _interpolation(size: Any, factor: int) -> Any:
    fine = (ops.cast(ops.arange(size * factor), "float32") + 0.5) / factor - 0.5
    fine = ops.clip(fine, 0.0, ops.cast(size - 1, "float32"))
    return ops.relu(1 - ops.abs(fine[:, None] - ops.cast(ops.arange(size), "float32")[None]))


@register
class Agree(keras.layers.Layer):  # type: ignore[misc]
    """How much each aligned look is to be believed: the less, the further it strays from the others."""

    def build(self, shapes: Any) -> None:
        """Make the learned strength and scale of the reweighting."""
        self.power = self.add_weight(shape=(), initializer=keras.initializers.Constant(1.5), name="power")
        self.scale = self.add_weight(
            shape=(), initializer=keras.initializers.Constant(np.log(0.01)), name="scale"
        )
        self.even = self.add_weight(shape=(2,), initializer="zeros", name="even")

    def call(self, p: dict[str, Any], shift: Any, known: Any) -> tuple[Any, Any, Any]:
        """Factors on the weights, (batch, looks, y, x), features for the U-Net, bands last, and the terms."""
        aligned, scale = p["looks"] + shift, ops.exp(self.scale)
        # How little the age of a look says depends on how much of the target can be seen.
        seen = ops.max(known[:, 2:], axis=1, keepdims=True)
        even = self.even[0] + self.even[1] * seen / (seen + 0.02)
        older = ops.exp(4 * even * p["age"][:, :, 0])
        weight = p["weight"] * older[:, :, None]
        for _ in range(_ROUNDS):
            agreed = ops.sum(weight * aligned, axis=1) / (ops.sum(weight, axis=1) + 1e-6)
            apart = ops.mean(ops.abs(aligned - agreed[:, None]) * p["has"], axis=2)
            # What a look alone shows, a cloud or its shadow, is wider than a pixel.
            around = _first(ops.average_pool(_last(apart), 3, strides=1, padding="same"))
            apart = 0.4 * apart + 0.6 * around
            factor = older * ops.power(scale / (apart + scale), self.power)
            weight = p["weight"] * factor[:, :, None]
        share = weight / (ops.sum(weight, axis=1, keepdims=True) + 1e-6)
        features = [20 * ops.sum(share * shift, axis=1), known, 20 * apart]
        features += [p["has"][:, :, 0], p["age"][:, :, 0], share[:, :, 0]]
        agreed = ops.sum(share * aligned, axis=1)
        return factor, _last(ops.concatenate(features, axis=1)), (agreed, _terms(p, aligned, agreed))


def _terms(p: dict[str, Any], aligned: Any, agreed: Any) -> Any:
    """What the regression is on, (batch, terms, y, x): one, the colour, its square, how each look differs."""
    colour = 5 * (agreed - _colour(0.1, 0.1, 0.25)) * p["some"]
    apart = 20 * (aligned - agreed[:, None]) * p["has"]
    return ops.concatenate([p["some"], colour, colour * colour, ops.clip(_folded(apart), -3, 3)], axis=1)


@register
class Regress(keras.layers.Layer):  # type: ignore[misc]
    """Ridge regression of the target's clear pixels on the looks, over the tile."""

    def build(self, *shapes: Any) -> None:
        """Make the learned strength of the ridge, in pixels."""
        self.ridge = self.add_weight(
            shape=(), initializer=keras.initializers.Constant(np.log(1.5)), name="ridge"
        )

    def call(self, p: dict[str, Any], trusted: Any, agreed: Any, terms: Any) -> Any:
        """Coefficients, (batch, bands, terms); zero where nothing of the target is clear."""
        gap = 10 * (p["cloudy"] - agreed)
        # What strays far is no ground: haze, shadow, or a field that was cut.
        weight = trusted * p["some"] / (1 + ops.mean(ops.abs(gap), axis=1, keepdims=True)) ** 2
        count = terms.shape[1]
        known = ops.reshape(terms * weight, (-1, count, ops.shape(terms)[2] * ops.shape(terms)[3]))
        terms = ops.reshape(terms, ops.shape(known))
        gap = ops.reshape(gap, (-1, _BANDS, ops.shape(known)[2]))
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
class Mean(keras.layers.Layer):  # type: ignore[misc]
    """The robust mean of the aligned looks at full resolution, and the features that the U-Net sees."""

    def call(
        self, p: dict[str, Any], shift: Any, factor: Any, colour: Any, follow: Any, slopes: Any
    ) -> tuple[Any, ...]:
        """Returns aligned looks, their shares, the mean colour around, and the features, bands last."""
        maps = _enlarged(ops.concatenate([_folded(shift), factor, colour, follow], axis=1), 2)
        cuts = [_BANDS * LOOKS, (_BANDS + 1) * LOOKS, (_BANDS + 1) * LOOKS + _BANDS]
        shift, factor, colour, follow = ops.split(maps, cuts, axis=1)
        aligned = p["looks"] + _unfolded(shift)
        weight = p["weight"] * factor[:, :, None]
        share = weight / (ops.sum(weight, axis=1, keepdims=True) + 1e-6)
        agreed = ops.sum(share * aligned, axis=1)
        terms = _terms(p, aligned, agreed)
        flat = ops.reshape(terms, (-1, terms.shape[1], ops.shape(terms)[2] * ops.shape(terms)[3]))
        change = follow * ops.reshape(ops.matmul(slopes, flat), ops.shape(agreed))
        aligned = aligned + change[:, None]
        agreed = agreed + change + (1 - p["some"]) * colour
        gap = p["clear"] * (p["cloudy"] - agreed)
        nearest = (aligned[:, ::DEPTH] - agreed[:, None]) * p["has"][:, ::DEPTH]
        features = [4 * p["cloudy"] * (1 - p["mask"]), p["cloudy"], p["mask"], 4 * agreed]
        features += [20 * nearest[:, 0], 20 * nearest[:, 1], 20 * gap / (1 + 10 * ops.abs(gap))]
        features.append(share[:, :, 0])
        return aligned, share, colour, _last(ops.concatenate(features, axis=1))


@register
class Combine(keras.layers.Layer):  # type: ignore[misc]
    """The corrected mean of the aligned looks."""

    def call(self, p: dict[str, Any], aligned: Any, share: Any, colour: Any, change: Any) -> Any:
        """From the U-Net's maps to reflectance, bands last."""
        change = 0.3 * _first(change)
        odds = p["has"] * (share + 1e-3) * ops.exp(ops.clip(change[:, _BANDS:], -6, 6))[:, :, None]
        mean = ops.sum(odds * aligned, axis=1) / (ops.sum(odds, axis=1) + 1e-6)
        mean = mean + (1 - p["some"]) * colour
        return _last(ops.clip(mean + 0.1 * change[:, :_BANDS], 1e-4, 1.5))


def generator(width: int = 16, classes: int = 4, size: int | None = None) -> keras.Model:
    """The temporal generator.

    Args:
        width: Filters at full resolution.
        classes: Soft classes of ground in the alignment.
        size: Edge of the tile, or None for any multiple of 16.

    Returns:
        A model from planes, NHWC, in the units of the contract, to reflectance, and in a last plane the mean
        absolute error that it predicts_uncertainty of it.
    """
    inputs = keras.Input((size, size, len(PLANES)), name="planes_nhwc")
    # Alignment and agreement are smooth: every other pixel will do, at a quarter of the cost.
    half = Prepare(name="prepare_half")(inputs[:, ::2, ::2])
    compared, ground, signs = Differ(name="differ")(half, Edge(name="edge")(inputs))
    kinds, trust = _kinds_and_trust(ground, signs, classes)
    shift, colour, known, trusted = Align(classes, name="align")(half, compared, kinds, trust)
    factor, wide, (agreed, terms) = Agree(name="agree")(half, shift, known)
    slopes = Regress(name="regress")(half, trusted, agreed, terms)
    p = Prepare(name="prepare")(inputs)
    aligned, share, colour, fine = Mean(name="mean")(p, shift, factor, colour, known[:, 1:2], slopes)
    x = _unet(fine, wide, width)
    change = layers.Conv2D(_BANDS + LOOKS, 3, padding="same", kernel_initializer="zeros", name="change")(x)
    made = Combine(name="combine")(p, aligned, share, colour, change)
    doubt = Doubt(name="doubt")(p, aligned, share, made, x)
    doubt = layers.Conv2D(width, 1, activation="relu", name="doubt_features")(doubt)
    # What is foretold is never nothing: a thousandth at the least.
    doubt = layers.Conv2D(1, 1, name="doubt_size", bias_initializer=keras.initializers.Constant(-1.0))(doubt)
    outputs = layers.Concatenate(name="declouded")([made, Foretold(name="foretold")(doubt)])
    return keras.Model(inputs, outputs, name="temporal")


@register
class Doubt(keras.layers.Layer):  # type: ignore[misc]
    """Why a pixel may be wrong: looks that differ, looks far away in time, and ground unlike others."""

    def call(self, p: dict[str, Any], aligned: Any, share: Any, made: Any, x: Any) -> Any:
        """Features, those of the U-Net among them, bands last; no gradient goes back through them."""
        mean = ops.sum(share * aligned, axis=1, keepdims=True)
        apart = ops.sum(share * ops.abs(aligned - mean), axis=1)
        age = ops.sum(share * p["age"], axis=1)
        parts = [20 * apart, age, p["some"], p["mask"], 4 * _first(made), _first(x)]
        return ops.stop_gradient(_last(ops.concatenate(parts, axis=1)))


@register
class Foretold(keras.layers.Layer):  # type: ignore[misc]
    """An error of about a hundredth, and above a thousandth."""

    def call(self, x: Any) -> Any:
        """Of a tensor of any shape."""
        return 0.001 + 0.02 * ops.softplus(x)


def _conv(x: Any, filters: int, size: int = 3, strides: int = 1, active: bool = True, **kwargs: Any) -> Any:
    x = layers.Conv2D(
        filters, size, strides=strides, padding="same", kernel_initializer="he_normal", **kwargs
    )(x)
    return layers.LeakyReLU(negative_slope=0.1)(x) if active else x


@register
class First(keras.layers.Layer):  # type: ignore[misc]
    """Bands first."""

    def call(self, x: Any) -> Any:
        """From (batch, y, x, planes) to (batch, planes, y, x)."""
        return _first(x)


def _kinds_and_trust(ground: Any, signs: Any, classes: int) -> tuple[Any, Any]:
    """Soft classes of the ground, and how far a clear pixel is free of haze and shadow of its own."""
    kinds = _conv(_conv(ground, 12), classes, 1, active=False)
    trust = _conv(_conv(signs, 8), 8, dilation_rate=2)
    trust = _conv(
        trust, 1, 1, active=False, bias_initializer=keras.initializers.Constant(2.0), activation="sigmoid"
    )
    return First()(layers.Softmax(axis=-1)(kinds)), First()(trust)


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

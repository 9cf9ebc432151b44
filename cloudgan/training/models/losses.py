"""The pixel losses: how far a generated image is from the truth, in `keras.ops` for any backend."""

from __future__ import annotations

from typing import Any, Protocol

import keras
from keras import ops

from cloudgan.evaluation.metrics import DATA_RANGE
from cloudgan.training.models.scaling import scale, unscale
from cloudgan.training.recipe import LogErrorLoss, Scaling


class PixelLoss(Protocol):
    """Compares what a generator makes with the truth, on a scale of its own."""

    def from_reflectance(self, truth: Any) -> Any:
        """The truth on the scale of the comparison."""

    def to_reflectance(self, generated: Any) -> Any:
        """What the generator makes as reflectance."""

    def compose(self, generated: Any, real: Any, weight: Any) -> Any:
        """The image that a discriminator sees: generated where it counts, and the truth elsewhere."""

    def __call__(self, generated: Any, real: Any, weight: Any) -> tuple[Any, Any]:
        """The loss of a batch, and the mean absolute error in it."""


class MeanAbsoluteError:
    """The study's: mean absolute error on the U-Net's scale, over the weighted pixels."""

    def __init__(self, weight: float = 100.0, scaling: Scaling | None = None) -> None:
        self.weight, self.scaling = weight, scaling or Scaling()

    def from_reflectance(self, truth: Any) -> Any:
        """See `PixelLoss`."""
        return scale(truth, self.scaling)

    def to_reflectance(self, generated: Any) -> Any:
        """See `PixelLoss`."""
        return unscale(generated, self.scaling)

    def compose(self, generated: Any, real: Any, weight: Any) -> Any:
        """See `PixelLoss`; pixels with a truth count."""
        known = ops.cast(weight > 0, "float32")
        return generated * known + real * (1.0 - known)

    def __call__(self, generated: Any, real: Any, weight: Any) -> tuple[Any, Any]:
        """See `PixelLoss`."""
        bands = real.shape[-1]
        error = ops.sum(ops.abs(real - generated) * weight) / (bands * ops.sum(weight) + 1e-6)
        return self.weight * error, error


class LogError:
    """The temporal generator's: logarithms of each sample's errors, texture, colour and uncertainty."""

    def __init__(self, weights: LogErrorLoss) -> None:
        self.weights = weights

    def from_reflectance(self, truth: Any) -> Any:
        """The truth as it is."""
        return truth

    def to_reflectance(self, generated: Any) -> Any:
        """The bands and the uncertainty as they are."""
        return generated

    def compose(self, generated: Any, real: Any, weight: Any) -> Any:
        """See `PixelLoss`; masked pixels with a truth count."""
        return ops.where(weight >= 1, generated[..., : real.shape[-1]], real)

    def __call__(self, generated: Any, real: Any, weight: Any) -> tuple[Any, Any]:
        """See `PixelLoss`; the error is that of masked pixels."""
        bands, weights = real.shape[-1], self.weights
        image, uncertainty = generated[..., :bands], generated[..., bands:]
        masked = ops.cast(weight >= 1, "float32")
        loss = weights.log_error_weight * log_error(image, real, weight)
        loss = loss + weights.gradient_weight * gradient_error(image, real, masked)
        filled = ops.where(weight > 0, image, real)
        loss = loss + weights.ssim_weight * structural_error(filled, real, masked)
        loss = loss + weights.sam_weight * spectral_error(filled, real, masked)
        loss = loss + weights.uncertainty_weight * negative_log_likelihood(uncertainty, image, real, weight)
        error = ops.sum(ops.abs(image - real) * masked) / (bands * ops.sum(masked) + 1e-3)
        return loss, error


def log_error(image: Any, truth: Any, weight: Any) -> Any:
    """Logarithms of absolute and root mean squared error, sample by sample, as PSNR has them.

    Otherwise the samples that nothing can predict would rule the mean.
    """
    error = image - truth
    total = truth.shape[-1] * ops.sum(weight, axis=(1, 2, 3)) + 1e-3
    absolute = ops.sum(ops.abs(error) * weight, axis=(1, 2, 3)) / total
    squared = ops.sum(ops.square(error) * weight, axis=(1, 2, 3)) / total
    return ops.mean(ops.log(absolute + 1e-3) + 0.5 * ops.log(squared + 1e-5))


def gradient_error(image: Any, truth: Any, masked: Any) -> Any:
    """Absolute error of the differences between neighbours that both have a truth."""
    error = image - truth
    down = ops.abs(error[:, 1:] - error[:, :-1]) * masked[:, 1:] * masked[:, :-1]
    right = ops.abs(error[:, :, 1:] - error[:, :, :-1]) * masked[:, :, 1:] * masked[:, :, :-1]
    return (ops.sum(down) + ops.sum(right)) / (2 * truth.shape[-1] * (ops.sum(masked) + 1e-3))


def structural_error(image: Any, truth: Any, masked: Any) -> Any:
    """One minus SSIM, band mean, over square windows of 7 pixels on every other pixel: cheap to train by."""

    def mean(values: Any) -> Any:
        return ops.average_pool(values, 7, 2, "valid")

    c1, c2 = (0.01 * DATA_RANGE) ** 2, (0.03 * DATA_RANGE) ** 2
    a, b = mean(image), mean(truth)
    aa, bb, ab = mean(image * image) - a * a, mean(truth * truth) - b * b, mean(image * truth) - a * b
    ssim = (2 * a * b + c1) * (2 * ab + c2) / ((a * a + b * b + c1) * (aa + bb + c2))
    inner = masked[:, 3:-3:2, 3:-3:2]
    error = (1 - ops.mean(ssim, axis=-1, keepdims=True)) * inner
    return ops.sum(error) / (ops.sum(inner) + 1e-3)


def spectral_error(image: Any, truth: Any, masked: Any) -> Any:
    """One minus the cosine of the spectral angle."""
    lengths = ops.sqrt(ops.sum(image * image, axis=-1)) * ops.sqrt(ops.sum(truth * truth, axis=-1)) + 1e-6
    cosine = ops.sum(image * truth, axis=-1) / lengths
    return ops.sum((1 - cosine) * masked[..., 0]) / (ops.sum(masked) + 1e-3)


def negative_log_likelihood(uncertainty: Any, image: Any, truth: Any, weight: Any) -> Any:
    """How badly an uncertainty predicts the error of masked pixels, by the distribution of Laplace."""
    masked = ops.cast(weight >= 1, "float32")
    error = ops.stop_gradient(ops.mean(ops.abs(image - truth), axis=-1, keepdims=True))
    surprise = ops.log(uncertainty) + error / uncertainty
    return ops.sum(surprise * masked) / (ops.sum(masked) + 1e-3)


def cross_entropy(probability: Any, truth: float) -> Any:
    """Mean binary cross entropy against one truth for all."""
    return ops.mean(keras.losses.binary_crossentropy(ops.full_like(probability, truth), probability))

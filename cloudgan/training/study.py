"""The study's own measure, for comparison with its published table, and for nothing else.

Each image is divided by its own maximum and carried into [0.5, 1], which halves every difference (6 dB of
PSNR); SSIM takes the range 2, as scikit-image does for floats that come without one; and the validation image
is the training target itself under Perlin noise. The scores of
`cloudgan.evaluation.metrics` do not.

Its targets are clear throughout. Where ours has a cloud of its own there is no truth, and nothing is
measured: one such pixel would set the maximum by which all others are divided.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter

from cloudgan.evaluation.metrics import correlations
from cloudgan.simulation import clouds
from cloudgan.training.samples import Floats, Mask

_NAMES = {"green": "Green", "red": "Red", "nir": "NIR", "blue": "Blue"}
_SSIM_RANGE = 2.0
_SSIM_WINDOW = 7


def make_validation_image(clear: Floats, bands: Sequence[str], seed: int) -> Floats:
    """The training target under Perlin noise: white where the noise is high, half of the image touched.

    Args:
        clear: Reflectance, shape (height, width, bands).
        bands: Their names.
        seed: Of the noise.
    """
    shape = cast("tuple[int, int]", clear.shape[:2])
    noise = clouds.draw_fractal_noise(np.random.default_rng((seed, 1)), shape, 4 * min(shape) / 256)
    cloud = np.clip(2 * noise - 1, 0, 1).astype(np.float32)
    cloud_field = clouds.CloudField(cloud, np.zeros_like(cloud), np.full_like(cloud, 0.8), thin=False)
    return clouds.add_clouds(clear, bands, cloud_field).cloudy


def compute_row(
    name: str, image: Floats, target: Floats, valid: Mask, bands: Sequence[str]
) -> dict[str, float]:
    """The study's columns for one image, such as `PC_train_NIR`, `PSNR_train` and `SSIM_train`.

    Args:
        name: "train" or "val".
        image: Generated reflectance, shape (height, width, bands).
        target: The truth, same shape.
        valid: Where it is one, shape (height, width).
        bands: Their names.
    """
    ours, truth = _scaled(image, valid), _scaled(target, valid)
    error = float(np.mean((ours - truth)[valid] ** 2))
    by_band = correlations(image, target, valid)  # scaling leaves them as they are
    columns = {f"PC_{name}_{_NAMES.get(band, band)}": pc for band, pc in zip(bands, by_band, strict=True)}
    columns[f"PSNR_{name}"] = float(-10 * np.log10(max(error, 1e-12)))
    columns[f"SSIM_{name}"] = _ssim(ours, truth, valid)
    return columns


def _scaled(image: Floats, valid: Mask) -> NDArray[np.float64]:
    values = np.where(valid[..., None], image, 0).astype(np.float64)  # alike in both where there is no truth
    scaled: NDArray[np.float64] = (values / max(values.max(), 1e-6) + 1) / 2
    return scaled


def _ssim(a: NDArray[np.float64], b: NDArray[np.float64], valid: Mask) -> float:
    """As scikit-image's default: square window, sample covariance, no borders, mean over bands and pixels."""

    def mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
        averaged: NDArray[np.float64] = uniform_filter(values, (_SSIM_WINDOW, _SSIM_WINDOW, 0))
        return averaged

    pixels = _SSIM_WINDOW**2
    sample = pixels / (pixels - 1)
    c1, c2 = (0.01 * _SSIM_RANGE) ** 2, (0.03 * _SSIM_RANGE) ** 2
    mean_a, mean_b = mean(a), mean(b)
    var_a, var_b = sample * (mean(a * a) - mean_a**2), sample * (mean(b * b) - mean_b**2)
    cov = sample * (mean(a * b) - mean_a * mean_b)
    ssim = ((2 * mean_a * mean_b + c1) * (2 * cov + c2)) / (
        (mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2)
    )
    edge = _SSIM_WINDOW // 2
    inner = np.s_[edge:-edge, edge:-edge]
    return float(ssim[inner][valid[inner]].mean())

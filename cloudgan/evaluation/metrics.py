"""How near one image comes to another: PSNR, MAE, SSIM, SAM and Pearson's correlation over chosen pixels.

The data range is 1.0 in reflectance (100 %) unless said otherwise; PSNR and SSIM mean nothing without it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from cloudgan.errors import InputError

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]

DATA_RANGE = 1.0
"""Reflectance from 0 to 100 %."""


@dataclass(frozen=True, slots=True)
class Scores:
    """Over the pixels of one mask."""

    psnr: float
    """Peak signal-to-noise ratio in dB, over all bands together."""
    mae: float
    """Mean absolute error in reflectance."""
    ssim: float
    """Structural similarity (Wang et al. 2004: Gaussian window of 1.5 pixels), mean over bands."""
    sam: float
    """Mean spectral angle in degrees."""

    def as_dict(self) -> dict[str, float]:
        """Plain numbers, rounded for reading."""
        return {name: round(value, 4) for name, value in asdict(self).items()}


def score(image: Floats, truth: Floats, mask: Mask, data_range: float = DATA_RANGE) -> Scores:
    """Compare two images over the pixels of a mask.

    Args:
        image: Reflectance, shape (height, width, bands).
        truth: Reflectance, same shape.
        mask: Pixels to count, shape (height, width).
        data_range: Largest minus smallest value that there could be.

    Raises:
        InputError: The mask is empty.
    """
    if not mask.any():
        raise InputError("no pixel to score: the mask is empty")
    error = (image - truth)[mask].astype(np.float64)
    mse = max(float(np.mean(error**2)), 1e-12)
    return Scores(
        psnr=float(10 * np.log10(data_range**2 / mse)),
        mae=float(np.mean(np.abs(error))),
        ssim=float(np.mean(ssim_map(image, truth, data_range)[mask])),
        sam=float(np.mean(_angles(image[mask], truth[mask]))),
    )


def correlations(image: Floats, truth: Floats, mask: Mask) -> tuple[float, ...]:
    """Pearson's correlation (PC) of each band over the pixels of a mask; 0 where a band does not vary.

    Args:
        image: Shape (height, width, bands).
        truth: Same shape.
        mask: Pixels to count, shape (height, width).
    """
    a, b = image[mask].astype(np.float64), truth[mask].astype(np.float64)
    a, b = a - a.mean(axis=0), b - b.mean(axis=0)
    lengths = np.sqrt((a * a).sum(axis=0) * (b * b).sum(axis=0))
    shared = (a * b).sum(axis=0)
    return tuple(float(s / n) if n > 0 else 0.0 for s, n in zip(shared, lengths, strict=True))


def ssim_map(image: Floats, truth: Floats, data_range: float = DATA_RANGE) -> NDArray[np.float64]:
    """Structural similarity around each pixel, mean over bands, shape (height, width)."""
    a, b = image.astype(np.float64), truth.astype(np.float64)

    def blurred(values: NDArray[np.float64]) -> NDArray[np.float64]:
        smooth: NDArray[np.float64] = gaussian_filter(values, (1.5, 1.5, 0), truncate=3.5)
        return smooth

    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    mean_a, mean_b = blurred(a), blurred(b)
    var_a, var_b = blurred(a * a) - mean_a**2, blurred(b * b) - mean_b**2
    cov = blurred(a * b) - mean_a * mean_b
    ssim = ((2 * mean_a * mean_b + c1) * (2 * cov + c2)) / (
        (mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2)
    )
    result: NDArray[np.float64] = ssim.mean(axis=-1)
    return result


def _angles(image: Floats, truth: Floats) -> NDArray[np.float64]:
    a, b = image.astype(np.float64), truth.astype(np.float64)
    lengths = np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1)
    cosine = np.sum(a * b, axis=-1) / np.maximum(lengths, 1e-12)
    degrees: NDArray[np.float64] = np.degrees(np.arccos(np.clip(cosine, -1, 1)))
    return degrees

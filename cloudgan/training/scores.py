"""How near a declouded tile comes to the truth: PSNR, MAE, SSIM and SAM over chosen pixels.

The data range is 1.0 in reflectance (100 %), stated because PSNR and SSIM mean nothing without it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from cloudgan.errors import InputError
from cloudgan.training.data import Floats, Mask
from cloudgan.training.samples import Sample

DATA_RANGE = 1.0
"""Reflectance from 0 to 100 %."""
Declouder = Callable[[Floats, Mask], Floats]
"""From a cloudy image, (height, width, bands), and what is hidden, to a declouded one."""


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


def score(image: Floats, truth: Floats, mask: Mask) -> Scores:
    """Compare two images over the pixels of a mask.

    Args:
        image: Reflectance, shape (height, width, bands).
        truth: Reflectance, same shape.
        mask: Pixels to count, shape (height, width).

    Raises:
        InputError: The mask is empty.
    """
    if not mask.any():
        raise InputError("no pixel to score: the mask is empty")
    error = (image - truth)[mask].astype(np.float64)
    mse = max(float(np.mean(error**2)), 1e-12)
    return Scores(
        psnr=float(10 * np.log10(DATA_RANGE**2 / mse)),
        mae=float(np.mean(np.abs(error))),
        ssim=float(np.mean(_ssim_map(image, truth)[mask])),
        sam=float(np.mean(_angles(image[mask], truth[mask]))),
    )


def mean_scores(samples: Sequence[Sample], declouder: Declouder) -> Scores:
    """Mean over tiles of the scores on hidden pixels."""
    rows = [score(declouder(s.cloudy, s.hidden), s.clear, s.hidden) for s in samples if s.hidden.any()]
    if not rows:
        raise InputError("no tile to score: none has hidden pixels")
    return Scores(*(float(np.mean([getattr(row, name) for row in rows])) for name in Scores.__slots__))


def as_it_is(cloudy: Floats, hidden: Mask) -> Floats:
    """The baseline that does nothing."""
    return cloudy


def mean_colour(cloudy: Floats, hidden: Mask) -> Floats:
    """The baseline that paints hidden pixels in the mean colour of the tile's visible ones."""
    seen = ~hidden & np.all(cloudy > 0, axis=-1)
    colour = cloudy[seen].mean(axis=0) if seen.any() else cloudy.reshape(-1, cloudy.shape[-1]).mean(axis=0)
    return np.where(hidden[..., None], colour, cloudy).astype(np.float32)


def _angles(image: Floats, truth: Floats) -> NDArray[np.float64]:
    a, b = image.astype(np.float64), truth.astype(np.float64)
    lengths = np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1)
    cosine = np.sum(a * b, axis=-1) / np.maximum(lengths, 1e-12)
    degrees: NDArray[np.float64] = np.degrees(np.arccos(np.clip(cosine, -1, 1)))
    return degrees


def _ssim_map(image: Floats, truth: Floats) -> NDArray[np.float64]:
    a, b = image.astype(np.float64), truth.astype(np.float64)

    def blurred(values: NDArray[np.float64]) -> NDArray[np.float64]:
        smooth: NDArray[np.float64] = gaussian_filter(values, (1.5, 1.5, 0), truncate=3.5)
        return smooth

    c1, c2 = (0.01 * DATA_RANGE) ** 2, (0.03 * DATA_RANGE) ** 2
    mean_a, mean_b = blurred(a), blurred(b)
    var_a, var_b = blurred(a * a) - mean_a**2, blurred(b * b) - mean_b**2
    cov = blurred(a * b) - mean_a * mean_b
    ssim = ((2 * mean_a * mean_b + c1) * (2 * cov + c2)) / (
        (mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2)
    )
    result: NDArray[np.float64] = ssim.mean(axis=-1)
    return result

"""Observed and generated values combined: feathering at the mask's edge, range of overlapping predictions."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cloudgan.observations import is_empty
from cloudgan.schema import NO_UNCERTAINTY
from cloudgan.sentinel2.bands import MAX_NUMBER, REFLECTANCE_SCALE


def generated_share(
    pixel_classes: NDArray[np.uint8], opacity: NDArray[np.float16], available: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """How much of the generated value each pixel of one date takes; it is generated where this is above 0.

    Args:
        pixel_classes: Values of `PixelClass`, shape (y, x).
        opacity: See `observations.compute_opacity`, same shape.
        available: Where another date is clear, same shape. Pixels without data are generated only there.
    """
    return np.where(is_empty(pixel_classes), available.astype(np.float32), opacity.astype(np.float32))


def feather(
    bands: NDArray[np.uint16], generated: NDArray[np.float32], share: NDArray[np.float32]
) -> NDArray[np.uint16]:
    """Observed numbers outside the mask, generated ones inside, and a weighted mean of both at its edge.

    Args:
        bands: Digital numbers as observed, shape (band, y, x).
        generated: Reflectance, same shape; counts where the share is above 0.
        share: See `generated_share`, shape (y, x).
    """
    # A band that lacks data has nothing to be feathered with, and is generated in full.
    part = np.where(bands == 0, np.float32(1), share)
    blended = part * generated / np.float32(REFLECTANCE_SCALE) + (1 - part) * bands
    # 0 means no data, so the darkest generated value is 1.
    filled = np.clip(np.rint(blended), 1, MAX_NUMBER).astype(np.uint16)
    return np.where(share > 0, filled, bands)


class OverlapRange:
    """How far the predictions of overlapping tiles differ."""

    def __init__(self, bands: int, shape: tuple[int, int]) -> None:
        self.lowest, self.highest = (
            np.full((bands, *shape), limit, np.float32) for limit in (np.inf, -np.inf)
        )
        self.tiles = np.zeros(shape, np.uint8)

    def add(self, where: tuple[slice, slice], part: NDArray[np.float32]) -> None:
        """Add the prediction of a tile, shape (band, y, x)."""
        np.minimum(self.lowest[:, *where], part, out=self.lowest[:, *where])
        np.maximum(self.highest[:, *where], part, out=self.highest[:, *where])
        self.tiles[where] += 1

    def uncertainty(self) -> NDArray[np.uint16]:
        """Largest minus smallest prediction, mean over bands; `NO_UNCERTAINTY` of a single tile."""
        several = self.tiles > 1
        uncertainty = np.full(several.shape, NO_UNCERTAINTY, np.uint16)
        uncertainty[several] = uncertainty_numbers((self.highest - self.lowest)[:, several].mean(axis=0))
        return uncertainty


def uncertainty_numbers(reflectance: NDArray[np.float32]) -> NDArray[np.uint16]:
    """Uncertainty in reflectance as it is stored, of the same shape."""
    numbers: NDArray[np.float32] = np.clip(np.rint(reflectance / REFLECTANCE_SCALE), 0, NO_UNCERTAINTY - 1)
    return numbers.astype(np.uint16)

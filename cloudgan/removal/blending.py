"""Observed and generated values combined: feathering at the mask's edge, range of overlapping predictions."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cloudgan.errors import GeneratorError
from cloudgan.observations import is_empty
from cloudgan.schema import NO_UNCERTAINTY
from cloudgan.sentinel2.bands import REFLECTANCE_SCALE, SATURATED_NUMBER
from cloudgan.sentinel2.classification import PixelClass

UNKNOWN = np.float32(-1e30)
"""Uncertainty, in reflectance, of which nothing is known."""
GENERATED_RANGE = (1, SATURATED_NUMBER - 1)
"""Smallest and largest digital number that is generated: reflectance 0.0001 (0 is no data) to 1.5999."""


def generated_share(
    pixel_classes: NDArray[np.uint8], opacity: NDArray[np.float16], available: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """How much of the generated value each pixel of one date takes; it is generated where this is above 0.

    Args:
        pixel_classes: Values of `PixelClass`, shape (y, x).
        opacity: See `observations.compute_opacity`, same shape.
        available: Where another date is clear, same shape. Pixels that show no surface are generated only
            there, and in full.
    """
    cover = opacity.astype(np.float32)
    # Without another date, what lies in the buffer of a cloud is generated as far as it takes part in it.
    unreliable = np.where(available, np.float32(1), cover)
    share = np.where(pixel_classes == PixelClass.UNRELIABLE, unreliable, cover)
    return np.where(is_empty(pixel_classes), available.astype(np.float32), share)


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
    part = np.where((bands == 0) | (bands >= SATURATED_NUMBER), np.float32(1), share)
    blended = part * _limit(generated) / np.float32(REFLECTANCE_SCALE) + (1 - part) * bands
    filled = np.clip(np.rint(blended), *GENERATED_RANGE).astype(np.uint16)
    return np.where(share > 0, filled, bands)


def is_out_of_range(generated: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Where a generated value is no reflectance that `GENERATED_RANGE` holds, in any band; shape (y, x).

    Args:
        generated: Reflectance, shape (band, y, x).
    """
    numbers = np.rint(_limit(generated) / np.float32(REFLECTANCE_SCALE))
    outside: NDArray[np.bool_] = np.any(
        (numbers < GENERATED_RANGE[0]) | (numbers > GENERATED_RANGE[1]), axis=0
    )
    return outside


def _limit(reflectance: NDArray[np.float32]) -> NDArray[np.float32]:
    """Values of which each can be divided by the scale; all beyond are out of every range."""
    limited: NDArray[np.float32] = np.clip(reflectance, np.float32(-100), np.float32(100))
    return limited


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

    def uncertainty(self) -> NDArray[np.float32]:
        """Largest minus smallest prediction, mean over bands, reflectance; `UNKNOWN` of a single tile."""
        several = self.tiles > 1
        uncertainty = np.full(several.shape, UNKNOWN, np.float32)
        uncertainty[several] = (self.highest - self.lowest)[:, several].mean(axis=0)
        return uncertainty


def uncertainty_numbers(reflectance: NDArray[np.float32]) -> NDArray[np.uint16]:
    """Uncertainty in reflectance as it is stored, of the same shape; `NO_UNCERTAINTY` where it is unknown."""
    numbers = np.clip(np.rint(_limit(reflectance) / REFLECTANCE_SCALE), 0, NO_UNCERTAINTY - 1)
    return np.where(reflectance == UNKNOWN, NO_UNCERTAINTY, numbers).astype(np.uint16)


def is_uncertainty_clamped(reflectance: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Where an uncertainty is known and is too large, or too small, to be stored as it is; shape (y, x)."""
    numbers = np.rint(_limit(reflectance) / REFLECTANCE_SCALE)
    outside: NDArray[np.bool_] = ((numbers < 0) | (numbers >= NO_UNCERTAINTY)) & (reflectance != UNKNOWN)
    return outside


def refuse_no_numbers(model: str, generated: NDArray[np.float32]) -> None:
    """Make sure that what a generator gave are numbers.

    Args:
        model: Its name.
        generated: Values that are used.

    Raises:
        GeneratorError: One is NaN or infinite.
    """
    broken = int(np.count_nonzero(~np.isfinite(generated)))
    if broken:
        raise GeneratorError(
            f"the model {model} gave {broken:,} values that are no numbers (NaN or infinite) in one tile; "
            "use another model, or train this one anew"
        )

"""Radiometric offset of an image to a date, estimated on clear pixels around."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from cloudgan.sentinel2.bands import REFLECTANCE_SCALE

Floats = NDArray[np.float32]

_SIGMA = 20.0  # pixels over which the offset between two images is smoothed


def align_to_date(image: Floats, shown: Floats, clear: NDArray[np.bool_]) -> Floats:
    """Remove the offset of an image to the clear pixels of a date, smoothly in space.

    Far from any clear pixel, their mean offset is removed.

    Args:
        image: Reflectance, shape (band, y, x), NaN where there is none.
        shown: The date itself, same shape.
        clear: Its reliable pixels, shape (y, x).
    """
    usable = clear & ~np.isnan(image[0])
    if not usable.any():
        return image
    gap = np.where(usable, shown - np.nan_to_num(image), 0)
    mean = gap[:, usable].mean(axis=1)[:, None, None]
    weight = gaussian_filter(usable.astype(np.float32), _SIGMA)
    total = gaussian_filter(gap, (0, _SIGMA, _SIGMA))
    aligned: Floats = (image + (total + 0.01 * mean) / (weight + 0.01)).astype(np.float32)
    return np.maximum(aligned, np.float32(REFLECTANCE_SCALE))

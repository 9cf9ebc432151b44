"""How much a pixel is worth, by its provenance and its uncertainty."""

from __future__ import annotations

from typing import Any

import numpy as np

from cloudgan.schema import Provenance

OBSERVED_ERROR = 0.005
"""Standard error of an observed reflectance: the constant part of ESA's requirement for surface reflectance
(0.05 of the value, and 0.005)."""
_STANDARD_OF_MEAN_ABSOLUTE = float(np.sqrt(np.pi / 2))  # of a normal distribution


def weigh_pixels(provenance: Any, uncertainty: Any) -> Any:
    """The weight of each pixel in a mean: its inverse variance, with 1 for an observed pixel.

    Args:
        provenance: See `schema.Provenance`; any array.
        uncertainty: Expected absolute error in reflectance, of the same shape; NaN where it is unknown.

    Returns:
        float32 from 0 to 1; 0 where there is no data, where nothing vouches for a value, and where the error
        of a generated pixel is unknown.
    """
    variance = (_STANDARD_OF_MEAN_ABSOLUTE * np.nan_to_num(uncertainty, nan=np.inf)) ** 2
    generated = OBSERVED_ERROR**2 / (OBSERVED_ERROR**2 + variance)
    weight = np.where(provenance == Provenance.GENERATED, generated, 0)
    return np.where(provenance == Provenance.OBSERVED, 1, weight).astype(np.float32)

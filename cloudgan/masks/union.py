"""All that is known of what is cloudy becomes the pixel classes of one time series."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cloudgan.geo.grid import Window
from cloudgan.masks.snow import classify_series
from cloudgan.observations import Observations, compute_opacity
from cloudgan.schema import MaskSource
from cloudgan.sentinel2.classification import DEFAULT_RULES, ClassRules, PixelClass, Scl, classify


def classify_observations(
    window: Window,
    bands: Mapping[str, NDArray[np.uint16]],
    scl: NDArray[np.uint8],
    days: NDArray[np.int64],
    *,
    buffer: int,
    rules: ClassRules = DEFAULT_RULES,
    opacities: NDArray[Any] | None = None,
) -> Observations:
    """A time series as it was read, classified.

    Args:
        window: Where the arrays lie on the pixel lattice.
        bands: By common name: digital numbers, shape (time, y, x).
        scl: Scene classification, shape (time, y, x).
        days: Day number of each date, ascending, shape (time,).
        buffer: Width of the buffer around cloud and shadow, in pixels.
        rules: How the classification is used.
        opacities: See `Observations.opacities`, as images of each day on its own have it.
    """
    pixel_classes = classify_series(scl, bands, days, rules)
    sources = np.where(pixel_classes == PixelClass.CLOUDY, np.uint8(MaskSource.SCL), np.uint8(0))
    sources[(sources > 0) & (scl == Scl.SNOW_OR_ICE)] = MaskSource.SNOW
    if opacities is not None:
        known = classify(scl, bands, rules) == PixelClass.CLOUDY
        opacities = _add_opacity(opacities.astype(np.float16), pixel_classes, known, buffer)
    return Observations(window, bands, pixel_classes, days, opacities=opacities, mask_sources=sources)


def _add_opacity(
    opacities: NDArray[np.float16], pixel_classes: NDArray[np.uint8], known: NDArray[np.bool_], buffer: int
) -> NDArray[np.float16]:
    """Opacities with those of the cloud that is not known from one image on its own."""
    for at, found in enumerate((pixel_classes == PixelClass.CLOUDY) & ~known):
        if found.any():
            classes = np.where(found, np.uint8(PixelClass.CLOUDY), np.uint8(PixelClass.CLEAR))
            opacity = compute_opacity(classes, buffer).astype(np.float16)
            np.maximum(opacities[at], opacity, out=opacities[at])
    return opacities

"""All that is known of what is cloudy becomes the pixel classes of one time series."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cloudgan.geo.grid import Window
from cloudgan.masks import temporal
from cloudgan.masks.snow import classify_series
from cloudgan.observations import Observations, compute_opacity, is_empty
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
    called: Mapping[MaskSource, NDArray[np.bool_]] | None = None,
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
        called: What others than the classification call cloudy, shape (time, y, x): a detector, the user.
    """
    pixel_classes = classify_series(scl, bands, days, rules)
    sources = np.where(pixel_classes == PixelClass.CLOUDY, np.uint8(MaskSource.SCL), np.uint8(0))
    sources[(sources > 0) & (scl == Scl.SNOW_OR_ICE)] = MaskSource.SNOW
    for source, cloudy in (called or {}).items():
        _call_cloudy(pixel_classes, sources, source, cloudy)
    if opacities is not None:
        known = classify(scl, bands, rules) == PixelClass.CLOUDY
        opacities = _add_opacity(opacities.astype(np.float16), pixel_classes, known, buffer)
    return Observations(window, bands, pixel_classes, days, opacities=opacities, mask_sources=sources)


def find_temporal_clouds(
    bands: Mapping[str, NDArray[np.uint16]],
    scl: NDArray[np.uint8],
    days: NDArray[np.int64],
    called: Mapping[MaskSource, NDArray[np.bool_]],
    *,
    buffer: int,
    rules: ClassRules = DEFAULT_RULES,
) -> NDArray[np.bool_]:
    """What the temporal test finds in what neither the classification nor others call cloudy.

    Arguments as of `classify_observations`; the bands that `temporal.BANDS` names are used.

    Returns:
        Shape (time, y, x). Within `temporal.margin_pixels` of the edge, pixels lack surroundings.
    """
    clear = classify_series(scl, bands, days, rules) == PixelClass.CLEAR
    for cloudy in called.values():
        clear &= ~cloudy
    return temporal.find_departures(bands, clear, days, buffer=buffer)


def _call_cloudy(
    pixel_classes: NDArray[np.uint8],
    sources: NDArray[np.uint8],
    source: MaskSource,
    cloudy: NDArray[np.bool_],
) -> None:
    """Enter what one more source calls cloudy, in place; only what has data can be."""
    for at, found in enumerate(cloudy):
        there = found & ~is_empty(pixel_classes[at])
        pixel_classes[at][there] = PixelClass.CLOUDY
        sources[at][there] |= np.uint8(source)


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

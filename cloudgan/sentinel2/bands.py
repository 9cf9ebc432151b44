"""The bands of the Multi-Spectral Instrument, and the scale of their digital numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

REFLECTANCE_SCALE = 0.0001
"""Reflectance of one digital number (Sentinel-2 L2A quantification value 10000); 0 is no data."""
MAX_NUMBER = 65535
"""Largest digital number that a file or a store can hold."""
SATURATED_NUMBER = 16_000
"""Digital number from which on a value is no reflectance: the sensor is saturated, or an unsigned difference
fell below zero and went round (64536 is 0 - 1000)."""


@dataclass(frozen=True, slots=True)
class Band:
    """One spectral band.

    Sources: central wavelengths from ESA's "Sentinel-2A MSI spectral responses"; delays from the table of
    inter-band measurement times in the Sentinel-2 MSI technical guide.
    """

    name: str
    """Common name (STAC eo extension), which cloudgan uses throughout."""
    esa_name: str
    """ESA's name, such as `B04`."""
    wavelength: float
    """Central wavelength of Sentinel-2A in nanometres."""
    resolution: int
    """Native edge of a pixel in metres."""
    delay: float
    """Seconds after the blue band at which a place is seen."""


BANDS = {
    band.name: band
    for band in (
        Band("coastal", "B01", 442.7, 60, 2.314),
        Band("blue", "B02", 492.4, 10, 0.0),
        Band("green", "B03", 559.8, 10, 0.527),
        Band("red", "B04", 664.6, 10, 1.005),
        Band("rededge1", "B05", 704.1, 20, 1.269),
        Band("rededge2", "B06", 740.5, 20, 1.525),
        Band("rededge3", "B07", 782.8, 20, 1.790),
        Band("nir", "B08", 832.8, 10, 0.264),
        Band("nir08", "B8A", 864.7, 20, 2.055),
        Band("nir09", "B09", 945.1, 60, 2.586),
        Band("swir16", "B11", 1613.7, 20, 1.468),
        Band("swir22", "B12", 2202.4, 20, 2.085),
    )
}
"""All bands of an L2A product, by common name."""
BAND_SETS = {
    "rgbn": ("blue", "green", "red", "nir"),
    "hls": ("blue", "green", "red", "nir08", "swir16", "swir22"),
    "all": ("blue", "green", "red", "rededge1", "rededge2", "rededge3", "nir", "nir08", "swir16", "swir22"),
}
"""Names for several bands: those of 10 m, those of NASA's Harmonized Landsat Sentinel-2, and all that show
the surface."""
_BY_ESA_NAME = {band.esa_name: band for band in BANDS.values()}


def parse_bands(text: str) -> tuple[str, ...]:
    """Bands from their common names, ESA's names and the names of `BAND_SETS`, each once, in order.

    Args:
        text: The names, separated by commas.

    Raises:
        ValueError: One of them is no band, or none is named.
    """
    words = [common_name(word.strip()) for word in text.split(",") if word.strip()]
    if not words:
        raise ValueError("names no band; give some, such as blue,green,red, or a set such as rgbn")
    for word in words:
        if word not in BANDS and word not in BAND_SETS:
            raise ValueError(
                f"names {word!r}, which is no band; give some of {', '.join(BANDS)}, or a set: "
                f"{', '.join(BAND_SETS)}"
            )
    return tuple(dict.fromkeys(band for word in words for band in BAND_SETS.get(word, (word,))))


def common_name(text: str) -> str:
    """The common name of a band that a file calls `B03` or `B3`; any other name as it is."""
    number = text.removeprefix("B").zfill(2)
    band = _BY_ESA_NAME.get(f"B{number}") if text.startswith("B") else None
    return band.name if band else text


def to_reflectance(numbers: NDArray[Any]) -> NDArray[np.float32]:
    """Digital numbers as reflectance (1.0 is 100 %), float32 of the same shape."""
    return numbers.astype(np.float32) * np.float32(REFLECTANCE_SCALE)


def to_numbers(reflectance: NDArray[np.floating[Any]]) -> NDArray[np.uint16]:
    """Reflectance as digital numbers, rounded and clipped to 0 to `MAX_NUMBER`, of the same shape."""
    numbers: NDArray[np.uint16] = np.clip(np.rint(reflectance / REFLECTANCE_SCALE), 0, MAX_NUMBER).astype(
        np.uint16
    )
    return numbers

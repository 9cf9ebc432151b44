"""Sen2Cor's scene classification, and what a pixel shows according to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from cloudgan.defaults import SNOW, Snow
from cloudgan.sentinel2.bands import SATURATED_NUMBER

SCL = "scl"
"""Name of the scene classification among the bands of an item or a cube."""
SCL_MISSING = 255
"""Stands in a cube's `scl` where an asset could not be read; no class of Sen2Cor's."""


class Scl(IntEnum):
    """Classes of the scene classification (Sentinel-2 L2A product definition, table of SCL values)."""

    NO_DATA = 0
    SATURATED_OR_DEFECTIVE = 1
    DARK_AREA = 2
    CLOUD_SHADOW = 3
    VEGETATION = 4
    NOT_VEGETATED = 5
    WATER = 6
    UNCLASSIFIED = 7
    CLOUD_MEDIUM_PROBABILITY = 8
    CLOUD_HIGH_PROBABILITY = 9
    THIN_CIRRUS = 10
    SNOW_OR_ICE = 11


CLOUD_CLASSES = (Scl.CLOUD_MEDIUM_PROBABILITY, Scl.CLOUD_HIGH_PROBABILITY, Scl.THIN_CIRRUS)
"""Classes that are cloud."""
UNUSABLE_CLASSES = (Scl.NO_DATA, Scl.SATURATED_OR_DEFECTIVE)
"""Classes that vouch for nothing."""


class PixelClass(IntEnum):
    """What one pixel of one date shows."""

    NO_DATA = 0
    """No band has data: outside the swath."""
    CLEAR = 1
    """The surface."""
    CLOUDY = 2
    """Cloud of medium or high probability, thin cirrus, or cloud shadow."""
    UNRELIABLE = 3
    """Data that nothing vouches for: without a class, saturated, defective, dark noise, or lacking in a band.
    It never serves as a clear observation."""
    MISSING = 4
    """Without data because an asset that should hold it could not be read."""
    SNOW = 5
    """Called snow or ice by one image, which may be cloud with an icy top: other dates decide; see
    `masks.snow`. It stands in no series of `Observations`."""


@dataclass(frozen=True, slots=True)
class ClassRules:
    """How the scene classification is used."""

    is_used: bool = True
    """Whether it is at all; else whatever has data is clear."""
    snow: Snow = SNOW
    """What class 11, snow or ice, is: clear (`keep`), cloud, or what other dates confirm (`auto`)."""


DEFAULT_RULES = ClassRules()


DARK_NOISE = 30
"""Digital number below which a pixel shows noise and no surface, where that is so in all bands: reflectance
0.003."""
_VISIBLE = ("coastal", "blue", "green", "red")  # water is as dark as noise beyond them

_CLASS_OF_SCL = np.full(256, PixelClass.UNRELIABLE, np.uint8)
_CLASS_OF_SCL[list(Scl)] = PixelClass.CLEAR
_CLASS_OF_SCL[list(UNUSABLE_CLASSES)] = PixelClass.UNRELIABLE
_CLASS_OF_SCL[[Scl.CLOUD_SHADOW, *CLOUD_CLASSES]] = PixelClass.CLOUDY


_SNOW = {"keep": PixelClass.CLEAR, "cloud": PixelClass.CLOUDY, "auto": PixelClass.SNOW}


def _tabulate(rules: ClassRules) -> NDArray[np.uint8]:
    """The pixel class of each class of the scene classification."""
    if not rules.is_used:
        return np.full(256, PixelClass.CLEAR, np.uint8)
    table = _CLASS_OF_SCL.copy()
    table[Scl.SNOW_OR_ICE] = _SNOW[rules.snow]
    return table


def classify(
    scl: NDArray[np.uint8],
    bands: Mapping[str, NDArray[np.uint16]],
    rules: ClassRules = ClassRules(),
) -> NDArray[np.uint8]:
    """What each pixel shows, as values of `PixelClass`.

    Args:
        scl: Scene classification, shape (..., y, x).
        bands: By common name: harmonised digital numbers of the same shape; 0 is no data.
        rules: How the classification is used.

    Returns:
        Pixel classes of shape (..., y, x). Whether there is data is decided by the bands alone: at the edge
        of the swath the classification says otherwise here and there.
    """
    classes = _tabulate(rules)[scl]
    empty, unreliable = np.ones(scl.shape, np.bool_), np.zeros(scl.shape, np.bool_)
    noise = np.full(scl.shape, any(name in _VISIBLE for name in bands))
    for band in bands.values():
        empty &= band == 0
        noise &= band < DARK_NOISE
        unreliable |= (band == 0) | (band >= SATURATED_NUMBER)
    classes[(unreliable | noise) & np.isin(classes, (PixelClass.CLEAR, PixelClass.SNOW))] = (
        PixelClass.UNRELIABLE
    )
    classes[empty] = PixelClass.NO_DATA
    classes[scl == SCL_MISSING] = PixelClass.MISSING
    return classes

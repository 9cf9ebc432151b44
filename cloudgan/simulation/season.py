"""The sky of the demonstration: sun, clouds, shadows, haze, and the scene classification that sees them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from cloudgan.simulation.farmland import noise

if TYPE_CHECKING:
    from datetime import datetime

    from numpy.random import Generator
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]

MARGIN = 200
"""Pixels of sky simulated around the land: clouds out of sight throw shadows into it."""

# What a full shadow takes from the surface reflectance of blue, green, red and nir: the levels of SCL class 3
# in real scenes. The sky still lights the ground, most of all in the blue.
SHADOW_DEPTH = (0.38, 0.44, 0.48, 0.64)
CIRRUS_SLOPE = (1.12, 1.05, 1.0, 0.86)  # thin ice cloud scatters a little more at short wavelengths
CIRRUS_COLOUR = (0.62, 0.60, 0.59, 0.58)
CLOUD_COLOUR = (1.00, 0.975, 0.97, 1.02)
HAZE_COLOUR = (0.0050, 0.0032, 0.0022, 0.0010)

# Sen2Cor's scene classification.
NO_DATA, DARK, SHADOW, VEGETATION, BARE, WATER = 0, 2, 3, 4, 5, 6
UNCLASSIFIED, CLOUD_MEDIUM, CLOUD_HIGH, CIRRUS = 7, 8, 9, 10


@dataclass(frozen=True, slots=True, eq=False)
class CloudField:
    """What stands between land and satellite on one date; every array has the land's rows and columns."""

    cloud: Floats
    """Opacity of the low cloud, 0 to 1."""
    bright: Floats
    """Reflectance of the low cloud where it is opaque."""
    shadow: Floats
    """Share of the direct sunlight that low cloud keeps from the ground, 0 to 1."""
    cirrus: Floats
    """Optical depth of the cirrus in the red."""

    def seen_through(self, ground: Floats) -> Floats:
        """The image of `ground` (4, rows, columns) that reaches the satellite, as surface reflectance."""
        image = np.empty_like(ground)
        for band, depth in enumerate(SHADOW_DEPTH):
            below = ground[band] * (1 - np.float32(depth) * self.shadow)
            below += self.cloud * (self.bright * np.float32(CLOUD_COLOUR[band]) - below)
            veil = 1 - np.exp(-np.float32(CIRRUS_SLOPE[band]) * self.cirrus)
            image[band] = below + veil * (np.float32(CIRRUS_COLOUR[band]) - below)
        return image


def sun_position(when: datetime, longitude: float, latitude: float) -> tuple[float, float]:
    """Azimuth (clockwise from north) and elevation of the sun in degrees, good to about half a degree.

    Declination by Cooper (1969), equation of time by Spencer (1971).
    """
    day = when.timetuple().tm_yday
    declination = math.radians(23.45 * math.sin(math.radians(360 * (284 + day) / 365)))
    b = 2 * math.pi * (day - 1) / 365
    minutes = 229.18 * (
        0.000075 + 0.001868 * math.cos(b) - 0.032077 * math.sin(b)
        - 0.014615 * math.cos(2 * b) - 0.04089 * math.sin(2 * b)
    )  # fmt: skip
    solar_hour = when.hour + when.minute / 60 + minutes / 60 + longitude / 15
    turn, lat = math.radians(15 * (solar_hour - 12)), math.radians(latitude)
    up = math.sin(lat) * math.sin(declination) + math.cos(lat) * math.cos(declination) * math.cos(turn)
    east = -math.cos(declination) * math.sin(turn)
    north = math.cos(lat) * math.sin(declination) - math.sin(lat) * math.cos(declination) * math.cos(turn)
    return math.degrees(math.atan2(east, north)) % 360, math.degrees(math.asin(up))


def make_cloud_field(
    rng: Generator, shape: tuple[int, int], cover: float, veil: float, sun: tuple[float, float]
) -> CloudField:
    """Cumulus (or, at a high cover, stratocumulus) and cirrus over the land.

    Args:
        rng: Source of randomness.
        shape: The land's rows and columns.
        cover: Share of the land under low cloud.
        veil: Share of the land under cirrus.
        sun: Azimuth and elevation of the sun in degrees.
    """
    canvas = (shape[0] + 2 * MARGIN, shape[1] + 2 * MARGIN)
    thickness = _low_cloud(rng, canvas, cover)
    opacity = ndimage.gaussian_filter(1 - np.exp(-thickness), 0.7, truncate=3)  # the optics
    azimuth, elevation = math.radians(sun[0]), math.radians(sun[1])
    mass = ndimage.gaussian_filter(np.log1p(thickness), 3, truncate=2)
    south, east = np.gradient(mass)
    sunlit = np.tanh(3 * (math.cos(azimuth) * south - math.sin(azimuth) * east))  # of a heap's two sides
    bright = 0.30 + 0.46 * np.tanh(0.6 * mass) + 0.2 * sunlit + 0.06 * noise(rng, canvas, 24, 2.4)

    # A ray from the ground to the sun meets a cloud of this height so many pixels away.
    away = rng.uniform(900, 1600) / math.tan(elevation) / 10
    down, right = round(-away * math.cos(azimuth)), round(away * math.sin(azimuth))
    soft = ndimage.gaussian_filter(opacity, 1.2, truncate=2)
    return CloudField(
        cloud=_inside(opacity),
        bright=np.clip(_inside(bright), 0.2, 1.25),
        shadow=_inside(soft, down, right),
        cirrus=_inside(_cirrus(rng, canvas, veil)),
    )


def _inside(canvas: Floats, down: int = 0, right: int = 0) -> Floats:
    """The part of the sky above the land, or that shifted by some pixels."""
    rows, cols = canvas.shape
    part = canvas[MARGIN + down : rows - MARGIN + down, MARGIN + right : cols - MARGIN + right]
    return np.ascontiguousarray(part, np.float32)


def _low_cloud(rng: Generator, shape: tuple[int, int], cover: float) -> Floats:
    """Optical thickness of cumulus that covers a share of the sky; its edges are soft over a few pixels."""
    size = rng.uniform(28, 60) * (1 + 1.5 * cover)
    if cover <= 0:
        return np.zeros(shape, np.float32)
    heaps = noise(rng, shape, size, 2.3) + 0.8 * noise(rng, shape, 4 * size, 2.5)
    heaps += 0.13 * noise(rng, shape, 9, 1.4)
    heaps /= heaps.std()
    edge = np.quantile(_inside(heaps), 1 - cover)
    return np.asarray((4.2 * np.clip(heaps - edge, 0, None)) ** 1.35, np.float32)


def _cirrus(rng: Generator, shape: tuple[int, int], veil: float) -> Floats:
    """Optical depth of fibrous cirrus that covers a share of the sky."""
    if veil <= 0:
        return np.zeros(shape, np.float32)
    angle = rng.uniform(-0.6, 0.6)
    fibres = noise(rng, shape, 260, 1.7, stretch=5, angle=angle)
    fibres += 0.9 * noise(rng, shape, 500, 2.4, stretch=2, angle=angle)
    fibres /= fibres.std()
    edge = np.quantile(_inside(fibres), 1 - veil)
    return np.asarray(0.17 * np.clip(fibres - edge, 0, None) ** 1.2, np.float32)


def radiometry(rng: Generator, shape: tuple[int, int]) -> tuple[Floats, Floats]:
    """How one date's image differs from the land's reflectance: errors of calibration and of atmosphere.

    Returns:
        Factor and summand of each band, shapes (4, rows, columns) and (4, 1, 1): a few per cent, smooth.
    """
    gain = 1 + rng.normal(0, 0.024) + rng.normal(0, 0.01, (4, 1, 1))
    slow = 0.01 * noise(rng, shape, max(shape), 3.0)
    haze = np.array(HAZE_COLOUR)[:, None, None] * rng.uniform(-0.4, 1.2)
    return (gain * (1 + slow)).astype(np.float32), haze.astype(np.float32)


def classify(rng: Generator, image: Floats, cloud_field: CloudField) -> NDArray[np.uint8]:
    """The scene classification at 20 m, with the habits of the real one.

    Its clouds are a little ragged, thin edges are medium probability or missed, faint shadow is missed.

    Args:
        rng: Source of randomness.
        image: What the satellite sees, shape (4, rows, columns).
        sky: What it sees it through.

    Returns:
        Classes of Sen2Cor, shape (rows / 2, columns / 2).
    """
    _, green, red, nir = (_mean2(band) for band in image)
    cloud, shadow, cirrus = _mean2(cloud_field.cloud), _mean2(cloud_field.shadow), _mean2(cloud_field.cirrus)
    ragged = noise(rng, cloud.shape, 6, 1.0)
    ndvi = (nir - red) / (nir + red)
    classes = np.where(ndvi > 0.38, VEGETATION, BARE)
    classes[(ndvi > 0.30) & (ndvi < 0.38) & (ragged > 1.9)] = UNCLASSIFIED
    classes[(nir < 0.09) & (green > nir)] = WATER
    dimmed = shadow * (1 + 0.2 * ragged)
    classes[(dimmed > 0.16) & (nir < 0.16)] = DARK
    classes[dimmed > 0.26] = SHADOW
    classes[cirrus * (1 + 0.2 * ragged) > 0.02] = CIRRUS
    seen = cloud * (1 + 0.2 * ragged)
    classes[seen > 0.08] = UNCLASSIFIED
    classes[seen > 0.16] = CLOUD_MEDIUM
    classes[seen > 0.62] = CLOUD_HIGH
    roofs = (red > 0.17) & (ndvi < 0.16) & (ragged > 0.6)
    classes[roofs & (seen < 0.05)] = CLOUD_MEDIUM  # mistaken, as bright roofs are
    return classes.astype(np.uint8)


def _mean2(fine: Floats) -> Floats:
    """Mean of each 2 x 2 block."""
    return (fine[::2, ::2] + fine[1::2, ::2] + fine[::2, 1::2] + fine[1::2, 1::2]) * np.float32(0.25)

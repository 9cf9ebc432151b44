"""Simulated overflights of a season: sun, clouds, shadows and haze of a date, its scene classification."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from cloudgan.sentinel2.classification import Scl
from cloudgan.simulation.covers import BANDS, bands_at
from cloudgan.simulation.farmland import draw_noise, mean_of_blocks

if TYPE_CHECKING:
    from datetime import datetime

    from numpy.random import Generator
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]

MARGIN = 200
"""Pixels by which clouds are simulated beyond the land: those outside cast shadows into it."""

# All by band, as in `BANDS`. A full shadow removes so much of the surface reflectance, as in SCL class 3 of
# real scenes. The sky still lights the surface, most of all in the blue, hardly in the short-wave infrared.
SHADOW_DEPTH = (0.38, 0.44, 0.48, 0.64, 0.50, 0.57, 0.61, 0.65, 0.72, 0.73)
# Thin ice cloud scatters a little more at short wavelengths. Ice absorbs beyond 1.4 micrometres: over icy
# tops of real L2A dates swir16 is 0.37 and swir22 0.26 of blue. So cirrus is hardly seen there.
CIRRUS_SLOPE = (1.12, 1.05, 1.0, 0.86, 0.98, 0.95, 0.91, 0.85, 0.72, 0.68)
CIRRUS_COLOUR = (0.62, 0.60, 0.59, 0.58, 0.59, 0.59, 0.58, 0.58, 0.23, 0.16)
# Droplets absorb less than ice: over bright cloud of real dates, ice and droplets together, swir16 is 0.67,
# and swir22 0.54, of blue, over a sheet of low cloud 0.94 and 0.86. Cumulus is set between the two.
CLOUD_COLOUR = (1.00, 0.975, 0.97, 1.02, 0.98, 1.00, 1.01, 1.01, 0.76, 0.64)
# Small particles: by the third power of the wavelength, which leaves nothing beyond the near infrared.
HAZE_COLOUR = (0.0050, 0.0032, 0.0022, 0.0010, 0.0017, 0.0015, 0.0012, 0.0009, 0.0001, 0.0001)


@dataclass(frozen=True, slots=True, eq=False)
class CloudLayers:
    """Clouds between land and satellite on one date; every array has the land's rows and columns."""

    cloud: Floats
    """Opacity of the low cloud, 0 to 1."""
    bright: Floats
    """Reflectance of the low cloud where it is opaque."""
    shadow: Floats
    """Share of the direct sunlight that low cloud keeps from the surface, 0 to 1."""
    cirrus: Floats
    """Optical depth of the cirrus in the red."""

    def cover(self, surface: Floats, resolution: int = 10) -> Floats:
        """The image of a surface under the clouds.

        Args:
            surface: Surface reflectance without cloud, as `Land.reflectance` gives it.
            resolution: Edge of its pixels in metres, 10 or 20.

        Returns:
            Surface reflectance of the same shape.
        """
        cloud, bright, shadow, cirrus = (
            layer if resolution == 10 else mean_of_blocks(layer)
            for layer in (self.cloud, self.bright, self.shadow, self.cirrus)
        )
        image = np.empty_like(surface)
        for number, band in enumerate(range(len(BANDS))[bands_at(resolution)]):
            below = surface[number] * (1 - np.float32(SHADOW_DEPTH[band]) * shadow)
            below += cloud * (bright * np.float32(CLOUD_COLOUR[band]) - below)
            veil = 1 - np.exp(-np.float32(CIRRUS_SLOPE[band]) * cirrus)
            image[number] = below + veil * (np.float32(CIRRUS_COLOUR[band]) - below)
        return image


@dataclass(frozen=True, slots=True, eq=False)
class Radiometry:
    """How the image of a date differs from the reflectance of the land: calibration and atmosphere."""

    gain: NDArray[np.float64]
    """Factor of each band, shape (10,)."""
    slow: Floats
    """What is added to 1 for a factor that changes slowly over the land, shape (rows, columns)."""
    haze: Floats
    """Summand of each band, shape (10,)."""

    def apply(self, surface: Floats, resolution: int = 10) -> Floats:
        """A surface as the date shows it: a few per cent brighter or darker, smoothly.

        Args:
            surface: Surface reflectance, as `Land.reflectance` gives it.
            resolution: Edge of its pixels in metres, 10 or 20.
        """
        bands = bands_at(resolution)
        slow = self.slow if resolution == 10 else mean_of_blocks(self.slow)
        factor = (self.gain[bands, None, None] * (1 + slow)).astype(np.float32)
        return surface * factor + self.haze[bands, None, None]


def compute_sun_position(when: datetime, longitude: float, latitude: float) -> tuple[float, float]:
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


def make_cloud_layers(
    rng: Generator, shape: tuple[int, int], cover: float, veil: float, sun: tuple[float, float]
) -> CloudLayers:
    """Draw cumulus (or, at a high cover, stratocumulus) and cirrus over the land.

    Args:
        rng: Source of randomness.
        shape: The land's rows and columns.
        cover: Share of the land under low cloud.
        veil: Share of the land under cirrus.
        sun: Azimuth and elevation of the sun in degrees.
    """
    canvas = (shape[0] + 2 * MARGIN, shape[1] + 2 * MARGIN)
    thickness = _draw_low_cloud(rng, canvas, cover)
    opacity = ndimage.gaussian_filter(1 - np.exp(-thickness), 0.7, truncate=3)  # the optics
    azimuth, elevation = math.radians(sun[0]), math.radians(sun[1])
    mass = ndimage.gaussian_filter(np.log1p(thickness), 3, truncate=2)
    south, east = np.gradient(mass)
    sunlit = np.tanh(
        3 * (math.cos(azimuth) * south - math.sin(azimuth) * east)
    )  # the side towards the sun is brighter
    bright = 0.30 + 0.46 * np.tanh(0.6 * mass) + 0.2 * sunlit + 0.06 * draw_noise(rng, canvas, 24, 2.4)

    # A ray from the surface to the sun meets a cloud of this height so many pixels away.
    away = rng.uniform(900, 1600) / math.tan(elevation) / 10
    down, right = round(-away * math.cos(azimuth)), round(away * math.sin(azimuth))
    soft = ndimage.gaussian_filter(opacity, 1.2, truncate=2)
    return CloudLayers(
        cloud=_crop_to_land(opacity),
        bright=np.clip(_crop_to_land(bright), 0.2, 1.25),
        shadow=_crop_to_land(soft, down, right),
        cirrus=_crop_to_land(_draw_cirrus(rng, canvas, veil)),
    )


def _crop_to_land(canvas: Floats, down: int = 0, right: int = 0) -> Floats:
    """The part of a canvas above the land, or the part some pixels beside it."""
    rows, cols = canvas.shape
    part = canvas[MARGIN + down : rows - MARGIN + down, MARGIN + right : cols - MARGIN + right]
    return np.ascontiguousarray(part, np.float32)


def _draw_low_cloud(rng: Generator, shape: tuple[int, int], cover: float) -> Floats:
    """Optical thickness of cumulus that covers a share of the land; its edges are soft over a few pixels."""
    size = rng.uniform(28, 60) * (1 + 1.5 * cover)
    if cover <= 0:
        return np.zeros(shape, np.float32)
    heaps = draw_noise(rng, shape, size, 2.3) + 0.8 * draw_noise(rng, shape, 4 * size, 2.5)
    heaps += 0.13 * draw_noise(rng, shape, 9, 1.4)
    heaps /= heaps.std()
    edge = np.quantile(_crop_to_land(heaps), 1 - cover)
    return np.asarray((4.2 * np.clip(heaps - edge, 0, None)) ** 1.35, np.float32)


def _draw_cirrus(rng: Generator, shape: tuple[int, int], veil: float) -> Floats:
    """Optical depth of fibrous cirrus that covers a share of the land."""
    if veil <= 0:
        return np.zeros(shape, np.float32)
    angle = rng.uniform(-0.6, 0.6)
    fibres = draw_noise(rng, shape, 260, 1.7, stretch=5, angle=angle)
    fibres += 0.9 * draw_noise(rng, shape, 500, 2.4, stretch=2, angle=angle)
    fibres /= fibres.std()
    edge = np.quantile(_crop_to_land(fibres), 1 - veil)
    return np.asarray(0.17 * np.clip(fibres - edge, 0, None) ** 1.2, np.float32)


def draw_radiometry(rng: Generator, shape: tuple[int, int]) -> Radiometry:
    """Draw the radiometry of a date.

    Args:
        rng: Source of randomness.
        shape: The land's rows and columns.
    """
    common, own = rng.normal(0, 0.024), rng.normal(0, 0.01, 4)
    # The chance of the bands of 20 m is their own, so that those of 10 m do not depend on it.
    gain = 1 + common + np.concatenate([own, rng.spawn(1)[0].normal(0, 0.01, 6)])
    slow = 0.01 * draw_noise(rng, shape, max(shape), 3.0)
    haze = np.array(HAZE_COLOUR) * rng.uniform(-0.4, 1.2)
    return Radiometry(gain, slow, haze.astype(np.float32))


def classify_scene(rng: Generator, image: Floats, clouds: CloudLayers) -> NDArray[np.uint8]:
    """The scene classification at 20 m, with the errors of the real one.

    Outlines of clouds are a little ragged. Thin edges are of medium probability or missed, and faint shadow
    is missed.

    Args:
        rng: Source of randomness.
        image: Surface reflectance under the clouds in the bands of 10 m, shape (4, rows, columns).
        clouds: The clouds in it.

    Returns:
        Values of `Scl`, shape (rows / 2, columns / 2).
    """
    _, green, red, nir = (mean_of_blocks(band) for band in image)
    cloud, shadow, cirrus = (mean_of_blocks(layer) for layer in (clouds.cloud, clouds.shadow, clouds.cirrus))
    ragged = draw_noise(rng, cloud.shape, 6, 1.0)
    ndvi = (nir - red) / (nir + red)
    classes = np.where(ndvi > 0.38, Scl.VEGETATION, Scl.NOT_VEGETATED)
    classes[(ndvi > 0.30) & (ndvi < 0.38) & (ragged > 1.9)] = Scl.UNCLASSIFIED
    classes[(nir < 0.09) & (green > nir)] = Scl.WATER
    dimmed = shadow * (1 + 0.2 * ragged)
    classes[(dimmed > 0.16) & (nir < 0.16)] = Scl.DARK_AREA
    classes[dimmed > 0.26] = Scl.CLOUD_SHADOW
    classes[cirrus * (1 + 0.2 * ragged) > 0.02] = Scl.THIN_CIRRUS
    opaque = cloud * (1 + 0.2 * ragged)
    classes[opaque > 0.08] = Scl.UNCLASSIFIED
    classes[opaque > 0.16] = Scl.CLOUD_MEDIUM_PROBABILITY
    classes[opaque > 0.62] = Scl.CLOUD_HIGH_PROBABILITY
    roofs = (red > 0.17) & (ndvi < 0.16) & (ragged > 0.6)
    classes[roofs & (opaque < 0.05)] = Scl.CLOUD_MEDIUM_PROBABILITY  # bright roofs are mistaken for cloud
    return classes.astype(np.uint8)

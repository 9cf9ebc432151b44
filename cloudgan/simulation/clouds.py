"""Simulated clouds over clear imagery: fractal noise, soft edges, shadows by sun angle, opacity by band.

Images are reflectance, float32, shape (height, width, bands), 1.0 is 100 %. Chance comes from the caller's
`numpy.random.Generator` alone: the same seed gives the same clouds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy.ndimage import binary_erosion, gaussian_filter, shift

from cloudgan.errors import InputError
from cloudgan.sentinel2.bands import BANDS

Kind = Literal["thick", "thin", "cumulus"]
Floats = NDArray[np.float32]

KINDS: tuple[Kind, ...] = get_args(Kind)
"""Stratus sheets, cirrus and haze, fair-weather clouds."""

FAINTEST = 0.02
"""Opacity or shadow below this is set to 0, so that clear pixels stay exactly as they are."""

# Per band: relative opacity of thin cloud (longer waves pass haze more freely), brightness of thick cloud
# against the mean, and share of the light left in full shadow (skylight is blue). Measured on the
# cumulus of a real scene and on Sentinel-2 dates under haze; orders of magnitude, not a calibration.
_HAZE = {"blue": 1.1, "green": 1.0, "red": 0.92, "nir": 0.72}
_BRIGHT = {"blue": 1.0, "green": 0.97, "red": 0.98, "nir": 1.05}
_LEFT = {"blue": 0.5, "green": 0.42, "red": 0.36, "nir": 0.38}


@dataclass(frozen=True, slots=True)
class CloudField:
    """Clouds and their shadows, to be put over one image."""

    cloud: Floats
    """Opacity of the clouds in the green band, 0 to 1, shape (height, width)."""
    shadow: Floats
    """Depth of the shadows, 0 to 1, shape (height, width)."""
    brightness: Floats
    """Reflectance of the cloud itself, shape (height, width)."""
    thin: bool
    """Whether longer waves pass more freely, by a fixed table: the thin cloud of `draw_cloud_field`."""
    slope: float = 0.0
    """Angstrom exponent, by which optical depth falls with wavelength: 0 is alike in all bands."""
    drift: tuple[float, float] = (0.0, 0.0)
    """Rows and columns per second that the clouds seem to move while the bands are taken one by one."""

    @property
    def mask(self) -> NDArray[np.bool_]:
        """Pixels under any cloud or shadow, shape (height, width)."""
        return (self.cloud > 0) | (self.shadow > 0)


@dataclass(frozen=True, slots=True)
class CloudyImage:
    """A clear image under simulated clouds."""

    cloudy: Floats
    """Reflectance, shape (height, width, bands); exactly the clear image outside the mask."""
    mask: NDArray[np.bool_]
    """Pixels under cloud or shadow, shape (height, width)."""
    opacity: Floats
    """Opacity of the clouds, 0 to 1, shape (height, width); shadows are in the mask alone."""


def draw_perlin_noise(rng: Generator, shape: tuple[int, int], cells: tuple[float, float]) -> Floats:
    """One octave of Perlin's gradient noise (Perlin 1985, with the fade of 2002).

    Args:
        rng: Source of chance.
        shape: Rows and columns.
        cells: Cells of the gradient lattice down and across the image.

    Returns:
        Noise of zero mean, within about [-0.7, 0.7].
    """
    rows = np.linspace(0, cells[0], shape[0], endpoint=False, dtype=np.float32) + rng.random(dtype=np.float32)
    cols = np.linspace(0, cells[1], shape[1], endpoint=False, dtype=np.float32) + rng.random(dtype=np.float32)
    top, left = rows.astype(int), cols.astype(int)
    angle = rng.uniform(0, 2 * np.pi, (top[-1] + 2, left[-1] + 2)).astype(np.float32)
    steep, slant = np.cos(angle), np.sin(angle)
    down, right = (rows - top)[:, None], (cols - left)[None, :]

    def pull(below: int, beside: int) -> Floats:
        # Rows first, then columns: whole rows are cheap to gather.
        along = left + beside
        lines = steep[top + below] * (down - below)
        pulled: Floats = lines[:, along] + slant[top + below][:, along] * (right - beside)
        return pulled

    def fade(t: Floats) -> Floats:
        return t**3 * (t * (t * 6 - 15) + 10)

    across = fade(right)
    upper = pull(0, 0)
    upper += across * (pull(0, 1) - upper)
    lower = pull(1, 0)
    lower += across * (pull(1, 1) - lower)
    noise: Floats = upper + fade(down) * (lower - upper)
    return noise


def draw_fractal_noise(
    rng: Generator,
    shape: tuple[int, int],
    cells: float,
    octaves: int = 5,
    persistence: float = 0.55,
    stretch: float = 1.0,
) -> Floats:
    """Octaves of Perlin noise, each twice as fine and `persistence` times as strong.

    Args:
        rng: Source of chance.
        shape: Rows and columns.
        cells: Cells of the coarsest octave down the image.
        octaves: How many.
        persistence: Strength of an octave against the coarser one.
        stretch: Above 1 stretches the pattern from left to right, as wind stretches cirrus.

    Returns:
        Noise with ranks spread evenly over [0, 1]: a share 1 - t of the image lies above a threshold t.
    """
    total = np.zeros(shape, np.float32)
    for octave in range(octaves):
        fine = 2.0**octave
        if octave and cells * fine > min(shape) / 2:
            break  # below two pixels there is no pattern
        total += persistence**octave * draw_perlin_noise(rng, shape, (cells * fine, cells * fine / stretch))
    return _rank(total)


def draw_cloud_field(
    rng: Generator,
    shape: tuple[int, int],
    kind: Kind,
    cover: float,
    sun: tuple[float, float],
) -> CloudField:
    """Draw clouds by threshold from Perlin noise.

    Args:
        rng: Source of chance.
        shape: Rows and columns.
        kind: Of cloud.
        cover: Share of the image under cloud, 0 to 1.
        sun: Azimuth (degrees clockwise from north) and elevation (degrees above the horizon).

    Raises:
        InputError: The kind is unknown, the cover or the sun out of range.
    """
    if kind not in KINDS:
        raise InputError(f"kinds of cloud are {KINDS}, got {kind!r}")
    if not (0 <= cover <= 1 and 0 < sun[1] <= 90):
        raise InputError(f"cover lies in [0, 1] and the sun above the horizon, got {cover} and {sun}")
    size = min(shape) / 256  # noise keeps its scale in pixels
    if kind == "thin":
        cells, edge = rng.uniform(0.8, 3), rng.uniform(0.4, 1.0)
        noise = draw_fractal_noise(rng, shape, cells * size, 5, 0.5, rng.uniform(1, 4))
        cloud = rng.uniform(0.15, 0.75) * _ramp(noise, 1 - cover, edge)
    else:
        cells = rng.uniform(1, 4) if kind == "thick" else rng.uniform(6, 22)
        edge = rng.uniform(0.03, 0.2) if kind == "thick" else rng.uniform(0.03, 0.12)
        noise = draw_fractal_noise(rng, shape, cells * size, 6, rng.uniform(0.4, 0.6))
        if kind == "cumulus":  # in groups, with clear air between
            noise = _rank(
                noise + rng.uniform(0.3, 2) * draw_fractal_noise(rng, shape, rng.uniform(1, 4) * size, 2)
            )
        cloud = rng.uniform(0.9, 1.0) * _ramp(noise, 1 - cover, edge)
    texture = draw_fractal_noise(rng, shape, rng.uniform(2, 8) * size, 5)
    bright = rng.uniform(0.3, 0.6) if kind == "thin" else rng.uniform(0.35, 1.0)
    # Thicker cloud is brighter.
    brightness = bright * (0.75 + 0.25 * cloud) + rng.uniform(0.05, 0.3) * (texture - 0.5)
    depth = rng.uniform(0, 0.35) if kind == "thin" else rng.uniform(0.5, 1.0)
    shadow = depth * cast_shadow(cloud, rng.uniform(3, 40) if kind == "cumulus" else rng.uniform(5, 90), sun)
    return _make_field(cloud, shadow, brightness, thin=kind == "thin")


def shadow_offset(height: float, sun: tuple[float, float], resolution: float = 1.0) -> tuple[float, float]:
    """Where the shadow of a cloud falls on flat land, as pixels from the cloud seen from above.

    Its length is `height / tan(elevation) / resolution`; away from the sun that is
    `(length * cos(azimuth), -length * sin(azimuth))` in rows (southwards) and columns (eastwards).

    Args:
        height: Of the cloud above the surface, in metres (or in pixels, at a resolution of 1).
        sun: Azimuth (degrees clockwise from north) and elevation (degrees above the horizon).
        resolution: Edge of a pixel in metres.
    """
    length = height / np.tan(np.radians(sun[1])) / resolution
    azimuth = np.radians(sun[0])
    # Sun in the south (180 degrees) casts shadows north: towards smaller rows.
    return float(length * np.cos(azimuth)), float(-length * np.sin(azimuth))


def cast_shadow(cloud: Floats, height: float, sun: tuple[float, float]) -> Floats:
    """The shadow of a cloud on flat land: its opacity, moved away from the sun and softened.

    Args:
        cloud: Opacity, shape (height, width).
        height: Of the cloud above the surface, in pixels.
        sun: Azimuth and elevation in degrees.

    Returns:
        Depth of shadow, 0 to 1. Clouds outside the image cast none.
    """
    offset = shadow_offset(height, sun)
    moved = shift(cloud, offset, order=1, mode="constant", cval=0.0, prefilter=False)
    softened: Floats = gaussian_filter(moved, 1.0).astype(np.float32)
    return np.clip(softened, 0, 1)


def extend_cloud(image: Floats, cloud: NDArray[np.bool_]) -> Floats:
    """Extend real cloud over a whole image, for `add_clouds`: its own pixels in its core, its mean around it.

    The rim of a cloud is mixed with the surface, and is replaced by the mean of the core near by.

    Args:
        image: Reflectance of the cloudy scene, shape (height, width, bands).
        cloud: Where it is cloud, shape (height, width).
    """
    core = binary_erosion(cloud, iterations=2)
    if not core.any():
        return image
    weight = core.astype(np.float32)
    near = gaussian_filter(weight, 4)[..., None]
    mean = gaussian_filter(image * weight[..., None], (4, 4, 0)) / np.maximum(near, 1e-6)
    around = np.where(near > 1e-3, mean, image[core].mean(axis=0))
    return np.where(core[..., None], image, around).astype(np.float32)


def add_clouds(
    clear: Floats, bands: Sequence[str], cloud_field: CloudField, texture: Floats | None = None
) -> CloudyImage:
    """Put clouds over a clear image.

    Args:
        clear: Reflectance, shape (height, width, bands); 0 is no data and stays so.
        bands: Names of the bands, in order: blue, green, red or nir.
        cloud_field: Of the same height and width.
        texture: Reflectance of the clouds themselves, same shape as `clear`, such as real cloud cut from
            another scene. By default the brightness of the cloud field, by band.

    Raises:
        InputError: A band is unknown, or the shapes differ.
    """
    unknown = set(bands) - set(_HAZE)
    if unknown:
        raise InputError(f"no cloud spectrum for bands {sorted(unknown)}; there is one for {sorted(_HAZE)}")
    if clear.shape != (*cloud_field.cloud.shape, len(bands)):
        raise InputError(
            f"an image of shape {clear.shape} does not fit {len(bands)} bands and {cloud_field.cloud.shape}"
        )
    bright, left = (np.array([table[band] for band in bands], np.float32) for table in (_BRIGHT, _LEFT))
    opacity, brightness = _split_by_band(cloud_field, bands)
    mask = cloud_field.mask | (opacity > 0).any(axis=-1)
    lit = clear * (1 - cloud_field.shadow[..., None] * (1 - left))
    cloud_reflectance = brightness * bright if texture is None else texture
    cloudy = np.where(mask[..., None], lit + opacity * (cloud_reflectance - lit), clear)
    # One digital number at least: a dark surface in shadow must not read as no data.
    cloudy = np.where(clear > 0, np.maximum(cloudy, 1e-4), clear)
    return CloudyImage(cloudy.astype(np.float32), mask, cloud_field.cloud)


def _split_by_band(cloud_field: CloudField, bands: Sequence[str]) -> tuple[Floats, Floats]:
    """Opacity and brightness of the clouds in each band, shape (height, width, bands)."""
    if cloud_field.thin:
        haze = np.array([_HAZE[band] for band in bands], np.float32)
        return np.clip(cloud_field.cloud[..., None] * haze, 0, 1), cloud_field.brightness[..., None]
    opacities, brightnesses = [], []
    for band in bands:
        later = BANDS[band].delay - BANDS["green"].delay
        cloud, brightness = (
            _move(field, cloud_field.drift, later) for field in (cloud_field.cloud, cloud_field.brightness)
        )
        if cloud_field.slope:
            ratio = BANDS["green"].wavelength / BANDS[band].wavelength
            cloud = 1 - (1 - cloud) ** (ratio**cloud_field.slope)
        opacities.append(np.where(cloud < FAINTEST / 2, 0, cloud))
        brightnesses.append(brightness)
    return np.stack(opacities, axis=-1).astype(np.float32), np.stack(brightnesses, axis=-1)


def _move(field: Floats, drift: tuple[float, float], seconds: float) -> Floats:
    offset = drift[0] * seconds, drift[1] * seconds
    if not any(offset):
        return field
    moved: Floats = shift(field, offset, order=1, mode="nearest", prefilter=False)
    return moved


def _rank(noise: Floats) -> Floats:
    ranks = np.empty(noise.size, np.float32)
    ranks[np.argsort(noise, axis=None)] = np.linspace(0, 1, noise.size, dtype=np.float32)
    return ranks.reshape(noise.shape)


def _ramp(noise: Floats, threshold: float, edge: float) -> Floats:
    """A smooth rise from 0 at the threshold to 1 at `edge` above it."""
    if threshold >= 1:
        return np.zeros_like(noise)
    t = np.clip((noise - threshold) / edge, 0, 1)
    smooth: Floats = t * t * (3 - 2 * t)
    return smooth


def _make_field(cloud: Floats, shadow: Floats, brightness: Floats, *, thin: bool) -> CloudField:
    cloud = np.where(cloud < FAINTEST, 0, cloud).astype(np.float32)
    shadow = np.where(shadow < FAINTEST, 0, shadow).astype(np.float32)
    return CloudField(cloud, shadow, np.clip(brightness, 0.05, 1.6).astype(np.float32), thin)

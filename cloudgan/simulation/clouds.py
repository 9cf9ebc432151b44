"""Simulated clouds over clear imagery: fractal noise, soft edges, shadows by sun angle, opacity by band.

Images are reflectance, float32, shape (height, width, bands), 1.0 is 100 %. Chance comes from the caller's
`numpy.random.Generator` alone: one seed, one sky.
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

Kind = Literal["thick", "thin", "cumulus"]
Floats = NDArray[np.float32]

KINDS: tuple[Kind, ...] = get_args(Kind)
"""Stratus sheets, cirrus and haze, fair-weather clouds."""

FAINTEST = 0.02
"""Less cloud or shadow than this is none at all, so that clear pixels stay what they are."""

# Per band: how much of thin cloud's opacity it feels (longer waves pass haze more freely), how bright thick
# cloud is against the mean, and what share of light is left in full shadow (skylight is blue). Read off the
# cumulus of a real scene and off Sentinel-2 dates under haze; order of size, not calibration.
_HAZE = {"blue": 1.1, "green": 1.0, "red": 0.92, "nir": 0.72}
_BRIGHT = {"blue": 1.0, "green": 0.97, "red": 0.98, "nir": 1.05}
_LEFT = {"blue": 0.5, "green": 0.42, "red": 0.36, "nir": 0.38}
_WAVELENGTH = {"blue": 492.4, "green": 559.8, "red": 664.6, "nir": 832.8}  # nanometres (Sentinel-2A, ESA)
_MOMENT = {"blue": 0.0, "nir": 0.264, "green": 0.527, "red": 1.005}  # seconds at which a band looks (ESA)


@dataclass(frozen=True, slots=True)
class CloudField:
    """Clouds and their shadows over one image, before they meet the ground."""

    cloud: Floats
    """Opacity of the clouds in the green band, 0 to 1, shape (height, width)."""
    shadow: Floats
    """Depth of the shadows, 0 to 1, shape (height, width)."""
    brightness: Floats
    """Reflectance of the cloud itself, shape (height, width)."""
    thin: bool
    """Whether longer waves pass more freely, by a fixed table: the thin cloud of the Perlin skies."""
    slope: float = 0.0
    """Exponent by which optical depth falls with wavelength (Angstrom's): 0 is alike in all bands."""
    drift: tuple[float, float] = (0.0, 0.0)
    """Rows and columns per second that the clouds seem to move while the bands look, one after the other."""

    @property
    def mask(self) -> NDArray[np.bool_]:
        """Pixels that any cloud or shadow touches, shape (height, width)."""
        return (self.cloud > 0) | (self.shadow > 0)


@dataclass(frozen=True, slots=True)
class Clouded:
    """A clear image under a simulated sky."""

    cloudy: Floats
    """Reflectance, shape (height, width, bands); exactly the clear image outside the mask."""
    mask: NDArray[np.bool_]
    """What is hidden or shaded, shape (height, width)."""
    opacity: Floats
    """Opacity of the clouds, 0 to 1, shape (height, width); shadows are in the mask alone."""


def perlin(rng: Generator, shape: tuple[int, int], cells: tuple[float, float]) -> Floats:
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


def fractal(
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
        stretch: Above 1 draws the pattern out from left to right, as wind draws cirrus.

    Returns:
        Noise ranked evenly into [0, 1]: a threshold t covers the share 1 - t of the image.
    """
    total = np.zeros(shape, np.float32)
    for octave in range(octaves):
        fine = 2.0**octave
        if octave and cells * fine > min(shape) / 2:
            break  # finer than two pixels is no longer a pattern
        total += persistence**octave * perlin(rng, shape, (cells * fine, cells * fine / stretch))
    return _ranked(total)


def cloud_field(
    rng: Generator,
    shape: tuple[int, int],
    kind: Kind,
    cover: float,
    sun: tuple[float, float],
) -> CloudField:
    """Draw a sky.

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
        noise = fractal(rng, shape, cells * size, 5, 0.5, rng.uniform(1, 4))
        cloud = rng.uniform(0.15, 0.75) * _ramp(noise, 1 - cover, edge)
    else:
        cells = rng.uniform(1, 4) if kind == "thick" else rng.uniform(6, 22)
        edge = rng.uniform(0.03, 0.2) if kind == "thick" else rng.uniform(0.03, 0.12)
        noise = fractal(rng, shape, cells * size, 6, rng.uniform(0.4, 0.6))
        if kind == "cumulus":  # in flocks, with clear sky between
            noise = _ranked(noise + rng.uniform(0.3, 2) * fractal(rng, shape, rng.uniform(1, 4) * size, 2))
        cloud = rng.uniform(0.9, 1.0) * _ramp(noise, 1 - cover, edge)
    texture = fractal(rng, shape, rng.uniform(2, 8) * size, 5)
    bright = rng.uniform(0.3, 0.6) if kind == "thin" else rng.uniform(0.35, 1.0)
    # Cloud is brighter where it is thicker.
    brightness = bright * (0.75 + 0.25 * cloud) + rng.uniform(0.05, 0.3) * (texture - 0.5)
    depth = rng.uniform(0, 0.35) if kind == "thin" else rng.uniform(0.5, 1.0)
    shadow = depth * cast(cloud, rng.uniform(3, 40) if kind == "cumulus" else rng.uniform(5, 90), sun)
    return _trimmed(cloud, shadow, brightness, thin=kind == "thin")


def shadow_offset(height: float, sun: tuple[float, float], resolution: float = 1.0) -> tuple[float, float]:
    """Where the shadow of a cloud falls on flat ground, as pixels from the cloud seen from above.

    Its length is `height / tan(elevation) / resolution`; away from the sun that is
    `(length * cos(azimuth), -length * sin(azimuth))` in rows (southwards) and columns (eastwards).

    Args:
        height: Of the cloud above ground, in metres (or in pixels, at a resolution of 1).
        sun: Azimuth (degrees clockwise from north) and elevation (degrees above the horizon).
        resolution: Edge of a pixel in metres.
    """
    length = height / np.tan(np.radians(sun[1])) / resolution
    azimuth = np.radians(sun[0])
    # Sun in the south (180 degrees) throws shadows north: towards smaller rows.
    return float(length * np.cos(azimuth)), float(-length * np.sin(azimuth))


def cast(cloud: Floats, height: float, sun: tuple[float, float]) -> Floats:
    """The shadow of a cloud on flat ground: its opacity, moved away from the sun and softened.

    Args:
        cloud: Opacity, shape (height, width).
        height: Of the cloud above ground, in pixels.
        sun: Azimuth and elevation in degrees.

    Returns:
        Depth of shadow, 0 to 1; 0 where the cloud that shades lies outside the image.
    """
    offset = shadow_offset(height, sun)
    moved = shift(cloud, offset, order=1, mode="constant", cval=0.0, prefilter=False)
    softened: Floats = gaussian_filter(moved, 1.0).astype(np.float32)
    return np.clip(softened, 0, 1)


def cloud_look(image: Floats, cloud: NDArray[np.bool_]) -> Floats:
    """What real cloud looks like everywhere, for `clouded`: its own pixels in its core, its mean around it.

    The rim of a cloud is mixed with its ground and is not taken over: the mean of the core near by is.

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


def clouded(
    clear: Floats, bands: Sequence[str], cloud_field: CloudField, look: Floats | None = None
) -> Clouded:
    """Put a sky over clear ground.

    Args:
        clear: Reflectance, shape (height, width, bands); 0 is no data and stays so.
        bands: Names of the bands, in order: blue, green, red or nir.
        sky: Of the same height and width.
        look: What the clouds themselves look like, reflectance of the same shape as `clear`: real cloud
            cut from another scene; else the sky's own brightness, by band.

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
    opacity, brightness = _by_band(cloud_field, bands)
    mask = cloud_field.mask | (opacity > 0).any(axis=-1)
    lit = clear * (1 - cloud_field.shadow[..., None] * (1 - left))
    cloud_look = brightness * bright if look is None else look
    cloudy = np.where(mask[..., None], lit + opacity * (cloud_look - lit), clear)
    # One count of a sensor: cloud over dark ground is never confused with no data.
    cloudy = np.where(clear > 0, np.maximum(cloudy, 1e-4), clear)
    return Clouded(cloudy.astype(np.float32), mask, cloud_field.cloud)


def _by_band(cloud_field: CloudField, bands: Sequence[str]) -> tuple[Floats, Floats]:
    """Opacity and brightness of the clouds as each band sees them, shape (height, width, bands)."""
    if cloud_field.thin:
        haze = np.array([_HAZE[band] for band in bands], np.float32)
        return np.clip(cloud_field.cloud[..., None] * haze, 0, 1), cloud_field.brightness[..., None]
    opacities, brightnesses = [], []
    for band in bands:
        later = _MOMENT[band] - _MOMENT["green"]
        cloud, brightness = (
            _moved(field, cloud_field.drift, later) for field in (cloud_field.cloud, cloud_field.brightness)
        )
        if cloud_field.slope:
            cloud = 1 - (1 - cloud) ** ((_WAVELENGTH["green"] / _WAVELENGTH[band]) ** cloud_field.slope)
        opacities.append(np.where(cloud < FAINTEST / 2, 0, cloud))
        brightnesses.append(brightness)
    return np.stack(opacities, axis=-1).astype(np.float32), np.stack(brightnesses, axis=-1)


def _moved(field: Floats, drift: tuple[float, float], seconds: float) -> Floats:
    offset = drift[0] * seconds, drift[1] * seconds
    if not any(offset):
        return field
    moved: Floats = shift(field, offset, order=1, mode="nearest", prefilter=False)
    return moved


def _ranked(noise: Floats) -> Floats:
    ranks = np.empty(noise.size, np.float32)
    ranks[np.argsort(noise, axis=None)] = np.linspace(0, 1, noise.size, dtype=np.float32)
    return ranks.reshape(noise.shape)


def _ramp(noise: Floats, threshold: float, edge: float) -> Floats:
    """From 0 at the threshold up to 1 within `edge`, smoothly."""
    if threshold >= 1:
        return np.zeros_like(noise)
    t = np.clip((noise - threshold) / edge, 0, 1)
    smooth: Floats = t * t * (3 - 2 * t)
    return smooth


def _trimmed(cloud: Floats, shadow: Floats, brightness: Floats, *, thin: bool) -> CloudField:
    cloud = np.where(cloud < FAINTEST, 0, cloud).astype(np.float32)
    shadow = np.where(shadow < FAINTEST, 0, shadow).astype(np.float32)
    return CloudField(cloud, shadow, np.clip(brightness, 0.05, 1.6).astype(np.float32), thin)

"""Physically based clouds: fields of optical depth with the power spectrum of real clouds.

The clouds of `simulation.clouds`, drawn by threshold from Perlin noise as in the study, have hard edges and
flat tops. Here a cloud has an optical depth. Opacity follows from it as `1 - exp(-depth)`, so edges are thin
and fringed. Brightness follows from the two-stream approximation, with a lit side towards the sun. The shadow
has the same shape, displaced by the position of the sun. The noise is made in the frequency domain with the
power law of clouds (liquid water falls off with the power -5/3 along a line), so it has no lattice and is
periodic: what leaves a field on one side enters on the other, and so do shadows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy import fft
from scipy.ndimage import distance_transform_edt, gaussian_filter

from cloudgan.errors import InputError
from cloudgan.simulation.clouds import FAINTEST, CloudField, shadow_offset

Kind = Literal["thick", "cumulus", "cirrus", "haze"]
Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]

KINDS: tuple[Kind, ...] = get_args(Kind)
"""Sheets of stratus, fair-weather clouds, ice clouds, and aerosol."""
ODDS: dict[Kind, float] = {"thick": 0.3, "cumulus": 0.45, "cirrus": 0.15, "haze": 0.1}
"""How often each is drawn by `draw_random_cloud_field`."""

_PARALLAX = (
    7.44 / 786
)  # of a cloud, per second and unit of height: Sentinel-2's speed over its height, both in km
_FLIGHT = (1.0, -0.2)  # rows and columns: down the descending orbit, which leans to the west


@dataclass(frozen=True, slots=True)
class View:
    """Position of the sun, and resolution."""

    azimuth: float = 155.0
    """Of the sun, in degrees clockwise from north."""
    elevation: float = 45.0
    """Of the sun, in degrees above the horizon."""
    resolution: float = 10.0
    """Edge of a pixel in metres."""

    def __post_init__(self) -> None:
        if not (0 < self.elevation <= 90 and self.resolution > 0):
            raise InputError(f"the sun stands above the horizon and pixels have a size, got {self}")

    @property
    def sun(self) -> tuple[float, float]:
        """Azimuth and elevation."""
        return self.azimuth, self.elevation


def draw_spectral_noise(
    rng: Generator,
    shape: tuple[int, int],
    size: float,
    slope: float = 11 / 3,
    wind: tuple[float, float] = (0.0, 1.0),
) -> Floats:
    """Fractal noise by its spectrum: power falls with wave number k as `k ** -slope` below a largest size.

    Args:
        rng: Source of chance.
        shape: Rows and columns.
        size: Of the largest structures, in pixels; the spectrum is flat beyond.
        slope: Of the power; 8/3 in two dimensions is the -5/3 of the water in clouds along a line,
            and 11/3 is smoother, as clouds are in scattered light.
        wind: Angle in degrees anticlockwise from the rows, and how many times longer structures are that way.

    Returns:
        Periodic, of mean 0 and standard deviation 1.
    """
    down, right = fft.fftfreq(shape[0])[:, None], fft.rfftfreq(shape[1])[None]
    angle, stretch = np.radians(wind[0]), wind[1]
    along = right * np.cos(angle) - down * np.sin(angle)
    beside = right * np.sin(angle) + down * np.cos(angle)
    power = (1 / size**2 + (along * stretch) ** 2 + beside**2) ** (-slope / 2)
    power[0, 0] = 0
    white = fft.rfft2(rng.standard_normal(shape, np.float32))
    return _standard(fft.irfft2(white * np.sqrt(power).astype(np.float32), shape))


def draw_heaps(rng: Generator, shape: tuple[int, int], size: float, groups: Floats) -> Floats:
    """Rounded heaps of all sizes up to `size`, many small and few large, denser where `groups` is high.

    Args:
        rng: Source of chance.
        shape: Rows and columns.
        size: Radius of the largest, in pixels.
        groups: Standard noise of that shape, by which the heaps gather.

    Returns:
        Periodic, of mean 0 and standard deviation 1.
    """
    down, right = fft.fftfreq(shape[0])[:, None], fft.rfftfreq(shape[1])[None]
    squared = (down**2 + right**2).astype(np.float32)
    density = np.exp(1.2 * groups)
    density /= density.mean()
    total = np.zeros((shape[0], shape[1] // 2 + 1), np.complex64)
    radius = size
    while radius > 2.5:
        seeds = rng.poisson(0.12 * density / radius**2).astype(np.float32)
        seeds *= rng.uniform(0.5, 1.0, shape).astype(np.float32)
        # A heap is a Gaussian as high as it is wide.
        total += fft.rfft2(seeds) * radius**3 * np.exp(-2 * np.pi**2 * radius**2 / 2 * squared)
        radius /= 1.7
    return _standard(fft.irfft2(total, shape))


def draw_cloud_field(
    rng: Generator, shape: tuple[int, int], kind: Kind, cover: float, view: View | None = None
) -> CloudField:
    """Draw clouds of one kind.

    Args:
        rng: Source of chance.
        shape: Rows and columns.
        kind: Of cloud.
        cover: Share of the image under visible cloud, 0 to 1; haze lies everywhere, and takes it as its
            strength.
        view: Sun and resolution.

    Raises:
        InputError: The kind is unknown, or the cover out of range.
    """
    if kind not in KINDS:
        raise InputError(f"kinds of cloud are {KINDS}, got {kind!r}")
    if not 0 <= cover <= 1:
        raise InputError(f"cover lies in [0, 1], got {cover}")
    return _KINDS[kind](rng, shape, cover, view or View())


def draw_random_cloud_field(
    rng: Generator,
    shape: tuple[int, int],
    resolution: float = 10.0,
    odds: Mapping[Kind, float] = ODDS,
) -> CloudField:
    """Draw clouds of any kind and cover, under any sun, as they occur over a year.

    Args:
        rng: Source of chance.
        shape: Rows and columns.
        resolution: Edge of a pixel in metres.
        odds: Relative frequency of each kind.
    """
    share = np.array([odds.get(kind, 0.0) for kind in KINDS])
    kind = KINDS[rng.choice(len(KINDS), p=share / share.sum())]
    cover = rng.uniform(0.2, 1.0) if kind in ("cirrus", "haze") else rng.beta(1.5, 2.5)
    view = View(rng.uniform(120, 200), rng.uniform(22, 65), resolution)
    return draw_cloud_field(rng, shape, kind, float(cover), view)


def make_cloud_field(
    rng: Generator, cloud: Mask, shadow: Mask, view: View | None = None, fringe: float = 2.0
) -> CloudField:
    """Clouds of real shapes: the cloud and the shadow class of a scene, given an optical depth.

    Args:
        rng: Source of chance.
        cloud: True under cloud, shape (height, width).
        shadow: True in shadow, same shape; shadows stay where they are.
        view: Position of the sun, which lights the clouds, and resolution.
        fringe: Pixels by which the edge varies around the outline of the class.

    Raises:
        InputError: The masks differ in shape.
    """
    if cloud.shape != shadow.shape:
        raise InputError(
            f"masks of cloud {cloud.shape} and shadow {shadow.shape} differ in shape; cut both alike"
        )
    shape = cloud.shape[0], cloud.shape[1]
    if not cloud.any():
        return _make_field(_empty(shape), _fray_shadow(rng, shadow, fringe), _empty(shape), 0.0, (0.0, 0.0))
    inside = distance_transform_edt(cloud) - distance_transform_edt(~cloud)
    # Sen2Cor classifies what is well covered: the outline of the class lies inside the fringe.
    rise = np.maximum(inside + fringe * (1 + draw_spectral_noise(rng, shape, 16, 3.2)), 0) / (4 * fringe)
    depth = rng.uniform(4, 12) * rise.astype(np.float32) ** rng.uniform(1.1, 1.5)
    made = _lit(rng, depth, 1000.0, view or View())
    return replace(made, shadow=_fray_shadow(rng, shadow, fringe))


def _empty(shape: tuple[int, int]) -> Floats:
    return np.zeros(shape, np.float32)


def _fray_shadow(rng: Generator, shadow: Mask, fringe: float) -> Floats:
    """Shadows with the outline of a class, with edges like those of the clouds that cast them."""
    if not shadow.any():
        return _empty((shadow.shape[0], shadow.shape[1]))
    inside = distance_transform_edt(shadow) - distance_transform_edt(~shadow)
    noise = draw_spectral_noise(rng, (shadow.shape[0], shadow.shape[1]), 16, 3.2)
    t = np.clip((inside + fringe * (0.5 + noise)) / (2 * fringe), 0, 1)
    shade: Floats = (rng.uniform(0.7, 1.0) * t * t * (3 - 2 * t)).astype(np.float32)
    kept: Floats = np.where(shade < FAINTEST, 0, shade).astype(np.float32)
    return kept


def _thick(rng: Generator, shape: tuple[int, int], cover: float, view: View) -> CloudField:
    form = draw_spectral_noise(rng, shape, rng.uniform(60, 200) * 10 / view.resolution, rng.uniform(3.6, 4.4))
    depth = rng.uniform(2, 9) * _above(form, cover) ** rng.uniform(1.3, 1.9)
    depth += rng.uniform(0.3, 1.5) * _above(form, _wider(cover))
    return _lit(rng, depth, rng.uniform(400, 2500), view)


def _cumulus(rng: Generator, shape: tuple[int, int], cover: float, view: View) -> CloudField:
    scale = 10 / view.resolution
    groups = draw_spectral_noise(rng, shape, rng.uniform(40, 120) * scale, 3.0)
    fringe = draw_spectral_noise(rng, shape, rng.uniform(15, 40) * scale, rng.uniform(3.4, 4.2))
    form = (
        draw_heaps(rng, shape, max(rng.uniform(9, 26) * scale, 3.0), groups) + rng.uniform(0.3, 0.5) * fringe
    )
    depth = rng.uniform(2, 9) * _above(form, cover) ** rng.uniform(1.3, 1.9)
    depth += rng.uniform(0.3, 1.5) * _above(form, _wider(cover))
    return _lit(rng, depth, rng.uniform(500, 2000), view)


def _cirrus(rng: Generator, shape: tuple[int, int], cover: float, view: View) -> CloudField:
    wind = rng.uniform(-90, 90), rng.uniform(2, 9)
    size = rng.uniform(25, 80) * 10 / view.resolution
    form = draw_spectral_noise(rng, shape, size, rng.uniform(3.4, 4.0), wind)
    veil = _above(form + 0.7 * draw_spectral_noise(rng, shape, 3 * size, 4.0), cover)
    depth = rng.uniform(0.5, 2.0) * np.tanh(0.6 * veil)  # ice clouds stay thin at any cover
    height = rng.uniform(6000, 12000)
    # Ice crystals are large against the wavelength: all bands alike, but each is taken from another place.
    opacity = _opacity(depth)
    bright = rng.uniform(0.45, 0.8) + np.zeros_like(opacity)
    return _make_field(
        opacity, _shade(0.5 * depth, height, view), bright, rng.uniform(0, 0.15), _drift(rng, height, view)
    )


def _haze(rng: Generator, shape: tuple[int, int], cover: float, view: View) -> CloudField:
    form = draw_spectral_noise(
        rng, shape, rng.uniform(150, 400) * 10 / view.resolution, rng.uniform(3.5, 4.5)
    )
    depth = rng.uniform(0.4, 1.0) * cover * np.maximum(1 + rng.uniform(0.2, 0.6) * form, 0)
    opacity = _opacity(depth)
    # Aerosol has Angstrom exponents of 1 to 2, and casts next to no shadow.
    bright = rng.uniform(0.25, 0.4) + np.zeros_like(opacity)
    return _make_field(opacity, np.zeros_like(opacity), bright, rng.uniform(0.9, 1.8), (0.0, 0.0))


_KINDS: dict[Kind, Callable[[Generator, tuple[int, int], float, View], CloudField]] = {
    "thick": _thick,
    "cumulus": _cumulus,
    "cirrus": _cirrus,
    "haze": _haze,
}


def _lit(rng: Generator, depth: Floats, height: float, view: View) -> CloudField:
    """Water clouds of a given optical depth: their brightness, and their shadow."""
    # Two-stream approximation, asymmetry 0.85: a share of 0.15 of what is scattered goes back.
    back = 0.15 * depth
    albedo = back / (2 + back)
    # Log depth as relief: the flank towards the sun is brighter.
    relief = gaussian_filter(np.log1p(depth), 2.0, mode="wrap")
    azimuth = np.radians(view.azimuth)
    down, right = (np.roll(relief, -1, axis) - np.roll(relief, 1, axis) for axis in (0, 1))
    facing = (down * np.cos(azimuth) - right * np.sin(azimuth)) / np.tan(np.radians(max(view.elevation, 15)))
    bright = rng.uniform(0.45, 0.95) * (0.45 + 0.65 * albedo) * (1 + 0.35 * np.tanh(2 * facing))
    shade = rng.uniform(0.6, 1.0) * _shade(depth, height, view)
    return _make_field(_opacity(depth), shade, bright, 0.0, _drift(rng, height, view))


def _shade(depth: Floats, height: float, view: View) -> Floats:
    """Depth of the shadow: light lost on the slant way through the cloud, blurred by the width of the sun."""
    rows, cols = shadow_offset(height, view.sun, view.resolution)
    down, right = fft.fftfreq(depth.shape[0])[:, None], fft.rfftfreq(depth.shape[1])[None]
    # The sun's disc of 0.53 degrees draws an edge out to height * 0.0093 / sin(elevation) ** 2.
    blur = max(0.7, height * 0.0093 / np.sin(np.radians(view.elevation)) ** 2 / view.resolution / 2.35)
    moved = np.exp(-2j * np.pi * (down * rows + right * cols) - 2 * np.pi**2 * blur**2 * (down**2 + right**2))
    shade = fft.irfft2(fft.rfft2(1 - np.exp(-0.7 * depth)) * moved, depth.shape)
    clipped: Floats = np.clip(shade, 0, 1).astype(np.float32)
    return clipped


def _drift(rng: Generator, height: float, view: View) -> tuple[float, float]:
    """Pixels per second that a cloud seems to move, since each band is taken from another place on the orbit.

    The staggered detectors point forward and back in turn, so the sign is drawn.
    """
    pixels = rng.choice([-1, 1]) * height * _PARALLAX / view.resolution
    return float(pixels * _FLIGHT[0]), float(pixels * _FLIGHT[1])


def _make_field(
    cloud: Floats, shadow: Floats, bright: Floats, slope: float, drift: tuple[float, float]
) -> CloudField:
    cloud = np.where(cloud < FAINTEST, 0, cloud).astype(np.float32)
    shadow = np.where(shadow < FAINTEST, 0, shadow).astype(np.float32)
    return CloudField(cloud, shadow, np.clip(bright, 0.05, 1.4).astype(np.float32), False, slope, drift)


def _opacity(depth: Floats) -> Floats:
    # The surface shows through forward scattering: half of the depth counts. The sensor blurs by a pixel.
    opaque: Floats = gaussian_filter(1 - np.exp(-0.5 * depth), 0.7, mode="wrap")
    return opaque


def _above(form: Floats, cover: float) -> Floats:
    """Height above the level that leaves this share of the image above it, in standard deviations."""
    if cover <= 0:
        return np.zeros_like(form)
    level = np.quantile(form, 1 - cover)
    rise: Floats = np.maximum(form - level, 0)
    return rise


def _wider(cover: float) -> float:
    """The share that is covered with the thin fringe of clouds."""
    return min(1.6 * cover, (1 + cover) / 2)


def _standard(noise: Floats) -> Floats:
    standard: Floats = ((noise - noise.mean()) / max(float(noise.std()), 1e-9)).astype(np.float32)
    return standard

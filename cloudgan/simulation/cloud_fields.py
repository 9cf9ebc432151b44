"""Simulated clouds after their physics: fields of optical depth with the spectrum of real clouds.

What `simulation` draws by threshold from Perlin's octaves, as the study does, has hard edges and flat tops.
Here a cloud has a depth, and everything follows from it: opacity `1 - exp(-depth)`, so edges are thin and
fringed; brightness by the two-stream approximation, lit from the side of the sun; and a shadow of the same
shape, where the sun puts it. Clouds have no lattice: their noise is made in the frequency domain with the
power law that clouds have (liquid water falls off with the power -5/3 along a line). Such a field has no
border either: what leaves it on one side enters on the other, and so do shadows.
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
"""How often each is drawn by `random_cloud_field`."""

_PARALLAX = (
    7.44 / 786
)  # of a cloud, per second and unit of height: Sentinel-2's speed over its height, both in km
_FLIGHT = (1.0, -0.2)  # rows and columns: down the descending orbit, which leans to the west


@dataclass(frozen=True, slots=True)
class View:
    """From where the scene is lit and seen."""

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


def spectral(
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
        size: Of the largest structures, in pixels; coarser waves are as strong as these.
        slope: Of the power; 8/3 in two dimensions is the -5/3 of the water in clouds along a line,
            and 11/3 is smoother, as what is seen of it by scattered light.
        wind: Angle in degrees anticlockwise from the rows, and how many times longer structures are that way.

    Returns:
        Of mean 0 and standard deviation 1, without border.
    """
    down, right = fft.fftfreq(shape[0])[:, None], fft.rfftfreq(shape[1])[None]
    angle, stretch = np.radians(wind[0]), wind[1]
    along = right * np.cos(angle) - down * np.sin(angle)
    beside = right * np.sin(angle) + down * np.cos(angle)
    power = (1 / size**2 + (along * stretch) ** 2 + beside**2) ** (-slope / 2)
    power[0, 0] = 0
    white = fft.rfft2(rng.standard_normal(shape, np.float32))
    return _standard(fft.irfft2(white * np.sqrt(power).astype(np.float32), shape))


def puffs(rng: Generator, shape: tuple[int, int], size: float, flock: Floats) -> Floats:
    """Rounded heaps of all sizes up to `size`, many small and few large, denser where `flock` is high.

    Args:
        rng: Source of chance.
        shape: Rows and columns.
        size: Radius of the largest, in pixels.
        flock: Standard noise of that shape, which gathers the heaps.

    Returns:
        Of mean 0 and standard deviation 1, without border.
    """
    down, right = fft.fftfreq(shape[0])[:, None], fft.rfftfreq(shape[1])[None]
    squared = (down**2 + right**2).astype(np.float32)
    crowd = np.exp(1.2 * flock)
    crowd /= crowd.mean()
    total = np.zeros((shape[0], shape[1] // 2 + 1), np.complex64)
    radius = size
    while radius > 2.5:
        seeds = rng.poisson(0.12 * crowd / radius**2).astype(np.float32)
        seeds *= rng.uniform(0.5, 1.0, shape).astype(np.float32)
        # A heap is a bell as high as it is wide.
        total += fft.rfft2(seeds) * radius**3 * np.exp(-2 * np.pi**2 * radius**2 / 2 * squared)
        radius /= 1.7
    return _standard(fft.irfft2(total, shape))


def cloud_field(
    rng: Generator, shape: tuple[int, int], kind: Kind, cover: float, view: View | None = None
) -> CloudField:
    """Draw a sky.

    Args:
        rng: Source of chance.
        shape: Rows and columns.
        kind: Of cloud.
        cover: Share of the image under cloud that can be seen, 0 to 1; haze lies everywhere, and takes it as
            its strength.
        view: Sun and resolution.

    Raises:
        InputError: The kind is unknown, or the cover out of range.
    """
    if kind not in KINDS:
        raise InputError(f"kinds of cloud are {KINDS}, got {kind!r}")
    if not 0 <= cover <= 1:
        raise InputError(f"cover lies in [0, 1], got {cover}")
    return _KINDS[kind](rng, shape, cover, view or View())


def random_cloud_field(
    rng: Generator,
    shape: tuple[int, int],
    resolution: float = 10.0,
    odds: Mapping[Kind, float] = ODDS,
) -> CloudField:
    """A sky of any kind, cover and sun, as they come over a year.

    Args:
        rng: Source of chance.
        shape: Rows and columns.
        resolution: Edge of a pixel in metres.
        odds: How often each kind comes, in any unit.
    """
    share = np.array([odds.get(kind, 0.0) for kind in KINDS])
    kind = KINDS[rng.choice(len(KINDS), p=share / share.sum())]
    cover = rng.uniform(0.2, 1.0) if kind in ("cirrus", "haze") else rng.beta(1.5, 2.5)
    view = View(rng.uniform(120, 200), rng.uniform(22, 65), resolution)
    return cloud_field(rng, shape, kind, float(cover), view)


def composited(
    rng: Generator, cloud: Mask, shadow: Mask, view: View | None = None, fringe: float = 2.0
) -> CloudField:
    """A sky of real shapes: the cloud and the shadow class of a scene, given a depth.

    Args:
        rng: Source of chance.
        cloud: True under cloud, shape (height, width).
        shadow: True in shadow, same shape; shadows stay where they are.
        view: Sun, which lights the clouds, and resolution.
        fringe: Pixels by which the edge frays about the outline of the class.

    Raises:
        InputError: The masks differ in shape.
    """
    if cloud.shape != shadow.shape:
        raise InputError(
            f"masks of cloud {cloud.shape} and shadow {shadow.shape} differ in shape; cut both alike"
        )
    shape = cloud.shape[0], cloud.shape[1]
    if not cloud.any():
        return _sky(_still(shape), _ragged(rng, shadow, fringe), _still(shape), 0.0, (0.0, 0.0))
    inside = distance_transform_edt(cloud) - distance_transform_edt(~cloud)
    # A classification calls cloud what is well covered: its outline lies inside the fringe.
    rise = np.maximum(inside + fringe * (1 + spectral(rng, shape, 16, 3.2)), 0) / (4 * fringe)
    depth = rng.uniform(4, 12) * rise.astype(np.float32) ** rng.uniform(1.1, 1.5)
    made = _lit(rng, depth, 1000.0, view or View())
    return replace(made, shadow=_ragged(rng, shadow, fringe))


def _still(shape: tuple[int, int]) -> Floats:
    return np.zeros(shape, np.float32)


def _ragged(rng: Generator, shadow: Mask, fringe: float) -> Floats:
    """Shadows of an outline, frayed and blurred like the clouds that cast them."""
    if not shadow.any():
        return _still((shadow.shape[0], shadow.shape[1]))
    inside = distance_transform_edt(shadow) - distance_transform_edt(~shadow)
    noise = spectral(rng, (shadow.shape[0], shadow.shape[1]), 16, 3.2)
    t = np.clip((inside + fringe * (0.5 + noise)) / (2 * fringe), 0, 1)
    shade: Floats = (rng.uniform(0.7, 1.0) * t * t * (3 - 2 * t)).astype(np.float32)
    kept: Floats = np.where(shade < FAINTEST, 0, shade).astype(np.float32)
    return kept


def _thick(rng: Generator, shape: tuple[int, int], cover: float, view: View) -> CloudField:
    form = spectral(rng, shape, rng.uniform(60, 200) * 10 / view.resolution, rng.uniform(3.6, 4.4))
    depth = rng.uniform(2, 9) * _above(form, cover) ** rng.uniform(1.3, 1.9)
    depth += rng.uniform(0.3, 1.5) * _above(form, _wider(cover))
    return _lit(rng, depth, rng.uniform(400, 2500), view)


def _cumulus(rng: Generator, shape: tuple[int, int], cover: float, view: View) -> CloudField:
    scale = 10 / view.resolution
    flock = spectral(rng, shape, rng.uniform(40, 120) * scale, 3.0)
    fringe = spectral(rng, shape, rng.uniform(15, 40) * scale, rng.uniform(3.4, 4.2))
    form = puffs(rng, shape, max(rng.uniform(9, 26) * scale, 3.0), flock) + rng.uniform(0.3, 0.5) * fringe
    depth = rng.uniform(2, 9) * _above(form, cover) ** rng.uniform(1.3, 1.9)
    depth += rng.uniform(0.3, 1.5) * _above(form, _wider(cover))
    return _lit(rng, depth, rng.uniform(500, 2000), view)


def _cirrus(rng: Generator, shape: tuple[int, int], cover: float, view: View) -> CloudField:
    wind = rng.uniform(-90, 90), rng.uniform(2, 9)
    size = rng.uniform(25, 80) * 10 / view.resolution
    form = spectral(rng, shape, size, rng.uniform(3.4, 4.0), wind)
    veil = _above(form + 0.7 * spectral(rng, shape, 3 * size, 4.0), cover)
    depth = rng.uniform(0.5, 2.0) * np.tanh(0.6 * veil)  # ice clouds stay thin however much they cover
    height = rng.uniform(6000, 12000)
    # Ice crystals are large against light: all of these bands alike, but each seen from another place.
    seen = _opacity(depth)
    bright = rng.uniform(0.45, 0.8) + np.zeros_like(seen)
    return _sky(
        seen, _shade(0.5 * depth, height, view), bright, rng.uniform(0, 0.15), _drift(rng, height, view)
    )


def _haze(rng: Generator, shape: tuple[int, int], cover: float, view: View) -> CloudField:
    form = spectral(rng, shape, rng.uniform(150, 400) * 10 / view.resolution, rng.uniform(3.5, 4.5))
    depth = rng.uniform(0.4, 1.0) * cover * np.maximum(1 + rng.uniform(0.2, 0.6) * form, 0)
    seen = _opacity(depth)
    # Aerosol has Angstrom exponents of 1 to 2, and no shadow worth the name.
    bright = rng.uniform(0.25, 0.4) + np.zeros_like(seen)
    return _sky(seen, np.zeros_like(seen), bright, rng.uniform(0.9, 1.8), (0.0, 0.0))


_KINDS: dict[Kind, Callable[[Generator, tuple[int, int], float, View], CloudField]] = {
    "thick": _thick,
    "cumulus": _cumulus,
    "cirrus": _cirrus,
    "haze": _haze,
}


def _lit(rng: Generator, depth: Floats, height: float, view: View) -> CloudField:
    """Water clouds of a given optical depth: their brightness, and their shadow."""
    # Two streams, asymmetry 0.85: a share of 0.15 of what is scattered goes back.
    back = 0.15 * depth
    albedo = back / (2 + back)
    # Log depth as relief: the flank towards the sun is brighter.
    relief = gaussian_filter(np.log1p(depth), 2.0, mode="wrap")
    azimuth = np.radians(view.azimuth)
    down, right = (np.roll(relief, -1, axis) - np.roll(relief, 1, axis) for axis in (0, 1))
    facing = (down * np.cos(azimuth) - right * np.sin(azimuth)) / np.tan(np.radians(max(view.elevation, 15)))
    bright = rng.uniform(0.45, 0.95) * (0.45 + 0.65 * albedo) * (1 + 0.35 * np.tanh(2 * facing))
    shade = rng.uniform(0.6, 1.0) * _shade(depth, height, view)
    return _sky(_opacity(depth), shade, bright, 0.0, _drift(rng, height, view))


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
    """Pixels per second that a cloud seems to move, since each band looks at another moment from the orbit.

    The staggered detectors look forward and back in turn, so the sign is a matter of chance.
    """
    pixels = rng.choice([-1, 1]) * height * _PARALLAX / view.resolution
    return float(pixels * _FLIGHT[0]), float(pixels * _FLIGHT[1])


def _sky(
    cloud: Floats, shadow: Floats, bright: Floats, slope: float, drift: tuple[float, float]
) -> CloudField:
    cloud = np.where(cloud < FAINTEST, 0, cloud).astype(np.float32)
    shadow = np.where(shadow < FAINTEST, 0, shadow).astype(np.float32)
    return CloudField(cloud, shadow, np.clip(bright, 0.05, 1.4).astype(np.float32), False, slope, drift)


def _opacity(depth: Floats) -> Floats:
    # Forward scattering shows the ground still: half of the depth counts. And a sensor blurs by a pixel.
    opaque: Floats = gaussian_filter(1 - np.exp(-0.5 * depth), 0.7, mode="wrap")
    return opaque


def _above(form: Floats, cover: float) -> Floats:
    """By how much a form rises above the level that it covers this share of, in standard deviations."""
    if cover <= 0:
        return np.zeros_like(form)
    level = np.quantile(form, 1 - cover)
    rise: Floats = np.maximum(form - level, 0)
    return rise


def _wider(cover: float) -> float:
    """The share that the thin fringe of clouds covers."""
    return min(1.6 * cover, (1 + cover) / 2)


def _standard(noise: Floats) -> Floats:
    standard: Floats = ((noise - noise.mean()) / max(float(noise.std()), 1e-9)).astype(np.float32)
    return standard

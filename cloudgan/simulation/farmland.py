"""Simulated farmland: a map of parcels, and its reflectance on any day of the season."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import fft, ndimage

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.random import Generator
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]
    Spectrum = tuple[float, float, float, float]

BANDS = ("blue", "green", "red", "nir")
"""Bands of every spectrum and raster here, in this order."""

FINE = 2
"""Parcels are drawn at 5 m, so that pixels of 10 m on a boundary are mixed."""

SOIL: Spectrum = (0.070, 0.098, 0.130, 0.205)
BLOOM: Spectrum = (0.042, 0.165, 0.150, 0.530)  # rapeseed in flower
RIPE: Spectrum = (0.050, 0.092, 0.135, 0.300)  # cereals before the harvest
STUBBLE: Spectrum = (0.080, 0.122, 0.175, 0.310)


@dataclass(frozen=True, slots=True)
class Cover:
    """One kind of land cover, and what of it is visible from above over the season."""

    name: str
    """What it is."""
    colour: Spectrum
    """Reflectance at full cover (blue, green, red, nir), 0 to 1."""
    season: tuple[tuple[float, float, float, float, float], ...] = ((100, 1, 0, 0, 0),)
    """Day of year, then the shares of its own colour, bloom, ripe crop and stubble; the rest is soil."""
    share: float = 0.0
    """Share of the fields that grow it."""
    texture: float = 0.015
    """Relative brightness differences between neighbouring pixels (standard deviation)."""


# Calendar of Lower Austria, and levels of surface reflectance of Sentinel-2 L2A over such land.
COVERS = (
    Cover("winter wheat", (0.026, 0.055, 0.028, 0.43), (
        (91, 0.60, 0, 0, 0), (115, 0.88, 0, 0, 0), (140, 0.97, 0, 0, 0), (162, 0.90, 0, 0.08, 0),
        (178, 0.40, 0, 0.58, 0), (190, 0.05, 0, 0.93, 0), (201, 0.02, 0, 0.95, 0), (203, 0, 0, 0, 0.95),
    ), 0.27),
    Cover("winter barley", (0.030, 0.064, 0.034, 0.42), (
        (91, 0.65, 0, 0, 0), (112, 0.92, 0, 0, 0), (138, 0.95, 0, 0, 0), (152, 0.75, 0, 0.22, 0),
        (166, 0.15, 0, 0.83, 0), (178, 0.03, 0, 0.95, 0), (180, 0, 0, 0, 0.95), (197, 0.05, 0, 0, 0.85),
        (202, 0, 0, 0, 0.25),
    ), 0.10),
    Cover("spring barley", (0.032, 0.068, 0.036, 0.41), (
        (95, 0.04, 0, 0, 0), (110, 0.30, 0, 0, 0), (128, 0.85, 0, 0, 0), (150, 0.94, 0, 0, 0),
        (168, 0.45, 0, 0.50, 0), (180, 0.05, 0, 0.92, 0), (193, 0, 0, 0.96, 0), (195, 0, 0, 0, 0.93),
    ), 0.08),
    Cover("rapeseed", (0.030, 0.078, 0.036, 0.50), (
        (91, 0.75, 0.02, 0, 0), (106, 0.88, 0.08, 0, 0), (115, 0.32, 0.66, 0, 0), (124, 0.22, 0.76, 0, 0),
        (134, 0.72, 0.25, 0, 0), (145, 0.96, 0.01, 0, 0), (165, 0.85, 0, 0.12, 0), (182, 0.30, 0, 0.65, 0),
        (194, 0.06, 0, 0.90, 0), (196, 0.03, 0, 0, 0.90),
    ), 0.11),
    Cover("maize", (0.028, 0.062, 0.030, 0.46), (
        (138, 0.01, 0, 0, 0), (150, 0.10, 0, 0, 0), (165, 0.42, 0, 0, 0), (180, 0.85, 0, 0, 0),
        (192, 0.97, 0, 0, 0),
    ), 0.16),
    Cover("sugar beet", (0.030, 0.078, 0.034, 0.57), (
        (118, 0.01, 0, 0, 0), (135, 0.12, 0, 0, 0), (150, 0.42, 0, 0, 0), (165, 0.82, 0, 0, 0),
        (180, 0.97, 0, 0, 0),
    ), 0.11),
    Cover("sunflower", (0.032, 0.076, 0.040, 0.48), (
        (122, 0.01, 0, 0, 0), (140, 0.14, 0, 0, 0), (158, 0.55, 0, 0, 0), (174, 0.92, 0, 0, 0),
        (190, 0.80, 0.16, 0, 0), (203, 0.86, 0.08, 0, 0),
    ), 0.05),
    Cover("meadow", (0.036, 0.078, 0.046, 0.41), (
        (91, 0.80, 0, 0, 0), (120, 0.98, 0, 0, 0), (144, 0.95, 0, 0, 0), (147, 0.45, 0, 0.35, 0),
        (165, 0.88, 0, 0.05, 0), (185, 0.92, 0, 0.05, 0), (188, 0.48, 0, 0.36, 0), (206, 0.80, 0, 0.12, 0),
    ), 0.07),
    Cover("alfalfa", (0.028, 0.068, 0.030, 0.47), (
        (91, 0.55, 0, 0, 0), (115, 0.93, 0, 0, 0), (132, 0.97, 0, 0, 0), (135, 0.30, 0, 0.20, 0),
        (152, 0.93, 0, 0, 0), (168, 0.97, 0, 0, 0), (171, 0.30, 0, 0.20, 0), (188, 0.92, 0, 0, 0),
        (204, 0.96, 0, 0, 0),
    ), 0.05, 0.03),
    Cover("broadleaved wood", (0.018, 0.040, 0.020, 0.39), (
        (96, 0.42, 0, 0.05, 0), (106, 0.60, 0, 0.02, 0), (120, 0.98, 0, 0, 0), (160, 1, 0, 0, 0),
    ), 0.0, 0.07),
    Cover("conifers", (0.014, 0.028, 0.017, 0.215), texture=0.08),
    Cover("garden", (0.034, 0.062, 0.044, 0.30), ((91, 0.75, 0, 0, 0), (125, 1, 0, 0, 0)), texture=0.10),
    Cover("tiled roof", (0.078, 0.092, 0.125, 0.210), texture=0.10),
    Cover("pale roof", (0.190, 0.205, 0.220, 0.270), texture=0.12),
    Cover("yard", (0.092, 0.108, 0.125, 0.190), texture=0.06),
    Cover("road", (0.098, 0.112, 0.125, 0.165), texture=0.02),
    Cover("track", (0.082, 0.112, 0.138, 0.235), texture=0.03),
    Cover("water", (0.034, 0.044, 0.027, 0.014), texture=0.02),
)  # fmt: skip
TOWN = ("garden", "tiled roof", "broadleaved wood", "yard", "pale roof")
TOWN_SHARES = (0.46, 0.24, 0.18, 0.08, 0.04)
KIND = {cover.name: number for number, cover in enumerate(COVERS)}


def draw_noise(
    rng: Generator,
    shape: tuple[int, int],
    longest: float,
    slope: float,
    stretch: float = 1.0,
    angle: float = 0.0,
) -> Floats:
    """Random texture with a power-law spectrum (zero mean, unit variance, periodic).

    Args:
        rng: Source of randomness.
        shape: Rows and columns.
        longest: Size in pixels above which there is no more structure.
        slope: How fast the amplitude falls with frequency: 1 is rough, 2 smooth, 3 a soft gradient.
        stretch: How much longer than wide structures are.
        angle: Where their long axis points, in radians from the direction of the columns.
    """
    rows, cols = shape
    fy = fft.fftfreq(rows).astype(np.float32)[:, None]
    fx = fft.rfftfreq(cols).astype(np.float32)[None, :]
    along, across = fx * math.cos(angle) + fy * math.sin(angle), fy * math.cos(angle) - fx * math.sin(angle)
    squared = (along * stretch) ** 2 + across**2
    amplitude = (squared + np.float32(1 / longest) ** 2) ** np.float32(-slope / 2)
    amplitude[0, 0] = 0
    white = rng.standard_normal(shape, dtype=np.float32)
    texture: Floats = fft.irfft2(fft.rfft2(white) * amplitude, s=shape).astype(np.float32)
    texture /= texture.std()
    return texture


@dataclass(frozen=True, slots=True, eq=False)
class Land:
    """A map of parcels, with everything that stays the same from date to date."""

    label: NDArray[np.int32]
    """Parcel of each 5 m pixel, shape (2 * rows, 2 * columns)."""
    kind: NDArray[np.intp]
    """Cover of each parcel, an index into `COVERS`."""
    delay: Floats
    """Days by which each parcel is behind the calendar of its cover."""
    vigour: Floats
    """How bright each parcel's plants are in each band, relative to their cover: shape (parcels, 4)."""
    soil: Floats
    """How bright each parcel's soil is, relative to `SOIL`."""
    patches: Floats
    """Days by which each 10 m pixel is behind its parcel, shape (rows, columns)."""
    thinness: Floats
    """Share of the plants that are missing at each 10 m pixel; negative where they stand denser."""
    grain: Floats
    """Static relative brightness of each 10 m pixel."""
    relief: Floats
    """Height in metres of each 10 m pixel."""

    def reflectance(self, day: float, wetness: float, sun: tuple[float, float]) -> Floats:
        """Reflectance of the surface, blurred by the instrument's optics.

        Args:
            day: Day of the year.
            wetness: How wet the soil is, 0 (dry) to 1.
            sun: Azimuth and elevation of the sun in degrees.

        Returns:
            Surface reflectance, shape (4, rows, columns).
        """
        now = self._spectra(day, wetness)
        drift = (self._spectra(day - 2, wetness) - self._spectra(day + 2, wetness)) / 4  # per day of delay
        thinner = self._spectra(day, wetness, bare=True) - now
        centre = self.label[::FINE, ::FINE]
        light = self.grain * self._light(*sun)
        image = np.empty((len(BANDS), *centre.shape), np.float32)
        for band in range(len(BANDS)):
            surface = mean_of_blocks(now[:, band][self.label])
            surface += self.patches * drift[:, band][centre] + self.thinness * thinner[:, band][centre]
            image[band] = ndimage.gaussian_filter(surface * light, 0.6, truncate=3)
        return image

    def _spectra(self, day: float, wetness: float, *, bare: bool = False) -> Floats:
        """Reflectance of each parcel, shape (parcels, 4); with `bare`, its soil alone where plants grow."""
        spectra = np.empty((len(self.kind), len(BANDS)), np.float32)
        for number, cover in enumerate(COVERS):
            members = np.flatnonzero(self.kind == number)
            knots = np.array(cover.season)
            calendar = day - self.delay[members]
            parts = [np.interp(calendar, knots[:, 0], knots[:, column]) for column in range(1, 5)]
            soil = (self.soil[members] * (1 - 0.25 * wetness))[:, None] * np.array(SOIL)
            if bare and len(knots) > 1:
                spectra[members] = soil
                continue
            own, bloom, ripe, stubble = (part[:, None] for part in parts)
            plants = own * np.array(cover.colour) + bloom * np.array(BLOOM) + ripe * np.array(RIPE)
            plants = plants + stubble * np.array(STUBBLE)
            spectra[members] = plants * self.vigour[members] + (1 - own - bloom - ripe - stubble) * soil
        return spectra

    def _light(self, azimuth: float, elevation: float) -> Floats:
        """Illumination of the slopes relative to level ground (Lambert), shape (rows, columns)."""
        south, east = np.gradient(self.relief, 10.0)
        to_sun = -math.sin(math.radians(azimuth)) * east + math.cos(math.radians(azimuth)) * south
        return np.asarray(1 + to_sun / math.tan(math.radians(elevation)), np.float32)


def make_land(rng: Generator, shape: tuple[int, int]) -> Land:
    """Lay out farmland: fields between tracks and roads, a river and its meadows, woods, villages, farms.

    Args:
        rng: Source of randomness.
        shape: Rows and columns of 10 m pixels.
    """
    label, kind = _lay_out(rng, (shape[0] * FINE, shape[1] * FINE))
    count = len(kind)
    brightness = rng.normal(1, 0.06, (count, 1)) + rng.normal(0, 0.025, (count, len(BANDS)))
    texture = np.array([cover.texture for cover in COVERS], np.float32)[kind][label[::FINE, ::FINE]]
    rough = draw_noise(rng, shape, 12, 1.7) * texture + _draw_rows(rng, label, kind)
    return Land(
        label=label,
        kind=kind,
        delay=np.clip(rng.normal(0, 4.5, count), -10, 10).astype(np.float32),
        vigour=brightness.astype(np.float32),
        soil=np.clip(rng.normal(1, 0.17, count), 0.6, 1.45).astype(np.float32),
        patches=1.6 * draw_noise(rng, shape, 40, 1.9),
        thinness=np.clip(0.02 + 0.05 * draw_noise(rng, shape, 25, 1.8), -0.02, 0.25),
        grain=(1 + rough + 0.03 * draw_noise(rng, shape, 60, 1.7)).astype(np.float32),
        relief=18 * draw_noise(rng, shape, 220, 3.0),
    )


def mean_of_blocks(fine: Floats) -> Floats:
    """Mean of each 2 x 2 block."""
    return (fine[::2, ::2] + fine[1::2, ::2] + fine[::2, 1::2] + fine[1::2, 1::2]) * np.float32(0.25)


def _draw_rows(rng: Generator, label: NDArray[np.int32], kind: NDArray[np.intp]) -> Floats:
    """Faint tramlines and drill rows along each field's own direction, as relative brightness at 10 m."""
    centre = label[::FINE, ::FINE]
    angle = rng.uniform(0, math.pi, len(kind)).astype(np.float32)
    spacing = rng.choice(np.array([2.7, 3.6, 4.8], np.float32), len(kind))  # of 10 m pixels
    depth = np.where(kind < KIND["meadow"], rng.uniform(0, 0.016, len(kind)), 0).astype(np.float32)
    row, col = np.indices(centre.shape, dtype=np.float32)
    across = row * np.cos(angle)[centre] + col * np.sin(angle)[centre]
    lines: Floats = np.cos(across * (2 * np.pi / spacing)[centre]) * depth[centre]
    return lines


def _lay_out(rng: Generator, shape: tuple[int, int]) -> tuple[NDArray[np.int32], NDArray[np.intp]]:
    """The parcel of each 5 m pixel and the cover of each parcel."""
    row, col = np.indices(shape, dtype=np.float32)
    # Straight cuts in gently bent coordinates: boundaries follow the terrain.
    x = (col + 11 * draw_noise(rng, shape, 500, 3.0)).ravel()
    y = (row + 11 * draw_noise(rng, shape, 500, 3.0)).ravel()
    distance, woody = _distance_to_river(rng, row, col), draw_noise(rng, shape, 260, 1.9)
    label = np.zeros(row.size, np.int32)
    kinds: list[int] = []

    def paint(pixels: NDArray[np.intp], name: str) -> None:
        label[pixels] = len(kinds)
        kinds.append(KIND[name])

    crops = [cover for cover in COVERS if cover.share]
    shares = np.array([cover.share for cover in crops]) / sum(cover.share for cover in crops)
    near, woods = distance.ravel(), woody.ravel()
    for pixels, line in _cut_area(rng, np.arange(row.size), x, y, typical=2600):
        middle = pixels[pixels.size // 2]
        if line:
            paint(pixels, line)
        elif near[middle] < 50 and rng.random() < 0.85:
            paint(pixels, "meadow")
        elif woods[middle] > 1.6:
            paint(pixels, "conifers" if rng.random() < 0.4 else "broadleaved wood")
        else:
            paint(pixels, crops[rng.choice(len(crops), p=shares)].name)

    roads = np.flatnonzero(np.array(kinds)[label] == KIND["road"])
    ragged = draw_noise(rng, shape, 16, 1.2).ravel()
    paint(np.flatnonzero(woods + 0.18 * ragged > 1.95), "broadleaved wood")
    paint(np.flatnonzero(near + 2.5 * ragged + 9 * woods < 6), "broadleaved wood")
    built = _place_buildings(rng, shape, roads, ragged)
    for pixels, line in _cut_area(rng, built, x, y, typical=40):
        paint(pixels, "road" if line else str(rng.choice(TOWN, p=TOWN_SHARES)))
    paint(np.flatnonzero(near + 0.25 * ragged < 2.6), "water")
    paint(_place_ponds(rng, shape, near, ragged), "water")
    return label.reshape(shape), np.array(kinds)


def _cut_area(
    rng: Generator, pixels: NDArray[np.intp], x: Floats, y: Floats, typical: float
) -> Iterator[tuple[NDArray[np.intp], str]]:
    """Cut an area in two, again and again, mostly across its long side, down to pieces of a typical size.

    Args:
        rng: Source of randomness.
        pixels: Flat indices of the area's pixels.
        x: Coordinate of every pixel of the map.
        y: The other coordinate.
        typical: Median size of a piece, in pixels.

    Yields:
        Flat indices of a piece and what it is: a kind of line between pieces, or "" for a piece itself.
    """
    areas = [pixels]
    while areas:
        area = areas.pop()
        if area.size < 2 or area.size < typical * rng.lognormal(0, 0.55):
            if area.size:
                yield area, ""
            continue
        sample = area[:: max(1, area.size // 1500)]
        (xx, xy), (_, yy) = np.cov(x[sample], y[sample])
        elongation = math.hypot(xx - yy, 2 * xy)
        angle = math.atan2(2 * xy, xx - yy) / 2 + rng.normal(0, 0.05)
        if xx + yy + elongation < 7 * (xx + yy - elongation) and rng.random() < 0.35:
            angle += math.pi / 2  # along the long side: a strip
        along = x[area] * math.cos(angle) + y[area] * math.sin(angle)
        where = along - np.quantile(along[:: max(1, area.size // 1500)], rng.uniform(0.34, 0.66))
        line, width = _draw_line(rng, area.size / typical)
        on_line = np.abs(where) < width / 2
        if line:
            yield area[on_line], line
        areas += [area[(where < 0) & ~on_line], area[(where >= 0) & ~on_line]]


def _draw_line(rng: Generator, size: float) -> tuple[str, float]:
    """The line between the two halves of an area: its cover and its width in 5 m pixels.

    Args:
        rng: Source of randomness.
        size: The area in typical pieces.
    """
    if size > 45:
        return "road", 1.8
    if size > 7:
        return "track", 1.1
    if rng.random() < 0.10:
        return "broadleaved wood", rng.uniform(1.5, 3.0)  # a hedge
    return "", 0.0


def _distance_to_river(rng: Generator, row: Floats, col: Floats) -> Floats:
    """Distance of each 5 m pixel to the middle of a meandering river, in pixels."""
    rows, cols = row.shape
    middle = np.full(cols, rows * 0.68)
    for length, width in ((40, 17), (260, 75)):  # bends, and the course of the valley
        course = ndimage.gaussian_filter1d(rng.standard_normal(cols), length, mode="wrap")
        middle += width * (course - course.mean()) / course.std()
    return np.asarray(np.abs(row - middle) / np.sqrt(1 + np.gradient(middle) ** 2), np.float32)


def _place_buildings(
    rng: Generator, shape: tuple[int, int], roads: NDArray[np.intp], ragged: Floats
) -> NDArray[np.intp]:
    """Flat indices of the built-up pixels: two villages and scattered farmsteads, all beside roads."""
    score = np.full(shape, np.inf, np.float32)
    sizes = np.concatenate([[80, 52], rng.uniform(6, 13, 26)])
    for place, size in zip(rng.choice(roads, sizes.size), sizes, strict=True):
        top, left = divmod(int(place), shape[1])
        margin = int(2 * size)
        window = (
            slice(max(top - margin, 0), min(top + margin, shape[0])),
            slice(max(left - margin, 0), min(left + margin, shape[1])),
        )
        down, right = np.ogrid[window]
        score[window] = np.minimum(score[window], np.hypot(down - top, right - left) / size)
    outskirts = draw_noise(rng, shape, 70, 2.5).ravel()
    return np.flatnonzero(score.ravel() + 0.13 * ragged + 0.16 * outskirts < 1)


def _place_ponds(rng: Generator, shape: tuple[int, int], near: Floats, ragged: Floats) -> NDArray[np.intp]:
    """Flat indices of the pixels of a few ponds beside the river."""
    wet = np.zeros(shape, bool)
    banks = np.flatnonzero((near > 20) & (near < 60))
    for place, size in zip(rng.choice(banks, 4), rng.uniform(7, 20, 4), strict=True):
        down, right = np.ogrid[: shape[0], : shape[1]]
        top, left = divmod(int(place), shape[1])
        wet |= np.hypot(1.4 * (down - top), right - left) + 0.3 * size * ragged.reshape(shape) < size
    return np.flatnonzero(wet)

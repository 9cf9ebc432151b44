"""Simulated farmland: a map of parcels, and its reflectance on any day of the season."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import fft, ndimage

from cloudgan.simulation.covers import (
    BANDS,
    BLOOM,
    COVERS,
    KIND,
    RIPE,
    SOIL,
    STUBBLE,
    TOWN,
    TOWN_SHARES,
    WETTING,
    bands_at,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.random import Generator
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]

FINE = 2
"""Parcels are drawn at 5 m, so that pixels of 10 m on a boundary are mixed."""


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
    """How bright each parcel's plants are in each band, relative to their cover: shape (parcels, 10)."""
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

    def reflectance(
        self, day: float, wetness: float, sun: tuple[float, float], resolution: int = 10
    ) -> Floats:
        """Reflectance of the surface, blurred by the instrument's optics.

        Args:
            day: Day of the year.
            wetness: How wet the soil is, 0 (dry) to 1.
            sun: Azimuth and elevation of the sun in degrees.
            resolution: Edge of a pixel in metres, which says what bands: 10 or 20, see `BANDS_AT`.

        Returns:
            Surface reflectance, shape (4, rows, columns), or at 20 m (6, rows / 2, columns / 2).
        """
        now = self._spectra(day, wetness)
        drift = (self._spectra(day - 2, wetness) - self._spectra(day + 2, wetness)) / 4  # per day of delay
        thinner = self._spectra(day, wetness, bare=True) - now
        centre = self.label[::FINE, ::FINE]
        light = self.grain * self._light(*sun)
        image = []
        for band in range(len(BANDS))[bands_at(resolution)]:
            surface = mean_of_blocks(now[:, band][self.label])
            surface += self.patches * drift[:, band][centre] + self.thinness * thinner[:, band][centre]
            surface *= light
            if resolution == 20:
                surface = mean_of_blocks(surface)
            image.append(ndimage.gaussian_filter(surface, 0.6, truncate=3))
        return np.stack(image)

    def _spectra(self, day: float, wetness: float, *, bare: bool = False) -> Floats:
        """Reflectance of each parcel, shape (parcels, 10); with `bare`, its soil alone where plants grow."""
        spectra = np.empty((len(self.kind), len(BANDS)), np.float32)
        # Beyond the share that all bands lose, those of strong absorption lose more.
        soil_colour = np.array(SOIL) * ((1 - np.array(WETTING) * wetness) / (1 - WETTING[0] * wetness))
        for number, cover in enumerate(COVERS):
            members = np.flatnonzero(self.kind == number)
            knots = np.array(cover.season)
            calendar = day - self.delay[members]
            parts = [np.interp(calendar, knots[:, 0], knots[:, column]) for column in range(1, 5)]
            soil = (self.soil[members] * (1 - WETTING[0] * wetness))[:, None] * soil_colour
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
    brightness = _draw_vigour(rng, count)
    texture = np.array([cover.texture for cover in COVERS], np.float32)[kind][label[::FINE, ::FINE]]
    rough = draw_noise(rng, shape, 12, 1.7) * texture + _draw_rows(rng, label, kind)
    return Land(
        label=label,
        kind=kind,
        delay=np.clip(rng.normal(0, 4.5, count), -10, 10).astype(np.float32),
        vigour=brightness,
        soil=np.clip(rng.normal(1, 0.17, count), 0.6, 1.45).astype(np.float32),
        patches=1.6 * draw_noise(rng, shape, 40, 1.9),
        thinness=np.clip(0.02 + 0.05 * draw_noise(rng, shape, 25, 1.8), -0.02, 0.25),
        grain=(1 + rough + 0.03 * draw_noise(rng, shape, 60, 1.7)).astype(np.float32),
        relief=18 * draw_noise(rng, shape, 220, 3.0),
    )


def _draw_vigour(rng: Generator, count: int) -> Floats:
    """How bright the plants of each parcel are relative to their cover, shape (parcels, 10)."""
    common, own = rng.normal(1, 0.06, (count, 1)), rng.normal(0, 0.025, (count, 4))
    # The chance of the bands of 20 m is their own, so that those of 10 m do not depend on it. Leaves set all
    # bands beyond the red edge alike, and their water the short-wave infrared.
    further = rng.spawn(1)[0].normal(0, (0.020, 0.008, 0.005, 0.005, 0.040, 0.050), (count, 6))
    further += own[:, 3:] * (0.3, 0.8, 1, 1, 0, 0)
    return np.asarray(common + np.hstack([own, further]), np.float32)


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

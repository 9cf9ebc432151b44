"""The map of the area: how often each place was observed, with meridians, parallels and a scale."""

from __future__ import annotations

import math
from collections.abc import Iterator
from html import escape

import numpy as np
import shapely
from pyproj import Transformer

from cloudgan.geo.grid import Grid

_STEPS = tuple(number * 10.0**power for power in range(-4, 2) for number in (1, 2, 5))  # of degrees


def draw_area(grid: Grid, picture: str, title: str, outline: str | None = None) -> str:
    """A picture of the area as SVG, north up by its UTM zone, on a plain background.

    Args:
        grid: Its pixels.
        picture: A data URI, stretched over the grid.
        title: What it shows.
        outline: Polygons of the area of interest, WKT in longitude and latitude; None where nothing is known.
    """
    west, south, east, north = grid.bounds
    long = max(east - west, north - south)
    width, height = (east - west) / long * 560, (north - south) / long * 560
    margin = 86
    parts = [
        f'<rect class="ground" x="0" y="0" width="{width:.1f}" height="{height:.1f}"/>',
        f'<image href="{picture}" x="0" y="0" width="{width:.1f}" height="{height:.1f}" '
        'preserveAspectRatio="none"/>',
        *_draw_graticule(grid, width, height),
        *([] if outline is None else [_draw_outline(grid, width, height, outline)]),
        f'<rect class="outline" x="0" y="0" width="{width:.1f}" height="{height:.1f}"/>',
        _draw_scale(east - west, width, height),
    ]
    box = f"{-margin} {-margin / 4} {width + 2 * margin:.1f} {height + 1.3 * margin:.1f}"
    return f'<svg class="map" viewBox="{box}" role="img" aria-label="{escape(title)}">{"".join(parts)}</svg>'


def _draw_outline(grid: Grid, width: float, height: float, outline: str) -> str:
    """The polygons of an area as one path, with their holes."""
    west, south, east, north = grid.bounds
    to_metres = Transformer.from_crs(4326, grid.epsg, always_xy=True)
    whole = shapely.from_wkt(outline)
    rings = [
        ring
        for polygon in shapely.get_parts(whole)
        if isinstance(polygon, shapely.Polygon)
        for ring in (polygon.exterior, *polygon.interiors)
    ]
    parts = []
    for ring in rings:
        x, y = to_metres.transform(*np.asarray(ring.coords)[:, :2].T)
        across = (np.asarray(x) - west) / (east - west) * width
        down = (north - np.asarray(y)) / (north - south) * height
        parts.append("M" + "L".join(f"{a:.1f} {b:.1f}" for a, b in zip(across, down, strict=True)) + "Z")
    return f'<path class="aoi" d="{"".join(parts)}"/>'


def _draw_graticule(grid: Grid, width: float, height: float) -> Iterator[str]:
    west, south, east, north = grid.bounds
    to_degrees = Transformer.from_crs(grid.epsg, 4326, always_xy=True)
    to_metres = Transformer.from_crs(4326, grid.epsg, always_xy=True)
    lons, lats = to_degrees.transform([west, east, west, east], [north, north, south, south])
    middle_lon = to_degrees.transform((west + east) / 2, (south + north) / 2)[0]
    lons = [middle_lon + (lon - middle_lon + 180) % 360 - 180 for lon in lons]  # beyond the antimeridian too

    def to_pixels(lon: object, lat: object) -> tuple[np.ndarray, np.ndarray]:
        x, y = to_metres.transform(lon, lat)
        across = (np.asarray(x) - west) / (east - west) * width
        return across, (north - np.asarray(y)) / (north - south) * height

    for value, digits in _choose_lines(min(lons), max(lons)):
        path = to_pixels(np.full(33, value), np.linspace(min(lats), max(lats), 33))
        inside = (path[0] >= 0) & (path[0] <= width)
        if inside.any():
            yield _draw_line(*path)
            name = _spell(value, digits, "EW")
            place = float(path[0][0])
            if 0 <= place <= width:
                yield _write_name(place, height + 20, name, "middle")
    for value, digits in _choose_lines(min(lats), max(lats)):
        path = to_pixels(np.linspace(min(lons), max(lons), 33), np.full(33, value))
        inside = (path[1] >= 0) & (path[1] <= height)
        if inside.any():
            yield _draw_line(*path)
            place = float(path[1][0])
            if 0 <= place <= height:
                name = _spell(value, digits, "NS")
                yield _write_name(-4, place + 4, name, "end")


def _draw_line(x: np.ndarray, y: np.ndarray) -> str:
    points = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True))
    return f'<polyline class="graticule" points="{points}"/>'


def _write_name(x: float, y: float, name: str, anchor: str) -> str:
    return f'<text class="tick" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{name}</text>'


def _choose_lines(low: float, high: float) -> list[tuple[float, int]]:
    """Round degrees in a range, four at most, and the decimals that tell them apart."""
    step = next(size for size in _STEPS if (high - low) / size <= 4)
    digits = max(0, -math.floor(math.log10(step)))
    first, last = math.ceil(low / step), math.floor(high / step)
    return [(number * step, digits) for number in range(first, last + 1)]


def _spell(degrees: float, digits: int, sides: str) -> str:
    degrees = (degrees + 180) % 360 - 180 if sides == "EW" else degrees
    return f"{abs(degrees):.{digits}f}° {sides[degrees < 0]}"


def _draw_scale(metres: float, width: float, height: float) -> str:
    """A bar of a round length, a quarter of the map at most."""
    exponent = 10.0 ** math.floor(math.log10(metres / 4))
    length = max(size * exponent for size in (1, 2, 5) if size * exponent <= metres / 4)
    text = f"{length / 1000:g} km" if length >= 1000 else f"{length:g} m"
    wide, y = length / metres * width, height + 44
    return (
        f'<path class="scale" d="M0 {y - 5:.1f}V{y:.1f}H{wide:.1f}V{y - 5:.1f}"/>'
        f'<text class="tick" x="{wide + 6:.1f}" y="{y + 2:.1f}">{text}</text>'
    )

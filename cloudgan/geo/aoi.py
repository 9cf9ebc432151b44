"""An area of interest: GeoJSON to a geometry, and the geometry to a window of a pixel lattice."""

from __future__ import annotations

import json
import math
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from pyproj import Transformer
from rasterio.features import geometry_mask
from shapely.affinity import translate
from shapely.geometry import box, shape
from shapely.geometry.base import BaseGeometry

from cloudgan.errors import InputError
from cloudgan.geo.aoi_files import POLYGONAL, read_area_file
from cloudgan.geo.grid import Grid, Lattice, Window

# What names longitude and latitude on WGS 84, as it ends: urn:ogc:def:crs:OGC:1.3:CRS84, EPSG:4326, CRS84h,
# http://www.opengis.net/def/crs/EPSG/0/4326; the last two have heights.
_WGS84 = re.compile(r"(?:^|[:/#])(?:4326|4979|CRS:?84h?|(?:GCS_)?WGS[ _]?(?:19)?84)$", re.IGNORECASE)

MAX_VERTICES = 100_000
"""Of an area of interest; more take minutes."""
SIMPLIFIED_BY = 1e-5
"""Degrees, a metre, by which the outline of one that has more is moved at most."""
SOUTH, NORTH = -80, 84
"""Latitudes between which there are UTM zones, and scenes of Sentinel-2."""


@dataclass(frozen=True, slots=True)
class Aoi:
    """An area of interest."""

    geometry: BaseGeometry
    """Polygon or MultiPolygon, longitude and latitude in degrees (WGS 84)."""
    warnings: tuple[str, ...] = ()
    """What was repaired on reading."""

    @property
    def epsg(self) -> int:
        """EPSG code of the UTM zone in which its centroid lies."""
        point = self.geometry.centroid
        return utm_epsg(point.x, point.y)

    def window(self, lattice: Lattice) -> Window:
        """The pixels of its bounding box in the lattice's CRS."""
        return lattice.covering(*self.project(lattice.epsg).bounds)

    def windows(self, lattice: Lattice) -> tuple[Window, ...]:
        """The pixels of the bounding box of each of its polygons."""
        bounds = shapely.bounds(shapely.get_parts(self.project(lattice.epsg)))
        return tuple(lattice.covering(*map(float, edges)) for edges in bounds)

    def split_by_zone(self) -> dict[int, BaseGeometry]:
        """What of it lies in each UTM zone, by EPSG code: it is cut between zones, and at the equator.

        Raises:
            InputError: It extends beyond the latitudes of the UTM zones.
        """
        _, south, _, north = self.geometry.bounds
        if south < SOUTH or north > NORTH:
            raise InputError(
                f"the AOI reaches from {south:g} to {north:g} degrees north, and Sentinel-2 is mapped from "
                f"{SOUTH} to {NORTH}; leave out what lies beyond"
            )
        pieces = {epsg: _keep_polygons(self.geometry.intersection(zone)) for epsg, zone in _zones().items()}
        return {epsg: piece for epsg, piece in pieces.items() if not piece.is_empty}

    def mask_outside(self, grid: Grid) -> NDArray[Any]:
        """Which pixels of a grid have their centre outside, bool of shape (height, width).

        A polygon so small, or so narrow, that it holds no centre keeps the pixel in which it lies.
        """
        area = self.project(grid.epsg)
        mask: NDArray[Any] = geometry_mask([area], grid.shape, grid.transform)
        for window in _find_pixels_of_slivers(area, grid):
            mask[window.slices_in(grid.window)] = False
        return mask

    def project(self, epsg: int) -> BaseGeometry:
        """Its outline in a projected CRS, in metres."""
        # A straight edge in degrees is a curve in metres: a vertex each hundredth of a degree follows it.
        transform: Any = Transformer.from_crs(4326, epsg, always_xy=True).transform
        return shapely.transform(shapely.segmentize(self.geometry, 0.01), transform, interleaved=False)


def _find_pixels_of_slivers(area: BaseGeometry, grid: Grid) -> list[Window]:
    """The pixels of a grid in which polygons lie that hold no pixel's centre, in the grid or beyond."""
    parts = shapely.get_parts(area)
    narrow = 2 * shapely.area(parts) < shapely.length(parts) * grid.resolution
    parts = parts[narrow & shapely.intersects(parts, box(*grid.bounds))]
    found = []
    for part in parts:
        own = Grid(grid.lattice, grid.lattice.covering(*part.bounds))
        if geometry_mask([part], own.shape, own.transform).all():
            point = part.representative_point()
            found.append(grid.lattice.covering(point.x, point.y, point.x, point.y))
    return [window for window in found if grid.window.contains(window)]


def _zones() -> dict[int, BaseGeometry]:
    """The area of each UTM zone, in degrees, by EPSG code."""
    cells: dict[int, list[BaseGeometry]] = defaultdict(list)
    for south, north in ((SOUTH, 0), (0, 56), (56, 64), (64, 72), (72, NORTH)):
        for west, east in pairwise(sorted({*range(-180, 181, 6), 3, 9, 21, 33})):
            epsg = utm_epsg((west + east) / 2, (south + north) / 2)
            cells[epsg].append(box(west, south, east, north))
    return {epsg: shapely.union_all(boxes) for epsg, boxes in sorted(cells.items())}


def cover_windows(windows: Sequence[Window], lattice: Lattice) -> BaseGeometry:
    """Boxes in degrees that cover these windows of a lattice, cut at the antimeridian."""
    edges = np.array([Grid(lattice, window).bounds for window in windows])
    middle = lattice.epsg % 100 * 6 - 183
    transform = Transformer.from_crs(lattice.epsg, 4326, always_xy=True).transform

    def to_degrees(x: NDArray[Any], y: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        lon, lat = transform(x, y)
        return (lon - middle + 180) % 360 - 180 + middle, lat

    # 21 points an edge: in degrees the widest place of a box need not be a corner.
    outlines = shapely.box(*edges.T)
    spacing = shapely.length(outlines) / 80
    project: Any = to_degrees
    degrees = shapely.transform(shapely.segmentize(outlines, spacing), project, interleaved=False)
    return cut_at_antimeridian(shapely.union_all(shapely.box(*shapely.bounds(degrees).T)))


def cut_at_antimeridian(geometry: BaseGeometry) -> BaseGeometry:
    """The same place on the globe, cut at the antimeridian where it crosses it."""
    west, _, east, _ = geometry.bounds
    if max(-west, east) <= 180:
        return geometry
    turns = range(math.floor((west + 180) / 360), math.ceil((east + 180) / 360))
    maps = [(turn, box(360 * turn - 180, -90, 360 * turn + 180, 90)) for turn in turns]
    return _keep_polygons(
        shapely.union_all([translate(geometry.intersection(one), -360 * turn) for turn, one in maps])
    )


def _keep_polygons(geometry: BaseGeometry) -> BaseGeometry:
    """The polygons of a geometry, without the lines and points along which it was cut."""
    return shapely.union_all([part for part in shapely.get_parts(geometry) if part.area > 0])


def _turn_short_way(polygon: BaseGeometry) -> BaseGeometry:
    """A polygon with an edge over more than half the globe in longitudes from 0 to 360, where it has none.

    Any other stays as it is, and so does an edge of the whole 360 degrees, which is one of the map.
    """
    steps = [np.abs(np.diff(shapely.get_coordinates(ring)[:, 0])) for ring in shapely.get_rings(polygon)]
    if not any(((step > 180) & (step < 360)).any() for step in steps):
        return polygon
    turned: BaseGeometry = shapely.transform(
        polygon, lambda points: np.where([True, False], points % 360, points)
    )
    return turned


def utm_epsg(lon: float, lat: float) -> int:
    """EPSG code of the UTM zone of a place, with the exceptions of the MGRS around Norway and Svalbard."""
    zone = min(int((lon + 180) // 6) + 1, 60)
    if 56 <= lat < 64 and 3 <= lon < 12:
        zone = 32
    elif lat >= 72 and 0 <= lon < 42:
        zone = 31 if lon < 9 else 33 if lon < 21 else 35 if lon < 33 else 37
    return (32600 if lat >= 0 else 32700) + zone


def read_aoi(location: str | Path) -> Aoi:
    """Read an area of interest.

    Args:
        location: A path, a web address, one in an object store, or `-` for standard input. There lies GeoJSON
            (RFC 7946): a Polygon or MultiPolygon, or a Feature, FeatureCollection or GeometryCollection of
            some, whose union is taken; or, with the extra `vector`, a GeoPackage, a shapefile (zipped, too)
            or KML.

    Raises:
        InputError: The file is missing, of no such kind, not polygonal, empty, or not in degrees.
    """
    source = str(location)
    content = read_area_file(source)
    if isinstance(content, list):
        kinds = [part.geom_type for part in content if part.geom_type not in POLYGONAL]
        return _unite(_keep_areas(content), kinds, source)
    try:
        document = json.loads(content.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:  # JSON's and Unicode's errors alike
        raise InputError(f"the AOI file {source} is not JSON ({error}); save the area as GeoJSON") from error
    return parse_aoi(document, source)


def parse_aoi(document: Any, source: str = "the AOI") -> Aoi:
    """An area of interest from GeoJSON as Python objects; see `read_aoi`.

    Args:
        document: What `json.loads` makes of a GeoJSON file.
        source: What to call it in an error.
    """
    _check_crs(document, source)
    try:
        geometries = _find_geometries(document, source)
    except RecursionError as error:
        raise InputError(f"{source} is nested too deep; save the area as plain polygons") from error
    areas = [geometry for geometry in geometries if geometry["type"] in POLYGONAL]
    strays = [str(geometry["type"])[:40] for geometry in geometries if geometry["type"] not in POLYGONAL]
    return _unite([_read_polygons(geometry, source) for geometry in areas], strays, source)


def _keep_areas(geometries: Sequence[BaseGeometry]) -> list[BaseGeometry]:
    return [part for part in geometries if part.geom_type in POLYGONAL]


def _unite(parts: list[BaseGeometry], strays: Sequence[str], source: str) -> Aoi:
    """The union of polygonal geometries, repaired; what lies beside them is left out with a warning.

    Args:
        parts: Polygons and multipolygons, in degrees.
        strays: Kinds of the other geometries.
        source: What to call them in an error.
    """
    if strays and not parts:
        raise InputError(
            f"{source} holds a {strays[0]}, and an area needs polygons; draw one around the fields you want"
        )
    empty = sum(part.is_empty for part in parts)
    if empty == len(parts):
        raise InputError(f"{source} holds no polygon with an area; draw one around the fields you want")
    warnings = []
    if strays or empty:
        counts = Counter(strays) + Counter({"empty geometry": empty})
        left_out = " and ".join(f"{count} x {kind}" for kind, count in counts.items())
        warnings.append(f"{source} holds more than polygons: {left_out} left out")
    polygons = [polygon for part in parts for polygon in shapely.get_parts(part) if not polygon.is_empty]
    turned = [_turn_short_way(polygon) for polygon in polygons]
    across = turned != polygons
    if across:
        polygons = turned
        warnings.append(
            f"{source} has edges over more than half the globe and was read as crossing the antimeridian"
        )
    polygons, simplified = _simplify(polygons, source)
    warnings += simplified
    if not all(polygon.is_valid for polygon in polygons):
        polygons = [shapely.make_valid(one, method="structure", keep_collapsed=False) for one in polygons]
        warnings.append(f"{source} crosses itself and was repaired; check its outline")
    area = shapely.union_all(polygons)
    if area.is_empty or area.area == 0:
        raise InputError(f"{source} has no area; draw a polygon around the fields you want")
    if across:
        area = cut_at_antimeridian(area)
    west, south, east, north = area.bounds
    if west < -180 or east > 180 or south < -90 or north > 90:
        raise InputError(
            f"{source} reaches from ({west:g}, {south:g}) to ({east:g}, {north:g}), outside +-180 and +-90 "
            "degrees; GeoJSON has longitude before latitude, in degrees (WGS 84): reproject it to EPSG:4326"
        )
    return Aoi(area, tuple(warnings))


def _simplify(polygons: list[BaseGeometry], source: str) -> tuple[list[BaseGeometry], list[str]]:
    """Polygons with at most `MAX_VERTICES` vertices together, and a warning where some were left out.

    Raises:
        InputError: They have more, however they are simplified.
    """
    count = int(shapely.get_num_coordinates(polygons).sum())
    if count <= MAX_VERTICES:
        return polygons, []
    simple = [polygon.simplify(SIMPLIFIED_BY, preserve_topology=False) for polygon in polygons]
    simple = [part for polygon in simple for part in shapely.get_parts(polygon) if not part.is_empty]
    left = int(shapely.get_num_coordinates(simple).sum()) if simple else 0
    if not 0 < left <= MAX_VERTICES:
        raise InputError(
            f"{source} has {count} vertices, and {left} where it is simplified by a metre, {MAX_VERTICES} "
            "at most are read; simplify its outline"
        )
    return simple, [f"{source} has {count} vertices and was simplified to {left}, by a metre at most"]


def _check_crs(document: Any, source: str) -> None:
    """Refuse the outdated `crs` member where it names anything but longitude and latitude."""
    crs = document.get("crs") if isinstance(document, dict) else None
    properties = crs.get("properties") if isinstance(crs, dict) else None
    name = crs if isinstance(crs, str) else ""
    if isinstance(properties, dict):
        code = properties.get("code")
        name = str(properties.get("name") or (f"EPSG:{code}" if code else ""))
    if name and not _WGS84.search(name.strip()):
        raise InputError(
            f"{source} is in {name}; GeoJSON has longitude and latitude (WGS 84): reproject it to EPSG:4326"
        )


def _find_geometries(document: Any, source: str) -> list[dict[str, Any]]:
    """All geometry objects of a GeoJSON document."""
    kind = document.get("type") if isinstance(document, dict) else None
    if kind == "FeatureCollection":
        members = document.get("features")
    elif kind == "GeometryCollection":
        members = document.get("geometries")
    elif kind == "Feature":
        members = [document.get("geometry")]
    elif isinstance(kind, str):
        return [document]
    else:
        raise InputError(f"{source} is JSON but no GeoJSON (it has no type); save the area as GeoJSON")
    members = members if isinstance(members, list) else []
    return [found for member in members if member is not None for found in _find_geometries(member, source)]


def _read_polygons(geometry: dict[str, Any], source: str) -> BaseGeometry:
    """One geometry object as a polygonal geometry."""
    kind = geometry["type"]
    try:
        with np.errstate(invalid="ignore"):  # of NaN, which is refused below
            made = shapely.force_2d(shape(geometry))
    except (
        ValueError,
        TypeError,
        KeyError,
        IndexError,
        AttributeError,
        OverflowError,
        shapely.errors.ShapelyError,
    ) as error:
        raise InputError(f"{source} has a {kind} with broken coordinates ({error}); save it again") from error
    if not np.isfinite(shapely.get_coordinates(made)).all():
        raise InputError(f"{source} has a {kind} with coordinates that are no numbers; save it again")
    return made

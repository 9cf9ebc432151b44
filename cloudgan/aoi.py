"""An area of interest: GeoJSON to a geometry, and the geometry to a window of a pixel lattice."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from pyproj import Transformer
from rasterio.features import geometry_mask
from shapely.geometry import shape
from shapely.geometry.base import BaseGeometry

from cloudgan.errors import InputError
from cloudgan.grid import Grid, Lattice, Window


@dataclass(frozen=True, slots=True)
class Aoi:
    """An area of interest."""

    geometry: BaseGeometry
    """Polygon or MultiPolygon, longitude and latitude in degrees (WGS 84)."""
    notices: tuple[str, ...] = ()
    """What was mended on reading."""

    @property
    def epsg(self) -> int:
        """EPSG code of the UTM zone in which its centroid lies."""
        point = self.geometry.centroid
        return utm_epsg(point.x, point.y)

    def window(self, lattice: Lattice) -> Window:
        """The pixels of its bounding box in the lattice's CRS."""
        return lattice.covering(*self._projected(lattice.epsg).bounds)

    def outside(self, grid: Grid) -> NDArray[Any]:
        """Which pixels of a grid have their centre outside, bool of shape (height, width)."""
        area = self._projected(grid.epsg)
        mask: NDArray[Any] = geometry_mask([area], grid.shape, grid.transform)
        return mask

    def _projected(self, epsg: int) -> BaseGeometry:
        # A straight edge in degrees is a curve in metres: a vertex each hundredth of a degree follows it.
        project: Any = Transformer.from_crs(4326, epsg, always_xy=True).transform
        return shapely.transform(shapely.segmentize(self.geometry, 0.01), project, interleaved=False)


def utm_epsg(lon: float, lat: float) -> int:
    """EPSG code of the UTM zone of a place, with the exceptions of the MGRS around Norway and Svalbard."""
    zone = min(int((lon + 180) // 6) + 1, 60)
    if 56 <= lat < 64 and 3 <= lon < 12:
        zone = 32
    elif lat >= 72 and 0 <= lon < 42:
        zone = 31 if lon < 9 else 33 if lon < 21 else 35 if lon < 33 else 37
    return (32600 if lat >= 0 else 32700) + zone


def read_aoi(path: str | Path) -> Aoi:
    """Read an area of interest.

    Args:
        path: A GeoJSON file (RFC 7946): a Polygon or MultiPolygon, or a Feature, FeatureCollection or
            GeometryCollection of some, whose union is taken.

    Raises:
        InputError: The file is missing, no GeoJSON, not polygonal, empty, or not in degrees.
    """
    path = Path(path)
    try:
        document = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise InputError(
            f"the AOI file {path} cannot be read ({error.strerror}); give the path of a GeoJSON file"
        ) from error
    except (ValueError, RecursionError) as error:  # JSON's and Unicode's errors alike
        raise InputError(f"the AOI file {path} is not JSON ({error}); save the area as GeoJSON") from error
    return parse_aoi(document, str(path))


def parse_aoi(document: Any, source: str = "the AOI") -> Aoi:
    """An area of interest from GeoJSON as Python objects; see `read_aoi`.

    Args:
        document: What `json.loads` makes of a GeoJSON file.
        source: What to call it in an error.
    """
    _check_crs(document, source)
    try:
        geometries = _geometries(document, source)
    except RecursionError as error:
        raise InputError(f"{source} is nested too deep; save the area as plain polygons") from error
    parts = [_polygons(geometry, source) for geometry in geometries]
    parts = [part for part in parts if not part.is_empty]
    if not parts:
        raise InputError(f"{source} holds no polygon with an area; draw one around the fields you want")
    notices = []
    if not all(part.is_valid for part in parts):
        parts = [shapely.make_valid(part, method="structure", keep_collapsed=False) for part in parts]
        notices.append(f"{source} crosses itself and was repaired; check its outline")
    area = shapely.union_all(parts)
    if area.is_empty or area.area == 0:
        raise InputError(f"{source} has no area; draw a polygon around the fields you want")
    west, south, east, north = area.bounds
    if west < -180 or east > 180 or south < -90 or north > 90:
        raise InputError(
            f"{source} reaches from ({west:g}, {south:g}) to ({east:g}, {north:g}), outside +-180 and +-90 "
            "degrees; GeoJSON has longitude before latitude, in degrees (WGS 84): reproject it to EPSG:4326"
        )
    return Aoi(area, tuple(notices))


def _check_crs(document: Any, source: str) -> None:
    """Refuse the outdated `crs` member where it names anything but longitude and latitude."""
    crs = document.get("crs") if isinstance(document, dict) else None
    properties = crs.get("properties") if isinstance(crs, dict) else None
    name = str(properties.get("name", "")) if isinstance(properties, dict) else ""
    if name and not name.upper().endswith(("CRS84", ":4326")):
        raise InputError(
            f"{source} is in {name}; GeoJSON has longitude and latitude (WGS 84): reproject it to EPSG:4326"
        )


def _geometries(document: Any, source: str) -> list[dict[str, Any]]:
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
    return [found for member in members if member is not None for found in _geometries(member, source)]


def _polygons(geometry: dict[str, Any], source: str) -> BaseGeometry:
    """One geometry object as a polygonal geometry."""
    kind = geometry["type"]
    if kind not in ("Polygon", "MultiPolygon"):
        raise InputError(
            f"{source} holds a {kind}, and an area needs polygons; draw one around the fields you want"
        )
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

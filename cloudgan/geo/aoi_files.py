"""Files of areas of interest, wherever they lie: on disk, in buckets, on the web, on standard input."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import requests
import shapely
from pyproj import CRS, Transformer
from pyproj.exceptions import CRSError

from cloudgan.errors import InputError
from cloudgan.object_stores import explain_error, is_object_store, normalise_location, read_bytes

if TYPE_CHECKING:
    from shapely.geometry.base import BaseGeometry

STDIN = "-"
"""Names standard input."""
POLYGONAL = ("Polygon", "MultiPolygon")
"""Kinds of geometry that have an area."""
MAX_BYTES = 256 << 20
"""Of an area's file."""
_TIMEOUT = (10.0, 60.0)  # seconds to connect, and to wait for the next bytes
_SUFFIXES = (".gpkg", ".shp", ".shz", ".zip", ".kml", ".kmz", ".fgb", ".gml")
_FIRST_BYTES = (b"SQLite format 3", b"PK\x03\x04", b"\x00\x00\x27\x0a")
_STEP = 1000.0  # metres: an edge that is straight in a projection is a curve in degrees


def read_area_file(location: str) -> bytes | list[BaseGeometry]:
    """What the file of an area holds.

    Args:
        location: A path, a `file:`, http(s), s3, gs or az address, or `-` for standard input.

    Returns:
        The bytes of a file that may be GeoJSON; or the geometries of a GeoPackage, a shapefile, KML and the
        like in longitude and latitude.

    Raises:
        InputError: It cannot be read, is too large, or does not say its CRS.
    """
    location = normalise_location(location)
    if location != STDIN and not is_object_store(location):
        path = Path(location)
        content = _read_path(path)
        # By its path: a shapefile has its other files beside it.
        return _read_vectors(str(path.resolve()), location) if _is_vector(location, content) else content
    content = _read_remote(location)
    return _read_vectors(content, location) if _is_vector(location, content) else content


def _is_vector(location: str, content: bytes) -> bool:
    name = location.partition("?")[0].lower()
    kml = location == STDIN and b"<kml" in content[:1000]
    return name.endswith(_SUFFIXES) or content.startswith(_FIRST_BYTES) or kml


def _read_path(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return _bounded(file.read(MAX_BYTES + 1), str(path))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(
            f"the AOI file {path} cannot be read ({reason}); give the path of a GeoJSON file"
        ) from error


def _read_remote(location: str) -> bytes:
    if location == STDIN:
        return _bounded(sys.stdin.buffer.read(MAX_BYTES + 1), "standard input")
    if not location.lower().startswith(("http://", "https://")):
        try:
            return read_bytes(location, MAX_BYTES)
        except FileNotFoundError as error:
            raise InputError(f"there is no AOI file at {location}; check the address") from error
    try:
        with requests.get(location, timeout=_TIMEOUT, stream=True) as answer:
            answer.raise_for_status()
            content = b""
            for piece in answer.iter_content(1 << 20):
                content = _bounded(content + piece, location)
            return content
    except (OSError, ValueError) as error:  # requests' own errors are among them
        raise InputError(
            f"the AOI file {location} cannot be read ({explain_error(error)}); check the address"
        ) from error


def _bounded(content: bytes, source: str) -> bytes:
    if len(content) > MAX_BYTES:
        raise InputError(f"the AOI {source} is larger than {MAX_BYTES >> 20} MiB; simplify its outline")
    return content


def _read_vectors(file: str | bytes, source: str) -> list[BaseGeometry]:
    """The geometries of a file that is no GeoJSON, in longitude and latitude."""
    try:
        import pyogrio
    except ImportError as error:
        raise InputError(
            f"{source} is no GeoJSON, and the package that reads it is not installed; "
            "pip install 'cloudgan[vector]', or save the area as GeoJSON"
        ) from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of layers without geometry, and of fields that are not read
            layers = [str(name) for name, kind in pyogrio.list_layers(file) if kind]
            read = {name: pyogrio.raw.read(file, layer=name, columns=[], force_2d=True) for name in layers}
    except (ValueError, RuntimeError, OSError) as error:  # pyogrio's own errors are among them
        raise InputError(
            f"the AOI {source} cannot be read ({explain_error(error)}); save it again, or as GeoJSON"
        ) from error
    found = {
        name: _to_degrees(meta, blobs, f"{source}, layer {name},")
        for name, (meta, _, blobs, _) in read.items()
    }
    areas = [name for name, parts in found.items() if any(part.geom_type in POLYGONAL for part in parts)]
    if len(areas) > 1 and not source.lower().endswith((".kml", ".kmz")):  # whose folders are layers
        raise InputError(
            f"{source} has several layers of polygons ({', '.join(areas[:6])}); save the one that is meant "
            f"by itself"
        )
    return [part for parts in found.values() for part in parts]


def _to_degrees(meta: dict[str, Any], blobs: Any, source: str) -> list[BaseGeometry]:
    """The geometries of a layer, from its CRS into longitude and latitude."""
    shapes = [shape for shape in shapely.from_wkb(blobs, on_invalid="ignore") if shape is not None]
    if not shapes:
        return []
    try:
        crs = CRS.from_user_input(meta["crs"])
    except (CRSError, TypeError) as error:
        raise InputError(
            f"{source} does not say its CRS; save it with one (a shapefile needs its .prj), or as GeoJSON"
        ) from error
    if crs.is_projected:
        step = _STEP / crs.axis_info[0].unit_conversion_factor
        shapes = [shapely.segmentize(shape, step) for shape in shapes]
    transform: Any = Transformer.from_crs(crs, 4326, always_xy=True).transform
    degrees: list[BaseGeometry] = list(
        shapely.transform(np.array(shapes, dtype=object), transform, interleaved=False)
    )
    return degrees

"""Where an item lies: the frame of its pixels, and its footprint in whatever spelling.

A footprint near the antimeridian is written in many ways: cut in two, with longitudes beyond 180, as a ring
that runs round the globe, or as a bounding box alone. The frame (CRS, transform, shape) has one spelling, and
decides.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import shapely
from affine import Affine
from pyproj import Transformer
from shapely.geometry import box

from cloudgan.geo.aoi import cut_at_antimeridian

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from shapely.geometry.base import BaseGeometry

    from cloudgan.stac.signing import Signing

_LEAST_SHARE = 0.5  # of a footprint that lies in its item's frame; else it is no guide
_LEAST_COMMON = 0.05  # of the smaller of footprint and frame; else they are of different places
_POINTS_OF_AN_EDGE = 8

Coefficients = tuple[float, float, float, float, float, float]
"""An affine transform in the order of `affine.Affine(*transform)`."""


@dataclass(frozen=True, slots=True)
class Frame:
    """Where an image's pixels lie."""

    epsg: int
    """EPSG code of its CRS."""
    shape: tuple[int, int]
    """Rows and columns."""
    transform: Coefficients
    """From (column, row) of the image to map coordinates of pixel corners."""

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """West, south, east and north in the CRS."""
        affine = Affine(*self.transform)
        (west, north), (east, south) = affine @ (0, 0), affine @ (self.shape[1], self.shape[0])
        return west, south, east, north


ReadFrame = Callable[[str, "Signing"], Frame | None]
"""Reads the frame of a file from its address; None where the file cannot be read, or is no image in a CRS."""


def locate(footprint: BaseGeometry | None, frame: Frame) -> tuple[BaseGeometry, bool]:
    """Where an item has data, in degrees, cut at the antimeridian.

    Args:
        footprint: As the item writes it; None where it has none.
        frame: Of its pixels.

    Returns:
        The footprint where most of it lies in the frame, else the frame's outline; and whether it is the
        footprint.
    """
    outline = _outline(frame)
    if footprint is not None:
        turned = unwrap(footprint, central_meridian(frame.epsg))
        if turned.area > 0 and turned.intersection(outline).area >= _LEAST_SHARE * turned.area:
            return cut_at_antimeridian(turned), True
    return cut_at_antimeridian(outline), False


def lies_elsewhere(footprint: BaseGeometry, frame: Frame) -> bool:
    """Whether a footprint and a frame are of different places."""
    outline = _outline(frame)
    turned = unwrap(footprint, central_meridian(frame.epsg))
    smaller: float = min(turned.area, outline.area)
    return smaller > 0 and turned.intersection(outline).area < _LEAST_COMMON * smaller


def locate_without_frame(footprint: BaseGeometry, epsg: int | None) -> BaseGeometry:
    """A footprint in degrees, cut at the antimeridian, read the short way round the globe."""
    start = shapely.get_coordinates(footprint)[:1, 0]
    middle = central_meridian(epsg) if epsg is not None else float(start[0]) if len(start) else 0.0
    return cut_at_antimeridian(unwrap(footprint, middle))


def unwrap(geometry: BaseGeometry, middle: float) -> BaseGeometry:
    """A geometry with its longitudes within half the globe of `middle`, valid; they may be beyond 180."""

    def turn(points: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.column_stack([(points[:, 0] - middle + 180) % 360 - 180 + middle, points[:, 1]])

    # Text from a file in three dimensions loses its heights here.
    with np.errstate(invalid="ignore"):  # of coordinates beyond all bounds
        turned: BaseGeometry = shapely.transform(shapely.force_2d(geometry), turn)
    return turned if turned.is_valid else shapely.make_valid(turned)


def central_meridian(epsg: int) -> float:
    """Longitude of the middle of a UTM zone, in degrees."""
    return float(epsg % 100 * 6 - 183)


@lru_cache(1024)
def _outline(frame: Frame) -> BaseGeometry:
    """A frame's outline in degrees, its longitudes within half the globe of its zone's middle."""
    edge = shapely.segmentize(box(*frame.bounds), max(np.ptp(frame.bounds[::2]), 1.0) / _POINTS_OF_AN_EDGE)
    to_degrees: Any = _transformer(frame.epsg).transform
    degrees = shapely.transform(edge, to_degrees, interleaved=False)
    if not np.isfinite(shapely.get_coordinates(degrees)).all():
        return box(0, 0, 0, 0)
    return unwrap(degrees, central_meridian(frame.epsg))


@lru_cache(128)
def _transformer(epsg: int) -> Transformer:
    return Transformer.from_crs(epsg, 4326, always_xy=True)

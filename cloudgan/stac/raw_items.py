"""STAC items as providers write them, and what every provider states of an item in some way."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import shapely
from shapely.geometry import box, shape

from cloudgan.errors import CatalogError
from cloudgan.sentinel2.dates import parse_timestamp
from cloudgan.stac.names import ProductNames, read_names
from cloudgan.stac.values import Json, iterate_objects, to_number

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Iterable, Iterator, Sequence

    from shapely.geometry.base import BaseGeometry

MAX_VERTICES = 10_000
"""Of a footprint: one with more is replaced by its hull or box, for everything about it takes its time."""
_BROKEN_GEOMETRY = (
    KeyError,
    TypeError,
    ValueError,
    AttributeError,
    IndexError,
    OverflowError,
    RecursionError,
    shapely.errors.ShapelyError,
)


@dataclass(frozen=True, slots=True)
class RawItem:
    """A STAC item as it was read, and where; only its outline is checked."""

    body: Json
    """The item's JSON."""
    base: str
    """The file or URL it was read from; relative hrefs count from here."""
    parent: str | None = None
    """Id of the collection that linked to it, for items that name none themselves."""
    names: ProductNames = field(init=False)
    """What its product's names tell."""

    def __post_init__(self) -> None:
        outline = (
            isinstance(self.body, dict)
            and isinstance(self.body.get("id"), str)
            and self.body["id"].isprintable()  # it is written to the store
            and isinstance(self.body.get("properties"), dict)
            and isinstance(self.body.get("assets"), dict)
        )
        if not outline:
            raise CatalogError(
                f"{self.base} holds a feature{_name_feature(self.body)} that is no STAC item (id, properties "
                "and assets are needed)"
            )
        hrefs = (str(asset.get("href")) for asset in iterate_objects(self.body["assets"].values()))
        object.__setattr__(self, "names", read_names(self.properties, self.id, hrefs))

    @property
    def id(self) -> str:
        """The item's id."""
        return str(self.body["id"])

    @property
    def properties(self) -> Json:
        """The item's properties."""
        properties: Json = self.body["properties"]
        return properties

    @property
    def collection(self) -> str | None:
        """Id of the item's collection."""
        named = self.body.get("collection")
        return named if isinstance(named, str) and named else self.parent

    @property
    def cloud_cover(self) -> float | None:
        """Cloudy share in percent; None where the item has no number."""
        return to_number(self.properties.get("eo:cloud_cover"))

    @property
    def href(self) -> str | None:
        """The item's own address by its link `self`; None of one on a disk, and without such a link."""
        links = iterate_objects(self.body.get("links") or ())
        found = (link.get("href") for link in links if link.get("rel") == "self")
        return next((one for one in found if isinstance(one, str) and "://" in one[:12]), None)

    def read_datetime(self) -> dt.datetime:
        """When it was taken, UTC.

        Raises:
            CatalogError: The item names no such instant.
        """
        text = self.properties.get("datetime") or self.properties.get("start_datetime")
        try:
            return parse_timestamp(str(text))
        except ValueError as err:
            raise CatalogError(f"item {self.id} has no usable datetime ({str(text)[:50]!r})") from err

    def read_geometry(self) -> BaseGeometry:
        """Its footprint as it is written, in longitude and latitude; its bounding box where it has none.

        A bounding box whose west is greater than its east crosses the antimeridian (RFC 7946), and is given
        with an east beyond 180.

        Raises:
            CatalogError: The item has neither.
        """
        geometry = self.body.get("geometry")
        try:
            with np.errstate(invalid="ignore"):  # of NaN, which is refused below
                area = shape(geometry) if geometry else _read_bbox(self.body["bbox"])
        except _BROKEN_GEOMETRY as err:
            raise CatalogError(f"item {self.id} has no usable geometry or bbox") from err
        points = shapely.get_coordinates(area)
        if not len(points) or not (np.abs(points) <= (540, 90)).all():  # NaN is not either
            raise CatalogError(f"item {self.id} has no geometry on Earth, in degrees")
        if len(points) <= MAX_VERTICES:
            return area
        hull = area.convex_hull
        return hull if shapely.get_num_coordinates(hull) <= MAX_VERTICES else area.envelope

    def find_epsg(self) -> int | None:
        """EPSG code of its CRS as the item states it, else of its MGRS tile's; None without either."""
        parts = (self.properties, *iterate_objects(self.body["assets"].values()))
        stated = next((code for code in map(_parse_epsg, parts) if code is not None), None)
        return self.tile_epsg if stated is None else stated

    @property
    def states_transform(self) -> bool:
        """Whether the item states a pixel grid, of whatever kind."""
        assets = iterate_objects(self.body["assets"].values())
        return any("proj:transform" in part for part in (self.properties, *assets))

    @property
    def tile_epsg(self) -> int | None:
        """EPSG code of the UTM zone of its MGRS tile; None where the tile is unknown."""
        tile = self.names.mgrs_tile
        if tile is None:
            return None
        return (32600 if tile[2] >= "N" else 32700) + int(tile[:2])  # latitude bands from N on are north


def read_items(
    features: Iterable[Json], base: str, parent: str | None = None
) -> Iterator[RawItem | CatalogError]:
    """The items among features that anyone may have written, and for each that is none the reason."""
    for body in features:
        try:
            yield RawItem(body, base, parent)
        except CatalogError as error:
            yield error


def is_utm(epsg: int | None) -> bool:
    """Whether an EPSG code is that of a UTM zone on WGS 84."""
    return epsg is not None and (32601 <= epsg <= 32660 or 32701 <= epsg <= 32760)


def _name_feature(body: object) -> str:
    """The id of a feature that may be anything, in brackets, to name it by."""
    named = body.get("id") if isinstance(body, dict) else None
    return f" ({named[:100]!r})" if isinstance(named, str) else ""


def _read_bbox(bbox: Sequence[float]) -> BaseGeometry:
    half = len(bbox) // 2  # a bbox with heights has six numbers
    west, south, east, north = bbox[0], bbox[1], bbox[half], bbox[half + 1]
    return box(west, south, east if west <= east else east + 360, north)


def _parse_epsg(fields: Json) -> int | None:
    """The EPSG code in `proj:code` (projection extension 2) or `proj:epsg` (1); None without either."""
    code = fields.get("proj:code") or fields.get("proj:epsg")
    found = re.fullmatch(r"(?:EPSG:)?(\d{1,6})", str(code)[:20], re.IGNORECASE | re.ASCII)
    return int(found[1]) if found else None

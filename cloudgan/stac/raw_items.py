"""STAC items as providers write them, and what every provider states of an item in some way."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import shapely
from shapely.geometry import box, shape

from cloudgan.errors import CatalogError
from cloudgan.sentinel2.dates import parse_timestamp
from cloudgan.stac.values import Json, iterate_objects, to_number

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Iterator, Sequence

    from shapely.geometry.base import BaseGeometry


@dataclass(frozen=True, slots=True)
class RawItem:
    """A STAC item as it was read, and where; only its outline is checked."""

    body: Json
    """The item's JSON."""
    base: str
    """The file or URL it was read from; relative hrefs count from here."""
    parent: str | None = None
    """Id of the collection that linked to it, for items that name none themselves."""

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
                f"{self.base} holds a feature that is no STAC item (id, properties and assets are needed): "
                "give a STAC API, catalogue or item collection"
            )

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

    def read_datetime(self) -> dt.datetime:
        """When it was taken, UTC.

        Raises:
            CatalogError: The item names no such instant.
        """
        text = self.properties.get("datetime") or self.properties.get("start_datetime")
        try:
            return parse_timestamp(str(text))
        except ValueError as err:
            raise CatalogError(f"item {self.id} has no usable datetime ({text!r}): leave it out") from err

    def read_footprint(self) -> BaseGeometry:
        """Where it has data, in longitude and latitude; its bounding box where it has no geometry.

        Raises:
            CatalogError: The item has neither.
        """
        try:
            geometry = self.body.get("geometry")
            area = shape(geometry) if geometry else box(*_bbox_2d(self.body["bbox"]))
        except (
            KeyError,
            TypeError,
            ValueError,
            AttributeError,
            IndexError,
            OverflowError,
            shapely.errors.ShapelyError,
        ) as err:
            raise CatalogError(f"item {self.id} has no usable geometry or bbox: leave it out") from err
        points = shapely.get_coordinates(area)
        if not len(points) or not (np.abs(points) <= (360, 90)).all():  # NaN is not either
            raise CatalogError(f"item {self.id} has no geometry on Earth, in degrees: leave it out")
        return area if area.is_valid else shapely.make_valid(area)

    def read_epsg(self) -> int:
        """EPSG code of the item's UTM zone: as it says, else from its MGRS tile.

        Raises:
            CatalogError: Neither is there, or the CRS is no UTM zone.
        """
        parts = (self.properties, *iterate_objects(self.body["assets"].values()))
        epsg = next((code for code in map(_parse_epsg, parts) if code is not None), None)
        if epsg is None:
            tile = self.find_mgrs_tile()
            if tile is None:
                raise CatalogError(
                    f"item {self.id} says neither its CRS (proj:code, proj:epsg) nor its MGRS tile: add one"
                )
            epsg = (32600 if tile[2] >= "N" else 32700) + int(tile[:2])  # latitude bands from N on are north
        if not (32601 <= epsg <= 32660 or 32701 <= epsg <= 32760):
            raise CatalogError(
                f"item {self.id} is in EPSG:{epsg}, and cloudgan reads UTM zones only: leave it out"
            )
        return epsg

    def find_mgrs_tile(self) -> str | None:
        """The item's MGRS tile with a two-digit zone (`05QKB`); None where neither properties nor id say."""
        props = self.properties
        parts = [props.get(f"mgrs:{name}") for name in ("utm_zone", "latitude_band", "grid_square")]
        named = (
            "".join(map(str, parts)) if all(parts) else props.get("s2:mgrs_tile") or props.get("grid:code")
        )
        for text in (named, self.id):
            found = re.search(r"(?:^|_|-|_T|^T)(\d{1,2}[C-HJ-NP-X][A-Z]{2})(?=_|$)", str(text))
            if found:
                return found[1].zfill(5)
        return None

    def iterate_names(self) -> Iterator[str]:
        """Ids and names of the product, from which platform, datatake and baseline can be read."""
        for name in ("s2:datatake_id", "s2:product_uri", "s2:granule_id", "s2:datastrip_id"):
            value = self.properties.get(name)
            if isinstance(value, str):
                yield value
        yield self.id


def _bbox_2d(bbox: Sequence[float]) -> tuple[float, float, float, float]:
    half = len(bbox) // 2  # a bbox with heights has six numbers
    return bbox[0], bbox[1], bbox[half], bbox[half + 1]


def _parse_epsg(fields: Json) -> int | None:
    """The EPSG code in `proj:code` (projection extension 2) or `proj:epsg` (1); None without either."""
    code = fields.get("proj:code") or fields.get("proj:epsg")
    found = re.fullmatch(r"(?:EPSG:)?(\d{1,6})", str(code), re.IGNORECASE | re.ASCII)
    return int(found[1]) if found else None

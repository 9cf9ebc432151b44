"""The place of an item: what it states, compared with itself, and what its file tells where it must."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from shapely.geometry import Polygon

from cloudgan.errors import CatalogError
from cloudgan.stac.assets import states_no_image
from cloudgan.stac.frames import Frame, lies_elsewhere, locate, locate_without_frame
from cloudgan.stac.raw_items import is_utm

if TYPE_CHECKING:
    from collections.abc import Mapping

    from shapely.geometry.base import BaseGeometry

    from cloudgan.stac.frames import ReadFrame
    from cloudgan.stac.items import Asset
    from cloudgan.stac.raw_items import RawItem
    from cloudgan.stac.signing import Signing
    from cloudgan.stac.values import Json

_NOWHERE = Polygon()


@dataclass(frozen=True, slots=True)
class Location:
    """Where an item lies."""

    epsg: int | None
    """EPSG code of its UTM zone; None where unknown."""
    footprint: BaseGeometry
    """Where it has data, in degrees, cut at the antimeridian; empty where unknown."""
    assets: Mapping[str, Asset]
    """Its files by band, with the frames that were read from them."""
    fault: str | None = None
    """Why it cannot be placed, in one sentence; None where it can."""
    warnings: tuple[str, ...] = ()
    """What was read from a file, and why."""


def locate_item(
    raw: RawItem,
    files: Mapping[str, Json],
    assets: Mapping[str, Asset],
    signing: Signing,
    read_frame: ReadFrame | None,
) -> Location:
    """Where an item lies: by what it states, or by its file where it states nothing, or nonsense.

    Args:
        raw: The item.
        files: The JSON of its files by band.
        assets: The same files as plain data.
        signing: How their addresses become readable.
        read_frame: Reads a file's frame; None to do without.
    """
    search = _Search(raw, dict(assets), signing, read_frame)
    try:
        geometry, broken = raw.read_geometry(), None
    except CatalogError as error:
        geometry, broken = None, str(error)
    for band in assets:
        search.mend_frame(band, files[band])
    epsg = search.find_epsg()
    if epsg is None:
        footprint = _NOWHERE if geometry is None else locate_without_frame(geometry, None)
        return Location(None, footprint, search.assets, search.fault, tuple(search.warnings))
    frame = search.find_frame(epsg, geometry)
    if frame is not None:
        epsg = frame.epsg
        footprint, _ = locate(geometry, frame)
    elif geometry is not None:
        footprint = locate_without_frame(geometry, epsg)
    else:
        footprint = _NOWHERE
        search.fault = search.fault or broken
    return Location(epsg, footprint, search.assets, search.fault, tuple(search.warnings))


@dataclass
class _Search:
    """What is found out about one item, step by step; a file is opened once at most."""

    raw: RawItem
    assets: dict[str, Asset]
    signing: Signing
    read_frame: ReadFrame | None
    fault: str | None = None
    warnings: list[str] = field(default_factory=list)
    _read: dict[str, Frame | None] = field(default_factory=dict)

    def mend_frame(self, band: str, body: Json) -> None:
        """Take a file's frame from the file where the item states one that no image has."""
        nonsense = states_no_image(self.raw, body)
        if nonsense is None:
            return
        if (frame := self._open(band)) is not None:
            self._warn("proj:transform or proj:shape is of no image: read from the file")
            self._set_frame(band, frame)
        elif self.fault is None:
            self.fault = (
                f"item {self.raw.id} states a frame for band {band} that no image has ({nonsense}), and its "
                "file does not tell"
            )

    def find_epsg(self) -> int | None:
        """The zone that the item states; its file's where it states none, or one that is not its tile's."""
        stated, tile = self.raw.find_epsg(), self.raw.tile_epsg
        if is_utm(stated) and stated == (tile or stated):
            return stated
        frame = self._open_any()
        if frame is not None and is_utm(frame.epsg):
            if frame.epsg != stated:
                said = "no CRS" if stated is None else f"EPSG:{stated}"
                self._warn(f"the item states {said}: EPSG:{frame.epsg} read from the file")
            return frame.epsg
        if is_utm(stated):
            return stated
        self.fault = self.fault or (
            f"item {self.raw.id} says neither its CRS (proj:code, proj:epsg) nor its MGRS tile"
            if stated is None
            else f"item {self.raw.id} is in EPSG:{stated}, and cloudgan reads UTM zones only"
        )
        return None

    def find_frame(self, epsg: int, geometry: BaseGeometry | None) -> Frame | None:
        """The frame of the item's first file: as stated, unless it lies elsewhere than the footprint."""
        band = next(iter(self.assets), None)
        if band is None:
            return None
        asset = self.assets[band]
        if asset.shape and asset.transform:
            stated = Frame(epsg, asset.shape, asset.transform)
            if geometry is None or not lies_elsewhere(geometry, stated):
                return stated
            frame = self._open(band)
            if frame is not None and frame != stated and is_utm(frame.epsg):
                self._warn("the frame lies outside the footprint: read from the file")
                for each in self.assets:
                    if (own := self._open(each)) is not None:
                        self._set_frame(each, own)
                return frame
            return stated
        frame = self._open(band)
        if frame is not None and frame.epsg != epsg:
            self.fault = self.fault or (
                f"item {self.raw.id} states EPSG:{epsg}, and its file for band {band} is in EPSG:{frame.epsg}"
            )
        if frame is None or frame.epsg != epsg:
            return None
        self._set_frame(band, frame)
        return frame

    def _warn(self, text: str) -> None:
        if text not in self.warnings:
            self.warnings.append(text)

    def _set_frame(self, band: str, frame: Frame) -> None:
        self.assets[band] = replace(self.assets[band], shape=frame.shape, transform=frame.transform)

    def _open(self, band: str) -> Frame | None:
        href = self.assets[band].href
        if href not in self._read:
            self._read[href] = self.read_frame(href, self.signing) if self.read_frame else None
        return self._read[href]

    def _open_any(self) -> Frame | None:
        return next((frame for frame in map(self._open, self.assets) if frame is not None), None)

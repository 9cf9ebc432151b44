"""Items as a run carries them: plain data, small and picklable."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import shapely

from cloudgan.errors import CatalogError
from cloudgan.sentinel2.dates import solar_day
from cloudgan.sentinel2.offset import OffsetBasis
from cloudgan.stac.properties import parse_baseline

if TYPE_CHECKING:
    import datetime as dt

    from shapely.geometry.base import BaseGeometry

    from cloudgan.sentinel2.offset import Baseline
    from cloudgan.stac.signing import Signing


@dataclass(frozen=True, slots=True)
class Asset:
    """One band's file of an item."""

    band: str
    """Common name: `green`, `red`, `nir`, `scl`..."""
    href: str
    """Absolute path or URL, unsigned."""
    shape: tuple[int, int] | None
    """Rows and columns (`proj:shape`); None where the item does not say."""
    transform: tuple[float, float, float, float, float, float] | None
    """`proj:transform`, in the order of `affine.Affine(*transform)`; None where the item does not say."""


@dataclass(frozen=True, slots=True)
class Granule:
    """What tells one item from others: its time, its place and the names of its product."""

    id: str
    """The item's id."""
    collection: str | None
    """Id of its collection; None where the item names none."""
    datetime: dt.datetime
    """When it was taken, UTC."""
    epsg: int
    """EPSG code of its UTM zone; 0 where unknown, of an item that cannot be used."""
    footprint: str
    """Where it has data: WKT in longitude and latitude, to a millionth of a degree, cut at the
    antimeridian."""
    processing_baseline: str | None
    """ESA's processing baseline, such as `05.09`; None where unknown."""
    sequence: int
    """Number among the granules that the provider has of this tile and day; later ones are higher."""
    generated: dt.datetime | None
    """When ESA made the product, UTC; None where unknown."""
    cloud_cover: float | None
    """Cloudy share of the granule in percent; None where the item does not say."""
    mgrs_tile: str | None
    """MGRS tile such as `33TWM`; None where unknown."""
    datatake: str | None
    """Satellite and start of the datatake (`S2A_20230815T095031`), or satellite and day; or unknown."""
    datastrip: dt.datetime | None
    """When its datastrip began, UTC; None where unknown."""

    @property
    def solar_day(self) -> dt.date:
        """The date of the overpass at its UTM zone."""
        return solar_day(self.datetime, self.epsg)

    @property
    def geometry(self) -> BaseGeometry:
        """The footprint as a geometry, in longitude and latitude."""
        return shapely.from_wkt(self.footprint)

    @property
    def baseline(self) -> Baseline:
        """The processing baseline as numbers that sort; (0, 0) where unknown."""
        return parse_baseline(self.processing_baseline) or (0, 0)


@dataclass(frozen=True, slots=True)
class SourceItem(Granule):
    """One STAC item, cut down to what a run needs: plain data, small and picklable."""

    assets: tuple[Asset, ...]
    """The requested bands, in the order of the request, and the scene classification."""
    offset: int
    """DN to subtract from the reflectance bands: see `cloudgan.sentinel2.offset`."""
    signing: Signing
    """How the hrefs become readable."""
    offset_basis: OffsetBasis = OffsetBasis.AGREED
    """How far the item's metadata can be trusted about the offset."""
    href: str | None = field(default=None, compare=False)
    """Address of the item itself, on the web or in an object store; None where it says none."""

    def asset(self, band: str) -> Asset:
        """The file of a band.

        Raises:
            CatalogError: The band was not asked for when the item was read.
        """
        for asset in self.assets:
            if asset.band == band:
                return asset
        raise CatalogError(f"item {self.id} was read without band {band}")

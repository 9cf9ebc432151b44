"""STAC items as providers write them, read into the little that a run needs."""

from __future__ import annotations

import datetime as dt
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urljoin, urlsplit, urlunsplit

import numpy as np
import shapely
from shapely.geometry import box, shape

from cloudgan.errors import CatalogError
from cloudgan.sentinel2.dates import parse_timestamp, solar_day
from cloudgan.sentinel2.offset import Baseline, Claims, decide_offset
from cloudgan.stac.signing import Signing

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from shapely.geometry.base import BaseGeometry

Json = dict[str, Any]

SCL = "scl"
"""The band name of ESA's scene classification."""

# Common names (STAC eo extension) of the L2A bands, and ESA's names for them. Earth Search names assets by
# the first, the Planetary Computer by the second, Copernicus by the second and the resolution (B04_10m).
_ESA_NAMES = {
    "coastal": "B01",
    "blue": "B02",
    "green": "B03",
    "red": "B04",
    "rededge1": "B05",
    "rededge2": "B06",
    "rededge3": "B07",
    "nir": "B08",
    "nir08": "B8A",
    "nir09": "B09",
    "swir16": "B11",
    "swir22": "B12",
    SCL: "SCL",
}
_REMOTE_SCHEMES = ("https", "http", "s3", "gs", "az")
_REMOTE_VSI = re.compile(r"/vsi(s3|gs|az|curl/https?:/)/")
_MAX_EDGE = 1_000_000  # pixels; a granule has 10,980
_PLANETARY_HOST = "planetarycomputer.microsoft.com"
_PLANETARY_STORAGE = "sentinel2l2a01.blob.core.windows.net"


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
class SourceItem:
    """One STAC item, cut down to what a run needs: plain data, small and picklable."""

    id: str
    """The item's id."""
    collection: str | None
    """Id of its collection; None where the item names none."""
    datetime: dt.datetime
    """When it was taken, UTC."""
    epsg: int
    """EPSG code of its UTM zone."""
    footprint: str
    """Where it has data: WKT in longitude and latitude, to a millionth of a degree."""
    assets: tuple[Asset, ...]
    """The requested bands, in the order of the request, and the scene classification."""
    offset: int
    """DN to subtract from the reflectance bands: see `cloudgan.sentinel2.offset`."""
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
    signing: Signing
    """How the hrefs become readable."""

    @property
    def solar_day(self) -> dt.date:
        """The date of the overpass on the ground."""
        return solar_day(self.datetime, self.epsg)

    @property
    def geometry(self) -> BaseGeometry:
        """The footprint as a geometry, in longitude and latitude."""
        return shapely.from_wkt(self.footprint)

    @property
    def baseline(self) -> Baseline:
        """The processing baseline as numbers that sort; (0, 0) where unknown."""
        return _parse_baseline(self.processing_baseline) or (0, 0)

    def asset(self, band: str) -> Asset:
        """The file of a band.

        Raises:
            CatalogError: The band was not asked for when the item was read.
        """
        for asset in self.assets:
            if asset.band == band:
                return asset
        raise CatalogError(f"item {self.id} was read without band {band}")


@dataclass(frozen=True, slots=True)
class RawItem:
    """A STAC item as it was read, and where; checked only as far as its outline."""

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
        value = self.properties.get("eo:cloud_cover")
        return _number(value)

    def instant(self) -> dt.datetime:
        """When it was taken, UTC.

        Raises:
            CatalogError: The item names no such instant.
        """
        text = self.properties.get("datetime") or self.properties.get("start_datetime")
        try:
            return parse_timestamp(str(text))
        except ValueError as err:
            raise CatalogError(f"item {self.id} has no usable datetime ({text!r}): leave it out") from err

    def footprint(self) -> BaseGeometry:
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

    def epsg(self) -> int:
        """EPSG code of the item's UTM zone: as it says, else from its MGRS tile.

        Raises:
            CatalogError: Neither is there, or the CRS is no UTM zone.
        """
        stated = [_stated_epsg(part) for part in (self.properties, *_dicts(self.body["assets"].values()))]
        epsg = next((code for code in stated if code is not None), None)
        if epsg is None:
            tile = self.mgrs_tile()
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

    def mgrs_tile(self) -> str | None:
        """The item's MGRS tile with a two-digit zone (`05QKB`); None where neither properties nor id tell."""
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

    def texts(self) -> Iterator[str]:
        """Ids and names of the product, from which platform, datatake and baseline can be read."""
        for name in ("s2:datatake_id", "s2:product_uri", "s2:granule_id", "s2:datastrip_id"):
            value = self.properties.get(name)
            if isinstance(value, str):
                yield value
        yield self.id


def read_item(raw: RawItem, bands: Sequence[str]) -> tuple[SourceItem, tuple[str, ...]]:
    """What a run needs of an item, and notices about what it says in two ways or not at all.

    Args:
        raw: The item.
        bands: Common names of the bands; the scene classification is added.

    Raises:
        CatalogError: The item lacks a band, its CRS, its datetime, its footprint, or everything that tells
            its BOA offset.
    """
    planetary = is_planetary_computer(raw)
    assets = {band: _find_asset(raw, band) for band in (*bands, *([] if SCL in bands else [SCL]))}
    baseline = _baseline(raw)
    decision = decide_offset(
        Claims(
            baseline=_parse_baseline(baseline),
            collection=raw.collection,
            applied=_offset_applied(raw.properties),
            declared=_declared_offset(raw.id, {band: body for band, body in assets.items() if band != SCL}),
            planetary_computer=planetary,
        )
    )
    if decision is None:
        raise CatalogError(
            f"item {raw.id} does not tell its BOA offset: add s2:processing_baseline or a raster:bands offset"
        )
    instant = raw.instant()
    item = SourceItem(
        id=raw.id,
        collection=raw.collection,
        datetime=instant,
        epsg=raw.epsg(),
        footprint=shapely.to_wkt(raw.footprint(), rounding_precision=6),
        assets=tuple(_read_asset(raw, band, body, planetary) for band, body in assets.items()),
        offset=decision.offset,
        processing_baseline=baseline,
        sequence=_sequence(raw),
        generated=_timestamp(raw.properties.get("s2:generation_time") or raw.properties.get("created")),
        cloud_cover=raw.cloud_cover,
        mgrs_tile=raw.mgrs_tile(),
        datatake=_datatake(raw, instant),
        datastrip=_datastrip_start(raw),
        signing=Signing.PLANETARY_COMPUTER if planetary else Signing.NONE,
    )
    warnings = [decision.notice] if decision.notice else []
    if item.cloud_cover is None:
        warnings.append("no eo:cloud_cover: kept, whatever the limit")
    return item, tuple(warnings)


def is_planetary_computer(raw: RawItem) -> bool:
    """Whether an item comes from the Planetary Computer, be it straight or out of a saved search."""
    links = [str(link.get("href")) for link in _dicts(raw.body.get("links") or ())]
    storage = (str(asset.get("href")) for asset in _dicts(raw.body["assets"].values()))
    return _PLANETARY_HOST in map(_host, (raw.base, *links)) or _PLANETARY_STORAGE in map(_host, storage)


def _host(href: str) -> str | None:
    try:
        return urlsplit(href).hostname
    except ValueError:  # no address: whoever reads it says so
        return None


def absolute_href(href: str, base: str) -> str:
    """`href` as an absolute URL or path, seen from the file or URL `base`; `file:` URLs become paths.

    Only catalogues in local files may name local files, and none may name what GDAL takes for more than an
    address (`MEM:`, `VRT:`, `/vsizip/`...): whoever writes a catalogue must not choose what is read here.

    Raises:
        CatalogError: `href` is no address that `base` may name.
    """
    try:
        if not href.isprintable():
            raise ValueError("control characters or halves of them")
        parts = urlsplit(href)
    except ValueError as err:
        raise CatalogError(f"{base} has a broken address {href[:100]!r}: mend it or leave it out") from err
    if parts.scheme == "file" and "://" not in base:
        return unquote(parts.path)
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+:", href):
        if parts.scheme.lower() not in _REMOTE_SCHEMES:
            raise CatalogError(
                f"{base} leads to {href[:100]!r}: only a catalogue on this machine may name files on it, and "
                f"others {', '.join(_REMOTE_SCHEMES)} addresses"
            )
        return href
    if href.startswith("/vsi") and not _REMOTE_VSI.match(href):
        raise CatalogError(f"{base} leads to {href[:100]!r}: give a plain path or address")
    if href.startswith("/vsi"):
        return href
    if is_url(base):
        return urljoin(base, href)
    if is_object(base):  # urljoin knows nothing of their schemes, and joins paths as the web does
        scheme, _, rest = base.partition("://")
        return f"{scheme}://{urljoin(f'http://{rest}', href).removeprefix('http://')}"
    return str(Path(base).resolve().parent.joinpath(href).resolve())


def is_url(text: str) -> bool:
    """Whether `text` is an address on the web."""
    return text.lower().startswith(("http://", "https://"))


def is_object(text: str) -> bool:
    """Whether `text` is an address in an object store."""
    return text.lower().startswith(("s3://", "gs://", "az://"))


# Assets


def _find_asset(raw: RawItem, band: str) -> Json:
    """The JSON of the file that holds `band`, by asset key, else by the common name in its band metadata."""
    assets = {
        key: asset
        for key, asset in raw.body["assets"].items()
        if isinstance(asset, dict) and asset.get("href")
    }
    esa = _ESA_NAMES.get(band)
    for key in (band, esa):
        if key in assets:
            return assets[key]
    by_key = [key for key in assets if esa and re.fullmatch(rf"{esa}_\d+m", key)]
    by_name = [key for key, asset in assets.items() if _common_names(asset) == [band]]
    if by_key or by_name:
        return assets[min(by_key or by_name, key=lambda key: (*_fineness(assets[key]), key))]
    raise CatalogError(
        f"item {raw.id} has no band {band} (it has {', '.join(sorted(assets)) or 'no assets'}): "
        "choose another --collection, or a model that does without"
    )


def _common_names(asset: Json) -> list[str]:
    """The common names of the bands in a file; `bands` is STAC 1.1's spelling, `eo:bands` the one before."""
    bands = _dicts(asset.get("bands") or asset.get("eo:bands") or ())
    return [str(band.get("eo:common_name") or band.get("common_name") or "") for band in bands]


def _fineness(asset: Json) -> tuple[bool, float]:
    """Sorts the files of one band: cloud-optimised GeoTIFF first, then the finest pixels."""
    gsd = asset.get("gsd")
    return "tif" not in str(asset.get("type", asset["href"])), float(gsd) if isinstance(
        gsd, int | float
    ) else math.inf


def _read_asset(raw: RawItem, band: str, body: Json, planetary: bool) -> Asset:
    href = absolute_href(str(body["href"]), raw.base)
    if planetary:
        # A saved search may hold signatures, long expired: they are made anew when the asset is read.
        href = urlunsplit(urlsplit(href)._replace(query="", fragment=""))
    rows_cols = _numbers(body.get("proj:shape") or raw.properties.get("proj:shape"), 2)
    affine = _numbers(body.get("proj:transform") or raw.properties.get("proj:transform"), 6)
    absurd = rows_cols and not all(1 <= edge <= _MAX_EDGE for edge in rows_cols)
    if absurd or (affine and not _is_frame(affine)):
        raise CatalogError(
            f"item {raw.id} states a frame for band {band} that no image has (proj:shape "
            f"{str(rows_cols)[:60]}, proj:transform {str(affine)[:120]}): leave it out"
        )
    return Asset(
        band,
        href,
        (int(rows_cols[0]), int(rows_cols[1])) if rows_cols else None,
        (affine[0], affine[1], affine[2], affine[3], affine[4], affine[5]) if affine else None,
    )


def _is_frame(affine: Sequence[float]) -> bool:
    """Whether a transform is north up and maps pixels to places on Earth, in metres."""
    a, b, c, d, e, f = affine
    return 0.1 <= a <= 1e5 and -1e5 <= e <= -0.1 and b == d == 0 and abs(c) < 1e8 and abs(f) < 1e8


def _declared_offset(item_id: str, assets: dict[str, Json]) -> int | None:
    """The DN to subtract that the bands' raster metadata declare; None where they declare none."""
    declared: set[int] = set()
    for band, body in assets.items():
        entry = next(_dicts(body.get("raster:bands") or body.get("bands") or ()), {})
        scale = _first(entry.get("scale"), entry.get("raster:scale"), body.get("raster:scale"))
        offset = _first(entry.get("offset"), entry.get("raster:offset"), body.get("raster:offset"))
        if scale is not None and not math.isclose(scale, 1e-4):
            raise CatalogError(
                f"item {item_id} scales band {band} by {scale}, where 0.0001 was expected: "
                "choose another --collection"
            )
        if offset is not None:
            declared.add(round(max(-1e6, min(-offset / 1e-4, 1e6))))  # beyond these it is refused anyway
    if len(declared) > 1 or any(not 0 <= dn < 10000 for dn in declared):
        raise CatalogError(
            f"item {item_id} declares BOA offsets of {sorted(declared)} DN, and one for all was expected: "
            "choose another --collection"
        )
    return declared.pop() if declared else None


# Names and numbers that providers spell in their own ways


def _stated_epsg(fields: Json) -> int | None:
    """The EPSG code in `proj:code` (projection extension 2) or `proj:epsg` (1); None without either."""
    code = fields.get("proj:code") or fields.get("proj:epsg")
    found = re.fullmatch(r"(?:EPSG:)?(\d{1,6})", str(code), re.IGNORECASE | re.ASCII)
    return int(found[1]) if found else None


def _baseline(raw: RawItem) -> str | None:
    """The processing baseline as `05.09`, from the property, else out of the product's names."""
    stated = raw.properties.get("s2:processing_baseline") or raw.properties.get("processing:version")
    if (numbers := _parse_baseline(stated)) is None:
        found = (re.search(r"_N(\d{2})\.?(\d{2})(?=_|\.|$)", text) for text in raw.texts())
        match = next((match for match in found if match), None)
        numbers = (int(match[1]), int(match[2])) if match else None
    return f"{numbers[0]:02d}.{numbers[1]:02d}" if numbers else None


def _parse_baseline(text: object) -> Baseline | None:
    found = re.fullmatch(r"N?(\d{1,2})\.(\d{2})", str(text))
    return (int(found[1]), int(found[2])) if found else None


def _offset_applied(properties: Json) -> bool | None:
    flag = properties.get("earthsearch:boa_offset_applied", properties.get("sentinel:boa_offset_applied"))
    return flag if isinstance(flag, bool) else None


def _sequence(raw: RawItem) -> int:
    stated = str(raw.properties.get("s2:sequence", ""))
    in_id = re.fullmatch(r"S2[A-Z]_\d{1,2}[A-Z]{3}_\d{8}_(\d{1,9})_L2A", raw.id)
    return int(stated) if re.fullmatch(r"[0-9]{1,9}", stated) else int(in_id[1]) if in_id else 0


def _datatake(raw: RawItem, instant: dt.datetime) -> str | None:
    """Satellite and start of the datatake, without the baseline that `s2:datatake_id` ends in.

    Items that name no datatake fall back on satellite and day; what a satellite sees of a tile twice in a day
    (high latitudes) lies over an hour apart, and the time tells it from a duplicate.
    """
    for text in raw.texts():
        found = re.match(r"G?(S2[A-Z])_(?:MSIL[12][AC]_)?(\d{8}T\d{6})_", text)
        if found:
            return f"{found[1]}_{found[2]}"
    platform = re.search(
        r"(?:^|[^A-Z0-9])S(?:ENTINEL-)?(2[A-Z])(?![A-Z0-9])",
        f"{raw.properties.get('platform')} {raw.id}".upper().replace("_", " "),
    )
    return f"S{platform[1]}_{instant:%Y%m%d}" if platform else None


def _datastrip_start(raw: RawItem) -> dt.datetime | None:
    """When the datastrip began: the `_S...` part of its id."""
    found = re.search(r"_S(\d{8}T\d{6})_", str(raw.properties.get("s2:datastrip_id")))
    try:
        return dt.datetime.strptime(found[1], "%Y%m%dT%H%M%S").replace(tzinfo=dt.UTC) if found else None
    except ValueError:
        return None


def _timestamp(text: object) -> dt.datetime | None:
    try:
        return parse_timestamp(str(text))
    except ValueError:
        return None


def _bbox_2d(bbox: Sequence[float]) -> tuple[float, float, float, float]:
    half = len(bbox) // 2  # a bbox with heights has six numbers
    return bbox[0], bbox[1], bbox[half], bbox[half + 1]


def _numbers(value: object, count: int) -> list[float] | None:
    """The first `count` numbers of a JSON list; None where it is none, too short, or holds other things."""
    if not isinstance(value, list) or len(value) < count:
        return None
    head = [_number(each) for each in value[:count]]
    return [number for number in head if number is not None] if None not in head else None


def _number(value: object) -> float | None:
    """A finite number of JSON as a float; None where it is none."""
    try:
        number = float(value) if isinstance(value, int | float) else math.nan
    except OverflowError:  # JSON's whole numbers have no limit
        return None
    return number if math.isfinite(number) else None


def _first(*values: object) -> float | None:
    return next((number for number in map(_number, values) if number is not None), None)


def _dicts(values: object) -> Iterator[Json]:
    """The JSON objects among `values`: what else is there is no metadata of ours."""
    return (value for value in (values if isinstance(values, Iterable) else ()) if isinstance(value, dict))

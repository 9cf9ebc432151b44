"""The demonstration on disk: COGs, and STAC in the shape of Earth Search v1 `sentinel-2-l2a`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
from pyproj import Transformer
from shapely import Polygon, box, get_coordinates
from shapely.geometry import mapping

from cloudgan.demonstration.assets import describe_asset, eo_band, file_name, resolution_of
from cloudgan.demonstration.cogs import EPSG, write_cog
from cloudgan.sentinel2.classification import CLOUD_CLASSES, SCL, Scl
from cloudgan.simulation.covers import BANDS

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import ArrayLike, NDArray

COLLECTION = "sentinel-2-l2a"
STAC_VERSION = "1.0.0"
ORBIT = 122  # a real relative orbit over both tiles; its swath ends further west here

SCL_SHARES = {
    "s2:dark_features_percentage": Scl.DARK_AREA,
    "s2:cloud_shadow_percentage": Scl.CLOUD_SHADOW,
    "s2:vegetation_percentage": Scl.VEGETATION,
    "s2:not_vegetated_percentage": Scl.NOT_VEGETATED,
    "s2:water_percentage": Scl.WATER,
    "s2:unclassified_percentage": Scl.UNCLASSIFIED,
    "s2:medium_proba_clouds_percentage": Scl.CLOUD_MEDIUM_PROBABILITY,
    "s2:high_proba_clouds_percentage": Scl.CLOUD_HIGH_PROBABILITY,
    "s2:thin_cirrus_percentage": Scl.THIN_CIRRUS,
    "s2:snow_ice_percentage": Scl.SNOW_OR_ICE,
}


@dataclass(frozen=True, slots=True)
class Piece:
    """The part of one MGRS tile that the demonstration covers, on that tile's own pixel grid."""

    square: str
    """The 100 km square, the last two letters of the MGRS tile's name."""
    west: int
    """Western edge in metres, EPSG:32633; a multiple of 20 m from the MGRS tile's origin."""
    north: int
    """Northern edge in metres."""
    size: int
    """Rows and columns of 10 m pixels."""

    @property
    def outline(self) -> Polygon:
        """The piece's edge in EPSG:32633."""
        return box(self.west, self.north - 10 * self.size, self.west + 10 * self.size, self.north)


@dataclass(frozen=True, slots=True)
class Processing:
    """How a granule was processed, which decides what its numbers mean."""

    baseline: str
    """Processing baseline, as in `s2:processing_baseline`."""
    sequence: int
    """`s2:sequence`: grows when the same granule is processed again."""
    offset_applied: bool
    """`earthsearch:boa_offset_applied`: whether the provider took the BOA offset out of the numbers."""

    @property
    def added(self) -> int:
        """What the stored numbers carry above reflectance * 10000."""
        return 1000 if self.baseline >= "04.00" and not self.offset_applied else 0

    @property
    def declared(self) -> float:
        """Offset in `raster:bands`: -0.1 from baseline 04.00 on, even where it was applied, as in reality."""
        return -0.1 if self.baseline >= "04.00" else 0


@dataclass(frozen=True, slots=True)
class Pass:
    """One overflight."""

    when: datetime
    """Start of the datatake, UTC."""
    platform: str
    """S2A or S2B."""
    absolute_orbit: int
    """Orbit number since launch."""
    sun: tuple[float, float]
    """Azimuth and elevation of the sun in degrees."""
    swath: Polygon
    """The area that the instrument covered, EPSG:32633."""


def write_item(
    folder: Path,
    piece: Piece,
    processing: Processing,
    overflight: Pass,
    bands: Mapping[str, NDArray[np.float32]],
    scl: NDArray[np.uint8],
) -> dict[str, Any]:
    """Write one granule's COGs and its STAC item into a folder of its own.

    Args:
        folder: The collection's folder.
        piece: Where it lies.
        processing: How its numbers are to be stored.
        overflight: When and by which satellite it was taken.
        bands: Surface reflectance by band, each at its own resolution: shape (size, size) or half of it.
        scl: Scene classification at 20 m, 0 = no data, shape (size / 2, size / 2).

    Returns:
        The item.
    """
    name = f"{overflight.platform}_33U{piece.square}_{overflight.when:%Y%m%d}_{processing.sequence}_L2A"
    (folder / name).mkdir(parents=True, exist_ok=True)
    valid = scl != Scl.NO_DATA
    valid_at = {10: valid.repeat(2, 0).repeat(2, 1), 20: valid}
    pixels = {
        band: np.clip(np.rint(reflectance * 10000) + processing.added, 1, 65535).astype(np.uint16)
        * valid_at[resolution_of(band)]
        for band, reflectance in bands.items()
    }
    for asset, values in (pixels | {SCL: scl}).items():
        path = folder / name / f"{file_name(asset)}.tif"
        write_cog(path, values[None], piece.west, piece.north, resolution_of(asset))
    item = _item(name, piece, processing, overflight, scl)
    write_json(folder / name / f"{name}.json", item)
    return item


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON file."""
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def write_catalog_files(directory: Path, items: list[dict[str, Any]]) -> Path:
    """Write the catalogue and its one collection, which links the items; returns the catalogue's path."""
    collection = f"./{COLLECTION}/collection.json"
    write_json(directory / "catalog.json", {
        "type": "Catalog",
        "id": "cloudgan-demo",
        "stac_version": STAC_VERSION,
        "title": "cloudgan demonstration",
        "description": "Simulated farmland in the shape of Earth Search v1: no measured data.",
        "links": [_link("root", "./catalog.json"), _link("child", collection)],
    })  # fmt: skip
    west, south, east, north = zip(*(item["bbox"] for item in items), strict=True)
    taken = sorted(item["properties"]["datetime"] for item in items)
    write_json(directory / COLLECTION / "collection.json", {
        "type": "Collection",
        "id": COLLECTION,
        "stac_version": STAC_VERSION,
        "stac_extensions": _schemas("item-assets/v1.0.0", "raster/v1.1.0", "eo/v1.0.0"),
        "title": "Sentinel-2 Level 2A (simulated)",
        "description": "Simulated Sentinel-2 L2A scenes of imagined farmland, April to July 2020.",
        "license": "CC0-1.0",
        "keywords": ["simulation", "sentinel", "earth observation"],
        "extent": {
            "spatial": {"bbox": [[min(west), min(south), max(east), max(north)]]},
            "temporal": {"interval": [[taken[0], taken[-1]]]},
        },
        "summaries": {
            "platform": ["sentinel-2a", "sentinel-2b"],
            "constellation": ["sentinel-2"],
            "instruments": ["msi"],
            "gsd": [10, 20],
            "eo:bands": [eo_band(band) for band in BANDS],
        },
        "item_assets": {name: describe_asset(name, -0.1) for name in (*BANDS, SCL)},
        "links": [
            _link("root", "../catalog.json"),
            _link("parent", "../catalog.json"),
            *(_link("item", f"./{item['id']}/{item['id']}.json") for item in items),
        ],
    })  # fmt: skip
    return directory / "catalog.json"


def wgs84(ring: ArrayLike) -> Polygon:
    """The polygon in longitude and latitude, to about a centimetre, counter-clockwise as in GeoJSON.

    Args:
        ring: Its corners in EPSG:32633, shape (corners, 2).
    """
    transformer = Transformer.from_crs(EPSG, 4326, always_xy=True)
    longitude, latitude = transformer.transform(*np.asarray(ring, np.float64).T)
    corners = np.round(np.column_stack([longitude, latitude]), 7)
    polygon = Polygon(corners)
    return polygon if polygon.exterior.is_ccw else Polygon(corners[::-1])


def _item(
    name: str, piece: Piece, processing: Processing, overflight: Pass, scl: NDArray[np.uint8]
) -> dict[str, Any]:
    """The STAC item of one granule."""
    footprint = wgs84(get_coordinates(piece.outline.intersection(overflight.swath)))
    return {
        "type": "Feature",
        "stac_version": STAC_VERSION,
        "stac_extensions": _schemas(
            "grid/v1.0.0",
            "mgrs/v1.0.0",
            "projection/v1.1.0",
            "view/v1.0.0",
            "raster/v1.1.0",
            "processing/v1.1.0",
            "eo/v1.1.0",
        ),
        "id": name,
        "collection": COLLECTION,
        "geometry": mapping(footprint),
        "bbox": list(footprint.bounds),
        "properties": _properties(piece, processing, overflight, scl),
        "links": [
            _link("root", "../../catalog.json"),
            _link("parent", "../collection.json"),
            _link("collection", "../collection.json"),
        ],
        "assets": {asset: _asset(asset, piece, processing) for asset in (*BANDS, SCL)},
    }


def _properties(
    piece: Piece, processing: Processing, overflight: Pass, scl: NDArray[np.uint8]
) -> dict[str, Any]:
    """The item's properties, consistent with one another as those of a real item are."""
    start = overflight.when
    # Scanning southwards, the instrument takes these tiles some minutes after its start.
    taken = start + timedelta(minutes=7, seconds=6 if piece.square == "WP" else 2, milliseconds=417)
    processed = _processing_time(processing, start)
    return {
        "created": _format_time(processed + timedelta(hours=6), ".000Z"),
        "platform": f"sentinel-{overflight.platform[1:].lower()}",
        "constellation": "sentinel-2",
        "instruments": ["msi"],
        "eo:cloud_cover": _percentage(np.isin(scl, CLOUD_CLASSES), scl != Scl.NO_DATA),
        "proj:epsg": EPSG,
        "mgrs:utm_zone": 33,
        "mgrs:latitude_band": "U",
        "mgrs:grid_square": piece.square,
        "grid:code": f"MGRS-33U{piece.square}",
        "view:sun_azimuth": round(overflight.sun[0], 6),
        "view:sun_elevation": round(overflight.sun[1], 6),
        "s2:degraded_msi_data_percentage": 0,
        "s2:nodata_pixel_percentage": _percentage(scl == Scl.NO_DATA, np.ones_like(scl)),
        "s2:saturated_defective_pixel_percentage": 0,
        **{name: _percentage(scl == value, scl != Scl.NO_DATA) for name, value in SCL_SHARES.items()},
        "s2:product_type": "S2MSI2A",
        "s2:processing_baseline": processing.baseline,
        "s2:generation_time": _format_time(processed, ".000000Z"),
        **_product_names(piece, processing, overflight, processed),
        "s2:datatake_type": "INS-NOBS",
        "s2:reflectance_conversion_factor": _distance_factor(start),
        "datetime": _format_time(taken, f".{taken.microsecond:06d}Z"),
        "s2:sequence": str(processing.sequence),
        "earthsearch:boa_offset_applied": processing.offset_applied,
        "processing:software": {"cloudgan-demo": "1"},
        "updated": _format_time(processed + timedelta(hours=6), ".000Z"),
    }


def _product_names(
    piece: Piece, processing: Processing, overflight: Pass, processed: datetime
) -> dict[str, str]:
    """ESA's names of the product and of its inputs.

    They carry the baseline, so that two processings of one datatake differ even in `s2:datatake_id`.
    """
    start, platform, orbit = overflight.when, overflight.platform, f"{overflight.absolute_orbit:06d}"
    compact, tile, suffix = "%Y%m%dT%H%M%S", f"T33U{piece.square}", f"N{processing.baseline}"
    began, done = start.strftime(compact), processed.strftime(compact)
    strip = (start + timedelta(minutes=3, seconds=15)).strftime(compact)
    station = "SGS_" if processing.baseline < "04.00" else "S2RP"
    baseline = suffix.replace(".", "")
    return {
        "s2:product_uri": f"{platform}_MSIL2A_{began}_{baseline}_R{ORBIT}_{tile}_{done}.SAFE",
        "s2:datatake_id": f"G{platform}_{began}_{orbit}_{suffix}",
        "s2:datastrip_id": f"{platform}_OPER_MSI_L2A_DS_{station}_{done}_S{strip}_{suffix}",
        "s2:granule_id": f"{platform}_OPER_MSI_L2A_TL_{station}_{done}_A{orbit}_{tile}_{suffix}",
    }


def _processing_time(processing: Processing, start: datetime) -> datetime:
    """When a granule was processed: within hours at first, years later when the archive was reprocessed."""
    if processing.baseline < "04.00":
        return start + timedelta(hours=11)
    return start + timedelta(days=1131 + processing.sequence, hours=5)


def _percentage(chosen: NDArray[Any], among: NDArray[Any]) -> float:
    """Percentage of some pixels that are chosen."""
    return round(100 * int(np.count_nonzero(chosen)) / max(int(np.count_nonzero(among)), 1), 6)


def _asset(name: str, piece: Piece, processing: Processing) -> dict[str, Any]:
    """One asset of an item."""
    resolution = resolution_of(name)
    pixels = piece.size * 10 // resolution
    return {
        "href": f"./{file_name(name)}.tif",
        **describe_asset(name, processing.declared),
        "proj:shape": [pixels, pixels],
        "proj:transform": [resolution, 0, piece.west, 0, -resolution, piece.north],
    }


def _schemas(*extensions: str) -> list[str]:
    """Addresses of STAC extensions' schemas."""
    return [f"https://stac-extensions.github.io/{extension}/schema.json" for extension in extensions]


def _link(rel: str, href: str) -> dict[str, str]:
    """A relative STAC link."""
    return {"rel": rel, "href": href, "type": "application/json"}


def _format_time(when: datetime, fraction: str) -> str:
    """A time as Earth Search writes it, whose fields differ in their fraction of a second."""
    return when.strftime("%Y-%m-%dT%H:%M:%S") + fraction


def _distance_factor(when: datetime) -> float:
    """Squared ratio of the mean to the actual distance of the sun (first harmonic)."""
    day = (when - datetime(when.year, 1, 1, tzinfo=UTC)).days + 1
    return round(float(1 + 0.0334 * np.cos(2 * np.pi * (day - 3) / 365.25)), 9)

"""The files of an item: which one holds a band, its pixel grid, and the offset that it declares."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

from cloudgan.errors import CatalogError
from cloudgan.sentinel2.bands import BANDS, REFLECTANCE_SCALE
from cloudgan.sentinel2.classification import SCL
from cloudgan.sentinel2.offset import BOA_OFFSET
from cloudgan.stac.hrefs import remove_query, resolve_href
from cloudgan.stac.items import Asset
from cloudgan.stac.values import Json, first_number, iterate_objects, to_numbers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cloudgan.stac.raw_items import RawItem

_MAX_EDGE = 1_000_000  # pixels; a granule has 10,980


def find_asset(raw: RawItem, band: str) -> Json:
    """The JSON of the file that holds `band`, by asset key, else by the common name in its band metadata.

    Earth Search names assets by the common name, the Planetary Computer by ESA's name, Copernicus by ESA's
    name and the resolution (`B04_10m`).

    Raises:
        CatalogError: No file of the item holds the band.
    """
    assets = {
        key: asset
        for key, asset in raw.body["assets"].items()
        if isinstance(asset, dict) and asset.get("href")
    }
    esa_name = _find_esa_name(band)
    for key in (band, esa_name):
        if key in assets:
            return assets[key]
    by_key = [key for key in assets if esa_name and re.fullmatch(rf"{esa_name}_\d+m", key)]
    by_name = [key for key, asset in assets.items() if _common_names(asset) == [band]]
    if by_key or by_name:
        return assets[min(by_key or by_name, key=lambda key: (*_preference(assets[key]), key))]
    raise CatalogError(f"item {raw.id} has no band {band} (it has {_list_keys(assets)})")


def read_asset(raw: RawItem, band: str, body: Json, *, signed: bool) -> Asset:
    """A band's file as plain data, with the pixel grid that the item states where it is one of an image.

    Args:
        raw: The item that it belongs to.
        band: Common name of the band.
        body: The asset's JSON.
        signed: Whether the provider's addresses carry signatures, which are then left out. They are made
            anew when the asset is read: those of a saved search have long expired.

    Raises:
        CatalogError: Its address is none that the catalogue may name.
    """
    href = resolve_href(str(body["href"]), raw.base)
    rows_cols, affine = _read_frame(raw, body)
    return Asset(
        band,
        remove_query(href) if signed else href,
        (int(rows_cols[0]), int(rows_cols[1])) if rows_cols and _is_image_shape(rows_cols) else None,
        (affine[0], affine[1], affine[2], affine[3], affine[4], affine[5])
        if affine and _is_image_transform(affine)
        else None,
    )


def states_no_image(raw: RawItem, body: Json) -> str | None:
    """The pixel grid that an item states for a file, for a message, where no image has such a grid."""
    rows_cols, affine = _read_frame(raw, body)
    if (rows_cols and not _is_image_shape(rows_cols)) or (affine and not _is_image_transform(affine)):
        return f"proj:shape {str(rows_cols)[:60]}, proj:transform {str(affine)[:120]}"
    return None


def read_declared_offset(item_id: str, assets: dict[str, Json]) -> tuple[int | None, str | None]:
    """The DN to subtract that the raster metadata of reflectance bands declare, and a warning.

    An offset that L2A products never have, or that is another in each band, is not obeyed: it counts as not
    declared, with a warning.

    Raises:
        CatalogError: The bands are scaled unlike L2A reflectance.
    """
    declared: set[int] = set()
    for band, body in assets.items():
        entry = next(iterate_objects(body.get("raster:bands") or body.get("bands") or ()), {})
        scale = first_number(entry.get("scale"), entry.get("raster:scale"), body.get("raster:scale"))
        offset = first_number(entry.get("offset"), entry.get("raster:offset"), body.get("raster:offset"))
        if scale is not None and not math.isclose(scale, REFLECTANCE_SCALE, rel_tol=1e-6):
            raise CatalogError(
                f"item {item_id} scales band {band} by {scale}, where {REFLECTANCE_SCALE} was expected"
            )
        if offset is not None:
            # Clipped to what an integer holds; beyond these it is not obeyed anyway.
            declared.add(round(max(-1e6, min(-offset / REFLECTANCE_SCALE, 1e6))))
    if not declared:
        return None, None
    if len(declared) > 1 or not declared <= {0, BOA_OFFSET}:
        return None, (
            f"raster metadata declare BOA offsets of {sorted(declared)[:4]} DN, and L2A products have 0 or "
            f"{BOA_OFFSET} in all bands: not obeyed"
        )
    return declared.pop(), None


def _read_frame(raw: RawItem, body: Json) -> tuple[list[float] | None, list[float] | None]:
    """Shape and transform that an item states for a file."""
    return (
        to_numbers(body.get("proj:shape") or raw.properties.get("proj:shape"), 2),
        to_numbers(body.get("proj:transform") or raw.properties.get("proj:transform"), 6),
    )


def _list_keys(assets: dict[str, Json]) -> str:
    keys = sorted(assets)
    more = f" and {len(keys) - 20} more" if len(keys) > 20 else ""
    return (", ".join(key[:40] for key in keys[:20]) or "no assets") + more


def _find_esa_name(band: str) -> str | None:
    if band == SCL:
        return "SCL"
    return BANDS[band].esa_name if band in BANDS else None


def _common_names(asset: Json) -> list[str]:
    """The common names of the bands in a file; `bands` is STAC 1.1's spelling, `eo:bands` the one before."""
    bands = iterate_objects(asset.get("bands") or asset.get("eo:bands") or ())
    return [str(band.get("eo:common_name") or band.get("common_name") or "") for band in bands]


def _preference(asset: Json) -> tuple[bool, float]:
    """Sorts the files of one band: cloud-optimised GeoTIFF first, then the finest pixels."""
    gsd = asset.get("gsd")
    no_geotiff = "tif" not in str(asset.get("type", asset["href"]))
    return no_geotiff, float(gsd) if isinstance(gsd, int | float) else math.inf


def _is_image_shape(rows_cols: Sequence[float]) -> bool:
    return all(1 <= edge <= _MAX_EDGE and edge == int(edge) for edge in rows_cols)


def _is_image_transform(affine: Sequence[float]) -> bool:
    """Whether a transform is north up and maps pixels to places on Earth, in metres."""
    a, b, c, d, e, f = affine
    return 0.1 <= a <= 1e5 and -1e5 <= e <= -0.1 and b == d == 0 and abs(c) < 1e8 and abs(f) < 1e8

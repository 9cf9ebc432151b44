"""Small granules with pixels, as Earth Search and others write them, for tests of odd items."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.transform import from_origin
from shapely.geometry import box, mapping

from cloudgan.errors import CatalogError
from cloudgan.sentinel2.dates import DateRange
from cloudgan.stac.frames import Frame, locate
from cloudgan.stac.items import SourceItem
from cloudgan.stac.parsing import examine_item
from cloudgan.stac.raw_items import RawItem

EPSG, WEST, NORTH, EDGE = 32633, 600_000, 5_380_020, 128
LEVELS = {"green": 792, "red": 592, "nir": 2992}
"""Digital numbers of a clear date without offset."""
JUNE = DateRange.parse("2023-06")
FRAME = Frame(EPSG, (EDGE, EDGE), (10.0, 0.0, float(WEST), 0.0, -10.0, float(NORTH)))
FOOTPRINT = locate(None, FRAME)[0]
FIELD = FOOTPRINT.buffer(-0.003)
"""An area well within the frame."""


def parse_item(raw: RawItem, bands: Sequence[str]) -> tuple[SourceItem, tuple[str, ...]]:
    """An item that must be one that can be used, and its warnings."""
    examined = examine_item(raw, bands)
    if examined.item is None:
        raise CatalogError(examined.fault or "")
    return examined.item, examined.warnings


def write_image(
    path: Path,
    values: NDArray[Any],
    *,
    epsg: int = EPSG,
    west: float = WEST,
    north: float = NORTH,
    metres: float = 10,
    overviews: bool = False,
) -> str:
    """A GeoTIFF of one band; gives its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    height, width = values.shape
    profile = {"driver": "GTiff", "height": height, "width": width, "count": 1, "nodata": 0, "crs": epsg}
    frame = from_origin(west, north, metres, metres)
    with rasterio.open(path, "w", dtype=values.dtype, transform=frame, **profile) as out:
        out.write(values, 1)
    if overviews:
        with rasterio.open(path, "r+") as out:
            out.build_overviews([2])
    return str(path)


def write_granule(
    folder: Path,
    day: str,
    *,
    add: int = 0,
    levels: dict[str, int] | None = None,
    scl: int = 4,
    **changes: Any,
) -> dict[str, Any]:
    """One item of a day with its files; `changes` are further properties, None takes one away.

    Args:
        folder: Where the files go.
        day: As `2023-06-11`.
        add: Digital numbers that the files hold beside the reflectance.
        levels: Digital numbers of each band; those of `LEVELS` where None.
        scl: Class of all pixels.
        changes: Properties.
    """
    stamp = day.replace("-", "")
    name = f"S2A_33UWP_{stamp}_0_L2A"
    noise = np.random.default_rng(int(stamp)).integers(-40, 40, (EDGE, EDGE))
    images = {
        band: write_image(folder / f"{name}_{band}.tif", (level + add + noise).clip(1).astype(np.uint16))
        for band, level in (levels or LEVELS).items()
    }
    half = np.full((EDGE // 2, EDGE // 2), scl, np.uint8)
    images["scl"] = write_image(folder / f"{name}_scl.tif", half, metres=20)
    properties = {
        "datetime": f"{day}T10:04:35Z",
        "eo:cloud_cover": 3.0,
        "proj:epsg": EPSG,
        "s2:processing_baseline": "05.09",
        "s2:datatake_id": f"GS2A_{stamp}T095551_012345_N05.09",
        "s2:datastrip_id": f"S2A_OPER_MSI_L2A_DS_2APS_{stamp}T155057_S{stamp}T100430_N05.09",
        "earthsearch:boa_offset_applied": True,
    } | changes
    fine = {"proj:shape": [EDGE, EDGE], "proj:transform": [10, 0, WEST, 0, -10, NORTH]}
    coarse = {"proj:shape": [EDGE // 2, EDGE // 2], "proj:transform": [20, 0, WEST, 0, -20, NORTH]}
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": name,
        "collection": "sentinel-2-l2a",
        "geometry": mapping(box(*FOOTPRINT.bounds)),
        "links": [],
        "properties": {key: value for key, value in properties.items() if value is not None},
        "assets": {
            band: {"href": f"./{Path(path).name}"} | (coarse if band == "scl" else fine)
            for band, path in images.items()
        },
    }


def save(folder: Path, *items: Any, name: str = "items.json", **members: Any) -> str:
    """The items as one item collection; gives its path."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"type": "FeatureCollection", "features": items} | members))
    return str(path)

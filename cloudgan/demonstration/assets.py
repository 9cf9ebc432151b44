"""The assets of an item and of the collection, as Earth Search v1 describes them."""

from __future__ import annotations

from typing import Any

from cloudgan.sentinel2.bands import BANDS, REFLECTANCE_SCALE
from cloudgan.sentinel2.classification import SCL

COG_TYPE = "image/tiff; application=geotiff; profile=cloud-optimized"

# Description, centre and full width at half maximum in micrometres.
EO = {
    "blue": ("Blue (band 2)", 0.49, 0.098),
    "green": ("Green (band 3)", 0.56, 0.045),
    "red": ("Red (band 4)", 0.665, 0.038),
    "nir": ("NIR 1 (band 8)", 0.842, 0.145),
    "rededge1": ("Red edge 1 (band 5)", 0.704, 0.019),
    "rededge2": ("Red edge 2 (band 6)", 0.74, 0.018),
    "rededge3": ("Red edge 3 (band 7)", 0.783, 0.028),
    "nir08": ("NIR 2 (band 8A)", 0.865, 0.033),
    "swir16": ("SWIR 1 (band 11)", 1.61, 0.143),
    "swir22": ("SWIR 2 (band 12)", 2.19, 0.242),
}


def resolution_of(asset: str) -> int:
    """Edge of an asset's pixels in metres."""
    return 20 if asset == SCL else BANDS[asset].resolution


def file_name(asset: str) -> str:
    """Name of an asset's file, without its ending."""
    return "SCL" if asset == SCL else BANDS[asset].esa_name


def describe_asset(name: str, offset: float) -> dict[str, Any]:
    """What the assets of this name have in common in all items.

    Args:
        name: A band of `EO`, or `SCL`.
        offset: What `raster:bands` declares to add to the reflectance.
    """
    resolution = resolution_of(name)
    if name == SCL:
        return {
            "type": COG_TYPE,
            "title": "Scene classification map (SCL)",
            "raster:bands": [{"nodata": 0, "data_type": "uint8", "spatial_resolution": resolution}],
            "roles": ["data", "reflectance"],
        }
    numbers = {"nodata": 0, "data_type": "uint16", "bits_per_sample": 15, "spatial_resolution": resolution}
    return {
        "type": COG_TYPE,
        "title": f"{EO[name][0]} - {resolution}m",
        "eo:bands": [eo_band(name)],
        "gsd": resolution,
        "raster:bands": [{**numbers, "scale": REFLECTANCE_SCALE, "offset": offset}],
        "roles": ["data", "reflectance"],
    }


def eo_band(name: str) -> dict[str, Any]:
    """The eo extension's description of a band; to the extension all bands of the red edge are `rededge`."""
    description, centre, width = EO[name]
    return {
        "name": name,
        "common_name": "rededge" if name.startswith("rededge") else name,
        "description": description,
        "center_wavelength": centre,
        "full_width_half_max": width,
    }

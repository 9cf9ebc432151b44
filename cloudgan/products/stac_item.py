"""A store as a STAC Item: what catalogues need to know of it.

STAC 1.1.0 with the extensions datacube 2.2.0, projection 2.0.0, raster 2.0.0, eo 2.0.0 and processing 1.2.0.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from pyproj import Transformer
from shapely.affinity import translate
from shapely.geometry import MultiPolygon, Polygon, box, mapping

from cloudgan import __version__
from cloudgan.errors import InputError, StoreError
from cloudgan.geo.grid import Grid
from cloudgan.io.store.access import name_damage, open_zarr_store
from cloudgan.io.store.identity import check_format, read_identity
from cloudgan.io.store.store import read_about
from cloudgan.object_stores import is_object_store, name_failed_writes, normalise_location
from cloudgan.products.geotiff import write_whole
from cloudgan.products.reader import StoreReader
from cloudgan.schema import is_band
from cloudgan.sentinel2.bands import BANDS

_EXTENSIONS = {
    "datacube": "2.2.0",
    "projection": "2.0.0",
    "raster": "2.0.0",
    "eo": "2.0.0",
    "processing": "1.2.0",
}
_EDGE_POINTS = 9  # of each side of the footprint: a UTM grid is no rectangle in degrees
_COMMON_NAMES = {"rededge1": "rededge071", "rededge2": "rededge075", "rededge3": "rededge078"}  # of eo 2.0.0
_ZARR = "application/vnd.zarr; version=3"


def write_items(store: str, out: str | None = None) -> list[Path]:
    """Write the STAC Item of a store, or of each UTM zone of one.

    Args:
        store: Path of a directory, or URL of an object store.
        out: Folder of the files; by default that of the store, or the working directory for an object store.

    Returns:
        The files, `NAME.stac.json` or `NAME-utm33n.stac.json`.

    Raises:
        InputError: The files cannot lie there.
        StoreError: There is no store of cloudgan's, or it is damaged.
        WriteError: The place refused a file.
    """
    location = normalise_location(store).rstrip("/")
    identity = read_identity(location)
    if identity is None:
        raise StoreError(f"there is no store at {location}; give the --out of a run")
    check_format(location, identity)
    if out is not None and is_object_store(out):
        raise InputError(f"{out} is an object store, and items are files on a disk; give a folder")
    folder = Path("." if is_object_store(location) else Path(location).parent) if out is None else Path(out)
    name = Path(location.rpartition("/")[2]).stem
    places = {f"{name}-{zone}": f"{location}/{zone}" for zone in identity.get("zones", ())} or {
        name: location
    }
    files = []
    with name_failed_writes(str(folder)):
        folder.mkdir(parents=True, exist_ok=True)
        for item, place in places.items():
            if read_identity(place) is None:  # a zone that no run has begun
                continue
            path = folder / f"{item}.stac.json"
            text = json.dumps(describe_item(item, place, _make_href(place, folder)), indent=2)
            with write_whole(path) as piece:
                piece.write_text(text, encoding="utf-8")
            files.append(path)
    return files


def _make_href(location: str, folder: Path) -> str:
    """The address of a store from the folder of its item: both can be moved together."""
    if is_object_store(location):
        return location
    return Path(os.path.relpath(Path(location).resolve(), folder.resolve())).as_posix()


def describe_item(name: str, location: str, href: str) -> dict[str, Any]:
    """The STAC Item of the store of one UTM zone.

    Args:
        name: Id of the item.
        location: Path of a directory, or URL of an object store.
        href: Address of the store, as the item names it.

    Raises:
        StoreError: The store is damaged.
    """
    reader, about = StoreReader.open(location), read_about(location)
    with name_damage(location):
        root = zarr.open_group(open_zarr_store(location), mode="r", use_consolidated=False)
        attributes: dict[str, Any] = dict(root.attrs)
    footprint, bounds = _trace_footprint(reader.grid)
    return {
        "type": "Feature",
        "stac_version": "1.1.0",
        "stac_extensions": [
            f"https://stac-extensions.github.io/{extension}/v{version}/schema.json"
            for extension, version in _EXTENSIONS.items()
        ],
        "id": name,
        "geometry": mapping(footprint),
        "bbox": bounds,
        "properties": _describe_store(reader, attributes, about.get("model") or {}),
        "links": [
            {"rel": "derived_from", "href": address, "type": "application/geo+json", "title": item}
            for item, address in (about.get("source_items") or {}).items()
        ],
        "assets": {
            "data": {
                "href": href,
                "type": _ZARR,
                "title": "the store, a Zarr group",
                "roles": ["data"],
                "bands": list(_describe_bands(reader)),
            }
        },
    }


def _describe_store(
    reader: StoreReader, attributes: Mapping[str, Any], model: Mapping[str, Any]
) -> dict[str, Any]:
    """The properties of an item."""
    grid, days = reader.grid, reader.days
    return {
        "title": attributes.get("title"),
        "datetime": None,
        "start_datetime": f"{days[0]}T00:00:00Z",
        "end_datetime": f"{days[-1]}T23:59:59Z",
        "constellation": "sentinel-2",
        "gsd": grid.resolution,
        "license": "other",
        "proj:code": f"EPSG:{grid.epsg}",
        "proj:shape": list(grid.shape),
        "proj:transform": list(grid.transform)[:6],
        "proj:bbox": list(grid.bounds),
        "processing:level": "L3",
        "processing:lineage": f"{attributes.get('source')}; {attributes.get('history')}",
        "processing:software": {"cloudgan": _find_version(attributes)},
        "cube:dimensions": _describe_dimensions(reader),
        "cube:variables": dict(_describe_variables(reader)),
        "cloudgan:model": {key: model.get(key) for key in ("name", "version", "digest")},
        "cloudgan:plan": attributes.get("cloudgan:plan"),
        "cloudgan:source_items": {
            str(day): reader.read_items(at).split() for at, day in enumerate(reader.days)
        },
    }


def _find_version(attributes: Mapping[str, Any]) -> str:
    """The version of cloudgan that made a store."""
    words = str(attributes.get("history", "")).replace(",", " ").split()
    return words[1] if words[:1] == ["cloudgan"] and len(words) > 1 else __version__


def _trace_footprint(grid: Grid) -> tuple[Polygon | MultiPolygon, list[float]]:
    """The outline of a grid in degrees, and its bounds; cut where it crosses the antimeridian (RFC 7946)."""
    west, south, east, north = grid.bounds
    across, along = np.linspace(west, east, _EDGE_POINTS), np.linspace(south, north, _EDGE_POINTS)
    x = [*across, *[east] * _EDGE_POINTS, *across[::-1], *[west] * _EDGE_POINTS]
    y = [*[south] * _EDGE_POINTS, *along, *[north] * _EDGE_POINTS, *along[::-1]]
    lon, lat = Transformer.from_crs(grid.epsg, 4326, always_xy=True).transform(x, y)
    # A zone is six degrees wide: what jumps lies beyond the antimeridian.
    lon = [lon[0] + (value - lon[0] + 180) % 360 - 180 for value in lon]
    points = dict.fromkeys((round(a, 7), round(b, 7)) for a, b in zip(lon, lat, strict=True))
    whole = Polygon(points)
    west, south, east, north = (float(round(value, 7)) for value in whole.bounds)
    if west >= -180 and east <= 180:
        return whole, [west, south, east, north]
    parts = [translate(whole, turn).intersection(box(-180, -90, 180, 90)) for turn in (-360, 0, 360)]
    cut = MultiPolygon([part for part in parts if isinstance(part, Polygon) and not part.is_empty])
    return cut, [(west + 180) % 360 - 180, south, (east + 180) % 360 - 180, north]


def _describe_dimensions(reader: StoreReader) -> dict[str, Any]:
    west, south, east, north = reader.grid.bounds
    half, step = reader.grid.resolution / 2, reader.grid.resolution
    days = [f"{day}T00:00:00Z" for day in reader.days]
    return {
        "time": {"type": "temporal", "extent": [days[0], days[-1]], "values": days},
        "y": {
            "type": "spatial",
            "axis": "y",
            "extent": [south + half, north - half],
            "step": -step,
            "reference_system": reader.grid.epsg,
        },
        "x": {
            "type": "spatial",
            "axis": "x",
            "extent": [west + half, east - half],
            "step": step,
            "reference_system": reader.grid.epsg,
        },
    }


def _describe_variables(reader: StoreReader) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, array in sorted(reader.arrays.items()):
        if array.ndim == 3:
            attributes = array.attrs.asdict()
            kind = "data" if is_band(attributes) else "auxiliary"
            about = {"type": kind, "dimensions": ["time", "y", "x"], "data_type": str(array.dtype)}
            about |= {"description": str(attributes["long_name"])} if "long_name" in attributes else {}
            yield name, about | {"nodata": int(array.fill_value)}


def _describe_bands(reader: StoreReader) -> Iterator[dict[str, Any]]:
    for name in reader.bands:
        array = reader.arrays[name]
        attributes: dict[str, Any] = array.attrs.asdict()
        about = {
            "name": name,
            "data_type": str(array.dtype),
            "nodata": int(array.fill_value),
            "raster:scale": float(attributes["scale_factor"]),
            "raster:offset": float(attributes["add_offset"]),
            "raster:spatial_resolution": reader.grid.resolution,
        }
        if name in BANDS:
            about |= {
                "eo:common_name": _COMMON_NAMES.get(name, name),
                "eo:center_wavelength": BANDS[name].wavelength / 1000,
            }
        yield about

"""STAC catalogues as sites, searched and read by the functions that serve."""

from __future__ import annotations

import datetime as dt
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from shapely.geometry import box

from cloudgan.defaults import SNOW, Snow
from cloudgan.errors import InputError
from cloudgan.geo.aoi import read_aoi
from cloudgan.geo.grid import Grid, Lattice, Window
from cloudgan.io.cube import open_cube
from cloudgan.io.placement import item_window, source_lattice
from cloudgan.observations import Site
from cloudgan.sentinel2.classification import ClassRules
from cloudgan.sentinel2.dates import DateRange
from cloudgan.stac.search import Scene, find_scenes
from cloudgan.training.data.cubes import refuse_too_large, site_of_cube
from cloudgan.training.data.sites import MAX_TRUSTED_CLOUD

log = logging.getLogger(__name__)

_EVER = DateRange(dt.date(2015, 1, 1), dt.date(2999, 12, 31))
_EVERYWHERE = box(-180, -80, 180, 84)


def read_catalogue(
    stac: str,
    region: str,
    bands: Sequence[str],
    *,
    aoi: Path | None = None,
    dates: str | None = None,
    collection: str | None = None,
    resolution: float | None = None,
    max_cloud_cover: float = 100.0,
    max_trusted_cloud: float = MAX_TRUSTED_CLOUD,
    snow: Snow = SNOW,
) -> Site:
    """Search a catalogue and read what it finds, with the batch command's own functions.

    Args:
        stac: See `find_scenes`.
        region: What to call the place; the MGRS tile or the catalogue's name where empty.
        bands: Common names.
        aoi: GeoJSON file; everything that is found where None.
        dates: As `--dates` takes it; all dates where None.
        collection: See `find_scenes`.
        resolution: Edge of a pixel in metres; that of the first band's own pixels where None.
        max_cloud_cover: Percent of a granule, included.
        max_trusted_cloud: See `make_site`.
        snow: What class 11 is taken for; see `ClassRules`.

    Raises:
        InputError: Nothing is found, it would not fit into memory, or without `aoi` lies in several zones.
        ReadError: An asset cannot be read.
    """
    area = read_aoi(aoi) if aoi else None
    selection = find_scenes(
        area.geometry if area else _EVERYWHERE,
        DateRange.parse(dates) if dates else _EVER,
        bands=bands,
        stac=stac,
        collection=collection,
        max_cloud_cover=max_cloud_cover,
    )
    for warning in (*(area.warnings if area else ()), *selection.warnings):
        log.warning("%s", warning)
    zones = Counter(scene.epsg for scene in selection.scenes)
    if area is None and len(zones) > 1:
        raise InputError(f"{stac} lies in several UTM zones; give a catalogue of one, or an AOI")
    zone = area.epsg if area and area.epsg in zones else zones.most_common(1)[0][0]
    scenes = [scene for scene in selection.scenes if scene.epsg == zone]
    lattice = source_lattice(scenes, resolution or _own_resolution(stac, scenes[0], bands[0]))
    grid = Grid(lattice, area.window(lattice) if area else _covered_window(scenes, lattice))
    refuse_too_large(f"{stac} in {aoi} for {dates}", (len(scenes), *grid.shape), len(bands))
    region = region or scenes[0].items[0].mgrs_tile or Path(stac).stem
    site = site_of_cube(
        open_cube(scenes, grid, bands, rules=ClassRules(snow=snow)),
        bands,
        aoi.stem if aoi else region,
        region,
        max_trusted_cloud=max_trusted_cloud,
        snow=snow,
    )
    return replace(site, lattice=lattice)


def _own_resolution(stac: str, scene: Scene, band: str) -> float:
    transform = scene.items[0].asset(band).transform
    if transform is None:
        raise InputError(
            f"the items of {stac} do not state proj:transform; add it, or give a resolution in metres"
        )
    return float(transform[0])


def _covered_window(scenes: Sequence[Scene], lattice: Lattice) -> Window:
    windows = [item_window(item, lattice) for scene in scenes for item in scene.items]
    return Window.between(
        min(one.row for one in windows),
        min(one.col for one in windows),
        max(one.bottom for one in windows),
        max(one.right for one in windows),
    )

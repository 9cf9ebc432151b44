"""From a request to a plan: the search, and every decision that follows from what it found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import shapely
from pyproj import Transformer
from shapely.geometry import box
from shapely.geometry.base import BaseGeometry

from cloudgan import clouds
from cloudgan.aoi import Aoi
from cloudgan.catalog import Scene, Selection, find_scenes
from cloudgan.cube import source_lattice
from cloudgan.dates import DateRange
from cloudgan.errors import CatalogError, InputError
from cloudgan.generator import Generator
from cloudgan.grid import Grid, Lattice
from cloudgan.plan import Plan
from cloudgan.removal import default_tiling, read_window
from cloudgan.stac import EARTH_SEARCH
from cloudgan.units import BLOCKS, Series, choose_unit

CONTEXT_DAYS = 30
"""Days read before and after the dates asked for, by default: some ten overpasses on either side."""


def plan_run(
    aoi: Aoi,
    dates: DateRange,
    generator: Generator,
    *,
    stac: str = EARTH_SEARCH,
    collection: str | None = None,
    resolution: float = 10.0,
    max_cloud_cover: float = 100.0,
    context_days: int = CONTEXT_DAYS,
    buffer: float = clouds.BUFFER_METRES,
    clip: bool = False,
    memory: int | None = None,
) -> tuple[Plan, tuple[str, ...]]:
    """Search, and decide everything about a run.

    Args:
        aoi: Where.
        dates: When.
        generator: What will fill the mask.
        stac: See `find_scenes`.
        collection: See `find_scenes`.
        resolution: Edge of a pixel in metres.
        max_cloud_cover: Percent of a granule, included.
        context_days: Days before and after `dates` that are read for the clear looks they hold, and not
            written.
        buffer: Reach around detected cloud and shadow, in metres.
        clip: Whether what lies outside the AOI's polygon is to be no data.
        memory: Bytes that a worker may use; None is without limit.

    Returns:
        The plan, and notices for the user.

    Raises:
        InputError: Something cannot be done as asked: nothing is found, the memory is too small, ...
    """
    _check_extent(aoi)
    tiling = default_tiling(generator)
    reach = clouds.buffer_pixels(buffer, resolution)
    frame = Lattice(aoi.epsg, resolution)
    # What lies around the AOI decides pixels within: whatever a tile or a buffer can touch is searched for.
    around = Grid(frame, aoi.window(frame).buffered(tiling.size + reach + 1))
    selection = find_scenes(
        _lonlat_box(around),
        dates,
        bands=generator.contract.input_bands,
        stac=stac,
        collection=collection,
        max_cloud_cover=max_cloud_cover,
        context_days=context_days,
    )
    scenes = _of_one_zone(selection, aoi)
    lattice = source_lattice(scenes, resolution)
    grid = Grid(lattice, aoi.window(lattice))
    read = _lonlat_box(Grid(lattice, read_window(grid.window, tiling, reach)))
    scenes = tuple(scene for scene in scenes if _touches(scene, read))
    store = _lonlat_box(grid)
    scenes = tuple(_within(dates, scene) for scene in scenes)
    written = tuple(
        at for at, scene in enumerate(scenes) if _is_within(dates, scene) and _touches(scene, store)
    )
    if not written:
        raise CatalogError(
            f"the items found for {dates} lie beside the AOI, not in it; check the AOI, or widen the dates"
        )
    series = Series(tuple(scene.date.toordinal() for scene in scenes), written, clouds.MAX_AGE)
    block, span = choose_unit(grid, series, generator.contract, tiling, reach, memory)
    plan = Plan(
        grid=grid,
        scenes=scenes,
        written=written,
        contract=generator.contract,
        model=generator.digest,
        tiling=tiling,
        reach=reach,
        block=block,
        span=span,
        clip=shapely.to_wkt(aoi.geometry, rounding_precision=9) if clip else None,
        duplicates=selection.duplicates,
    )
    return plan, (*aoi.notices, *selection.notices, *_uncovered(aoi, scenes))


def _within(dates: DateRange, scene: Scene) -> Scene:
    """The scene without items outside the dates, if it has others: a timestamp may cut a day in two."""
    inside = tuple(item for item in scene.items if dates.contains(item.datetime, item.solar_day))
    return replace(scene, items=inside or scene.items)


def _is_within(dates: DateRange, scene: Scene) -> bool:
    return any(dates.contains(item.datetime, item.solar_day) for item in scene.items)


def taken_up(plan: Plan, found: Mapping[str, Any] | None, memory: int | None) -> Plan:
    """The plan in the work units of the store that it goes on with, if it was made for it in all else.

    Args:
        plan: What is to be done.
        found: Identity of the plan that the store was made for, if there is a store.
        memory: Bytes that a worker may use; None is without limit.

    Raises:
        InputError: The units of the store need more memory.
    """
    if found is None or found.get("block") not in BLOCKS:
        return plan
    begun = replace(plan, block=found["block"], span=found.get("span"))
    if begun.identity() != found:
        return plan
    if memory is not None and begun.memory > memory:
        raise InputError(
            f"the store was begun in units that need {begun.memory / 1e9:.1f} GB, and a worker has "
            f"{memory / 1e9:.1f} GB; give --memory {begun.memory / 1e9 + 0.1:.1f}GB or more"
        )
    return begun


def _check_extent(aoi: Aoi) -> None:
    """Refuse an area that reaches so far beyond its UTM zone that metres there mean little.

    Raises:
        InputError: It reaches more than half a zone beyond.
    """
    zone = aoi.epsg % 100
    west, east = zone * 6 - 186, zone * 6 - 180
    left, south, right, north = aoi.geometry.bounds
    if left < west - 3 or right > east + 3 or south < -80 or north > 84:
        raise InputError(
            f"the AOI reaches from ({left:g}, {south:g}) to ({right:g}, {north:g}) degrees, far beyond UTM "
            f"zone {zone} ({west} to {east} degrees east, 80 south to 84 north); cut it into one AOI a zone"
        )


def _lonlat_box(grid: Grid) -> BaseGeometry:
    transformer = Transformer.from_crs(grid.epsg, 4326, always_xy=True)
    west, south, east, north = transformer.transform_bounds(*grid.bounds, densify_pts=21)
    if west > east:  # across the antimeridian
        return box(west, south, 180, north).union(box(-180, south, east, north))
    return box(west, south, east, north)


def _of_one_zone(selection: Selection, aoi: Aoi) -> tuple[Scene, ...]:
    """The scenes of the AOI's own UTM zone, or of the one that shows it most often."""
    zones = Counter(scene.epsg for scene in selection.scenes if _touches(scene, aoi.geometry))
    zones = zones or Counter(scene.epsg for scene in selection.scenes)
    epsg = aoi.epsg if aoi.epsg in zones else zones.most_common(1)[0][0]
    return tuple(scene for scene in selection.scenes if scene.epsg == epsg)


def _touches(scene: Scene, area: BaseGeometry) -> bool:
    return any(item.geometry.intersects(area) for item in scene.items)


def _uncovered(aoi: Aoi, scenes: tuple[Scene, ...]) -> tuple[str, ...]:
    """A notice where no scene of the chosen zone ever shows a part of the AOI."""
    seen = shapely.union_all([item.geometry for scene in scenes for item in scene.items])
    share = aoi.geometry.difference(seen).area / aoi.geometry.area
    if share < 0.005:
        return ()
    return (
        f"{share:.0%} of the AOI lies outside the scenes found in EPSG:{scenes[0].epsg} and stays without "
        "data; an AOI that spans two UTM zones wants one run a zone",
    )

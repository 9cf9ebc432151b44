"""From a request to a plan: the search, and every decision that follows from what it found."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import shapely
from shapely.geometry.base import BaseGeometry

from cloudgan import defaults, observations
from cloudgan.errors import CatalogError, InputError
from cloudgan.geo.aoi import Aoi, cover_windows
from cloudgan.geo.grid import Grid, Lattice, Window
from cloudgan.geo.tiling import Tiling
from cloudgan.io.frames import read_frame
from cloudgan.io.placement import source_lattice
from cloudgan.masks.margins import cover_masks, estimate_margin, margin_days
from cloudgan.masks.selection import DEFAULT_MASKS, Masks
from cloudgan.model.generator import Generator
from cloudgan.planning.offsets import OffsetFinding, verify_offsets, warn_of_offsets
from cloudgan.planning.plan import Plan
from cloudgan.planning.units import BLOCKS, Timeline, choose_unit, list_bands
from cloudgan.removal.core import default_tiling, window_to_read
from cloudgan.sentinel2.dates import DateRange
from cloudgan.sentinel2.offset import OffsetPolicy
from cloudgan.stac.search import LeftOut, Scene, Selection, find_scenes, warn_left_out


def plan_run(
    aoi: Aoi,
    dates: DateRange,
    generator: Generator,
    *,
    stac: str = defaults.STAC,
    collection: str | None = None,
    resolution: float = defaults.RESOLUTION,
    max_cloud_cover: float = defaults.MAX_CLOUD_COVER,
    context_days: int = defaults.CONTEXT_DAYS,
    buffer_metres: float = observations.BUFFER_METRES,
    clip: bool = False,
    offset: OffsetPolicy = "auto",
    masks: Masks = DEFAULT_MASKS,
    strict: bool = False,
    allow_missing: bool = False,
    memory: int | None = None,
) -> tuple[Plan, tuple[str, ...]]:
    """Search, and decide everything about a run in one UTM zone.

    The arguments are those of `plan_zones`.

    Returns:
        The plan, and warnings for the user.

    Raises:
        InputError: Something cannot be done as asked: nothing is found, the memory is too small, the area
            lies in several zones, ...
    """
    plans, warnings = plan_zones(
        aoi,
        dates,
        generator,
        stac=stac,
        collection=collection,
        resolution=resolution,
        max_cloud_cover=max_cloud_cover,
        context_days=context_days,
        buffer_metres=buffer_metres,
        clip=clip,
        offset=offset,
        masks=masks,
        strict=strict,
        allow_missing=allow_missing,
        memory=memory,
    )
    if len(plans) > 1:
        raise InputError(
            f"the AOI lies in several UTM zones ({', '.join(plans)}), and one plan is of one; "
            "use plan_zones, or the command, which makes a group a zone"
        )
    return next(iter(plans.values())), warnings


def plan_zones(
    aoi: Aoi,
    dates: DateRange,
    generator: Generator,
    *,
    stac: str = defaults.STAC,
    collection: str | None = None,
    resolution: float = defaults.RESOLUTION,
    max_cloud_cover: float = defaults.MAX_CLOUD_COVER,
    context_days: int = defaults.CONTEXT_DAYS,
    buffer_metres: float = observations.BUFFER_METRES,
    clip: bool = False,
    offset: OffsetPolicy = "auto",
    masks: Masks = DEFAULT_MASKS,
    strict: bool = False,
    allow_missing: bool = False,
    memory: int | None = None,
) -> tuple[dict[str, Plan], tuple[str, ...]]:
    """Search, and decide everything about a run.

    The area is cut where UTM zones meet, and each of its polygons is planned on the pixels of its own zone,
    or of the zone that shows more of it, as if it were alone.

    Args:
        aoi: Where.
        dates: When.
        generator: What will fill the mask.
        stac: See `find_scenes`.
        collection: See `find_scenes`.
        resolution: Edge of a pixel in metres.
        max_cloud_cover: Percent of a granule, included.
        context_days: Days before and after `dates` that are read, for their clear observations, but not
            written.
        buffer_metres: Width of the buffer around detected cloud and shadow, in metres.
        clip: Whether what lies outside the AOI's polygons is to be no data; else what lies outside the boxes
            around them.
        offset: What decides the BOA offset of an item: metadata and pixels, metadata alone, or so many DN of
            all.
        masks: What finds the clouds.
        strict: Whether an item that cannot be used is refused instead of being left out.
        allow_missing: Whether the plan may be made though no file can be asked where its pixels lie.
        memory: Bytes that a worker may use; None is without limit.

    Returns:
        A plan for each zone, by the name of its group in the store (`utm32n`), or by an empty name where
        there is one zone alone; and warnings for the user.

    Raises:
        InputError: Something cannot be done as asked: nothing is found, the memory is too small, ...
    """
    tiling = default_tiling(generator)
    buffer = observations.metres_to_pixels(buffer_metres, resolution)
    draft = _Draft(dates, generator, tiling, buffer, resolution, clip, memory, offset, allow_missing, masks)
    selection = draft.search(aoi, stac, collection, max_cloud_cover, context_days)
    plans = draft.plan_zones(aoi, selection)
    if strict:
        _refuse_left_out(plans.values())
    warnings = _list_warnings(aoi, selection, plans.values())
    return plans if len(plans) > 1 else {"": next(iter(plans.values()))}, warnings


def _refuse_left_out(plans: Iterable[Plan]) -> None:
    if left_out := _list_left_out(plans):
        raise CatalogError(
            f"{left_out[0].reason}, and --strict was given; {len(left_out)} items cannot be used: "
            "leave --strict out to do without them"
        )


def _list_left_out(plans: Iterable[Plan]) -> tuple[LeftOut, ...]:
    """Items that cannot be used, each once, whatever the number of zones."""
    return tuple(dict.fromkeys(one for plan in plans for one in plan.left_out))


def _list_warnings(aoi: Aoi, selection: Selection, plans: Collection[Plan]) -> tuple[str, ...]:
    return (
        *aoi.warnings,
        *selection.remarks,
        *warn_left_out(_list_left_out(plans)),
        *(text for plan in plans for text in warn_of_offsets(plan.offsets)),
        *_warn_of_gaps(aoi, [scene for plan in plans for scene in plan.scenes]),
    )


@dataclass(frozen=True, slots=True)
class _Draft:
    """What the plans of all zones share."""

    dates: DateRange
    generator: Generator
    tiling: Tiling
    buffer: int
    resolution: float
    clip: bool
    memory: int | None
    offset: OffsetPolicy
    allow_missing: bool
    masks: Masks

    @property
    def bands(self) -> tuple[str, ...]:
        """Bands that are read."""
        return list_bands(self.generator.contract, self.masks.specs, is_temporal=self.masks.is_temporal)

    def cover(self, part: Window) -> Window:
        """What is read to decloud a part of the area."""
        declouded = window_to_read(part, self.tiling, self.buffer)
        return cover_masks(declouded, self.masks.specs, self.buffer, is_temporal=self.masks.is_temporal)

    def search(
        self, aoi: Aoi, stac: str, collection: str | None, max_cloud_cover: float, context_days: int
    ) -> Selection:
        """What there is of the area and of what lies around it."""
        margin = estimate_margin(self.masks.specs, self.buffer, is_temporal=self.masks.is_temporal)
        return find_scenes(
            _find_search_area(aoi, self.resolution, self.tiling.size + self.buffer + margin + 1),
            self.dates,
            bands=self.bands,
            stac=stac,
            collection=collection,
            max_cloud_cover=max_cloud_cover,
            context_days=context_days,
            offset=self.offset,
            read_frame=read_frame,
        )

    def plan_zones(self, aoi: Aoi, selection: Selection) -> dict[str, Plan]:
        """The plan of each zone, by its name."""
        made = {
            _name_zone(epsg): self.plan(area, epsg, selection)
            for epsg, area in _divide_area(aoi, selection.scenes).items()
        }
        plans = {name: plan for name, plan in made.items() if plan is not None}
        if not plans:
            raise CatalogError(
                f"the items found for {self.dates} lie beside the AOI, not in it; "
                "check the AOI, or widen the dates"
            )
        return plans

    def plan(self, area: Aoi, epsg: int, selection: Selection) -> Plan | None:
        """The plan of an area in a zone; None where no scene of the zone shows it."""
        scenes = tuple(scene for scene in selection.scenes if scene.epsg == epsg)
        lattice = source_lattice(scenes, self.resolution, allow_missing=self.allow_missing)
        grid = Grid(lattice, area.window(lattice))
        parts = area.windows(lattice)
        read = [self.cover(part) for part in parts]
        scenes = _select_touching(scenes, cover_windows(read, lattice))
        scenes = tuple(_select_within(self.dates, scene) for scene in scenes)
        shown = {scene.date for scene in _select_touching(scenes, cover_windows(parts, lattice))}
        written = tuple(
            at for at, scene in enumerate(scenes) if scene.date in shown and _is_within(self.dates, scene)
        )
        if not written:
            return None
        offsets: tuple[OffsetFinding, ...] = ()
        if self.offset == "auto":
            west, south, east, north = grid.bounds
            centre = (west + east) / 2, (south + north) / 2
            scenes, offsets = verify_offsets(scenes, self.generator.contract.input_bands, centre)
        contract = self.generator.contract
        time_margin = observations.MAX_AGE + margin_days(self.masks.rules, is_temporal=self.masks.is_temporal)
        timeline = Timeline(tuple(scene.date.toordinal() for scene in scenes), written, time_margin)
        parts = parts if len(parts) > 1 else ()
        clip = shapely.to_wkt(area.geometry, rounding_precision=9) if self.clip else None
        block, span = choose_unit(
            grid,
            timeline,
            contract,
            self.tiling,
            self.buffer,
            self.memory,
            parts,
            clip,
            self.masks.specs,
            is_temporal=self.masks.is_temporal,
        )
        return Plan(
            grid=grid,
            scenes=scenes,
            written=written,
            contract=contract,
            model=self.generator.digest,
            tiling=self.tiling,
            buffer=self.buffer,
            block=block,
            span=span,
            parts=parts,
            clip=clip,
            duplicates=selection.duplicates,
            left_out=tuple(one for one in selection.left_out if one.epsg in (None, lattice.epsg)),
            rules=self.masks.rules,
            detectors=self.masks.specs,
            is_temporal=self.masks.is_temporal,
            offsets=offsets,
        )


def _find_search_area(aoi: Aoi, resolution: float, margin: int) -> BaseGeometry:
    """Boxes around the area in each zone, with all that a tile or a buffer can touch.

    What lies around the area decides pixels within.
    """
    boxes = []
    for epsg, piece in aoi.split_by_zone().items():
        frame = Lattice(epsg, resolution)
        boxes.append(cover_windows([Aoi(piece).window(frame).buffered(margin)], frame))
    area = shapely.union_all(boxes)
    shapely.prepare(area)
    return area


def _divide_area(aoi: Aoi, scenes: tuple[Scene, ...]) -> dict[int, Aoi]:
    """Which part of the area is planned in which zone: polygon by polygon, whatever the others are."""
    shown = _unite_footprints(scenes)
    pieces: dict[int, list[BaseGeometry]] = defaultdict(list)
    for own, piece in aoi.split_by_zone().items():
        for polygon in shapely.get_parts(piece):
            pieces[_choose_zone(polygon, own, shown)].append(polygon)
    return {
        epsg: Aoi(shapely.union_all(polygons)) for epsg, polygons in sorted(pieces.items()) if epsg in shown
    }


def _unite_footprints(scenes: tuple[Scene, ...]) -> dict[int, BaseGeometry]:
    """What the scenes of each zone cover together."""
    outlines: dict[int, set[str]] = defaultdict(set)
    for scene in scenes:
        outlines[scene.epsg] |= {item.footprint for item in scene.items}
    shown = {epsg: shapely.union_all(shapely.from_wkt(sorted(texts))) for epsg, texts in outlines.items()}
    for area in shown.values():
        shapely.prepare(area)
    return shown


def _choose_zone(polygon: BaseGeometry, own: int, shown: dict[int, BaseGeometry]) -> int:
    """A polygon's own zone, unless another shows more of it."""
    if own in shown and shown[own].covers(polygon):
        return own
    shares = {epsg: area.intersection(polygon).area for epsg, area in shown.items()}
    best = max(shares, key=lambda epsg: shares[epsg])
    return best if shares[best] > 1.001 * shares.get(own, 0.0) else own


def _name_zone(epsg: int) -> str:
    return f"utm{epsg % 100:02d}{'n' if epsg < 32700 else 's'}"


def _select_within(dates: DateRange, scene: Scene) -> Scene:
    """The scene without items outside the dates, if it has others: a timestamp may cut a day in two."""
    inside = tuple(item for item in scene.items if dates.contains(item.datetime, item.solar_day))
    return replace(scene, items=inside or scene.items)


def _is_within(dates: DateRange, scene: Scene) -> bool:
    return any(dates.contains(item.datetime, item.solar_day) for item in scene.items)


def continue_plan(plan: Plan, found: Mapping[str, Any] | None, memory: int | None) -> Plan:
    """The plan in the work units of the store that it continues, if that was made for the same in all else.

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
    if found != begun.identity():
        return plan
    if memory is not None and begun.memory > memory:
        raise InputError(
            f"the store was begun in units that need {begun.memory / 1e9:.1f} GB, and a worker has "
            f"{memory / 1e9:.1f} GB; give --memory {begun.memory / 1e9 + 0.1:.1f}GB or more"
        )
    return begun


def _select_touching(scenes: tuple[Scene, ...], area: BaseGeometry) -> tuple[Scene, ...]:
    """The scenes of which an item touches an area."""
    shapely.prepare(area)
    return tuple(scene for scene in scenes if any(area.intersects(item.geometry) for item in scene.items))


def _warn_of_gaps(aoi: Aoi, scenes: Sequence[Scene]) -> tuple[str, ...]:
    """A warning where no scene of the chosen zones shows a part of the AOI."""
    covered = shapely.union_all(list(_unite_footprints(tuple(scenes)).values()))
    share = aoi.geometry.difference(covered).area / aoi.geometry.area
    if share < 0.005:
        return ()
    return (f"{share:.0%} of the AOI lies outside the scenes found and stays without data",)

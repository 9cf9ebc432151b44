"""Versions and pieces: which items show the same place at the same moment, and which of them stays."""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from typing import TYPE_CHECKING, TypeVar

from cloudgan.stac.items import Granule

if TYPE_CHECKING:
    from collections.abc import Iterable

SAME_STRIP = dt.timedelta(minutes=1)
"""Datastrips of one datatake that begin further apart are pieces of it, not versions of each other."""
SAME_PLACE = 0.5
"""Share of the smaller footprint that two versions of a piece have in common at least."""

G = TypeVar("G", bound=Granule)


def mosaicking_order(item: Granule) -> tuple[float | str, ...]:
    """Sorts items first on top: the newest processing first, then by time and id.

    A total order of the items themselves, so that the pixel on top is the same for any area asked for.
    """
    major, minor = item.baseline
    generated = item.generated.timestamp() if item.generated else 0.0
    newest_first = (-major, -minor, -item.sequence, -generated)
    return (*newest_first, item.datetime.timestamp(), item.id, item.collection or "")


def group_versions(items: Iterable[G]) -> list[list[G]]:
    """Items in groups of versions of one piece, the newest first; groups in mosaicking order of their first.

    Versions share MGRS tile, datatake and the start of the datastrip to within a minute. Two granules of one
    tile and datatake whose datastrips begin further apart are pieces (the downlink was cut), and both stay.
    Where the datastrips are not known, the footprints tell: those of pieces lie beside each other.
    """
    groups: list[list[G]] = []
    alike: dict[tuple[str, dt.date], list[list[G]]] = defaultdict(list)
    for item in sorted(items, key=mosaicking_order):
        nearby = alike[item.mgrs_tile or item.id, item.solar_day]
        group = next((group for group in nearby if _are_versions(item, group[0])), None)
        if group is None:
            group = []
            groups.append(group)
            nearby.append(group)
        group.append(item)
    return groups


def _are_versions(one: Granule, other: Granule) -> bool:
    """Whether two items of one tile and day are versions of one piece."""
    if (one.datatake or one.id) != (other.datatake or other.id):
        return False
    if one.datastrip and other.datastrip:
        return abs(one.datastrip - other.datastrip) <= SAME_STRIP
    if abs(one.datetime - other.datetime) > SAME_STRIP:
        return False
    place, there = one.geometry, other.geometry
    smaller: float = min(place.area, there.area)
    return smaller == 0 or place.intersection(there).area >= SAME_PLACE * smaller

"""What the names of a product tell of it, wherever a provider writes them.

ESA's names of products, granules, datatakes and datastrips hold the satellite, the start of the datatake, the
baseline, the relative orbit and the MGRS tile. Providers keep them under prefixes of their own
(`s2:product_uri`, `sentinel:product_id`, `eopf:datatake_id`...), as the title, as the item's id, or in the
paths of its files.
"""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from cloudgan.sentinel2.offset import Baseline
    from cloudgan.stac.values import Json

_LONGEST = 1000  # characters of a text that may be a name
_HREFS = 3  # files whose paths are searched for names
_KEYS = ("datatake_id", "product_uri", "product_id", "granule_id", "datastrip_id", "title")
_TILE_KEYS = ("mgrs_tile", "tile_id", "tileid", "region_code")
_TILE_PARTS = ("utm_zone", "latitude_band", "grid_square")

_TILE = r"(?:0?[1-9]|[1-5]\d|60)[C-HJ-NP-X][A-Z]{2}"
_DATATAKE = re.compile(r"G?(S2[A-Z])_(?:MSIL[12][AC]_)?(\d{8}T\d{6})_")
_OLD_PRODUCT = re.compile(r"(S2[A-Z])_OPER_PRD_MSIL[12][AC]_.*_V(\d{8}T\d{6})_")
_BASELINE = re.compile(r"_N(\d{2})\.?(\d{2})(?=_|\.|$)")
_ORBIT = re.compile(r"_R(\d{3})(?=_|\.|$)")
_TILE_IN_NAME = re.compile(rf"(?:^|_|-|_T|^T)({_TILE})(?=_|\.|$)")
_DATASTRIP = re.compile(r"_S(\d{8}T\d{6})(?=_|\.|$)|L[12][AC]_T\w{5}_A\d{6}_(\d{8}T\d{6})(?=_|\.|$)")
_MADE = re.compile(r"_T\w{5}_(\d{8}T\d{6})(?=_|\.|$)")


@dataclass(frozen=True, slots=True)
class ProductNames:
    """What the names of a product tell; None where none of them does."""

    mgrs_tile: str | None = None
    """MGRS tile with a two-digit zone, such as `05QKB`."""
    baseline: Baseline | None = None
    """Processing baseline of the L2A product."""
    platform: str | None = None
    """Satellite: `S2A`."""
    datatake: dt.datetime | None = None
    """When the datatake began, UTC."""
    datastrip: dt.datetime | None = None
    """When the datastrip began, UTC."""
    relative_orbit: int | None = None
    """Relative orbit, 1 to 143."""
    made: dt.datetime | None = None
    """When the product was made, UTC, to tell versions from each other."""


def read_names(properties: Json, item_id: str, hrefs: Iterable[str] = ()) -> ProductNames:
    """What the names tell that stand in an item's properties, its id and the paths of its files.

    Args:
        properties: The item's properties.
        item_id: The item's id.
        hrefs: Addresses of its files; the first few are searched.
    """
    names = [*_iterate_names(properties), item_id, *_split_paths(hrefs)]
    started = _first(names, _DATATAKE) or _first(names, _OLD_PRODUCT)
    of_l2a = [name for name in names if "MSIL1C" not in name]  # the baseline of L1C is another
    baseline = _first(of_l2a, _BASELINE)
    orbit, strip, made = _first(names, _ORBIT), _first(names, _DATASTRIP), _first(of_l2a, _MADE)
    tile = _find_stated_tile(properties) or next(iter(_first(names, _TILE_IN_NAME) or ()), None)
    return ProductNames(
        mgrs_tile=tile.zfill(5) if tile else None,
        baseline=(int(baseline[0]), int(baseline[1])) if baseline else None,
        platform=started[0] if started else None,
        datatake=_parse_time(started[1]) if started else None,
        datastrip=_parse_time(strip[0] or strip[1]) if strip else None,
        relative_orbit=int(orbit[0]) if orbit else None,
        made=_parse_time(made[0]) if made else None,
    )


def find_property(properties: Json, *names: str) -> object:
    """The first property of these names that is stated, whatever its prefix: `sequence`, `s2:sequence`...

    ESA's and the providers' own prefixes come first, for a stable choice.
    """
    for name in names:
        for prefix in ("s2:", "sentinel:", "sentinel2:", "eopf:", "earthsearch:", "odc:", ""):
            if properties.get(prefix + name) is not None:
                return properties[prefix + name]
        for key in sorted(properties):
            if key.rpartition(":")[2] == name and properties[key] is not None:
                return properties[key]
    return None


def _iterate_names(properties: Json) -> Iterator[str]:
    """Texts among the properties that may be names of the product: those that should be first."""
    named = [find_property(properties, key) for key in _KEYS]
    others = [properties[key] for key in sorted(properties) if "S2" in str(properties[key])[:_LONGEST]]
    for value in (*named, *others):
        if isinstance(value, str) and len(value) <= _LONGEST:
            yield value


def _split_paths(hrefs: Iterable[str]) -> Iterator[str]:
    for href, _ in zip(hrefs, range(_HREFS), strict=False):
        yield from (part for part in href[:_LONGEST].split("/") if "T" in part)


def _find_stated_tile(properties: Json) -> str | None:
    """The MGRS tile of the properties that are there to state it."""
    for prefix in ("mgrs:", "sentinel:", "s2:", "sentinel2:", ""):
        parts = [properties.get(prefix + part) for part in _TILE_PARTS]
        if all(isinstance(part, str | int) and part for part in parts):
            found = re.fullmatch(_TILE, "".join(map(str, parts)))
            if found:
                return found[0]
    for value in (find_property(properties, *_TILE_KEYS), properties.get("grid:code")):
        found = re.fullmatch(rf"(?:MGRS-|T)?({_TILE})", str(value)[:20])
        if found:
            return found[1]
    return None


def _first(names: Iterable[str], pattern: re.Pattern[str]) -> tuple[str, ...] | None:
    """The groups of the pattern in the first of the names that has it."""
    found = (pattern.search(name) for name in names)
    return next((match.groups() for match in found if match), None)


def _parse_time(text: str) -> dt.datetime | None:
    try:
        return dt.datetime.strptime(text, "%Y%m%dT%H%M%S").replace(tzinfo=dt.UTC)
    except ValueError:
        return None

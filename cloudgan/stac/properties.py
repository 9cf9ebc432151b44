"""Facts of processing and acquisition, in the spellings of the providers."""

from __future__ import annotations

import datetime as dt
import re
from typing import TYPE_CHECKING

from cloudgan.sentinel2.dates import parse_timestamp
from cloudgan.stac.names import find_property

if TYPE_CHECKING:
    from cloudgan.sentinel2.offset import Baseline
    from cloudgan.stac.names import ProductNames
    from cloudgan.stac.raw_items import RawItem


def parse_baseline(stated: object) -> Baseline | None:
    """A processing baseline such as `05.09`, `N0509` or 5.09 as numbers; None where it is none."""
    if isinstance(stated, int | float) and not isinstance(stated, bool):
        return divmod(round(stated * 100), 100) if 0 < stated < 100 else None
    found = re.fullmatch(r"N?(\d{1,2})\.(\d{2})|N?(\d{2})(\d{2})", str(stated)[:10], re.ASCII)
    if found is None:
        return None
    major, minor = (part for part in found.groups() if part is not None)
    return int(major), int(minor)


def read_baseline(raw: RawItem) -> str | None:
    """The processing baseline as `05.09`, from the property, else out of the product's names."""
    stated = find_property(raw.properties, "processing_baseline") or raw.properties.get("processing:version")
    numbers = parse_baseline(stated) or raw.names.baseline
    return f"{numbers[0]:02d}.{numbers[1]:02d}" if numbers else None


def read_offset_flag(raw: RawItem) -> bool | None:
    """The flag that the provider took the BOA offset off; None without it."""
    flag = find_property(raw.properties, "boa_offset_applied")
    if isinstance(flag, str) and flag.lower() in ("true", "false"):
        return flag.lower() == "true"
    return flag if isinstance(flag, bool) else None


def read_sequence(raw: RawItem) -> int:
    """Number among the granules that the provider has of this tile and day; 0 where unknown."""
    stated = str(find_property(raw.properties, "sequence"))
    in_id = re.fullmatch(r"S2[A-Z]_\d{1,2}[A-Z]{3}_\d{8}_(\d{1,9})_L2A", raw.id)
    return int(stated) if re.fullmatch(r"[0-9]{1,9}", stated) else int(in_id[1]) if in_id else 0


def name_datatake(names: ProductNames, platform: object, item_id: str, instant: dt.datetime) -> str | None:
    """Satellite and start of the datatake: `S2A_20230815T095031`.

    Items that name no datatake fall back on satellite and day. A satellite may observe a tile twice in a day
    at high latitudes; these are over an hour apart, which distinguishes them from duplicates.
    """
    if names.platform and names.datatake:
        return f"{names.platform}_{names.datatake:%Y%m%dT%H%M%S}"
    found = re.search(
        r"(?:^|[^A-Z0-9])S(?:ENTINEL-)?(2[A-Z])(?![A-Z0-9])",
        f"{platform} {item_id}".upper().replace("_", " "),
    )
    return f"S{found[1]}_{instant:%Y%m%d}" if found else None


def read_generation_time(raw: RawItem) -> dt.datetime | None:
    """When ESA made the product, UTC; None where unknown."""
    stated = (
        find_property(raw.properties, "generation_time"),
        raw.properties.get("processing:datetime"),
        raw.names.made,
        raw.properties.get("created"),
    )
    for value in stated:
        if isinstance(value, dt.datetime):
            return value
        try:
            return parse_timestamp(str(value))
        except ValueError:
            continue
    return None

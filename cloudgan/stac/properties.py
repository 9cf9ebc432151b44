"""Facts of processing and acquisition, in the spellings of the providers."""

from __future__ import annotations

import datetime as dt
import re
from typing import TYPE_CHECKING

from cloudgan.sentinel2.dates import parse_timestamp

if TYPE_CHECKING:
    from cloudgan.sentinel2.offset import Baseline
    from cloudgan.stac.raw_items import RawItem


def parse_baseline(text: object) -> Baseline | None:
    """A processing baseline such as `05.09` or `N05.09` as numbers; None where it is none."""
    found = re.fullmatch(r"N?(\d{1,2})\.(\d{2})", str(text))
    return (int(found[1]), int(found[2])) if found else None


def read_baseline(raw: RawItem) -> str | None:
    """The processing baseline as `05.09`, from the property, else out of the product's names."""
    stated = raw.properties.get("s2:processing_baseline") or raw.properties.get("processing:version")
    if (numbers := parse_baseline(stated)) is None:
        found = (re.search(r"_N(\d{2})\.?(\d{2})(?=_|\.|$)", name) for name in raw.iterate_names())
        match = next((match for match in found if match), None)
        numbers = (int(match[1]), int(match[2])) if match else None
    return f"{numbers[0]:02d}.{numbers[1]:02d}" if numbers else None


def read_offset_flag(raw: RawItem) -> bool | None:
    """Earth Search's flag that the provider took the BOA offset off; None without it."""
    flag = raw.properties.get(
        "earthsearch:boa_offset_applied", raw.properties.get("sentinel:boa_offset_applied")
    )
    return flag if isinstance(flag, bool) else None


def read_sequence(raw: RawItem) -> int:
    """Number among the granules that the provider has of this tile and day; 0 where unknown."""
    stated = str(raw.properties.get("s2:sequence", ""))
    in_id = re.fullmatch(r"S2[A-Z]_\d{1,2}[A-Z]{3}_\d{8}_(\d{1,9})_L2A", raw.id)
    return int(stated) if re.fullmatch(r"[0-9]{1,9}", stated) else int(in_id[1]) if in_id else 0


def read_datatake(raw: RawItem, instant: dt.datetime) -> str | None:
    """Satellite and start of the datatake, without the baseline that `s2:datatake_id` ends in.

    Items that name no datatake fall back on satellite and day. A satellite may observe a tile twice in a day
    at high latitudes; these are over an hour apart, which distinguishes them from duplicates.
    """
    for name in raw.iterate_names():
        found = re.match(r"G?(S2[A-Z])_(?:MSIL[12][AC]_)?(\d{8}T\d{6})_", name)
        if found:
            return f"{found[1]}_{found[2]}"
    platform = re.search(
        r"(?:^|[^A-Z0-9])S(?:ENTINEL-)?(2[A-Z])(?![A-Z0-9])",
        f"{raw.properties.get('platform')} {raw.id}".upper().replace("_", " "),
    )
    return f"S{platform[1]}_{instant:%Y%m%d}" if platform else None


def read_datastrip_start(raw: RawItem) -> dt.datetime | None:
    """When the datastrip began, UTC: the `_S...` part of its id."""
    found = re.search(r"_S(\d{8}T\d{6})_", str(raw.properties.get("s2:datastrip_id")))
    try:
        return dt.datetime.strptime(found[1], "%Y%m%dT%H%M%S").replace(tzinfo=dt.UTC) if found else None
    except ValueError:
        return None


def read_generation_time(raw: RawItem) -> dt.datetime | None:
    """When ESA made the product, UTC; None where unknown."""
    try:
        return parse_timestamp(str(raw.properties.get("s2:generation_time") or raw.properties.get("created")))
    except ValueError:
        return None

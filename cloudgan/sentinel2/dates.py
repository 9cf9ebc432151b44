"""The span of time that a run covers, as STAC writes it, and the solar day of an instant."""

from __future__ import annotations

import calendar
import datetime as dt
import re
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cloudgan.errors import InputError

_CALENDAR = re.compile(r"(?P<year>\d{4})(-(?P<month>\d{2})(-(?P<day>\d{2}))?)?", re.ASCII)
_TIMESTAMP = re.compile(r"\d{4}-\d{2}-\d{2}[Tt]\d{2}:\d{2}:\d{2}(\.\d+)?([Zz]|[+-]\d{2}:\d{2})?", re.ASCII)
_REMEDY = "write a span such as 2020-04/2020-07, 2020-04-03 or 2020-04-03T00:00:00Z/2020-04-05T12:00:00Z"

Bound = dt.date | dt.datetime
"""One end of a `DateRange`: a calendar day, or an aware timestamp."""


@dataclass(frozen=True, slots=True)
class DateRange:
    """A closed span of time.

    A bound that names a day is compared with the *solar day* of an acquisition, because that is the day a
    user means and the date a scene gets: at 178 degrees east a morning overpass has the UTC date of the day
    before.
    A bound that names a time is compared with the instant itself.
    """

    start: Bound
    """First day (`datetime.date`, included), or first instant (aware `datetime.datetime`, included)."""
    end: Bound
    """Last day or last instant, included."""
    text: str = field(default="", compare=False)
    """What the user wrote, for messages; empty where the range was computed."""

    def __post_init__(self) -> None:
        for bound in (self.start, self.end):
            if isinstance(bound, dt.datetime) and bound.tzinfo is None:
                raise InputError(f"the timestamp {bound.isoformat()} names no time zone: add Z for UTC")
        if _first_instant(self.start) > _last_instant(self.end):
            raise InputError(f"the dates {self} run backwards: swap start and end")

    @classmethod
    def parse(cls, text: str) -> DateRange:
        """The range that `text` names, in the forms that STAC APIs take.

        Years (`2020`), months (`2020-04`), days (`2020-04-03`) and RFC 3339 timestamps (UTC where no zone is
        named), alone or as an interval `start/end`. A year or month stands for all its days, at the end of an
        interval too. Open intervals are refused: a run needs an end to plan for, and one without would
        differ from day to day.

        Raises:
            InputError: `text` is no such range, is open, runs backwards, or names a day that does not exist.
        """
        parts = [part.strip() for part in text.strip().split("/")]
        if len(parts) > 2 or parts == [""]:
            raise InputError(f"the dates {text!r} are neither a date nor start/end: {_REMEDY}")
        if any(part in ("", "..") for part in parts):
            raise InputError(
                f"the dates {text!r} are an open interval, and a run needs both ends to plan for: "
                "name the first and the last date"
            )
        return cls(_bounds(parts[0], text)[0], _bounds(parts[-1], text)[1], text.strip())

    def __str__(self) -> str:
        return self.text or f"{self.start.isoformat()}/{self.end.isoformat()}"

    def contains(self, instant: dt.datetime, day: dt.date) -> bool:
        """Whether an acquisition at `instant` (aware), of solar day `day`, lies in the range."""
        after = instant >= self.start if isinstance(self.start, dt.datetime) else day >= self.start
        before = instant <= self.end if isinstance(self.end, dt.datetime) else day <= self.end
        return after and before

    def utc_span(self) -> tuple[dt.datetime, dt.datetime]:
        """First and last UTC instant that the range can hold, to ask a server for.

        Days are widened by one on either side, since a solar day begins up to half a day before or after the
        UTC day of the same date; `contains` then keeps what belongs.
        """
        return _first_instant(self.start, margin_days=1), _last_instant(self.end, margin_days=1)

    def widen(self, days: int) -> DateRange:
        """The range with so many days more on either side."""
        step = dt.timedelta(days=days)
        try:
            return DateRange(self.start - step, self.end + step)
        except OverflowError as error:
            raise InputError(f"{days} days around {self} leave the calendar; give fewer") from error

    def whole_years(self) -> DateRange:
        """The calendar years that the range touches."""
        first, last = self.start.year, self.end.year
        text = str(first) if first == last else f"{first}/{last}"
        return DateRange(dt.date(first, 1, 1), dt.date(last, 12, 31), text)


def solar_day(instant: dt.datetime, epsg: int) -> dt.date:
    """The date at the central meridian of a UTM zone, where the sun crosses 15 degrees an hour.

    It depends on the zone alone, neither on an item's footprint nor on an area of interest, so that the
    granules of one overpass share it wherever they are cut.

    Args:
        instant: When the image was taken; aware.
        epsg: EPSG code of the UTM zone, 32601 to 32660 or 32701 to 32760.
    """
    longitude = (epsg % 100) * 6 - 183
    return (instant.astimezone(dt.UTC) + dt.timedelta(hours=longitude / 15)).date()


def parse_timestamp(text: str) -> dt.datetime:
    """The aware UTC instant that an RFC 3339 timestamp names; UTC where it names no zone.

    Raises:
        ValueError: `text` is no timestamp, or no such instant exists.
    """
    if not _TIMESTAMP.fullmatch(text):
        raise ValueError(f"{text!r} is no RFC 3339 timestamp")
    instant = dt.datetime.fromisoformat(text.upper())
    try:
        return instant.replace(tzinfo=dt.UTC) if instant.tzinfo is None else instant.astimezone(dt.UTC)
    except OverflowError as err:
        raise ValueError(f"{text!r} lies outside the calendar") from err


def _bounds(part: str, text: str) -> tuple[Bound, Bound]:
    """First and last day of the year, month or day that `part` names; a timestamp is both its ends."""
    named = _CALENDAR.fullmatch(part)
    try:
        if not named:
            instant = parse_timestamp(part)
            return instant, instant
        year, month, day = (int(group) if group else None for group in named.group("year", "month", "day"))
        # Year 0 does not exist, and is refused like 2020-02-30.
        first = dt.date(year or 0, month or 1, day or 1)
        if day is not None:
            return first, first
        last_month = month or 12
        return first, dt.date(first.year, last_month, calendar.monthrange(first.year, last_month)[1])
    except ValueError as err:
        reason = "no date that exists" if named or _TIMESTAMP.fullmatch(part) else "no date"
        raise InputError(f"the dates {text!r} cannot be used, {part!r} is {reason}: {_REMEDY}") from err


def _first_instant(bound: Bound, margin_days: int = 0) -> dt.datetime:
    if isinstance(bound, dt.datetime):
        return bound.astimezone(dt.UTC)
    return dt.datetime.combine(_add_days(bound, -margin_days), dt.time.min, dt.UTC)


def _last_instant(bound: Bound, margin_days: int = 0) -> dt.datetime:
    if isinstance(bound, dt.datetime):
        return bound.astimezone(dt.UTC)
    return dt.datetime.combine(_add_days(bound, margin_days), dt.time.max, dt.UTC)


def _add_days(day: dt.date, days: int) -> dt.date:
    """`day` moved by `days`, stopping at either end of the calendar."""
    try:
        return day + dt.timedelta(days=days)
    except OverflowError:
        return day


def day_numbers(times: NDArray[Any]) -> NDArray[np.int64]:
    """Days since 1970-01-01 of timestamps (`datetime64`), of the same shape."""
    return times.astype("datetime64[D]").astype(np.int64)

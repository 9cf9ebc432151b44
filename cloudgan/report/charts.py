"""Charts as inline SVG: colours come from the page's style, numbers are read by screen readers too."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise

WIDTH, HEIGHT = 720, 250
LEFT, RIGHT, TOP, BOTTOM = 62, 12, 12, 34
_SHORT = 75  # days of a series whose axis names days
_MANY = 120  # dates from which marks and gaps are small


@dataclass(frozen=True, slots=True)
class Axis:
    """A range of numbers, and the pixels it is drawn on."""

    low: float
    """Smallest number."""
    high: float
    """Largest number."""
    start: float
    """Pixel of the smallest."""
    end: float
    """Pixel of the largest."""

    def __call__(self, value: float) -> float:
        """The pixel of a number."""
        span = (self.high - self.low) or 1.0
        return self.start + (value - self.low) / span * (self.end - self.start)


@dataclass(frozen=True, slots=True)
class SeriesPoint:
    """The mean of an index on a date."""

    day: dt.date
    """The date."""
    value: float | None
    """Mean of all pixels with data."""
    observed: float | None
    """Mean of the observed pixels."""
    generated: float | None
    """Mean of the generated pixels."""
    error: float
    """How far `value` may be off."""
    share: float = 1.0
    """Share of the pixels with data that were observed."""


def place_dates(days: Sequence[dt.date]) -> list[float]:
    """The horizontal pixel of each date: the middle of its bar."""
    axis = _time_axis(days)
    return [round(axis(day.toordinal()), 2) for day in days]


def _time_axis(days: Sequence[dt.date]) -> Axis:
    first, last = days[0].toordinal(), days[-1].toordinal()
    margin = max((last - first) * 0.02, 1.0)
    return Axis(first - margin, last + margin, LEFT, WIDTH - RIGHT)


def draw_series(points: Sequence[SeriesPoint], name: str, place: str = "the area") -> str:
    """The curve of an index with its band of error; observed and generated told apart by form and colour.

    Args:
        points: By date.
        name: Of the index.
        place: What it is the mean of.
    """
    days = [point.day for point in points]
    known = [point for point in points if point.value is not None]
    if not known:
        return ""
    numbers = [n for p in known for n in (p.value, p.observed, p.generated) if n is not None]
    edges = [edge for p in known if p.value is not None for edge in (p.value - p.error, p.value + p.error)]
    low, high = min(numbers + edges), max(numbers + edges)
    pad = max(0.05 * (high - low), 0.02)
    across, up = _time_axis(days), Axis(low - pad, high + pad, HEIGHT - BOTTOM, TOP)
    upper = [(across(p.day.toordinal()), up((p.value or 0) + p.error)) for p in known]
    lower = [(across(p.day.toordinal()), up((p.value or 0) - p.error)) for p in reversed(known)]
    line = [(across(p.day.toordinal()), up(p.value or 0)) for p in known]
    largest = 4.5 if len(points) < _MANY else 2.5
    parts = [
        *_draw_frame(across, up, days, _ticks(low - pad, high + pad)),
        f'<polygon class="band" points="{_join(upper + lower)}"/>',
        f'<polyline class="curve" points="{_join(line)}"/>',
    ]
    for point in known:
        x = across(point.day.toordinal())
        if point.generated is not None:
            y, radius = up(point.generated), _size_mark(1 - point.share, largest)
            diamond = [(x, y - radius), (x + radius, y), (x, y + radius), (x - radius, y)]
            parts.append(f'<polygon class="generated" points="{_join(diamond)}"/>')
        if point.observed is not None:
            y, radius = up(point.observed), _size_mark(point.share, largest)
            parts.append(f'<circle class="observed" cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}"/>')
    parts.append(_draw_cursor())
    title = f"Mean {name} of {place}, {days[0]} to {days[-1]}: {min(numbers):.2f} to {max(numbers):.2f}"
    return _wrap(parts, title)


def _size_mark(share: float, largest: float) -> float:
    """Radius of a mark whose surface grows with the share it stands for, but that can be seen."""
    return 1.2 + (largest - 1.2) * math.sqrt(max(share, 0.0))


def draw_stacks(days: Sequence[dt.date], stacks: Sequence[Sequence[tuple[str, float]]], title: str) -> str:
    """A bar of shares for each date.

    Args:
        days: The dates.
        stacks: Of each date, the style's class and the share of each part, from below.
        title: What the chart says.
    """
    across, up = _time_axis(days), Axis(0, 1, HEIGHT - BOTTOM, TOP)
    places = place_dates(days)
    gaps = [right - left for left, right in pairwise(places)]
    width = max(1.0, min([14.0, *(0.8 * gap for gap in gaps if gap > 0)]))
    parts = list(_draw_frame(across, up, days, (0, 0.25, 0.5, 0.75, 1), "{:.0%}"))
    for x, stack in zip(places, stacks, strict=True):
        below = 0.0
        for name, share in stack:
            if share > 0:
                top, base = up(min(below + share, 1)), up(below)
                parts.append(
                    f'<rect class="{name}" x="{x - width / 2:.1f}" y="{top:.1f}" width="{width:.1f}" '
                    f'height="{max(base - top, 0):.1f}"/>'
                )
            below += share
    parts.append(_draw_cursor())
    return _wrap(parts, title)


def _wrap(parts: Iterable[str], title: str) -> str:
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">{"".join(parts)}</svg>'
    )


def _draw_frame(
    across: Axis, up: Axis, days: Sequence[dt.date], ticks: Iterable[float], form: str = "{:.2g}"
) -> Iterator[str]:
    for tick in ticks:
        y = up(tick)
        yield f'<line class="rule" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        text = form.format(tick)
        yield f'<text class="tick" x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{text}</text>'
    for day, text in _name_months(days):
        x = across(day.toordinal())
        if LEFT <= x <= WIDTH - RIGHT - 20:
            yield f'<path class="rule" d="M{x:.1f} {HEIGHT - BOTTOM}v5"/>'
            yield f'<text class="tick" x="{x:.1f}" y="{HEIGHT - 10}">{text}</text>'


def _draw_cursor() -> str:
    return f'<line class="cursor" x1="0" x2="0" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>'


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers within a range, some five of them."""
    span = high - low
    step = next(size for size in (0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0) if span / size <= 6 or size == 2)
    first = int(low // step) + 1
    return [round(number * step, 10) for number in range(first, int(high // step) + 1)]


def _name_months(days: Sequence[dt.date]) -> list[tuple[dt.date, str]]:
    """First days of months or years, and how the axis names them; of a short series, days."""
    first, last = days[0], days[-1]
    if (span := (last - first).days) <= _SHORT:
        step = next((size for size in (1, 2, 5, 10, 15) if span / size <= 6), _SHORT)
        return [
            (day, f"{day.day} {day:%b %Y}" if at == 0 else f"{day.day} {day:%b}")
            for at in range(span // step + 1)
            for day in [first + dt.timedelta(days=at * step)]
        ]
    months = (last.year - first.year) * 12 + last.month - first.month + 1
    step = next((size for size in (1, 2, 3, 6, 12) if months / size <= 9), 12 * -(-months // (12 * 9)))
    starts: list[tuple[dt.date, str]] = []
    for number in range(first.year * 12 + first.month - 1, last.year * 12 + last.month):
        year, month = divmod(number, 12)
        if number % step == 0:
            day = dt.date(year, month + 1, 1)
            is_first = month == 0 or not starts
            starts.append((max(day, first) if day < first else day, _spell(day, is_first, step)))
    return starts


def _spell(day: dt.date, with_year: bool, step: int) -> str:
    if step % 12 == 0:
        return f"{day:%Y}"
    return f"{day:%b %Y}" if with_year else f"{day:%b}"


def _join(points: Iterable[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)

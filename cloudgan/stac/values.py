"""Values of JSON that anyone may have written: taken where they are what they should be, else left out."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

Json = dict[str, Any]
"""A JSON object."""


def to_number(value: object) -> float | None:
    """A finite number of JSON as a float; None where it is none."""
    try:
        number = float(value) if isinstance(value, int | float) else math.nan
    except OverflowError:  # JSON's whole numbers have no limit
        return None
    return number if math.isfinite(number) else None


def to_numbers(value: object, count: int) -> list[float] | None:
    """The first `count` numbers of a JSON list; None where it is none, too short, or holds other things."""
    if not isinstance(value, list) or len(value) < count:
        return None
    head = [to_number(each) for each in value[:count]]
    return [number for number in head if number is not None] if None not in head else None


def first_number(*values: object) -> float | None:
    """The first of the values that is a finite number."""
    return next((number for number in map(to_number, values) if number is not None), None)


def iterate_objects(values: object) -> Iterator[Json]:
    """The JSON objects among `values`, which may be anything; all else is left out."""
    return (value for value in (values if isinstance(values, Iterable) else ()) if isinstance(value, dict))

"""Periods of the calendar: months, dekads and seasons."""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from cloudgan.errors import InputError

Period = Literal["month", "dekad", "season"]
"""A calendar month; a third of it, from its 1st, 11th and 21st day; three months from December, March, ..."""


def check_period(name: str) -> Period:
    """The period of a name.

    Raises:
        InputError: There is none.
    """
    for known in get_args(Period):
        if name == known:
            period: Period = known
            return period
    raise InputError(f"there is no period {name!r}; give one of {', '.join(get_args(Period))}")


def find_starts(times: NDArray[Any], period: Period) -> NDArray[np.datetime64]:
    """The first day of the period in which each date lies.

    Args:
        times: Dates, datetime64 of any unit.
        period: The period.

    Returns:
        datetime64[D] of the same shape.
    """
    days = np.asarray(times).astype("datetime64[D]")
    months = days.astype("datetime64[M]")
    if period == "season":
        # Months since 1970-01: December begins a season.
        months = months - (months.astype(np.int64) + 1) % 3
    starts = months.astype("datetime64[D]")
    if period == "dekad":
        starts = starts + 10 * np.minimum((days - starts).astype(np.int64) // 10, 2)
    return starts

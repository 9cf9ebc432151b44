"""The input channels of a generator, assembled from a classified time series, for serving and training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cloudgan.estimation.estimate import DARKEST, estimate_date
from cloudgan.model.contract import Channel, Source
from cloudgan.observations import (
    ClearDates,
    days_to_clear_date,
    find_common_clear_dates,
    find_nearest_clear_dates,
)
from cloudgan.sentinel2.bands import to_reflectance

_COMMON = (Source.BEFORE, Source.AFTER)
_NEAREST = (Source.NEAREST_BEFORE, Source.NEAREST_AFTER)
BRIGHTEST = np.float32(2)
"""Reflectance at which a target's values end: cloud comes out at 1.8 at most, and what lies above is none."""


def assemble_inputs(
    channels: Sequence[Channel],
    bands: Mapping[str, NDArray[Any]],
    masked: NDArray[np.bool_],
    clear: NDArray[np.bool_],
    days: NDArray[np.int64],
    at: int,
    among: range,
    *,
    nearest: ClearDates | None = None,
    offsets: Mapping[str, NDArray[np.float32]] | None = None,
) -> NDArray[np.float32]:
    """The input channels of one date over one tile, in the contract's order and units.

    Args:
        channels: What the generator asks for.
        bands: By common name, all dates, as digital numbers (uint16) or reflectance (float32), shape
            (time, y, x).
        masked: The mask of the date, shape (y, x).
        clear: Where each date may serve as a clear observation, shape (time, y, x).
        days: Day number of each date, ascending, shape (time,).
        at: Index of the date.
        among: Which dates may be taken for clear ones.
        nearest: The nearest clear dates where they are known already.
        offsets: By common name, reflectance to add to each date, shape (time,); none by default.

    Returns:
        Shape (channel, y, x).
    """
    common = None
    if depth := max((one.order for one in channels if one.source in _COMMON), default=0):
        common = find_common_clear_dates(clear, at, depth, among)
    if nearest is None and any(one.source in _NEAREST for one in channels):
        nearest = find_nearest_clear_dates(clear, at, among)
    estimated = _estimate(channels, bands, masked, clear, days, at, among)

    @cache
    def shown(source: Source, order: int) -> list[tuple[int, NDArray[np.bool_]]]:
        return _find_shown(source, order, common if source in _COMMON else nearest)

    def values(channel: Channel) -> NDArray[np.float32]:
        if channel.source is Source.MASK:
            return masked.astype(np.float32)
        if channel.source is Source.ESTIMATE:
            return estimated[str(channel.band)]
        if channel.source is Source.TARGET:
            return np.minimum(_reflectance(bands[str(channel.band)][at]), BRIGHTEST)
        image = np.zeros(masked.shape, np.float32)
        for date, pixels in shown(channel.source, channel.order):
            np.copyto(image, _show(channel, date, bands, days, at, offsets), where=pixels)
        return image

    return np.stack([values(channel) for channel in channels])


def _show(
    channel: Channel,
    date: int,
    bands: Mapping[str, NDArray[Any]],
    days: NDArray[np.int64],
    at: int,
    offsets: Mapping[str, NDArray[np.float32]] | None,
) -> NDArray[np.float32]:
    """What a channel of other dates holds where it shows one of them, shape (y, x) or ()."""
    if channel.band is None:
        return days_to_clear_date(np.array(date, np.int16), days, at).astype(np.float32)
    image = _reflectance(bands[channel.band][date])
    added = None if offsets is None else offsets[channel.band]
    return image if added is None or not added.any() else np.maximum(image + added[date], DARKEST)


def _estimate(
    channels: Sequence[Channel],
    bands: Mapping[str, NDArray[Any]],
    masked: NDArray[np.bool_],
    clear: NDArray[np.bool_],
    days: NDArray[np.int64],
    at: int,
    among: range,
) -> dict[str, NDArray[np.float32]]:
    """The estimate of each band of which a channel asks for it; all of them predict each other."""
    names = [str(channel.band) for channel in channels if channel.source is Source.ESTIMATE]
    if not names:
        return {}
    numbers = np.stack([_reflectance(bands[name]) for name in names])
    return dict(zip(names, estimate_date(numbers, clear, masked, days, at, among), strict=True))


def _find_shown(source: Source, order: int, found: ClearDates | None) -> list[tuple[int, NDArray[np.bool_]]]:
    """The dates that a channel shows, and the pixels of each, shape (y, x)."""
    assert found is not None  # noqa: S101 - searched for every channel that needs it
    side = found.before if source in (Source.BEFORE, Source.NEAREST_BEFORE) else found.after
    dates = side[order - 1]
    present = np.flatnonzero(np.bincount(dates.ravel() + 1)[1:])
    return [(int(date), dates == date) for date in present]


def _reflectance(values: NDArray[Any]) -> NDArray[np.float32]:
    return to_reflectance(values) if values.dtype == np.uint16 else values

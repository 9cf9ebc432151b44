"""Time series of looks at one place, and the planes of a date as serving assembles them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from cloudgan import observations
from cloudgan.errors import InputError
from cloudgan.sentinel2.classification import PixelClass
from cloudgan.training.data.imagery import BANDS, Floats, Mask

DEPTH = 4
"""Dates before, and as many after, that the temporal generator asks for."""
PLANES = (
    *(f"cloudy:{band}" for band in BANDS),
    "mask",
    *(
        f"{side}{order if order > 1 else ''}:{what}"
        for side in ("earlier", "later")
        for order in range(1, DEPTH + 1)
        for what in (*BANDS, "age")
    ),
)
"""What the temporal generator asks for, in order."""
HELD_OUT = ("33TWM-east", "flanders-b", "romania-east", "summer_102")
"""Regions that the shipped generator never saw."""


@dataclass(frozen=True, slots=True)
class Series:
    """ClearDates at one place in order of time."""

    name: str
    """Where it came from."""
    region: str
    """The place; the unit of the split."""
    buffer: int
    """Width in pixels of the buffer around cloud that serving would take at this resolution."""
    days: NDArray[np.int64]
    """Day number of each date, ascending, shape (time,)."""
    images: Floats
    """Reflectance, shape (time, height, width, bands); 0 is no data."""
    pixel_classes: NDArray[np.uint8]
    """Values of `clouds.PixelClass`, shape (time, height, width)."""
    truths: NDArray[np.bool_]
    """Dates whose clear pixels may be believed, shape (time,)."""
    masked: Mask
    """The mask that serving makes, shape (time, height, width)."""
    invented: bool = False
    """Whether the dates are made from one look alone, by simulated change."""
    scl: NDArray[np.uint8] | None = None
    """Sen2Cor's scene classification, shape (time, height, width), where there is one."""

    @classmethod
    def of(
        cls,
        name: str,
        region: str,
        buffer: int,
        days: Sequence[int] | NDArray[np.int64],
        images: Floats,
        pixel_classes: NDArray[np.uint8],
        truths: Sequence[bool] | NDArray[np.bool_],
        *,
        invented: bool = False,
    ) -> Series:
        """A series with its mask."""
        masked = np.stack([mask_of(state, buffer) for state in pixel_classes])
        return cls(
            name, region, buffer, np.asarray(days, np.int64), images, pixel_classes, np.asarray(truths, bool), masked,
            invented,
        )  # fmt: skip

    @property
    def clear(self) -> Mask:
        """Where a date can serve as a clear look."""
        clear: Mask = (self.pixel_classes == PixelClass.CLEAR) & ~self.masked
        return clear

    def clear_of(self, window: tuple[slice, slice]) -> Mask:
        """Where each date can serve as a clear look, in a window."""
        part = (slice(None), *window)
        clear: Mask = (self.pixel_classes[part] == PixelClass.CLEAR) & ~self.masked[part]
        return clear

    def part(self, side: str, rows: slice, cols: slice) -> Series:
        """A part of the place, as a region of its own."""
        return replace(
            self,
            region=f"{self.region}-{side}",
            images=self.images[:, rows, cols],
            pixel_classes=self.pixel_classes[:, rows, cols],
            masked=self.masked[:, rows, cols],
            scl=None if self.scl is None else self.scl[:, rows, cols],
        )

    def only(self, dates: NDArray[np.intp]) -> Series:
        """Some of the dates."""
        return replace(
            self,
            days=self.days[dates],
            images=self.images[dates],
            pixel_classes=self.pixel_classes[dates],
            truths=self.truths[dates],
            masked=self.masked[dates],
            scl=None if self.scl is None else self.scl[dates],
        )


def mask_of(pixel_classes: NDArray[np.uint8], buffer: int) -> Mask:
    """What serving hides of one date: cloud, its buffer, and what has no data; shape (height, width)."""
    empty = (pixel_classes == PixelClass.NO_DATA) | (pixel_classes == PixelClass.MISSING)
    masked: Mask = (observations.compute_opacity(pixel_classes, buffer) > 0) | empty
    return masked


def channels(
    cloudy: Floats, masked: Mask, images: Floats, clear: Mask, days: NDArray[np.int64], at: int
) -> Floats:
    """The input planes of one date, as serving assembles them.

    Args:
        cloudy: The date itself, reflectance, shape (height, width, bands).
        masked: Its mask, see `mask_of`.
        images: Every date, shape (time, height, width, bands).
        clear: Where each date can serve as a clear look, shape (time, height, width).
        days: Day number of each date, shape (time,).
        at: Index of the date itself; it never serves as a look.

    Returns:
        Shape (height, width, planes), in the order of `PLANES`.
    """
    looks = observations.find_common_clear_dates(
        clear, at, DEPTH, observations.dates_within(days, at, observations.MAX_AGE)
    )
    parts = [cloudy, masked[..., None].astype(np.float32)]
    for look in (*looks.before, *looks.after):
        values = np.take_along_axis(images, np.maximum(look, 0)[None, ..., None].astype(np.intp), axis=0)[0]
        ages = observations.days_to_clear_date(look, days, at)
        parts += [
            np.where(look[..., None] < 0, np.float32(0), values),
            np.where(ages == NO_CLEAR_DATE, 0, ages).astype(np.float32)[..., None],
        ]
    return np.concatenate(parts, axis=-1)


def split(every: Sequence[Series], held_out: Collection[str] = HELD_OUT) -> tuple[list[Series], list[Series]]:
    """Training and held-out series, by region.

    Raises:
        InputError: A name is no region, or nothing is left on one side.
    """
    regions = {series.region for series in every}
    if unknown := set(held_out) - regions:
        raise InputError(f"no such regions to hold out: {sorted(unknown)}; there are {sorted(regions)}")
    if not held_out or not regions - set(held_out):
        raise InputError(f"hold out some of the regions {sorted(regions)} but not all")
    return (
        [series for series in every if series.region not in held_out],
        [series for series in every if series.region in held_out],
    )

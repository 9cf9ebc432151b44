"""The core of cloud removal: a classified time series in, declouded dates out, one after the other.

It works on arrays. The batch run calls it, and so does `remove_clouds` on an xarray cube.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cloudgan.estimation.trust import HAZY_BELOW
from cloudgan.geo.grid import Window
from cloudgan.geo.tiling import Tiling
from cloudgan.observations import (
    MAX_AGE,
    ClearDates,
    Observations,
    dates_within,
    days_to_clear_date,
    find_clear,
    find_mask_sources,
    find_masked,
    find_nearest_clear_dates,
)
from cloudgan.removal.blas import hold_one_thread
from cloudgan.removal.blending import (
    UNKNOWN,
    OverlapRange,
    feather,
    generated_share,
    is_out_of_range,
    is_uncertainty_clamped,
    refuse_no_numbers,
    uncertainty_numbers,
)
from cloudgan.removal.inputs import assemble_inputs
from cloudgan.removal.normalisation import Radiometry, combine_radiometry
from cloudgan.schema import NO_CLEAR_DATE, NO_UNCERTAINTY, QUALITY_NAMES, MaskSource, Provenance
from cloudgan.sentinel2.bands import SATURATED_NUMBER
from cloudgan.sentinel2.classification import PixelClass

if TYPE_CHECKING:
    from cloudgan.model.contract import Contract
    from cloudgan.model.generator import Generator

_ENOUGH_CLEAR = 0.02  # share of a tile that must be clear to show the radiometry of its date


_PROVENANCE = np.zeros(len(PixelClass), np.uint8)  # by pixel class, of what is not generated
_PROVENANCE[PixelClass.NO_DATA] = Provenance.NO_DATA
_PROVENANCE[[PixelClass.CLEAR, PixelClass.CLOUDY]] = Provenance.OBSERVED
_PROVENANCE[PixelClass.UNRELIABLE] = Provenance.UNRELIABLE
_PROVENANCE[PixelClass.MISSING] = Provenance.MISSING_ASSET


@dataclass(frozen=True, slots=True)
class DecloudedDate:
    """One date of the output."""

    bands: NDArray[np.uint16]
    """Digital numbers, 0 no data, shape (band, y, x), in the order of the generator's output bands."""
    provenance: NDArray[np.uint8]
    """Values of `Provenance`, shape (y, x)."""
    mask_source: NDArray[np.uint8]
    """Who masked each pixel: bits of `MaskSource`, 0 where it is observed, shape (y, x)."""
    days_before: NDArray[np.uint16]
    """Days to the nearest clear date before, `NO_CLEAR_DATE` without one, 0 where observed, shape (y, x)."""
    days_after: NDArray[np.uint16]
    """Days to the nearest clear date after, likewise."""
    uncertainty: NDArray[np.uint16]
    """Uncertainty of a generated pixel, mean over bands, x 10000; `NO_UNCERTAINTY` where observed. Shape
    (y, x). It is the error that the generator predicts. For one that predicts none, it is the largest minus
    the smallest prediction of overlapping tiles, and `NO_UNCERTAINTY` of a single tile."""
    clamped: NDArray[np.bool_]
    """Where the generator gave a reflectance outside `blending.GENERATED_RANGE`, or an uncertainty that
    cannot be stored, and it was clamped; shape (y, x). It is counted and not stored."""

    def clip(self, outside: NDArray[np.bool_]) -> DecloudedDate:
        """The same date without data where `outside`, shape (y, x)."""
        return DecloudedDate(
            np.where(outside, np.uint16(0), self.bands),
            np.where(outside, np.uint8(Provenance.NO_DATA), self.provenance),
            np.where(outside, np.uint8(MaskSource.NO_DATA), self.mask_source),
            np.where(outside, np.uint16(NO_CLEAR_DATE), self.days_before),
            np.where(outside, np.uint16(NO_CLEAR_DATE), self.days_after),
            np.where(outside, np.uint16(NO_UNCERTAINTY), self.uncertainty),
            self.clamped & ~outside,
        )

    def place(self, target: Window, window: Window) -> DecloudedDate:
        """The same date, of a target, in the middle of a window without data around it."""
        if target == window:
            return self
        there = target.slices_in(window)

        def put(values: NDArray[Any], nothing: int) -> NDArray[Any]:
            wide = np.full((*values.shape[:-2], *window.shape), nothing, values.dtype)
            wide[..., *there] = values
            return wide

        return DecloudedDate(
            put(self.bands, 0),
            put(self.provenance, Provenance.NO_DATA),
            put(self.mask_source, MaskSource.NO_DATA),
            put(self.days_before, NO_CLEAR_DATE),
            put(self.days_after, NO_CLEAR_DATE),
            put(self.uncertainty, NO_UNCERTAINTY),
            put(self.clamped, 0),
        )

    def variables(self, bands: tuple[str, ...]) -> dict[str, NDArray[Any]]:
        """The arrays of shape (y, x) by the names under which they are stored."""
        return dict(zip(bands, self.bands, strict=True)) | {
            name: getattr(self, name) for name in QUALITY_NAMES
        }


def window_to_read(target: Window, tiling: Tiling, buffer: int) -> Window:
    """What must be read to decloud `target`: its tiles, and the buffer around them."""
    return tiling.cover(target).buffered(buffer)


def default_tiling(generator: Generator) -> Tiling:
    """The generator's tile on a stride of three quarters of it."""
    tile = generator.contract.tile
    return Tiling(tile, tile * 3 // 4)


def decloud_dates(
    observations: Observations,
    target: Window,
    generator: Generator,
    *,
    buffer: int,
    tiling: Tiling,
    dates: Sequence[int] | None = None,
    max_age: int = MAX_AGE,
    threads: int = 1,
    read_radiometry: Callable[[], Sequence[Radiometry]] = tuple,
) -> Iterator[DecloudedDate]:
    """Decloud the dates of a window, one after the other.

    The value of a pixel depends on the observations around it alone, never on `target`. Where they hold all
    of `window_to_read(target)`, a crop of the whole equals the whole of the crop, bit for bit.

    Args:
        observations: Input, with all of `generator.contract.input_bands`. What it lacks of
            `window_to_read(target)` counts as no data.
        target: The window to decloud.
        generator: What fills the mask.
        buffer: Width of the buffer around cloud and shadow, in pixels.
        tiling: Where the tiles lie.
        dates: Indices of the dates that are wanted; all by default. The others give clear observations.
        max_age: Days beyond which a clear date does not count; the observations should extend so far around
            `dates`.
        threads: Tiles that are generated at once.
        read_radiometry: Returns what was measured beyond the window. Where a tile is fully masked, or nearly,
            the radiometric offsets are added to its clear observations, as far as the date is trusted. A hazy
            date is masked for the generator. Called for generators that take other dates.

    Yields:
        The output of each wanted date, in order, over `target`.
    """
    observations = observations.pad(window_to_read(target, tiling, buffer))
    cover = tiling.cover(target)
    rows, cols = cover.slices_in(observations.window)
    # A copy, so that the memory of the buffer around is released.
    opacity = observations.opacity(buffer)[:, rows, cols].copy()
    observations = observations.crop(cover)
    clear = find_clear(observations.pixel_classes, opacity)
    with hold_one_thread(), ThreadPoolExecutor(threads) as pool:
        for at in range(len(observations.days)) if dates is None else dates:
            near = dates_within(observations.days, at, max_age)
            nearest = find_nearest_clear_dates(clear, at, near)
            date = _Date(observations, opacity[at], clear, nearest, at, near, read_radiometry)
            yield _decloud_date(date, target, generator, tiling, pool)


@dataclass(frozen=True, slots=True)
class _Date:
    """One date among its neighbours in time, over the tiles that are needed."""

    observations: Observations
    opacity: NDArray[np.float16]
    clear: NDArray[np.bool_]
    nearest: ClearDates
    at: int
    near: range
    read_radiometry: Callable[[], Sequence[Radiometry]]

    def share(self, window: Window, *, sees_time: bool) -> NDArray[np.float32]:
        """How much of the generated value each pixel takes, shape (y, x)."""
        rows, cols = window.slices_in(self.observations.window)
        # Without other dates nothing is known of a surface that no band of this date shows.
        available = self._nearest(window).any() & sees_time
        classes = self.observations.pixel_classes[self.at, rows, cols]
        return generated_share(classes, self.opacity[rows, cols], available)

    def inputs(self, contract: Contract, tile: Window, radiometry: _TileRadiometry) -> NDArray[np.float32]:
        """The input channels of the generator over a tile, shape (channel, y, x), in the contract's units."""
        part = self.observations.crop(tile)
        return assemble_inputs(
            contract.input_channels,
            part.bands,
            self._masked(tile) | radiometry.hazy,
            self.clear[:, *tile.slices_in(self.observations.window)],
            part.days,
            self.at,
            self.near,
            nearest=self._nearest(tile),
            offsets=dict(zip(contract.input_bands, radiometry.offsets.T, strict=True)),
        )

    def radiometry(self, tile: Window, contract: Contract) -> _TileRadiometry:
        """Offsets and haze in one tile of the generator, from the whole of the MGRS tile."""
        found = combine_radiometry(self.read_radiometry(), tile, self.at) if contract.sees_time else None
        if found is None:
            shape = len(self.observations.days), len(contract.input_bands)
            return _TileRadiometry(np.zeros(shape, np.float32), hazy=False)
        offsets, trust = found
        lacking = np.float32(max(0.0, 1 - (1 - self._masked(tile).mean()) / _ENOUGH_CLEAR))
        return _TileRadiometry(
            lacking * trust * np.nan_to_num(offsets), hazy=bool((trust < HAZY_BELOW).all())
        )

    def days_to_nearest(self, window: Window) -> tuple[NDArray[np.uint16], NDArray[np.uint16]]:
        """Days to the nearest clear date before and after, each of shape (y, x)."""
        nearest, days = self._nearest(window), self.observations.days
        before, after = (
            days_to_clear_date(side[0], days, self.at) for side in (nearest.before, nearest.after)
        )
        return before, after

    def mask_source(self, window: Window) -> NDArray[np.uint8]:
        """Who masked each pixel, shape (y, x)."""
        rows, cols = window.slices_in(self.observations.window)
        called = self.observations.mask_sources
        return find_mask_sources(
            self.observations.pixel_classes[self.at, rows, cols],
            self.opacity[rows, cols],
            None if called is None else called[self.at, rows, cols],
        )

    def _masked(self, window: Window) -> NDArray[np.bool_]:
        rows, cols = window.slices_in(self.observations.window)
        return find_masked(self.observations.pixel_classes[self.at, rows, cols], self.opacity[rows, cols])

    def _nearest(self, window: Window) -> ClearDates:
        rows, cols = window.slices_in(self.observations.window)
        return ClearDates(self.nearest.before[:, rows, cols], self.nearest.after[:, rows, cols])


@dataclass(frozen=True, slots=True)
class _TileRadiometry:
    """Radiometry of the dates in one tile."""

    offsets: NDArray[np.float32]
    """Reflectance to add to each date, shape (time, band)."""
    hazy: bool
    """Whether the date itself is hazy: its clear pixels are masked for the generator too."""


def _decloud_date(
    date: _Date, target: Window, generator: Generator, tiling: Tiling, pool: Executor
) -> DecloudedDate:
    contract = generator.contract
    part = date.observations.crop(target)
    pixel_classes = part.pixel_classes[date.at]
    bands = np.stack([part.bands[name][date.at] for name in contract.output_bands])
    share = date.share(target, sees_time=contract.sees_time)
    generated = share > 0
    provenance = _PROVENANCE[pixel_classes]
    provenance[generated] = Provenance.GENERATED
    uncertainty = np.full(target.shape, NO_UNCERTAINTY, np.uint16)
    clamped = np.zeros(target.shape, np.bool_)
    saturated = (provenance == Provenance.UNRELIABLE) & (bands >= SATURATED_NUMBER)
    bands = np.where(saturated, np.uint16(0), bands)
    if generated.any():
        predicted, predicted_uncertainty = _generate(date, target, generated, generator, tiling, pool)
        predicted_uncertainty = np.where(generated, predicted_uncertainty, UNKNOWN)
        bands = feather(bands, predicted, share)
        uncertainty = uncertainty_numbers(predicted_uncertainty)
        clamped = generated & (is_out_of_range(predicted) | is_uncertainty_clamped(predicted_uncertainty))
    days = [np.where(generated, side, np.uint16(0)) for side in date.days_to_nearest(target)]
    sources = date.mask_source(target)
    return DecloudedDate(bands, provenance, sources, days[0], days[1], uncertainty, clamped)


def _generate(
    date: _Date,
    target: Window,
    generated: NDArray[np.bool_],
    generator: Generator,
    tiling: Tiling,
    pool: Executor,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Blend the tiles that show a pixel of `target` that is to be generated.

    Returns:
        Reflectance of shape (band, y, x), meaningful where generated, and its uncertainty of shape (y, x),
        `UNKNOWN` where a single tile tells none.
    """
    contract = generator.contract
    total = np.zeros((contract.output_channels, *target.shape), np.float32)
    overlaps = (
        None if contract.predicts_uncertainty else OverlapRange(len(contract.output_bands), target.shape)
    )
    weights = tiling.weights()

    def predict(tiles: Sequence[tuple[Window, _TileRadiometry]]) -> NDArray[np.float32]:
        return generator(np.stack([date.inputs(contract, tile, how) for tile, how in tiles]))

    needed = [
        (tile, inner)
        for tile in tiling.tiles(target)
        if (inner := tile.intersection(target)) and generated[inner.slices_in(target)].any()
    ]
    size = generator.batch
    tiles = [(tile, date.radiometry(tile, contract)) for tile, _ in needed]
    batches = [tiles[at : at + size] for at in range(0, len(needed), size)]
    predictions = (prediction for batch in pool.map(predict, batches) for prediction in batch)
    # The sum is taken in the order of the lattice, so that the bits of a pixel never vary.
    for (tile, inner), prediction in zip(needed, predictions, strict=True):
        there, here = inner.slices_in(target), inner.slices_in(tile)
        part = prediction[:, *here]
        refuse_no_numbers(contract.name, part[:, generated[there]])
        part = np.where(generated[there], part, np.float32(0))
        total[:, *there] += weights[here] * part
        if overlaps is not None:
            overlaps.add(there, part)
    if overlaps is not None:
        return total, overlaps.uncertainty()
    return total[:-1], total[-1]

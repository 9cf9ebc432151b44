"""Training samples of the temporal generator: real time series, hidden under the real clouds of other dates.

A sample is a date whose ground is known, a sky put over it, and the clear looks before and after: the same
planes, from the same functions of `clouds`, as serving assembles.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation, distance_transform_edt

from cloudgan.sentinel2.classification import PixelClass
from cloudgan.simulation.change import (
    add_undetected_cloud,
    add_undetected_haze,
    change_surface,
    vary_radiometry,
)
from cloudgan.training.data.imagery import Floats, Mask
from cloudgan.training.data.series import DEPTH, Series, channels, mask_of

_DATES = 6  # on each side of a sample's own: more than are asked for, as some are cloudy here and there
_REAL = 0.2  # share of samples under the clouds of their own date, where there is a clear date to judge by
_CLOUD_EDGE = 2  # pixels around a cloud's classification that keep its haze


@dataclass(frozen=True, slots=True)
class CloudField:
    """A cloudy look: what its clouds look like and how they are classified."""

    region: str
    """The place it was cut from."""
    image: Floats
    """Reflectance, shape (height, width, bands)."""
    pixel_classes: NDArray[np.uint8]
    """Values of `clouds.PixelClass`, shape (height, width)."""


def covered(
    image: Floats, pixel_classes: NDArray[np.uint8], cloud_field: CloudField
) -> tuple[Floats, NDArray[np.uint8]]:
    """A look under another's clouds: their pixels and classification, and two pixels around them.

    The edge keeps the haze that the classification calls clear, as it does in life.

    Returns:
        Image and states under the sky.
    """
    over = binary_dilation(cloud_field.pixel_classes == PixelClass.CLOUDY, iterations=_CLOUD_EDGE)
    over &= np.all(cloud_field.image > 0, axis=-1)
    return np.where(over[..., None], cloud_field.image, image), np.where(
        over, cloud_field.pixel_classes, pixel_classes
    )


def padded(series: Series, size: int) -> Series:
    """A series of at least `size` pixels an edge: no data beyond its own, as serving sees it."""
    grow = [max(0, size - edge) for edge in series.images.shape[1:3]]
    if not any(grow):
        return series
    edges = ((0, 0), *((edge // 2, edge - edge // 2) for edge in grow))
    return replace(
        series,
        images=np.pad(series.images, (*edges, (0, 0))),
        pixel_classes=np.pad(series.pixel_classes, edges, constant_values=int(PixelClass.NO_DATA)),
        masked=np.pad(series.masked, edges, constant_values=True),
        scl=None if series.scl is None else np.pad(series.scl, edges),
    )


def find_cloud_fields(every: Sequence[Series]) -> list[CloudField]:
    """The cloudy looks of some series, to transplant clouds from."""
    cloud_fields = []
    for series in every:
        for image, pixel_classes in zip(series.images, series.pixel_classes, strict=True):
            share = float(np.mean(pixel_classes == PixelClass.CLOUDY))
            if (
                not series.invented
                and 0.05 < share < 0.97
                and np.mean(pixel_classes == PixelClass.NO_DATA) < 0.3
            ):
                cloud_fields.append(CloudField(series.region, image, pixel_classes))
    return cloud_fields


@dataclass(frozen=True, slots=True)
class Sample:
    """One training case."""

    channels: Floats
    """Shape (size, size, planes), in the order of `PLANES`."""
    truth: Floats
    """Reflectance, shape (size, size, bands)."""
    weight: Floats
    """How much each pixel counts, shape (size, size, 1)."""


class Sampler:
    """Draws samples from series; every chance from the generator it is given.

    A share `plain` of the samples of real series keeps the record's own looks and radiometry; single looks
    always have their change invented.
    """

    def __init__(self, every: Sequence[Series], observed: float = 0.05, plain: float = 0.0) -> None:
        self._plain = plain
        every = [padded(series, 64) for series in every]
        self._series = {size: [s for s in every if _edge(s) == size] for size in (64, 96, 128)}
        self._skies = find_cloud_fields(every)
        self._observed = observed
        self._known = {id(s): believed(s) for s in every}
        self._judged = {id(s): judged_pairs(s) for s in every}
        self._odds = {
            size: np.array([_importance(s) for s in group]) for size, group in self._series.items() if group
        }

    def sizes(self) -> list[int]:
        """Edges of patches that there is ground for."""
        return sorted(self._odds)

    def draw(self, rng: Generator, size: int, *, plain: bool = False) -> Sample:
        """One sample of `size` pixels; a plain one has the record's own looks and radiometry."""
        odds = self._odds[size]
        while True:
            series = self._series[size][int(rng.choice(len(odds), p=odds / odds.sum()))]
            as_it_is = plain or (not series.invented and rng.random() < self._plain)
            if not plain and self._judged[id(series)] and rng.random() < _REAL:
                sample = self._real_sample(rng, series, size)
            else:
                sample = self._sample(rng, series, size, as_it_is)
            if sample is not None:
                return sample

    def _sample(self, rng: Generator, series: Series, size: int, plain: bool) -> Sample | None:
        candidates = np.flatnonzero(series.truths)
        at = int(rng.choice(candidates))
        window = _window(rng, series.images.shape[1:3], size)
        dates = _some_dates(rng, np.mean(series.clear_of(window), axis=(1, 2)), at, plain)
        known = self._known[id(series)][(at, *window)]
        if known.mean() < 0.1:
            return None
        images = series.images[(dates, *window)].copy()
        pixel_classes = series.pixel_classes[(dates, *window)]
        masked = series.masked[(dates, *window)]
        days = series.days[dates] if plain else _days(rng, series.days[dates])
        here = int(np.flatnonzero(dates == at)[0])
        if not plain:
            if series.invented or rng.random() < 0.35:
                images = change_surface(rng, images, days, strong=series.invented)
            images = vary_radiometry(rng, images, strong=series.invented)
        truth = images[here]
        cloudy, own = self._under_clouds(rng, images[here], pixel_classes[here], size)
        if not plain and rng.random() < 0.2:
            cloudy = add_undetected_haze(rng, cloudy, own)
        buffer = series.buffer if plain or rng.random() < 0.8 else int(rng.integers(1, 7))
        mask = mask_of(own, buffer) | masked[here]
        clear = (pixel_classes == PixelClass.CLEAR) & ~masked
        for date in range(len(dates)):  # looks that are cloudy too, more often than in the record
            if date != here and not plain and rng.random() < 0.12:
                clear[date] &= ~mask_of(self._sky(rng, size).pixel_classes, series.buffer)
            if date != here and not plain and rng.random() < 0.06:
                cloud_field = self._sky(rng, size)
                images[date] = add_undetected_cloud(
                    rng, images[date], cloud_field.pixel_classes == PixelClass.CLOUDY, cloud_field.image
                )
        x = channels(cloudy, mask, images, clear, days, here)
        counted = np.where(
            mask & known, 1.0, np.where(known & (cloudy == truth).all(-1), self._observed, 0.0)
        )
        return _turned(rng, x, truth, counted.astype(np.float32))

    def _real_sample(self, rng: Generator, series: Series, size: int) -> Sample | None:
        """Real clouds, judged by a clear look days away that is withheld: its haze is real too."""
        pairs = self._judged[id(series)]
        at, judge = pairs[int(rng.integers(len(pairs)))]
        window = _window(rng, series.images.shape[1:3], size)
        kept = np.array([date for date in range(len(series.days)) if date != judge])
        near = np.argsort(np.abs(series.days[kept] - series.days[at]), kind="stable")[: 2 * _DATES + 1]
        dates = np.sort(kept[near])
        here = int(np.flatnonzero(dates == at)[0])
        mask = series.masked[(at, *window)]
        x = channels(
            series.images[(at, *window)], mask, series.images[(dates, *window)],
            series.clear_of(window)[dates], series.days[dates], here,
        )  # fmt: skip
        known = self._known[id(series)][(judge, *window)]
        return _turned(rng, x, series.images[(judge, *window)], (mask & known).astype(np.float32))

    def _sky(self, rng: Generator, size: int) -> CloudField:
        """A patch of a real cloudy look, turned at random, magnified where it is small."""
        for _ in range(8):
            cloud_field = self._skies[int(rng.integers(len(self._skies)))]
            factor = max(1.0, size / min(cloud_field.pixel_classes.shape)) * (
                rng.uniform(1, 2.5) if rng.random() < 0.3 else 1
            )
            need = max(1, min(int(np.ceil(size / factor)), *cloud_field.pixel_classes.shape))
            rows, cols = _window(rng, cloud_field.pixel_classes.shape, need)
            image, pixel_classes = cloud_field.image[rows, cols], cloud_field.pixel_classes[rows, cols]
            share = np.mean(pixel_classes == PixelClass.CLOUDY)
            if not 0.04 < share < 0.98 or share > rng.random() + 0.3:
                continue
            if factor > 1:
                index = np.minimum((np.arange(size) / factor).astype(int), need - 1)
                image, pixel_classes = image[index][:, index], pixel_classes[index][:, index]
            turns, flip = int(rng.integers(4)), bool(rng.integers(2))
            image, pixel_classes = np.rot90(image, turns), np.rot90(pixel_classes, turns)
            if flip:
                image, pixel_classes = image[:, ::-1], pixel_classes[:, ::-1]
            return CloudField(cloud_field.region, image, pixel_classes)
        return CloudField(
            cloud_field.region, np.full((size, size, 3), 0.5, np.float32), np.full((size, size), 2, np.uint8)
        )

    def _under_clouds(
        self, rng: Generator, image: Floats, pixel_classes: NDArray[np.uint8], size: int
    ) -> tuple[Floats, NDArray[np.uint8]]:
        cloud_field = self._sky(rng, size)
        kind = rng.random()
        if kind < 0.12:  # wholly hidden
            bright = np.where(
                cloud_field.pixel_classes[..., None] == PixelClass.CLOUDY,
                cloud_field.image,
                rng.uniform(0.2, 0.8),
            )
            return np.where(image > 0, bright, 0).astype(np.float32), np.where(
                pixel_classes == PixelClass.NO_DATA, pixel_classes, PixelClass.CLOUDY
            ).astype(np.uint8)
        if kind < 0.16:  # a gap without data, as at the edge of the swath
            edge = int(rng.integers(size // 8, size - 8))
            image, pixel_classes = image.copy(), pixel_classes.copy()
            image[:edge], pixel_classes[:edge] = 0, PixelClass.NO_DATA
        cloudy, own = covered(image, pixel_classes, cloud_field)
        if kind > 0.85:  # a second sky
            cloudy, own = covered(cloudy, own, self._sky(rng, size))
        return cloudy, own


def _turned(rng: Generator, x: Floats, truth: Floats, counted: Floats) -> Sample | None:
    """The sample turned and flipped, half the time with time reversed; None if it shows too little."""
    if (counted >= 1).mean() < 0.02:
        return None
    turns, flip = int(rng.integers(4)), bool(rng.integers(2))

    def turned(values: Floats) -> Floats:
        values = np.rot90(values, turns)
        return np.ascontiguousarray(values[:, ::-1] if flip else values, np.float32)

    if rng.random() < 0.5:
        first = 4 + 4 * DEPTH
        x = np.concatenate([x[..., :4], x[..., first:], x[..., 4:first]], axis=-1)
    return Sample(turned(x), turned(truth), turned(counted[..., None]))


def judged_pairs(series: Series) -> list[tuple[int, int]]:
    """Cloudy dates of a series, each with a clear date at most five days away to judge it by."""
    cloudy = np.mean(series.pixel_classes == PixelClass.CLOUDY, axis=(1, 2))
    if series.invented or len(series.days) < 5:
        return []
    return [
        (int(at), int(judge))
        for at in np.flatnonzero((cloudy > 0.1) & (cloudy < 0.8))
        for judge in np.flatnonzero(series.truths & (cloudy < 0.1))
        if 0 < abs(int(series.days[judge] - series.days[at])) <= 5
    ]


def batches(
    sampler: Sampler, rng: Generator, pixels: int = 4 * 128 * 128, ahead: int = 6
) -> Iterator[tuple[Floats, Floats, Floats]]:
    """Batches without end, of about so many pixels, drawn in a thread beside the training."""
    ready: queue.Queue[tuple[Floats, Floats, Floats]] = queue.Queue(ahead)
    sizes = sampler.sizes()
    odds = np.array([{64: 0.25, 96: 0.15, 128: 0.6}[size] for size in sizes])

    stopped = threading.Event()

    def fill() -> None:
        while not stopped.is_set():
            size = sizes[int(rng.choice(len(sizes), p=odds / odds.sum()))]
            drawn = [sampler.draw(rng, size) for _ in range(max(1, pixels // size**2))]
            batch = (
                np.stack([s.channels for s in drawn]),
                np.stack([s.truth for s in drawn]),
                np.stack([s.weight for s in drawn]),
            )
            while not stopped.is_set():
                try:
                    ready.put(batch, timeout=0.5)
                    break
                except queue.Full:
                    continue

    filler = threading.Thread(target=fill, daemon=True)
    filler.start()
    try:
        while True:
            yield ready.get()
    finally:
        stopped.set()
        filler.join()


def _edge(series: Series) -> int:
    smallest = min(series.images.shape[1:3])
    return 128 if smallest >= 128 else 96 if smallest >= 96 else 64


def _importance(series: Series) -> float:
    if series.region.startswith("33TWM"):
        return 30.0
    if series.region == "bouconne":
        return 6.0
    if series.region.startswith("flanders"):
        return 3.0
    return 1.0


def believed(series: Series) -> Mask:
    """Where the truth is true: clear, and not near the date's own clouds."""
    near = [
        distance_transform_edt(pixel_classes != PixelClass.CLOUDY) <= series.buffer + 2
        if (pixel_classes == PixelClass.CLOUDY).any()
        else np.zeros(pixel_classes.shape, bool)
        for pixel_classes in series.pixel_classes
    ]
    known: Mask = (series.pixel_classes == PixelClass.CLEAR) & ~np.stack(near)
    return known


def _window(rng: Generator, shape: tuple[int, ...], size: int) -> tuple[slice, slice]:
    row, col = (int(rng.integers(0, max(1, edge - size + 1))) for edge in shape[:2])
    return slice(row, row + size), slice(col, col + size)


def _some_dates(rng: Generator, clear: NDArray[np.float64], at: int, plain: bool) -> NDArray[np.intp]:
    """The dates around one that show some ground, some dropped; now and then one side or both.

    Args:
        rng: Source of chance.
        clear: Share of clear pixels of each date.
        at: The date itself.
        plain: None is dropped.
    """
    kind = rng.random()
    useful = np.flatnonzero(clear > 0.05)
    before, after = useful[useful < at][-_DATES:], useful[useful > at][:_DATES]
    if plain:
        return np.concatenate([before, [at], after]).astype(np.intp)
    if len(clear) > 3:
        before = before[rng.random(len(before)) > 0.15]
        after = after[rng.random(len(after)) > 0.15]
    if kind < 0.12:
        before = before[:0]
    elif kind < 0.24:
        after = after[:0]
    if kind > 0.985:
        before, after = before[:0], after[:0]
    return np.concatenate([before, [at], after]).astype(np.intp)


def _days(rng: Generator, days: NDArray[np.int64]) -> NDArray[np.int64]:
    factor = rng.uniform(0.8, 1.25) if rng.random() < 0.3 else 1.0
    scaled = np.rint((days - days[0]) * factor).astype(np.int64)
    return np.maximum.accumulate(scaled + np.arange(len(days)) * (np.diff(scaled, prepend=-1) <= 0))

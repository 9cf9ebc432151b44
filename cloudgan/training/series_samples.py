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

from cloudgan.clouds import State
from cloudgan.training.imagery import Floats, Mask
from cloudgan.training.series import DEPTH, Series, mask_of, planes
from cloudgan.training.weather import drifted, jittered, spoiled, veiled

_DATES = 6  # on each side of a sample's own: more than are asked for, as some are cloudy here and there
_REAL = 0.2  # share of samples under the clouds of their own date, where there is a clear date to judge by
_CLOUD_EDGE = 2  # pixels around a cloud's classification that keep its haze


@dataclass(frozen=True, slots=True)
class Sky:
    """A cloudy look: what its clouds look like and how they are classified."""

    region: str
    """The place it was cut from."""
    image: Floats
    """Reflectance, shape (height, width, bands)."""
    states: NDArray[np.uint8]
    """Values of `clouds.State`, shape (height, width)."""


def covered(image: Floats, states: NDArray[np.uint8], sky: Sky) -> tuple[Floats, NDArray[np.uint8]]:
    """A look under another's clouds: their pixels and classification, and two pixels around them.

    The edge keeps the haze that the classification calls clear, as it does in life.

    Returns:
        Image and states under the sky.
    """
    over = binary_dilation(sky.states == State.CLOUDY, iterations=_CLOUD_EDGE)
    over &= np.all(sky.image > 0, axis=-1)
    return np.where(over[..., None], sky.image, image), np.where(over, sky.states, states)


def padded(series: Series, size: int) -> Series:
    """A series of at least `size` pixels an edge: no data beyond its own, as serving sees it."""
    grow = [max(0, size - edge) for edge in series.images.shape[1:3]]
    if not any(grow):
        return series
    edges = ((0, 0), *((edge // 2, edge - edge // 2) for edge in grow))
    return replace(
        series,
        images=np.pad(series.images, (*edges, (0, 0))),
        states=np.pad(series.states, edges, constant_values=int(State.NO_DATA)),
        hidden=np.pad(series.hidden, edges, constant_values=True),
        scl=None if series.scl is None else np.pad(series.scl, edges),
    )


def skies_of(every: Sequence[Series]) -> list[Sky]:
    """The cloudy looks of some series, to transplant clouds from."""
    skies = []
    for series in every:
        for image, states in zip(series.images, series.states, strict=True):
            share = float(np.mean(states == State.CLOUDY))
            if not series.invented and 0.05 < share < 0.97 and np.mean(states == State.NO_DATA) < 0.3:
                skies.append(Sky(series.region, image, states))
    return skies


@dataclass(frozen=True, slots=True)
class Sample:
    """One training case."""

    planes: Floats
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
        self._skies = skies_of(every)
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
        states = series.states[(dates, *window)]
        hidden = series.hidden[(dates, *window)]
        days = series.days[dates] if plain else _days(rng, series.days[dates])
        here = int(np.flatnonzero(dates == at)[0])
        if not plain:
            if series.invented or rng.random() < 0.35:
                images = drifted(rng, images, days, strong=series.invented)
            images = jittered(rng, images, strong=series.invented)
        truth = images[here]
        cloudy, own = self._under_clouds(rng, images[here], states[here], size)
        if not plain and rng.random() < 0.2:
            cloudy = veiled(rng, cloudy, own)
        reach = series.reach if plain or rng.random() < 0.8 else int(rng.integers(1, 7))
        mask = mask_of(own, reach) | hidden[here]
        clear = (states == State.CLEAR) & ~hidden
        for date in range(len(dates)):  # looks that are cloudy too, more often than in the record
            if date != here and not plain and rng.random() < 0.12:
                clear[date] &= ~mask_of(self._sky(rng, size).states, series.reach)
            if date != here and not plain and rng.random() < 0.06:
                sky = self._sky(rng, size)
                images[date] = spoiled(rng, images[date], sky.states == State.CLOUDY, sky.image)
        x = planes(cloudy, mask, images, clear, days, here)
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
        mask = series.hidden[(at, *window)]
        x = planes(
            series.images[(at, *window)], mask, series.images[(dates, *window)],
            series.clear_of(window)[dates], series.days[dates], here,
        )  # fmt: skip
        known = self._known[id(series)][(judge, *window)]
        return _turned(rng, x, series.images[(judge, *window)], (mask & known).astype(np.float32))

    def _sky(self, rng: Generator, size: int) -> Sky:
        """A patch of a real cloudy look, turned at random, magnified where it is small."""
        for _ in range(8):
            sky = self._skies[int(rng.integers(len(self._skies)))]
            factor = max(1.0, size / min(sky.states.shape)) * (
                rng.uniform(1, 2.5) if rng.random() < 0.3 else 1
            )
            need = max(1, min(int(np.ceil(size / factor)), *sky.states.shape))
            rows, cols = _window(rng, sky.states.shape, need)
            image, states = sky.image[rows, cols], sky.states[rows, cols]
            share = np.mean(states == State.CLOUDY)
            if not 0.04 < share < 0.98 or share > rng.random() + 0.3:
                continue
            if factor > 1:
                index = np.minimum((np.arange(size) / factor).astype(int), need - 1)
                image, states = image[index][:, index], states[index][:, index]
            turns, flip = int(rng.integers(4)), bool(rng.integers(2))
            image, states = np.rot90(image, turns), np.rot90(states, turns)
            if flip:
                image, states = image[:, ::-1], states[:, ::-1]
            return Sky(sky.region, image, states)
        return Sky(sky.region, np.full((size, size, 3), 0.5, np.float32), np.full((size, size), 2, np.uint8))

    def _under_clouds(
        self, rng: Generator, image: Floats, states: NDArray[np.uint8], size: int
    ) -> tuple[Floats, NDArray[np.uint8]]:
        sky = self._sky(rng, size)
        kind = rng.random()
        if kind < 0.12:  # wholly hidden
            bright = np.where(sky.states[..., None] == State.CLOUDY, sky.image, rng.uniform(0.2, 0.8))
            return np.where(image > 0, bright, 0).astype(np.float32), np.where(
                states == State.NO_DATA, states, State.CLOUDY
            ).astype(np.uint8)
        if kind < 0.16:  # a gap without data, as at the edge of the swath
            edge = int(rng.integers(size // 8, size - 8))
            image, states = image.copy(), states.copy()
            image[:edge], states[:edge] = 0, State.NO_DATA
        cloudy, own = covered(image, states, sky)
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
    cloudy = np.mean(series.states == State.CLOUDY, axis=(1, 2))
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
                np.stack([s.planes for s in drawn]),
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
        distance_transform_edt(states != State.CLOUDY) <= series.reach + 2
        if (states == State.CLOUDY).any()
        else np.zeros(states.shape, bool)
        for states in series.states
    ]
    known: Mask = (series.states == State.CLEAR) & ~np.stack(near)
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

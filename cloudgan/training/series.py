"""Training samples of the temporal generator: real time series, hidden under the real clouds of other dates.

A sample is a date whose ground is known, a sky put over it, and the nearest clear looks before and after: the
same planes, from the same functions of `clouds`, as serving assembles.
"""

from __future__ import annotations

import json
import queue
import threading
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation, distance_transform_edt, gaussian_filter

from cloudgan import clouds
from cloudgan.clouds import State
from cloudgan.errors import InputError
from cloudgan.training import data
from cloudgan.training.data import BANDS, Floats, Mask

DEPTH = 3
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

_DATES = 5  # on each side of a sample's own: more than are asked for, as some are cloudy here and there
_REAL = 0.25  # share of samples under the clouds of their own date, where there is a clear date to judge by
_CLOUD_EDGE = 2  # pixels around a cloud's classification that keep its haze
_BORDER = 457  # column that cuts 33TWM in a western and an eastern half
# Dates (days since the file's epoch) that show shadow, haze or cloud which the classification misses, by eye.
_BAD_DATES = {
    "series-flanders-a-l2a-10m": (
        "2018-10-18", "2018-12-17", "2019-05-06", "2019-05-11", "2019-06-20", "2019-06-30", "2019-07-20",
        "2019-11-12",
    ),
    "series-flanders-b-l2a-10m": (
        "2017-08-24", "2017-10-23", "2018-02-05", "2018-05-24", "2018-07-18", "2018-11-27",
    ),
}  # fmt: skip
_CLOUDY_MONTHS = {"composites-hesbaye-l2a-10m": (15, 17, 18)}


@dataclass(frozen=True, slots=True)
class Series:
    """Looks at one place in order of time."""

    name: str
    """Where it came from."""
    region: str
    """The place; the unit of the split."""
    reach: int
    """Width in pixels of the buffer around cloud that serving would take at this resolution."""
    days: NDArray[np.int64]
    """Day number of each date, ascending, shape (time,)."""
    images: Floats
    """Reflectance, shape (time, height, width, bands); 0 is no data."""
    states: NDArray[np.uint8]
    """Values of `clouds.State`, shape (time, height, width)."""
    truths: NDArray[np.bool_]
    """Dates whose clear pixels may be believed, shape (time,)."""
    hidden: Mask
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
        reach: int,
        days: Sequence[int] | NDArray[np.int64],
        images: Floats,
        states: NDArray[np.uint8],
        truths: Sequence[bool] | NDArray[np.bool_],
        *,
        invented: bool = False,
    ) -> Series:
        """A series with its mask."""
        hidden = np.stack([mask_of(state, reach) for state in states])
        return cls(
            name, region, reach, np.asarray(days, np.int64), images, states, np.asarray(truths, bool), hidden,
            invented,
        )  # fmt: skip

    @property
    def clear(self) -> Mask:
        """Where a date can serve as a clear look."""
        clear: Mask = (self.states == State.CLEAR) & ~self.hidden
        return clear

    def clear_of(self, window: tuple[slice, slice]) -> Mask:
        """Where each date can serve as a clear look, in a window."""
        part = (slice(None), *window)
        clear: Mask = (self.states[part] == State.CLEAR) & ~self.hidden[part]
        return clear

    def part(self, side: str, rows: slice, cols: slice) -> Series:
        """A part of the place, as a region of its own."""
        return replace(
            self,
            region=f"{self.region}-{side}",
            images=self.images[:, rows, cols],
            states=self.states[:, rows, cols],
            hidden=self.hidden[:, rows, cols],
            scl=None if self.scl is None else self.scl[:, rows, cols],
        )

    def only(self, dates: NDArray[np.intp]) -> Series:
        """Some of the dates."""
        return replace(
            self,
            days=self.days[dates],
            images=self.images[dates],
            states=self.states[dates],
            truths=self.truths[dates],
            hidden=self.hidden[dates],
            scl=None if self.scl is None else self.scl[dates],
        )


@dataclass(frozen=True, slots=True)
class Sky:
    """A cloudy look: what its clouds look like and how they are classified."""

    region: str
    """The place it was cut from."""
    image: Floats
    """Reflectance, shape (height, width, bands)."""
    states: NDArray[np.uint8]
    """Values of `clouds.State`, shape (height, width)."""


def mask_of(states: NDArray[np.uint8], reach: int) -> Mask:
    """What serving hides of one date: cloud, its buffer, and what has no data; shape (height, width)."""
    empty = (states == State.NO_DATA) | (states == State.MISSING)
    hidden: Mask = (clouds.opacity(states, reach) > 0) | empty
    return hidden


def planes(
    cloudy: Floats, hidden: Mask, images: Floats, clear: Mask, days: NDArray[np.int64], at: int
) -> Floats:
    """The input planes of one date, as serving assembles them.

    Args:
        cloudy: The date itself, reflectance, shape (height, width, bands).
        hidden: Its mask, see `mask_of`.
        images: Every date, shape (time, height, width, bands).
        clear: Where each date can serve as a clear look, shape (time, height, width).
        days: Day number of each date, shape (time,).
        at: Index of the date itself; it never serves as a look.

    Returns:
        Shape (height, width, planes), in the order of `PLANES`.
    """
    looks = clouds.dated_looks(clear, at, DEPTH, clouds.dates_within(days, at, clouds.MAX_AGE))
    parts = [cloudy, hidden[..., None].astype(np.float32)]
    for look in (*looks.before, *looks.after):
        values = np.take_along_axis(images, np.maximum(look, 0)[None, ..., None].astype(np.intp), axis=0)[0]
        ages = clouds.days_between(look, days, at)
        parts += [
            np.where(look[..., None] < 0, np.float32(0), values),
            np.where(ages == clouds.NEVER, 0, ages).astype(np.float32)[..., None],
        ]
    return np.concatenate(parts, axis=-1)


def covered(image: Floats, states: NDArray[np.uint8], sky: Sky) -> tuple[Floats, NDArray[np.uint8]]:
    """A look under another's clouds: their pixels and classification, and two pixels around them.

    The edge keeps the haze that the classification calls clear, as it does in life.

    Returns:
        Image and states under the sky.
    """
    over = binary_dilation(sky.states == State.CLOUDY, iterations=_CLOUD_EDGE)
    over &= np.all(sky.image > 0, axis=-1)
    return np.where(over[..., None], sky.image, image), np.where(over, sky.states, states)


def read_all(root: Path) -> list[Series]:
    """Read the sample imagery that the shipped temporal generator learns from and is judged on.

    Args:
        root: The folder of sample imagery, see `data.read_samples`.

    Raises:
        InputError: Something is missing or cannot be read.
    """
    whole = read_stac(root / "s2-l2a-33TWM-120m")
    romania = read_netcdf(root / "series-romania-l2a-10m.nc", "romania")
    return [
        whole.part("west", slice(None), slice(None, _BORDER)),
        whole.part("east", slice(None), slice(_BORDER, None)),
        read_netcdf(root / "series-flanders-a-l2a-10m.nc", "flanders-a"),
        read_netcdf(root / "series-flanders-b-l2a-10m.nc", "flanders-b"),
        romania.part("west", slice(None), slice(None, 48)),
        romania.part("east", slice(None), slice(48, None)),
        *_composites(root),
        *read_pairs(root / "pairs-l1c-10m"),
        *_invented(root),
    ]


def read_stac(folder: Path) -> Series:
    """Read the static catalogue of one MGRS tile at 120 m."""
    items = sorted(folder.glob("*/*_L2A.json"))
    if not items:
        raise InputError(f"{folder} holds no STAC items")
    scenes = [data.read_stac_item(item) for item in items]
    days = [int(np.datetime64(_sensed(item), "D").astype(np.int64)) for item in items]
    states, truths, classes = [], [], []
    for item, scene in zip(items, scenes, strict=True):
        with data._opened(item.parent / _scl_of(item)) as source:
            classes.append(source.read(1))
        states.append(clouds.classify(classes[-1], _numbers(scene.image)))
        truths.append(float(np.mean(states[-1] == State.CLOUDY)) < 0.1)
    order = np.argsort(days)
    images = np.stack([scene.image for scene in scenes])
    whole = Series.of("33TWM", "33TWM", 1, days, images, np.stack(states), truths)
    return replace(whole, scl=np.stack(classes)).only(order)


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


def _sensed(item: Path) -> str:
    return str(_item(item)["properties"]["datetime"]).rstrip("Z")


def _scl_of(item: Path) -> str:
    return str(_item(item)["assets"]["scl"]["href"])


def _item(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text()))


def read_netcdf(path: Path, region: str) -> Series:
    """Read a netCDF series at 10 m with its scene classification."""
    days, images, scl = data.read_series(path)
    if float(np.median(images)) > 2:  # floats of digital numbers
        images = images / np.float32(10_000)
    if scl is None:
        raise InputError(f"{path} has no scene classification")
    with h5py.File(path) as source:
        units = source["time"].attrs["units"]
    epoch = (units.decode() if isinstance(units, bytes) else str(units)).split("since ")[1][:10]
    days = days + np.datetime64(epoch, "D").astype(np.int64)
    states = clouds.classify(scl, _numbers(images))
    bad = {int(np.datetime64(day, "D").astype(np.int64)) for day in _BAD_DATES.get(path.stem, ())}
    truths = [
        int(day) not in bad and float(np.mean(state == State.CLOUDY)) < 0.3
        for day, state in zip(days, states, strict=True)
    ]
    series = replace(Series.of(path.stem, region, 6, days, images, states, truths), scl=scl)
    return series.only(np.flatnonzero(np.mean(series.states == State.NO_DATA, axis=(1, 2)) < 0.9))


def _numbers(image: Floats) -> list[NDArray[np.uint16]]:
    numbers = np.clip(np.rint(image * 10_000), 0, 65535).astype(np.uint16)
    return list(np.moveaxis(numbers, -1, 0))


def _seen(images: Floats) -> NDArray[np.uint8]:
    seen = np.all(images > 0, axis=-1)
    return np.where(seen, State.CLEAR, State.NO_DATA).astype(np.uint8)


def _composites(root: Path) -> Iterator[Series]:
    for name in ("composites-hesbaye-l2a-10m", "composites-hesbaye-east-l2a-10m"):
        days, images, _ = data.read_series(root / f"{name}.nc")
        kept = [
            month
            for month, image in enumerate(images)
            if np.mean(image > 0) > 0.9 and month not in _CLOUDY_MONTHS.get(name, ())
        ]
        yield Series.of(
            name, "hesbaye", 6, days[kept], images[kept], _seen(images[kept]), np.ones(len(kept), bool)
        )
    months = data.read_folder(root / "clear-series-bouconne-l3a", "bouconne")
    images = np.stack([scene.image for scene in months])
    days = np.arange(len(months)) * 30
    yield Series.of("bouconne", "bouconne", 6, days, images, _seen(images), np.ones(len(months), bool))


def read_pairs(folder: Path) -> Iterator[Series]:
    """Real pairs, days or weeks apart: each look is the other's context.

    Raises:
        InputError: The folder has no `index.csv`, or a pair cannot be read.
    """
    for pair in _sen12ms(folder):
        states = np.stack([_seen(pair.clear), _seen(pair.cloudy)])
        states[1][pair.hidden] = State.CLOUDY
        yield Series.of(
            pair.name, pair.region, 6, [0, 12], np.stack([pair.clear, pair.cloudy]), states, [True, False]
        )


def _sen12ms(folder: Path) -> Iterator[data.Pair]:
    unlike = {"fall_136", "fall_85", "summer_100"}  # season or haze changes more between looks than cloud
    for pair in data._sen12ms_pairs(folder, BANDS):
        if pair.region not in unlike:
            yield pair


def _invented(root: Path) -> Iterator[Series]:
    """Clear single looks: ground and texture at 10 m, to which change is added while sampling."""
    single = root / "clear-single"
    scenes = data.read_folder(root / "clear-lazio-l1c-10m", "lazio", without=data._LAZIO_NOT_CLEAR)
    scenes.append(
        data._clear_scene("sample-300", "sample-300", data.read_geotiff(single / "sample_300x300.tif"))
    )
    for pair in data._sen12ms_pairs(root / "pairs-l1c-10m", BANDS):
        if pair.region in ("fall_136", "summer_100"):
            scenes.append(data.Scene(pair.name, pair.region, pair.clear, pair.valid))
    for scene in scenes:
        images = np.repeat(scene.image[None], 5, axis=0)
        yield Series.of(
            scene.name, scene.region, 6, np.arange(5) * 12, images, _seen(images), np.ones(5, bool),
            invented=True,
        )  # fmt: skip


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
        if not plain and rng.random() < 0.4:
            cloudy = veiled(rng, cloudy, own)
        reach = series.reach if plain or rng.random() < 0.8 else int(rng.integers(1, 7))
        mask = mask_of(own, reach) | hidden[here]
        clear = (states == State.CLEAR) & ~hidden
        for date in range(len(dates)):  # looks that are cloudy too, more often than in the record
            if date != here and not plain and rng.random() < 0.12:
                clear[date] &= ~mask_of(self._sky(rng, size).states, series.reach)
            if date != here and not plain and rng.random() < 0.15:
                images[date] = spoiled(rng, images[date], self._sky(rng, size))
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
        if kind < 0.08:  # wholly hidden
            bright = np.where(sky.states[..., None] == State.CLOUDY, sky.image, rng.uniform(0.2, 0.8))
            return np.where(image > 0, bright, 0).astype(np.float32), np.where(
                states == State.NO_DATA, states, State.CLOUDY
            ).astype(np.uint8)
        if kind < 0.12:  # a gap without data, as at the edge of the swath
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


def spoiled(rng: Generator, image: Floats, sky: Sky) -> Floats:
    """A look with cloud or shadow in it that no classification tells of.

    Args:
        rng: Source of chance.
        image: Reflectance, shape (height, width, bands).
        sky: Of the same size.
    """
    cloud = gaussian_filter((sky.states == State.CLOUDY).astype(np.float32), rng.uniform(0.5, 3))[..., None]
    if rng.random() < 0.4:
        changed = image * (1 - np.float32(rng.uniform(0.2, 0.6)) * cloud)
    else:
        share = np.float32(rng.uniform(0.05, 0.6)) * cloud
        changed = (1 - share) * image + share * np.maximum(sky.image, 0.2)
    return np.where(image > 0, changed, 0).astype(np.float32)


def drifted(rng: Generator, images: Floats, days: NDArray[np.int64], *, strong: bool) -> Floats:
    """Simulated change: ground of one colour changes alike, fields a little each on its own.

    Args:
        rng: Source of chance.
        images: Shape (time, height, width, bands).
        days: Shape (time,).
        strong: As much as crops change over weeks.
    """
    base = images.max(axis=0)
    ndvi = (base[..., 2] - base[..., 1]) / (base[..., 2] + base[..., 1] + 1e-3)
    features = np.stack([3 * ndvi, 8 * base[..., 2], 15 * base[..., 0]], axis=-1)
    size = rng.uniform(0.05, 0.35) if strong else rng.uniform(0.02, 0.12)
    change = np.zeros(images.shape, np.float32)
    for _ in range(3):
        wave = np.sin(features @ rng.normal(0, 0.6, 3).astype(np.float32) + np.float32(rng.uniform(0, 6.28)))
        course = np.sin(days / rng.uniform(8, 40) + rng.uniform(0, 6.28)) * size / 2
        bands = rng.normal(0, 1, 3) * np.array([0.6, 0.8, 1.0])
        change += wave[None, ..., None] * (course[:, None] * bands).astype(np.float32)[:, None, None]
    if rng.random() < 0.5:  # change that nothing announces: blocks, as fields are
        cells = rng.integers(3, 9)
        blocks = rng.normal(0, size / 3, (len(images), cells, cells, 3)).astype(np.float32)
        index = (np.arange(images.shape[1]) * cells) // images.shape[1]
        change += blocks[:, index][:, :, index]
    result = images * np.exp(np.clip(change, -1, 1))
    return np.where(images > 0, np.maximum(result, 1e-4), 0).astype(np.float32)


def veiled(rng: Generator, cloudy: Floats, states: NDArray[np.uint8]) -> Floats:
    """Haze around the clouds that no classification tells of, over what passes as clear.

    Args:
        rng: Source of chance.
        cloudy: Reflectance, shape (height, width, bands).
        states: Values of `State`, shape (height, width).
    """
    cloud = (states == State.CLOUDY).astype(np.float32)
    near = gaussian_filter(cloud, rng.uniform(2, 12))
    wide = gaussian_filter(cloud, 25)
    haze = rng.uniform(0, 0.08) * near + rng.uniform(0, 0.08) * wide * (rng.random() < 0.5)
    colour = np.array([1.0, 0.9, 0.6]) * rng.uniform(0.8, 1.2, 3)
    if rng.random() < 0.3:  # haze over all of it, thicker here and there
        noise = gaussian_filter(rng.standard_normal(cloud.shape), rng.uniform(10, 40))
        haze = haze + rng.uniform(0, 0.05) * np.clip(1 + 0.5 * noise / (noise.std() + 1e-6), 0, 2)
    thick = (haze[..., None] * colour).astype(np.float32)
    hazy = cloudy * (1 - 1.5 * thick) + thick
    return np.where((states == State.CLEAR)[..., None] & (cloudy > 0), hazy, cloudy).astype(np.float32)


def jittered(rng: Generator, images: Floats, *, strong: bool) -> Floats:
    """Each date its own radiometry: gain and offset by band, varying smoothly over the image."""
    if not strong and rng.random() < 0.5:
        return images
    times, height, width, bands = images.shape
    size = rng.uniform(0.01, 0.10 if strong else 0.07)
    gain = rng.normal(0, size, (times, 1, 1, 1)) + rng.normal(0, size / 2, (times, 1, 1, bands))
    coarse = rng.normal(0, size / 4, (times, 3, 3, 1)) + rng.normal(0, size / 8, (times, 3, 3, bands))
    across = np.matmul(_stretch(width, 3), coarse.astype(np.float32))  # (time, 3, width, bands)
    smooth = np.tensordot(_stretch(height, 3), across, (1, 1)).swapaxes(0, 1)
    offset = rng.normal(0, 0.06 * size, (times, 1, 1, bands))
    noisy = images * np.exp(gain.astype(np.float32) + smooth) + offset.astype(np.float32)
    if strong:
        noisy += 0.004 * rng.standard_normal(images.shape, np.float32)
    return np.where(images > 0, np.maximum(noisy, 1e-4), 0).astype(np.float32)


def _stretch(size: int, knots: int) -> Floats:
    """Matrix that draws straight lines through so many knots, shape (size, knots)."""
    at = np.linspace(0, knots - 1, size)
    lines: Floats = np.maximum(0, 1 - np.abs(at[:, None] - np.arange(knots))).astype(np.float32)
    return lines


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

"""Samples of time series: a date whose surface is known, masked by the real clouds of other dates.

The input channels are assembled by the function that serving uses, from the clear dates before and after.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from cloudgan.errors import InputError
from cloudgan.geo.grid import Window
from cloudgan.model.contract import Channel, Source
from cloudgan.observations import (
    MAX_AGE,
    Observations,
    Site,
    compute_opacity,
    dates_within,
    find_clear,
    find_masked,
)
from cloudgan.removal.inputs import assemble_inputs
from cloudgan.sentinel2.bands import to_reflectance
from cloudgan.sentinel2.classification import PixelClass
from cloudgan.simulation.change import (
    add_undetected_cloud,
    add_undetected_haze,
    change_surface,
    vary_radiometry,
)
from cloudgan.training.compositing import (
    Classes,
    CloudField,
    CloudSampler,
    draw_part,
    find_cloud_fields,
    turn,
)
from cloudgan.training.samples import Batch, Floats, Mask, Sample, stack_batch

SIZES = {64: 0.25, 96: 0.15, 128: 0.6}
"""Edges of patches in pixels, and the share of the batches that have them."""
_DATES = 6  # on each side of a sample's own: more than are asked for, as some are cloudy here and there
_BEYOND_BUFFER = 2  # pixels beyond the buffer of a date's own clouds that are not taken for the truth
_TRUTH_DAYS = 5  # within which one date may tell the truth of another


@dataclass(frozen=True, slots=True)
class _Series:
    """A site, with what each draw needs of it."""

    site: Site
    bands: tuple[str, ...]
    observations: Observations
    clear: Mask
    """Where a date may serve as a clear observation, shape (time, y, x)."""
    masked: Mask
    """What serving masks, shape (time, y, x)."""
    known: Mask
    """Where a date's own values are the truth, shape (time, y, x)."""
    pairs: tuple[tuple[int, int], ...]
    """Cloudy dates, each with a clear date that tells its truth."""

    @classmethod
    def prepare(cls, site: Site, bands: tuple[str, ...]) -> _Series:
        """Pad a site to the smallest patch, without data beyond its own, and work out its masks."""
        window = site.observations.window
        rows, cols = (max(0, min(SIZES) - edge) for edge in window.shape)
        wide = Window(
            window.row - rows // 2, window.col - cols // 2, window.height + rows, window.width + cols
        )
        observations = site.observations.pad(wide)
        opacity = observations.opacity(site.buffer)
        return cls(
            site,
            bands,
            observations,
            find_clear(observations.pixel_classes, opacity),
            find_masked(observations.pixel_classes, opacity),
            find_known(observations.pixel_classes, site.buffer),
            tuple(find_truth_pairs(site)),
        )

    @property
    def size(self) -> int:
        """The largest patch that fits."""
        return max(size for size in SIZES if size <= min(self.observations.window.shape))

    def images(self, dates: NDArray[np.intp], part: tuple[slice, slice]) -> Floats:
        """Reflectance of some dates in a part, shape (time, y, x, band)."""
        bands = (self.observations.bands[name] for name in self.bands)
        return np.stack([to_reflectance(band[:, *part][dates]) for band in bands], axis=-1)


class Sampler:
    """Draws samples from sites; what it draws depends on the sites and the generator of chance alone.

    A share of the samples of real series keeps the series' own dates and radiometry. Where one image stands
    for all dates of a site, its change is always simulated.
    """

    def __init__(
        self,
        sites: Sequence[Site],
        channels: Sequence[Channel],
        bands: Sequence[str],
        *,
        real: float = 0.2,
        lenders: Sequence[Site] = (),
    ) -> None:
        """Prepare to draw.

        Args:
            sites: To draw from.
            channels: Input channels of the generator, in order.
            bands: Common names of the bands that the generator makes.
            real: Share of samples under the clouds of their own date, where another date tells the truth.
            lenders: Sites whose clouds are composited where none of `sites` has any.

        Raises:
            InputError: There is no site, or no clouds to composite.
        """
        self._channels, self._bands, self._real = tuple(channels), tuple(bands), real
        series = [_Series.prepare(site, self._bands) for site in sites]
        self._reversed = _reverse_time(self._channels)
        fields = _find_clouds(series, self._bands)
        if not fields:
            fields = _find_clouds([_Series.prepare(site, self._bands) for site in lenders], self._bands)
        if not fields:
            raise InputError(
                "no date of the sites to train on shows clouds that could be composited on others; "
                "add a source with cloudy dates"
            )
        self._clouds = CloudSampler(fields)
        self._series = {size: [one for one in series if one.size == size] for size in SIZES}
        self._weights = {
            size: np.array([one.site.sampling_weight for one in group])
            for size, group in self._series.items()
            if group
        }

    @property
    def sizes(self) -> list[int]:
        """Edges of patches that there are sites for."""
        return sorted(self._weights)

    def draw_batch(self, rng: Generator, pixels: int, unaugmented: float, observed_weight: float) -> Batch:
        """A batch of about so many pixels, of patches of one size.

        Args:
            rng: Source of chance.
            pixels: Of all patches together.
            unaugmented: Share of samples of real series without simulated change.
            observed_weight: How much an observed pixel counts.
        """
        odds = np.array([SIZES[size] for size in self.sizes])
        size = self.sizes[int(rng.choice(len(odds), p=odds / odds.sum()))]
        samples = [self.draw(rng, size, unaugmented) for _ in range(max(1, pixels // size**2))]
        return stack_batch(samples, observed_weight)

    def draw(self, rng: Generator, size: int, unaugmented: float = 0.0) -> Sample:
        """One sample of `size` pixels an edge, with the share of `draw_batch` without simulated change."""
        weights = self._weights[size]
        while True:
            series = self._series[size][int(rng.choice(len(weights), p=weights / weights.sum()))]
            plain = not series.site.repeated and rng.random() < unaugmented
            if series.pairs and rng.random() < self._real:
                sample = self._sample_pair(rng, series, size)
            else:
                sample = self._sample(rng, series, size, plain=plain)
            if sample is not None:
                return sample

    def draw_unaugmented(self, rng: Generator, size: int) -> Sample:
        """One sample under composited clouds, to evaluate on: dates and radiometry are the series' own."""
        real = np.array([not series.site.repeated for series in self._series[size]])
        # Where one image stands for all dates there is nothing to evaluate, unless there is nothing else.
        weights = self._weights[size] * (real if real.any() else 1)
        while True:
            series = self._series[size][int(rng.choice(len(weights), p=weights / weights.sum()))]
            sample = self._sample(rng, series, size, plain=True)
            if sample is not None:
                return sample

    def _sample(self, rng: Generator, series: _Series, size: int, *, plain: bool) -> Sample | None:
        """A trusted date under composited clouds, or None where too little of it is known or masked."""
        at = int(rng.choice(np.flatnonzero(series.site.trusted)))
        part = draw_part(rng, series.observations.window.shape, size)
        clear_share = np.mean(series.clear[:, *part], axis=(1, 2))
        dates = _draw_dates(rng, clear_share, at, plain=plain)
        known = series.known[at, *part]
        if known.mean() < 0.1:
            return None
        here = int(np.flatnonzero(dates == at)[0])
        days = series.observations.days[dates]
        images = series.images(dates, part)
        pixel_classes = series.observations.pixel_classes[:, *part][dates]
        if not plain:
            days = _scale_days(rng, days)
            images = _change(rng, images, days, repeated=series.site.repeated)
        truth = images[here].copy()
        cloudy, classes = self._clouds.cover(rng, truth, pixel_classes[here])
        if not plain and rng.random() < 0.2:
            cloudy = add_undetected_haze(rng, cloudy, classes)
        buffer = series.site.buffer if plain or rng.random() < 0.8 else int(rng.integers(1, 7))
        masked = _mask(classes, buffer) | series.masked[at, *part]
        clear = series.clear[:, *part][dates]
        if not plain:
            self._spoil_others(rng, images, clear, here, series.site.buffer)
        images[here] = cloudy
        channels = self._assemble(images, masked, clear, days, here)
        observed = ~masked & known & (cloudy == truth).all(axis=-1)
        return self._turn(rng, Sample(channels, truth, masked & known, observed))

    def _sample_pair(self, rng: Generator, series: _Series, size: int) -> Sample | None:
        """Real clouds, with a clear date days away that is withheld as truth: its haze is real too."""
        at, truth_at = series.pairs[int(rng.integers(len(series.pairs)))]
        part = draw_part(rng, series.observations.window.shape, size)
        days = series.observations.days
        kept = np.delete(np.arange(len(days)), truth_at)
        nearest = np.argsort(np.abs(days[kept] - days[at]), kind="stable")[: 2 * _DATES + 1]
        dates = np.sort(kept[nearest])
        masked = series.masked[at, *part]
        here = int(np.flatnonzero(dates == at)[0])
        images, clear = series.images(dates, part), series.clear[:, *part][dates]
        channels = self._assemble(images, masked, clear, days[dates], here)
        truth = series.images(np.array([truth_at]), part)[0]
        known = masked & series.known[truth_at, *part]
        return self._turn(rng, Sample(channels, truth, known, np.zeros_like(known)))

    def _assemble(
        self, images: Floats, masked: Mask, clear: Mask, days: NDArray[np.int64], at: int
    ) -> Floats:
        """The input channels, shape (y, x, channel)."""
        bands = {name: images[..., number] for number, name in enumerate(self._bands)}
        among = dates_within(days, at, MAX_AGE)
        return np.moveaxis(assemble_inputs(self._channels, bands, masked, clear, days, at, among), 0, -1)

    def _spoil_others(self, rng: Generator, images: Floats, clear: Mask, here: int, buffer: int) -> None:
        """Take clear surface away from other dates, and put clouds that nothing masks into some, in place."""
        size = images.shape[1]
        for date in range(len(images)):
            if date != here and rng.random() < 0.12:
                clear[date] &= ~_mask(self._clouds.draw(rng, size).pixel_classes, buffer)
            if date != here and rng.random() < 0.06:
                field = self._clouds.draw(rng, size)
                cloud = field.pixel_classes == PixelClass.CLOUDY
                images[date] = add_undetected_cloud(rng, images[date], cloud, field.image)

    def _turn(self, rng: Generator, sample: Sample) -> Sample | None:
        """The sample turned and flipped, half of them with time reversed; None if it shows too little."""
        if sample.masked.mean() < 0.02:
            return None
        turns, flip = int(rng.integers(4)), bool(rng.integers(2))
        channels = sample.channels
        if rng.random() < 0.5:
            channels = channels[..., self._reversed]
        return Sample(
            *(
                np.ascontiguousarray(turn(array, turns, flip))
                for array in (channels, sample.truth, sample.masked, sample.observed)
            )
        )


def find_known(pixel_classes: Classes, buffer: int) -> Mask:
    """Where each date's own values are the truth: clear, and not near its own clouds; shape (time, y, x)."""
    known: Mask = pixel_classes == PixelClass.CLEAR
    for one, classes in zip(known, pixel_classes, strict=True):
        cloudy = classes == PixelClass.CLOUDY
        if cloudy.any():
            one &= distance_transform_edt(~cloudy) > buffer + _BEYOND_BUFFER
    return known


def find_truth_pairs(site: Site) -> list[tuple[int, int]]:
    """Cloudy dates of a site, each with a trusted clear date at most five days away as truth."""
    days = site.observations.days
    if site.repeated or len(days) < 5:
        return []
    cloudy = np.mean(site.observations.pixel_classes == PixelClass.CLOUDY, axis=(1, 2))
    return [
        (int(at), int(truth))
        for at in np.flatnonzero((cloudy > 0.1) & (cloudy < 0.8))
        for truth in np.flatnonzero(site.trusted & (cloudy < 0.1))
        if 0 < abs(int(days[truth] - days[at])) <= _TRUTH_DAYS
    ]


def _find_clouds(series: Sequence[_Series], bands: Sequence[str]) -> list[CloudField]:
    real = (one for one in series if not one.site.repeated)
    return [field for one in real for field in find_cloud_fields(one.observations, bands)]


def _mask(classes: Classes, buffer: int) -> Mask:
    """What serving masks of one date, shape (y, x)."""
    return find_masked(classes, compute_opacity(classes, buffer))


def _change(rng: Generator, images: Floats, days: NDArray[np.int64], *, repeated: bool) -> Floats:
    """Simulated change of the surface, where there is none or now and then, and of each date's radiometry."""
    if repeated or rng.random() < 0.35:
        images = change_surface(rng, images, days, strong=repeated)
    return vary_radiometry(rng, images, strong=repeated)


def _reverse_time(channels: Sequence[Channel]) -> list[int]:
    """The order of input channels in which dates before and after have changed places."""
    swapped = {Source.BEFORE: Source.AFTER, Source.AFTER: Source.BEFORE}
    return [
        channels.index(Channel(swapped.get(one.source, one.source), one.band, one.order)) for one in channels
    ]


def _draw_dates(
    rng: Generator, clear_share: NDArray[np.float64], at: int, *, plain: bool
) -> NDArray[np.intp]:
    """The dates around one that show some surface, some dropped; now and then one side or both.

    Args:
        rng: Source of chance.
        clear_share: Share of clear pixels of each date.
        at: The date itself.
        plain: None is dropped.
    """
    kind = rng.random()
    useful = np.flatnonzero(clear_share > 0.05)
    before, after = useful[useful < at][-_DATES:], useful[useful > at][:_DATES]
    if plain:
        return np.concatenate([before, [at], after]).astype(np.intp)
    if len(clear_share) > 3:
        before = before[rng.random(len(before)) > 0.15]
        after = after[rng.random(len(after)) > 0.15]
    if kind < 0.12:
        before = before[:0]
    elif kind < 0.24:
        after = after[:0]
    if kind > 0.985:
        before, after = before[:0], after[:0]
    return np.concatenate([before, [at], after]).astype(np.intp)


def _scale_days(rng: Generator, days: NDArray[np.int64]) -> NDArray[np.int64]:
    """The days of some dates, now and then further apart or closer."""
    factor = rng.uniform(0.8, 1.25) if rng.random() < 0.3 else 1.0
    scaled = np.rint((days - days[0]) * factor).astype(np.int64)
    return np.maximum.accumulate(scaled + np.arange(len(days)) * (np.diff(scaled, prepend=-1) <= 0))

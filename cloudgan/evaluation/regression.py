"""Baselines that learn, on the clear pixels of a date, how other dates explain it.

*Regression*: a ridge regression by tile and band of the date's clear pixels on all bands of the nearest clear
dates, which are filled in time where they have gaps themselves.

*CLEAR*: land of one kind has a regression of its own, and the residuals of neighbours of the same kind are
added (Guo, Zheng, Xu and Bruzzone, IEEE TGRS, 10.1109/TGRS.2026.3651961).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.vq import kmeans2, vq
from scipy.spatial import KDTree

from cloudgan.estimation.moments import Moments, choose_weights
from cloudgan.estimation.variances import Doubles
from cloudgan.evaluation.alignment import align_to_date
from cloudgan.evaluation.gaps import Floats, Gap, Mask
from cloudgan.observations import ENOUGH_CLEAR

TILE = 256
"""Edge in pixels, at most, of the parts of a window that have a regression each."""
DATES_EACH_SIDE = 4
"""Clear dates before and after that explain a date, at most."""
PIXELS_PER_PREDICTOR = 10
"""Clear pixels of a tile for each predictor below which no regression is fitted."""
CLUSTERS = 8
"""Kinds of land in a tile."""
DEVIATIONS = 3.0
"""Standard deviations of the residuals by which a prediction may leave the range of the values seen."""

_FOLDS = 4  # blocks along each edge of a tile: one at a time is left out to choose the strength of a penalty
_STRENGTHS = np.logspace(-5, 2, 15)  # of the ridge, per clear pixel of a tile
_PSEUDO_PIXELS = np.logspace(0, 5, 11)  # for which the regression of the tile counts in that of a cluster
_SAMPLE = 4096  # pixels from which clusters are found
_NEIGHBOURS = 20  # of the same cluster whose residuals are averaged
_HALVED = 20.0  # pixels to the neighbours at which their residuals count half
_TINY = 1e-9


def fill_by_regression(gap: Gap) -> Floats:
    """The ridge regression of the tile.

    What is regressed is the difference to linear interpolation in time, so that a strong penalty leaves the
    interpolation and one offset. The strength of the penalty is chosen for each band by cross-validation: one
    of sixteen blocks of the tile is left out at a time. A tile with fewer than `PIXELS_PER_PREDICTOR` clear
    pixels for each predictor has the aligned linear interpolation. A fully masked date has none, and
    equals linear interpolation.

    Args:
        gap: What is to be filled.

    Returns:
        Reflectance, shape (band, y, x); NaN without a clear date.
    """
    return _fill_tiles(gap, clustered=False)


def fill_by_clear(gap: Gap) -> Floats:
    """The regression of the cluster, and the residuals of its neighbours in the same cluster.

    Clusters are found by k-means on the spectra of all clear dates. The regression of a cluster corrects
    that of the tile, and few pixels lean on it: for how many pixels the tile's regression counts is chosen
    by cross-validation, as there. Residuals are averaged by inverse distance, and fade with it. See
    `fill_by_regression` for the rest.
    """
    return _fill_tiles(gap, clustered=True)


def _fill_tiles(gap: Gap, *, clustered: bool) -> Floats:
    filled = align_to_date(gap.interpolated[1], gap.shown, gap.reliable)
    for tile in _split(gap.masked.shape):
        if not (gap.masked & gap.available)[tile].any():
            continue
        found = _gather(gap, tile)
        if found is None:
            continue
        predicted = found.predict_by_cluster() if clustered else found.predict()
        part = filled[:, *tile]
        part[:, found.known] = predicted.T
    return filled


def _split(shape: tuple[int, ...]) -> Iterator[tuple[slice, slice]]:
    """Parts of a window of nearly one size."""
    rows, cols = (np.linspace(0, length, -(-length // TILE) + 1).astype(int) for length in shape)
    for top, bottom in pairwise(rows):
        for left, right in pairwise(cols):
            yield slice(int(top), int(bottom)), slice(int(left), int(right))


@dataclass(frozen=True)
class _Tile:
    """The pixels of a tile that any other date shows, n of them, and what explains them."""

    known: Mask
    """Which pixels of the tile, shape (y, x)."""
    place: Doubles
    """Their row and column, shape (n, 2)."""
    predictors: Doubles
    """A constant, and all bands of the dates in units of their deviation, shape (n, 1 + dates * bands)."""
    seen: Doubles
    """The same bands as reflectance, shape (n, date, band)."""
    linear: Doubles
    """Linear interpolation in time, shape (n, band)."""
    fitted: Mask
    """Those of them on which the regression is fitted, shape (n,)."""
    target: Doubles
    """Reflectance of the date on the fitted pixels, shape (fitted, band)."""
    folds: NDArray[np.intp]
    """The block of each fitted pixel."""

    def predict(self) -> Doubles:
        """By the regression of the tile, limited; shape (n, band)."""
        predicted = self._regress()
        everywhere = np.zeros(len(predicted), np.intp)
        return self._limit(predicted, predicted[self.fitted], everywhere)

    def predict_by_cluster(self) -> Doubles:
        """By the regressions of the clusters and the residuals of neighbours, limited; shape (n, band)."""
        labels = _cluster(self.predictors[:, 1:])
        predicted = self._regress()
        residual = self.target - predicted[self.fitted]
        x, kinds = self.predictors[self.fitted], labels[self.fitted]
        moments = Moments.sum(x, residual, kinds, self.folds, (CLUSTERS, _FOLDS**2))
        change = _fit(moments, _PSEUDO_PIXELS, np.ones(x.shape[1]))
        for label in range(CLUSTERS):
            here = labels == label
            predicted[here] += self.predictors[here] @ change[label]
        smooth = predicted[self.fitted]
        predicted += self._average_residuals(labels, self.target - smooth)
        return self._limit(predicted, smooth, labels)

    def _regress(self) -> Doubles:
        """By the regression of the tile, shape (n, band)."""
        x = self.predictors[self.fitted]
        residual = self.target - self.linear[self.fitted]
        moments = Moments.sum(x, residual, np.zeros_like(self.folds), self.folds, (1, _FOLDS**2))
        penalty = np.ones(x.shape[1])
        penalty[0] = 0  # the constant, which is free
        (weights,) = _fit(moments, _STRENGTHS * len(x), penalty)
        predicted: Doubles = self.linear + self.predictors @ weights
        return predicted

    def _average_residuals(self, labels: NDArray[np.intp], residuals: Doubles) -> Doubles:
        """Residuals of the nearest fitted pixels of the same cluster, shape (n, band); zero where fitted."""
        found = np.zeros_like(self.linear)
        kinds, places = labels[self.fitted], self.place[self.fitted]
        for label in np.unique(kinds):
            wanted = np.flatnonzero((labels == label) & ~self.fitted)
            sources = np.flatnonzero(kinds == label)
            count = min(_NEIGHBOURS, len(sources))
            if not len(wanted):
                continue
            distance, index = KDTree(places[sources]).query(self.place[wanted], k=np.arange(1, count + 1))
            weight = 1 / distance
            total = np.einsum("nk,nkb->nb", weight, residuals[sources][index])
            found[wanted] = total / (weight.sum(axis=1) + count / _HALVED)[:, None]
        return found

    def _limit(self, predicted: Doubles, fit: Doubles, labels: NDArray[np.intp]) -> Doubles:
        """Keep each cluster within the range of its dates and of its clear pixels, and some deviations.

        Args:
            predicted: Shape (n, band).
            fit: Without residuals of neighbours, on the fitted pixels.
            labels: Cluster of each pixel.
        """
        limited = predicted.copy()
        kinds = labels[self.fitted]
        for label in np.unique(labels):
            here, there = labels == label, kinds == label
            seen = self.seen[here].reshape(-1, predicted.shape[1])
            values = np.concatenate([seen, self.target[there]])
            # A cluster without a clear pixel has no residuals of its own: those of the tile count.
            chosen = there if there.any() else np.ones_like(there)
            margin = DEVIATIONS * np.sqrt(np.mean((self.target - fit)[chosen] ** 2, axis=0))
            limited[here] = np.clip(predicted[here], values.min(axis=0) - margin, values.max(axis=0) + margin)
        return limited


def _gather(gap: Gap, tile: tuple[slice, slice]) -> _Tile | None:
    """What a regression of a tile needs; None where there is too little of it."""
    clear = gap.clear[:, *tile]
    dates = _choose_dates(clear, gap.at)
    known = gap.available[tile]
    fitted = (gap.reliable[tile] & known)[known]
    bands = len(gap.observations.bands)
    if not dates or fitted.sum() < PIXELS_PER_PREDICTOR * len(dates) * bands:
        return None
    cropped = _crop(gap, tile)
    seen = np.stack([cropped.fill_other(date)[:, known].T for date in dates], axis=1).astype(np.float64)
    columns = seen.reshape(len(seen), -1)
    middle, deviation = columns[fitted].mean(axis=0), columns[fitted].std(axis=0)
    place = np.argwhere(known)
    block = place[fitted] * _FOLDS // np.array(known.shape)
    return _Tile(
        known=known,
        place=place.astype(np.float64),
        predictors=np.insert((columns - middle) / np.maximum(deviation, _TINY), 0, 1.0, axis=1),
        seen=seen,
        linear=gap.interpolated[1][:, *tile][:, known].T.astype(np.float64),
        fitted=fitted,
        target=gap.shown[:, *tile][:, known].T[fitted].astype(np.float64),
        folds=block[:, 0] * _FOLDS + block[:, 1],
    )


def _crop(gap: Gap, tile: tuple[slice, slice]) -> Gap:
    """The gap in a tile, of which other dates are filled."""
    window = gap.observations.window
    part = window.between(
        window.row + tile[0].start, window.col + tile[1].start,
        window.row + tile[0].stop, window.col + tile[1].stop,
    )  # fmt: skip
    clear_dates = type(gap.clear_dates)(gap.clear_dates.before[:, *tile], gap.clear_dates.after[:, *tile])
    return Gap(
        gap.observations.crop(part), gap.at, gap.clear[:, *tile], clear_dates, gap.share[tile],
        gap.reliable[tile],
    )  # fmt: skip


def _choose_dates(clear: Mask, at: int) -> list[int]:
    """The nearest dates on each side that show enough of a tile, as `find_common_clear_dates` has it."""
    shown = np.count_nonzero(clear, axis=(1, 2))
    enough = max(ENOUGH_CLEAR * np.count_nonzero(clear.any(axis=0)), 1)
    good = np.flatnonzero(shown >= enough)
    return [*good[good < at][-DATES_EACH_SIDE:], *good[good > at][:DATES_EACH_SIDE]]


def _cluster(spectra: Doubles) -> NDArray[np.intp]:
    """Kinds of land by k-means, from a regular sample; shape (n,)."""
    step = -(-len(spectra) // _SAMPLE)
    sample = spectra[::step]
    centres, _ = kmeans2(
        sample, min(CLUSTERS, len(sample)), minit="++", rng=np.random.default_rng(0), missing="warn"
    )
    labels: NDArray[np.intp] = vq(spectra, centres)[0].astype(np.intp)
    return labels


def _fit(moments: Moments, strengths: Doubles, penalty: Doubles) -> Doubles:
    """Ridge regressions of several clusters, with one strength for each band, chosen by cross-validation.

    Args:
        moments: Of each cluster and fold.
        strengths: Penalties to choose from.
        penalty: Relative penalty of each predictor, shape (k,).

    Returns:
        Shape (cluster, k, band).
    """
    return choose_weights(*moments.fit(np.diag(strength * penalty + _TINY) for strength in strengths))

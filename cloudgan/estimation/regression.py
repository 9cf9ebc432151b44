"""Ridge regressions of what the other dates do not tell of a date, on its own clear pixels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cloudgan.estimation.moments import Moments, choose_weights
from cloudgan.estimation.variances import Doubles, Floats

MIN_PIXELS = 30
"""Clear pixels of the date below which nothing is learned from them."""
_MOST_PIXELS = 8000  # that are learned from: more change nothing
_FOLDS = 4
_BLOCKS = 4  # blocks of pixels on either side of as large a square: each is left out as a whole
_SMALLEST_BLOCK = 8  # pixels
_PENALTIES = np.logspace(-6, 1, 15)  # of the mean variance of the predictors
_HALVINGS = 3  # kinds of surface: each principal component of the predictors is cut at its median
_KINDS = 2**_HALVINGS
_PSEUDO_PIXELS = np.logspace(0, 5, 6)  # for which the regression of the tile counts in that of a kind


def correct(
    predictors: Floats, residual: Floats, known: NDArray[np.bool_], choices: Sequence[NDArray[np.intp]]
) -> Floats:
    """Predict a residual from where it is known.

    There is a regression of the tile, and each kind of surface has one that corrects it. Penalties are those
    that predict blocks of pixels best which were left out. A band in which no penalty predicts them better
    than the mean does gets the mean. Regressions on several choices of predictors err in different ways, so
    that their mean is nearer to the truth than any of them.

    Args:
        predictors: Shape (predictor, y, x).
        residual: Shape (band, y, x), of any value where it is not known.
        known: Where it is known, shape (y, x).
        choices: Which predictors each regression has, one of them at least.

    Returns:
        Shape (band, y, x): the residual itself where it is known, and 0 elsewhere where fewer than
        `MIN_PIXELS` are known.
    """
    rows, cols = np.nonzero(known)
    found = np.where(known, residual, np.float32(0))
    if len(rows) < MIN_PIXELS or known.all():
        return found
    step = math.ceil(len(rows) / _MOST_PIXELS)
    fold = _fold(rows, cols)[::step]
    sample = predictors[:, rows[::step], cols[::step]]
    middle, width = sample.mean(axis=1), sample.std(axis=1) + np.float32(1e-4)  # less tells nothing
    wanted = residual[:, rows[::step], cols[::step]].T.astype(np.float64)
    mean = wanted.mean(axis=0)
    standard = ((sample - middle[:, None]) / width[:, None]).T.astype(np.float64)
    kinds = _Kinds.find(sample, standard, width)
    constant = np.insert(standard, 0, 1, axis=1)
    moments = Moments.sum(constant, wanted - mean, kinds.of(sample), fold, (_KINDS, _FOLDS))
    weights = np.mean([_fit(moments, choice) for choice in choices], axis=0).astype(np.float32)
    weights[:, 1:] /= width[:, None]
    weights[:, 0] += mean.astype(np.float32) - middle @ weights[:, 1:]
    flat, filled = predictors.reshape(len(predictors), -1), found.reshape(len(found), -1)
    kind = np.where(known.ravel(), _KINDS, kinds.of(flat))
    for one in range(_KINDS):
        pixels = np.flatnonzero(kind == one)
        filled[:, pixels] = weights[one, 1:].T @ flat[:, pixels] + weights[one, :1].T
    return found


def _fold(rows: NDArray[np.intp], cols: NDArray[np.intp]) -> NDArray[np.intp]:
    """To which fold each pixel belongs: neighbours lie in one block, and blocks side by side in two folds."""
    edge = max(_SMALLEST_BLOCK, int(math.sqrt(len(rows))) // _BLOCKS)
    return (rows // edge + 2 * (cols // edge)) % _FOLDS


@dataclass(frozen=True, slots=True)
class _Kinds:
    """Kinds of surface that are told apart by what the other dates show."""

    axes: Floats
    """Principal components, shape (halving, predictor)."""
    medians: Floats
    """Where each is cut, shape (halving, 1)."""

    @classmethod
    def find(cls, sample: Floats, standard: Doubles, width: Floats) -> _Kinds:
        """From predictors, shape (predictor, pixel), the same standardised and turned, and their widths."""
        _, vectors = np.linalg.eigh(standard.T @ standard)
        axes = (vectors[:, -_HALVINGS:].T / width).astype(np.float32)
        return cls(axes, np.median(axes @ sample, axis=1, keepdims=True))

    def of(self, predictors: Floats) -> NDArray[np.intp]:
        """The kind of each pixel, shape (pixel,), from shape (predictor, pixel)."""
        above = self.axes @ predictors > self.medians
        kind = np.zeros(above.shape[1], np.uint8)
        for bit, row in enumerate(above):
            kind |= row.view(np.uint8) << bit
        return kind.astype(np.intp)


def _fit(moments: Moments, choice: NDArray[np.intp]) -> Doubles:
    """Weights of the constant and the predictors of a choice for each kind, shape (kind, predictor, band)."""
    columns = np.concatenate([[0], 1 + choice])
    chosen = moments.select(columns)
    of_tile = _fit_tile(chosen)
    of_kinds = _fit_kinds(chosen.subtract(of_tile))
    weights = np.zeros((_KINDS, *moments.xy.shape[2:]))
    weights[:, columns] = of_tile + of_kinds
    return weights


def _fit_tile(moments: Moments) -> Doubles:
    """Weights for all kinds together, without a constant: shape (predictor, band)."""
    squares, products = moments.xx.sum(axis=0)[:, 1:, 1:], moments.xy.sum(axis=0)[:, 1:]
    known = moments.yy.sum(axis=0)
    square, product = squares.sum(axis=0), products.sum(axis=0)
    penalties = _PENALTIES * np.trace(square) / len(square)
    solved = _solve(square - squares, product - products, penalties)
    missed = 2 * products - squares @ solved
    errors = (known - (solved * missed).sum(axis=-2)).sum(axis=1)
    best = errors.argmin(axis=0)
    weights = _solve(square[None], product[None], penalties)[best, 0, :, np.arange(len(best))].T
    better = errors.min(axis=0) < known.sum(axis=0)
    return np.concatenate([np.zeros((1, len(best))), np.where(better, weights, 0)])


def _solve(squares: Doubles, products: Doubles, penalties: Doubles) -> Doubles:
    """Weights for each penalty and system, shape (penalty, system, predictor, band)."""
    values, vectors = np.linalg.eigh(squares)
    along = np.swapaxes(vectors, -2, -1) @ products
    shrunk = along / (np.maximum(values, 0) + penalties[:, None, None])[..., None]
    return np.asarray(vectors @ shrunk)


def _fit_kinds(moments: Moments) -> Doubles:
    """What each kind adds to the weights of the tile, shape (kind, predictor, band)."""
    one = np.eye(moments.xx.shape[-1])
    errors, weights = moments.fit(pixels * one for pixels in _PSEUDO_PIXELS)
    nothing = moments.yy.sum(axis=(0, 1))
    return np.where(errors.min(axis=0) < nothing, choose_weights(errors, weights), 0)

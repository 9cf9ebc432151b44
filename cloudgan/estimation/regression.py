"""Ridge regression of what the other dates do not tell of a date, on its own clear pixels."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from cloudgan.estimation.variances import Doubles, Floats

MIN_PIXELS = 30
"""Clear pixels of the date below which nothing is learned from them."""
_MOST_PIXELS = 8000  # that are learned from: more change nothing
_FOLDS = 4
_BLOCKS = 4  # blocks of pixels on either side of as large a square: each is left out as a whole
_SMALLEST_BLOCK = 8  # pixels
_PENALTIES = np.logspace(-6, 1, 15)  # of the mean variance of the predictors


def correct(predictors: Floats, residual: Floats, known: NDArray[np.bool_]) -> Floats:
    """Predict a residual everywhere from where it is known.

    The penalty is the one that predicts blocks of pixels best which were left out. A band in which no penalty
    predicts them better than the mean does gets the mean.

    Args:
        predictors: Shape (predictor, y, x).
        residual: Shape (band, y, x), of any value where it is not known.
        known: Where it is known, shape (y, x).

    Returns:
        Shape (band, y, x); 0 where fewer than `MIN_PIXELS` are known.
    """
    rows, cols = np.nonzero(known)
    if len(rows) < MIN_PIXELS:
        return np.zeros_like(residual)
    step = math.ceil(len(rows) / _MOST_PIXELS)
    fold = _fold(rows, cols)[::step]
    sample = predictors[:, rows[::step], cols[::step]].T.astype(np.float64)
    wanted = residual[:, rows[::step], cols[::step]].T.astype(np.float64)
    middle, mean = sample.mean(axis=0), wanted.mean(axis=0)
    width = sample.std(axis=0) + 1e-4  # a digital number: what varies less tells nothing
    weights = _fit((sample - middle) / width, wanted - mean, fold) / width[:, None]
    constant = mean - middle @ weights
    predicted = np.einsum("pb,pyx->byx", weights.astype(np.float32), predictors)
    return np.asarray(predicted + constant.astype(np.float32)[:, None, None])


def _fold(rows: NDArray[np.intp], cols: NDArray[np.intp]) -> NDArray[np.intp]:
    """To which fold each pixel belongs: neighbours lie in one block, and blocks side by side in two folds."""
    edge = max(_SMALLEST_BLOCK, int(math.sqrt(len(rows))) // _BLOCKS)
    return (rows // edge + 2 * (cols // edge)) % _FOLDS


def _fit(predictors: Doubles, wanted: Doubles, fold: NDArray[np.intp]) -> Doubles:
    """Weights of the predictors for each band, shape (predictor, band)."""
    parts = [fold == each for each in range(_FOLDS)]
    squares = [predictors[part].T @ predictors[part] for part in parts]
    products = [predictors[part].T @ wanted[part] for part in parts]
    square, product = sum(squares), sum(products)
    penalties = _PENALTIES * np.trace(square) / len(square)
    errors = np.zeros((len(penalties), wanted.shape[1]))
    for part, left_out, of_it in zip(parts, squares, products, strict=True):
        if 0 < np.count_nonzero(part) < len(fold):
            for row, weights in enumerate(_solve(square - left_out, product - of_it, penalties)):
                errors[row] += ((predictors[part] @ weights - wanted[part]) ** 2).sum(axis=0)
    best = errors.argmin(axis=0)
    better = errors.min(axis=0) < (wanted**2).sum(axis=0)
    solved = _solve(square, product, penalties)
    chosen = np.stack([solved[row][:, band] for band, row in enumerate(best)], axis=1)
    return np.where(better & errors.any(axis=0), chosen, 0)


def _solve(square: Doubles, product: Doubles, penalties: Doubles) -> list[Doubles]:
    """Weights for each penalty."""
    values, vectors = np.linalg.eigh(square)
    along = vectors.T @ product
    return [vectors @ (along / (np.maximum(values, 0) + penalty)[:, None]) for penalty in penalties]

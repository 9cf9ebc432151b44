"""Ridge regressions of kinds of surface from sums over pixels, with penalties chosen by cross-validation."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cloudgan.estimation.variances import Doubles


@dataclass(frozen=True, slots=True)
class Moments:
    """Sums over the pixels of each kind and fold."""

    xx: Doubles
    """Of products of predictors, shape (kind, fold, predictor, predictor)."""
    xy: Doubles
    """Of products with what is predicted, shape (kind, fold, predictor, band)."""
    yy: Doubles
    """Of its squares, shape (kind, fold, band)."""

    @classmethod
    def sum(
        cls,
        predictors: Doubles,
        wanted: Doubles,
        kind: NDArray[np.intp],
        fold: NDArray[np.intp],
        shape: tuple[int, int],
    ) -> Moments:
        """From pixels.

        Args:
            predictors: Shape (pixel, predictor).
            wanted: What is to be predicted, shape (pixel, band).
            kind: Of each pixel.
            fold: Of each pixel.
            shape: How many kinds and folds there are.
        """
        group = kind * shape[1] + fold
        order = np.argsort(group, kind="stable")
        ends = np.cumsum(np.bincount(group, minlength=shape[0] * shape[1]))[:-1]
        parts = zip(np.split(predictors[order], ends), np.split(wanted[order], ends), strict=True)
        sums = [(x.T @ x, x.T @ y, (y**2).sum(axis=0)) for x, y in parts]
        xx, xy, yy = (np.stack(each) for each in zip(*sums, strict=True))
        return cls(*(each.reshape(*shape, *each.shape[1:]) for each in (xx, xy, yy)))

    def select(self, columns: NDArray[np.intp]) -> Moments:
        """Those of some predictors."""
        return Moments(self.xx[..., columns[:, None], columns], self.xy[..., columns, :], self.yy)

    def subtract(self, weights: Doubles) -> Moments:
        """Those of what weights of shape (predictor, band) do not predict."""
        return Moments(self.xx, self.xy - self.xx @ weights, self.errors(weights))

    def errors(self, weights: Doubles) -> Doubles:
        """Squared errors of weights of shape (..., predictor, band), shape (kind, fold, band)."""
        missed = 2 * self.xy - self.xx @ weights
        return np.asarray(np.maximum(self.yy - (weights * missed).sum(axis=-2), 0))

    def fit(self, penalties: Iterable[Doubles]) -> tuple[Doubles, Doubles]:
        """Ridge regressions of each kind, one for each penalty.

        Args:
            penalties: What is added to the sums of products of predictors, shape (predictor, predictor).

        Returns:
            Squared error on the folds, each left out in turn, shape (penalty, band), and weights, shape
            (penalty, kind, predictor, band).
        """
        square, product = self.xx.sum(axis=1), self.xy.sum(axis=1)
        rest, rest_product = square[:, None] - self.xx, product[:, None] - self.xy
        errors, weights = [], []
        for penalty in penalties:
            left_out = np.linalg.solve(rest + penalty, rest_product)
            errors.append(self.errors(left_out).sum(axis=(0, 1)))
            weights.append(np.linalg.solve(square + penalty, product))
        return np.stack(errors), np.stack(weights)


def choose_weights(errors: Doubles, weights: Doubles) -> Doubles:
    """Of each band the weights with the smallest error, shape (kind, predictor, band).

    Args:
        errors: Shape (penalty, band).
        weights: Shape (penalty, kind, predictor, band).
    """
    best = errors.argmin(axis=0)
    return np.asarray(weights[best, ..., np.arange(len(best))].transpose(1, 2, 0))

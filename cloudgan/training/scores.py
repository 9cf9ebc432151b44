"""The scores of `cloudgan.evaluation.metrics` over the tiles of a training run, and what costs nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from cloudgan.errors import InputError
from cloudgan.evaluation.metrics import Floats, Mask, Scores, score
from cloudgan.training.samples import Sample

Declouder = Callable[[Floats, Mask], Floats]
"""From a cloudy image, (height, width, bands), and what is hidden, to a declouded one."""


def mean_scores(samples: Sequence[Sample], declouder: Declouder) -> Scores:
    """Mean over tiles of the scores on hidden pixels."""
    rows = [score(declouder(s.cloudy, s.masked), s.clear, s.masked) for s in samples if s.masked.any()]
    if not rows:
        raise InputError("no tile to score: none has hidden pixels")
    return Scores(*(float(np.mean([getattr(row, name) for row in rows])) for name in Scores.__slots__))


def as_it_is(cloudy: Floats, masked: Mask) -> Floats:
    """The baseline that does nothing."""
    return cloudy


def mean_colour(cloudy: Floats, masked: Mask) -> Floats:
    """The baseline that paints hidden pixels in the mean colour of the tile's visible ones."""
    seen = ~masked & np.all(cloudy > 0, axis=-1)
    colour = cloudy[seen].mean(axis=0) if seen.any() else cloudy.reshape(-1, cloudy.shape[-1]).mean(axis=0)
    return np.where(masked[..., None], colour, cloudy).astype(np.float32)

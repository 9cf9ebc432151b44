"""Judging a generator while it trains: rows of metrics on fixed images, training and held out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from cloudgan.evaluation.metrics import correlations, score
from cloudgan.training import scores
from cloudgan.training.data.imagery import Floats, Mask
from cloudgan.training.samples import Sample

Product = Callable[[Floats], Floats]
"""From a batch of planes to a batch of bands in reflectance, NHWC."""


def declouder(product: Product) -> scores.Declouder:
    """The whole product on one tile: what is hidden is generated, what is observed stays."""

    def declouded(cloudy: Floats, masked: Mask) -> Floats:
        return np.where(masked[..., None], product(cloudy[None])[0], cloudy).astype(np.float32)

    return declouded


def evaluate(tiles: Mapping[str, Sequence[Sample]], method: scores.Declouder) -> dict[str, dict[str, float]]:
    """Scores on hidden pixels by group of tiles."""
    return {group: scores.mean_scores(samples, method).as_dict() for group, samples in tiles.items()}


def row(group: str, samples: Sequence[Sample], product: Product, bands: Sequence[str]) -> dict[str, float]:
    """Metrics of the generated image, means over samples, on hidden and on observed pixels apart.

    The observed pixels of the product pass through untouched; their scores say how well the generator keeps
    what it sees.

    Args:
        group: What to call the samples, such as "train".
        samples: With truth.
        product: The generator.
        bands: Names of its bands.

    Returns:
        Columns such as "train generated psnr" and "train observed pc green".
    """
    columns: dict[str, float] = {}
    images = [product(sample.cloudy[None])[0] for sample in samples]
    for part in ("generated", "observed"):
        found: list[dict[str, float]] = []
        for sample, image in zip(samples, images, strict=True):
            mask = sample.masked if part == "generated" else sample.observed
            if mask.any():
                found.append(_scored(image, sample.clear, mask, bands))
        for name in found[0] if found else ():
            columns[f"{group} {part} {name}"] = float(np.mean([one[name] for one in found]))
    return columns


def _scored(image: Floats, truth: Floats, mask: Mask, bands: Sequence[str]) -> dict[str, float]:
    by_band = dict(zip(bands, correlations(image, truth, mask), strict=True))
    return score(image, truth, mask).as_dict() | {f"pc {band}": pc for band, pc in by_band.items()}

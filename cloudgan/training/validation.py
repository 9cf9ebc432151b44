"""Evaluating a generator while it trains: rows of metrics on fixed samples, training and held out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cloudgan.evaluation.metrics import correlations, score
from cloudgan.training import study
from cloudgan.training.run_folder import Row
from cloudgan.training.samples import Floats, Mask, Sample
from cloudgan.training.scores import Product
from cloudgan.training.tasks import Task

CHOSEN_BY = "validation generated mae"
"""The column whose least value makes the best checkpoint."""


def compute_row(task: Task, product: Product) -> Row:
    """All metrics of a generator on the fixed samples of a task."""
    bands = task.recipe.bands
    columns = _average(_score_samples(task.training, product, bands), "train")
    by_group = {group: _score_samples(samples, product, bands) for group, samples in task.held_out.items()}
    columns |= _average([found for group in by_group.values() for found in group], "validation")
    for group, found in by_group.items():
        columns[f"{group} psnr"] = _average(found, group)[f"{group} generated psnr"]
    if task.study is not None:
        truth, valid = task.study.truth, task.study.masked | task.study.observed
        noisy = study.make_validation_image(truth, bands, task.recipe.seed)
        for name, image in (("train", task.study.cloudy), ("val", noisy)):
            columns |= study.compute_row(name, product(image[None])[0], truth, valid, bands)
    return columns


def _score_samples(samples: Sequence[Sample], product: Product, bands: Sequence[str]) -> list[Row]:
    """Metrics of the generated image of each sample, on masked and on observed pixels apart.

    The observed pixels of the product pass through untouched; their scores say how well the generator keeps
    what it sees.

    Returns:
        Of each sample, columns such as "generated psnr" and "observed pc green".
    """
    rows = []
    for sample in samples:
        image = product(sample.channels[None])[0]
        row: Row = {}
        for part, mask in (("generated", sample.masked), ("observed", sample.observed)):
            if mask.any():
                found = _score(image, sample.truth, mask, bands)
                row |= {f"{part} {name}": value for name, value in found.items()}
        rows.append(row)
    return rows


def _average(rows: Sequence[Row], group: str) -> Row:
    """Means over samples, under names such as "train generated psnr"."""
    names = dict.fromkeys(name for row in rows for name in row)
    return {f"{group} {name}": float(np.mean([row[name] for row in rows if name in row])) for name in names}


def _score(image: Floats, truth: Floats, mask: Mask, bands: Sequence[str]) -> dict[str, float]:
    by_band = dict(zip(bands, correlations(image, truth, mask), strict=True))
    return score(image, truth, mask).as_dict() | {f"pc {band}": pc for band, pc in by_band.items()}

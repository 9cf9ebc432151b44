"""Evaluating a generator while it trains: rows of metrics on fixed samples, training and held out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from cloudgan.errors import InputError
from cloudgan.evaluation.metrics import Scores, correlations, score
from cloudgan.training import study
from cloudgan.training.run_folder import Row
from cloudgan.training.samples import Floats, Mask, Sample
from cloudgan.training.tasks import Task

Product = Callable[[Floats], Floats]
"""From a batch of input channels to a batch of bands in reflectance, NHWC."""
Method = Callable[[Sample], Floats]
"""From a sample to its declouded image, (height, width, band)."""

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


def score_groups(groups: Mapping[str, Sequence[Sample]], method: Method) -> dict[str, dict[str, float]]:
    """Scores on masked pixels by group of samples."""
    return {group: mean_scores(samples, method).as_dict() for group, samples in groups.items()}


def mean_scores(samples: Sequence[Sample], method: Method) -> Scores:
    """Mean over samples of the scores on masked pixels.

    Raises:
        InputError: No sample has masked pixels.
    """
    rows = [score(method(s), s.truth, s.masked) for s in samples if s.masked.any()]
    if not rows:
        raise InputError("no sample to score: none has masked pixels")
    return Scores(*(float(np.mean([getattr(row, name) for row in rows])) for name in Scores.__slots__))


def generate_with(product: Product) -> Method:
    """The whole product on one sample: what is masked is generated, what is observed stays."""

    def decloud(sample: Sample) -> Floats:
        return _fill(sample, product(sample.channels[None])[0])

    return decloud


def keep_cloudy(sample: Sample) -> Floats:
    """The baseline that does nothing."""
    return sample.cloudy


def fill_with_mean(sample: Sample) -> Floats:
    """The baseline that paints masked pixels in the mean colour of the sample's visible ones."""
    cloudy = sample.cloudy
    visible = ~sample.masked & np.all(cloudy > 0, axis=-1)
    pixels = cloudy[visible] if visible.any() else cloudy.reshape(-1, cloudy.shape[-1])
    return _fill(sample, np.broadcast_to(pixels.mean(axis=0), cloudy.shape))


def _fill(sample: Sample, image: Floats) -> Floats:
    return np.where(sample.masked[..., None], image, sample.cloudy).astype(np.float32)


def _score(image: Floats, truth: Floats, mask: Mask, bands: Sequence[str]) -> dict[str, float]:
    by_band = dict(zip(bands, correlations(image, truth, mask), strict=True))
    return score(image, truth, mask).as_dict() | {f"pc {band}": pc for band, pc in by_band.items()}

"""The scores of `cloudgan.evaluation` on what a run holds out, and baselines that need no other date."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from cloudgan.errors import InputError
from cloudgan.evaluation.cases import Kind, draw_cases
from cloudgan.evaluation.metrics import Scores, score
from cloudgan.evaluation.scoring import METRICS, evaluate
from cloudgan.model.generator import Generator
from cloudgan.observations import Site
from cloudgan.training.samples import Floats, Sample

Product = Callable[[Floats], Floats]
"""From a batch of input channels to a batch of bands in reflectance, NHWC."""
Method = Callable[[Sample], Floats]
"""From a sample to its declouded image, (height, width, band)."""

_KINDS: tuple[Kind, ...] = ("composited",)
_DATES = 4  # of each site, which are masked by the clouds of one other date


def score_cases(generator: Generator, sites: Sequence[Site]) -> dict[str, dict[str, float]]:
    """Scores of a generator as `cloudgan evaluate` measures them, on a few composited cases of each site.

    Args:
        generator: An exported file.
        sites: Of any regions.

    Returns:
        By region, means over the units of its cases, and how many these are.
    """
    cases = (case for site in sites for case in draw_cases(site, _KINDS, dates=_DATES, sources=1))
    units = evaluate(cases, {"model": generator}, names=()).units
    found: dict[str, dict[str, float]] = {}
    for region in sorted({unit.region for unit in units}):
        here = [unit.methods["model"] for unit in units if unit.region == region]
        means = {name: round(float(np.mean([one[name] for one in here])), 4) for name in METRICS}
        found[region] = means | {"units": len(here)}
    return found


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


def serve_with(generator: Generator) -> Method:
    """The same with an exported file, on samples of the size of its tile."""
    bands = len(generator.contract.output_bands)

    def decloud(sample: Sample) -> Floats:
        channels = np.ascontiguousarray(np.moveaxis(sample.channels, -1, 0))[None]
        return _fill(sample, np.moveaxis(generator(channels)[0, :bands], 0, -1))

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

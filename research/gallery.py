"""A picture of good and bad cases on regions held out of training, for the documentation.

    python research/gallery.py DATA docs/gallery.png [--model temporal]

Of each region: the part of a composited case (`research/regions.py`) where the generator gains most over
the best baseline there, and the one where it loses most. False colour (near infrared, red, green). The error
is mean over bands, black 0 to white 0.04 reflectance, blue where nothing was masked or no truth is known.
"""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from PIL import Image
from regions import draw_cases, read_regions

from cloudgan.evaluation.baselines import RIVALS, fill_date
from cloudgan.evaluation.cases import Case
from cloudgan.evaluation.scoring import decloud_case
from cloudgan.model.generator import Generator
from cloudgan.schema import Provenance
from cloudgan.sentinel2.bands import to_reflectance

REGIONS = ("33TWM-east", "flanders-b", "romania-east")
EDGE = 128  # pixels of a part at most
FULL = np.array([0.25, 0.28, 0.55], np.float32)  # reflectance of green, red, nir shown at full brightness
LARGEST = 0.04  # error shown white


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a case, ready to be shown."""

    region: str
    """Where."""
    name: str
    """The case."""
    baseline: str
    """The best one there."""
    gain: float
    """PSNR of the generator over it, in dB."""
    images: tuple[np.ndarray, ...]
    """Cloudy, generated, baseline, truth: reflectance, shape (y, x, band)."""
    evaluated: np.ndarray
    """Pixels that count, shape (y, x)."""


def parts(case: Case, generator: Generator) -> Iterator[Part]:
    """The parts of a case with enough pixels to evaluate."""
    site, at = case.site, case.at
    filled = fill_date(site.observations, at, buffer=site.buffer, names=RIVALS)
    made = decloud_case(case, generator)
    evaluated = case.evaluated & filled.available & (made.provenance == Provenance.GENERATED)
    images = {name: reflectance(image) for name, image in filled.images.items()}
    images["generated"] = reflectance(made.bands)
    cloudy = reflectance(site.observations.image(at))
    truth = reflectance(case.truth)
    height, width = evaluated.shape
    edge = min(EDGE, height, width)
    for row in range(0, height - edge + 1, edge):
        for col in range(0, width - edge + 1, edge):
            here = slice(row, row + edge), slice(col, col + edge)
            if not 0.2 < evaluated[here].mean() < 0.9:
                continue
            psnr = {
                name: -10 * np.log10(mse(image, truth, evaluated, here)) for name, image in images.items()
            }
            best = max(RIVALS, key=psnr.__getitem__)
            shown = (cloudy, images["generated"], images[best], truth)
            yield Part(
                site.region, case.name, best, psnr["generated"] - psnr[best],
                tuple(image[here] for image in shown), evaluated[here],
            )  # fmt: skip


def reflectance(bands: np.ndarray) -> np.ndarray:
    """Digital numbers (band, y, x) as reflectance (y, x, band)."""
    return np.moveaxis(to_reflectance(bands), 0, -1)


def mse(image: np.ndarray, truth: np.ndarray, evaluated: np.ndarray, here: tuple[slice, slice]) -> float:
    """Mean squared error over the evaluated pixels of a part."""
    return max(float(np.mean((image[here] - truth[here])[evaluated[here]] ** 2)), 1e-12)


def to_colour(image: np.ndarray) -> np.ndarray:
    """False colour, shape (y, x, 3), 0 to 1."""
    return np.sqrt(np.clip(image / FULL, 0, 1))[..., ::-1]


def to_grey(image: np.ndarray, truth: np.ndarray, evaluated: np.ndarray) -> np.ndarray:
    """The error as grey, shape (y, x, 3), 0 to 1."""
    grey = np.clip(np.abs(image - truth).mean(axis=-1) / LARGEST, 0, 1)[..., None].repeat(3, axis=-1)
    return np.where(evaluated[..., None], grey, np.array([0.35, 0.45, 0.6]))


def picture(chosen: list[Part]) -> bytes:
    """All parts below each other, as a PNG of few colours."""
    columns = ("cloudy", "generated", "best baseline", "truth", "error, generated", "error, baseline")
    figure = Figure((7.6, 1.3 * len(chosen) + 0.2), dpi=110, layout="constrained")
    grid = figure.subplots(len(chosen), len(columns), squeeze=False)
    for line, part in zip(grid, chosen, strict=True):
        truth = part.images[3]
        shown = [to_colour(image) for image in part.images]
        shown += [to_grey(image, truth, part.evaluated) for image in part.images[1:3]]
        for axes, image in zip(line, shown, strict=True):
            axes.imshow(image, interpolation="nearest")
            axes.set(xticks=[], yticks=[])
        line[0].set_ylabel(f"{part.region}\n{part.gain:+.1f} dB", fontsize=7)
        line[2].set_xlabel(part.baseline, fontsize=7, labelpad=2)
        line[0].set_xlabel(part.name, fontsize=5)
    for axes, name in zip(grid[0], columns, strict=True):
        axes.set_title(name, fontsize=8)
    full, small = io.BytesIO(), io.BytesIO()
    figure.savefig(full, format="png")
    Image.open(full).convert("RGB").quantize(200).save(small, "PNG", optimize=True)
    return small.getvalue()


def main() -> None:
    """Evaluate all cases, choose, and draw."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, help="folder of the sample imagery")
    parser.add_argument("out", type=Path, help="PNG to write")
    parser.add_argument("--model", default="temporal", help="name or path of the model (default temporal)")
    options = parser.parse_args()
    generator = Generator.load(options.model)
    found: dict[str, list[Part]] = {region: [] for region in REGIONS}
    sites = read_regions(options.data, REGIONS)
    for case in draw_cases(sites, sites, quick=True):
        if case.kind == "composited":
            found[case.site.region] += parts(case, generator)
    chosen = []
    for every in found.values():
        ranked = sorted(every, key=lambda part: part.gain)
        chosen += [ranked[-1], ranked[0]]
    options.out.write_bytes(picture(chosen))
    for part in chosen:
        print(f"{part.region} {part.name}: {part.gain:+.2f} dB over {part.baseline}", file=sys.stderr)


if __name__ == "__main__":
    main()

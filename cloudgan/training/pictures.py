"""Pictures of a run: its curves, and what it makes of a few images."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from cloudgan.training.run_folder import Row
from cloudgan.training.samples import Floats, Sample
from cloudgan.training.scores import Product


def draw_curves(rows: Sequence[Row], path: Path) -> None:
    """Draw losses and scores over the steps."""
    panels = {
        "losses": ("loss", "discriminator", "adversarial", "mae"),
        "PSNR of generated pixels, dB": ("train generated psnr", "validation generated psnr"),
        "SSIM of generated pixels": ("train generated ssim", "validation generated ssim"),
    }
    figure = Figure(figsize=(12, 3.2), layout="constrained")
    steps = [row["step"] for row in rows]
    for axes, (title, names) in zip(figure.subplots(1, len(panels)), panels.items(), strict=True):
        for name in [name for name in names if name in rows[0]]:
            axes.plot(steps, [row[name] for row in rows], marker=".", label=name.replace(" generated", ""))
        axes.set(title=title, xlabel="step")
        axes.legend(frameon=False)
    write_figure(figure, path)


def draw_samples(shown: Sequence[Sample], product: Product, path: Path) -> None:
    """Draw each sample as observed, generated and true, in false colour (the last three bands)."""
    figure = Figure(figsize=(7.5, 2.5 * len(shown)), layout="constrained")
    grid = figure.subplots(len(shown), 3, squeeze=False)
    for line, sample in zip(grid, shown, strict=True):
        images = {
            "cloudy": sample.cloudy,
            "generated": product(sample.channels[None])[0],
            "clear": sample.truth,
        }
        brightest = float(np.quantile(sample.truth, 0.99))
        for axes, (title, image) in zip(line, images.items(), strict=True):
            axes.imshow(_colours(image, brightest))
            axes.set_title(title)
            axes.axis("off")
    write_figure(figure, path)


def write_figure(figure: Figure, path: Path, dpi: int = 80) -> None:
    """Write a figure as PNG, whole or not at all."""
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=dpi)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_bytes(content.getvalue())
    partial.replace(path)


def _colours(image: Floats, brightest: float) -> Floats:
    """Near infrared as red, and so on: the last band first."""
    colours: Floats = np.clip(image[..., ::-1][..., :3] / max(brightest, 1e-6), 0, 1)
    return colours if colours.shape[-1] == 3 else np.repeat(colours[..., :1], 3, axis=-1)

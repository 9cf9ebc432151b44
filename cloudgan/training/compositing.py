"""Real clouds composited from one date onto another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation

from cloudgan.observations import Observations
from cloudgan.sentinel2.bands import to_reflectance
from cloudgan.sentinel2.classification import PixelClass
from cloudgan.training.samples import Floats

Classes = NDArray[np.uint8]

CLOUD_EDGE = 2
"""Pixels around a cloud's classification that keep its haze, as they do where clouds are real."""


@dataclass(frozen=True, slots=True)
class CloudField:
    """A cloudy date: the image of its clouds, and how they are classified."""

    image: Floats
    """Reflectance, shape (y, x, band)."""
    pixel_classes: Classes
    """Values of `PixelClass`, shape (y, x)."""


class CloudSampler:
    """Draws patches of real cloudy dates, and puts them over others."""

    def __init__(self, fields: Sequence[CloudField]) -> None:
        """Prepare to draw from at least one cloudy date."""
        self._fields = list(fields)

    def draw(self, rng: Generator, size: int) -> CloudField:
        """A patch of a real cloudy date, turned at random, magnified where it is small."""
        for _ in range(8):
            field = self._fields[int(rng.integers(len(self._fields)))]
            shape = field.pixel_classes.shape
            magnified = rng.uniform(1, 2.5) if rng.random() < 0.3 else 1
            factor = max(1.0, size / min(shape)) * magnified
            need = max(1, min(int(np.ceil(size / factor)), *shape))
            rows, cols = draw_part(rng, shape, need)
            image, classes = field.image[rows, cols], field.pixel_classes[rows, cols]
            share = np.mean(classes == PixelClass.CLOUDY)
            if not 0.04 < share < 0.98 or share > rng.random() + 0.3:
                continue
            if factor > 1:
                index = np.minimum((np.arange(size) / factor).astype(int), need - 1)
                image, classes = image[index][:, index], classes[index][:, index]
            turns, flip = int(rng.integers(4)), bool(rng.integers(2))
            return CloudField(turn(image, turns, flip), turn(classes, turns, flip))
        bright = np.full((size, size, self._fields[0].image.shape[-1]), 0.5, np.float32)
        return CloudField(bright, np.full((size, size), PixelClass.CLOUDY, np.uint8))

    def cover(self, rng: Generator, image: Floats, classes: Classes) -> tuple[Floats, Classes]:
        """A date under the clouds of another: under a part of them, fully masked, or with a gap."""
        size = len(image)
        field = self.draw(rng, size)
        kind = rng.random()
        if kind < 0.12:  # fully masked
            cloudy = field.pixel_classes[..., None] == PixelClass.CLOUDY
            bright = np.where(cloudy, field.image, rng.uniform(0.2, 0.8))
            empty = classes == PixelClass.NO_DATA
            return (
                np.where(image > 0, bright, 0).astype(np.float32),
                np.where(empty, classes, PixelClass.CLOUDY).astype(np.uint8),
            )
        if kind < 0.16:  # a gap without data, as at the edge of the swath
            edge = int(rng.integers(size // 8, size - 8))
            image, classes = image.copy(), classes.copy()
            image[:edge], classes[:edge] = 0, PixelClass.NO_DATA
        cloudy_image, classes = composite(image, classes, field)
        if kind > 0.85:
            cloudy_image, classes = composite(cloudy_image, classes, self.draw(rng, size))
        return cloudy_image, classes


def find_cloud_fields(observations: Observations, bands: Sequence[str]) -> list[CloudField]:
    """The cloudy dates of a time series, to composite clouds from.

    Args:
        observations: All dates.
        bands: Common names of the bands wanted, in order.
    """
    classes = observations.pixel_classes
    cloudy = np.mean(classes == PixelClass.CLOUDY, axis=(1, 2))
    empty = np.mean(classes == PixelClass.NO_DATA, axis=(1, 2))
    chosen = np.flatnonzero((cloudy > 0.05) & (cloudy < 0.97) & (empty < 0.3))
    images = np.stack([to_reflectance(observations.bands[name][chosen]) for name in bands], axis=-1)
    return [CloudField(image, classes[at]) for image, at in zip(images, chosen, strict=True)]


def composite(image: Floats, classes: Classes, field: CloudField) -> tuple[Floats, Classes]:
    """An image under another date's clouds: their pixels and classification, and two pixels around them.

    The edge keeps the haze that the classification calls clear.

    Args:
        image: Reflectance, shape (y, x, band).
        classes: Values of `PixelClass`, shape (y, x).
        field: The clouds, of the same shape.

    Returns:
        Image and pixel classes under the clouds.
    """
    over = binary_dilation(field.pixel_classes == PixelClass.CLOUDY, iterations=CLOUD_EDGE)
    over &= np.all(field.image > 0, axis=-1)
    return np.where(over[..., None], field.image, image), np.where(over, field.pixel_classes, classes)


def draw_part(rng: Generator, shape: tuple[int, ...], size: int) -> tuple[slice, slice]:
    """A square part of a shape, as slices of rows and columns."""
    row, col = (int(rng.integers(0, max(1, edge - size + 1))) for edge in shape[:2])
    return slice(row, row + size), slice(col, col + size)


def turn(array: NDArray[Any], turns: int, flip: bool) -> NDArray[Any]:
    """An array turned anticlockwise by so many right angles, then flipped from left to right."""
    turned = np.rot90(array, turns)
    return turned[:, ::-1] if flip else turned

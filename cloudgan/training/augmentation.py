"""Augmentation, documented and our own: one transform for both images of a pair, always.

Images have shape (height, width, bands). A transform is drawn first, as a value, and applied afterwards to as
many images as belong together; the study's notebooks draw one per image, and so tear its skewed pairs apart.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy.ndimage import affine_transform

from cloudgan.errors import InputError

Floats = NDArray[np.float32]
Pair = tuple[Floats, Floats]
"""The cloudy and the clear image."""

ROTATIONS = (0, 90, 180, -90)
"""Degrees, anticlockwise, of the documented pairs 1, 2, 3, 4."""
PLAIN_ORDER = ("1", "2", "3", "4", "1", "2", "3", "4", "1", "2")
"""The documented stack."""
SKEWED_ORDER = ("1", "2", "3", "4", "1'", "2'", "3'", "4'", "1", "1'")
"""The documented stack with skewed copies."""


def rotate(image: Floats, degrees: int) -> Floats:
    """Turn an image anticlockwise by a multiple of 90 degrees.

    Raises:
        InputError: Any other angle.
    """
    if degrees % 90:
        raise InputError(f"images turn by multiples of 90 degrees, got {degrees}")
    return np.rot90(image, degrees // 90)


def shear_image(image: Floats, across: float, down: float = 0.0) -> Floats:
    """Skew an image about its centre; what comes in from outside is mirrored.

    Args:
        image: Shape (height, width, bands).
        across: Angle of the shear along rows, in degrees within (-90, 90).
        down: Angle of the shear along columns, in degrees.

    Raises:
        InputError: An angle is out of range, or the two undo the image (their tangents multiply to 1).
    """
    if not (abs(across) < 90 and abs(down) < 90):
        raise InputError(f"shear angles lie within (-90, 90) degrees, got {across} and {down}")
    matrix = np.array([[1.0, np.tan(np.radians(down))], [np.tan(np.radians(across)), 1.0]])
    if abs(np.linalg.det(matrix)) < 1e-3:
        raise InputError(f"shears of {across} and {down} degrees together flatten the image")
    centre = (np.array(image.shape[:2]) - 1) / 2
    offset = centre - matrix @ centre
    channels = [
        affine_transform(image[..., band], matrix, offset, order=1, mode="mirror")
        for band in range(image.shape[2])
    ]
    return np.stack(channels, axis=-1).astype(image.dtype)


def make_plain_stack(pair: Pair) -> list[Pair]:
    """The documented ten pairs: rotations 1, 2, 3, 4, 1, 2, 3, 4, 1, 2."""
    return _stack(pair, PLAIN_ORDER, (0.0, 0.0))


def make_skewed_stack(pair: Pair, across: float, down: float = 0.0) -> list[Pair]:
    """The documented ten pairs with skewed copies (skewed, then rotated): 1, 2, 3, 4, 1', 2', 3', 4', 1, 1'.

    Args:
        pair: Cloudy and clear.
        across: Shear along rows in degrees, the same for both images.
        down: Shear along columns in degrees.
    """
    return _stack(pair, SKEWED_ORDER, (across, down))


def _stack(pair: Pair, order: Sequence[str], shear: tuple[float, float]) -> list[Pair]:
    def both(change: Callable[[Floats], Floats], images: Pair) -> Pair:
        return change(images[0]), change(images[1])

    skewed = (
        both(lambda image: shear_image(image, *shear), pair) if any("'" in name for name in order) else pair
    )
    made = {}
    for number, degrees in enumerate(ROTATIONS, start=1):
        turned = partial(rotate, degrees=degrees)
        made[f"{number}"], made[f"{number}'"] = both(turned, pair), both(turned, skewed)
    return [made[name] for name in order]


@dataclass(frozen=True, slots=True)
class Transform:
    """A crop, a turn and a flip: exact, no resampling."""

    row: int
    """Top row of the crop."""
    col: int
    """Left column of the crop."""
    size: int
    """Edge of the crop in pixels."""
    quarter_turns: int
    """Anticlockwise, after the crop."""
    flipped: bool
    """Left to right, last."""

    def __call__(self, image: NDArray[np.generic]) -> NDArray[np.generic]:
        """Apply it to an image or a mask, shape (height, width, ...)."""
        cut = image[self.row : self.row + self.size, self.col : self.col + self.size]
        turned = np.rot90(cut, self.quarter_turns)
        return turned[:, ::-1] if self.flipped else turned


def draw_transform(rng: Generator, shape: tuple[int, int], size: int) -> Transform:
    """Draw a crop of `size` pixels from an image of `shape`, with a turn and a flip.

    Raises:
        InputError: The image is smaller than the crop.
    """
    if min(shape) < size:
        raise InputError(f"no crop of {size} pixels in an image of {shape[0]} x {shape[1]}")
    row, col = (int(rng.integers(0, edge - size + 1)) for edge in shape)
    return Transform(row, col, size, int(rng.integers(4)), bool(rng.integers(2)))


def draw_gain(rng: Generator, bands: int, deviation: float = 0.1) -> Floats:
    """Draw a radiometric jitter: factors per band near 1, to multiply clear surface with.

    Args:
        rng: Source of chance.
        bands: How many.
        deviation: Standard deviation of the common factor; that of single bands is half of it.

    Returns:
        Shape (bands,), within [0.5, 2].
    """
    common = rng.normal(0, deviation)
    gain: Floats = np.exp(common + rng.normal(0, deviation / 2, bands)).astype(np.float32)
    return np.clip(gain, 0.5, 2.0)

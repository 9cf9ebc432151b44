"""Small random cubes with a cloud, for tests of baselines."""

from __future__ import annotations

import numpy as np

from cloudgan.geo.grid import Window
from cloudgan.observations import Observations
from cloudgan.sentinel2.classification import PixelClass

BANDS = ("green", "red")


def cube_of(
    seed: int, *, times: int = 5, size: int = 24, at: int = 2, holes: float = 0.0, masked: float = 0.3
) -> Observations:
    """Dates of one textured surface that changes; one date is cloudy in a corner, the others have holes.

    Args:
        seed: Of everything.
        times: Dates, at uneven distances.
        size: Edge in pixels.
        at: The cloudy date.
        holes: Share of the other dates' pixels that is cloudy.
        masked: Share of the cloudy date that is cloudy, from the top.
    """
    rng = np.random.default_rng(seed)
    days = np.cumsum(rng.integers(2, 12, times)).astype(np.int64)
    kinds = rng.normal(size=(3, size, size))
    mixing = rng.normal(size=(times, len(BANDS), 3))
    values = (
        2500 + 300 * np.einsum("tbk,kyx->tbyx", mixing, kinds) + rng.normal(0, 30, (times, 2, size, size))
    )
    numbers = np.clip(values, 200, 8000).astype(np.uint16)
    classes = np.full((times, size, size), PixelClass.CLEAR, np.uint8)
    classes[rng.random(classes.shape) < holes] = PixelClass.CLOUDY
    classes[at] = PixelClass.CLEAR
    classes[at, : round(masked * size)] = PixelClass.CLOUDY
    bands = {name: numbers[:, band].copy() for band, name in enumerate(BANDS)}
    for band in bands.values():
        band[classes == PixelClass.CLOUDY] = 9000
    return Observations(Window(0, 0, size, size), bands, classes, days)

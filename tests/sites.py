"""A made-up time series, small enough to train on in a test."""

import numpy as np

from cloudgan.geo.grid import Window
from cloudgan.observations import Observations, Site
from cloudgan.sentinel2.bands import to_numbers
from cloudgan.sentinel2.classification import PixelClass

BANDS = ("green", "red", "nir")


def make_site(rng, *, size=64, times=5, buffer=2, region="here", repeated=False):
    """Farmland: five dates, clouds on each but the third, which alone is trusted."""
    surface = np.kron(rng.uniform(0.03, 0.4, (8, 8, 3)), np.ones((size // 8, size // 8, 1)))
    images = surface[None] * rng.uniform(0.8, 1.2, (times, 1, 1, 3))
    pixel_classes = np.full((times, size, size), PixelClass.CLEAR, np.uint8)
    for at in range(times):
        if at != 2 and not repeated:
            edge = size // 3 + 2
            row, col = rng.integers(0, size - edge, 2)
            pixel_classes[at, row : row + edge, col : col + edge] = PixelClass.CLOUDY
    pixel_classes[1, :5], images[1, :5] = PixelClass.NO_DATA, 0
    pixel_classes[3, 30:34, 10:14] = PixelClass.UNRELIABLE
    days = np.array([0, 3, 10, 12, 30], np.int64)[:times]
    numbers = {band: to_numbers(images[..., number]) for number, band in enumerate(BANDS)}
    observations = Observations(Window(0, 0, size, size), numbers, pixel_classes, days)
    return Site("made", region, 10.0, buffer, observations, np.arange(times) == 2, repeated)

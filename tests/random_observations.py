"""Random observations of a window, and the plain loops that what is made of them is compared with."""

import math

import numpy as np
from hypothesis import strategies as st
from networks import BANDS
from scipy.ndimage import gaussian_filter

from cloudgan.geo.grid import Window
from cloudgan.geo.tiling import Tiling
from cloudgan.observations import Observations
from cloudgan.removal.core import DecloudedDate, decloud_dates, window_to_read
from cloudgan.sentinel2.classification import PixelClass

DAYS = np.array([0, 2, 5, 6], np.int64) + 18353
TILE = 32
BUFFER = 4
AREA = Window(-37, 1013, 61, 70)  # across the lattice's own zero, and no multiple of a stride


def random_classes(rng, shape):
    """Clouds, a swath edge, an asset that could not be read and incomplete pixels, in patches."""

    def patches(share):
        noise = gaussian_filter(rng.random(shape), (0, 4, 4))
        return noise > np.quantile(noise, 1 - share)

    pixel_classes = np.full(shape, PixelClass.CLEAR, np.uint8)
    pixel_classes[patches(0.25)] = PixelClass.CLOUDY
    pixel_classes[rng.random(shape) < 0.03] = PixelClass.UNRELIABLE
    pixel_classes[patches(0.1)] = PixelClass.NO_DATA
    pixel_classes[patches(0.05)] = PixelClass.MISSING
    return pixel_classes


def random_observations(window, bands=BANDS, days=DAYS, seed=0):
    """Random dates of a window."""
    rng = np.random.default_rng(seed)
    shape = (len(days), *window.shape)
    pixel_classes = random_classes(rng, shape)
    valid = ~np.isin(pixel_classes, [PixelClass.NO_DATA, PixelClass.MISSING])
    values = {name: np.where(valid, rng.integers(1, 9000, shape), 0).astype(np.uint16) for name in bands}
    if len(bands) > 1:  # one band alone has no data
        values[bands[1]][(pixel_classes == PixelClass.UNRELIABLE) & (rng.random(shape) < 0.5)] = 0
    return Observations(window, values, pixel_classes, days)


def observations_for(target, stride, *, bands=BANDS, seed=0):
    """Observations that hold all that `target` depends on."""
    return random_observations(window_to_read(target, Tiling(TILE, stride), BUFFER), bands, seed=seed)


def decloud(observations, target, generator, stride=24, buffer=BUFFER, **options):
    tiling = Tiling(TILE, stride)
    return list(decloud_dates(observations, target, generator, buffer=buffer, tiling=tiling, **options))


def crop(date, window, part):
    """The part of a date, which lies over `window`."""
    rows, cols = part.slices_in(window)
    return DecloudedDate(
        date.bands[:, rows, cols],
        *(
            getattr(date, name)[rows, cols]
            for name in ("provenance", "mask_source", "days_before", "days_after", "uncertainty", "clamped")
        ),
    )


def assert_same(one, other):
    """Equal bit for bit."""
    for name in ("bands", "provenance", "mask_source", "days_before", "days_after", "uncertainty", "clamped"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)
        assert getattr(one, name).dtype == getattr(other, name).dtype


def distance(pixel_classes, y, x):
    cloudy = np.argwhere(pixel_classes == PixelClass.CLOUDY)
    return np.hypot(*(cloudy - (y, x)).T).min() if len(cloudy) else math.inf


def naive_weight(pixel_classes, buffer):
    """Opacity by trying all cloudy pixels; 0 where there is no data."""
    cloudy = np.argwhere(pixel_classes == PixelClass.CLOUDY)
    weight = np.zeros(pixel_classes.shape)
    for pixel in np.ndindex(*pixel_classes.shape):
        distance = np.sqrt(((cloudy - pixel) ** 2).sum(axis=1)).min() if len(cloudy) else math.inf
        if distance == 0:
            weight[pixel] = 1
        elif distance <= buffer:
            inner = -(-buffer // 2)
            fall = max(distance - inner, 0) / (buffer - inner + 1)
            weight[pixel] = math.cos(math.pi / 2 * fall) ** 2
    return weight.astype(np.float16).astype(np.float32)  # it is kept in half precision


def nearest_clear_dates(observations, at, y, x, buffer):
    """Dates on which a pixel is clear, with no cloud near, the nearest before and after `at`."""
    clear = [
        t
        for t in range(len(observations.days))
        if observations.pixel_classes[t, y, x] == PixelClass.CLEAR
        and distance(observations.pixel_classes[t], y, x) > buffer
    ]
    return [t for t in clear if t < at][-1:], [t for t in clear if t > at][:1]


@st.composite
def parts(draw):
    top, left = draw(st.integers(0, AREA.height - 1)), draw(st.integers(0, AREA.width - 1))
    bottom, right = draw(st.integers(top + 1, AREA.height)), draw(st.integers(left + 1, AREA.width))
    return Window.between(AREA.row + top, AREA.col + left, AREA.row + bottom, AREA.col + right)

"""Whether two images of one place lie on each other: the shift between them, measured on what both show.

The edges of fields and roads stay where they are while their colours change, so it is gradients that are
compared. Their correlation is computed for all shifts at once in the frequency domain, with the masked
pixels left out exactly (Padfield 2012, "Masked object registration in the Fourier domain").
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import fft
from scipy.ndimage import binary_erosion, gaussian_gradient_magnitude

from cloudgan.errors import InputError

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]

MAX_SHIFT = 24
"""Pixels up to which a shift is searched for."""
ALLOWED = 1.5
"""Pixels of shift from which on a pair is refused: Sentinel-2's own dates lie up to 1.1 beside each other."""
_MIN_PIXELS = 4_000  # pixels clear in both, below which nothing is claimed
_MIN_CORRELATION = 0.35  # correlation of the gradients that a claimed shift must reach
_MIN_GAIN = 0.1  # by how much it must be better than no shift


@dataclass(frozen=True, slots=True)
class Shift:
    """How far one image lies beside another."""

    rows: float
    """Pixels that the content lies further down."""
    cols: float
    """Pixels that the content lies further right."""
    correlation: float
    """Of the gradients at this shift, -1 to 1."""
    unshifted: float
    """Of the gradients without a shift."""

    @property
    def pixels(self) -> float:
        """Its length."""
        return float(np.hypot(self.rows, self.cols))

    @property
    def certain(self) -> bool:
        """Whether the pixels bear it out: they agree there, and clearly less without a shift."""
        within = max(abs(self.rows), abs(self.cols)) < MAX_SHIFT  # at the very edge it may be only a slope
        return (
            within and self.correlation > _MIN_CORRELATION and self.correlation - self.unshifted > _MIN_GAIN
        )


def measure_shift(image: Floats, reference: Floats, known: Mask) -> Shift | None:
    """How far the content of an image lies beside that of another, to about a tenth of a pixel.

    Args:
        image: Reflectance, shape (height, width, bands).
        reference: Of the same shape.
        known: Pixels that show the surface in both, shape (height, width).

    Returns:
        The shift within `MAX_SHIFT` pixels at which the two are most similar; None where both show too
        little of the surface.
    """
    # A gradient at the edge of a cloud is the cloud's.
    core = binary_erosion(known, iterations=4)
    if core.sum() < _MIN_PIXELS:
        return None
    correlation = _correlations(_edges(image, known), _edges(reference, known), core)
    best = np.unravel_index(int(correlation.argmax()), correlation.shape)
    row, col = (
        _peak(line, int(at))
        for line, at in ((correlation[:, best[1]], best[0]), (correlation[best[0]], best[1]))
    )
    return Shift(
        row - MAX_SHIFT, col - MAX_SHIFT, float(correlation[best]), float(correlation[MAX_SHIFT, MAX_SHIFT])
    )


def refuse_unregistered(name: str, image: Floats, reference: Floats, known: Mask) -> None:
    """Make sure that two images lie on each other, as far as their pixels tell.

    Args:
        name: What to call the pair in the error.
        image: Reflectance, shape (height, width, bands).
        reference: Of the same shape.
        known: Pixels that show the surface in both, shape (height, width).

    Raises:
        InputError: One lies beside the other by `ALLOWED` pixels or more.
    """
    shift = measure_shift(image, reference, known)
    if shift is not None and shift.certain and shift.pixels >= ALLOWED:
        raise InputError(
            f"{name}: the cloudy image lies {abs(shift.rows):.1f} pixels "
            f"{'below' if shift.rows > 0 else 'above'} and "
            f"{abs(shift.cols):.1f} {'right' if shift.cols > 0 else 'left'} of the clear one (measured on "
            "what both show); register them on one grid, or leave the pair out"
        )


def _edges(image: Floats, known: Mask) -> Floats:
    """Strength of edges, over all bands and without outliers, shape (height, width)."""
    strengths = []
    for band in np.moveaxis(image, -1, 0):
        strength = gaussian_gradient_magnitude(np.where(known, band, band[known].mean()), 0.8)
        strengths.append(np.minimum(strength / (np.percentile(strength[known], 95) + 1e-9), 1))
    mean: Floats = np.mean(strengths, axis=0, dtype=np.float32)
    return mean


def _correlations(one: Floats, other: Floats, known: Mask) -> NDArray[np.float64]:
    """Correlation of known pixels at every shift, shape (2 * MAX_SHIFT + 1,) * 2; -1 where few overlap."""
    shape = [fft.next_fast_len(edge + MAX_SHIFT, real=True) for edge in known.shape]
    mask = known.astype(np.float64)

    def spectrum(values: NDArray[np.float64]) -> NDArray[np.complex128]:
        return fft.rfft2(values * mask, shape)  # type: ignore[no-any-return]

    def sum_products(left: NDArray[np.complex128], right: NDArray[np.complex128]) -> NDArray[np.float64]:
        # For each shift s the sum over x of left(x + s) * right(x).
        whole = fft.irfft2(left * np.conj(right), shape)
        steps = np.arange(-MAX_SHIFT, MAX_SHIFT + 1)
        return whole[np.ix_(steps, steps)]  # type: ignore[no-any-return]

    # About their means, so that the differences below do not cancel.
    first, second = one - one[known].mean(), other - other[known].mean()
    count_spectrum, a, b = spectrum(mask), spectrum(first), spectrum(second)
    count = np.maximum(sum_products(count_spectrum, count_spectrum), 1)
    sum_a, sum_b = sum_products(a, count_spectrum), sum_products(count_spectrum, b)
    variance_a = sum_products(spectrum(first**2), count_spectrum) - sum_a**2 / count
    variance_b = sum_products(count_spectrum, spectrum(second**2)) - sum_b**2 / count
    covariance = sum_products(a, b) - sum_a * sum_b / count
    correlation = covariance / np.sqrt(np.maximum(variance_a * variance_b, 1e-12))
    return np.where(count > _MIN_PIXELS / 2, correlation, -1.0)


def _peak(line: NDArray[np.float64], at: int) -> float:
    """The top of the parabola through three points around a maximum."""
    if not 0 < at < len(line) - 1:
        return float(at)
    left, top, right = line[at - 1 : at + 2]
    bend = left - 2 * top + right
    return at + (0.5 * (left - right) / bend if bend < 0 else 0.0)

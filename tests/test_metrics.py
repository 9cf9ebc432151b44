"""Scores agree with scikit-image, and count the chosen pixels alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from skimage.metrics import mean_squared_error, peak_signal_noise_ratio, structural_similarity

from cloudgan.errors import InputError
from cloudgan.evaluation.metrics import correlations, score, ssim_map


def pair(seed: int, noise: float = 0.02) -> tuple[np.ndarray, np.ndarray]:
    """A smooth image and a noisy copy, shape (48, 40, 3)."""
    rng = np.random.default_rng(seed)
    truth = np.cumsum(np.cumsum(rng.normal(0, 0.01, (48, 40, 3)), axis=0), axis=1)
    truth = (0.05 + 0.4 * (truth - truth.min()) / np.ptp(truth)).astype(np.float32)
    return (truth + rng.normal(0, noise, truth.shape)).astype(np.float32), truth


everything = np.ones((48, 40), bool)


@given(st.integers(0, 10_000), st.floats(0.001, 0.2), st.sampled_from([0.5, 1.0, 2.0]))
def test_psnr_is_that_of_scikit_image(seed, noise, data_range):
    image, truth = pair(seed, noise)
    ours = score(image, truth, everything, data_range).psnr
    theirs = peak_signal_noise_ratio(
        truth.astype(np.float64), image.astype(np.float64), data_range=data_range
    )
    assert ours == pytest.approx(theirs, abs=1e-4)


@given(st.integers(0, 10_000), st.sampled_from([0.5, 1.0]))
def test_ssim_is_that_of_scikit_image_at_every_pixel(seed, data_range):
    image, truth = (one.astype(np.float64) for one in pair(seed))
    _, theirs = structural_similarity(
        image, truth, data_range=data_range, gaussian_weights=True, use_sample_covariance=False,
        channel_axis=-1, full=True,
    )  # fmt: skip
    np.testing.assert_allclose(ssim_map(image, truth, data_range), theirs.mean(axis=-1), atol=1e-9)


def test_correlation_of_each_band_is_numpys():
    image, truth = pair(3)
    wanted = [np.corrcoef(image[..., b].ravel(), truth[..., b].ravel())[0, 1] for b in range(3)]
    np.testing.assert_allclose(correlations(image, truth, everything), wanted, atol=1e-9)


def test_what_does_not_vary_correlates_with_nothing():
    image, truth = pair(3)
    assert correlations(np.zeros_like(image), truth, everything) == (0.0, 0.0, 0.0)


@given(st.integers(0, 1000))
def test_only_the_chosen_pixels_count(seed):
    image, truth = pair(seed)
    mask = np.random.default_rng(seed).random((48, 40)) < 0.5
    spoiled = np.where(mask[..., None], image, 9).astype(np.float32)
    one, other = score(image, truth, mask), score(spoiled, truth, mask)
    assert (one.psnr, one.mae, one.sam) == (other.psnr, other.mae, other.sam)
    squared = mean_squared_error(image[mask], truth[mask])
    assert one.psnr == pytest.approx(-10 * np.log10(squared), abs=1e-4)
    assert correlations(image, truth, mask) == correlations(spoiled, truth, mask)


def test_the_angle_between_two_colours():
    image = np.broadcast_to(np.array([1, 0, 0], np.float32), (4, 4, 3))
    truth = np.broadcast_to(np.array([1, 1, 0], np.float32), (4, 4, 3))
    assert score(image, truth, np.ones((4, 4), bool)).sam == pytest.approx(45)


def test_no_pixel_is_refused():
    image, truth = pair(0)
    with pytest.raises(InputError, match="the mask is empty"):
        score(image, truth, ~everything)

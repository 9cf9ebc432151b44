"""The pixel loss of the temporal generator."""

import keras
import numpy as np
import pytest

from cloudgan.training.models.losses import (
    LogError,
    gradient_error,
    log_error,
    negative_log_likelihood,
    spectral_error,
    structural_error,
)
from cloudgan.training.recipe import LogErrorLoss


def number(tensor):
    return float(keras.ops.convert_to_numpy(tensor))


@pytest.fixture
def truth(rng):
    return rng.uniform(0.1, 0.3, (2, 32, 32, 3)).astype(np.float32)


def test_every_sample_counts_by_the_logarithm_of_its_own_error(truth):
    weight = np.ones((2, 32, 32, 1), np.float32)

    def loss(*errors):
        return number(log_error(truth + np.reshape(errors, (2, 1, 1, 1)).astype(np.float32), truth, weight))

    both = loss(0.2, 0.05)
    assert loss(0.1, 0.05) == pytest.approx(loss(0.2, 0.025), abs=0.05)
    assert loss(0.1, 0.05) < both - 0.5


def test_only_masked_pixels_count_beyond_the_logarithm(truth):
    masked = np.zeros((2, 32, 32, 1), np.float32)
    masked[:, 10:20, 10:20] = 1
    image = truth.copy()
    image[:, 22:] += 0.1
    for measure in (gradient_error, spectral_error):
        assert number(measure(image, truth, masked)) == pytest.approx(0, abs=2e-5)
    image[:, 12:16, 12:16] *= np.float32([1.5, 1.0, 0.5])
    for measure in (gradient_error, spectral_error, structural_error):
        assert number(measure(image, truth, masked)) > 1e-4


def test_ssim_is_that_of_the_metrics_up_to_its_window(truth):
    from cloudgan.evaluation.metrics import ssim_map

    image = truth + np.random.default_rng(1).normal(0, 0.05, truth.shape).astype(np.float32)
    masked = np.ones((2, 32, 32, 1), np.float32)
    wanted = 1 - np.mean([ssim_map(a, b)[3:-3, 3:-3].mean() for a, b in zip(image, truth, strict=True)])
    assert number(structural_error(image, truth, masked)) == pytest.approx(wanted, abs=0.05)


def test_an_uncertainty_is_best_where_it_is_the_error_of_masked_pixels():
    truth = np.full((1, 8, 8, 3), 0.2, np.float32)
    image = truth + np.array([0.01, 0.02, 0.03], np.float32)  # 0.02 in the mean
    weight = np.zeros((1, 8, 8, 1), np.float32)
    weight[:, :4] = 1
    image[:, 4:] += 0.5  # observed, so of no account

    def surprise(size):
        uncertainty = np.full((1, 8, 8, 1), size, np.float32)
        return number(negative_log_likelihood(uncertainty, image, truth, weight))

    assert surprise(0.02) < min(surprise(0.017), surprise(0.023))


def test_a_discriminator_sees_generated_pixels_where_they_count(truth):
    loss = LogError(LogErrorLoss(kind="log_error"))
    weight = np.zeros((2, 32, 32, 1), np.float32)
    weight[:, :8], weight[:, 8:16] = 1, 0.05
    generated = np.concatenate([truth + np.float32(0.1), np.ones_like(truth[..., :1])], axis=-1)
    image = keras.ops.convert_to_numpy(loss.compose(generated, truth, weight))
    np.testing.assert_array_equal(image[:, :8], generated[:, :8, :, :3])
    np.testing.assert_array_equal(image[:, 8:], truth[:, 8:])

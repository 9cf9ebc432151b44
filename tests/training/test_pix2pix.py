from dataclasses import replace

import keras
import numpy as np
import pytest

from cloudgan.training.recipes import DOCUMENTED, PIX2PIX, RECIPES, Recipe
from cloudgan.training.train import build

TINY = Recipe(name="tiny", width=2, steps=10)


@pytest.fixture(scope="module")
def model():
    return build(replace(TINY, average=0.9))


@pytest.fixture
def images(rng):
    drawn = [rng.uniform(-1, 1, (1, 256, 256, 3)).astype(np.float32) for _ in range(3)]
    return [keras.ops.convert_to_tensor(image) for image in drawn]


def snapshot(network):
    return [np.array(weights) for weights in network.get_weights()]


def moved(network, before):
    return [not np.array_equal(a, b) for a, b in zip(network.get_weights(), before, strict=True)]


def test_the_discriminator_moves_on_its_own_steps_only(model, images):
    generator, discriminator = snapshot(model.generator), snapshot(model.discriminator)
    model.discriminator_step(*images)
    assert all(moved(model.discriminator, discriminator)), "a frozen discriminator trains nobody"
    assert not any(moved(model.generator, generator))


def test_the_generator_moves_on_its_own_steps_only(model, images):
    generator, discriminator = snapshot(model.generator), snapshot(model.discriminator)
    model.generator_step(images[0], images[1], np.ones((1, 256, 256, 1), np.float32))
    trainable = {id(v) for v in model.generator.trainable_variables}
    changed = moved(model.generator, generator)
    assert all(c for c, v in zip(changed, model.generator.weights, strict=True) if id(v) in trainable)
    assert not any(moved(model.discriminator, discriminator))


def test_pixels_without_truth_count_nothing(model, images):
    cloudy, clear, wrong = images
    weight = np.zeros((1, 256, 256, 1), np.float32)
    weight[:, :100] = 1
    mixed = keras.ops.where(weight > 0, clear, wrong)
    losses = [model.test_step((cloudy / 2 + 0.5, truth / 2 + 0.5, weight))["mae"] for truth in (clear, mixed)]
    assert float(losses[0]) == pytest.approx(float(losses[1]), rel=1e-5)


def test_a_whole_step_trains_both_and_drags_the_average_behind(model, images):
    before = snapshot(model.averaged)
    cloudy, clear, _ = (image / 2 + 0.5 for image in images)
    losses = model.train_step((cloudy, clear, np.ones((1, 256, 256, 1), np.float32)))
    assert set(losses) == {"discriminator", "adversarial", "mae"}
    assert all(np.isfinite(float(value)) for value in losses.values())
    for slow, fast, old in zip(
        model.averaged.get_weights(), model.generator.get_weights(), before, strict=True
    ):
        assert np.all((slow - old) * (fast - slow) >= -1e-7), (
            "the average lies between what it was and what is"
        )


def test_without_average_or_adversary(images):
    model = build(replace(TINY, adversarial_weight=0.0))
    assert model.averaged is model.generator
    before = snapshot(model.discriminator)
    cloudy, clear, _ = (image / 2 + 0.5 for image in images)
    model.train_step((cloudy, clear, np.ones((1, 256, 256, 1), np.float32)))
    assert not any(moved(model.discriminator, before))


def test_the_documented_numbers():
    model = build(replace(DOCUMENTED, width=1))
    assert float(model.generator_optimizer.learning_rate) == pytest.approx(2e-5)
    assert float(model.discriminator_optimizer.learning_rate) == pytest.approx(2e-4)
    assert model.generator_optimizer.beta_1 == model.discriminator_optimizer.beta_1 == 0.5
    assert (DOCUMENTED.mae_weight, DOCUMENTED.discriminator_weight, DOCUMENTED.batch) == (100, 0.5, 1)
    assert (DOCUMENTED.width, DOCUMENTED.normalisation, DOCUMENTED.upsampling) == (64, "batch", "transposed")
    assert PIX2PIX.generator_rate == PIX2PIX.discriminator_rate == 2e-4
    assert set(RECIPES) == {"documented", "pix2pix", "shipped"}

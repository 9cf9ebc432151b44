import importlib.util
import os
import subprocess
import sys

import keras
import numpy as np
import pytest

from cloudgan.training.models import networks
from cloudgan.training.models.gan import ConditionalGan
from cloudgan.training.models.losses import MeanAbsoluteError
from cloudgan.training.models.scaling import take_reflectance
from cloudgan.training.recipe import Discriminator, Scaling

# Keras's PyTorch backend lags behind NumPy 2; JAX warns of what Keras asks of it.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")


def build(channels=3, width=2, ema_decay=0.0, adversary=True):
    keras.utils.set_random_seed(0)
    scaling = Scaling()
    generator = take_reflectance(networks.generator(channels, 3, width), scaling)
    discriminator = take_reflectance(networks.discriminator(channels, 3, width), scaling)
    model = ConditionalGan(
        generator,
        MeanAbsoluteError(100.0, scaling),
        discriminator=(discriminator, Discriminator()) if adversary else None,
        ema_decay=ema_decay,
    )
    model.compile(jit_compile=False) if keras.backend.backend() == "tensorflow" else model.compile()
    return model


@pytest.fixture(scope="module")
def model():
    return build(ema_decay=0.9)


@pytest.fixture
def images(rng):
    drawn = [rng.uniform(0, 1, (1, 256, 256, 3)).astype(np.float32) for _ in range(3)]
    return [keras.ops.convert_to_tensor(image) for image in drawn]


def step(model, channels, truth):
    weight = np.ones((*truth.shape[:3], 1), np.float32)
    arrays = [keras.ops.convert_to_numpy(part) for part in (channels, truth)]
    return model.train_on_batch(*arrays, weight, return_dict=True)


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
    weight = keras.ops.ones((1, 256, 256, 1))
    model.generator_step(images[0], images[1], weight)
    trainable = {id(v) for v in model.generator.trainable_variables}
    changed = moved(model.generator, generator)
    assert all(c for c, v in zip(changed, model.generator.weights, strict=True) if id(v) in trainable)
    assert not any(moved(model.discriminator, discriminator))


def test_pixels_without_truth_count_nothing(model, images):
    cloudy, clear, wrong = images
    weight = np.zeros((1, 256, 256, 1), np.float32)
    weight[:, :100] = 1
    mixed = keras.ops.where(weight > 0, clear, wrong)
    arrays = [keras.ops.convert_to_numpy(part) for part in (clear, mixed)]
    cloudy = keras.ops.convert_to_numpy(cloudy)
    losses = [model.test_on_batch(cloudy, truth, weight, return_dict=True)["mae"] for truth in arrays]
    assert float(losses[0]) == pytest.approx(float(losses[1]), rel=1e-5)


def test_a_whole_step_trains_both_and_drags_the_average_behind(model, images):
    before = snapshot(model.averaged)
    cloudy, clear, _ = images
    losses = step(model, cloudy, clear)
    assert set(losses) == {"discriminator", "adversarial", "loss", "mae"}
    assert all(np.isfinite(float(value)) for value in losses.values())
    for slow, fast, old in zip(
        model.averaged.get_weights(), model.generator.get_weights(), before, strict=True
    ):
        assert np.all((slow - old) * (fast - slow) >= -1e-7), (
            "the average lies between what it was and what is"
        )


def test_without_average_or_adversary(images):
    model = build(adversary=False)
    assert model.averaged is model.generator
    cloudy, clear, _ = images
    losses = step(model, cloudy, clear)
    assert set(losses) == {"loss", "mae"}
    assert float(losses["loss"]) == pytest.approx(100 * float(losses["mae"]), rel=1e-5)


def test_a_discriminator_that_has_not_joined_does_not_move(images):
    model = build()
    model.prepare(adversarial=False)
    before = snapshot(model.discriminator)
    cloudy, clear, _ = images
    assert float(step(model, cloudy, clear)["adversarial"]) == 0
    assert not any(moved(model.discriminator, before))
    model.prepare(adversarial=True)
    assert float(step(model, cloudy, clear)["adversarial"]) > 0
    assert all(moved(model.discriminator, before))


def test_a_new_stage_starts_at_the_average_with_a_fresh_optimiser(images):
    model = build(ema_decay=0.9)
    cloudy, clear, _ = images
    step(model, cloudy, clear)
    model.restart()
    for fast, slow in zip(model.generator.get_weights(), model.averaged.get_weights(), strict=True):
        np.testing.assert_array_equal(fast, slow)
    rate, *state = model.generator_optimizer.variables[1], *model.generator_optimizer.variables[2:]
    assert float(rate) == pytest.approx(2e-5)
    assert int(model.generator_optimizer.iterations) == int(model.steps) == 0
    assert not any(np.any(keras.ops.convert_to_numpy(variable)) for variable in state)


def test_any_number_of_input_channels_trains(rng):
    model = build(channels=12, width=1)
    channels = rng.uniform(0, 1, (2, 256, 256, 12)).astype(np.float32)
    losses = step(model, channels, channels[..., :3])
    assert np.isfinite(float(losses["mae"]))


def test_the_documented_numbers():
    model = build(width=1)
    assert float(model.generator_optimizer.learning_rate) == pytest.approx(2e-5)
    assert float(model.discriminator_optimizer.learning_rate) == pytest.approx(2e-4)
    assert model.generator_optimizer.beta_1 == model.discriminator_optimizer.beta_1 == 0.5
    assert model.generator_optimizer.global_clipnorm is None
    weights = model.pixel_loss.weight, model.adversary.weight, model.adversary.adversarial_weight
    assert weights == (100, 0.5, 1)


class Repeated(keras.utils.PyDataset):
    """The same batch, a few times."""

    def __init__(self, *batch):
        super().__init__()
        self.batch = batch

    def __len__(self):
        return 2

    def __getitem__(self, _):
        return self.batch


def test_callbacks_of_keras_work(rng, tmp_path):
    image = rng.uniform(0, 1, (1, 256, 256, 3)).astype(np.float32)
    model = build(width=1)
    callbacks = [
        keras.callbacks.TensorBoard(tmp_path / "board", write_graph=False),
        keras.callbacks.ModelCheckpoint(tmp_path / "last.weights.h5", save_weights_only=True),
        keras.callbacks.CSVLogger(tmp_path / "log.csv"),
    ]
    batches = Repeated(image, image[:, ::-1].copy(), np.ones_like(image[..., :1]))
    model.fit(batches, verbose=0, shuffle=False, callbacks=callbacks)
    assert (tmp_path / "log.csv").read_text().startswith("epoch,adversarial,discriminator,loss,mae")
    assert list((tmp_path / "board").rglob("events.*"))
    again = build(width=1)
    again.load_weights(tmp_path / "last.weights.h5")
    np.testing.assert_array_equal(again.predict(image, verbose=0), model.predict(image, verbose=0))


TWO_REPLICAS = """
import keras, numpy as np, tensorflow as tf
from cloudgan.training.models import networks
from cloudgan.training.models.gan import ConditionalGan
from cloudgan.training.models.losses import MeanAbsoluteError
from cloudgan.training.models.scaling import take_reflectance
from cloudgan.training.recipe import Discriminator, Scaling

half = tf.config.LogicalDeviceConfiguration()
tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], [half, half])
with tf.distribute.MirroredStrategy(["/cpu:0", "/cpu:1"]).scope():
    generator, discriminator = (
        take_reflectance(network(width=1), Scaling())
        for network in (networks.generator, networks.discriminator)
    )
    pair = discriminator, Discriminator()
    model = ConditionalGan(generator, MeanAbsoluteError(), discriminator=pair, ema_decay=0.9)
    model.compile(jit_compile=False)
images = np.random.default_rng(0).uniform(0, 1, (4, 256, 256, 3)).astype(np.float32)
batches = tf.data.Dataset.from_tensor_slices((images, images[::-1].copy(), np.ones_like(images[..., :1])))
losses = model.fit(batches.batch(4), verbose=0, shuffle=False).history
assert all(np.isfinite(value[-1]) for value in losses.values()), losses
for weight in (*model.generator.weights, *model.discriminator.weights, *model.averaged.weights):
    first, second = (np.asarray(part) for part in weight.value.values)
    if "moving" not in weight.path:  # batch statistics are each replica's own until they are read
        np.testing.assert_array_equal(first, second, weight.path)
"""


def test_two_replicas_train_one_model():
    """A batch cut in two on two devices (of one CPU) leaves the same weights on both."""
    if keras.backend.backend() != "tensorflow":
        pytest.skip("tf.distribute is TensorFlow's")
    words = [sys.executable, "-c", TWO_REPLICAS]
    done = subprocess.run(words, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.parametrize("backend", [name for name in ("jax", "torch") if importlib.util.find_spec(name)])
def test_steps_are_the_same_on_other_backends(backend):
    words = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__]
    words += ["-k", "steps_only or whole_step"]
    environment = {**os.environ, "KERAS_BACKEND": backend}
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stdout[-3000:]
    assert "3 passed" in done.stdout

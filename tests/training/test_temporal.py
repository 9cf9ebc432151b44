"""The temporal generator: training and serving see the same planes, and it starts at the aligned looks."""

from __future__ import annotations

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from cloudgan.errors import InputError
from cloudgan.geo.grid import Window
from cloudgan.geo.tiling import Tiling
from cloudgan.model.contract import Contract
from cloudgan.model.generator import Generator
from cloudgan.observations import Observations
from cloudgan.removal.core import declouded
from cloudgan.sentinel2.classification import PixelClass
from cloudgan.training import temporal_run
from cloudgan.training.data import series as training_series
from cloudgan.training.data.series import DEPTH, PLANES, Series, channels
from cloudgan.training.models import temporal
from cloudgan.training.temporal_samples import CloudField, Sampler, covered

SIZE = 64
AFTER = 4 + 4 * DEPTH  # where the planes of the looks after begin
pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning"
)


def some_series(rng, *, size=SIZE, times=5, buffer=2, region="here"):
    """Farmland by the hour: five dates, clouds on each but the third."""
    ground = np.kron(rng.uniform(0.03, 0.4, (8, 8, 3)), np.ones((size // 8, size // 8, 1)))
    images = (ground[None] * rng.uniform(0.8, 1.2, (times, 1, 1, 3))).astype(np.float32)
    images = np.round(images, 4)
    pixel_classes = np.full((times, size, size), PixelClass.CLEAR, np.uint8)
    for at in range(times):
        if at != 2:
            row, col = rng.integers(0, size - 20, 2)
            pixel_classes[at, row : row + 16, col : col + 20] = PixelClass.CLOUDY
    pixel_classes[1, :5], images[1, :5] = PixelClass.NO_DATA, 0
    pixel_classes[3, 30:34, 10:14] = PixelClass.INCOMPLETE
    days = np.array([0, 3, 10, 12, 30])[:times]
    return Series.of("made", region, buffer, days, images, pixel_classes, np.arange(times) == 2)


@dataclasses.dataclass(frozen=True)
class Recorder:
    """A generator that keeps what it is asked."""

    contract: Contract
    seen: list
    batch: int = 1

    def __call__(self, tiles):
        self.seen.append(tiles)
        return tiles[:, :3]


@pytest.mark.parametrize("at", range(5))
def test_training_planes_equal_those_of_serving(rng, at):
    series = some_series(rng)
    recorder = Recorder(Contract("x", "1", PLANES, ("green", "red", "nir"), SIZE), [])
    numbers = np.rint(series.images * 10_000).astype(np.uint16)
    window = Window(0, 0, SIZE, SIZE)
    scenes = Observations(window, tuple(np.moveaxis(numbers, -1, 0)), series.pixel_classes, series.days)
    list(declouded(scenes, window, recorder, buffer=series.buffer, tiling=Tiling(SIZE, SIZE), dates=[at]))
    ours = channels(
        numbers[at].astype(np.float32) * np.float32(0.0001),
        series.masked[at],
        numbers.astype(np.float32) * np.float32(0.0001),
        series.clear,
        series.days,
        at,
    )
    if recorder.seen:
        np.testing.assert_array_equal(recorder.seen[0][0], np.moveaxis(ours, -1, 0))
    assert bool(recorder.seen) == bool(series.masked[at].any())


def test_transplanted_clouds_bring_a_hazy_edge_that_is_called_clear(rng):
    series = some_series(rng)
    cloud_field = CloudField("there", np.full((SIZE, SIZE, 3), 0.7, np.float32), series.pixel_classes[0])
    image, pixel_classes = covered(series.images[2], series.pixel_classes[2], cloud_field)
    brought = np.all(image == np.float32(0.7), axis=-1)
    assert (brought & (pixel_classes == PixelClass.CLEAR)).sum() > 50
    assert brought[pixel_classes == PixelClass.CLOUDY].all()
    np.testing.assert_array_equal(image[~brought], series.images[2][~brought])


@pytest.fixture(scope="module")
def untrained():
    keras.utils.set_random_seed(1)
    return temporal.generator(4, 3)


def inputs(rng, size=128):
    """Planes of clear ground whose looks are a constant away from the target, hidden in the middle."""
    target = rng.uniform(0.05, 0.3, (size, size, 3))
    x = np.zeros((1, size, size, len(PLANES)), np.float32)
    x[0, :, :, :3], x[0, :, :, 4:7], x[0, :, :, AFTER : AFTER + 3] = target, target + 0.02, target - 0.01
    x[0, :, :, 7], x[0, :, :, AFTER + 3] = 5, 10
    x[0, 40:80, 40:80, 3] = 1
    x[0, 40:80, 40:80, :3] = 0.9
    return x, target


def test_it_starts_at_the_aligned_looks(rng, untrained):
    x, target = inputs(rng)
    masked = x[0, :, :, 3] == 1
    error = np.abs(np.asarray(untrained(x))[0, ..., :3] - target)[masked]
    assert error.mean() < 0.006  # the looks themselves are 0.01 and 0.02 away


def test_a_date_a_little_brighter_than_its_looks_is_imitated_and_one_far_brighter_is_not(rng, untrained):
    def followed(brighter):
        """How much of it the hidden middle takes over, its looks being alike."""
        x, target = inputs(rng)
        x[0, :, :, 4:7] = x[0, :, :, AFTER : AFTER + 3] = target
        x[0, :, :, :3] += brighter * (x[0, :, :, 3:4] == 0)
        made = np.asarray(untrained(x))[0, 50:70, 50:70, :3]
        return float((made - target[50:70, 50:70]).mean() / brighter)

    assert followed(0.01) > 0.6
    assert followed(0.2) < 0.1


def test_every_sample_counts_by_its_own_measure(rng):
    truth = rng.uniform(0.1, 0.3, (2, 32, 32, 3)).astype(np.float32)
    weight = np.ones((2, 32, 32, 1), np.float32)
    recipe = temporal_run.Recipe(gradient=0, structure=0, angle=0)

    def loss(*errors):
        made = truth + np.reshape(errors, (2, 1, 1, 1)).astype(np.float32)
        return float(temporal_run.losses(recipe, made, truth, weight)[0])

    both = loss(0.2, 0.05)
    assert loss(0.1, 0.05) == pytest.approx(loss(0.2, 0.025), abs=0.001)
    assert loss(0.1, 0.05) < both - 0.01


def test_clouds_under_the_mask_do_not_move_the_alignment(rng, untrained):
    x, _ = inputs(rng)
    first = np.asarray(untrained(x))
    x[0, 40:80, 40:80, :3] = 0.2
    np.testing.assert_allclose(first[..., :3], np.asarray(untrained(x))[..., :3], atol=1e-5)


@pytest.mark.parametrize("gone", [slice(4, 8), slice(AFTER, AFTER + 4), slice(4, None)])
def test_missing_looks_leave_finite_plausible_values(rng, untrained, gone):
    x, _ = inputs(rng)
    x[..., gone] = 0
    made = np.asarray(untrained(x))
    assert np.isfinite(made).all()
    assert (made > 0).all()
    assert made[0, 60, 60].max() < 0.6


def test_nothing_at_all_is_survived(untrained):
    x = np.zeros((1, 64, 64, len(PLANES)), np.float32)
    x[..., 3] = 1
    assert np.isfinite(np.asarray(untrained(x))).all()


def test_a_tile_does_not_depend_on_its_batch(rng, untrained):
    x, _ = inputs(rng, 64)
    other = np.concatenate([x, x[:, ::-1]])
    np.testing.assert_allclose(np.asarray(untrained(x))[0], np.asarray(untrained(other))[0], atol=1e-6)


def test_samples_hide_what_is_known(rng):
    sampler = Sampler([some_series(rng)])
    sample = sampler.draw(rng, 64)
    assert sample.channels.shape == (64, 64, len(PLANES))
    assert np.isfinite(sample.channels).all()
    masked = sample.weight[..., 0] == 1
    assert masked.any()
    assert (sample.channels[masked][:, 3] == 1).all()
    assert (sample.truth[masked] > 0).all()


def test_a_run_exports_a_model_that_serving_loads(tmp_path, rng):
    every = [some_series(rng), some_series(rng, region="there")]
    recipe = temporal_run.Recipe(width=4, classes=2)
    path = temporal_run.train(tmp_path, tmp_path / "run", 0.001, recipe, held_out=["there"], every=every)
    generator = Generator.load(path)
    assert generator.contract.input_channels == PLANES
    assert generator.contract.name == "temporal"
    assert generator.contract.predicts_uncertainty
    x, _ = inputs(rng, 256)
    assert generator(np.ascontiguousarray(np.moveaxis(x, -1, 1))).shape == (1, 4, 256, 256)
    with pytest.raises(InputError, match="already"):
        temporal_run.train(tmp_path, tmp_path / "run", 0.001, recipe, held_out=["there"], every=every)


def test_a_step_lowers_the_error_on_what_it_sees(rng):
    tf.random.set_seed(0)
    trainer = temporal_run.Trainer(temporal_run.Recipe(width=4, classes=2, rate=1e-3))
    x, target = inputs(rng, 64)
    truth = target[None].astype(np.float32) + np.float32(0.05)  # nothing that alignment alone can know
    weight = np.where(x[..., 3:4] == 1, 1, 0.05).astype(np.float32)
    first = float(trainer.step(x, truth, weight)[0])
    later = [float(trainer.step(x, truth, weight)[0]) for _ in range(40)]
    assert min(later) < 0.9 * first


def test_what_is_foretold_is_best_where_it_is_the_error_of_hidden_pixels():
    truth = np.full((1, 8, 8, 3), 0.2, np.float32)
    made = truth + np.array([0.01, 0.02, 0.03], np.float32)  # 0.02 in the mean
    weight = np.zeros((1, 8, 8, 1), np.float32)
    weight[:, :4] = 1
    made[:, 4:] += 0.5  # seen, and of no concern

    def surprise(size):
        return float(temporal_run.unforeseen(np.full((1, 8, 8, 1), size, np.float32), made, truth, weight))

    assert surprise(0.02) < min(surprise(0.017), surprise(0.023))


def test_what_is_foretold_teaches_the_bands_nothing(rng, untrained):
    x, target = inputs(rng, 64)
    with tf.GradientTape() as tape:
        made, foretold = tf.split(untrained(x), [3, 1], axis=-1)
        loss = temporal_run.unforeseen(foretold, made, target[None].astype(np.float32), x[..., 3:4])
    learning = {
        variable.path.split("/")[0]
        for variable, gradient in zip(
            untrained.trainable_variables, tape.gradient(loss, untrained.trainable_variables), strict=True
        )
        if gradient is not None and np.abs(gradient).max() > 0
    }
    assert learning == {"doubt_features", "doubt_size"}


def test_doubt_may_be_learned_alone(rng):
    keras.utils.set_random_seed(1)
    trainer = temporal_run.Trainer(temporal_run.Recipe(width=4, classes=2, doubt_alone=True))
    x, target = inputs(rng, 64)
    before = [weight.numpy() for weight in trainer.model.weights]
    trainer.step(x, target[None].astype(np.float32), x[..., 3:4])
    moved = {
        weight.path.split("/")[0]
        for weight, old in zip(trainer.model.weights, before, strict=True)
        if not np.array_equal(weight, old)
    }
    assert moved == {"doubt_features", "doubt_size"}


def test_regions_are_held_out_whole(rng):
    every = [some_series(rng), some_series(rng, region="there")]
    training, held = training_series.split(every, ["there"])
    assert {s.region for s in training} == {"here"}
    assert {s.region for s in held} == {"there"}
    with pytest.raises(InputError, match="no such regions"):
        training_series.split(every, ["nowhere"])

"""The temporal generator: it starts at the aligned clear dates, and survives whatever is missing."""

import keras
import numpy as np
import pytest
from keras import ops
from sites import BANDS

from cloudgan.training.models import temporal
from cloudgan.training.models.gan import ConditionalGan
from cloudgan.training.models.losses import LogError, negative_log_likelihood
from cloudgan.training.recipe import LogErrorLoss, Optimizer

CHANNELS = temporal.input_channels(BANDS, 4)
AFTER = 20  # where the channels of the dates after begin
pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning"
)


def test_its_input_channels_are_those_of_its_contract():
    names = list(map(str, CHANNELS))
    assert names[:9] == [
        *("target:green", "target:red", "target:nir", "mask"),
        *("before-1:green", "before-1:red", "before-1:nir", "before-1:days", "before-2:green"),
    ]
    assert names[AFTER] == "after-1:green"
    assert len(names) == temporal.generator(4, 2).input_shape[-1] == 36
    assert len(temporal.input_channels(BANDS, 2)) == temporal.generator(4, 2, 2).input_shape[-1] == 20


def test_any_number_of_dates_each_side(rng):
    x = rng.uniform(0.05, 0.3, (1, 32, 32, 20)).astype(np.float32)
    assert temporal.generator(4, 2, 2)(x).shape == (1, 32, 32, 4)


@pytest.fixture(scope="module")
def untrained():
    keras.utils.set_random_seed(1)
    return temporal.generator(4, 3)


def inputs(rng, size=128):
    """Channels of clear surface, whose dates are a constant away from the target, masked in the middle."""
    target = rng.uniform(0.05, 0.3, (size, size, 3))
    x = np.zeros((1, size, size, len(CHANNELS)), np.float32)
    x[0, :, :, :3], x[0, :, :, 4:7], x[0, :, :, AFTER : AFTER + 3] = target, target + 0.02, target - 0.01
    x[0, :, :, 7], x[0, :, :, AFTER + 3] = 5, 10
    x[0, 40:80, 40:80, 3] = 1
    x[0, 40:80, 40:80, :3] = 0.9
    return x, target


def test_it_starts_at_the_aligned_dates(rng, untrained):
    x, target = inputs(rng)
    masked = x[0, :, :, 3] == 1
    error = np.abs(np.asarray(untrained(x))[0, ..., :3] - target)[masked]
    assert error.mean() < 0.006  # the dates themselves are 0.01 and 0.02 away


def test_a_date_a_little_brighter_than_others_is_followed_and_one_far_brighter_is_not(rng, untrained):
    def followed(brighter):
        """How much of it the masked middle takes over, the other dates being the same."""
        x, target = inputs(rng)
        x[0, :, :, 4:7] = x[0, :, :, AFTER : AFTER + 3] = target
        x[0, :, :, :3] += brighter * (x[0, :, :, 3:4] == 0)
        made = np.asarray(untrained(x))[0, 50:70, 50:70, :3]
        return float((made - target[50:70, 50:70]).mean() / brighter)

    assert followed(0.01) > 0.6
    assert followed(0.2) < 0.1


def test_clouds_under_the_mask_do_not_move_the_alignment(rng, untrained):
    x, _ = inputs(rng)
    first = np.asarray(untrained(x))
    x[0, 40:80, 40:80, :3] = 0.2
    np.testing.assert_allclose(first[..., :3], np.asarray(untrained(x))[..., :3], atol=1e-5)


@pytest.mark.parametrize("gone", [slice(4, 8), slice(AFTER, AFTER + 4), slice(4, None)])
def test_missing_dates_leave_finite_plausible_values(rng, untrained, gone):
    x, _ = inputs(rng)
    x[..., gone] = 0
    made = np.asarray(untrained(x))
    assert np.isfinite(made).all()
    assert (made > 0).all()
    assert made[0, 60, 60].max() < 0.6


def test_nothing_at_all_is_survived(untrained):
    x = np.zeros((1, 64, 64, len(CHANNELS)), np.float32)
    x[..., 3] = 1
    assert np.isfinite(np.asarray(untrained(x))).all()


def test_a_tile_does_not_depend_on_its_batch(rng, untrained):
    x, _ = inputs(rng, 64)
    other = np.concatenate([x, x[:, ::-1]])
    np.testing.assert_allclose(np.asarray(untrained(x))[0], np.asarray(untrained(other))[0], atol=1e-6)


def build(trainable=None):
    keras.utils.set_random_seed(1)
    model = ConditionalGan(
        temporal.generator(4, 2),
        LogError(LogErrorLoss(kind="log_error")),
        Optimizer(beta_1=0.9, clip_norm=1.0),
        ema_decay=0.9,
    )
    model.compile(jit_compile=False) if keras.backend.backend() == "tensorflow" else model.compile()
    model.prepare(adversarial=False, layers=trainable)
    model.generator_optimizer.learning_rate = 1e-3
    return model


def batch(rng):
    x, target = inputs(rng, 64)
    truth = target[None].astype(np.float32) + np.float32(0.05)  # nothing that alignment alone can know
    return x, truth, np.where(x[..., 3:4] == 1, 1, 0.05).astype(np.float32)


def test_a_step_lowers_the_error_on_what_it_sees(rng):
    model, given = build(), batch(rng)
    losses = [float(model.train_on_batch(*given, return_dict=True)["loss"]) for _ in range(40)]
    assert np.isfinite(losses).all()
    assert np.mean(losses[-5:]) < losses[0] - 0.02


def test_uncertainty_may_be_trained_alone(rng):
    model = build(temporal.UNCERTAINTY_LAYERS)
    before = [np.array(weight) for weight in model.generator.get_weights()]
    model.train_on_batch(*batch(rng), return_dict=True)
    moved = {
        weight.path.split("/")[0]
        for weight, old in zip(model.generator.weights, before, strict=True)
        if not np.array_equal(ops.convert_to_numpy(weight), old)
    }
    assert moved == {"uncertainty_features", "uncertainty_size"}


def test_uncertainty_teaches_the_bands_nothing(rng, untrained):
    tf = pytest.importorskip("tensorflow")
    if keras.backend.backend() != "tensorflow":
        pytest.skip("gradients are taken by TensorFlow's tape here")
    x, target = inputs(rng, 64)
    with tf.GradientTape() as tape:
        made = untrained(x)
        truth = target[None].astype(np.float32)
        loss = negative_log_likelihood(made[..., 3:], made[..., :3], truth, x[..., 3:4])
    gradients = tape.gradient(loss, untrained.trainable_variables)
    learning = {
        variable.path.split("/")[0]
        for variable, gradient in zip(untrained.trainable_variables, gradients, strict=True)
        if gradient is not None and np.abs(gradient).max() > 0
    }
    assert learning == {"uncertainty_features", "uncertainty_size"}


def test_mixed_precision_keeps_alignment_and_outputs_in_full(rng):
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        mixed = temporal.generator(4, 2)
    finally:
        keras.config.set_dtype_policy("float32")
    assert mixed.output.dtype == "float32"
    assert {variable.dtype for variable in mixed.trainable_variables} == {"float32"}
    compute = {layer.name: layer.compute_dtype for layer in mixed.layers}
    assert compute["alignment"] == compute["robust_mean"] == compute["combine_dates"] == "float32"
    assert "bfloat16" in compute.values()
    full = temporal.generator(4, 2)
    full.set_weights(mixed.get_weights())
    x, _ = inputs(rng, 64)
    ours, wanted = (ops.convert_to_numpy(model(x)) for model in (mixed, full))
    np.testing.assert_allclose(ours[..., :3], wanted[..., :3], atol=1e-3)


def test_it_is_built_again_from_its_configuration(rng):
    model = temporal.generator(4, 2)
    again = keras.models.clone_model(model)
    again.set_weights(model.get_weights())
    x, _ = inputs(rng, 64)
    np.testing.assert_array_equal(ops.convert_to_numpy(again(x)), ops.convert_to_numpy(model(x)))

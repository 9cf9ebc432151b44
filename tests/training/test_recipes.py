from pathlib import Path

import pytest

from cloudgan.errors import InputError
from cloudgan.training.recipe import (
    Discriminator,
    LogErrorLoss,
    MaeLoss,
    Optimizer,
    Stack,
    Stage,
    TrainConfig,
    UNet,
)

PIPELINES = Path(__file__).parents[2] / "pipelines"

SMALL = """
name = "small"
held_out = ["there"]
[samples]
[[data]]
kind = "clear"
path = "here"
region = "here"
"""


def written(folder, text):
    path = folder / "recipe.toml"
    path.write_text(text)
    return path


@pytest.mark.parametrize("path", sorted(PIPELINES.glob("train-*.toml")), ids=lambda path: path.stem)
def test_what_is_written_is_read_back(path, tmp_path):
    recipe = TrainConfig.load(path)
    assert TrainConfig.load(written(tmp_path, recipe.as_toml())) == recipe


def test_the_documented_recipe_is_what_the_study_documents():
    plain, skewed = (TrainConfig.load(PIPELINES / f"train-documented{end}.toml") for end in ("", "-skew"))
    assert (plain.batch, plain.steps, plain.eval_every, plain.generator.width) == (1, 1700, 100, 64)
    assert plain.generator == UNet(size=512)
    assert plain.discriminator == Discriminator(
        learning_rate=2e-4, beta_1=0.5, weight=0.5, adversarial_weight=1.0
    )
    assert plain.loss == MaeLoss(weight=100.0)
    assert plain.optimizer == Optimizer(beta_1=0.5, clip_norm=None)
    assert plain.stages == (Stage(steps=1700, learning_rate=2e-5, schedule="constant"),)
    assert (plain.ema_decay, plain.keep) == (0, "best")
    assert plain.stack == Stack(skewed=False)
    assert skewed == plain.replace(name="documented-skew", stack=Stack(skewed=True))


def test_the_documented_recipe_is_the_default():
    recipe = TrainConfig.load(PIPELINES / "train-documented.toml")
    kept = {"name", "data", "held_out", "study", "stack", "discriminator", "generator"}
    assert TrainConfig(**{name: getattr(recipe, name) for name in kept}) == recipe
    assert Discriminator() == recipe.discriminator
    assert UNet(size=512) == recipe.generator


def test_the_default_generator_is_made_in_two_stages():
    recipe = TrainConfig.load(PIPELINES / "train-temporal.toml")
    first, second = recipe.stages
    assert (first.trainable, second.trainable) == ("all", "uncertainty")
    assert recipe.stage_at(0) == (0, first, 0)
    assert recipe.stage_at(first.steps) == (1, second, 0)
    assert recipe.steps == first.steps + second.steps
    with pytest.raises(IndexError):
        recipe.stage_at(recipe.steps)


def test_a_temporal_recipe_has_defaults_of_its_own(tmp_path):
    text = SMALL.replace("[samples]", '[generator]\nkind = "temporal"')
    recipe = TrainConfig.load(written(tmp_path, text))
    assert recipe.loss == LogErrorLoss(kind="log_error")
    assert recipe.optimizer == Optimizer(beta_1=0.9, clip_norm=1.0)
    assert recipe.series is not None


def test_learning_rates_rise_and_fall():
    constant = Stage(steps=10)
    assert {constant.rate_factor(step) for step in range(10)} == {1.0}
    cosine = Stage(steps=100, schedule="cosine", final_fraction=0.01, warmup_steps=4)
    assert [cosine.rate_factor(step) for step in (0, 3)] == pytest.approx([0.25, 1.0], abs=0.01)
    falling = [cosine.rate_factor(step) for step in range(4, 100)]
    assert falling == sorted(falling, reverse=True)
    assert cosine.rate_factor(50) == pytest.approx(0.505)
    assert cosine.rate_factor(100) == pytest.approx(0.01)


def test_a_cosine_is_that_of_keras():
    keras = pytest.importorskip("keras")
    schedule = keras.optimizers.schedules.CosineDecay(1e-3, 600, alpha=0.02)
    stage = Stage(steps=600, learning_rate=1e-3, schedule="cosine")
    for step in (0, 17, 300, 599):
        assert float(schedule(step)) == pytest.approx(1e-3 * stage.rate_factor(step), rel=1e-5)


def test_paths_count_from_the_data_folder_then_from_the_recipe(tmp_path):
    path = written(tmp_path, SMALL)
    assert TrainConfig.load(path).data[0].path == "here"
    (tmp_path / "here").mkdir()
    assert TrainConfig.load(path).data[0].path == str(tmp_path / "here")
    (tmp_path / "data" / "here").mkdir(parents=True)
    assert TrainConfig.load(path, data=tmp_path / "data").data[0].path == str(tmp_path / "data" / "here")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("[samples]", "[samples]\n[stack]"), "one of the tables"),
        (("[samples]\n", ""), "one of the tables"),
        (('name = "small"\n', ""), "name must be given"),
        (('name = "small"', "name = 3"), "name 3 is no text"),
        (("[samples]", "step = 5\n[samples]"), "no key step"),
        (("[samples]", "[[stages]]\nsteps = 0\n[samples]"), r"stages\[0\].steps 0 is not above 0"),
        (("[samples]", "[[stages]]\nsteps = true\n[samples]"), r"stages\[0\].steps True is no whole number"),
        (("[samples]", "stages = []\n[samples]"), "stages"),
        (("[samples]", "[samples]\nreal = 2.0"), "samples.real 2 is not between 0 and 1"),
        (("[samples]", "[samples]\n[generator]\nsize = 300"), "generator.size 300 .*multiple of 256"),
        (
            ("[samples]", '[samples]\n[generator]\nkind = "unet"\nnormalisation = "layer"'),
            "generator.normalisation layer is unknown; give batch, instance or none",
        ),
        (
            ("[samples]", '[samples]\n[generator]\nkind = "film"'),
            "generator .*film.* is unknown; give unet, temporal",
        ),
        (("[samples]", "ema_decay = 2.0\n[samples]"), "ema_decay 2 is not between 0 and 1"),
        (("[samples]", '[samples]\n[generator]\nkind = "temporal"'), "one of the tables"),
        (("[samples]", '[series]\n[generator]\nkind = "unet"'), r"trains on \[series\]"),
        (("[samples]", '[samples]\n[loss]\nkind = "log_error"'), '"log_error", and the unet by "mae"'),
        (("[samples]", '[samples]\n[[stages]]\ntrainable = "uncertainty"'), "only the temporal generator"),
        (("[samples]", 'bands = ["red"]\n[generator]\nkind = "temporal"'), "works on the bands"),
        (("[[data]]", "[data]"), "double brackets"),
        (('kind = "clear"', 'kind = "film"'), "film"),
        (('kind = "clear"', "kind = ["), "no TOML"),
    ],
)
def test_wrong_recipes_are_refused_in_one_sentence(change, said, tmp_path):
    assert change[0] in SMALL
    path = written(tmp_path, SMALL.replace(*change))
    with pytest.raises(InputError, match=said) as refused:
        TrainConfig.load(path)
    assert str(path) in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_missing_recipe_is_named(tmp_path):
    with pytest.raises(InputError, match=r"nowhere\.toml cannot be read"):
        TrainConfig.load(tmp_path / "nowhere.toml")

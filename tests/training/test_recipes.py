from dataclasses import replace
from pathlib import Path

import pytest

from cloudgan.errors import InputError
from cloudgan.training.recipe import Networks, Objective, Recipe, Stack

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
    recipe = Recipe.load(path)
    assert Recipe.load(written(tmp_path, recipe.as_toml())) == recipe


def test_the_documented_recipe_is_what_the_study_documents():
    plain, skewed = (Recipe.load(PIPELINES / f"train-documented{end}.toml") for end in ("", "-skew"))
    assert (plain.batch, plain.steps, plain.rows_every, plain.networks.width) == (1, 1700, 100, 64)
    assert plain.objective == Objective(2e-5, 2e-4, 0.5, 0.5, 100.0, 1.0)
    assert plain.networks == Networks(size=512)
    assert plain.stack == Stack(skewed=False)
    assert skewed == replace(plain, name="documented-skew", stack=Stack(skewed=True))


def test_paths_count_from_the_data_folder_then_from_the_recipe(tmp_path):
    path = written(tmp_path, SMALL)
    assert Recipe.load(path).data[0].path == "here"
    (tmp_path / "here").mkdir()
    assert Recipe.load(path).data[0].path == str(tmp_path / "here")
    (tmp_path / "data" / "here").mkdir(parents=True)
    assert Recipe.load(path, tmp_path / "data").data[0].path == str(tmp_path / "data" / "here")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("[samples]", "[samples]\n[stack]"), "one of the tables"),
        (("[samples]\n", ""), "one of the tables"),
        (('name = "small"\n', ""), "the key name is missing"),
        (('name = "small"', "name = 3"), "name must be str, got 3"),
        (("[samples]", "step = 5\n[samples]"), "no key step"),
        (("[samples]", "steps = 0\n[samples]"), "steps is above 0"),
        (("[samples]", "steps = true\n[samples]"), "steps must be int"),
        (("[samples]", "[samples]\nreal = 2.0"), r"real lies in \[0, 1\]"),
        (("[samples]", "[samples]\n[networks]\nsize = 300"), "size is a multiple of 256"),
        (
            ("[samples]", '[samples]\n[networks]\nnormalisation = "layer"'),
            "networks.normalisation must be one of",
        ),
        (("[samples]", "[samples]\n[objective]\naverage = 2.0"), "average lies in"),
        (("[[data]]", "[data]"), "double brackets"),
        (('kind = "clear"', 'kind = "film"'), "film"),
        (('kind = "clear"', "kind = ["), "not TOML"),
    ],
)
def test_wrong_recipes_are_refused_in_one_sentence(change, said, tmp_path):
    assert change[0] in SMALL
    path = written(tmp_path, SMALL.replace(*change))
    with pytest.raises(InputError, match=said) as refused:
        Recipe.load(path)
    assert str(path) in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_missing_recipe_is_named(tmp_path):
    with pytest.raises(InputError, match=r"nowhere\.toml cannot be read"):
        Recipe.load(tmp_path / "nowhere.toml")

import csv
import json
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
import rasterio

from cloudgan.errors import InputError
from cloudgan.model.generator import Generator
from cloudgan.training import cli, scores, study, validation
from cloudgan.training import trainer as training
from cloudgan.training.augmentation import plain_stack, skewed_stack
from cloudgan.training.data.samples_folder import Imagery, Pair, Scene
from cloudgan.training.data.sources import Source
from cloudgan.training.recipe import Networks, Objective, Recipe, Samples, Stack
from cloudgan.training.samples import Batches, Sampler, drawn, glinting, stack_sample, validation_tiles
from cloudgan.training.trainer import train

PIPELINES = Path(__file__).parents[2] / "pipelines"

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning"
)

SMALL = Recipe(
    name="small",
    data=(Source(kind="clear", path="nowhere", region="a"),),
    held_out=("b",),
    samples=Samples(observed_weight=0.25),
    networks=Networks(width=2, judge_normalisation="instance"),
    objective=Objective(generator_rate=1e-3, adversarial_after=0.5, average=0.9),
    batch=2,
    steps=4,
    rows_every=2,
)
DOCUMENTED = replace(SMALL, samples=None, stack=Stack(), objective=Objective(), batch=1, study=True)


@pytest.fixture(scope="module")
def imagery(fields):
    valid = np.ones(fields.shape[:2], bool)
    valid[:5] = False
    cloud, shadow = np.zeros_like(valid), np.zeros_like(valid)
    cloud[50:120, 60:160], shadow[130:160, 60:160] = True, True
    cloudy = np.where(cloud[..., None], np.float32(0.7), fields)
    ground = tuple(Scene(region, region, fields, valid) for region in "ab")
    pairs = tuple(Pair(f"{r} pair", r, cloudy, fields, cloud, valid) for r in "ab")
    cloud_fields = tuple(Scene(f"{r} sky", r, cloudy, valid & ~cloud, cloud, shadow) for r in "ab")
    return Imagery(ground, pairs, cloud_fields)


@pytest.fixture
def no_export(monkeypatch):
    """Export is tested apart, and takes longer than a small training."""
    monkeypatch.setattr(training, "export_onnx", lambda model, path, terms, tiles: path.write_bytes(b"onnx"))


def rows_of(folder):
    with (folder / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


def test_batches_repeat_by_seed_and_step(imagery):
    recipe = replace(SMALL, batch=3)
    one, same, other = (Batches(drawn(replace(recipe, seed=seed), imagery), range(10)) for seed in (1, 1, 2))
    later = Batches(drawn(replace(recipe, seed=1), imagery), range(4, 10))
    assert (len(one), len(later)) == (10, 6)
    for a, b, c in zip(one[4], same[4], later[0], strict=True):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(a, c)
    assert not np.array_equal(one[4][0], other[4][0])
    assert not np.array_equal(one[4][0], one[5][0])
    cloudy, clear, weight = one[4]
    assert cloudy.shape == clear.shape == (3, 256, 256, 3)
    assert weight.shape == (3, 256, 256, 1)
    assert {x.dtype for x in one[4]} == {np.dtype(np.float32)}


@pytest.mark.parametrize("skewed", [False, True])
def test_a_stack_is_drawn_in_the_documented_order_again_and_again(imagery, skewed):
    recipe = replace(DOCUMENTED, stack=Stack(skewed, crop=(20, 10)))
    draw, sample = drawn(recipe, imagery), stack_sample(recipe, recipe.stack, imagery)
    pair = sample.cloudy, sample.clear
    np.testing.assert_array_equal(pair[1], imagery.pairs[0].clear[20:276, 10:266])
    stack = skewed_stack(pair, 15.0) if skewed else plain_stack(pair)
    for step in (0, 4, 9, 10, 25):
        cloudy, clear, weight = draw(step)
        np.testing.assert_array_equal(cloudy[0], stack[step % 10][0])
        np.testing.assert_array_equal(clear[0], stack[step % 10][1])
        assert (weight == 1).all()


def test_a_crop_outside_is_refused(imagery):
    with pytest.raises(InputError, match="row 100, column 10 leaves a pair"):
        drawn(replace(DOCUMENTED, stack=Stack(crop=(100, 10))), imagery)


def test_samples_teach_the_truth_and_only_it(imagery, rng):
    sampler = Sampler(imagery)
    for _ in range(12):
        sample = sampler.draw(rng, real=0.5)
        assert not (sample.masked & sample.observed).any()
        np.testing.assert_array_equal(sample.cloudy[sample.observed], sample.clear[sample.observed])
        weights = sample.weight(0.1)[..., 0]
        assert set(np.unique(weights)) <= {np.float32(0), np.float32(0.1), np.float32(1)}
        assert (weights[~sample.masked & ~sample.observed] == 0).all()
    with pytest.raises(InputError, match="no clear scenes"):
        Sampler(Imagery())


def test_glints_lie_on_what_is_observed_and_in_both_images(imagery, rng):
    plain = Sampler(imagery).of_pair(imagery.pairs[0], np.random.default_rng(1))
    made = glinting(plain, rng, 40)
    changed = np.any(made.clear != plain.clear, axis=-1)
    assert 20 < changed.sum() <= 160
    assert plain.observed[changed].all()
    assert (made.clear[changed] > 0.3).all()
    np.testing.assert_array_equal(made.cloudy[changed], made.clear[changed])
    np.testing.assert_array_equal(made.cloudy[~changed], plain.cloudy[~changed])


def test_a_run_from_imagery_to_a_model_that_serves(imagery, tmp_path):
    told = []
    run = train(SMALL, tmp_path / "run", imagery=imagery, listener=lambda step, losses: told.append(step))
    assert told == [1, 2, 3, 4]
    rows = rows_of(tmp_path / "run")
    assert [row["step"] for row in rows] == ["2", "4"]
    parts = [f"{group} {part}" for group in ("train", "validation") for part in ("generated", "observed")]
    measures = ("psnr", "ssim", "sam", "mae", "pc green", "pc red", "pc nir")
    assert {f"{part} {measure}" for part in parts for measure in measures} <= set(rows[0])
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert list(summary["data"]["train"]) == ["a"]
    assert list(summary["data"]["validation"]) == ["b"]
    assert set(summary["baselines"]) == {"cloudy itself", "mean of the visible pixels"}
    assert Recipe.load(tmp_path / "run" / "recipe.toml") == SMALL
    for picture in ("curves.png", "samples/000002.png", "samples/000004.png"):
        with rasterio.open(tmp_path / "run" / picture) as image:
            assert image.read(1).std() > 1
    generator = Generator.load(run.model)
    card = generator.contract.training
    best = min(rows, key=lambda row: float(row["validation generated mae"]))
    assert card["steps"] == int(best["step"])
    # The file, not only the network in memory, reaches the scores that its card claims.
    tiles = validation_tiles(imagery.split(["b"])[1])["b simulated"]

    def served(cloudy, masked):
        made = generator(np.ascontiguousarray(np.moveaxis(cloudy, -1, 0))[None])[0]
        return np.where(masked[..., None], np.moveaxis(made, 0, -1), cloudy)

    assert scores.mean_scores(tiles, served).mae == pytest.approx(
        card["scores"]["b simulated"]["mae"], abs=1e-3
    )
    with pytest.raises(InputError, match=r"holds a run already; go on with it \(--resume\)"):
        train(SMALL, tmp_path / "run", imagery=imagery)


@pytest.mark.parametrize("recipe", [SMALL, DOCUMENTED], ids=["samples", "stack"])
def test_a_resumed_run_ends_as_one_that_never_stopped(recipe, imagery, tmp_path, no_export):
    eight = replace(recipe, steps=8, rows_every=4, objective=replace(recipe.objective, adversarial_after=0.0))
    train(eight, tmp_path / "whole", imagery=imagery)
    train(replace(eight, steps=4), tmp_path / "parts", imagery=imagery)
    train(eight, tmp_path / "parts", resume=True, imagery=imagery)
    whole, parts = (np.load(tmp_path / name / "checkpoint.npz") for name in ("whole", "parts"))
    assert int(whole["step"]) == int(parts["step"]) == 8
    for name in whole.files:
        np.testing.assert_array_equal(whole[name], parts[name], err_msg=name)
    for a, b in zip(rows_of(tmp_path / "whole"), rows_of(tmp_path / "parts"), strict=True):
        assert {**a, "seconds": 0} == {**b, "seconds": 0}


def test_what_cannot_be_resumed_is_left_as_it_is(imagery, tmp_path, no_export):
    quick = replace(SMALL, steps=1, objective=Objective())
    with pytest.raises(InputError, match="holds no run to resume"):
        train(quick, tmp_path / "none", resume=True, imagery=imagery)
    train(quick, tmp_path / "run", imagery=imagery)
    before = {path.name: path.read_bytes() for path in (tmp_path / "run").glob("*.*")}
    wider = replace(quick, networks=replace(quick.networks, width=3))
    with pytest.raises(InputError, match="another networks"):
        train(wider, tmp_path / "run", resume=True, imagery=imagery)
    assert {path.name: path.read_bytes() for path in (tmp_path / "run").glob("*.*")} == before
    train(wider, tmp_path / "other", imagery=imagery)
    (tmp_path / "run" / "checkpoint.npz").write_bytes((tmp_path / "other" / "checkpoint.npz").read_bytes())
    with pytest.raises(InputError, match="checkpoint of another network"):
        train(quick, tmp_path / "run", resume=True, imagery=imagery)
    (tmp_path / "run" / "checkpoint.npz").write_bytes(b"nonsense")
    with pytest.raises(InputError, match="cannot be read"):
        train(quick, tmp_path / "run", resume=True, imagery=imagery)


def test_a_folder_that_cannot_be_written_is_refused(imagery, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        train(SMALL, tmp_path / "file" / "run", imagery=imagery)


def test_a_collapse_stops_the_run_and_keeps_the_best(imagery, tmp_path, no_export, monkeypatch, caplog):
    falling = iter([30.0, 29.0, 20.0, 19.0, 18.0])

    def row(group, samples, product, bands):
        psnr = next(falling) if group == "validation" else 30.0
        return {f"{group} generated {name}": psnr for name in ("psnr", "ssim")} | {
            f"{group} generated mae": 1 / psnr
        }

    monkeypatch.setattr(validation, "row", row)
    monkeypatch.setattr(training.pictures, "curves", lambda rows, path: None)
    recipe = replace(
        SMALL, steps=5, rows_every=1, collapse_rows=2, objective=Objective(adversarial_weight=0.0)
    )
    run = train(recipe, tmp_path / "run", imagery=imagery)
    assert [row["step"] for row in rows_of(tmp_path / "run")] == ["1", "2", "3", "4"]
    assert (run.summary["steps"], run.summary["last"]["step"]) == (1, 4)
    assert "collapse" in caplog.text


def test_losses_that_are_no_numbers_stop_the_run(imagery, tmp_path, no_export):
    with pytest.raises(InputError, match="no longer finite at step 1"):
        train(replace(SMALL, scaling=replace(SMALL.scaling, full=1e-45)), tmp_path / "run", imagery=imagery)


def test_mixed_precision_keeps_weights_and_outputs_in_full(imagery):
    model = training.build(replace(SMALL, networks=Networks(width=1, precision="mixed_bfloat16")))
    assert keras.config.dtype_policy().name == "float32"
    assert model.generator.output.dtype == model.discriminator.output.dtype == "float32"
    assert {v.dtype for v in model.trainable_variables} == {"float32"}
    inside = [layer.compute_dtype for layer in model.generator.layers[-1].layers]
    assert "bfloat16" in inside


def test_the_command_names_what_is_wrong(tmp_path, capsys):
    assert cli.main([str(tmp_path / "nowhere.toml"), "--run", str(tmp_path / "run")]) == 2
    error = capsys.readouterr().err.strip().split("\n")
    assert len(error) == 1
    assert "nowhere.toml cannot be read" in error[0]
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["documented", "documented-skew", "right", "single"])
def test_every_recipe_trains_from_end_to_end(name, fields, tmp_path, capsys):
    """As in `pipelines/`, but for the imagery, the width and the steps."""
    text = (PIPELINES / f"train-{name}.toml").read_text()
    recipe = Recipe.load(PIPELINES / f"train-{name}.toml")
    regions = {"here": 520, recipe.held_out[0]: 300}
    for region, size in regions.items():
        image = np.tile(fields, (2, 2, 1))[:size, :size]
        write_geotiff(tmp_path / region / "clear.tif", image)
    text = text[: text.index("[[data]]")].replace(
        str(list(recipe.held_out)).replace("'", '"'), f'["{recipe.held_out[0]}"]'
    )
    text += "".join(
        f'[[data]]\nkind = "clear"\npath = "{region}"\nregion = "{region}"\n' for region in regions
    )
    (tmp_path / "recipe.toml").write_text(text)
    words = [tmp_path / "recipe.toml", "--run", tmp_path / "run", "--width", 1, "--steps", 2]
    assert cli.main(list(map(str, words))) == 0
    model = Path(capsys.readouterr().out.strip())
    assert Generator.load(model).contract.name == name
    assert len(rows_of(tmp_path / "run")) == 1


def write_geotiff(path, image):
    path.parent.mkdir()
    height, width, bands = image.shape
    profile = {"driver": "GTiff", "count": bands, "height": height, "width": width, "dtype": "uint16"}
    with rasterio.open(path, "w", **profile) as file:
        file.write(np.moveaxis(np.rint(image * 10_000).astype(np.uint16), -1, 0))
        file.descriptions = ("B03", "B04", "B08")


def test_the_studys_measure_by_hand(fields):
    image, bands, valid = fields[:64, :64], ("green", "red", "nir"), np.ones((64, 64), bool)
    same = study.row("val", image, image, valid, bands)
    assert same["SSIM_val"] == pytest.approx(1)
    assert same["PC_val_NIR"] == pytest.approx(1)
    # Twice as bright is the same to it, since each image is divided by its own maximum.
    assert study.row("val", 2 * image, image, valid, bands)["PSNR_val"] == pytest.approx(120)
    # An error of a tenth of the maximum counts half: 26 dB instead of 20.
    flat = np.ones((64, 64, 3), np.float32)
    off = 0.9 * flat
    off[0, 0] = 1.0
    assert study.row("val", off, flat, valid, bands)["PSNR_val"] == pytest.approx(26.02, abs=0.01)


def test_a_cloud_in_the_studys_target_is_not_measured(fields, rng):
    target, image = fields[:64, :64].copy(), rng.uniform(0, 0.5, (64, 64, 3)).astype(np.float32)
    valid, bands = np.ones((64, 64), bool), ("green", "red", "nir")
    valid[10:20, 30:40] = False
    wanted = study.row("val", np.where(valid[..., None], image, 0), target, valid, bands)
    target[~valid] = 1.8
    assert study.row("val", image, target, valid, bands) == wanted


def test_the_studys_validation_is_its_target_under_noise(fields):
    noisy = study.validation_image(fields, ("green", "red", "nir"), seed=0)
    changed = np.any(noisy != fields, axis=-1)
    assert 0.4 < changed.mean() < 0.6
    np.testing.assert_array_equal(noisy, study.validation_image(fields, ("green", "red", "nir"), seed=0))


def test_the_trivial_baselines(rng):
    cloudy = rng.uniform(0.1, 0.2, (32, 32, 3)).astype(np.float32)
    masked = np.zeros((32, 32), bool)
    masked[8:16, 8:16] = True
    cloudy[masked] = 0.9
    painted = scores.mean_colour(cloudy, masked)
    np.testing.assert_allclose(
        painted[masked], np.broadcast_to(cloudy[~masked].mean(axis=0), (64, 3)), rtol=1e-5
    )
    np.testing.assert_array_equal(painted[~masked], cloudy[~masked])
    np.testing.assert_array_equal(scores.as_it_is(cloudy, masked), cloudy)

import csv
import json
import threading
from pathlib import Path

import keras
import numpy as np
import pytest
import rasterio
from sites import make_site

from cloudgan.cli.app import train_main
from cloudgan.errors import InputError
from cloudgan.model.generator import Generator
from cloudgan.training import scores, study, validation
from cloudgan.training import trainer as training
from cloudgan.training.augmentation import make_plain_stack, make_skewed_stack
from cloudgan.training.data.imagery import Image, Imagery, Pair
from cloudgan.training.data.sources import Source
from cloudgan.training.recipe import (
    Discriminator,
    Samples,
    Scaling,
    Stack,
    Stage,
    Temporal,
    TrainConfig,
    UNet,
)
from cloudgan.training.samples import Sample, draw_ahead
from cloudgan.training.single_image import Sampler, add_glints, make_draw, sample_stack, sample_validation
from cloudgan.training.tasks import make_task
from cloudgan.training.trainer import train

PIPELINES = Path(__file__).parents[2] / "pipelines"

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning"
)

SMALL = TrainConfig(
    name="small",
    data=(Source(kind="clear", path="nowhere", region="a"),),
    held_out=("b",),
    samples=Samples(observed_weight=0.25),
    generator=UNet(width=2),
    discriminator=Discriminator(normalisation="instance", adversarial_after=0.5),
    stages=(Stage(steps=4, learning_rate=1e-3),),
    ema_decay=0.9,
    batch=2,
    eval_every=2,
)
DOCUMENTED = TrainConfig(
    name="small",
    data=SMALL.data,
    held_out=("b",),
    stack=Stack(),
    generator=UNet(width=2),
    discriminator=Discriminator(),
    stages=(Stage(steps=4),),
    eval_every=2,
    study=True,
)
TEMPORAL = TrainConfig(
    name="small",
    data=SMALL.data,
    held_out=("there",),
    generator={"kind": "temporal", "width": 4, "surface_classes": 2},
    series={"pixels": 2 * 64 * 64},
    stages=(
        Stage(steps=4, learning_rate=1e-3, unaugmented_fraction=0.5),
        Stage(steps=2, learning_rate=1e-3, trainable="uncertainty"),
    ),
    ema_decay=0.9,
    eval_every=2,
    keep="last",
)


@pytest.fixture(scope="module")
def imagery(fields):
    valid = np.ones(fields.shape[:2], bool)
    valid[:5] = False
    cloud, shadow = np.zeros_like(valid), np.zeros_like(valid)
    cloud[50:120, 60:160], shadow[130:160, 60:160] = True, True
    cloudy = np.where(cloud[..., None], np.float32(0.7), fields)
    clear = tuple(Image(region, region, fields, valid) for region in "ab")
    pairs = tuple(Pair(f"{r} pair", r, cloudy, fields, cloud, valid) for r in "ab")
    clouds = tuple(Image(f"{r} clouds", r, cloudy, valid & ~cloud, cloud, shadow) for r in "ab")
    return Imagery(clear, pairs, clouds)


@pytest.fixture(scope="module")
def sites():
    rng = np.random.default_rng(3)
    return [make_site(rng), make_site(rng, region="there")]


@pytest.fixture
def data(request, imagery, sites):
    """What a recipe trains on."""
    return sites if request.getfixturevalue("recipe") is TEMPORAL else imagery


@pytest.fixture
def no_export(monkeypatch):
    """Export is tested apart, and takes longer than a small training."""
    monkeypatch.setattr(training, "export_onnx", lambda model, path, terms, tiles: path.write_bytes(b"onnx"))
    monkeypatch.setattr(training, "write_contract", lambda path, terms: None)
    monkeypatch.setattr(training.Generator, "load", lambda path: None)
    for task in ("SingleImageTask", "TimeSeriesTask"):
        monkeypatch.setattr(f"cloudgan.training.tasks.{task}.score", lambda self, generator: {})


def rows_of(folder):
    with (folder / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("recipe", [SMALL, DOCUMENTED, TEMPORAL], ids=["samples", "stack", "series"])
def test_batches_repeat_by_seed_and_step(recipe, data):
    one, same = (make_task(recipe, data) for _ in range(2))
    other = make_task(recipe.replace(seed=2), data)
    for a, b in zip(one.draw(3), same.draw(3), strict=True):
        np.testing.assert_array_equal(a, b)
        assert a.dtype == np.float32
    if recipe is not DOCUMENTED:
        assert not np.array_equal(one.draw(3)[0], other.draw(3)[0])
    assert not np.array_equal(one.draw(3)[0], one.draw(2)[0])
    channels, truth, weight = one.draw(3)
    assert channels.shape[:-1] == truth.shape[:-1] == weight.shape[:-1]
    assert (truth.shape[-1], weight.shape[-1]) == (3, 1)
    assert channels.shape[-1] == len(one.input_channels)


def test_batches_are_drawn_ahead_in_order():
    drawn = list(draw_ahead(lambda step: (step,), range(3, 30)))
    assert drawn == [(step,) for step in range(3, 30)]


def test_an_error_while_drawing_ahead_is_raised_where_the_batches_are_taken():
    def draw(step):
        if step == 2:
            raise InputError("no such date")
        return (step,)

    taken = []
    with pytest.raises(InputError, match="no such date"):
        taken.extend(draw_ahead(draw, range(5)))


def test_a_thread_that_draws_ahead_ends_with_the_training():
    batches = draw_ahead(lambda step: (step,), range(1000))
    next(batches)
    batches.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "draw-ahead"]


@pytest.mark.parametrize("skewed", [False, True])
def test_a_stack_is_drawn_in_the_documented_order_again_and_again(imagery, skewed):
    recipe = DOCUMENTED.replace(stack=Stack(skewed=skewed, crop=(20, 10)))
    draw, sample = make_draw(recipe, imagery), sample_stack(recipe, recipe.stack, imagery)
    pair = sample.cloudy, sample.truth
    np.testing.assert_array_equal(pair[1], imagery.pairs[0].clear[20:276, 10:266])
    stack = make_skewed_stack(pair, 15.0) if skewed else make_plain_stack(pair)
    for step in (0, 4, 9, 10, 25):
        cloudy, clear, weight = draw(step)
        np.testing.assert_array_equal(cloudy[0], stack[step % 10][0])
        np.testing.assert_array_equal(clear[0], stack[step % 10][1])
        assert (weight == 1).all()


def test_a_crop_outside_is_refused(imagery):
    with pytest.raises(InputError, match="row 100, column 10 leaves a pair"):
        make_draw(DOCUMENTED.replace(stack=Stack(crop=(100, 10))), imagery)


def test_samples_teach_the_truth_and_only_it(imagery, rng):
    sampler = Sampler(imagery)
    for _ in range(12):
        sample = sampler.draw(rng, real=0.5)
        assert not (sample.masked & sample.observed).any()
        np.testing.assert_array_equal(sample.cloudy[sample.observed], sample.truth[sample.observed])
        weights = sample.weight(0.1)[..., 0]
        assert set(np.unique(weights)) <= {np.float32(0), np.float32(0.1), np.float32(1)}
        assert (weights[~sample.masked & ~sample.observed] == 0).all()
    with pytest.raises(InputError, match="no clear scenes"):
        Sampler(Imagery())


def test_glints_lie_on_what_is_observed_and_in_both_images(imagery, rng):
    plain = Sampler(imagery).sample_pair(imagery.pairs[0], np.random.default_rng(1))
    made = add_glints(plain, rng, 40)
    changed = np.any(made.truth != plain.truth, axis=-1)
    assert 20 < changed.sum() <= 160
    assert plain.observed[changed].all()
    assert (made.truth[changed] > 0.3).all()
    np.testing.assert_array_equal(made.cloudy[changed], made.truth[changed])
    np.testing.assert_array_equal(made.cloudy[~changed], plain.cloudy[~changed])


def test_a_run_from_imagery_to_a_model_that_serves(imagery, tmp_path):
    steps = []
    run = train(SMALL, tmp_path / "run", data=imagery, listener=lambda step, losses: steps.append(step))
    assert steps == [1, 2, 3, 4]
    rows = rows_of(tmp_path / "run")
    assert [row["step"] for row in rows] == ["2", "4"]
    parts = [f"{group} {part}" for group in ("train", "validation") for part in ("generated", "observed")]
    measures = ("psnr", "ssim", "sam", "mae", "pc green", "pc red", "pc nir")
    assert {f"{part} {measure}" for part in parts for measure in measures} <= set(rows[0])
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert list(summary["data"]["train"]) == ["a"]
    assert list(summary["data"]["validation"]) == ["b"]
    assert set(summary["samples"]) == {"model", "cloudy itself", "mean of the visible pixels"}
    assert TrainConfig.load(tmp_path / "run" / "recipe.toml") == SMALL
    for picture in ("curves.png", "samples/000002.png", "samples/000004.png"):
        with rasterio.open(tmp_path / "run" / picture) as image:
            assert image.read(1).std() > 1
    generator = Generator.load(run.model)
    card = generator.contract.training
    best = min(rows, key=lambda row: float(row["validation generated mae"]))
    assert card["steps"] == int(best["step"])
    # The file, not only the network in memory, has the scores that its card claims.
    tiles = sample_validation(imagery.split(["b"])[1])["b simulated"]

    assert scores.mean_scores(tiles, scores.serve_with(generator)).mae == pytest.approx(
        card["scores"]["b simulated"]["mae"], abs=1e-3
    )
    with pytest.raises(InputError, match=r"holds a run already; go on with it \(--resume\)"):
        train(SMALL, tmp_path / "run", data=imagery)


def test_a_temporal_run_makes_a_model_that_serves(sites, tmp_path):
    run = train(TEMPORAL, tmp_path / "run", data=sites)
    assert [row["step"] for row in rows_of(tmp_path / "run")] == ["2", "4", "6"]
    generator = Generator.load(run.model)
    contract = generator.contract
    assert (contract.name, contract.predicts_uncertainty, contract.dates_each_side) == ("small", True, 4)
    assert generator(np.full((1, 39, 256, 256), 0.2, np.float32)).shape == (1, 4, 256, 256)
    card = contract.training
    assert card["steps"] == 6
    assert [stage["trainable"] for stage in card["recipe"]["stages"]] == ["all", "uncertainty"]
    assert set(card["data"]["train"]["here"]) == {"sites", "dates", "sha256"}
    assert {"python", "backend", "keras", "numpy"} <= set(card["versions"])
    assert set(card["scores"]) == {"there"}
    assert (tmp_path / "run" / "samples" / "000006.png").exists()


def test_a_run_starts_from_the_weights_of_another(sites, tmp_path, no_export):
    short = TEMPORAL.replace(stages=(Stage(steps=1, learning_rate=1e-6),))
    train(short, tmp_path / "run", data=sites)
    start = tmp_path / "run" / "averaged.weights.h5"
    summary = train(short.replace(seed=5), tmp_path / "again", data=sites, start=start).summary
    assert summary["start"]["path"] == "averaged.weights.h5"
    assert len(summary["start"]["sha256"]) == 64
    model = make_task(short, sites).build_product()
    model.load_weights(start)
    before = model.get_weights()
    model.load_weights(tmp_path / "again" / "averaged.weights.h5")
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_allclose(old, new, atol=1e-5)
    wider = short.replace(generator=Temporal(kind="temporal", width=6))
    with pytest.raises(InputError, match="do not fit the recipe's generator"):
        train(wider, tmp_path / "wider", data=sites, start=start)


class KilledError(Exception):
    """The end of a process."""


def kill_at(last):
    def listener(step, losses):
        if step == last:
            raise KilledError

    return listener


@pytest.mark.parametrize(
    ("recipe", "drawn"), [(SMALL, "samples"), (DOCUMENTED, "stack"), (TEMPORAL, "series")]
)
def test_a_resumed_run_ends_as_one_that_never_stopped(recipe, drawn, data, tmp_path, no_export):
    """It is killed before the first row, between two, or where a stage begins."""
    last = {"samples": 3, "stack": 1, "series": 5}
    train(recipe, tmp_path / "whole", data=data)
    with pytest.raises(KilledError):
        train(recipe, tmp_path / "parts", data=data, listener=kill_at(last[drawn]))
    train(recipe, tmp_path / "parts", data=data, resume=True)
    whole, parts = (np.load(tmp_path / name / "checkpoint.npz") for name in ("whole", "parts"))
    assert int(whole["step"]) == int(parts["step"]) == recipe.steps
    for name in whole.files:
        np.testing.assert_array_equal(whole[name], parts[name], err_msg=name)
    for a, b in zip(rows_of(tmp_path / "whole"), rows_of(tmp_path / "parts"), strict=True):
        assert {**a, "seconds": 0} == {**b, "seconds": 0}


def test_the_same_seed_gives_the_same_weights_and_another_does_not(sites, tmp_path, no_export):
    short = TEMPORAL.replace(stages=(Stage(steps=2, learning_rate=1e-3),))
    for name, seed in (("one", 0), ("same", 0), ("other", 1)):
        train(short.replace(seed=seed), tmp_path / name, data=sites)
    one, same, other = (np.load(tmp_path / n / "checkpoint.npz") for n in ("one", "same", "other"))
    for name in one.files:
        np.testing.assert_array_equal(one[name], same[name], err_msg=name)
    assert any(not np.array_equal(one[name], other[name]) for name in one.files)


def test_a_temporal_generator_trains_against_a_discriminator(sites, tmp_path, no_export):
    recipe = TEMPORAL.replace(
        discriminator=Discriminator(width=2, normalisation="none", adversarial_weight=0.01),
        stages=(Stage(steps=2, learning_rate=1e-3),),
    )
    train(recipe, tmp_path / "run", data=sites)
    (row,) = rows_of(tmp_path / "run")
    assert float(row["discriminator"]) > 0
    assert float(row["adversarial"]) > 0


def test_what_cannot_be_resumed_is_left_as_it_is(imagery, tmp_path, no_export):
    quick = SMALL.replace(stages=(Stage(steps=1),), ema_decay=0.0)
    with pytest.raises(InputError, match="holds no run to resume"):
        train(quick, tmp_path / "none", resume=True, data=imagery)
    train(quick, tmp_path / "run", data=imagery)
    before = {path.name: path.read_bytes() for path in (tmp_path / "run").glob("*.*")}
    wider = quick.replace(generator=UNet(width=3))
    with pytest.raises(InputError, match="another generator"):
        train(wider, tmp_path / "run", resume=True, data=imagery)
    assert {path.name: path.read_bytes() for path in (tmp_path / "run").glob("*.*")} == before
    train(wider, tmp_path / "other", data=imagery)
    (tmp_path / "run" / "checkpoint.npz").write_bytes((tmp_path / "other" / "checkpoint.npz").read_bytes())
    with pytest.raises(InputError, match="checkpoint of another network"):
        train(quick, tmp_path / "run", resume=True, data=imagery)
    (tmp_path / "run" / "checkpoint.npz").write_bytes(b"nonsense")
    with pytest.raises(InputError, match="cannot be read"):
        train(quick, tmp_path / "run", resume=True, data=imagery)


def test_a_folder_that_cannot_be_written_is_refused(imagery, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        train(SMALL, tmp_path / "file" / "run", data=imagery)


def test_a_collapse_stops_the_run_and_keeps_the_best(imagery, tmp_path, no_export, monkeypatch, caplog):
    falling = iter([30.0, 29.0, 20.0, 19.0, 18.0])

    def compute_row(task, product):
        psnr = next(falling)
        return {"validation generated psnr": psnr, validation.CHOSEN_BY: 1 / psnr}

    monkeypatch.setattr(validation, "compute_row", compute_row)
    recipe = SMALL.replace(
        stages=(Stage(steps=5),), eval_every=1, collapse_rows=2, discriminator=None, keep="last"
    )
    run = train(recipe, tmp_path / "run", data=imagery)
    assert [row["step"] for row in rows_of(tmp_path / "run")] == ["1", "2", "3", "4"]
    assert (run.summary["steps"], run.summary["last"]["step"]) == (1, 4)
    assert "collapse" in caplog.text


def test_losses_that_are_no_numbers_stop_the_run(imagery, tmp_path, no_export):
    recipe = SMALL.replace(generator=UNet(width=2, scaling=Scaling(full=1e-45)))
    with pytest.raises(InputError, match="no longer finite at step 1"):
        train(recipe, tmp_path / "run", data=imagery)


def test_mixed_precision_keeps_weights_and_outputs_in_full(imagery):
    recipe = SMALL.replace(generator=UNet(width=1, precision="mixed_bfloat16"))
    model = training.build(make_task(recipe, imagery))
    assert keras.config.dtype_policy().name == "float32"
    assert model.generator.output.dtype == model.discriminator.output.dtype == "float32"
    assert {v.dtype for v in model.trainable_variables} == {"float32"}
    inside = [layer.compute_dtype for layer in model.generator.layers[-1].layers]
    assert "bfloat16" in inside


def run_command(capsys, *words):
    with pytest.raises(SystemExit) as end:
        train_main(list(map(str, words)))
    said = capsys.readouterr()
    return int(end.value.code or 0), said.out, said.err


def test_the_command_names_what_is_wrong(tmp_path, capsys):
    code, _, error = run_command(capsys, tmp_path / "nowhere.toml", "--run", tmp_path / "run")
    assert code == 2
    assert len(error.strip().split("\n")) == 1
    assert "nowhere.toml cannot be read" in error
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["documented", "documented-skew", "right", "single"])
def test_every_recipe_trains_from_end_to_end(name, fields, tmp_path, capsys):
    """As in `pipelines/`, but for the imagery, the width and the steps."""
    recipe = TrainConfig.load(PIPELINES / f"train-{name}.toml")
    regions = {"here": 520, recipe.held_out[0]: 300}
    for region, size in regions.items():
        image = np.tile(fields, (2, 2, 1))[:size, :size]
        write_geotiff(tmp_path / region / "clear.tif", image)
    small = recipe.replace(
        held_out=recipe.held_out[:1],
        data=tuple(Source(kind="clear", path=str(tmp_path / region), region=region) for region in regions),
        generator=recipe.generator.replace(width=1),
        stages=(recipe.stages[0].replace(steps=2),),
    )
    (tmp_path / "recipe.toml").write_text(small.as_toml())
    code, out, error = run_command(capsys, tmp_path / "recipe.toml", "--run", tmp_path / "run")
    assert code == 0, error
    assert Generator.load(Path(out.strip())).contract.name == name
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
    same = study.compute_row("val", image, image, valid, bands)
    assert same["SSIM_val"] == pytest.approx(1)
    assert same["PC_val_NIR"] == pytest.approx(1)
    # Twice as bright is the same to it, since each image is divided by its own maximum.
    assert study.compute_row("val", 2 * image, image, valid, bands)["PSNR_val"] == pytest.approx(120)
    # An error of a tenth of the maximum counts half: 26 dB instead of 20.
    flat = np.ones((64, 64, 3), np.float32)
    off = 0.9 * flat
    off[0, 0] = 1.0
    assert study.compute_row("val", off, flat, valid, bands)["PSNR_val"] == pytest.approx(26.02, abs=0.01)


def test_a_cloud_in_the_studys_target_is_not_measured(fields, rng):
    target, image = fields[:64, :64].copy(), rng.uniform(0, 0.5, (64, 64, 3)).astype(np.float32)
    valid, bands = np.ones((64, 64), bool), ("green", "red", "nir")
    valid[10:20, 30:40] = False
    wanted = study.compute_row("val", np.where(valid[..., None], image, 0), target, valid, bands)
    target[~valid] = 1.8
    assert study.compute_row("val", image, target, valid, bands) == wanted


def test_the_studys_validation_is_its_target_under_noise(fields):
    noisy = study.make_validation_image(fields, ("green", "red", "nir"), seed=0)
    changed = np.any(noisy != fields, axis=-1)
    assert 0.4 < changed.mean() < 0.6
    np.testing.assert_array_equal(noisy, study.make_validation_image(fields, ("green", "red", "nir"), seed=0))


def test_the_trivial_baselines(rng):
    cloudy = rng.uniform(0.1, 0.2, (32, 32, 3)).astype(np.float32)
    masked = np.zeros((32, 32), bool)
    masked[8:16, 8:16] = True
    cloudy[masked] = 0.9
    sample = Sample(cloudy, cloudy, masked, ~masked)
    painted = scores.fill_with_mean(sample)
    mean = cloudy[~masked].mean(axis=0)
    np.testing.assert_allclose(painted[masked], np.broadcast_to(mean, (64, 3)), rtol=1e-5)
    np.testing.assert_array_equal(painted[~masked], cloudy[~masked])
    np.testing.assert_array_equal(scores.keep_cloudy(sample), cloudy)

import json

import keras
import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto

from cloudgan.errors import GeneratorError, InputError
from cloudgan.model.contract import Channel, Contract, Source
from cloudgan.model.generator import Generator
from cloudgan.training.export import export_onnx
from cloudgan.training.models import networks
from cloudgan.training.models.scaling import give_reflectance, take_reflectance
from cloudgan.training.recipe import Scaling

# tf2onnx 1.17 and Keras's exporter use names that NumPy and TensorFlow have deprecated.
pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning"
)


BANDS = ("green", "red", "nir")


def contract(training, version, bands=BANDS):
    channels = tuple(Channel(Source.TARGET, band) for band in bands)
    return Contract("documented", version, channels, BANDS, 256, training=training)


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    generator = networks.generator(width=4)
    rng = np.random.default_rng(0)
    # Statistics as after some training: those of a fresh network would hide a batch norm in training mode.
    generator.set_weights([w + 0.1 * rng.random(w.shape, dtype=np.float32) for w in generator.get_weights()])
    scaling = Scaling(gamma=0.5)
    return give_reflectance(take_reflectance(generator, scaling), scaling)


@pytest.fixture(scope="module")
def tiles(fields):
    return np.stack([fields[:256, :256], fields[40:296, 20:276][::-1]])


@pytest.fixture(scope="module")
def exported(model, tiles, tmp_path_factory):
    path = tmp_path_factory.mktemp("export") / "new" / "model.onnx"
    export_onnx(model, path, contract({"steps": 3}, "0.0.1"), tiles)
    return path


def test_the_file_agrees_with_keras_for_any_batch(exported, model, tiles):
    session = ort.InferenceSession(exported)
    assert [value.name for value in session.get_inputs()] == ["channels"]
    assert [value.name for value in session.get_outputs()] == ["declouded"]
    assert session.get_inputs()[0].shape == session.get_outputs()[0].shape == ["batch", 3, 256, 256]
    wanted = np.moveaxis(np.asarray(model(tiles, training=False)), -1, 1)
    for count in (1, 2):
        channels = np.ascontiguousarray(np.moveaxis(tiles[:count], -1, 1))
        (found,) = session.run(None, {"channels": channels})
        np.testing.assert_allclose(found, wanted[:count], atol=1e-3)


def test_the_contract_is_what_serving_reads(exported):
    properties = {item.key: item.value for item in onnx.load(exported).metadata_props}
    read = Contract.parse(properties["cloudgan"], "model")
    assert [str(channel) for channel in read.input_channels] == ["target:green", "target:red", "target:nir"]
    assert (read.output_bands, read.tile, read.name) == (BANDS, 256, "documented")
    assert json.loads(properties["cloudgan"])["format"] == 2
    assert json.loads(properties["cloudgan"])["training"] == {"steps": 3}
    assert Generator.load(exported)(np.full((1, 3, 256, 256), 0.2, np.float32)).shape == (1, 3, 256, 256)


def test_large_weights_are_stored_in_half_the_bytes(exported, model, tiles, tmp_path):
    whole = tmp_path / "whole.onnx"
    export_onnx(model, whole, contract({}, "0.0.1"), tiles, half=False)
    assert exported.stat().st_size < 0.62 * whole.stat().st_size
    kinds = {w.data_type for w in onnx.load(exported).graph.initializer if np.prod(w.dims) >= 1024}
    assert kinds == {TensorProto.FLOAT16}


def test_a_model_that_deviates_is_not_written(model, tiles, tmp_path, monkeypatch):
    from cloudgan.training import export

    def change(graph):
        for weights in graph.initializer:
            values = onnx.numpy_helper.to_array(weights)
            if values.size >= 1024:
                weights.CopyFrom(onnx.numpy_helper.from_array(values * 1.5, weights.name))

    monkeypatch.setattr(export, "_store_half", change)
    path = tmp_path / "model.onnx"
    path.write_bytes(b"the one before")
    with pytest.raises(GeneratorError, match=r"strays from Keras .* nothing was written"):
        export_onnx(model, path, contract({}, "0.0.1"), tiles)
    assert path.read_bytes() == b"the one before"
    assert [file.name for file in tmp_path.iterdir()] == ["model.onnx"]


def test_bad_arguments_are_named(model, tiles, tmp_path):
    wrong = contract({}, "0.0.1", BANDS[:1])
    with pytest.raises(InputError, match="the contract names"):
        export_onnx(model, tmp_path / "a.onnx", wrong, tiles)
    with pytest.raises(InputError, match="real tiles"):
        export_onnx(model, tmp_path / "a.onnx", contract({}, "0.0.1"), tiles[:0])


def test_a_file_that_takes_the_estimate_gives_the_mean_of_both(tiles, tmp_path):
    """Of a network that gives three bands and their uncertainty; where there is no estimate, its own."""
    inputs = keras.Input((256, 256, 3))
    model = keras.Model(inputs, keras.layers.Concatenate()([inputs * 0.5, inputs[..., :1] * 0 + 0.02]))
    channels = [Channel(source, band) for source in (Source.TARGET, Source.ESTIMATE) for band in BANDS]
    promised = Contract("mean", "0.0.1", tuple(channels), BANDS, 256, predicts_uncertainty=True)
    path = tmp_path / "mean.onnx"
    export_onnx(model, path, promised, tiles)
    generator = Generator.load(path)
    own = np.moveaxis(tiles, -1, 1)
    estimate = np.where(np.arange(256) < 100, 0, own + np.float32(0.1))
    found = generator(np.concatenate([own, estimate], axis=1).astype(np.float32))
    assert np.allclose(found[:, :3, :, :100], own[..., :100] / 2, atol=1e-6)
    assert np.allclose(found[:, :3, :, 100:], (own / 2 + own + 0.1)[..., 100:] / 2, atol=1e-6)
    assert np.allclose(found[:, 3], 0.02, atol=1e-6)

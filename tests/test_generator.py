"""A generator: its file, what is refused, its session and its results."""

import contextlib
import hashlib
import json
import pickle

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from networks import BANDS, write_network
from scipy.ndimage import uniform_filter

from cloudgan.errors import GeneratorError, InputError
from cloudgan.model import generator as module
from cloudgan.model.generator import Generator, graph_digest, open_session


def random_channels(batch, depth=3, tile=32, seed=0):
    return np.random.default_rng(seed).random((batch, depth, tile, tile), np.float32)


# The file


def test_a_model_is_loaded_with_its_contract_and_digest(network):
    generator = Generator.load(network)
    assert generator.contract.name == "mean"
    assert generator.contract.output_bands == BANDS
    assert generator.file_digest == hashlib.sha256(network.read_bytes()).hexdigest()
    assert generator.device == "cpu"


def test_a_digest_leaves_out_the_contract_and_other_notes(network, tmp_path):
    model = onnx.load(network)
    contract = json.loads(model.metadata_props[0].value) | {"training": {"scores": {"here": 30}}}
    onnx.helper.set_model_props(model, {"cloudgan": json.dumps(contract)})
    model.producer_name, model.doc_string = "somebody", "a note"
    onnx.save(model, tmp_path / "noted.onnx")
    noted, plain = Generator.load(tmp_path / "noted.onnx"), Generator.load(network)
    assert noted.digest == plain.digest
    assert noted == plain
    assert noted.file_digest != plain.file_digest
    assert noted.contract.training == {"scores": {"here": 30}}


@pytest.mark.parametrize("name", ["documented", "temporal"])
def test_the_shipped_models_can_be_loaded_by_name(name):
    generator = Generator.load(name)
    assert generator.contract.name == name
    assert generator.contract.tile == 256
    assert len(generator.digest) == 64


@given(st.binary(max_size=200))
def test_a_digest_of_arbitrary_bytes_is_a_digest_or_refused(data):
    with contextlib.suppress(GeneratorError):
        assert len(graph_digest(data)) == 64


def test_another_model_has_another_digest(network, tmp_path):
    other = Generator.load(write_network(tmp_path / "other.onnx", radius=4))
    assert other.digest != Generator.load(network).digest
    assert other != Generator.load(network)


def test_the_same_model_elsewhere_is_the_same_generator(network, tmp_path):
    copy = tmp_path / "copy.onnx"
    copy.write_bytes(network.read_bytes())
    assert Generator.load(copy) == Generator.load(network)


def test_a_missing_model_file_is_named(tmp_path):
    with pytest.raises(
        GeneratorError, match=r"no model file at .*nowhere\.onnx \(No such file.*give the path"
    ):
        Generator.load(tmp_path / "nowhere.onnx")


def test_a_folder_is_no_model_file(tmp_path):
    with pytest.raises(GeneratorError, match=r"no model file at .* \(Is a directory\)"):
        Generator.load(tmp_path)


@pytest.mark.parametrize("content", [b"", b"no model", b"\x89PNG\r\n\x1a\n", bytes(1000)])
def test_a_file_that_is_not_onnx_is_refused(tmp_path, content):
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(
        GeneratorError, match=r"model\.onnx is not a readable ONNX model \(.*\); is it whole\?"
    ):
        Generator.load(path)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_truncated_model_is_refused(network, tmp_path, share):
    whole = network.read_bytes()
    path = tmp_path / "half.onnx"
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(
        GeneratorError, match=r"half\.onnx is not a readable ONNX model|half\.onnx is an ONNX"
    ):
        Generator.load(path)


def test_a_foreign_model_is_refused(tmp_path):
    path = write_network(tmp_path / "foreign.onnx", contract=None)
    with pytest.raises(GeneratorError, match=r"foreign\.onnx is an ONNX model without a cloudgan contract"):
        Generator.load(path)


def test_a_model_whose_contract_is_no_json_is_refused(tmp_path):
    path = write_network(tmp_path / "model.onnx", contract="channels: green")
    with pytest.raises(GeneratorError, match=r"model\.onnx has a broken contract"):
        Generator.load(path)


@pytest.mark.parametrize(
    ("change", "kind", "depth", "tile"),
    [
        ({"input_channels": ["target:green", "mask"]}, "input", 2, 32),
        ({"input_channels": ["target:green"] * 4}, "input", 4, 32),
        ({"output_bands": ["green", "red"]}, "output", 2, 32),
        ({"tile": 64}, "input", 3, 64),
        ({"predicts_uncertainty": True}, "output", 4, 32),
    ],
)
def test_shapes_that_differ_from_the_contract_are_refused(tmp_path, change, kind, depth, tile):
    contract = {
        "format": 2,
        "name": "mean",
        "version": "1",
        "input_channels": [f"target:{band}" for band in BANDS],
        "output_bands": BANDS,
        "tile": 32,
    } | change
    path = write_network(tmp_path / "model.onnx", contract=contract)
    match = (
        rf"one float32 {kind} of shape \(batch, {depth}, {tile}, {tile}\) by its contract, but has \w+ tensor"
    )
    with pytest.raises(GeneratorError, match=match):
        Generator.load(path)


def test_a_model_of_two_outputs_is_refused(network, tmp_path):
    model = onnx.load(network)
    twin = model.graph.node.add()
    twin.CopyFrom(model.graph.node[0])
    twin.output[0] = "uncertainty"
    output = model.graph.output.add()
    output.CopyFrom(model.graph.output[0])
    output.name = "uncertainty"
    onnx.save(model, tmp_path / "two.onnx")
    with pytest.raises(
        GeneratorError, match=r"one float32 output of shape .* but has declouded .*, uncertainty"
    ):
        Generator.load(tmp_path / "two.onnx")


def test_a_model_of_another_number_type_is_refused(network, tmp_path):
    model = onnx.load(network)
    model.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.DOUBLE
    model.graph.node[0].input[0] = "single"
    to_single = onnx.helper.make_node("Cast", ["channels"], ["single"], to=onnx.TensorProto.FLOAT)
    model.graph.node.insert(0, to_single)
    onnx.save(model, tmp_path / "double.onnx")
    with pytest.raises(
        GeneratorError, match=r"one float32 input of shape .* but has channels tensor\(double\)"
    ):
        Generator.load(tmp_path / "double.onnx")


def test_model_errors_are_input_errors():
    assert issubclass(GeneratorError, InputError)


# Running it


def test_a_generator_computes_what_its_graph_defines(generator):
    tiles = random_channels(2)
    mean = np.stack([uniform_filter(tile.mean(axis=0), 11, mode="constant") for tile in tiles])
    expected = mean[:, None] * np.linspace(0.5, 1.5, 3)[:, None, None]
    made = generator(tiles)
    assert made.shape == (2, 3, 32, 32)
    assert made.dtype == np.float32
    np.testing.assert_allclose(made, expected, rtol=1e-4)


def test_a_tile_does_not_depend_on_its_batch(generator):
    tiles = random_channels(5)
    alone = np.concatenate([generator(tiles[at : at + 1]) for at in range(5)])
    np.testing.assert_array_equal(generator(tiles), alone)


@pytest.mark.parametrize("tiles", [1, 3, 4, 9])
def test_a_fixed_batch_is_padded_and_the_padding_dropped(generator, monkeypatch, tiles):
    one_by_one = generator(random_channels(tiles))
    monkeypatch.setattr(Generator, "batch", 4)  # as on a GPU, where the shape of every call is the same
    session = open_session(generator.model, ("CPUExecutionProvider",))
    monkeypatch.setattr("cloudgan.model.generator._session", lambda _: session)
    np.testing.assert_allclose(generator(random_channels(tiles)), one_by_one, rtol=1e-6)


def test_a_generator_survives_pickling_and_opens_its_session_again(generator):
    copy = pickle.loads(pickle.dumps(generator))
    assert copy == generator
    assert copy.contract == generator.contract
    np.testing.assert_array_equal(copy(random_channels(1)), generator(random_channels(1)))


def test_a_session_is_opened_once_a_process_and_model(network):
    one, other = Generator.load(network), pickle.loads(pickle.dumps(Generator.load(network)))
    assert module._session(one) is module._session(other)


def test_the_bytes_of_a_model_are_not_printed(generator):
    assert len(repr(generator)) < 1000


def test_a_cpu_takes_one_tile_a_call(generator):
    assert generator.batch == 1


@pytest.mark.filterwarnings("ignore:Specified provider 'CUDAExecutionProvider':UserWarning")
def test_a_missing_gpu_is_refused_and_not_replaced_by_the_cpu(network, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")  # as without any GPU
    with pytest.raises(
        GeneratorError, match=r"a GPU was asked for, but .*; install cloudgan\[gpu\] .* or run on"
    ):
        Generator.load(network, "gpu")(random_channels(1))


def test_auto_takes_the_cpu_where_there_is_nothing_else(network, generator, monkeypatch):
    monkeypatch.setattr(module.ort, "get_available_providers", lambda: ["CPUExecutionProvider"])
    auto = Generator.load(network, "auto")
    assert auto.batch == 1
    np.testing.assert_array_equal(auto(random_channels(1)), generator(random_channels(1)))


# Models are data


@pytest.mark.parametrize("location", ["kernel.bin", "../kernel.bin", "/etc/passwd", "*/_ORT_MEM_ADDR_/*"])
def test_a_model_with_its_weights_in_another_file_is_refused(location, tmp_path, monkeypatch):
    """Not even beside it: the digest would not cover them, and workers would not have them."""
    model = onnx.load(write_network(tmp_path / "m.onnx"))
    kernel = model.graph.initializer[0]
    for folder in (tmp_path, tmp_path / "inner"):
        folder.mkdir(exist_ok=True)
        (folder / "kernel.bin").write_bytes(kernel.raw_data)
    entries = {"location": location, "offset": "0", "length": str(len(kernel.raw_data))}
    kernel.ClearField("raw_data")
    kernel.data_location = onnx.TensorProto.EXTERNAL
    for key, value in entries.items():
        kernel.external_data.add(key=key, value=value)
    path = tmp_path / "inner" / "external.onnx"
    path.write_bytes(model.SerializeToString())
    monkeypatch.chdir(path.parent)
    with pytest.raises(GeneratorError, match="is not a readable ONNX model"):
        Generator.load(path)


def test_a_model_with_foreign_operators_is_refused(tmp_path):
    model = onnx.load(write_network(tmp_path / "m.onnx"))
    model.graph.node[0].domain = "elsewhere"
    model.opset_import.append(onnx.helper.make_opsetid("elsewhere", 1))
    (tmp_path / "custom.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(GeneratorError, match=r"elsewhere.* is not a registered function/op"):
        Generator.load(tmp_path / "custom.onnx")


def test_a_model_that_asks_for_more_memory_than_there_is_fails_by_name(tmp_path):
    model = onnx.load(write_network(tmp_path / "m.onnx"))
    nodes = [
        onnx.helper.make_node("ConstantOfShape", ["size"], ["much"]),
        onnx.helper.make_node("ReduceSum", ["much"], ["sum"], keepdims=0),
        onnx.helper.make_node("Conv", ["channels", "kernel"], ["mean"], pads=[5] * 4),
        onnx.helper.make_node("Add", ["mean", "sum"], ["declouded"]),
    ]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([1 << 50]), "size"))
    (tmp_path / "bomb.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(GeneratorError, match=r"the model mean failed \(.*\); is the file intact\?"):
        Generator.load(tmp_path / "bomb.onnx")(random_channels(1))

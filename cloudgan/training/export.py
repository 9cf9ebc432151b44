"""Keras to ONNX: the generator as one file, with its contract, checked before it is written."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from cloudgan.errors import GeneratorError, InputError
from cloudgan.model.contract import METADATA_KEY, Contract, Source
from cloudgan.training.recipe import TILE

INPUT, OUTPUT = "channels", "declouded"
"""Names of the file's one input and one output."""
TOLERANCE = 1e-3
"""Largest difference from Keras that passes, in reflectance."""

_LARGE = 1024  # values: smaller weights gain nothing from fp16


def export_onnx(
    model: keras.Model,
    path: Path,
    contract: Contract,
    tiles: NDArray[np.float32],
    *,
    half: bool = True,
) -> None:
    """Write a model as ONNX with its contract, once it agrees with Keras on real tiles.

    Where the contract asks for the estimate of the bands beside the model's own channels, the file gives the
    mean of the two: their errors differ.

    Args:
        model: From input channels, those of the estimate excepted, to reflectance, NHWC.
        path: The file to write; it appears whole or not at all.
        contract: What the file promises.
        tiles: Input channels to check on, shape (batch, 256, 256, channel).
        half: Store large weights as fp16 (the arithmetic stays float32).

    Raises:
        InputError: The contract does not fit the model, or there are no tiles to check on.
        GeneratorError: The exported model strays from Keras by more than `TOLERANCE`.
    """
    depth = model.input_shape[-1], model.output_shape[-1]
    terms = json.dumps(contract.as_json())
    promised = Contract.parse(terms, path.name)
    own = [channel for channel in promised.input_channels if channel.source is not Source.ESTIMATE]
    if depth != (len(own), promised.output_channels):
        raise InputError(
            f"the contract names {len(own)} input and {promised.output_channels} output "
            f"channels, and the model has {depth[0]} and {depth[1]}; export it with its own contract"
        )
    if not len(tiles):
        raise InputError("an export is checked on real tiles, and none were given")
    onnx_model = _converted(model)
    if half:
        _store_half(onnx_model.graph)
    _check(onnx_model.SerializeToString(), model, tiles)
    if len(own) < len(promised.input_channels):
        average_with_estimate(onnx_model.graph)
    helper.set_model_props(onnx_model, {METADATA_KEY: terms})
    onnx.checker.check_model(onnx_model, full_check=True)
    _write(onnx_model.SerializeToString(), path)


def write_contract(path: Path, contract: Contract) -> None:
    """Give an exported model another contract, whole or not at all."""
    model = onnx.load(path)
    helper.set_model_props(model, {METADATA_KEY: json.dumps(contract.as_json())})
    _write(model.SerializeToString(), path)


def _converted(model: keras.Model) -> onnx.ModelProto:
    """The model as ONNX, NCHW outside, its input and output named."""
    channels = model.input_shape[-1]
    inputs = keras.Input((channels, TILE, TILE), name=INPUT)
    outputs = model(keras.layers.Permute((2, 3, 1))(inputs))
    whole = keras.Model(inputs, keras.layers.Permute((3, 1, 2), name=OUTPUT)(outputs))
    whole(keras.ops.zeros((1, channels, TILE, TILE)))  # Keras exports only what was called once
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.onnx"
        if keras.backend.backend() == "tensorflow":
            whole.export(file, format="onnx", verbose=False)
        else:
            _converted_elsewhere(whole, file)
        converted = onnx.load(file)
    graph = converted.graph
    _rename(graph, {graph.input[0].name: INPUT, graph.output[0].name: OUTPUT})
    for value, bands in ((graph.input[0], channels), (graph.output[0], model.output_shape[-1])):
        shape = ["batch", bands, TILE, TILE]
        value.CopyFrom(helper.make_tensor_value_info(value.name, TensorProto.FLOAT, shape))
    del graph.value_info[:]  # shapes noted along the way: they are inferred anew
    return converted


def average_with_estimate(graph: onnx.GraphProto) -> None:
    """Let a network take the estimate of its bands in further channels, and give the mean of the two.

    Where there is no estimate, 0, the network's value stays. Its uncertainty passes through.

    Args:
        graph: From channels to three bands and their uncertainty, NCHW; changed in place.
    """
    taken, given = graph.input[0], graph.output[0]
    depth = taken.type.tensor_type.shape.dim[1].dim_value
    bands = given.type.tensor_type.shape.dim[1].dim_value - 1
    _rename(graph, {taken.name: "own_channels", given.name: "own_output"})
    places = {"start": 0, "depth": depth, "end": depth + bands, "bands": bands, "last": bands + 1, "axis": 1}
    constants: dict[str, NDArray[Any]] = {name: np.array([at], np.int64) for name, at in places.items()}
    constants |= {"zero": np.zeros(1, np.float32), "half": np.full(1, 0.5, np.float32)}
    graph.initializer.extend(
        numpy_helper.from_array(value, f"constant_{name}") for name, value in constants.items()
    )

    def cut(source: str, start: str, end: str, result: str) -> onnx.NodeProto:
        names = [source, *(f"constant_{name}" for name in (start, end, "axis"))]
        return helper.make_node("Slice", names, [result])

    nodes = [
        cut(INPUT, "start", "depth", "own_channels"),
        cut(INPUT, "depth", "end", "estimate"),
        *graph.node,
        cut("own_output", "start", "bands", "own_bands"),
        cut("own_output", "bands", "last", "own_uncertainty"),
        helper.make_node("Add", ["own_bands", "estimate"], ["mean_sum"]),
        helper.make_node("Mul", ["mean_sum", "constant_half"], ["mean_bands"]),
        helper.make_node("Greater", ["estimate", "constant_zero"], ["estimated"]),
        helper.make_node("Where", ["estimated", "mean_bands", "own_bands"], ["combined_bands"]),
        helper.make_node("Concat", ["combined_bands", "own_uncertainty"], [OUTPUT], axis=1),
    ]
    del graph.node[:]
    graph.node.extend(nodes)
    for value, name, channels in ((taken, INPUT, depth + bands), (given, OUTPUT, bands + 1)):
        shape = ["batch", channels, TILE, TILE]
        value.CopyFrom(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))


def _converted_elsewhere(model: keras.Model, file: Path) -> None:
    """Write ONNX by a process in which Keras runs on TensorFlow: that way there is one exporter."""
    if importlib.util.find_spec("tensorflow") is None:
        raise GeneratorError(
            "the export to ONNX goes through TensorFlow, which is not installed; "
            "install it and resume the run: its best weights are kept"
        )
    saved = file.with_suffix(".keras")
    model.save(saved)
    code = (
        "import sys, keras, cloudgan.training.models.scaling, cloudgan.training.models.temporal\n"
        "model = keras.models.load_model(sys.argv[1], compile=False)\n"
        "model(keras.ops.zeros((1, *model.input_shape[1:])))\n"
        "model.export(sys.argv[2], format='onnx', verbose=False)\n"
    )
    environment = {**os.environ, "KERAS_BACKEND": "tensorflow"}
    words = [sys.executable, "-c", code, str(saved), str(file)]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        why = (done.stderr.strip() or "no message").split("\n")[-1]
        raise GeneratorError(f"the export to ONNX by TensorFlow failed: {why}")


def _rename(graph: onnx.GraphProto, names: Mapping[str, str]) -> None:
    for value in (*graph.input, *graph.output):
        value.name = names.get(value.name, value.name)
    for node in graph.node:
        for values in (node.input, node.output):
            values[:] = [names.get(name, name) for name in values]


def _store_half(graph: onnx.GraphProto) -> None:
    """Large weights as fp16, each cast to float32 before use: half the file, the same arithmetic."""
    casts = []
    for weights in graph.initializer:
        values = numpy_helper.to_array(weights)
        if values.dtype != np.float32 or values.size < _LARGE:
            continue
        if np.abs(values).max() > np.finfo(np.float16).max:
            continue
        stored = f"{weights.name}_half"
        casts.append(helper.make_node("Cast", [stored], [weights.name], to=TensorProto.FLOAT))
        weights.CopyFrom(numpy_helper.from_array(values.astype(np.float16), stored))
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)


def _check(content: bytes, model: keras.Model, tiles: NDArray[np.float32]) -> None:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    (exported,) = session.run([OUTPUT], {INPUT: np.ascontiguousarray(np.moveaxis(tiles, -1, 1), np.float32)})
    wanted = np.moveaxis(np.asarray(model.predict_on_batch(tiles)), -1, 1)
    difference = float(np.abs(exported - wanted).max())
    if not difference <= TOLERANCE:
        raise GeneratorError(
            f"the exported model strays from Keras by {difference:.2g} reflectance, more than {TOLERANCE}; "
            "nothing was written"
        )


def _write(content: bytes, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_bytes(content)
    partial.replace(path)

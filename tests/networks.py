"""Small ONNX generators with a contract, made by hand: what they compute is known, and takes no time."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

BANDS = ("green", "red", "nir")


def write_network(
    path: Path,
    *,
    channels: Sequence[str] = tuple(f"cloudy:{band}" for band in BANDS),
    bands: Sequence[str] = BANDS,
    tile: int = 32,
    contract: object = ...,
    buffer: int = 5,
    predicts_uncertainty: bool = False,
) -> Path:
    """Write a generator that averages all input planes around a pixel, each band with a gain of its own.

    Its zero padding makes a prediction depend on where in its tile a pixel lies, as a U-Net's does, so that
    a moved lattice, a wrong weight or a halo that was not read shows. What it predicts_uncertainty of its error is a
    tenth of that average.
    """
    size = 2 * buffer + 1
    gains = np.array([*np.linspace(0.5, 1.5, len(bands)), *[0.1] * predicts_uncertainty]) / (
        len(channels) * size * size
    )
    kernel = np.broadcast_to(gains[:, None, None, None], (len(gains), len(channels), size, size))
    graph = helper.make_graph(
        [helper.make_node("Conv", ["planes", "kernel"], ["declouded"], pads=[buffer] * 4)],
        "mean",
        [helper.make_tensor_value_info("planes", TensorProto.FLOAT, ["batch", len(channels), tile, tile])],
        [helper.make_tensor_value_info("declouded", TensorProto.FLOAT, ["batch", len(gains), tile, tile])],
        [numpy_helper.from_array(kernel.astype(np.float32), "kernel")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    if contract is ...:
        contract = {
            "format": 1,
            "name": "mean",
            "version": "1",
            "planes": list(channels),
            "bands": list(bands),
            "tile": tile,
        } | ({"predicts_uncertainty": True} if predicts_uncertainty else {})
    if contract is not None:
        text = contract if isinstance(contract, str) else json.dumps(contract)
        helper.set_model_props(model, {"cloudgan": text})
    onnx.save(model, path)
    return path

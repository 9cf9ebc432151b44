"""Small ONNX generators with a contract, made by hand, whose results are known and take no time."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

DETECTOR = {
    "format": 1,
    "name": "bright",
    "version": "1",
    "input_bands": ["red", "green"],
    "mean": [0.1, 0.1],
    "scale": [0.5, 0.25],
    "tile": 32,
    "classes": ["clear", "cloud"],
    "masked": ["cloud"],
}
"""Contract of the mask detector of `write_detector`."""


def write_detector(path: Path, *, contract: object = DETECTOR, bands: int = 2, gain: float = 1.0) -> Path:
    """Write a mask detector that calls a pixel cloud where the mean around it is above zero.

    Its zero padding makes a class depend on where in its tile a pixel lies.
    """
    kernel = np.full((2, bands, 11, 11), gain / (bands * 121), np.float32)
    kernel[0] *= -1
    graph = helper.make_graph(
        [helper.make_node("Conv", ["bands", "kernel"], ["classes"], pads=[5] * 4)],
        "bright",
        [helper.make_tensor_value_info("bands", TensorProto.FLOAT, ["batch", bands, 32, 32])],
        [helper.make_tensor_value_info("classes", TensorProto.FLOAT, ["batch", 2, 32, 32])],
        [numpy_helper.from_array(kernel, "kernel")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    if contract is not None:
        text = contract if isinstance(contract, str) else json.dumps(contract)
        helper.set_model_props(model, {"cloudgan_mask": text})
    onnx.save(model, path)
    return path


BANDS = ("green", "red", "nir")
TIME_CHANNELS = (
    "target:green",
    "mask",
    "nearest-before:green",
    "nearest-before:days",
    "nearest-after:green",
    "nearest-after:days",
)
"""Input channels of a generator that uses other dates."""


def write_network(
    path: Path,
    *,
    channels: Sequence[str] = tuple(f"target:{band}" for band in BANDS),
    bands: Sequence[str] = BANDS,
    tile: int = 32,
    contract: object = ...,
    radius: int = 5,
    predicts_uncertainty: bool = False,
    gain: float = 1.0,
) -> Path:
    """Write a generator that averages all input channels around a pixel, each band with a gain of its own.

    Its zero padding makes a prediction depend on where in its tile a pixel lies, as that of a U-Net does, so
    that a moved lattice, a wrong weight or a halo that was not read shows. The uncertainty that it predicts
    is a tenth of that average.
    """
    size = 2 * radius + 1
    gains = np.array([*np.linspace(0.5, 1.5, len(bands)), *[0.1] * predicts_uncertainty])
    gains *= gain / (len(channels) * size * size)
    kernel = np.broadcast_to(gains[:, None, None, None], (len(gains), len(channels), size, size))
    graph = helper.make_graph(
        [helper.make_node("Conv", ["channels", "kernel"], ["declouded"], pads=[radius] * 4)],
        "mean",
        [helper.make_tensor_value_info("channels", TensorProto.FLOAT, ["batch", len(channels), tile, tile])],
        [helper.make_tensor_value_info("declouded", TensorProto.FLOAT, ["batch", len(gains), tile, tile])],
        [numpy_helper.from_array(kernel.astype(np.float32), "kernel")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    if contract is ...:
        contract = {
            "format": 2,
            "name": "mean",
            "version": "1",
            "input_channels": list(channels),
            "output_bands": list(bands),
            "tile": tile,
            "predicts_uncertainty": predicts_uncertainty,
        }
    if contract is not None:
        text = contract if isinstance(contract, str) else json.dumps(contract)
        helper.set_model_props(model, {"cloudgan": text})
    onnx.save(model, path)
    return path

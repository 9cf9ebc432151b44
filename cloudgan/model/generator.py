"""A generator: one ONNX file and the contract it carries, run by ONNX Runtime, one session per process."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cloudgan.defaults import MODEL
from cloudgan.errors import GeneratorError
from cloudgan.model.contract import METADATA_KEY, Channel, Contract, Source

# ONNX Runtime reports its use over the network, in its Linux wheels since 1.29, unless that is disabled
# before it is imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
import onnxruntime as ort

_BATCH_NAME = "batch"  # of the first dimension of what the export writes; of other names nothing is known
_GPU_BATCH = 16  # one fixed shape: a GPU picks its kernels, and their rounding, by the shape

Device = Literal["cpu", "gpu", "auto"]


@dataclass(frozen=True, slots=True)
class Generator:
    """A checked model file that turns input channels into declouded tiles. It pickles without its session."""

    contract: Contract = field(compare=False)
    """What it asks for and gives."""
    network: Contract = field(compare=False)
    """What the network in the file asks for and gives: the same, but where other bands were asked for."""
    digest: str
    """SHA-256 of what decides its output, in hex: the model file without its contract and other notes."""
    file_digest: str = field(compare=False)
    """SHA-256 of the model file, in hex."""
    model: bytes = field(repr=False, compare=False)
    """The ONNX file itself: workers on other machines need not see the client's disk."""
    device: Device = "cpu"
    """Where it runs: "gpu" insists on CUDA, "auto" takes it where it works."""

    @classmethod
    def load(
        cls,
        source: str | Path | None = None,
        device: Device = "cpu",
        bands: Sequence[str] | None = None,
    ) -> Generator:
        """Read and check a model file.

        Args:
            source: Path of an ONNX file, or name of a model that ships with cloudgan; None is the default.
            device: Where it is to run.
            bands: Common names of the bands to give; those of the network by default. Bands that the network
                does not give are estimated from all dates, see `cloudgan.estimation`.

        Raises:
            GeneratorError: The file is missing, broken, foreign, or its shapes differ from its contract.
            InputError: The network uses no other dates, from which further bands could be estimated.
        """
        path = _shipped().get(str(source or MODEL)) or Path(str(source))
        try:
            model = path.read_bytes()
        except OSError as error:
            raise GeneratorError(
                f"no model file at {source} ({error.strerror}); give the path of an ONNX file or one of "
                f"{', '.join(sorted(_shipped()))}"
            ) from error
        try:
            session = open_session(model, ("CPUExecutionProvider",), is_run=False)
            metadata = session.get_modelmeta().custom_metadata_map
        except Exception as error:  # ONNX Runtime raises a dozen unrelated types
            raise GeneratorError(
                f"{path} is not a readable ONNX model ({_first_line(error)}); is it whole?"
            ) from error
        network = Contract.parse(metadata.get(METADATA_KEY), str(path))
        _check_shapes(session, network, path)
        file_digest = hashlib.sha256(model).hexdigest()
        generator = cls(network, network, graph_digest(model), file_digest, model, device)
        return generator if bands is None else generator.give(bands)

    def give(self, bands: Sequence[str]) -> Generator:
        """The same generator for other bands: see `load`."""
        return replace(self, contract=self.network.give(bands))

    @property
    def runs_on(self) -> str:
        """What this process runs it on, "cpu" or "gpu": their rounding differs."""
        return "cpu" if _session(self).get_providers()[0] == "CPUExecutionProvider" else "gpu"

    @property
    def batch(self) -> int:
        """Tiles per call: one on a CPU, a fixed number on a GPU."""
        return 1 if self.runs_on == "cpu" else _GPU_BATCH

    def __call__(self, channels: NDArray[np.float32]) -> NDArray[np.float32]:
        """Generate tiles.

        Args:
            channels: Shape (batch, channels, tile, tile), float32, in the contract's order and units.

        Returns:
            Reflectance, shape (batch, bands, tile, tile), float32; where the contract `predicts_uncertainty`,
            with one channel more.
        """
        session = _session(self)
        size = self.batch
        out = []
        for start in range(0, len(channels), size):
            part = channels[start : start + size]
            padded = np.concatenate([part, np.zeros((size - len(part), *part.shape[1:]), part.dtype)])
            out.append(self._select(self._run(session, padded), padded)[: len(part)])
        return np.concatenate(out)

    def _select(self, given: NDArray[np.float32], channels: NDArray[np.float32]) -> NDArray[np.float32]:
        """The bands that are asked for: of the network's output, or of the estimates among the channels."""
        if self.contract is self.network:
            return given
        own = self.network.output_bands
        asked = self.contract.input_channels
        parts = [
            given[:, own.index(band)]
            if band in own
            else channels[:, asked.index(Channel(Source.ESTIMATE, band))]
            for band in self.contract.output_bands
        ]
        if self.network.predicts_uncertainty:
            parts.append(given[:, -1])
        return np.stack(parts, axis=1)

    def _run(self, session: ort.InferenceSession, channels: NDArray[np.float32]) -> NDArray[np.float32]:
        name, tile = self.contract.name, self.contract.tile
        own = np.ascontiguousarray(channels[:, : len(self.network.input_channels)])
        try:
            (result,) = session.run(None, {session.get_inputs()[0].name: own})
        except Exception as error:  # ONNX Runtime raises a dozen unrelated types
            raise GeneratorError(
                f"the model {name} failed ({_first_line(error)}); is the file intact?"
            ) from error
        wanted = (len(channels), self.network.output_channels, tile, tile)
        if result.shape != wanted:
            raise GeneratorError(
                f"the model {name} gave an array of shape {result.shape}, where its contract states "
                f"{wanted}; export it again"
            )
        return np.asarray(result)


@cache
def _shipped() -> dict[str, Path]:
    folder = Path(str(resources.files("cloudgan.model") / "weights"))
    return {path.stem: path for path in sorted(folder.glob("*.onnx"))}


def open_session(
    model: bytes, providers: tuple[str, ...], *, batch: int | None = None, is_run: bool = True
) -> ort.InferenceSession:
    """A session of ONNX Runtime on one thread, which reads no other file.

    Args:
        model: The ONNX file.
        providers: What it may run on, in order.
        batch: Tiles of every call, where they are always as many: known shapes are planned once.
        is_run: Whether it is going to run; one that is only asked about itself is not optimised.
    """
    options = ort.SessionOptions()
    if batch is not None:
        options.add_free_dimension_override_by_name(_BATCH_NAME, batch)
    if not is_run:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    # Workers run side by side, one unit each: more threads per call gain 1.3 x at most, and only idle cores.
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # The digest covers one file: a model may not refer to another file for its weights.
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", os.devnull)
    return ort.InferenceSession(model, options, providers=list(providers))


@cache  # a session cannot be pickled and costs seconds: one per process and model
def _session(generator: Generator) -> ort.InferenceSession:
    wants_gpu = generator.device == "gpu" or (
        generator.device == "auto" and "CUDAExecutionProvider" in ort.get_available_providers()
    )
    if not wants_gpu:
        return open_session(generator.model, ("CPUExecutionProvider",), batch=1)
    ort.preload_dlls()  # CUDA and cuDNN from the wheels that the extra [gpu] brings
    session = open_session(generator.model, ("CUDAExecutionProvider", "CPUExecutionProvider"))
    if generator.device == "gpu" and session.get_providers()[0] != "CUDAExecutionProvider":
        raise GeneratorError(
            "a GPU was asked for, but ONNX Runtime cannot use one here; install cloudgan[gpu] and the CUDA "
            "libraries it names, or run on the CPU"
        )
    return session


_NOTES = {2, 3, 4, 6, 14}  # fields of ModelProto: producer's name and version, domain, text, metadata


def graph_digest(model: bytes) -> str:
    """SHA-256 of an ONNX file without the fields that change no result, in hex.

    A model card may be corrected, or a contract written in a newer format, without a change of the digest.

    Raises:
        GeneratorError: The bytes are no protocol buffer.
    """
    kept = hashlib.sha256()
    at = 0
    try:
        while at < len(model):
            key, body = _varint(model, at)
            kind = key & 7
            if kind == 2:
                size, start = _varint(model, body)
                end = start + size
            elif kind == 0:
                _, end = _varint(model, body)
            else:
                end = body + {1: 8, 5: 4}[kind]
            if key >> 3 not in _NOTES:
                kept.update(memoryview(model)[at:end])
            at = end
    except (IndexError, KeyError) as error:
        raise GeneratorError("the model file is no ONNX model; is it whole?") from error
    return kept.hexdigest()


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """A number of a protocol buffer, and where it ends."""
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at


def _first_line(error: Exception) -> str:
    return str(error).split("\n", maxsplit=1)[0]


def _check_shapes(session: ort.InferenceSession, contract: Contract, path: Path) -> None:
    """Refuse a file whose input or output does not have the shape that its contract states."""
    tile = contract.tile
    for kind, values, depth in (
        ("input", session.get_inputs(), len(contract.input_channels)),
        ("output", session.get_outputs(), contract.output_channels),
    ):
        wanted = [depth, tile, tile]
        if len(values) != 1 or list(values[0].shape[1:]) != wanted or values[0].type != "tensor(float)":
            found = ", ".join(f"{value.name} {value.type} {value.shape}" for value in values)
            raise GeneratorError(
                f"{path} should have one float32 {kind} of shape (batch, {depth}, {tile}, {tile}) by its "
                f"contract, but has {found}; export the model again"
            )

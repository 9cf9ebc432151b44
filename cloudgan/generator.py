"""A generator: one ONNX file and the contract it carries, run by ONNX Runtime, one session per process."""

from __future__ import annotations

import hashlib
import json
import os
import re
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cloudgan.errors import GeneratorError

# ONNX Runtime reports its use over the network, in its Linux wheels since 1.29, unless told not to before
# it is imported; what a user processes is nobody's business.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
import onnxruntime as ort

METADATA_KEY = "cloudgan"
"""Key of the contract in the ONNX file's metadata."""
FORMAT = 1
"""Version of the contract's own form."""

_PLANE = re.compile(
    r"mask|cloudy:[a-z0-9]+|(?P<nearest>before|after):[a-z0-9]+|(?P<dated>earlier|later)(?P<order>[2-9]?):[a-z0-9]+"
)
# Bands become arrays of the store, beside these.
_BAND = re.compile(r"(?!(time|y|x|provenance|spread|ledger|scl)$)[a-z][a-z0-9]*")
_GPU_BATCH = 16  # one fixed shape: a GPU picks its kernels, and their rounding, by the shape

Device = Literal["cpu", "gpu", "auto"]


@dataclass(frozen=True, slots=True)
class Contract:
    """What a generator asks for and gives: the JSON in its file, checked."""

    name: str
    """Name of the model, such as "temporal"."""
    version: str
    """Version of the model."""
    planes: tuple[str, ...]
    """Input planes in order: `cloudy:BAND`, `mask`; `before:BAND`, `before:age`, `after:BAND`, `after:age` of
    the nearest clear look of each pixel; `earlier:BAND`, `earlier:age`, `earlier2:BAND`... `later:BAND`... of
    the nearest dates that show much of the tile, see `clouds.dated_looks`.
    Bands are reflectance (1.0 is 100 %, 0 no data), the mask is 1 where hidden, ages are days, 0 if none."""
    bands: tuple[str, ...]
    """Output bands in order, reflectance."""
    tile: int
    """Edge of a tile in pixels."""
    foretells: bool = False
    """Whether a last output plane foretells the absolute error of the bands, reflectance, mean over them."""
    training: dict[str, Any] = field(default_factory=dict)
    """How the model was trained and what it scored: the model card."""

    @classmethod
    def parse(cls, text: str | None, source: str) -> Contract:
        """The contract written in an ONNX file's metadata.

        Args:
            text: The JSON, or None where the file has none.
            source: What to call the file in an error.

        Raises:
            GeneratorError: There is no contract, or it is not one this version understands.
        """
        remedy = "use a file that cloudgan's training exported"
        if text is None:
            raise GeneratorError(f"{source} is an ONNX model without a cloudgan contract; {remedy}")
        try:
            raw = json.loads(text)
            if raw["format"] != FORMAT:
                raise GeneratorError(
                    f"{source} has a contract of format {raw['format']}, and {FORMAT} is read here; {remedy}"
                )
            contract = cls(
                name=str(raw["name"]),
                version=str(raw["version"]),
                planes=tuple(raw["planes"]),
                bands=tuple(raw["bands"]),
                tile=int(raw["tile"]),
                foretells=bool(raw.get("foretells", False)),
                training=dict(raw.get("training", {})),
            )
        except (KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
            raise GeneratorError(f"{source} has a broken contract ({error!r}); {remedy}") from error
        unknown = [
            plane for plane in contract.planes if not isinstance(plane, str) or not _PLANE.fullmatch(plane)
        ]
        named = all(isinstance(band, str) and _BAND.fullmatch(band) for band in contract.bands)
        if unknown or not contract.planes or not contract.bands or not named or contract.tile <= 0:
            raise GeneratorError(
                f"{source} asks for planes {list(contract.planes)} of {contract.tile} pixels and gives bands "
                f"{list(contract.bands)}, which cloudgan cannot supply; {remedy}"
            )
        return contract

    @property
    def outputs(self) -> int:
        """Planes that come out."""
        return len(self.bands) + self.foretells

    @property
    def input_bands(self) -> tuple[str, ...]:
        """Bands that must be read: those of the planes and those of the output, each once, in order."""
        named = [plane.partition(":")[2] for plane in self.planes if ":" in plane]
        return tuple(dict.fromkeys([*self.bands, *(name for name in named if name != "age")]))

    @property
    def depth(self) -> int:
        """How many dates of a tile's own it asks for on each side."""
        named = [_PLANE.fullmatch(plane) for plane in self.planes]
        return max([int(match["order"] or 1) for match in named if match and match["dated"]], default=0)

    @property
    def sees_time(self) -> bool:
        """Whether it asks for clear looks at other dates, and so can fill gaps without data."""
        named = [_PLANE.fullmatch(plane) for plane in self.planes]
        return any(match["nearest"] or match["dated"] for match in named if match)


@dataclass(frozen=True, slots=True)
class Generator:
    """A checked model file that turns planes into declouded tiles; it pickles, its session stays behind."""

    contract: Contract = field(compare=False)
    """What it asks for and gives."""
    digest: str
    """SHA-256 of the model file, in hex."""
    model: bytes = field(repr=False, compare=False)
    """The ONNX file itself: workers on other machines need not see the client's disk."""
    device: Device = "cpu"
    """Where it runs: "gpu" insists on CUDA, "auto" takes it where it works."""

    @classmethod
    def load(cls, source: str | Path | None = None, device: Device = "cpu") -> Generator:
        """Read and check a model file.

        Args:
            source: Path of an ONNX file, or name of a model that ships with cloudgan; None is the default.
            device: Where it is to run.

        Raises:
            GeneratorError: The file is missing, broken, foreign, or its shapes belie its contract.
        """
        path = _shipped().get(str(source or DEFAULT)) or Path(str(source))
        try:
            model = path.read_bytes()
        except OSError as error:
            raise GeneratorError(
                f"no model file at {source} ({error.strerror}); give the path of an ONNX file or one of "
                f"{', '.join(sorted(_shipped()))}"
            ) from error
        try:
            session = _open(model, ("CPUExecutionProvider",))
            metadata = session.get_modelmeta().custom_metadata_map
        except Exception as error:  # ONNX Runtime raises a dozen unrelated types
            raise GeneratorError(
                f"{path} is not a readable ONNX model ({_first_line(error)}); is it whole?"
            ) from error
        contract = Contract.parse(metadata.get(METADATA_KEY), str(path))
        _check_shapes(session, contract, path)
        return cls(contract, hashlib.sha256(model).hexdigest(), model, device)

    @property
    def runs_on(self) -> str:
        """What this process runs it on, "cpu" or "gpu": their rounding differs."""
        return "cpu" if _session(self).get_providers()[0] == "CPUExecutionProvider" else "gpu"

    @property
    def batch(self) -> int:
        """Tiles per call: one on a CPU, a fixed number on a GPU."""
        return 1 if self.runs_on == "cpu" else _GPU_BATCH

    def __call__(self, planes: NDArray[np.float32]) -> NDArray[np.float32]:
        """Generate tiles.

        Args:
            planes: Shape (batch, planes, tile, tile), float32, in the contract's order and units.

        Returns:
            Reflectance, shape (batch, bands, tile, tile), float32; where the contract `foretells`, with
            one plane more.
        """
        session = _session(self)
        size = self.batch
        out = []
        for start in range(0, len(planes), size):
            part = planes[start : start + size]
            padded = np.concatenate([part, np.zeros((size - len(part), *part.shape[1:]), part.dtype)])
            out.append(self._run(session, padded)[: len(part)])
        return np.concatenate(out)

    def _run(self, session: ort.InferenceSession, planes: NDArray[np.float32]) -> NDArray[np.float32]:
        name, tile = self.contract.name, self.contract.tile
        try:
            (result,) = session.run(None, {session.get_inputs()[0].name: planes})
        except Exception as error:  # ONNX Runtime raises a dozen unrelated types
            raise GeneratorError(f"the model {name} failed ({_first_line(error)}); is it sound?") from error
        wanted = (len(planes), self.contract.outputs, tile, tile)
        if result.shape != wanted:
            raise GeneratorError(
                f"the model {name} gave an array of shape {result.shape}, where {wanted} was promised; "
                "export it again"
            )
        return np.asarray(result)


DEFAULT = "temporal"
"""Name of the model that is used where none is asked for."""


@cache
def _shipped() -> dict[str, Path]:
    folder = Path(str(resources.files("cloudgan") / "models"))
    return {path.stem: path for path in sorted(folder.glob("*.onnx"))}


def _open(model: bytes, providers: tuple[str, ...]) -> ort.InferenceSession:
    options = ort.SessionOptions()
    # Workers run side by side, one unit each: more threads per call gain 1.3 x at most, and only idle cores.
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # A model is one file, of which the digest speaks: it may name no other for its weights.
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", os.devnull)
    return ort.InferenceSession(model, options, providers=list(providers))


@cache  # a session cannot be pickled and costs seconds: one per process and model
def _session(generator: Generator) -> ort.InferenceSession:
    wants_gpu = generator.device == "gpu" or (
        generator.device == "auto" and "CUDAExecutionProvider" in ort.get_available_providers()
    )
    if not wants_gpu:
        return _open(generator.model, ("CPUExecutionProvider",))
    ort.preload_dlls()  # CUDA and cuDNN from the wheels that the extra [gpu] brings
    session = _open(generator.model, ("CUDAExecutionProvider", "CPUExecutionProvider"))
    if generator.device == "gpu" and session.get_providers()[0] != "CUDAExecutionProvider":
        raise GeneratorError(
            "a GPU was asked for, but ONNX Runtime cannot use one here; install cloudgan[gpu] and the CUDA "
            "libraries it names, or run on the CPU"
        )
    return session


def _first_line(error: Exception) -> str:
    return str(error).split("\n", maxsplit=1)[0]


def _check_shapes(session: ort.InferenceSession, contract: Contract, path: Path) -> None:
    """Refuse a file whose input or output has not the shape that its contract promises."""
    tile = contract.tile
    for kind, values, depth in (
        ("input", session.get_inputs(), len(contract.planes)),
        ("output", session.get_outputs(), contract.outputs),
    ):
        wanted = [depth, tile, tile]
        if len(values) != 1 or list(values[0].shape[1:]) != wanted or values[0].type != "tensor(float)":
            found = ", ".join(f"{value.name} {value.type} {value.shape}" for value in values)
            raise GeneratorError(
                f"{path} should have one float32 {kind} of shape (batch, {depth}, {tile}, {tile}) by its "
                f"contract, but has {found}; export the model again"
            )

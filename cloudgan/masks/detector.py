"""A mask detector: an ONNX network that finds cloud and shadow in one image, run by ONNX Runtime."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib import resources
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cloudgan.errors import DetectorError
from cloudgan.geo.grid import Window
from cloudgan.masks.contract import METADATA_KEY, DetectorContract
from cloudgan.model.generator import graph_digest, open_session
from cloudgan.schema import MaskSource
from cloudgan.sentinel2.bands import to_reflectance

CSMASK = "csmask"
"""Name of the detector of the package ukis-csmask."""
_CONTEXT = 8  # the share of a tile's edge, one in so many, that is context alone on each side
_SESSIONS: dict[str, Any] = {}  # one a process and detector: it cannot be pickled, and costs a second


@dataclass(frozen=True)
class DetectorSpec:
    """What a plan must know of a detector."""

    contract: DetectorContract
    """What it asks for and gives."""
    digest: str
    """SHA-256 of the network, in hex."""
    source: MaskSource
    """What the store calls it."""

    @property
    def margin(self) -> int:
        """Pixels at each side of a tile that are context alone."""
        return self.contract.tile // _CONTEXT

    @property
    def stride(self) -> int:
        """Distance of the tiles in pixels, which is the edge of what each decides."""
        return self.contract.tile - 2 * self.margin

    def tiles(self, window: Window) -> list[Window]:
        """The tiles that decide the pixels of a window; each pixel is decided by one, whatever the window."""
        rows, cols = (
            range((low - self.margin) // self.stride, (high - 1 - self.margin) // self.stride + 1)
            for low, high in ((window.row, window.bottom), (window.col, window.right))
        )
        size = self.contract.tile
        return [Window(row * self.stride, col * self.stride, size, size) for row in rows for col in cols]

    def core(self, tile: Window) -> Window:
        """The pixels that a tile decides."""
        return Window(tile.row + self.margin, tile.col + self.margin, self.stride, self.stride)

    def cover(self, window: Window) -> Window:
        """What must be read to find the clouds of a window."""
        tiles = self.tiles(window)
        return Window.between(tiles[0].row, tiles[0].col, tiles[-1].bottom, tiles[-1].right)

    def identify(self) -> list[str]:
        """What of it decides a byte of the store."""
        text = json.dumps(self.contract.as_json(), sort_keys=True)
        return [self.contract.name, hashlib.sha256((text + self.digest).encode()).hexdigest()[:16]]


def cover_detectors(window: Window, detectors: Sequence[DetectorSpec]) -> Window:
    """What must be read for detectors to find the clouds of a window; itself where there are none."""
    windows = [window, *(one.cover(window) for one in detectors)]
    return Window.between(
        min(one.row for one in windows),
        min(one.col for one in windows),
        max(one.bottom for one in windows),
        max(one.right for one in windows),
    )


@dataclass(frozen=True)
class Detector:
    """A checked detector. It pickles without its session."""

    spec: DetectorSpec
    """What it asks for and gives."""
    model: bytes = field(repr=False, compare=False)
    """The ONNX file itself: workers on other machines need not see the client's disk."""

    @classmethod
    def load(cls, path: str | Path) -> Detector:
        """Read and check a detector's file.

        Raises:
            DetectorError: The file is missing, broken, foreign, or its shapes differ from its contract.
        """
        model = _read(Path(path), f"no mask detector at {path}", "give the path of an ONNX file")
        session = _open(model, str(path))
        text = session.get_modelmeta().custom_metadata_map.get(METADATA_KEY)
        contract = DetectorContract.parse(text, str(path))
        return cls._of(contract, MaskSource.DETECTOR, model, session, str(path))

    @classmethod
    def load_csmask(cls, available: Sequence[str]) -> Detector:
        """The detector of the package ukis-csmask: of six bands if these are read anyway, else of four.

        Args:
            available: Common names of the bands that are read in any case.

        Raises:
            DetectorError: The package is not installed, or is not the one that is known here.
        """
        if find_spec("ukis_csmask") is None:
            raise DetectorError(
                "the mask csmask is not installed; pip install 'cloudgan[masks]', or give --mask scl"
            )
        # Its own code is not imported: it opens a session an image. Importing the package runs none of it.
        folder = resources.files("ukis_csmask")
        kind = "6b" if {"swir16", "swir22"} <= set(available) else "4b"
        file, remedy = Path(str(folder / f"model_{kind}_l2a.onnx")), "install cloudgan[masks] again"
        model = _read(file, f"the mask csmask lacks its file {file.name}", remedy)
        notes = _read(file.with_suffix(".json"), f"the mask csmask lacks its file {file.stem}.json", remedy)
        try:
            stated = json.loads(notes)
            data = stated["data"]
            mean, deviation = data["dataset_statistics"]["img"]
            contract = DetectorContract(
                name=CSMASK,
                version=str(stated["model"]["version"]),
                input_bands=tuple(data["dataset_statistics"]["band_names"]),
                mean=tuple(map(float, mean)),
                scale=tuple(map(float, deviation)),
                tile=int(data["target_size"][0]),
                classes=("clear", "cloud", "shadow"),
                masked=("cloud", "shadow"),
            )
            contract.check()
        except (KeyError, TypeError, ValueError) as error:
            raise DetectorError(
                f"the mask csmask has notes that are not understood ({error!r}); install ukis-csmask 1.0"
            ) from error
        return cls._of(contract, MaskSource.CSMASK, model, _open(model, file.name), file.name)

    @classmethod
    def _of(
        cls, contract: DetectorContract, source: MaskSource, model: bytes, session: Any, file: str
    ) -> Detector:
        _check_shapes(session, contract, file)
        return cls(DetectorSpec(contract, graph_digest(model), source), model)

    @cached_property
    def _session(self) -> Any:
        if self.spec.digest not in _SESSIONS:
            _SESSIONS[self.spec.digest] = open_session(self.model, ("CPUExecutionProvider",))
        return _SESSIONS[self.spec.digest]

    def __getstate__(self) -> dict[str, Any]:
        return {"spec": self.spec, "model": self.model}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)

    def detect(
        self, bands: Mapping[str, NDArray[np.uint16]], read: Window, window: Window
    ) -> NDArray[np.bool_]:
        """Find the cloud and shadow of one image.

        Args:
            bands: By common name: digital numbers over `read`, shape (y, x); 0 is no data.
            read: Where they lie; what lacks of `cover(window)` counts as no data.
            window: Where clouds are wanted.

        Returns:
            Shape of `window`. A pixel without data in a band of the detector's is not masked.

        Raises:
            DetectorError: It gives values that are no numbers.
        """
        found = np.zeros(window.shape, np.bool_)
        for tile in self.spec.tiles(window):
            core = self.spec.core(tile).intersection(window)
            seen = tile.intersection(read)
            if core is None or seen is None:
                continue
            numbers = np.zeros((len(self.spec.contract.input_bands), *tile.shape), np.uint16)
            there, here = seen.slices_in(tile), seen.slices_in(read)
            for channel, name in enumerate(self.spec.contract.input_bands):
                numbers[channel][there] = bands[name][here]
            if numbers.any():
                found[core.slices_in(window)] = self._classify(numbers)[core.slices_in(tile)]
        return found

    def _classify(self, numbers: NDArray[np.uint16]) -> NDArray[np.bool_]:
        """What of a tile is masked, from digital numbers of shape (band, tile, tile)."""
        contract = self.spec.contract
        mean, scale = (
            np.array(values, np.float32)[:, None, None] for values in (contract.mean, contract.scale)
        )
        session, inputs = self._session, ((to_reflectance(numbers) - mean) / scale)[None]
        try:
            (scores,) = session.run(None, {session.get_inputs()[0].name: inputs})
        except Exception as error:  # ONNX Runtime raises a dozen unrelated types
            raise DetectorError(
                f"the mask detector {contract.name} failed ({_first_line(error)}); is the file intact?"
            ) from error
        if scores.shape != (1, len(contract.classes), contract.tile, contract.tile):
            raise DetectorError(
                f"the mask detector {contract.name} gave an array of shape {scores.shape}, not that of its "
                "contract; export it again"
            )
        known = (numbers > 0).all(axis=0)
        if broken := int(np.count_nonzero(~np.isfinite(scores[0][:, known]))):
            raise DetectorError(
                f"the mask detector {contract.name} gave {broken:,} values that are no numbers (NaN or "
                "infinite) in one tile; use another detector, or leave it out of --mask"
            )
        masked = [contract.classes.index(name) for name in contract.masked]
        found: NDArray[np.bool_] = np.isin(scores[0].argmax(axis=0), masked) & known
        return found


def detect_clouds(
    bands: Mapping[Any, Any], detectors: Sequence[Detector], read: Window, window: Window
) -> dict[MaskSource, NDArray[np.bool_]]:
    """What detectors find in all dates, by the name of the source, each of shape (time, *window.shape).

    Args:
        bands: By common name: arrays or DataArrays of digital numbers over `read`, shape (time, y, x).
        detectors: What is asked.
        read: Where the bands lie.
        window: Where clouds are wanted.
    """
    found: dict[MaskSource, NDArray[np.bool_]] = {}
    for one in detectors:
        arrays = {name: np.asarray(bands[name]) for name in one.spec.contract.input_bands}
        for at in range(len(next(iter(arrays.values())))):
            image = {name: array[at] for name, array in arrays.items()}
            cloudy = one.detect(image, read, window)
            if one.spec.source not in found:
                times = len(next(iter(arrays.values())))
                found[one.spec.source] = np.zeros((times, *window.shape), np.bool_)
            found[one.spec.source][at] |= cloudy
    return found


def _read(path: Path, what: str, remedy: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DetectorError(f"{what} ({error.strerror}); {remedy}") from error


def _open(model: bytes, file: str) -> Any:
    try:
        return open_session(model, ("CPUExecutionProvider",))
    except Exception as error:  # ONNX Runtime raises a dozen unrelated types
        raise DetectorError(
            f"{file} is not a readable ONNX model ({_first_line(error)}); is it whole?"
        ) from error


def _first_line(error: Exception) -> str:
    return str(error).split("\n", maxsplit=1)[0]


def _check_shapes(session: Any, contract: DetectorContract, file: str) -> None:
    """Refuse a file whose input or output cannot have the shape that its contract states."""
    tile = contract.tile
    for kind, values, depth in (
        ("input", session.get_inputs(), len(contract.input_bands)),
        ("output", session.get_outputs(), len(contract.classes)),
    ):
        wanted = [depth, tile, tile]
        fits = len(values) == 1 and values[0].type == "tensor(float)" and len(values[0].shape) == 4
        # A dimension without a number is free.
        if not fits or any(
            isinstance(one, int) and one != other
            for one, other in zip(values[0].shape[1:], wanted, strict=True)
        ):
            found = ", ".join(f"{value.name} {value.type} {value.shape}" for value in values)
            raise DetectorError(
                f"{file} should have one float32 {kind} of shape (batch, {depth}, {tile}, {tile}) by its "
                f"contract, but has {found}; export the detector again"
            )

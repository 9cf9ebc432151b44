"""The contract of a mask detector: the bands it takes and the classes it gives, as JSON in its file."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from typing import Any

from cloudgan.errors import DetectorError
from cloudgan.sentinel2.bands import BANDS

METADATA_KEY = "cloudgan_mask"
"""Key of the contract in the ONNX file's metadata."""
FORMAT = 1
"""Version of the contract's form."""
_SMALLEST, _LARGEST = 32, 2048  # edge of a tile in pixels
_NAME = re.compile(r"[ -~]{1,100}")
_MOST_CHARACTERS = 100_000
_REMEDY = "see docs/how-to/own-mask.md for the contract of a detector"


@dataclass(frozen=True, slots=True)
class DetectorContract:
    """What a detector asks for and gives: the JSON in its file, checked."""

    name: str
    """Name of the detector."""
    version: str
    """Its version."""
    input_bands: tuple[str, ...]
    """Common names of its bands in order."""
    mean: tuple[float, ...]
    """For each band, the reflectance that becomes 0."""
    scale: tuple[float, ...]
    """For each band, the reflectance by which the difference to `mean` is divided."""
    tile: int
    """Edge of a tile in pixels."""
    classes: tuple[str, ...]
    """Its output channels in order; a pixel has the class of the largest."""
    masked: tuple[str, ...]
    """The classes that are cloud or shadow."""

    @classmethod
    def parse(cls, text: str | None, file: str) -> DetectorContract:
        """The contract written in an ONNX file's metadata.

        Args:
            text: The JSON, or None where the file has none.
            file: What to call the file in an error.

        Raises:
            DetectorError: There is no contract, or it is not one that this version understands.
        """
        if text is None:
            raise DetectorError(f"{file} is an ONNX model without the contract of a mask detector; {_REMEDY}")
        try:
            if len(text) > _MOST_CHARACTERS:
                raise ValueError(f"it has more than {_MOST_CHARACTERS:,} characters")
            raw = json.loads(text)
            if raw["format"] != FORMAT:
                raise ValueError(f"it has format {raw['format']!r}, and format {FORMAT} is read")
            bands = _list_names(raw, "input_bands")
            contract = cls(
                name=str(raw["name"]),
                version=str(raw["version"]),
                input_bands=bands,
                mean=tuple(map(float, raw.get("mean", [0.0] * len(bands)))),
                scale=tuple(map(float, raw.get("scale", [1.0] * len(bands)))),
                tile=int(raw["tile"]),
                classes=_list_names(raw, "classes"),
                masked=_list_names(raw, "masked"),
            )
            contract.check()
        except (KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
            reason = f"{error.args[0]} is missing" if isinstance(error, KeyError) else str(error)
            raise DetectorError(
                f"{file} has a broken contract of a mask detector: {reason}; {_REMEDY}"
            ) from None
        return contract

    def check(self) -> None:
        """Make sure that it can be fulfilled.

        Raises:
            ValueError: It cannot.
        """
        if not (_NAME.fullmatch(self.name) and _NAME.fullmatch(self.version)):
            raise ValueError("name and version must have 1 to 100 plain characters")
        if unknown := [band for band in self.input_bands if band not in BANDS]:
            raise ValueError(f"there is no band {unknown[0]!r}, but {', '.join(BANDS)}")
        if len(self.mean) != len(self.input_bands) or len(self.scale) != len(self.input_bands):
            raise ValueError("mean and scale must have a number for each input band")
        if not all(map(math.isfinite, (*self.mean, *self.scale))) or min(self.scale) <= 0:
            raise ValueError("mean and scale must be finite numbers, and scale above zero")
        if not _SMALLEST <= self.tile <= _LARGEST or self.tile % 8:
            raise ValueError(f"tile must be a multiple of 8 from {_SMALLEST} to {_LARGEST}, not {self.tile}")
        if missing := [name for name in self.masked if name not in self.classes]:
            raise ValueError(f"masked names {missing[0]!r}, which is not among its classes")
        if len(self.masked) == len(self.classes):
            raise ValueError("masked names all of its classes, so nothing could be clear")

    def as_json(self) -> dict[str, Any]:
        """The contract as it is written into the file."""
        return {
            "format": FORMAT,
            "name": self.name,
            "version": self.version,
            "input_bands": list(self.input_bands),
            "mean": list(self.mean),
            "scale": list(self.scale),
            "tile": self.tile,
            "classes": list(self.classes),
            "masked": list(self.masked),
        }


def _list_names(raw: dict[str, Any], key: str) -> tuple[str, ...]:
    names = raw[key]
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise ValueError(f"{key} must be a list of names")
    if len(set(names)) < len(names):
        raise ValueError(f"{key} must name each once")
    return tuple(names)

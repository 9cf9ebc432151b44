"""The contract of a generator: which channels it takes and which bands it gives, as JSON in its ONNX file."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from cloudgan.errors import GeneratorError, InputError

METADATA_KEY = "cloudgan"
"""Key of the contract in the ONNX file's metadata."""
FORMAT = 2
"""Version of the contract's form that is written; format 1 is read too."""

# Bands become arrays of the store, beside these.
_BAND = re.compile(r"(?!(time|y|x|provenance|uncertainty|spread|ledger|scl|days|age)$)[a-z][a-z0-9]*")
MOST_CHARACTERS = 1_000_000
"""Characters of a contract at most, its model card included."""
_LONGEST_NAME = 200
_DEEPEST = 20  # lists and objects within each other
_LARGEST = 2**63  # of a whole number: what others who read the store's attributes can hold
_REMEDY = "use a file that cloudgan's training exported"


class Source(StrEnum):
    """Which image an input channel is taken from."""

    TARGET = "target"
    """The date whose clouds are removed."""
    MASK = "mask"
    """The mask of that date."""
    NEAREST_BEFORE = "nearest-before"
    """For each pixel on its own, the nearest clear date before."""
    NEAREST_AFTER = "nearest-after"
    """For each pixel on its own, the nearest clear date after."""
    BEFORE = "before"
    """A date before that shows enough of the tile clear: the same date all over the tile."""
    AFTER = "after"
    """A date after that shows enough of the tile clear: the same date all over the tile."""
    ESTIMATE = "estimate"
    """What the clear pixels of all dates tell of the target, see `cloudgan.estimation`; 0 where no other date
    is clear."""


_FORMAT_1 = {
    "cloudy": Source.TARGET,
    "mask": Source.MASK,
    "before": Source.NEAREST_BEFORE,
    "after": Source.NEAREST_AFTER,
    "earlier": Source.BEFORE,
    "later": Source.AFTER,
}
_PATTERN = re.compile(
    r"mask|(?P<single>target|nearest-before|nearest-after|estimate):(?P<of>[a-z0-9]+)"
    r"|(?P<dated>before|after)-(?P<order>[1-9]):(?P<what>[a-z0-9]+)"
)
_PATTERN_1 = re.compile(
    r"mask|(?P<single>cloudy|before|after):(?P<of>[a-z0-9]+)"
    r"|(?P<dated>earlier|later)(?P<order>[2-9]?):(?P<what>[a-z0-9]+)"
)


@dataclass(frozen=True, slots=True)
class Channel:
    """One input channel of a generator."""

    source: Source
    """Which image it is taken from."""
    band: str | None = None
    """Common name of a band, reflectance (1.0 is 100 %, 0 no data). None for the mask (1 where masked), and
    for the days to a clear date (0 where there is none)."""
    order: int = 1
    """Of `BEFORE` and `AFTER`: 1 is the date nearest to the target."""

    @classmethod
    def parse(cls, text: str, form: int = FORMAT) -> Channel:
        """A channel from its name, such as `target:red`, `mask`, `before-2:nir` or `after-1:days`.

        Args:
            text: The name.
            form: Format of the contract that it stands in; format 1 has other names.

        Raises:
            ValueError: There is no such channel.
        """
        match = (_PATTERN if form > 1 else _PATTERN_1).fullmatch(text)
        if match is None:
            raise ValueError(f"there is no input channel {text!r}")
        kind = match["single"] or match["dated"] or "mask"
        source = Source(kind) if form > 1 else _FORMAT_1[kind]
        what = match["of"] or match["what"]
        days = "days" if form > 1 else "age"
        if what == days and source in (Source.TARGET, Source.ESTIMATE):
            raise ValueError(f"the {source} has no {days}")
        return cls(source, None if what == days else what, int(match["order"] or 1))

    def __str__(self) -> str:
        """Its name in a contract of format 2."""
        if self.source is Source.MASK:
            return "mask"
        order = f"-{self.order}" if self.source in (Source.BEFORE, Source.AFTER) else ""
        return f"{self.source}{order}:{self.band or 'days'}"


def _clean(value: Any, depth: int = 0) -> Any:
    """A value of a foreign file as a terminal and the store's attributes can hold it.

    Text is without control characters and lone surrogates. Numbers that JSON does not know are None.

    Raises:
        ValueError: It is nested too deep.
    """
    if depth > _DEEPEST:
        raise ValueError(f"it is nested more than {_DEEPEST} deep")
    if isinstance(value, str):
        return "".join(each if each.isprintable() else " " for each in value)
    if isinstance(value, dict):
        return {_clean(name): _clean(inner, depth + 1) for name, inner in value.items()}
    if isinstance(value, list):
        return [_clean(inner, depth + 1) for inner in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if not isinstance(value, int) or abs(value) < _LARGEST else None


@dataclass(frozen=True, slots=True)
class Contract:
    """What a generator asks for and gives: the JSON in its file, checked."""

    name: str
    """Name of the model, such as "temporal"."""
    version: str
    """Version of the model."""
    input_channels: tuple[Channel, ...]
    """Input channels in order."""
    output_bands: tuple[str, ...]
    """Output bands in order, reflectance."""
    tile: int
    """Edge of a tile in pixels."""
    predicts_uncertainty: bool = False
    """Whether a last output channel predicts the mean absolute error over the bands, reflectance."""
    training: dict[str, Any] = field(default_factory=dict)
    """How the model was trained and what it scored: the model card."""
    supersedes: tuple[str, ...] = ()
    """SHA-256 of earlier files that hold the same network under the same contract, such as one of format 1:
    stores of format 1 name the model by its file."""

    @classmethod
    def parse(cls, text: str | None, file: str) -> Contract:
        """The contract written in an ONNX file's metadata.

        Args:
            text: The JSON, or None where the file has none.
            file: What to call the file in an error.

        Raises:
            GeneratorError: There is no contract, or it is not one this version understands.
        """
        if text is None:
            raise GeneratorError(f"{file} is an ONNX model without a cloudgan contract; {_REMEDY}")
        if len(text) > MOST_CHARACTERS:
            raise GeneratorError(
                f"{file} has a contract of {len(text):,} characters, more than {MOST_CHARACTERS:,}; {_REMEDY}"
            )
        try:
            raw = _clean(json.loads(text))
            form = raw["format"]
            if form not in (1, FORMAT):
                raise GeneratorError(
                    f"{file} has a contract of format {form}, and formats 1 and {FORMAT} are read; {_REMEDY}"
                )
            old = form == 1
            names = [str(name) for name in raw["planes" if old else "input_channels"]]
            contract = cls(
                name=str(raw["name"]),
                version=str(raw["version"]),
                input_channels=tuple(Channel.parse(name, form) for name in names),
                output_bands=tuple(map(str, raw["bands" if old else "output_bands"])),
                tile=int(raw["tile"]),
                predicts_uncertainty=bool(raw.get("foretells" if old else "predicts_uncertainty", False)),
                training=dict(raw.get("training", {})),
                supersedes=() if old else tuple(map(str, raw.get("supersedes", ()))),
            )
        except (KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
            raise GeneratorError(f"{file} has a broken contract ({error!r}); {_REMEDY}") from error
        named = all(_BAND.fullmatch(band) for band in contract.output_bands)
        length = len(contract.name + contract.version)
        if not contract.name.strip() or length > _LONGEST_NAME:
            raise GeneratorError(
                f"{file} has a name and version of {length:,} characters, where 1 to {_LONGEST_NAME} are "
                f"read; {_REMEDY}"
            )
        if not contract.input_channels or not contract.output_bands or not named or contract.tile <= 0:
            raise GeneratorError(
                f"{file} asks for channels {list(map(str, contract.input_channels))} of {contract.tile} "
                f"pixels and gives bands {list(contract.output_bands)}, which cloudgan cannot supply; "
                f"{_REMEDY}"
            )
        return contract

    def give(self, bands: Sequence[str]) -> Contract:
        """The contract with other output bands: those that the network does not give are estimated.

        Args:
            bands: Common names, in order.

        Raises:
            InputError: The network uses no other dates, from which bands could be estimated.
        """
        further = [band for band in bands if band not in self.output_bands]
        if further and not self.sees_time:
            raise InputError(
                f"the model {self.name} gives {', '.join(self.output_bands)} and uses no other dates, from "
                f"which {', '.join(further)} could be estimated; leave --bands out, or take another model"
            )
        estimated = (Channel(Source.ESTIMATE, band) for band in further)
        return replace(self, output_bands=tuple(bands), input_channels=(*self.input_channels, *estimated))

    def as_json(self) -> dict[str, Any]:
        """The contract in format 2, as it is written into the file."""
        return {
            "format": FORMAT,
            "name": self.name,
            "version": self.version,
            "input_channels": [str(channel) for channel in self.input_channels],
            "output_bands": list(self.output_bands),
            "tile": self.tile,
            "predicts_uncertainty": self.predicts_uncertainty,
            "training": self.training,
        } | ({"supersedes": list(self.supersedes)} if self.supersedes else {})

    @property
    def output_channels(self) -> int:
        """How many channels come out: the bands, and the uncertainty where it is predicted."""
        return len(self.output_bands) + self.predicts_uncertainty

    @property
    def input_bands(self) -> tuple[str, ...]:
        """Bands that must be read: those of the output and of the channels, each once, in order."""
        named = (channel.band for channel in self.input_channels)
        return tuple(dict.fromkeys([*self.output_bands, *(band for band in named if band)]))

    @property
    def dates_each_side(self) -> int:
        """How many clear dates it asks for before and after, the same all over a tile."""
        dated = (Source.BEFORE, Source.AFTER)
        return max((one.order for one in self.input_channels if one.source in dated), default=0)

    @property
    def uses_estimate(self) -> bool:
        """Whether it is built on the estimate of each of its bands, which there is for any other band too."""
        return any(one.source is Source.ESTIMATE for one in self.input_channels)

    @property
    def sees_time(self) -> bool:
        """Whether it asks for other dates, and so can fill gaps without data."""
        return any(one.source not in (Source.TARGET, Source.MASK) for one in self.input_channels)

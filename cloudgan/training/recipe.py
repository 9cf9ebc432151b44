"""Recipes: the few numbers that set one way of training apart from another, read from TOML."""

from __future__ import annotations

import dataclasses
import json
import tomllib
import types
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from cloudgan.errors import InputError
from cloudgan.training.data.imagery import BANDS
from cloudgan.training.data.sources import Source
from cloudgan.training.models.networks import TILE, Normalisation, Upsampling
from cloudgan.training.models.scaling import Scaling

Precision = Literal["float32", "mixed_bfloat16"]


@dataclass(frozen=True, slots=True)
class Networks:
    """Generator and discriminator; the defaults are what the study documents."""

    width: int = 64
    """Filters of the first layer of both."""
    size: int = TILE
    """Edge in pixels of the images that they train on, a multiple of 256."""
    normalisation: Normalisation = "batch"
    """In the generator."""
    judge_normalisation: Normalisation = "batch"
    """In the discriminator."""
    upsampling: Upsampling = "transposed"
    """In the generator's decoder."""
    dropout: float = 0.5
    """In the first three decoder blocks, while training."""
    residual: bool = False
    """Whether the generator makes what is to be added to the cloudy image."""
    precision: Precision = "float32"
    """Of the arithmetic while training; last activations and losses are float32 in any case."""

    def __post_init__(self) -> None:
        _positive(width=self.width)
        if self.size < TILE or self.size % TILE:
            raise InputError(f"size is a multiple of {TILE} pixels, got {self.size}")
        if not 0 <= self.dropout < 1:
            raise InputError(f"dropout lies in [0, 1), got {self.dropout}")


@dataclass(frozen=True, slots=True)
class Objective:
    """Losses and rates; the defaults are what the study documents."""

    generator_rate: float = 2e-5
    """Adam's learning rate of the generator."""
    discriminator_rate: float = 2e-4
    """Adam's learning rate of the discriminator."""
    beta_1: float = 0.5
    """Adam's memory of the gradient, in both."""
    discriminator_weight: float = 0.5
    """Weight of each half of the discriminator's loss."""
    mae_weight: float = 100.0
    """Weight of the mean absolute error, in [-1, 1], in the generator's loss."""
    adversarial_weight: float = 1.0
    """Weight of the cross entropy in the generator's loss; 0 trains without a discriminator."""
    adversarial_after: float = 0.0
    """Share of the steps that come first, on the mean absolute error alone: they cost a third."""
    decay: bool = False
    """Whether the rates fall along a cosine to a fiftieth."""
    average: float = 0.0
    """Memory of the weights' moving average, per step; 0 keeps none."""

    def __post_init__(self) -> None:
        _positive(generator_rate=self.generator_rate, discriminator_rate=self.discriminator_rate)
        for name in ("beta_1", "adversarial_after", "average"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"{name} lies in [0, 1], got {getattr(self, name)}")
        if min(self.mae_weight, self.adversarial_weight, self.discriminator_weight) < 0:
            raise InputError("the weights of losses are not negative")


@dataclass(frozen=True, slots=True)
class Stack:
    """Batches as the study draws them: ten turned copies of one pair, in order, again and again."""

    skewed: bool = False
    """1, 2, 3, 4, 1', 2', 3', 4', 1, 1' with five of the ten skewed; else 1, 2, 3, 4, 1, 2, 3, 4, 1, 2."""
    shear: tuple[float, float] = (15.0, 0.0)
    """Angles of the skew along rows and along columns, in degrees."""
    crop: tuple[int, int] = (0, 0)
    """Top row and left column, in the first pair (or clear scene), of the area to train on."""


@dataclass(frozen=True, slots=True)
class Samples:
    """Batches of our own: crops, turns, flips and gains of all the imagery, under ever new skies."""

    real: float = 0.15
    """Share of real pairs, where there are any; the others are simulated."""
    jitter: float = 0.1
    """Spread of the random gain on clear ground, see `augmentation.random_gain`."""
    glints: int = 0
    """Bright pixels put on the observed ground of each image, see `samples.glinting`."""
    observed_weight: float = 1.0
    """How much a pixel under clear sky counts in the error, against 1 for a hidden one."""

    def __post_init__(self) -> None:
        if not (0 <= self.real <= 1 and min(self.jitter, self.glints, self.observed_weight) >= 0):
            raise InputError("real lies in [0, 1], jitter, glints and observed_weight are not negative")


@dataclass(frozen=True, slots=True)
class Recipe:
    """One way to train, on one set of imagery."""

    name: str
    """What to call the model in its contract."""
    data: tuple[Source, ...]
    """Imagery to train on and to validate on."""
    held_out: tuple[str, ...]
    """Regions of it to validate on."""
    stack: Stack | None = None
    """How to draw batches as the study does; or"""
    samples: Samples | None = None
    """how to draw them our own way. One of the two."""
    bands: tuple[str, ...] = BANDS
    """Bands of the cloudy image and of the generated one."""
    networks: Networks = field(default_factory=Networks)
    """What is trained."""
    objective: Objective = field(default_factory=Objective)
    """Towards what."""
    scaling: Scaling = field(default_factory=Scaling)
    """From reflectance to the networks and back."""
    batch: int = 1
    """Images per step."""
    steps: int = 1700
    """Steps in all."""
    rows_every: int = 100
    """Steps between rows of metrics, each of which may become the best checkpoint."""
    collapse_rows: int = 0
    """Rows in a row at 6 dB or more below the best after which the run stops; 0 never stops it."""
    study: bool = False
    """Whether rows hold the study's own measure too, on the first pair or clear scene trained on."""
    seed: int = 0
    """Of weights, batches and validation tiles."""

    def __post_init__(self) -> None:
        _positive(batch=self.batch, steps=self.steps, rows_every=self.rows_every)
        if (self.stack is None) == (self.samples is None):
            raise InputError("a recipe draws its batches by one of the tables [stack] and [samples]")
        if not self.data:
            raise InputError("a recipe names its imagery in [[data]] tables, and there is none")
        if self.collapse_rows < 0 or self.seed < 0:
            raise InputError("collapse_rows and seed are not negative")

    @classmethod
    def load(cls, path: Path, data: Path | None = None) -> Recipe:
        """Read a recipe from TOML.

        Args:
            path: The file.
            data: Folder that the paths of its sources count from; else, and for what is not there, that of
                the recipe, or where we are.

        Raises:
            InputError: The file cannot be read, or has a key or a value that no recipe has.
        """
        try:
            table = tomllib.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise InputError(f"the recipe {path} cannot be read: {error.strerror}") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise InputError(f"the recipe {path} is not TOML: {error}") from error
        try:
            recipe: Recipe = _parsed(cls, _with_sources(table, data or path.parent, path.parent), "")
        except InputError as error:
            raise InputError(f"recipe {path}: {error}") from error
        return recipe

    def as_dict(self) -> dict[str, Any]:
        """Plain values, as written in a run's summary."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    def as_toml(self) -> str:
        """The recipe as TOML that `load` reads back."""
        plain, tables = [], []
        for name, value in self.as_dict().items():
            if isinstance(value, dict):
                tables.append(f"\n[{name}]\n{_lines(value)}")
            elif name == "data":
                tables.extend(f"\n[[data]]\n{_lines(_told(source))}" for source in self.data)
            else:
                plain.append(_lines({name: value}))
        return "".join([*plain, *tables])


def _with_sources(table: dict[str, Any], *folders: Path) -> dict[str, Any]:
    """The table with its sources read, paths counted from the first folder that holds them."""
    given = table.get("data", [])
    if not isinstance(given, list) or not all(isinstance(source, dict) for source in given):
        raise InputError("the imagery is named in [[data]] tables, with double brackets")

    def placed(name: str, value: Any) -> Any:
        if name not in ("path", "aoi") or not isinstance(value, str):
            return value
        return next((str(folder / value) for folder in folders if (folder / value).exists()), value)

    sources = [Source.of({name: placed(name, value) for name, value in source.items()}) for source in given]
    return {**table, "data": sources}


def _told(source: Source) -> dict[str, Any]:
    """What a source says of itself: a kind of source takes some keys and refuses the others."""
    values = {one.name: (getattr(source, one.name), one.default) for one in dataclasses.fields(source)}
    return {name: value for name, (value, default) in values.items() if value != default}


def _lines(table: Mapping[str, Any]) -> str:
    # Text, numbers, flags and lists of them are written alike in JSON and TOML.
    known = {name: value for name, value in table.items() if value is not None}
    return "".join(
        f"{name} = {json.dumps(value, default=str, ensure_ascii=False)}\n" for name, value in known.items()
    )


def _positive(**values: float) -> None:
    for name, value in values.items():
        if value <= 0:
            raise InputError(f"{name} is above 0, got {value}")


def _parsed(kind: Any, value: Any, name: str) -> Any:
    """A value of TOML as a field's type, refused by name where it is of another."""
    origin = get_origin(kind)
    if origin in (Union, types.UnionType):
        return _parsed(next(option for option in get_args(kind) if option is not type(None)), value, name)
    if dataclasses.is_dataclass(kind) and isinstance(value, dict):
        return _table(kind, value, name)
    if origin is Literal and value in get_args(kind):
        return value
    if origin is tuple and isinstance(value, list):
        of = get_args(kind)
        kinds = [of[0]] * len(value) if of[-1] is Ellipsis else list(of)
        if len(kinds) == len(value):
            return tuple(_parsed(one, part, name) for one, part in zip(kinds, value, strict=True))
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if kind is Path and isinstance(value, str):
        return Path(value)
    if isinstance(kind, type) and type(value) is kind:
        return value
    wanted = f"one of {list(get_args(kind))}" if origin is Literal else getattr(kind, "__name__", str(kind))
    raise InputError(f"{name or 'a recipe'} must be {wanted}, got {value!r}")


def _table(kind: Any, table: dict[str, Any], name: str) -> Any:
    hints = get_type_hints(kind)
    inside = f"{name}." if name else ""
    if unknown := sorted(set(table) - set(hints)):
        raise InputError(f"there is no key {inside}{unknown[0]}; there are {', '.join(hints)}")
    needed = [
        one.name
        for one in dataclasses.fields(kind)
        if one.default is dataclasses.MISSING and one.default_factory is dataclasses.MISSING
    ]
    if missing := [key for key in needed if key not in table]:
        raise InputError(f"the key {inside}{missing[0]} is missing")
    return kind(**{key: _parsed(hints[key], value, f"{inside}{key}") for key, value in table.items()})

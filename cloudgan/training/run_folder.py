"""The folder of a training run: made once, written whole files at a time, and resumed where it stopped."""

from __future__ import annotations

import csv
import io
import json
import os
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from cloudgan.errors import InputError
from cloudgan.training.recipe import TrainConfig

_CHANGEABLE = ("version", "keep", "collapse_rows")

Row = dict[str, float]
"""Columns of metrics at one step."""


@dataclass(frozen=True, slots=True)
class RunFolder:
    """Where a run keeps what it makes; every file appears whole or not at all."""

    path: Path
    """The folder."""

    @classmethod
    def create(cls, path: Path, recipe: TrainConfig) -> RunFolder:
        """Make the folder of a new run.

        Raises:
            InputError: It holds a run already, or cannot be written.
        """
        folder = cls(path)
        if folder.recipe.exists():
            raise InputError(f"{path} holds a run already; go on with it (--resume) or give another folder")
        try:
            path.mkdir(parents=True, exist_ok=True)
            folder.write(folder.recipe, recipe.as_toml().encode())
        except OSError as error:
            raise InputError(
                f"the run folder {path} cannot be written ({error.strerror}); give another"
            ) from error
        return folder

    @classmethod
    def reopen(cls, path: Path, recipe: TrainConfig) -> RunFolder:
        """The folder of a run to go on with.

        Raises:
            InputError: It holds no run, or one by another recipe.
        """
        folder = cls(path)
        if not folder.recipe.exists():
            raise InputError(f"{path} holds no run to resume; start one without --resume")
        was = TrainConfig.load(folder.recipe)
        if changed := [
            name
            for name in type(recipe).model_fields
            if name not in _CHANGEABLE and getattr(was, name) != getattr(recipe, name)
        ]:
            raise InputError(
                f"the run in {path} was made with another {changed[0]}; resume it with {folder.recipe}"
            )
        folder.write(folder.recipe, recipe.as_toml().encode())
        return folder

    @property
    def recipe(self) -> Path:
        """The recipe as run."""
        return self.path / "recipe.toml"

    @property
    def metrics(self) -> Path:
        """A row per evaluation."""
        return self.path / "metrics.csv"

    @property
    def checkpoint(self) -> Path:
        """All that it takes to go on: weights, optimisers, seeds, the number of the step."""
        return self.path / "checkpoint.npz"

    @property
    def best(self) -> Path:
        """The generator's weights where validation was best."""
        return self.path / "best.weights.h5"

    @property
    def averaged(self) -> Path:
        """The generator's averaged weights at the last row."""
        return self.path / "averaged.weights.h5"

    @property
    def model(self) -> Path:
        """The generator, exported."""
        return self.path / "model.onnx"

    def write(self, path: Path, content: bytes) -> None:
        """Write one file of the folder, whole or not at all."""
        partial = path.with_name(f".{path.name}.{os.getpid()}")
        path.parent.mkdir(exist_ok=True)
        partial.write_bytes(content)
        partial.replace(path)

    def write_json(self, name: str, content: Mapping[str, Any]) -> None:
        """Write a JSON file."""
        self.write(self.path / name, (json.dumps(content, indent=1, default=str) + "\n").encode())

    def read_start(self) -> dict[str, Any]:
        """The start weights that `run.json` names, under the key `start`; nothing where it names none."""
        try:
            card = json.loads((self.path / "run.json").read_text())
        except (OSError, ValueError):
            return {}
        return {"start": card["start"]} if "start" in card else {}

    def write_rows(self, rows: Sequence[Row]) -> None:
        """Write all rows of metrics."""
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, rows[0])
        writer.writeheader()
        writer.writerows(rows)
        self.write(self.metrics, text.getvalue().encode())

    def read_rows(self, until: int) -> list[Row]:
        """The rows of metrics up to a step."""
        if not self.metrics.exists():
            return []
        with self.metrics.open(newline="") as file:
            rows = [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]
        return [{**row, "step": int(row["step"])} for row in rows if row["step"] <= until]

    def save(self, variables: Sequence[keras.Variable], step: int) -> None:
        """Write the checkpoint."""
        content = io.BytesIO()
        arrays: dict[str, Any] = {
            f"{i:05}": np.asarray(keras.ops.convert_to_numpy(v.value)) for i, v in enumerate(variables)
        }
        np.savez(content, step=step, **arrays)
        self.write(self.checkpoint, content.getvalue())

    def restore(self, variables: Sequence[keras.Variable]) -> int:
        """Set variables from the checkpoint.

        Returns:
            The number of steps taken.

        Raises:
            InputError: There is none, it is broken, or it is of another network; then nothing is set.
        """
        try:
            with np.load(self.checkpoint) as file:
                step = int(file["step"])
                values = [file[name] for name in sorted(file.files) if name != "step"]
        except FileNotFoundError:
            return 0  # stopped before the first
        except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise InputError(
                f"the checkpoint {self.checkpoint} cannot be read ({error}); start anew"
            ) from error
        if [value.shape for value in values] != [tuple(variable.shape) for variable in variables]:
            raise InputError(
                f"{self.checkpoint} is a checkpoint of another network than its recipe describes; start anew"
            )
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)
        return step

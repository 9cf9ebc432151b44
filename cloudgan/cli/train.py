"""The command `cloudgan train`: a recipe in, a folder with a trained generator out."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from cloudgan.cli.output import err

EPILOG = "Example: cloudgan train pipelines/train-demo.toml --data demo --run runs/demo"


def train(
    recipe: Annotated[Path, typer.Argument(help="TOML file with the recipe, see docs/training.md.")],
    run: Annotated[Path, typer.Option(help="Folder to make for the run.")],
    data: Annotated[
        Path | None, typer.Option(help="Folder from which the paths of the recipe's data count.")
    ] = None,
    start: Annotated[
        Path | None, typer.Option(help="Weights of an earlier run to start from: its averaged.weights.h5.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Instead of the recipe's.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in the folder.")] = False,
) -> None:
    """Train a generator by a recipe.

    The path of the exported model goes to standard output. Needs the extra cloudgan[train].
    """
    # The help and a wrong recipe do not wait for TensorFlow.
    from cloudgan.training.recipe import TrainConfig

    config = TrainConfig.load(recipe, {"seed": seed}, data)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    from cloudgan.training.trainer import train as train_generator

    _log_to_stderr()
    with _show_progress(config.steps) as listener:
        done = train_generator(config, run, resume=resume, start=start, listener=listener)
    typer.echo(str(done.model))


@contextmanager
def _show_progress(steps: int) -> Iterator[Callable[[int, dict[str, float]], None]]:
    """A bar with losses on standard error, where that is a terminal."""
    columns = TextColumn("step {task.completed} of {task.total}"), BarColumn(), TimeRemainingColumn()
    losses = TextColumn("{task.fields[losses]}")
    with Progress(*columns, losses, console=err, disable=not err.is_terminal) as progress:
        task = progress.add_task("", total=steps, losses="")

        def show(step: int, values: dict[str, float]) -> None:
            text = "  ".join(f"{name} {value:.3f}" for name, value in values.items())
            progress.update(task, completed=step, losses=text)

        yield show


def _log_to_stderr() -> None:
    # Our own lines alone: TensorFlow and tf2onnx log too much, and take the root logger first.
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    logger = logging.getLogger("cloudgan")
    logger.setLevel(logging.INFO)
    logger.handlers = [handler]
    logger.propagate = False

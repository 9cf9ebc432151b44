"""The command `cloudgan train` (and `cloudgan-train`): a recipe in, a folder with a trained generator out."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from cloudgan.errors import CloudganError

BAD_INPUT = 2


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
    """Train a generator of your own by a recipe.

    Example: cloudgan train pipelines/train-demo.toml --run runs/demo
    """
    # Before TensorFlow is imported; the help and a wrong recipe do not wait for it.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    try:
        from cloudgan.training.recipe import TrainConfig

        config = TrainConfig.load(recipe, {"seed": seed}, data)
        from cloudgan.training.trainer import train as train_generator

        _log_to_stderr()
        with _show_progress(config.steps) as listener:
            done = train_generator(config, run, resume=resume, start=start, listener=listener)
    except CloudganError as error:
        typer.echo(f"{error}", err=True)
        raise typer.Exit(BAD_INPUT) from error
    typer.echo(str(done.model))


def main() -> None:
    """The command `cloudgan-train`."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command(name="cloudgan-train")(train)
    app()


@contextmanager
def _show_progress(steps: int) -> Iterator[Callable[[int, dict[str, float]], None]]:
    """A bar with losses on standard error, where that is a terminal."""
    console = Console(stderr=True)
    columns = TextColumn("step {task.completed} of {task.total}"), BarColumn(), TimeRemainingColumn()
    losses = TextColumn("{task.fields[losses]}")
    with Progress(*columns, losses, console=console, disable=not console.is_terminal) as progress:
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

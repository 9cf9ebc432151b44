"""The command `cloudgan-train`: a recipe in, a folder with a trained generator out."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from cloudgan.errors import CloudganError


def main(arguments: list[str] | None = None) -> int:
    """Parse the command line, train, and return the exit code."""
    options = _parser().parse_args(arguments)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    # Only now: the help does not wait for TensorFlow.
    from cloudgan.training.recipe import Recipe
    from cloudgan.training.trainer import train

    log_to_stderr()
    try:
        recipe = Recipe.load(options.recipe, options.data)
        networks = replace(recipe.networks, **_given(options, "width", "precision"))
        recipe = replace(recipe, networks=networks, **_given(options, "steps", "seed"))
        with _progress() as progress:
            task = progress.add_task("", total=recipe.steps, losses="")

            def told(step: int, values: dict[str, float]) -> None:
                losses = "  ".join(f"{name} {value:.3f}" for name, value in values.items())
                progress.update(task, completed=step, losses=losses)

            run = train(
                recipe,
                options.run,
                resume=options.resume,
                minutes=options.minutes,
                model_version=options.model_version,
                listener=told,
            )
    except CloudganError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    sys.stdout.write(f"{run.model}\n")
    return 0


def _given(options: argparse.Namespace, *names: str) -> dict[str, Any]:
    """The options among these that were given."""
    return {name: getattr(options, name) for name in names if getattr(options, name) is not None}


def _progress() -> Progress:
    """A bar with losses on standard error, where that is a terminal."""
    console = Console(stderr=True)
    columns = TextColumn("step {task.completed} of {task.total}"), BarColumn(), TimeRemainingColumn()
    losses = TextColumn("{task.fields[losses]}")
    return Progress(*columns, losses, console=console, disable=not console.is_terminal)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="cloudgan-train", description=__doc__)
    parser.add_argument("recipe", type=Path, help="TOML file, see docs/training.md")
    parser.add_argument(
        "--run", type=Path, required=True, metavar="FOLDER", help="folder to make for the run"
    )
    parser.add_argument("--data", type=Path, metavar="DIR", help="folder that the recipe's paths count from")
    parser.add_argument("--steps", type=int, help="instead of the recipe's")
    parser.add_argument("--width", type=int, help="instead of the recipe's")
    parser.add_argument("--seed", type=int, help="instead of the recipe's")
    parser.add_argument(
        "--precision",
        choices=("float32", "mixed_bfloat16"),
        help="of the arithmetic, instead of the recipe's",
    )
    parser.add_argument("--minutes", type=float, help="stop at the first row after so many minutes")
    parser.add_argument("--resume", action="store_true", help="go on with the run in the folder")
    parser.add_argument("--model-version", default="0.1.0", help="written into the model's contract")
    return parser


def log_to_stderr() -> None:
    """Show what the package itself logs."""
    # Our own lines alone: TensorFlow and tf2onnx tell too much, and take the root logger first.
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    logger = logging.getLogger("cloudgan")
    logger.setLevel(logging.INFO)
    logger.handlers = [handler]
    logger.propagate = False


if __name__ == "__main__":
    sys.exit(main())

"""`python -m cloudgan.training RECIPE DATA RUN`: train, and say where the model lies."""

from __future__ import annotations

import argparse
import logging
import sys
from dataclasses import replace
from pathlib import Path

from cloudgan.errors import CloudganError
from cloudgan.training import temporal_run
from cloudgan.training.recipes import RECIPES
from cloudgan.training.train import HELD_OUT, train


def main(arguments: list[str] | None = None) -> int:
    """Parse the command line, train, and return the exit code."""
    given_now = sys.argv[1:] if arguments is None else arguments
    if given_now[:1] == ["temporal"]:  # the generator that sees time has a command line of its own
        return temporal_run.main(given_now[1:])
    parser = argparse.ArgumentParser(prog="python -m cloudgan.training", description=__doc__)
    parser.add_argument("recipe", choices=sorted(RECIPES), help="what to do")
    parser.add_argument("data", type=Path, help="folder of the sample imagery")
    parser.add_argument("run", type=Path, help="folder to make for the run")
    parser.add_argument("--steps", type=int, help="instead of the recipe's")
    parser.add_argument("--width", type=int, help="instead of the recipe's")
    parser.add_argument("--minutes", type=float, help="stop earlier than the steps after so many minutes")
    parser.add_argument("--seed", type=int, default=0, help="of weights, batches and validation (default 0)")
    parser.add_argument(
        "--hold-out", nargs="+", default=list(HELD_OUT), metavar="REGION", help="regions to validate on"
    )
    parser.add_argument("--model-version", default="0.1.0", help="written into the model's contract")
    options = parser.parse_args(arguments)
    given = {
        name: getattr(options, name) for name in ("steps", "width") if getattr(options, name) is not None
    }
    try:
        run = train(
            replace(RECIPES[options.recipe], **given),
            options.data,
            options.run,
            seed=options.seed,
            held_out=options.hold_out,
            minutes=options.minutes,
            model_version=options.model_version,
        )
    except CloudganError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    sys.stdout.write(f"{run.model}\n")
    return 0


def _log_to_stderr() -> None:
    # Our own lines alone: TensorFlow and tf2onnx tell too much, and take the root logger first.
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    logger = logging.getLogger("cloudgan")
    logger.setLevel(logging.INFO)
    logger.handlers = [handler]
    logger.propagate = False


if __name__ == "__main__":
    _log_to_stderr()
    sys.exit(main())

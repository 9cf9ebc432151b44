"""The command `cloudgan demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cloudgan.cli.output import err


def demo(
    out: Annotated[Path, typer.Option(help="Folder to write.")] = Path("demo"),
    seed: Annotated[int, typer.Option(help="Another seed, another landscape.")] = 0,
) -> None:
    """Write a demonstration catalogue.

    It holds a season of simulated farmland, in the shape of Earth Search.
    """
    from cloudgan.demonstration.catalogue import write_catalog

    made = write_catalog(out, seed)
    err.print(f"wrote {made.catalog}")
    typer.echo(str(made.catalog))

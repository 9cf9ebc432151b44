"""The command `cloudgan report`: a finished store as one HTML page."""

from __future__ import annotations

from typing import Annotated

import typer

from cloudgan.cli.output import INTERRUPTED, err, show_dates

EPILOG = "Example: cloudgan report declouded.zarr --out report.html"


def report(
    store: Annotated[str, typer.Argument(metavar="STORE", help="Path or URL of a store that a run wrote.")],
    out: Annotated[
        str | None, typer.Option(help="File to write; by default beside the store, with its name.")
    ] = None,
) -> None:
    """Write the report of a store: one HTML page.

    It shows each date before and after, where values are from, and what the run did. It needs no network.
    """
    from cloudgan.report.page import write_report  # here: the help waits for nothing

    try:
        with show_dates() as show:
            path = write_report(store, out, on_progress=show)
    except KeyboardInterrupt:
        err.print("interrupted: nothing was written")
        raise typer.Exit(INTERRUPTED) from None
    typer.echo(str(path))

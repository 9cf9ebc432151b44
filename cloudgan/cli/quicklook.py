"""The command `cloudgan quicklook`: a picture or a time-lapse of a store."""

from __future__ import annotations

from typing import Annotated

import typer

from cloudgan.cli.output import INTERRUPTED, err, show_dates

EPILOG = "Example: cloudgan quicklook declouded.zarr --out season.gif"


def quicklook(
    store: Annotated[str, typer.Argument(metavar="STORE", help="Path or URL of a store that a run wrote.")],
    out: Annotated[
        str,
        typer.Option(help="File: .png or .jpg is a grid of dates; .gif or .webp is a time-lapse."),
    ] = "quicklook.png",
    dates: Annotated[str | None, typer.Option(help="Dates, such as 2020-05 or 2020-04/2020-07.")] = None,
    colours: Annotated[
        str | None,
        typer.Option(help="true, false or swir (short-wave infrared); by default the first that is there."),
    ] = None,
    count: Annotated[
        int | None,
        typer.Option(min=1, max=100, help="Dates of a grid, those nearest to half cloudy; 4 by default."),
    ] = None,
    group: Annotated[str | None, typer.Option(help="UTM zone, such as utm33n, of several.")] = None,
    frames_per_second: Annotated[float, typer.Option(min=0.1, max=50, help="Of a time-lapse.")] = 2.0,
) -> None:
    """Draw a picture or a time-lapse of a store.

    Each date is shown as observed, with its masked places hatched, and declouded.
    """
    from cloudgan.report.quicklook import (
        QuicklookRequest,
        write_quicklook,
    )  # here: the help waits for nothing

    request = QuicklookRequest(store, out, dates, colours, count, group, frames_per_second)
    try:
        with show_dates() as show:
            path = write_quicklook(request, show)
    except KeyboardInterrupt:
        err.print("interrupted: nothing was written")
        raise typer.Exit(INTERRUPTED) from None
    typer.echo(str(path))

"""The command `cloudgan export`: files of a finished store that other programs open."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from cloudgan.cli.output import INTERRUPTED, err, print_json

EPILOG = "Example: cloudgan export declouded.zarr --index ndvi --every month --out ndvi"


def export(
    store: Annotated[str, typer.Argument(metavar="STORE", help="Path or URL of a store that a run wrote.")],
    out: Annotated[str, typer.Option(help="Folder of the files.")] = "export",
    file_format: Annotated[
        str,
        typer.Option(
            "--format",
            help="cog: a Cloud Optimized GeoTIFF for each date; netcdf: one file; zarr2: one Zarr store of "
            "version 2.",
        ),
    ] = "cog",
    dates: Annotated[str | None, typer.Option(help="Dates, such as 2020-05 or 2020-04/2020-07.")] = None,
    bands: Annotated[str | None, typer.Option(help="Bands, such as red,nir; all without it.")] = None,
    index: Annotated[
        str | None, typer.Option(help="ndvi, evi, ndwi, ndmi or nbr instead of the bands.")
    ] = None,
    every: Annotated[
        str | None, typer.Option(help="month, dekad or season: a composite of each, not each date.")
    ] = None,
    clip: Annotated[str | None, typer.Option(help="Area outside of which is no data, as for --aoi.")] = None,
    like: Annotated[str | None, typer.Option(help="Raster file whose grid is used; of cog.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the files as JSON.")] = False,
) -> None:
    """Write a finished store as files that other programs open.

    A rerun of the same command does only what is missing.
    """
    from cloudgan.products.export import ExportRequest, plan_exports  # here: the help waits for nothing

    names = tuple(name.strip() for name in (bands or "").split(",") if name.strip())
    exports = plan_exports(ExportRequest(store, out, file_format, dates, names, index, every, clip, like))
    files: list[Path] = []
    columns = (TextColumn("{task.completed}/{task.total} files"), BarColumn(), TimeRemainingColumn())
    try:
        with Progress(*columns, console=err, disable=not err.is_terminal) as bars:
            for one in exports:
                if one.pending:
                    err.print(
                        f"note: {one.pending} work units of {one.reader.location} are not done, and are "
                        "exported as no data",
                        style="yellow",
                    )
                files += one.run(_show_in(bars))
    except KeyboardInterrupt:
        err.print("interrupted: what is done is kept; run the same command again to do the rest")
        raise typer.Exit(INTERRUPTED) from None
    if as_json:
        print_json({"files": [str(path) for path in files]})
    err.print(f"{out}: {len(files)} files")


def _show_in(bars: Progress) -> Callable[[int, int], None]:
    """What shows how many files are there, as a bar of its own."""
    task = bars.add_task("files", total=None)
    return lambda done, total: bars.update(task, completed=done, total=total)

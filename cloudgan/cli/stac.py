"""The command `cloudgan stac`: a store as a STAC Item."""

from __future__ import annotations

from typing import Annotated

import typer


def stac(
    store: Annotated[str, typer.Argument(metavar="STORE", help="Path or URL of a store that a run wrote.")],
    out: Annotated[str | None, typer.Option(help="Folder of the file; by default that of the store.")] = None,
) -> None:
    """Write the STAC Item of a store, for a catalogue."""
    from cloudgan.products.stac_item import write_items  # here: the help does not wait for Zarr

    for path in write_items(store, out):
        typer.echo(str(path))

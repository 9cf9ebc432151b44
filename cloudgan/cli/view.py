"""The command `cloudgan view`: a finished store as a map in the browser, drawn as it is viewed."""

from __future__ import annotations

from typing import Annotated

import typer

from cloudgan.cli.output import INTERRUPTED, err

EPILOG = "Example: cloudgan view declouded.zarr, then open http://127.0.0.1:8765/"
_HOST, _PORT = "127.0.0.1", 8765


def view(
    store: Annotated[str, typer.Argument(metavar="STORE", help="Path or URL of a store that a run wrote.")],
    host: Annotated[
        str, typer.Option(help="Address to listen on; by default this machine alone reaches the page.")
    ] = _HOST,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes any that is free.")] = _PORT,
    show: Annotated[bool, typer.Option("--open", help="Open the page in the browser.")] = False,
) -> None:
    """Serve a map of a store with its dates, until Ctrl-C.

    The address goes to standard output. Tiles are drawn from the store as they are viewed.
    """
    from cloudgan.view.server import is_loopback, serve_store  # here: the help waits for nothing

    def tell(address: str) -> None:
        status.stop()
        typer.echo(address)
        err.print(f"serving {store}; Ctrl-C ends it")
        if not is_loopback(host):
            err.print(
                f"every machine that reaches {host} can see the store: there is no password", style="yellow"
            )
        if show:
            typer.launch(address)

    try:
        with err.status(f"opening {store}") as status:
            serve_store(store, host, port, tell)
    except KeyboardInterrupt:  # while the store is opened
        err.print("interrupted: nothing was served")
        raise typer.Exit(INTERRUPTED) from None

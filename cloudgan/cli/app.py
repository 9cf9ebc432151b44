"""The commands: `cloudgan` with all of them, and one entry point each for those that are used most."""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer

from cloudgan import __version__
from cloudgan.cli import batch as batch_command
from cloudgan.cli import evaluate as evaluate_command
from cloudgan.cli import export as export_command
from cloudgan.cli import quicklook as quicklook_command
from cloudgan.cli import report as report_command
from cloudgan.cli import train as train_command
from cloudgan.cli.demo import demo
from cloudgan.cli.info import info
from cloudgan.cli.output import BAD_INPUT, SOME_FAILED, err
from cloudgan.cli.stac import stac
from cloudgan.cli.verify import verify
from cloudgan.cli.view import EPILOG as VIEW_EPILOG
from cloudgan.cli.view import view
from cloudgan.errors import CloudganError, InputError

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)

_SETTINGS: dict[str, Any] = {
    "pretty_exceptions_enable": False,
    # Rich takes what stands in brackets for markup, such as the defaults in a help text.
    "rich_markup_mode": None,
    "context_settings": {"max_content_width": 110, "help_option_names": ["-h", "--help"]},
}

app = typer.Typer(
    name="cloudgan",
    help="Gap-free Sentinel-2: clouds removed by a trained generator.",
    epilog="Example: cloudgan demo, then cloudgan batch --aoi demo/field.geojson --dates 2020-05 "
    "--stac demo/catalog.json",
    no_args_is_help=True,
    **_SETTINGS,
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"cloudgan {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


def _make_command(name: str, command: Callable[..., None], epilog: str | None = None) -> typer.Typer:
    """A command of `cloudgan`, in the order of their registration, that is also a command of its own."""
    app.command(name, epilog=epilog)(command)
    alone = typer.Typer(name=f"cloudgan-{name}", **_SETTINGS)
    alone.command(epilog=epilog)(command)
    return alone


# In the order in which a user meets them.
app.command("demo")(demo)
batch_app = _make_command("batch", batch_command.batch, batch_command.EPILOG)
evaluate_app = _make_command("evaluate", evaluate_command.evaluate, evaluate_command.EPILOG)
train_app = _make_command("train", train_command.train, train_command.EPILOG)
app.command("export", epilog=export_command.EPILOG)(export_command.export)
app.command("report", epilog=report_command.EPILOG)(report_command.report)
app.command("quicklook", epilog=quicklook_command.EPILOG)(quicklook_command.quicklook)
app.command("view", epilog=VIEW_EPILOG)(view)
app.command("stac")(stac)
app.command("info")(info)
app.command("verify")(verify)


def _call(command: typer.Typer, arguments: list[str] | None) -> None:
    try:
        command(args=arguments)
    except CloudganError as error:
        err.print(f"error: {error}", style="red")
        sys.exit(BAD_INPUT if isinstance(error, InputError) else SOME_FAILED)
    except OSError as error:
        # Only what is written to an open stream, as stdout, has no name; other files have errors of ours.
        if error.errno not in _FULL or error.filename is not None:
            raise
        err.print(f"error: standard output cannot be written ({error.strerror}); make room", style="red")
        sys.exit(BAD_INPUT)


def main(arguments: list[str] | None = None) -> None:
    """The command `cloudgan`."""
    _call(app, arguments)


def batch_main(arguments: list[str] | None = None) -> None:
    """The command `cloudgan-batch`, the same as `cloudgan batch`."""
    _call(batch_app, arguments)


def evaluate_main(arguments: list[str] | None = None) -> None:
    """The command `cloudgan-evaluate`, the same as `cloudgan evaluate`."""
    _call(evaluate_app, arguments)


def train_main(arguments: list[str] | None = None) -> None:
    """The command `cloudgan-train`, the same as `cloudgan train`."""
    _call(train_app, arguments)


if __name__ == "__main__":
    main()

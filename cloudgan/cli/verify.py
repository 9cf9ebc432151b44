"""The command `cloudgan verify`: whether a store still is what its runs have written."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from cloudgan.cli.output import SOME_FAILED, err, open_stdout, print_json

if TYPE_CHECKING:
    from cloudgan.io.store.verify import Verification

_SHOWN = 20  # shards that are named


def verify(
    store: Annotated[str, typer.Argument(metavar="STORE", help="Path or URL of a store that a run wrote.")],
    sample: Annotated[
        int | None,
        typer.Option(min=1, help="Shards of each zone to draw at random; without it, all are verified."),
    ] = None,
    mark: Annotated[
        bool,
        typer.Option(
            "--mark/--no-mark",
            help="Mark what differs, so that the next run does it again. Without it, nothing is written.",
        ),
    ] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was found as JSON.")] = False,
) -> None:
    """Compare a store with what its runs have written.

    Exit code 1 where something differs.
    """
    from cloudgan.io.store.verify import verify_store  # here: the help does not wait for Zarr

    found = verify_store(store, sample=sample, mark=mark)
    if as_json:
        print_json([each.as_json() for each in found])
    else:
        for each in found:
            _print_found(each)
    if not all(each.ok for each in found):
        raise typer.Exit(SOME_FAILED)


def _print_found(found: Verification) -> None:
    out = open_stdout(wrap=False)
    out.print(
        f"{found.location}: {found.verified} of {found.shards} shards of {found.units} units verified, "
        f"{len(found.differing)} differ"
    )
    for key, what in list(found.differing.items())[:_SHOWN]:
        out.print(f"  {key} {what}")
    if len(found.differing) > _SHOWN:
        out.print(f"  and {len(found.differing) - _SHOWN} more; --json names all")
    if found.unnoted:
        err.print(f"{found.unnoted} units noted no digests, and cannot be verified", style="yellow")
    if found.marked:
        err.print(
            f"{len(found.damaged_units)} units are marked; run the same batch command again to do them",
            style="yellow",
        )

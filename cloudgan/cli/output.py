"""Where the commands print: data on stdout, everything else on stderr."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

DONE, SOME_FAILED, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130
"""Exit codes of all commands."""

WIDTH = 118
"""Of tables where stdout is no terminal."""

err = Console(stderr=True, highlight=False, soft_wrap=True, markup=False)
"""Progress, warnings and logs."""


def open_stdout(*, wrap: bool = True) -> Console:
    """The console of stdout, made when it is needed: a test replaces stdout.

    Args:
        wrap: Whether long lines are broken.
    """
    width = None if err.is_terminal or not wrap else WIDTH
    return Console(highlight=False, markup=False, width=width, soft_wrap=not wrap)


def print_json(value: Any) -> None:
    """Print JSON on stdout."""
    typer.echo(json.dumps(value, indent=2))


def make_grid(rows: Iterable[tuple[str, str]]) -> Table:
    """Names and values side by side."""
    table = Table.grid(padding=(0, 2), pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows:
        table.add_row(name, value)
    return table


def make_table(title: str, first: str, *columns: str) -> Table:
    """A table with a title, a column of names and columns of numbers."""
    table = Table(title=title, title_justify="left")
    table.add_column(first)
    for column in columns:
        table.add_column(column, justify="right")
    return table


@contextmanager
def show_dates() -> Iterator[Callable[[int, int], None]]:
    """What shows how many dates are read, as a bar where stderr is a terminal."""
    columns = (TextColumn("{task.completed}/{task.total} dates"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=err, disable=not err.is_terminal) as bars:
        task = bars.add_task("dates", total=None)
        yield lambda done, total: bars.update(task, completed=done, total=total)

"""What the batch command says on stderr as a run goes on: a bar, lines, or events as JSON."""

from __future__ import annotations

import datetime as dt
import json
import logging
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import typer
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from cloudgan.cli.output import err

if TYPE_CHECKING:
    from rich.console import RenderableType

    from cloudgan import batch as runs
    from cloudgan.distributed.report import ZoneReport

EVERY = 30.0
"""Seconds between two lines of progress."""


_WRONG = ("warning", "unit_failed", "error", "interrupted")
"""Events that are said with `--quiet` too."""


class LogFormat(StrEnum):
    """How the command says what happens."""

    TEXT = "text"
    JSON = "json"


class RunLog:
    """What is said on stderr: text for people, or one JSON object a line for machines."""

    def __init__(self, form: LogFormat, *, quiet: bool = False) -> None:
        self.as_json = form is LogFormat.JSON
        self.quiet = quiet
        """Whether only warnings and errors are said."""

    def tell(
        self, event: str, text: RenderableType | None = None, *, style: str | None = None, **fields: Any
    ) -> None:
        """Say one thing.

        Args:
            event: What it is, in a word; of JSON.
            text: The same for people; in JSON as `message` where it is text.
            style: Of the text.
            fields: Of JSON.
        """
        if self.quiet and event not in _WRONG:
            return
        if not self.as_json:
            if text is not None:
                err.print(text, style=style)
            return
        now = dt.datetime.now(dt.UTC).isoformat(timespec="milliseconds")
        message = {"message": text} if isinstance(text, str) else {}
        typer.echo(json.dumps({"time": now, "event": event, **message, **fields}), err=True)

    @contextmanager
    def take_warnings(self) -> Iterator[None]:
        """Say what the library logs, as long as the context lasts: workers that refuse or die, for one."""
        handler, logger = _Handler(self), logging.getLogger("cloudgan")
        logger.addHandler(handler)
        try:
            yield
        finally:
            logger.removeHandler(handler)


class _Handler(logging.Handler):
    def __init__(self, log: RunLog) -> None:
        super().__init__(logging.WARNING)
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        self._log.tell("warning", record.getMessage(), style="yellow")


class Display:
    """Shows a run as it goes on: a bar where stderr is a terminal, else a line every 30 seconds."""

    def __init__(self, log: RunLog, units: Mapping[str, int]) -> None:
        """Of a run that begins.

        Args:
            log: Where it is said.
            units: Work units of each zone, by its name.
        """
        self._log, self._units = log, units
        self._dashboard: str | None = None
        self._said: set[tuple[str, int]] = set()
        self._latest: runs.Progress | None = None
        self._began: dict[str, float] = {}
        self._lock, self._over = threading.Lock(), threading.Event()
        columns = (
            TextColumn("{task.completed}/{task.total} units"),
            BarColumn(),
            TextColumn("{task.fields[pixels]}"),
            TimeRemainingColumn(),
        )
        self._has_bar = err.is_terminal and not log.as_json and not log.quiet
        self._bars = Progress(*columns, console=err, disable=not self._has_bar)
        self._tasks: dict[str, TaskID] = {}
        self._ticker = threading.Thread(target=self._tick, daemon=True)

    def __enter__(self) -> Display:
        if not self._has_bar:
            self._ticker.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        if not self._has_bar:
            self._ticker.join()
        self._bars.stop()

    def show(self, progress: runs.Progress) -> None:
        """Show how far the run is; what failed is said at once."""
        with self._lock:
            if progress.dashboard not in (None, self._dashboard):
                self._dashboard = progress.dashboard
                self._log.tell("dashboard", f"dashboard: {progress.dashboard}", url=progress.dashboard)
            self._tell_failed(progress)
            self._latest = None if progress.is_finished else progress
            if progress.is_finished:
                self._bars.stop()
                return
            is_new = progress.zone not in self._began
            self._began.setdefault(progress.zone, time.monotonic())
            if self._has_bar:
                self._update_bar(progress.zone, progress.report)
            elif is_new:
                self._tell_progress(progress)

    def _tick(self) -> None:
        while not self._over.wait(EVERY):
            with self._lock:
                if self._latest is not None:
                    self._tell_progress(self._latest)

    def _tell_failed(self, progress: runs.Progress) -> None:
        for index, unit in sorted(progress.report.failed.items()):
            if (progress.zone, index) not in self._said:
                self._said.add((progress.zone, index))
                text = f"unit {index} failed: {unit.reason}"
                self._log.tell("unit_failed", text, style="red", zone=progress.zone, **asdict(unit))

    def _tell_progress(self, progress: runs.Progress) -> None:
        report, units = progress.report, self._units[progress.zone]
        seconds = max(time.monotonic() - self._began[progress.zone], 1e-9)
        ended, done = report.done + len(report.failed), report.skipped + report.done
        left = (units - report.skipped - ended) * seconds / ended if ended else None
        rate = report.pixels / seconds / 1e6
        zone = f"{progress.zone}: " if progress.zone else ""
        remaining = "" if left is None else f", {_format_seconds(left)} left"
        self._log.tell(
            "progress",
            f"{zone}{done} of {units} units done, {len(report.failed)} failed, {report.retried} retried, "
            f"{rate:.2f} Mpixel/s{remaining}",
            zone=progress.zone,
            units=units,
            done=done,
            skipped=report.skipped,
            failed=len(report.failed),
            retried=report.retried,
            mpixel_per_second=round(rate, 3),
            seconds_left=None if left is None else round(left),
        )

    def _update_bar(self, zone: str, report: ZoneReport) -> None:
        if zone not in self._tasks:
            self._tasks[zone] = self._bars.add_task("units", total=self._units[zone], pixels="")
        self._bars.start()
        rate = report.pixels / max(report.seconds, 1e-9) / 1e6
        self._bars.update(
            self._tasks[zone],
            completed=report.skipped + report.done + len(report.failed),
            pixels=f"{report.pixels / 1e6:.1f} Mpixel, {rate:.2f} Mpixel/s",
        )


def _format_seconds(seconds: float) -> str:
    """A time for people: `2 h 10 min`, `3 min`, `20 s`."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min"

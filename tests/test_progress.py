"""What the batch command says as a run goes on, where no terminal shows a bar."""

from __future__ import annotations

import json
import logging
import re
import time
from dataclasses import replace

import pytest

from cloudgan import batch as runs
from cloudgan.cli import progress
from cloudgan.cli.progress import Display, LogFormat, RunLog
from cloudgan.distributed.report import FailedUnit, UnitReport, ZoneReport

BEGUN = ZoneReport(units=10, skipped=2)
FAILED = FailedUnit(
    3, "EPSG:32633", (0, 0, 1, 1), ("2020-05-05", "2020-05-20"), ("item",), "B04.tif", "item is broken", 3
)


def done(index: int) -> UnitReport:
    return UnitReport(
        index=index,
        pixels=2_000_000,
        generated=1_000_000,
        observed=1_000_000,
        unreliable=0,
        clamped=0,
        masked={},
        missing=(),
        seconds={"read": 1.0},
    )


def so_far(report: ZoneReport, *, is_finished: bool = False) -> runs.Progress:
    return runs.Progress("", "out.zarr", report, "http://page", is_finished=is_finished)


@pytest.fixture
def often(monkeypatch):
    monkeypatch.setattr(progress, "EVERY", 0.2)


def test_a_line_says_how_far_the_run_is_and_what_fails_is_said_at_once(often, capsys):
    with Display(RunLog(LogFormat.TEXT), {"": 10}) as display:
        display.show(so_far(BEGUN))
        display.show(so_far(BEGUN.add(FAILED)))
        failed = capsys.readouterr().err
        display.show(so_far(replace(BEGUN.add(FAILED).add(done(4)), retried=2)))
        time.sleep(0.5)
        display.show(so_far(BEGUN.add(FAILED).add(done(4)), is_finished=True))
        lines = capsys.readouterr().err.splitlines()
    assert failed.splitlines() == [
        "dashboard: http://page",
        "2 of 10 units done, 0 failed, 0 retried, 0.00 Mpixel/s",
        "unit 3 failed: item is broken",
    ]
    assert 1 <= len(lines) <= 3
    line = r"3 of 10 units done, 1 failed, 2 retried, [\d.]+ Mpixel/s, \d+ s left"
    assert all(re.fullmatch(line, one) for one in lines)


def test_events_have_a_time_and_figures(often, capsys):
    with Display(RunLog(LogFormat.JSON), {"": 10}) as display:
        display.show(so_far(BEGUN))
        display.show(so_far(BEGUN.add(FAILED)))
        time.sleep(0.3)
    events = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [event["event"] for event in events][:4] == ["dashboard", "progress", "unit_failed", "progress"]
    assert events[2]["asset"] == "B04.tif"
    assert events[2]["message"] == "unit 3 failed: item is broken"
    figures = {"units": 10, "done": 2, "skipped": 2, "failed": 1, "retried": 0}
    assert figures.items() <= events[3].items()
    assert events[3]["seconds_left"] >= 0


@pytest.mark.parametrize("form", LogFormat)
def test_what_the_library_warns_of_is_said_too(form, capsys):
    log = RunLog(form)
    with log.take_warnings():
        logging.getLogger("cloudgan.distributed.deaths").warning("worker %s was killed", "tcp://one")
    said = capsys.readouterr().err.strip()
    if form is LogFormat.JSON:
        event = json.loads(said)
        assert (event["event"], event["message"]) == ("warning", "worker tcp://one was killed")
    else:
        assert said == "worker tcp://one was killed"


@pytest.mark.parametrize(
    ("seconds", "told"), [(20, "20 s"), (60, "1 min"), (3599, "1 h 0 min"), (7800, "2 h 10 min")]
)
def test_times_are_for_people(seconds, told):
    assert progress._format_seconds(seconds) == told

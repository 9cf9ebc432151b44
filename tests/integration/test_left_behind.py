"""What the real command leaves behind, however it ends: no process, no lease, no temporary file."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

SPAN = "2020-05-01/2020-05-20"


@dataclass(frozen=True)
class Ended:
    """A command that has ended."""

    code: int
    errors: str


def group(number: int) -> list[str]:
    """Processes of a session, by Linux's own table; a worker may be in a group of its own."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rpartition(")")[2].split()
            words = (status.parent / "cmdline").read_text().replace("\0", " ")
        except OSError:  # it ended meanwhile
            continue
        if int(fields[3]) == number and fields[0] != "Z":
            found.append(words)
    return found


def run(demo, network64, folder: Path, *, interrupt: bool = False, catalog: Path | None = None) -> Ended:
    """The command in a session of its own, with a folder for temporary files of its own."""
    out, scratch = folder / "out.zarr", folder / "tmp"
    scratch.mkdir()
    options = {
        "--aoi": demo.aoi,
        "--dates": SPAN,
        "--stac": catalog or demo.catalog,
        "--model": network64,
        "--out": out,
        "--workers": 1,
    }
    words = [str(word) for pair in options.items() for word in pair]
    with subprocess.Popen(
        [sys.executable, "-m", "cloudgan.cli.app", "batch", *words],
        env=os.environ | {"TMPDIR": str(scratch)},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        if interrupt:  # as a terminal does: to all processes of the group
            pixels, deadline = out / "green" / "c", time.monotonic() + 200
            while not any(pixels.rglob("0")) and time.monotonic() < deadline:  # the unit is being written
                assert process.poll() is None
                time.sleep(0.02)
            os.killpg(process.pid, signal.SIGINT)
        errors = process.communicate(timeout=250)[1]
        left = group(process.pid)
        deadline = time.monotonic() + 10  # Python's own helper processes end after their parent
        while left and time.monotonic() < deadline:
            time.sleep(0.1)
            left = group(process.pid)
    assert left == []
    # `import onnxruntime` alone leaves that one.
    assert [str(path) for path in scratch.rglob("*") if path.name != ".ses"] == []
    assert [path.name for path in folder.iterdir() if path.name not in ("out.zarr", "tmp", "demo")] == []
    assert [str(path) for path in out.rglob("*") if path.suffix in (".partial", ".lease")] == []
    return Ended(process.returncode, errors)


pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs the table of processes")


def test_a_run_that_ends_well_leaves_nothing_behind(demo, network64, tmp_path):
    assert run(demo, network64, tmp_path).code == 0


def test_an_interrupted_run_leaves_nothing_behind(demo, network64, tmp_path):
    ended = run(demo, network64, tmp_path, interrupt=True)
    assert ended.code == 130, ended.errors
    assert "interrupted: what is done is kept" in ended.errors
    assert "Traceback" not in ended.errors


def test_a_run_whose_units_fail_leaves_nothing_behind(demo, network64, tmp_path):
    shutil.copytree(demo.catalog.parent, tmp_path / "demo")
    for file in (tmp_path / "demo").rglob("B04.tif"):
        file.unlink()
    ended = run(demo, network64, tmp_path, catalog=tmp_path / "demo" / "catalog.json")
    assert ended.code == 1, ended.errors
    assert "could not be read" in ended.errors

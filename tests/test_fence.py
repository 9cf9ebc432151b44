"""The fence of a store: writers of earlier runs, power cuts, removals that are cut off, files of others."""

from __future__ import annotations

import asyncio
import json
import shutil
import tempfile
import threading
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from networks import BANDS
from obstore.store import MemoryStore
from test_store import PLAN, made, quick_disk  # noqa: F401 - a fixture

from cloudgan.cli.app import main
from cloudgan.distributed.report import ZoneReport
from cloudgan.errors import StoreError
from cloudgan.geo.grid import Grid, Lattice, Window
from cloudgan.io.store import fence, writer
from cloudgan.io.store.access import HOME, list_objects, read_object
from cloudgan.io.store.ledger import DONE, PENDING
from cloudgan.io.store.store import REPORT, Store, find_store, prepare_store
from cloudgan.io.store.verify import verify_store
from cloudgan.planning.plan import Plan

SMALL = replace(
    PLAN, grid=Grid(Lattice(32633, 10.0), Window(0, 40_000, 32, 16)), scenes=PLAN.scenes[:1], written=(0,)
)
PLANS = {name: replace(SMALL, model=name * 64) for name in "01"}


def do(plan: Plan, store: Store, index: int) -> None:
    """A unit's whole work but reading and generating; its numbers are the model's own."""
    unit = plan.unit(index)
    opened = store.open_writer(plan.store_spec(), unit.window)
    date = made(index, int(plan.model[0]) + 10, unit.window)
    opened.write(0, date.variables(BANDS))
    opened.enter(index, DONE)


def read_bytes(location: str) -> dict[str, bytes]:
    """Every object of a store but the root's metadata and what tells of runs."""
    of_runs = ("zarr.json", fence.FOLDER, REPORT)
    keys = [key for key in list_objects(location) if not key.startswith(of_runs)]
    return {key: read_object(location, key) for key in sorted(keys)}


# A writer that is stopped in the very step in which it writes


@dataclass
class Stopped(threading.Thread):
    """A writer of a unit that stops before its n-th write, and goes on when it is told."""

    plan: Plan
    store: Store
    index: int
    before: int
    reached: threading.Event = field(default_factory=threading.Event)
    go: threading.Event = field(default_factory=threading.Event)
    error: Exception | None = None

    def __post_init__(self):
        super().__init__(daemon=True)
        self.done = 0
        self.start()
        assert self.reached.wait(30)

    __hash__ = threading.Thread.__hash__

    def run(self):
        try:
            root = self.store._open()
            unit = self.plan.unit(self.index)
            shards = made(self.index, 99, unit.window).variables(BANDS)
            for name, values in shards.items():
                self._set(root, f"{name}/c/0/{self.index}/0", values.tobytes())
            self._set(root, f"{fence.FOLDER}/c/{self.index}", b"late")
        except StoreError as error:
            self.error = error
        finally:
            self.reached.set()

    def _set(self, root, key, body):
        from zarr.core.buffer import default_buffer_prototype

        self.done += 1
        value = default_buffer_prototype().buffer.from_bytes(body)
        if self.done == self.before:
            STOPPING[threading.get_ident()] = self
        if self.store.location.startswith("memory:"):
            asyncio.run(root.set(key, value))
        else:
            root.set_sync(key, value)

    def resume(self):
        self.go.set()
        self.join(30)
        assert not self.is_alive()


STOPPING: dict[int, Stopped] = {}
MOVE, PUT = fence._move, fence._put


def wait_here():
    thread = STOPPING.pop(threading.get_ident(), None)
    if thread is not None:
        thread.reached.set()
        assert thread.go.wait(60)


def move(piece, path):
    wait_here()
    MOVE(piece, path)


async def put(*arguments):
    wait_here()
    await PUT(*arguments)


class Runs(RuleBasedStateMachine):
    """Runs of two plans take turns on one place, while writers of earlier ones are stopped and go on."""

    def __init__(self):
        super().__init__()
        self.patches = []
        self.stopped: list[Stopped] = []
        self.wanted: dict[str, bytes] | None = None

    @initialize(on_disk=st.booleans())
    def place(self, on_disk):
        self.folder = Path(tempfile.mkdtemp())
        memory: dict[str, MemoryStore] = {}
        self.location = str(self.folder / "out.zarr") if on_disk else "memory://out.zarr"
        self.patches = [
            mock.patch.object(fence, "_move", move),
            mock.patch.object(fence, "_put", put),
            mock.patch.object(fence, "_sync"),
            *(
                mock.patch(
                    f"cloudgan.io.{name}.open_object_store", lambda url: memory.setdefault(url, MemoryStore())
                )
                for name in ("store.fence", "store.access", "store.remove", "lease")
            ),
        ]
        for patch in self.patches:
            patch.start()
        self.references = {}
        for name, plan in PLANS.items():
            reference = prepare_store(str(self.folder / f"{name}.zarr"), plan.store_spec())
            for index in range(plan.unit_count):
                do(plan, reference, index)
            self.references[name] = read_bytes(reference.location)
        self.begin("0")

    @rule(name=st.sampled_from("01"))
    def begin(self, name):
        self.plan = PLANS[name]
        self.store = prepare_store(self.location, self.plan.store_spec(), overwrite=True).begin_run()
        self.wanted = None

    @rule(index=st.integers(0, 1), before=st.integers(1, 8))
    def stop_a_writer(self, index, before):
        if self.store.read_ledger()[index] == PENDING and len(self.stopped) < 3:
            self.stopped.append(Stopped(self.plan, self.store, index, before))

    @rule()
    def take_over(self):
        """The same plan again: what is done stays."""
        self.store = self.store.begin_run()

    @rule()
    def complete(self):
        """What a run does from its beginning to its end."""
        self.store = self.store.begin_run()
        for index in np.flatnonzero(self.store.read_ledger() == PENDING):
            do(self.plan, self.store, int(index))
        self.store.finish({"missing_items": [], "failed": []})
        self.wanted = self.references[self.plan.model[0]]

    @rule(data=st.data())
    def resume_a_writer(self, data):
        if self.stopped:
            old = self.stopped.pop(data.draw(st.integers(0, len(self.stopped) - 1)))
            old.resume()
            if old.store.run != self.store.run:
                assert isinstance(old.error, StoreError) or self.wanted is None

    @invariant()
    def what_a_run_has_ended_stays(self):
        if self.wanted is not None:
            assert read_bytes(self.location) == self.wanted
            assert (self.store.read_ledger() == DONE).all()

    def teardown(self):
        for old in self.stopped:
            old.resume()
        for patch in self.patches:
            patch.stop()
        shutil.rmtree(self.folder, ignore_errors=True)


Runs.TestCase.settings = settings(max_examples=6, stateful_step_count=12, deadline=None)
TestRuns = Runs.TestCase


@pytest.mark.parametrize("on_disk", [True, False], ids=["disk", "objects"])
@pytest.mark.parametrize("plan", ["0", "1"], ids=["same plan", "another plan"])
def test_a_writer_that_goes_on_after_the_next_run_has_ended_changes_no_byte(on_disk, plan):
    """Stopped before each of its writes in turn, the last of which is its entry in the ledger."""
    runs = Runs()
    runs.place(on_disk=on_disk)
    try:
        for before in range(1, 9):
            runs.begin("0" if plan == "1" else "1")
            runs.begin("0")
            runs.stop_a_writer(0, before)
            runs.begin(plan)
            runs.complete()
            (old,) = runs.stopped
            runs.stopped.clear()
            old.resume()
            assert isinstance(old.error, StoreError)
            runs.what_a_run_has_ended_stays()
    finally:
        runs.teardown()


# Power cuts


def test_all_of_a_unit_is_on_the_disk_before_its_entry(tmp_path, monkeypatch):
    """Each of its files, and each folder up to the root that names one."""
    path, synced = tmp_path / "out.zarr", set()
    store = prepare_store(str(path), PLAN.store_spec())
    monkeypatch.setattr(fence, "_sync", synced.add)
    enter, seen = writer.write_entry, []

    def check(root, index, entry):
        seen.append(len(entry.shards))
        for key in entry.shards:
            assert {path / key, *(path / key).parents} & synced >= {path, path / key, (path / key).parent}
        enter(root, index, entry)

    monkeypatch.setattr(writer, "write_entry", check)
    unit = PLAN.unit(0)
    opened = store.open_writer(PLAN.store_spec(), unit.window)
    for at in range(2):
        opened.write(at, made(0, at, unit.window).variables(BANDS))
    opened.enter(0, DONE)
    assert seen == [2 * 8]
    assert path / fence.FOLDER / "c" / "0" in synced


@pytest.fixture
def finished(tmp_path):
    """A store with all done, and what it holds."""
    path = tmp_path / "out.zarr"
    store = prepare_store(str(path), SMALL.store_spec())
    for index in range(SMALL.unit_count):
        do(SMALL, store, index)
    store.finish({"missing_items": [], "failed": []})
    store.end_run()
    return path


def complete(path: Path) -> None:
    """What a rerun does."""
    store = prepare_store(str(path), SMALL.store_spec())
    for index in np.flatnonzero(store.read_ledger() == PENDING):
        do(SMALL, store, int(index))
    store.finish({"missing_items": [], "failed": []})
    store.end_run()


TEMPLATE = [
    "zarr.json",
    f"{HOME}/units/zarr.json",
    f"{HOME}/units/c/1",
    f"{HOME}/units/run.json",
]
TEMPLATE += [
    f"{HOME}/plan.json",
    f"{HOME}/about.json",
    "spatial_ref/zarr.json",
    "green/zarr.json",
    "provenance/zarr.json",
    "time/zarr.json",
    "time/c/0",
]


@pytest.mark.parametrize("body", [b"", b"\0" * 100, None], ids=["empty", "zeros", "missing"])
@pytest.mark.parametrize("key", [*TEMPLATE, "item_ids/c/0", "x/c/0"])
def test_what_a_power_cut_takes_is_made_anew_by_a_rerun(finished, key, body):
    before = read_bytes(str(finished))
    (finished / key).unlink()
    if body is not None:
        (finished / key).write_bytes(body)
    complete(finished)
    assert read_bytes(str(finished)) == before
    assert find_store(str(finished), SMALL.store_spec()).is_finished()


def test_a_first_write_that_was_cut_off_leaves_a_place_that_can_be_used(tmp_path):
    path = tmp_path / "out.zarr"
    path.mkdir()
    (path / "zarr.json.0123.partial").write_bytes(b"{")
    (path / "zarr.json").touch()
    complete(path)
    assert [key for key in list_objects(str(path)) if key.endswith(".partial")] == []


# Removing


@pytest.mark.parametrize("key", ["notes.txt", "green/my.tif", "ndvi/zarr.json", f"{HOME}/mine"])
def test_files_of_others_in_a_store_are_named_and_kept(finished, key):
    (finished / key).parent.mkdir(exist_ok=True)
    (finished / key).write_text("mine")
    with pytest.raises(
        StoreError, match=rf"holds 1 files that cloudgan did not write \({key}\); move them away"
    ):
        prepare_store(str(finished), PLANS["1"].store_spec(), overwrite=True)
    assert (finished / key).read_text() == "mine"
    assert verify_store(str(finished))[0].ok


@pytest.mark.parametrize("moment", range(1, 14, 3))
def test_a_removal_that_is_cut_off_is_continued(finished, monkeypatch, moment):
    steps = iter(range(1, 100))

    def cut_off(path, **options):
        if next(steps) == moment:
            raise KeyboardInterrupt
        remove(path, **options)

    remove = shutil.rmtree
    monkeypatch.setattr(shutil, "rmtree", cut_off)
    with suppress(KeyboardInterrupt):
        prepare_store(str(finished), PLANS["1"].store_spec(), overwrite=True)
    monkeypatch.undo()
    if moment > 1:  # what is half there does not count as done
        assert find_store(str(finished), SMALL.store_spec()) is None
    store = prepare_store(str(finished), PLANS["1"].store_spec(), overwrite=True)
    assert not store.read_ledger().any()
    assert list(finished.parent.iterdir()) == [finished]


# Verification


def test_what_differs_is_named_and_done_again(finished):
    (clean,) = verify_store(str(finished))
    assert (clean.ok, clean.verified, clean.units, clean.marked) == (True, 16, 2, False)
    before = read_bytes(str(finished))
    (finished / "green/c/0/0/0").write_bytes(before["green/c/0/0/0"][:-1])
    (finished / "red/c/0/1/0").unlink()
    (finished / "nir/c/0/0/0").write_bytes(b"")
    (finished / "red/c/0/7").mkdir()
    (finished / "red/c/0/7/0").write_bytes(b"x")
    wanted = {
        "green/c/0/0/0": "differs",
        "nir/c/0/0/0": "is empty",
        "red/c/0/1/0": "is missing",
        "red/c/0/7/0": "is no unit's; remove it",
    }
    (dry,) = verify_store(str(finished), mark=False)
    assert dry.differing == wanted
    assert find_store(str(finished), SMALL.store_spec()).is_finished()
    (found,) = verify_store(str(finished))
    assert found.differing == wanted
    assert found.damaged_units == (0, 1)
    (finished / "red/c/0/7/0").unlink()
    assert not find_store(str(finished), SMALL.store_spec()).is_finished()
    complete(finished)
    assert read_bytes(str(finished)) == before


def test_a_sample_is_as_large_as_was_asked(finished):
    (found,) = verify_store(str(finished), sample=3, seed=1)
    assert (found.verified, found.shards) == (3, 16)


def test_an_item_that_lies_elsewhere_by_now_makes_another_store(finished):
    (scene,) = SMALL.scenes
    (item,) = scene.items
    moved = tuple(replace(asset, transform=(10.0, 0.0, 2000.0, 0.0, -10.0, 0.0)) for asset in item.assets)
    for changes in ({"assets": moved}, {"footprint": "POINT (15 46)"}):
        other = replace(SMALL, scenes=(replace(scene, items=(replace(item, **changes),)),))
        with pytest.raises(StoreError, match="1 with other files, another frame or another offset"):
            prepare_store(str(finished), other.store_spec())


def test_the_command_says_by_its_exit_code_whether_anything_differs(finished, capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["verify", str(finished)])
    assert "16 of 16 shards of 2 units verified, 0 differ" in capsys.readouterr().out
    (finished / "green/c/0/0/0").write_bytes(b"")
    for marked, options in ((False, ["--no-mark"]), (True, [])):
        with pytest.raises(SystemExit, match="1"):
            main(["verify", str(finished), "--json", *options])
        (found,) = json.loads(capsys.readouterr().out)
        assert found["differing"] == {"green/c/0/0/0": "is empty"}
        assert (found["damaged_units"], found["marked"]) == ([0], marked)


@pytest.mark.parametrize(
    ("states", "allow_missing", "pending"),
    [([1, 1], False, 0), ([1, 0], False, 1), ([1, 2], False, 1), ([1, 2], True, 0), ([0, 2], True, 1)],
)
def test_a_run_is_well_when_every_unit_is_done(states, allow_missing, pending):
    ledger = np.array(states, np.uint8)
    report = ZoneReport.of_ledger(ledger).count_pending(ledger, allow_missing=allow_missing)
    assert (report.pending, report.ok) == (pending, pending == 0)

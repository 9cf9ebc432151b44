"""The store: its template, what units write, the ledger, the lease; without Dask and without pixels read."""

from __future__ import annotations

import datetime as dt
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import BANDS
from shapely.geometry import box
from zarr.core.buffer import default_buffer_prototype

from cloudgan.errors import StoreError, WriteError
from cloudgan.geo.grid import Grid, Lattice, Window
from cloudgan.geo.tiling import Tiling
from cloudgan.io.lease import hold_lease
from cloudgan.io.store.access import FORMER_HOME, HOME
from cloudgan.io.store.description import describe_store
from cloudgan.io.store.fence import FOLDER, RUN, Run, open_for_writing
from cloudgan.io.store.identity import COPY, describe_differences, read_identity
from cloudgan.io.store.ledger import DONE, DONE_WITHOUT_ASSETS, PENDING
from cloudgan.io.store.store import Store, check_store, find_store, prepare_store
from cloudgan.io.store.verify import verify_store
from cloudgan.model.contract import Channel, Contract, Source
from cloudgan.planning.plan import Plan
from cloudgan.removal.core import DecloudedDate
from cloudgan.schema import QUALITY_NAMES
from cloudgan.stac.items import Asset, SourceItem
from cloudgan.stac.search import Scene
from cloudgan.stac.signing import Signing

few = settings(max_examples=8)


@pytest.fixture(autouse=True)
def quick_disk(monkeypatch):
    """Nothing waits for the disk: no test here cuts the power. `test_fence` does."""
    monkeypatch.setattr("cloudgan.io.store.fence._sync", lambda path: None)


def scene(day: int, **changes) -> Scene:
    """A solar day of one item, whose files need not be there."""
    name = f"S2A_33TWM_202004{day:02d}_0_L2A"
    item = SourceItem(
        id=name,
        collection="sentinel-2-l2a",
        datetime=dt.datetime(2020, 4, day, 10, tzinfo=dt.UTC),
        epsg=32633,
        footprint=box(15, 46, 16, 47).wkt,
        assets=tuple(Asset(band, f"/data/{name}/{band}.tif", None, None) for band in (*BANDS, "scl")),
        offset=0,
        processing_baseline="05.09",
        sequence=0,
        generated=None,
        cloud_cover=10.0,
        mgrs_tile="33TWM",
        datatake=None,
        datastrip=None,
        signing=Signing.NONE,
    )
    return Scene(item.datetime.date(), 32633, (replace(item, **changes),))


PLAN = Plan(
    grid=Grid(Lattice(32633, 10.0), Window(0, 40_000, 40, 30)),
    scenes=(scene(3), scene(8)),
    written=(0, 1),
    contract=Contract("mean", "1", tuple(Channel(Source.TARGET, band) for band in BANDS), BANDS, 32),
    model="0" * 64,
    tiling=Tiling(32, 24),
    buffer=2,
    block=16,
)


@contextmanager
def store_of(plan: Plan = PLAN):
    """A new store on a disk, and its folder."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "out.zarr"
        yield prepare_store(str(path), plan.store_spec()), path


def made(index: int, at: int, window: Window) -> DecloudedDate:
    """What a unit would write of a date: numbers that say where they belong."""
    rng = np.random.default_rng((index, at))
    numbers = rng.integers(1, 10_000, (len(BANDS), *window.shape)).astype(np.uint16)
    return DecloudedDate(
        numbers,
        (numbers[0] % 4).astype(np.uint8),
        (numbers[0] % 256).astype(np.uint8),
        numbers[1],
        numbers[2],
        numbers[0],
        numbers[0] > 9,
    )


def do(store: Store, index: int, state: int = DONE) -> None:
    """A unit's whole work but reading and generating."""
    unit = PLAN.unit(index)
    writer = store.open_writer(PLAN.store_spec(), unit.window)
    for at in range(len(PLAN.written)):
        writer.write(at, made(index, at, unit.window).variables(BANDS))
    writer.enter(index, state)


def files(path: Path) -> dict[str, bytes]:
    """Every file of a store but the one that names its run."""
    found = {str(f.relative_to(path)): f.read_bytes() for f in sorted(path.rglob("*")) if f.is_file()}
    return {name: body for name, body in found.items() if name != RUN}


# Units and the ledger

orders = st.permutations(range(PLAN.unit_count))


@few
@given(orders, st.lists(st.integers(0, PLAN.unit_count - 1), max_size=4))
def test_any_order_and_any_repetition_of_units_leaves_the_same_bytes(order, again):
    with store_of() as (store, path), store_of() as (other, straight):
        for index in (*order, *again):
            do(store, index)
        for index in range(PLAN.unit_count):
            do(other, index)
        for one in (store, other):
            one.finish({"missing_items": [], "failed": []})
        assert files(path) == files(straight)


@few
@given(st.dictionaries(st.integers(0, PLAN.unit_count - 1), st.sampled_from([DONE, DONE_WITHOUT_ASSETS])))
def test_the_ledger_says_what_is_done_and_survives_a_second_preparation(states):
    with store_of() as (store, path):
        for index, state in states.items():
            do(store, index, state)
        for one in (store, prepare_store(str(path), PLAN.store_spec())):
            found = {
                int(at): int(one.read_ledger()[at]) for at in np.flatnonzero(one.read_ledger() != PENDING)
            }
            assert found == states


def test_what_units_write_is_what_is_read(tmp_path):
    store = prepare_store(str(tmp_path / "out.zarr"), PLAN.store_spec())
    for index in range(PLAN.unit_count):
        do(store, index)
    store.finish({"missing_items": [], "failed": []})
    read = xr.open_zarr(tmp_path / "out.zarr", mask_and_scale=False)
    for unit in PLAN.units():
        rows, cols = unit.window.slices_in(PLAN.grid.window)
        for at in range(2):
            for name, values in made(unit.index, at, unit.window).variables(BANDS).items():
                np.testing.assert_array_equal(read[name].values[at, rows, cols], values)


@few
@given(st.data())
def test_a_template_cut_off_anywhere_is_made_again(data):
    """Whatever files of it are there, as long as the root is: the ledger comes last."""
    with store_of() as (_, path), store_of() as (_, whole):
        parts = sorted(p for p in path.iterdir() if p.is_dir())
        for part in data.draw(st.sets(st.sampled_from(parts))):
            shutil.rmtree(part)
        shutil.rmtree(path / FOLDER, ignore_errors=True)
        assert find_store(str(path), PLAN.store_spec()) is None
        prepare_store(str(path), PLAN.store_spec())
        assert files(path) == files(whole)


def test_pieces_of_killed_writers_are_swept_away_in_the_end(tmp_path):
    path = tmp_path / "out.zarr"
    store = prepare_store(str(path), PLAN.store_spec())
    piece = path / "green" / "c" / "0" / "0.0123456789abcdef.partial"
    piece.parent.mkdir(parents=True)
    piece.write_bytes(b"half")
    store.finish({"missing_items": [], "failed": []})
    assert not piece.exists()


def test_a_store_is_finished_when_all_is_done_and_the_report_says_so(tmp_path):
    store = prepare_store(str(tmp_path / "out.zarr"), PLAN.store_spec())
    assert not store.is_finished()
    for index in range(PLAN.unit_count):
        do(store, index)
    assert not store.is_finished()  # the run was cut off at its very end
    store.finish({"missing_items": [], "failed": [{"unit": 1}]})
    assert not store.is_finished()
    store.finish({"missing_items": [], "failed": []})
    assert store.is_finished()
    store.mark(3, DONE_WITHOUT_ASSETS)
    assert not store.is_finished()


def test_failed_units_are_those_that_nobody_has_done_since(tmp_path):
    store = prepare_store(str(tmp_path / "out.zarr"), PLAN.store_spec())
    assert store.find_failed_units() == []
    do(store, 0)
    store.finish({"missing_items": [], "failed": [{"unit": 1}, {"unit": 4}]})
    assert store.find_failed_units() == [1, 4]
    do(store, 4)
    assert store.find_failed_units() == [1]


def test_units_of_two_kinds_of_processors_are_not_mixed(tmp_path):
    store = prepare_store(str(tmp_path / "out.zarr"), PLAN.store_spec())
    store.begin("gpu")
    store.begin("cpu")  # nothing is done yet
    do(store, 0)
    store.begin("cpu")
    with pytest.raises(StoreError, match=r"was begun on a CPU, and the workers generate on a GPU.*--out"):
        store.begin("gpu")


# Other plans


def test_differences_show_the_old_before_the_new():
    wanted = replace(PLAN, buffer=3, scenes=(scene(3, offset=1000), scene(13)), model="1" * 64)
    assert describe_differences(PLAN.identity(), wanted.identity()) == [
        "buffer: 2 -> 3",
        "dates: 1 more (2020-04-13); 1 fewer (2020-04-08)",
        "items: 1 more (S2A_33TWM_20200413_0_L2A); 1 fewer (S2A_33TWM_20200408_0_L2A); "
        "1 with other files, another frame or another offset (S2A_33TWM_20200403_0_L2A)",
        f"model: {'0' * 37}... -> {'1' * 37}...",
    ]


def make_former(path: Path) -> None:
    """Turn a store into one of format 2, as cloudgan 0.2.0 made them."""
    (path / HOME).rename(path / FORMER_HOME)
    metadata = json.loads((path / "zarr.json").read_text())
    identity = json.loads((path / FORMER_HOME / "plan.json").read_text()) | {"format": 2}
    (path / FORMER_HOME / "units" / "plan.json").write_text(json.dumps(identity))
    metadata["attributes"]["cloudgan:plan"] = identity
    (path / "zarr.json").write_text(json.dumps(metadata))
    for name in ("plan", "about", "device", "report"):
        (path / FORMER_HOME / f"{name}.json").unlink(missing_ok=True)


@pytest.mark.parametrize("root", [True, False], ids=["whole", "without its root"])
def test_a_store_of_an_earlier_layout_is_refused_in_one_sentence_and_can_be_replaced(tmp_path, root):
    path = tmp_path / "out.zarr"
    do(prepare_store(str(path), PLAN.store_spec()), 0)
    make_former(path)
    if not root:
        (path / "zarr.json").unlink()
    before = files(path)
    refusal = r"^.*out\.zarr was begun by an earlier version of cloudgan, .*--overwrite to replace it$"
    for call in (
        lambda: check_store(str(path), PLAN.store_spec()),
        lambda: prepare_store(str(path), PLAN.store_spec()),
        lambda: verify_store(str(path)),
        lambda: describe_store(str(path)),
    ):
        with pytest.raises(StoreError, match=refusal):
            call()
    assert find_store(str(path), PLAN.store_spec()) is None
    assert files(path) == before
    store = prepare_store(str(path), PLAN.store_spec(), overwrite=True)
    assert not store.read_ledger().any()
    assert not (path / FORMER_HOME).exists()


def test_a_writer_of_the_earlier_layout_writes_nothing_into_what_replaced_its_store(tmp_path, monkeypatch):
    path = tmp_path / "out.zarr"
    prepare_store(str(path), PLAN.store_spec())
    make_former(path)
    monkeypatch.setattr("cloudgan.io.store.fence.FOLDER", f"{FORMER_HOME}/units")
    monkeypatch.setattr("cloudgan.io.store.fence.RUN", f"{FORMER_HOME}/units/run.json")
    (path / FORMER_HOME / "units" / "run-old").mkdir()
    old = open_for_writing(str(path), Run(1, "old"))
    monkeypatch.undo()
    prepare_store(str(path), PLAN.store_spec(), overwrite=True)
    before = files(path)
    with pytest.raises((StoreError, FileNotFoundError)):
        old.set_sync("green/c/0/0/0", default_buffer_prototype().buffer.from_bytes(b"late"))
    assert files(path) == before


@pytest.mark.parametrize("key", [COPY, "zarr.json"])
def test_one_of_the_two_that_know_the_plan_restores_the_other(tmp_path, key):
    path = tmp_path / "out.zarr"
    do(prepare_store(str(path), PLAN.store_spec()), 0)
    before = files(path)
    (path / key).unlink()
    with pytest.raises(StoreError, match="was made with other settings"):
        check_store(str(path), replace(PLAN, buffer=9).store_spec())
    store = prepare_store(str(path), PLAN.store_spec())
    assert files(path) == before
    assert store.read_ledger()[0] == DONE


def test_another_plan_is_refused_with_the_difference(tmp_path):
    path = str(tmp_path / "out.zarr")
    prepare_store(path, PLAN.store_spec())
    with pytest.raises(StoreError, match=r"^.*out\.zarr was made with other settings.*\n  buffer: 2 -> 9$"):
        check_store(path, replace(PLAN, buffer=9).store_spec())


# Failures have a name


def test_a_refused_write_is_a_named_failure_without_an_entry_in_the_ledger(tmp_path):
    """In a process that may write files of no more than 300 bytes: a shard is larger."""
    path = tmp_path / "out.zarr"
    prepare_store(str(path), PLAN.store_spec())
    code = (
        "import resource, sys\n"
        f"sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from test_store import *\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (300, 300))\n"
        f"store = find_store({str(path)!r}, PLAN.store_spec()).begin_run()\n"
        "try:\n    do(store, 0)\n"
        "except WriteError as error:\n    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "out.zarr refused a write (File too large); make room or give it rights" in done.stdout
    store = find_store(str(path), PLAN.store_spec()).begin_run()
    assert not store.read_ledger().any()
    assert not list(path.rglob("*.partial"))
    do(store, 0)
    assert store.read_ledger()[0] == DONE


def test_only_failed_writes_are_named_so(tmp_path):
    store = prepare_store(str(tmp_path / "out.zarr"), PLAN.store_spec())
    wrong = replace(made(0, 0, PLAN.unit(0).window), provenance=np.zeros((3, 3), np.uint8))
    with pytest.raises(ValueError, match=r"."):
        store.open_writer(PLAN.store_spec(), PLAN.unit(0).window).write(0, wrong.variables(BANDS))
    shutil.rmtree(tmp_path / "out.zarr")
    with pytest.raises(WriteError, match="refused a write"):
        store.mark(0, DONE)


def test_the_store_is_a_zarr_that_lists_without_a_word(tmp_path):
    store = prepare_store(str(tmp_path / "out.zarr"), PLAN.store_spec())
    with hold_lease(store.location):
        names = {name for name, _ in zarr.open_group(tmp_path / "out.zarr", mode="r").members()}
    data = {*BANDS, *QUALITY_NAMES}
    of_dates = {
        "acquired",
        "item_ids",
        "cloud_cover",
        "processing_baseline",
        "hazy",
        *(f"error_std_{band}" for band in BANDS),
    }
    assert names == data | of_dates | {"time", "y", "x", "spatial_ref"}


# One run a store

HOLD = (
    "import sys, time; from cloudgan.io.lease import hold_lease\n"
    "with hold_lease(sys.argv[1]): print('held', flush=True); time.sleep(60)"
)


@contextmanager
def another_run(path: Path):
    """A process that holds the lease of a store."""
    with subprocess.Popen([sys.executable, "-c", HOLD, path], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_store_that_another_process_writes_is_refused_until_that_dies(tmp_path):
    path = tmp_path / "out.zarr"
    with another_run(path) as process:
        refusal = rf"another run is writing .*out\.zarr \(process {process.pid} on .*\); let it end, or give"
        with pytest.raises(StoreError, match=refusal):
            prepare_store(str(path), PLAN.store_spec())
        assert not path.exists()
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        prepare_store(str(path), PLAN.store_spec())  # at once
    assert read_identity(str(path)) == PLAN.identity()


def test_how_good_each_date_is_stands_in_the_store():
    """Nothing is known before the end of a run, and nothing of a date without neighbours."""
    with store_of() as (store, path):
        dates = xr.open_zarr(path, consolidated=False)
        count = dates.sizes["time"]
        assert (dates["hazy"] == 255).all()
        assert dates["error_std_red"].isnull().all()
        std = np.linspace(0.01, 0.02, count).astype(np.float32)
        std[-1] = np.nan
        hazy = np.arange(count) == 0
        store.write_quality_of_dates(hazy, dict.fromkeys(BANDS, std))
        dates = xr.open_zarr(path, consolidated=False)
        assert dates["hazy"].values.tolist() == [1, *[0] * (count - 2), 255]
        np.testing.assert_array_equal(dates["error_std_red"], std)
        assert "hazy" in dates["red"].coords


def test_radiometry_that_is_kept_is_there_for_every_unit():
    values = np.arange(12, dtype=np.float32).reshape(2, 2, 3)
    with store_of() as (store, path):
        assert store.read_radiometry(1) is None
        store.write_radiometry(1, values)
        kept = files(path)
        store.write_radiometry(1, values)
        assert files(path) == kept
        np.testing.assert_array_equal(store.read_radiometry(1), values)
        assert store.read_radiometry(0) is None


def test_radiometry_that_another_unit_is_just_writing_is_not_there_yet():
    values = np.ones((2, 2, 3), np.float32)
    with store_of() as (store, path):
        store.write_radiometry(0, values)
        (kept,) = (path / HOME).glob("radiometry-*-0")
        shutil.rmtree(kept / "c")
        assert store.read_radiometry(0) is None

"""The lease on a disk; that in an object store is tested on a real one, in integration/test_s3.py."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from cloudgan.errors import StoreError
from cloudgan.io.lease import Holder, hold_lease


def test_the_lease_leaves_nothing_behind(tmp_path):
    with hold_lease(str(tmp_path / "out.zarr")) as lease:
        assert [f.name for f in tmp_path.iterdir()] == ["out.zarr.lease"]
        assert not lease.lost
    assert list(tmp_path.iterdir()) == []


def test_one_of_many_gets_the_lease(tmp_path):
    code = (
        "import sys, time; from cloudgan.io.lease import hold_lease; from cloudgan.errors import StoreError\n"
        "try:\n"
        "    with hold_lease(sys.argv[1]): print('held', flush=True); sys.stdin.read()\n"
        "except StoreError: print('refused', flush=True)\n"
    )
    calls = [sys.executable, "-c", code, tmp_path / "out.zarr"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    contenders = [subprocess.Popen(calls, **pipes) for _ in range(4)]
    answers = sorted(contender.stdout.readline() for contender in contenders)
    for contender in contenders:
        contender.communicate()
    assert answers == ["held\n", "refused\n", "refused\n", "refused\n"]


def test_a_store_that_is_mounted_elsewhere_shares_its_lease(tmp_path):
    """As containers mount it: the folder has another name, and nothing is common beside it."""
    store, mounted = tmp_path / "host" / "out.zarr", tmp_path / "container" / "data"
    store.mkdir(parents=True)
    mounted.parent.mkdir()
    mounted.symlink_to(store)
    with hold_lease(str(store)), pytest.raises(StoreError, match="another run is writing"):
        _lock_folder_alone(mounted)
    with hold_lease(str(mounted)):
        pass


def _lock_folder_alone(path):
    """Hold the lease of a folder whose path does not lead back to where it was held first."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "resolve", Path.absolute)
        with hold_lease(str(path)):
            pass


def test_a_holder_is_dead_only_where_its_own_machine_knows():
    here = Holder.here()
    assert Holder.parse(here.to_bytes()) == here
    assert here.is_dead() is False
    assert replace(here, process="another, of this number").is_dead()
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    assert replace(here, pid=process.pid).is_dead()
    assert replace(here, pid=process.pid, kernel="elsewhere").is_dead() is None
    assert Holder.parse(b"") is None
    assert Holder.parse(b'{"pid": 1}') is None

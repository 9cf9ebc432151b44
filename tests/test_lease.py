"""The lease on a disk; that in an object store is tested on a real one, in integration/test_s3.py."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

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


def test_a_holder_is_dead_only_where_its_own_machine_knows():
    here = Holder.here()
    assert Holder.parse(here.to_bytes()) == here
    assert not here.is_dead()
    assert replace(here, process="another, of this number").is_dead()
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    assert replace(here, pid=process.pid).is_dead()
    assert not replace(here, pid=process.pid, kernel="elsewhere").is_dead()
    assert Holder.parse(b"") is None
    assert Holder.parse(b'{"pid": 1}') is None

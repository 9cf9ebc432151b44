"""A run whose units are done by the process of the command itself."""

from __future__ import annotations

import os
from types import SimpleNamespace

import pytest

from cloudgan.distributed.own_process import OwnProcess
from cloudgan.distributed.scheduling import TRIES, Failure
from cloudgan.errors import InputError, ReadError, StoreError

JOB = SimpleNamespace(generator=SimpleNamespace(runs_on="cpu"))


@pytest.fixture(autouse=True)
def without_pauses(monkeypatch):
    monkeypatch.setattr("cloudgan.distributed.scheduling.PAUSE", 0.0)


def double(job, index):
    assert job is JOB
    return 2 * index


def test_parts_are_done_in_their_order():
    process = OwnProcess(JOB)
    assert list(process.run(double, [3, 1, 2])) == [(3, 6), (1, 2), (2, 4)]
    assert (process.device, process.count_threads()) == ("cpu", 1)


def test_what_fails_is_tried_again_and_then_named_and_the_rest_is_done():
    retried = []

    def read(job, index):
        if index == 1:
            raise ReadError("item a could not be read", "a", "a.tif")
        return index

    found = dict(OwnProcess(JOB).run(read, [0, 1, 2], retried.append))
    assert found == {0: 0, 2: 2, 1: Failure("item a could not be read", ("a",), "a.tif", tries=TRIES)}
    assert retried == [1] * (TRIES - 1)


def test_what_passes_is_no_failure():
    tries = []

    def fail_once(job, index):
        tries.append(index)
        if len(tries) == 1:
            raise OSError("busy")
        return index

    assert list(OwnProcess(JOB).run(fail_once, [7])) == [(7, 7)]


def test_what_no_other_try_would_mend_is_not_tried_again():
    def refuse(job, index):
        raise InputError("a band is missing")

    assert list(OwnProcess(JOB).run(refuse, [0])) == [(0, Failure("a band is missing", heals=False))]


def test_a_run_that_lost_its_store_does_nothing_more():
    def lost():
        raise StoreError("another run has taken over the store")

    done = []
    with pytest.raises(StoreError, match="taken over"):
        list(OwnProcess(JOB, lost).run(lambda job, index: done.append(index), [0]))
    assert done == []


def test_an_interrupt_ends_it_at_once():
    def interrupt(job, index):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(OwnProcess(JOB).run(interrupt, [0, 1]))


def test_the_settings_of_gdal_are_those_of_a_worker_and_go_again(monkeypatch):
    monkeypatch.delenv("GDAL_HTTP_MAX_RETRY", raising=False)
    monkeypatch.setenv("GDAL_CACHEMAX", "64")
    before = dict(os.environ)
    ((_, during),) = OwnProcess(JOB).run(lambda job, index: dict(os.environ), [0])
    assert (during["GDAL_HTTP_MAX_RETRY"], during["GDAL_CACHEMAX"]) == ("5", "64")
    assert dict(os.environ) == before

"""The ways in which a user names a Dask scheduler, and what is said where there is none."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from cloudgan.distributed.cluster import connect, record_performance
from cloudgan.errors import InputError


def refused(scheduler: object) -> str:
    with pytest.raises(InputError) as caught, connect(str(scheduler)):
        pass
    return str(caught.value)


def test_a_scheduler_file_that_is_not_there_is_named(tmp_path):
    said = refused(tmp_path / "scheduler.json")
    assert "scheduler.json (No such file or directory); check the file that dask scheduler" in said


@pytest.mark.parametrize("text", ["", "[]", "{}", "null", '{"address": '])
def test_a_scheduler_file_without_an_address_is_named(text, tmp_path):
    file = tmp_path / "scheduler.json"
    file.write_text(text)
    assert "scheduler.json (it states no address); check the file" in refused(file)


def test_an_address_of_no_protocol_is_refused_at_once():
    assert "check the address, as in tcp://host:8786" in refused("nowhere://host:1")


def test_a_gateway_without_its_client_says_how(monkeypatch):
    monkeypatch.setitem(sys.modules, "dask_gateway", None)
    said = refused("gateway://default.f3a1")
    assert "whose client is not installed; pip install dask-gateway, or call cloudgan.run_batch(" in said
    assert "client=cluster.get_client()" in said


@pytest.mark.parametrize("scheduler", ["gateway://f3a1", "gateway://10.0.0.1:8786/f3a1"])
def test_a_cluster_of_a_gateway_is_joined_by_its_name_and_left_running(scheduler, monkeypatch):
    joined = []

    class Client:
        def __enter__(self):
            return self

        def __exit__(self, *error):
            joined.append("closed")

    class GatewayCluster:
        @staticmethod
        def from_name(name, *, shutdown_on_close):
            joined.append((name, shutdown_on_close))
            return SimpleNamespace(get_client=Client)

    monkeypatch.setitem(sys.modules, "dask_gateway", SimpleNamespace(GatewayCluster=GatewayCluster))
    with connect(scheduler) as client:
        assert isinstance(client, Client)
    assert joined == [("f3a1", False), "closed"]


def test_a_cluster_that_a_gateway_does_not_know_is_named(monkeypatch):
    class GatewayCluster:
        @staticmethod
        def from_name(name, *, shutdown_on_close):
            raise ValueError("Cluster f3a1 not found")

    monkeypatch.setitem(sys.modules, "dask_gateway", SimpleNamespace(GatewayCluster=GatewayCluster))
    said = refused("gateway://f3a1")
    assert "dask-gateway gives no cluster f3a1 (Cluster f3a1 not found); check the name" in said
    assert "DASK_GATEWAY__ADDRESS" in said


def test_without_bokeh_dask_is_not_asked_for_its_performance(monkeypatch):
    """It would answer with a traceback on the terminal of the run."""
    monkeypatch.setattr("cloudgan.distributed.cluster.find_spec", lambda name: None)
    written: list[bytes] = []
    with record_performance(SimpleNamespace(), written.append):
        pass
    assert written == []

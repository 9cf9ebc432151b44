"""Another user of the machine, who reaches every port of the workers that a run starts."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from cloudgan.distributed.cluster import start_workers

NOBODY = 65534
STRANGER = """
import http.client, json, os, sys
import distributed
from distributed.security import Security

os.setgroups([])
os.setgid(65534)
os.setuid(65534)
address, ports = json.loads(sys.argv[1])
host = address.rpartition("/")[2]
found = {"uid": os.getuid(), "ran": [], "refused": [], "pages": {}}
offers = {
    "without a certificate": (f"tcp://{host}", None),
    "with another certificate": (f"tls://{host}", Security.temporary()),
}
for name, (where, security) in offers.items():
    try:
        with distributed.Client(where, security=security, timeout="5s") as client:
            found["ran"].append(str(client.submit(os.getuid).result(timeout=10)))
    except (OSError, TypeError, ValueError, TimeoutError) as error:
        found["refused"].append(f"{name}: {type(error).__name__}")
for port in ports:
    for path in ("/", "/status", "/health", "/metrics", "/json/counts.json", "/info/main/workers.html"):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            connection.request("GET", path)
            found["pages"][f"{port}{path}"] = connection.getresponse().status
        except (OSError, http.client.HTTPException) as error:
            found["pages"][f"{port}{path}"] = type(error).__name__
        finally:
            connection.close()
print(json.dumps(found))
"""


@dataclass(frozen=True)
class Listener:
    """A socket that waits for connections."""

    address: str
    port: int


def listeners(root: int) -> list[Listener]:
    """What a process and those below it listen on, by Linux's own tables."""
    own: set[str] = set()
    for pid in [root, *descendants(root)]:
        for link in Path(f"/proc/{pid}/fd").iterdir():
            target = str(link.readlink()) if link.is_symlink() else ""
            own |= {target.removeprefix("socket:[").rstrip("]")} if target.startswith("socket:[") else set()
    found = []
    for table, family in (("tcp", socket.AF_INET), ("tcp6", socket.AF_INET6)):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in own:
                raw, _, port = fields[1].partition(":")
                words = [bytes.fromhex(raw[at : at + 8])[::-1] for at in range(0, len(raw), 8)]
                found.append(Listener(socket.inet_ntop(family, b"".join(words)), int(port, 16)))
    return found


def descendants(root: int) -> list[int]:
    """Processes below a process."""
    children: list[int] = []
    for path in Path(f"/proc/{root}/task").glob("*/children"):
        children += [int(pid) for pid in path.read_text().split()]
    return [*children, *(below for child in children for below in descendants(child))]


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="needs Linux's tables of sockets")
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become another user")
def test_another_user_of_the_machine_runs_nothing_and_reads_nothing():
    before = set(listeners(os.getpid()))
    with start_workers(2, None) as client:
        open_now = [one for one in listeners(os.getpid()) if one not in before]
        address = client.scheduler_info()["address"]
        ports = [one.port for one in open_now]
        words = [sys.executable, "-c", STRANGER, json.dumps([address, ports])]
        done = subprocess.run(words, capture_output=True, text=True, timeout=200, check=False)
        assert done.returncode == 0, done.stderr
        found = json.loads(done.stdout)
        assert client.submit(os.getuid, pure=False).result() == 0  # whom it belongs to is let in
    assert {one.address for one in open_now} == {"127.0.0.1"}
    assert len(open_now) >= 5  # scheduler, workers and their nannies
    assert found["uid"] == NOBODY
    assert found["ran"] == []
    assert len(found["refused"]) == 2
    answers = set(found["pages"].values())
    assert answers <= {404, "ConnectionResetError", "RemoteDisconnected", "BadStatusLine", "TimeoutError"}


def test_workers_of_our_own_have_no_page():
    """Not even for those who start them: nobody is asked who he is there."""
    with start_workers(1, None) as client:
        assert client.scheduler_info()["address"].startswith("tls://127.0.0.1:")
        for worker in client.scheduler_info()["workers"].values():
            assert worker["nanny"].startswith("tls://127.0.0.1:")

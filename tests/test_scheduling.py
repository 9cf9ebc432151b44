"""What becomes of the tries of a unit whose workers are gone, and what these are said to have died of."""

import re
from collections import Counter
from dataclasses import dataclass

import pytest

from cloudgan.distributed.deaths import Deaths, explain_deaths
from cloudgan.distributed.scheduling import _Flight, _recall, _Try


@dataclass
class Future:
    cancelled: bool = False

    def cancel(self):
        self.cancelled = True


def flight(index, *workers):
    return _Flight(_Try(5.0, index, 2, avoid="tcp://sick"), Future(), dict.fromkeys(workers, 1))


def test_a_try_whose_only_workers_are_gone_may_be_done_by_any():
    flights = {"one": flight(1, "tcp://gone"), "two": flight(2, "tcp://gone", "tcp://here")}
    stranded = flights["one"]
    assert _recall(flights, ["tcp://here", "tcp://sick"]) == [_Try(5.0, 1, 2)]
    assert stranded.future.cancelled
    assert list(flights) == ["two"]


class Client:
    """Hands events on as a scheduler does."""

    def subscribe_topic(self, topic, handler):
        self.tell = lambda **event: handler((0.0, event))

    def begin(self, unit, worker):
        self.tell(work="process_unit", unit=unit, worker=worker)


@pytest.fixture
def client():
    return Client()


@pytest.fixture
def deaths(client):
    return Deaths(client, "run", "process_unit")


@pytest.mark.parametrize("end", ["signal 15", "closed", "exit 0"])
def test_an_end_that_says_nothing_against_the_unit_is_not_counted(end, client, deaths):
    for worker in ("a", "b", "c", "d", "e"):
        client.begin(7, worker)
        client.tell(worker=worker, end=end)
    assert deaths.count(7, []) == {}


def test_deaths_are_those_of_workers_that_had_begun_the_unit(client, deaths):
    client.begin(1, "a")
    client.begin(2, "b")
    client.tell(worker="a", end="signal 11")
    client.tell(worker="c", end="memory")
    client.tell(work="other", unit=2, worker="a")
    assert deaths.count(1, ["b"]) == {"signal 11": 1}
    assert deaths.count(2, ["b"]) == {}
    client.begin(1, "b")
    client.tell(worker="b", end="memory")
    assert deaths.count(1, []) == {"signal 11": 1, "memory": 1}
    deaths.forget(1)
    assert deaths.count(1, []) == {}


def test_a_worker_that_is_gone_without_a_word_died_too(client, deaths):
    client.begin(1, "a")
    assert not deaths.is_explained(1, ["b"])
    assert deaths.is_explained(1, ["a"])
    assert deaths.count(1, ["b"]) == {None: 1}


@pytest.mark.parametrize(
    ("ends", "told"),
    [
        ({"memory": 4}, "4 workers died while they worked on it: 4 ran out of memory and were ended by its"),
        ({"signal 11": 4}, r"4 were killed by signal 11 \(SIGSEGV\); a library of theirs crashed"),
        (
            {"signal 9": 1, None: 3},
            r"3 went away without a word.*; 1 was killed by signal 9 .*give workers more",
        ),
        ({"exit 3": 4}, "4 exited with status 3; a library"),
        ({"signal 99": 4}, r"signal 99 \(unknown\)"),
    ],
)
def test_a_unit_that_is_given_up_says_what_its_workers_died_of(ends, told):
    assert re.search(told, explain_deaths(Counter(ends)))

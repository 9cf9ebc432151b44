"""Which tries of a unit are taken back when the workers that may do them are gone."""

from dataclasses import dataclass

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
    assert _recall(flights, ["tcp://here", "tcp://sick"]) == [_Try(0.0, 1, 2)]
    assert stranded.future.cancelled
    assert list(flights) == ["two"]


def test_deaths_are_counted_of_those_that_were_at_work():
    """One thread does one of two that it was given; a cluster where all die must not begin it for ever."""
    flights = {"one": flight(1, "tcp://gone"), "two": flight(2, "tcp://gone")}
    assert [(one.index, one.deaths) for one in _recall(flights, [])] == [(1, 1), (2, 0)]

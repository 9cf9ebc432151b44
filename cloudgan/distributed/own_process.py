"""This process as the only worker of a run: a few units do not pay for processes that Dask would start."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TypeVar

from cloudgan.distributed.scheduling import TRIES, Failure, draw_pause
from cloudgan.distributed.worker import Job
from cloudgan.io.gdal import missing_options
from cloudgan.stac.signing import forget_signatures

T = TypeVar("T")

log = logging.getLogger(__name__)

_NAME = "this process"
_POLL = 1.0  # seconds between two checks of whether the run may go on


@dataclass(frozen=True, slots=True)
class OwnProcess:
    """Does the parts of a job one after the other, as `Workers` has workers do them.

    A try is not interrupted when the run has lost its store: what it writes then is refused by the store.
    """

    job: Job
    """What to do."""
    check: Callable[[], None] = field(default=lambda: None)
    """Called before each try; what it raises ends the work."""

    @property
    def device(self) -> str:
        """What this process generates on."""
        return self.job.generator.runs_on

    def count_threads(self) -> int:
        """Units that are done at once."""
        return 1

    def run(
        self,
        work: Callable[[Job, int], T],
        indices: Iterable[int],
        on_retry: Callable[[int], None] = lambda index: None,
    ) -> Iterator[tuple[int, T | Failure]]:
        """Do numbered parts of the job, in their order.

        Args:
            work: From the job and a number to a result.
            indices: The numbers.
            on_retry: Called with the number of a part that is going to be tried again.
        """
        with _set_gdal_options():
            for index in indices:
                yield index, self._do(work, index, on_retry)

    def _do(self, work: Callable[[Job, int], T], index: int, on_retry: Callable[[int], None]) -> T | Failure:
        """One part, tried again after a pause where it fails of something that may pass."""
        number = 1
        while True:
            self.check()
            result = self._try(work, index)
            if not isinstance(result, Failure):
                return result
            if not result.heals or number == TRIES:
                return replace(result, worker=None, tries=number)
            on_retry(index)
            self._wait(draw_pause(number))
            number += 1

    def _try(self, work: Callable[[Job, int], T], index: int) -> T | Failure:
        try:
            return work(self.job, index)
        except Exception as error:  # whatever a part meets, the others go on, and this one is named
            forget_signatures()  # one of them may have been refused: the next try signs anew
            failure = Failure.of(error, _NAME)
            log.warning("%s %d failed: %s", work.__name__, index, failure.reason)
            return failure

    def _wait(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self.check()
            time.sleep(min(left, _POLL))


@contextmanager
def _set_gdal_options() -> Iterator[None]:
    """GDAL's settings in the environment of this process, for threads of any library that reads."""
    added = missing_options(os.environ)
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)

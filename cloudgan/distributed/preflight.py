"""Whether workers can do the work at all, found out by one of them before all begin.

Without rights to read or to write, each of a million units would fail, three times.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from cloudgan.distributed.own_process import OwnProcess
from cloudgan.distributed.scheduling import Failure
from cloudgan.distributed.worker import Job
from cloudgan.distributed.workers import Workers
from cloudgan.errors import InputError, ReadError
from cloudgan.io.readers import read_pixel
from cloudgan.planning.plan import Plan
from cloudgan.stac.items import SourceItem


def check_ability(job: Job, _index: int) -> None:
    """Run on a worker: write and delete a probe, read a pixel, generate a tile.

    Raises:
        WriteError: The store refused the probe.
        ReadError: No asset can be read, of those that are tried.
        GeneratorError: The generator does not run.
    """
    job.store.write_probe()
    if not job.allow_missing:
        _read_something(job.plan)
    contract = job.generator.contract
    job.generator(np.zeros((1, len(contract.input_channels), contract.tile, contract.tile), np.float32))


def _read_something(plan: Plan) -> None:
    """Read a pixel of an asset; some assets are tried, for one of them may be broken."""
    band, failed = plan.bands[0], None
    for item in _draw_items(plan):
        try:
            read_pixel(item, band)
        except ReadError as error:
            failed = failed or error
        else:
            return
    if failed is not None:
        raise failed


def _draw_items(plan: Plan) -> Iterator[SourceItem]:
    """Items of the first date, of the last and of one between, no two the same."""
    chosen = dict.fromkeys((0, len(plan.scenes) - 1, len(plan.scenes) // 2))
    return (plan.scenes[at].items[at % len(plan.scenes[at].items)] for at in chosen)


def find_inability(workers: Workers | OwnProcess) -> str | None:
    """Why no worker can do the work; None where one can.

    Raises:
        InputError: It is something that no other try would mend.
        ClusterError: They went away.
    """
    for _, result in workers.run(check_ability, [0]):
        if isinstance(result, Failure):
            reason = f"nothing was begun, as the workers cannot do the work: {result.reason}"
            if not result.heals:
                raise InputError(reason)
            return reason
    return None

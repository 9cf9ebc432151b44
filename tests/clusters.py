"""Clusters of worker processes on this machine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import dask
import distributed


@contextmanager
def workers(count: int, memory: str = "3GB", threads: int = 1) -> Iterator[distributed.Client]:
    """A client of so many worker processes."""
    with (
        dask.config.set({"distributed.deploy.lost-worker-timeout": "1 day"}),  # as in clusters of our own
        distributed.LocalCluster(
            n_workers=count, threads_per_worker=threads, dashboard_address="127.0.0.1:0", memory_limit=memory
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client

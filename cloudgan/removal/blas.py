"""Linear algebra on one thread of its own: how it rounds depends on how many there are.

So results would differ between a laptop and a worker, and between workers. A tile is too small for more.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from threadpoolctl import ThreadpoolController


class _Limit:
    """Of the whole process, as the libraries have it: whoever comes first sets it, and the last lifts it."""

    def __init__(self) -> None:
        self._lock, self._holders = threading.Lock(), 0
        self._limiter: Any = None

    def hold(self) -> None:
        with self._lock:
            if not self._holders:
                self._limiter = _find_libraries().limit(limits=1, user_api="blas")
            self._holders += 1

    def release(self) -> None:
        with self._lock:
            self._holders -= 1
            if not self._holders:
                self._limiter.restore_original_limits()


_LIMIT = _Limit()


@contextmanager
def hold_one_thread() -> Iterator[None]:
    """Keep numpy's and scipy's linear algebra on one thread, in all threads of this process."""
    _LIMIT.hold()
    try:
        yield
    finally:
        _LIMIT.release()


@cache
def _find_libraries() -> ThreadpoolController:
    import scipy.linalg  # noqa: F401 - has linear algebra of its own, which must be loaded to be found

    return ThreadpoolController()

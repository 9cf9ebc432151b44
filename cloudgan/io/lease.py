"""One run a store: the lease that a run holds while it writes, beside the store as `NAME.lease`.

On a disk it is a locked file: the kernel releases it when its process dies, however that happens. An object
store has no locks, but it has writes on condition. There the lease is an object that is created only if it is
not there yet. Its run rewrites it every few seconds as a sign of life. Another run that finds it waits for
such a sign and is refused, or takes the lease over after a long silence. So a cluster may replace a runner
that was killed at once.
"""

from __future__ import annotations

import errno
import fcntl
import json
import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cloudgan.errors import StoreError
from cloudgan.object_stores import is_object_store, open_object_store, read_tag, unusable_error

if TYPE_CHECKING:
    from obstore.store import ObjectStore

log = logging.getLogger(__name__)

SUFFIX = ".lease"
"""What the lease's name has more than its store's."""
_PROCESS = uuid.uuid4().hex  # a process id comes again, in another container at once


@dataclass(frozen=True, slots=True)
class Pace:
    """How a lease in an object store is kept."""

    beat: float = 15.0
    """Seconds between two signs of life."""
    stale: float = 60.0
    """Seconds of silence, by the object store's own clock, after which another run takes it over."""


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds a lease."""

    host: str
    """Name of the machine."""
    kernel: str
    """Which boot of it and which of its process tables: a process id means nothing elsewhere."""
    pid: int
    """Process id."""
    process: str
    """Random number of the process."""
    run: str
    """Random number of this lease."""
    since: str
    """When it was taken, ISO 8601 by the clock of the holder."""

    @classmethod
    def here(cls) -> Holder:
        """This process, now."""
        since = datetime.now(UTC).isoformat(timespec="seconds")
        return cls(socket.gethostname(), _kernel(), os.getpid(), _PROCESS, uuid.uuid4().hex, since)

    @classmethod
    def parse(cls, text: bytes) -> Holder | None:
        """Who wrote this; None where nobody of ours did, or not to the end."""
        try:
            body = json.loads(text)
            return cls(**{field.name: body[field.name] for field in fields(cls)})
        except (KeyError, TypeError, ValueError):
            return None

    def to_bytes(self) -> bytes:
        """As JSON, with the time, which makes each sign of life another object with another tag."""
        return json.dumps(asdict(self) | {"beat": time.time()}).encode()

    def is_dead(self) -> bool | None:
        """Whether its process is dead; None on another machine, which cannot know."""
        if self.kernel != _kernel():
            return None
        if self.pid == os.getpid():
            return self.process != _PROCESS
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            pass
        return False


def _kernel() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:  # not Linux
        return socket.gethostname()


@contextmanager
def hold_lease(location: str, pace: Pace | None = None) -> Iterator[Lease]:
    """Be the only run that writes a store, until the end of the block.

    Args:
        location: Path of a directory, or URL of an object store.
        pace: How a lease in an object store is kept.

    Yields:
        The lease, which says whether it still holds.

    Raises:
        StoreError: Another run holds it, or the place cannot be written.
    """
    lease = _ObjectLease(location, pace or Pace()) if is_object_store(location) else _FileLease(location)
    try:
        yield lease
    finally:
        lease.release()


class _FileLease:
    """A file with a lock on it, and a lock on the store's folder, which may be mounted elsewhere too."""

    lost = False

    def __init__(self, location: str) -> None:
        path = Path(location).resolve()
        self._path = path.with_name(path.name + SUFFIX)
        with ExitStack() as stack:
            try:
                self._lock_folder(location, path, stack)
                self._lock_file(location, path, stack)
            except OSError as error:
                raise unusable_error(location, error) from error
            self._stack = stack.pop_all()

    def _lock_folder(self, location: str, path: Path, stack: ExitStack) -> None:
        """Lock the folder itself, where it is there: containers see it under other names."""
        with suppress(FileNotFoundError, NotADirectoryError):
            folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
            stack.callback(os.close, folder)
            try:
                _lock(folder)
            except _LockedError:
                raise _refusal(location, self._read_holder()) from None
            except OSError as error:
                if error.errno not in _NO_LOCKS_ON_FOLDERS:
                    raise

    def _lock_file(self, location: str, path: Path, stack: ExitStack) -> None:
        """Lock the file beside the store, which says who holds it."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            file = self._open_file(location)
        except OSError as error:
            # In a container, the folder that a store is mounted in may be nobody's.
            if error.errno in (errno.EACCES, errno.EROFS, errno.EPERM) and os.access(path, os.W_OK):
                return
            raise
        stack.callback(os.close, file)
        stack.callback(self._path.unlink, missing_ok=True)  # before it is closed
        os.ftruncate(file, 0)
        os.pwrite(file, Holder.here().to_bytes(), 0)

    def _open_file(self, location: str) -> int:
        while True:
            file = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644)
            try:
                _lock(file)
            except OSError as error:
                os.close(file)
                if isinstance(error, _LockedError):
                    raise _refusal(location, self._read_holder()) from None
                raise
            with suppress(FileNotFoundError):  # whoever held it may have removed it before releasing it
                if os.fstat(file).st_ino == self._path.stat().st_ino:
                    return file
            os.close(file)

    def _read_holder(self) -> Holder | None:
        try:
            return Holder.parse(self._path.read_bytes())
        except OSError:
            return None

    def release(self) -> None:
        self._stack.close()


class _LockedError(OSError):
    """Another process holds the lock."""


# NFS takes no exclusive lock on a file that is not open for writing, as a folder never is.
_NO_LOCKS_ON_FOLDERS = (errno.EBADF, errno.ENOLCK, errno.EINVAL, errno.ENOTSUP, errno.EISDIR)


def _lock(file: int) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise _LockedError from None


class _ObjectLease:
    """An object that one run can create, and that shows signs of life."""

    def __init__(self, location: str, pace: Pace) -> None:
        self._store, self._key = _locate(location)
        self._pace, self._holder = pace, Holder.here()
        self.lost = False
        try:
            self._tag = self._acquire(location)
        except StoreError:
            raise
        except Exception as error:  # obstore's own types
            raise unusable_error(location, error) from error
        self._over = threading.Event()
        self._beating = threading.Thread(target=self._beat, name="cloudgan-lease", daemon=True)
        self._beating.start()

    def _acquire(self, location: str) -> dict[str, str]:
        from obstore.exceptions import AlreadyExistsError, PreconditionError

        with suppress(AlreadyExistsError):
            return self._put("create")
        try:
            found = self._store.get(self._key)
        except FileNotFoundError:  # released just now
            return self._put("create")
        holder = Holder.parse(bytes(found.bytes()))
        if holder == self._holder:  # it was created, and the answer lost on the way
            return read_tag(found.meta)
        is_dead = holder.is_dead() if holder is not None else None
        if is_dead is None:
            mode = self._wait_for_sign(found.meta)
        else:
            mode = read_tag(found.meta) if is_dead else None
        if mode is None:
            raise _refusal(location, holder, self._pace.stale)
        try:
            return self._put(mode)
        except (AlreadyExistsError, FileNotFoundError, PreconditionError):
            raise _refusal(location, None, self._pace.stale) from None

    def _wait_for_sign(self, found: Any) -> dict[str, str] | str | None:
        """Watch a lease until it is stale, its run shows a sign of life, or it is released.

        Returns:
            How to write it then; None where its run lives.
        """
        silence = (self._server_time() - found["last_modified"]).total_seconds()
        left = self._pace.stale - silence
        if left > 0:
            log.warning(
                "another run has held %s; waiting for a sign of life, %.0f s at most", self._key, left
            )
        end = time.monotonic() + left
        while (left := end - time.monotonic()) > 0:
            time.sleep(min(left, self._pace.beat / 5))
            try:
                if read_tag(self._store.head(self._key)) != read_tag(found):
                    return None
            except FileNotFoundError:
                return "create"
        return read_tag(found)

    def _put(self, mode: Any) -> dict[str, str]:
        return read_tag(self._store.put(self._key, self._holder.to_bytes(), mode=mode))

    def _own_tag(self) -> dict[str, str] | None:
        """The tag of the lease as it lies there; None where it is another's by now, or removed."""
        try:
            found = self._store.get(self._key)
        except FileNotFoundError:
            return None
        return read_tag(found.meta) if Holder.parse(bytes(found.bytes())) == self._holder else None

    def _server_time(self) -> datetime:
        """What the object store takes the time to be: clocks of two machines differ."""
        probe = f"{self._key}.{self._holder.run}"
        self._store.put(probe, b"")
        try:
            return self._store.head(probe)["last_modified"]
        finally:
            self._store.delete(probe)

    def _beat(self) -> None:
        from obstore.exceptions import PreconditionError

        renewed = time.monotonic()
        while not self.lost and not self._over.wait(self._pace.beat):
            try:
                self._tag = self._put(self._tag)
            except (PreconditionError, FileNotFoundError):
                # Either another run's, or ours by a write whose answer was lost on the way.
                with suppress(Exception):
                    tag = self._own_tag()
                    self.lost, self._tag = tag is None, tag or {}
            except Exception:  # the server may answer again before others think us dead
                self.lost = time.monotonic() - renewed > self._pace.stale
                continue
            renewed = time.monotonic()

    def release(self) -> None:
        self._over.set()
        self._beating.join()
        with suppress(Exception):  # if it cannot be removed, it will be taken for stale
            if self._own_tag() is not None:
                self._store.delete(self._key)


Lease = _FileLease | _ObjectLease
"""What `hold_lease` gives: `lost` says that another run has taken over, and this one must stop."""


def _locate(location: str) -> tuple[ObjectStore, str]:
    """The object store that the lease lies in, and its key there."""
    inside = open_object_store(location)
    if not getattr(inside, "prefix", None):  # a whole bucket has nothing beside it
        return inside, f"cloudgan{SUFFIX}"
    folder, _, name = location.rstrip("/").rpartition("/")
    return open_object_store(folder), f"{name}{SUFFIX}"


def _refusal(location: str, holder: Holder | None, stale: float | None = None) -> StoreError:
    who = f"process {holder.pid} on {holder.host}, since {holder.since}" if holder else "it does not say who"
    dead = "" if stale is None else f"; a dead one is taken over after {stale:.0f} s of silence"
    return StoreError(f"another run is writing {location} ({who}); let it end, or give another --out{dead}")

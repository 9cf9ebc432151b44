"""The fence of a store: once a run has begun, a writer of any earlier run changes nothing in it any more.

A task goes on on its worker after its client was killed. It may write at any later moment, for a process can
be stopped between any two steps. So a check of the run's number before a write is not enough: the write
itself must fail.

On a disk, each run has a folder of its own, in which its writers put whole files that they then move to their
places. A new run removes the folders of all others before it writes. Moving a file is one step of the kernel,
and it fails where the file, or the folder it was in, is gone.

In an object store, a writer first learns what lies in the place (nothing, or an object with a tag), then
checks the run's number, and then writes on condition that the place has not changed. What a new run has
written there makes the condition fail.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import shutil
import uuid
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import zarr
from zarr.abc.store import ByteRequest
from zarr.abc.store import Store as ZarrStore
from zarr.core.buffer import Buffer, BufferPrototype

from cloudgan.errors import StoreError, WriteError
from cloudgan.io.store.access import HOME
from cloudgan.object_stores import is_object_store, open_object_store, read_tag

FOLDER = f"{HOME}/units"
"""Where the fence lies: beside the entries of the ledger."""
RUN = f"{FOLDER}/run.json"
_ATTEMPTS = 8  # writes of one object, when others write it at the same time


@dataclass(frozen=True, slots=True)
class Run:
    """One time that somebody began to write a store."""

    number: int
    """It grows."""
    token: str
    """Random; tells runs apart though the number should be lost."""

    @classmethod
    def parse(cls, text: bytes | None) -> Run:
        """The run that a store names; number 0 where it names none that can be read."""
        try:
            body = json.loads(text or b"")
            return cls(int(body["number"]), str(body["token"]))
        except (KeyError, TypeError, ValueError):
            return cls(0, "")

    def to_bytes(self) -> bytes:
        """As JSON."""
        return json.dumps({"number": self.number, "token": self.token}).encode()

    def next(self) -> Run:
        """The run after this one."""
        return Run(self.number + 1, uuid.uuid4().hex)

    def end(self) -> Run:
        """What the store names after this run: no writer has its token."""
        return Run(self.number, "")


def take_run(location: str) -> Run:
    """Begin a run, which fences the writers of all others. Whoever calls it holds the store's lease.

    Raises:
        StoreError: Another run began at the same moment.
    """
    if is_object_store(location):
        return _advance_object(location)
    folder = Path(location) / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    remove_staging(folder)
    run = Run.parse(_read_file(folder / "run.json")).next()
    write_durably(folder / "run.json", run.to_bytes())
    (folder / f"run-{run.token}").mkdir()
    return run


def end_run(location: str, run: Run) -> None:
    """End a run: its own writers that are still at work change nothing any more either.

    Nothing is raised. A run that cannot be ended is fenced by the next.
    """
    with suppress(Exception):
        if is_object_store(location):
            _advance_object(location, run)
        else:
            remove_staging(Path(location) / FOLDER, run)


def open_for_writing(location: str, run: Run) -> FencedStore:
    """The store behind a path or a URL, for the writers of a run alone."""
    if is_object_store(location):
        return _FencedObjects(open_object_store(location), location, run)
    return _FencedFolder(Path(location), location, run)


def open_unfenced(location: str) -> ZarrStore:
    """The store behind a path or a URL, for whoever holds its lease; what is written reaches the disk."""
    if is_object_store(location):
        return zarr.storage.ObjectStore(open_object_store(location))
    return _DurableFolder(Path(location))


def write_durably(path: Path, data: Any) -> None:
    """Write a file that is there either whole or not at all, also after a power cut."""
    path.parent.mkdir(parents=True, exist_ok=True)
    piece = path.with_name(f"{path.name}.{uuid.uuid4().hex}.partial")
    try:
        piece.write_bytes(data)
        _sync(piece)
        piece.replace(path)
    except BaseException:
        piece.unlink(missing_ok=True)
        raise
    _sync(path.parent)


def find_condition(location: str, key: str) -> Any:
    """The condition that an object has not changed since; see `write_on_condition`."""
    if not is_object_store(location):
        return None  # on a disk the lease cannot be lost
    try:
        return read_tag(open_object_store(location).head(key))
    except FileNotFoundError:
        return "create"


def write_on_condition(location: str, key: str, data: bytes, condition: Any) -> None:
    """Write an object outside the fence, for whoever holds the lease.

    Raises:
        StoreError: Somebody has written it meanwhile, so the lease is another's by now.
    """
    if not is_object_store(location):
        write_durably(Path(location) / key, data)
        return
    from obstore.exceptions import AlreadyExistsError, PreconditionError

    try:
        open_object_store(location).put(key, data, mode=condition)
    except (AlreadyExistsError, PreconditionError):
        raise _fenced_error(location) from None


def compute_digest(data: Any) -> str:
    """Digest of an object's stored bytes, as the ledger notes it: half of SHA-256, in hex."""
    return hashlib.sha256(data).hexdigest()[:32]


class _DurableFolder(zarr.storage.LocalStore):
    """A folder whose files reach the disk one by one."""

    async def set(self, key: str, value: Buffer) -> None:
        await asyncio.to_thread(write_durably, self.root / key, value.as_buffer_like())

    async def set_if_not_exists(self, key: str, value: Buffer) -> None:
        if not await self.exists(key):
            await self.set(key, value)

    def set_sync(self, key: str, value: Buffer) -> None:
        write_durably(self.root / key, value.as_buffer_like())


class _FencedFolder(zarr.storage.LocalStore):
    """A folder that is written through the folder of a run."""

    def __init__(self, root: Path, location: str, run: Run, *, read_only: bool = False) -> None:
        super().__init__(root, read_only=read_only)
        self._location, self._run = location, run
        self._staging = root / FOLDER / f"run-{run.token}"
        self._unsynced: set[Path] = set()
        self.digests: dict[str, str] = {}

    def with_read_only(self, read_only: bool = False) -> _FencedFolder:
        return _FencedFolder(self.root, self._location, self._run, read_only=read_only)

    async def get(
        self, key: str, prototype: BufferPrototype | None = None, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        return None if _is_chunk(key) else await super().get(key, prototype, byte_range)

    async def set(self, key: str, value: Buffer) -> None:
        await asyncio.to_thread(self.set_sync, key, value)

    async def set_if_not_exists(self, key: str, value: Buffer) -> None:
        if not await self.exists(key):
            await self.set(key, value)

    def set_sync(self, key: str, value: Buffer) -> None:
        data, path = value.as_buffer_like(), self.root / key
        piece = self._staging / uuid.uuid4().hex
        try:
            with piece.open("xb") as file:
                file.write(data)
            try:
                _move(piece, path)
            except FileNotFoundError:
                self.check()
                path.parent.mkdir(parents=True, exist_ok=True)
                _move(piece, path)
        except FileNotFoundError:
            self.check()
            raise
        except BaseException:
            piece.unlink(missing_ok=True)
            raise
        self.digests[key] = compute_digest(data)
        self._unsynced.add(path)

    def check(self) -> None:
        """Raise StoreError where another run has begun."""
        if not self._staging.exists() and self._staging.parent.exists():
            raise _fenced_error(self._location)

    def sync(self) -> None:
        """Return when all that was written is on the disk: the files, then the folders that name them."""
        files, self._unsynced = self._unsynced, set()
        folders = {folder for file in files for folder in file.parents if folder.is_relative_to(self.root)}
        for path in (*sorted(files), *sorted(folders, reverse=True)):
            _sync(path)


class _FencedObjects(zarr.storage.ObjectStore[Any]):
    """An object store that is written on condition."""

    def __init__(self, store: Any, location: str, run: Run, *, read_only: bool = False) -> None:
        super().__init__(store, read_only=read_only)
        self._location, self._run = location, run
        self.digests: dict[str, str] = {}

    def with_read_only(self, read_only: bool = False) -> _FencedObjects:
        return _FencedObjects(self.store, self._location, self._run, read_only=read_only)

    async def get(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        return None if _is_chunk(key) else await super().get(key, prototype, byte_range)

    async def set(self, key: str, value: Buffer) -> None:
        import obstore
        from obstore.exceptions import AlreadyExistsError, PreconditionError

        data = value.as_buffer_like()
        condition: Any = "create"
        for _ in range(_ATTEMPTS):
            await self._check()  # after the condition is known, before the write
            try:
                await _put(self.store, key, data, condition)
            except (AlreadyExistsError, PreconditionError, FileNotFoundError):
                try:
                    condition = read_tag(await obstore.head_async(self.store, key))
                except FileNotFoundError:
                    condition = "create"
                continue
            self.digests[key] = compute_digest(data)
            return
        raise WriteError(f"{self._location} was changed by others while {key} was written; run again")

    async def set_if_not_exists(self, key: str, value: Buffer) -> None:
        if not await self.exists(key):
            await self.set(key, value)

    async def _check(self) -> None:
        import obstore

        try:
            found = await obstore.get_async(self.store, RUN)
            current = Run.parse(bytes(await found.bytes_async()))
        except FileNotFoundError:
            current = Run(0, "")
        if current.token != self._run.token:
            raise _fenced_error(self._location)

    def check(self) -> None:
        """Raise StoreError where another run has begun."""
        if _read_run(self.store).token != self._run.token:
            raise _fenced_error(self._location)

    def sync(self) -> None:
        """Nothing is left to do: an object store answers when it has the object."""


def _is_chunk(key: str) -> bool:
    """Whether an object holds values: they are written whole, and what lies there may be damaged."""
    return "/c/" in key


def _move(piece: Path, path: Path) -> None:
    """The step in which a file changes on a disk."""
    piece.replace(path)


async def _put(store: Any, key: str, data: Any, condition: Any) -> None:
    """The step in which an object changes."""
    import obstore

    await obstore.put_async(store, key, data, mode=condition, use_multipart=False)


FencedStore = _FencedFolder | _FencedObjects
"""What `open_for_writing` gives."""


def _advance_object(location: str, ended: Run | None = None) -> Run:
    """Name the next run in an object store, or the end of one, on condition that nobody else does."""
    store = open_object_store(location)
    condition = find_condition(location, RUN)
    current = _read_run(store)
    if ended is not None and current != ended:
        return current
    run = current.next() if ended is None else current.end()
    try:
        write_on_condition(location, RUN, run.to_bytes(), condition)
    except StoreError:
        if _read_run(store) != run:  # it may have been written, and the answer lost on the way
            raise
    return run


def _read_run(store: Any) -> Run:
    """The run that an object store names."""
    try:
        return Run.parse(bytes(store.get(RUN).bytes()))
    except FileNotFoundError:
        return Run(0, "")


def remove_staging(folder: Path, run: Run | None = None) -> None:
    """Remove the folders of all runs, or that of one, so that none of their files can be moved any more."""
    for staging in folder.glob("run-*" if run is None else f"run-{run.token}"):
        if staging.is_dir():
            # Renamed first: a writer still finds the folder while it is being emptied.
            staging.rename(staging.with_name(f"gone-{uuid.uuid4().hex}"))
    for gone in folder.glob("gone-*"):
        _remove_folder(gone)


def _remove_folder(folder: Path) -> None:
    """Remove a folder into which a writer may just be making a file."""
    for _ in range(_ATTEMPTS):
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists() or all(path.name.startswith(".nfs") for path in folder.iterdir()):
            return  # NFS keeps what is open under such a name, from which nobody moves it
    shutil.rmtree(folder)


def _read_file(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _fenced_error(location: str) -> StoreError:
    return StoreError(
        f"another run has begun to write {location}, and this one writes no more; what is done is kept"
    )

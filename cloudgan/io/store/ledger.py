"""The ledger of a store: which work units are done, what they wrote, and what was measured for all of them.

A unit is entered after its data is there, so that it may be interrupted, repeated or raced by its own twin,
and the bytes are the same. Its entry is one small object: its state, the run that did it, the digest of the
plan, and the digest of each shard as it was written. An entry that is empty, cannot be read, or is of another
plan, is that of a pending unit.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.abc.store import Store as ZarrStore
from zarr.core.buffer import Buffer

from cloudgan.io.store.access import HOME, copy_objects, name_damage, open_zarr_store
from cloudgan.io.store.fence import FOLDER
from cloudgan.io.store.identity import compute_plan_digest, read_identity
from cloudgan.object_stores import is_refusal, name_failed_writes

PENDING, DONE, DONE_WITHOUT_ASSETS = 0, 1, 2
"""States of a unit; the last is done again by a rerun, for its assets may be back."""

UNITS = FOLDER
"""Array of the units' entries."""
_RADIOMETRY = f"{HOME}/radiometry-{{plan}}-{{place}}"
_AT_ONCE = 1024  # entries that are held in memory


@dataclass(frozen=True, slots=True)
class Entry:
    """What the ledger says of one unit."""

    state: int = PENDING
    """`PENDING`, `DONE` or `DONE_WITHOUT_ASSETS`."""
    run: int = 0
    """Number of the run that did it; see `fence.Run`."""
    plan: str = ""
    """Digest of the plan."""
    shards: Mapping[str, str] = field(default_factory=dict)
    """Digest of each shard that the unit wrote, by its key; empty where nothing was noted."""

    @classmethod
    def parse(cls, value: Any, plan: str) -> Entry:
        """An entry as the array holds it; pending where it means nothing here."""
        try:
            body = json.loads(value)
            entry = cls(body["state"], body["run"], body["plan"], body["shards"])
        except (KeyError, TypeError, ValueError, RecursionError):
            return cls()
        known = entry.state in (DONE, DONE_WITHOUT_ASSETS) and isinstance(entry.shards, dict)
        return entry if known and entry.plan == plan else cls()

    def to_text(self) -> str:
        """As JSON."""
        body = {"state": self.state, "run": self.run, "plan": self.plan, "shards": dict(self.shards)}
        return json.dumps(body, separators=(",", ":"))


def make_ledger(unit_count: int) -> dict[str, Buffer]:
    """The objects of a ledger with nothing done, by key."""
    made: dict[str, Buffer] = {}
    zarr.create_array(
        zarr.storage.MemoryStore(made),
        shape=(unit_count,),
        dtype="str",
        chunks=(1,),
        fill_value="",
        dimension_names=("unit",),
    )
    return {f"{UNITS}/{key}": value for key, value in made.items()}


def read_entries(location: str) -> Iterator[Entry]:
    """What the ledger says of each unit, in their order.

    Raises:
        StoreError: The store is damaged.
    """
    plan = compute_plan_digest(read_identity(location) or {})
    with name_damage(location):
        array = zarr.open_array(open_zarr_store(location), path=UNITS, mode="r")
        for start in range(0, array.shape[0], _AT_ONCE):
            for value in _read_values(array, start, min(start + _AT_ONCE, array.shape[0])):
                yield Entry.parse(value, plan)


def _read_values(array: zarr.Array[Any], start: int, stop: int) -> list[Any]:
    """Texts of entries, empty for those that cannot be read."""
    try:
        return list(np.asarray(array[start:stop]).tolist())
    except Exception as error:  # of zarr, its codecs and numpy
        if is_refusal(error):
            raise
        if stop - start == 1:
            return [""]
    middle = (start + stop) // 2
    return _read_values(array, start, middle) + _read_values(array, middle, stop)


def read_states(location: str) -> NDArray[np.uint8]:
    """The state of each unit, shape (units,).

    Raises:
        StoreError: The store is damaged.
    """
    return np.array([entry.state for entry in read_entries(location)], np.uint8)


def write_entry(root: ZarrStore, index: int, entry: Entry) -> None:
    """Enter a unit in a store that is open for writing."""
    array = zarr.open_array(root, path=UNITS, mode="r+", config={"write_empty_chunks": True})
    array[index] = "" if entry.state == PENDING else entry.to_text()


def read_radiometry(location: str, place: int, plan: str) -> NDArray[np.float32] | None:
    """The radiometry that `write_radiometry` kept; None where nothing that can be read was kept yet.

    Args:
        location: Of the store.
        place: Number of the MGRS tile.
        plan: Digest of the plan.
    """
    path = _RADIOMETRY.format(place=place, plan=plan)
    try:
        kept = zarr.open_array(open_zarr_store(location), path=path, mode="r")
        values: NDArray[np.float32] = np.asarray(kept[:], np.float32)
    except FileNotFoundError:
        return None
    except Exception as error:  # of zarr, its codecs and JSON
        if is_refusal(error):
            raise
        return None
    # Between its metadata and its values an array is all unknown, but a date differs from itself by 0.
    return None if np.isnan(values).all() else values


def write_radiometry(
    location: str, root: ZarrStore, place: int, plan: str, values: NDArray[np.float32]
) -> None:
    """Keep the radiometry of an MGRS tile for all other units.

    Args:
        location: Of the store.
        root: The same, open for writing.
        place: Number of the MGRS tile.
        plan: Digest of the plan: a writer of another cannot take the place of these.
        values: See `normalisation.Radiometry.pack`.

    Raises:
        WriteError: The place refused it.
    """
    made: dict[str, Buffer] = {}
    path = _RADIOMETRY.format(place=place, plan=plan)
    array = zarr.create_array(
        zarr.storage.MemoryStore(made),
        name=path,
        shape=values.shape,
        chunks=values.shape,
        dtype=values.dtype,
        fill_value=np.nan,
    )
    array[:] = values
    with name_failed_writes(location):
        chunks = [key for key in made if key.startswith(f"{path}/c")]
        copy_objects(made, root, [f"{path}/zarr.json", *chunks])

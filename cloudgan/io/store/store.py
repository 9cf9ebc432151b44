"""The Zarr store: found, checked, prepared, and written unit by unit.

Its template is made once. Each work unit then writes whole shards that no other unit touches, and is entered
in the ledger after its data is there.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.abc.store import Store as ZarrStore
from zarr.core.buffer import Buffer, default_buffer_prototype
from zarr.core.sync import sync

from cloudgan.errors import StoreError
from cloudgan.geo.grid import Window
from cloudgan.io.lease import hold_lease
from cloudgan.io.store import ledger
from cloudgan.io.store.access import (
    HOME,
    ZONES,
    consolidate,
    copy_objects,
    name_damage,
    name_unusable,
    not_ours,
    open_zarr_store,
    read_object,
    remove_pieces,
)
from cloudgan.io.store.fence import (
    FencedStore,
    Run,
    end_run,
    find_condition,
    open_for_writing,
    take_run,
    write_on_condition,
)
from cloudgan.io.store.identity import (
    COPY,
    check_identity,
    compute_plan_digest,
    is_made_for,
    read_identity,
)
from cloudgan.io.store.ledger import DONE, DONE_WITHOUT_ASSETS, Entry
from cloudgan.io.store.remove import remove_store
from cloudgan.io.store.spec import StoreSpec
from cloudgan.io.store.template import (
    describe_root,
    is_as_made,
    make_template,
    write_quality_of_dates,
)
from cloudgan.io.store.writer import UnitWriter
from cloudgan.object_stores import is_object_store, name_failed_writes

REPORT = f"{HOME}/report.json"
"""Where the report of the last run lies."""
ABOUT = f"{HOME}/about.json"
"""Where the model's card, the items left out and the BOA offsets lie."""
_DEVICE = f"{HOME}/device.json"  # what the generator ran on


@dataclass(frozen=True, slots=True)
class Store:
    """A store that was prepared; plain data, so that it can be sent to workers."""

    location: str
    """Path of a directory, or URL of an object store (`s3://bucket/key`)."""
    plan: str = ""
    """Digest of its identity."""
    run: Run | None = None
    """The run that may write it; None where it is only read."""

    def read_ledger(self) -> NDArray[np.uint8]:
        """The state of each unit, shape (units,)."""
        return ledger.read_states(self.location)

    def begin_run(self) -> Store:
        """The store for a run of its own, which fences the writers of all others.

        Whoever calls it holds the lease.

        Raises:
            StoreError: Another run began at the same moment, or the place cannot be used.
        """
        with name_unusable(self.location):
            return replace(self, run=take_run(self.location))

    def end_run(self) -> None:
        """Fence the run's own writers too, which may still be at work on units that it gave up."""
        end_run(self.location, self._get_run())

    def check_run(self) -> None:
        """Make sure that no other run has begun.

        Raises:
            StoreError: One has.
            WriteError: The place does not answer.
        """
        with name_failed_writes(self.location):
            self._open().check()

    def open_writer(self, spec: StoreSpec, window: Window) -> UnitWriter:
        """What writes the dates of a unit and enters it in the ledger.

        Args:
            spec: What the store was made for.
            window: Pixels of the unit.

        Raises:
            WriteError: The store cannot be opened any more.
        """
        return UnitWriter.open(
            self.location,
            self._open(),
            [one.name for one in spec.variables],
            spec.grid,
            window,
            self._new_entry(),
        )

    def write_probe(self) -> None:
        """Write an object and remove it again, to see whether this process may.

        Raises:
            WriteError: The place refused it.
            StoreError: Another run has begun.
        """
        key = f"{HOME}/units/probe-{uuid.uuid4().hex[:12]}"
        with name_failed_writes(self.location):
            root = self._open()
            copy_objects({key: default_buffer_prototype().buffer.from_bytes(bytes(4096))}, root, [key])
            sync(root.delete(key))

    def read_radiometry(self, place: int) -> NDArray[np.float32] | None:
        """The radiometry of an MGRS tile by its number, packed; None where nothing was kept yet."""
        return ledger.read_radiometry(self.location, place, self.plan)

    def write_radiometry(self, place: int, values: NDArray[np.float32]) -> None:
        """Keep the radiometry of an MGRS tile, for all other units; see `ledger.write_radiometry`."""
        ledger.write_radiometry(self.location, self._open(), place, self.plan, values)

    def write_quality_of_dates(self, hazy: NDArray[np.bool_], std: Mapping[str, NDArray[Any]]) -> None:
        """Say how good each date is; see `template.write_quality_of_dates`.

        Raises:
            WriteError: The place refused it.
        """
        with name_failed_writes(self.location):
            write_quality_of_dates(self._open(), hazy, std)

    def mark(self, index: int, state: int) -> None:
        """Enter a unit in the ledger, with nothing noted of what it wrote.

        Args:
            index: Number of the unit.
            state: `DONE`, `DONE_WITHOUT_ASSETS`, or `PENDING` to have it done again.

        Raises:
            WriteError: The place refused it.
        """
        with name_failed_writes(self.location):
            root = self._open()
            ledger.write_entry(root, index, replace(self._new_entry(), state=state))
            root.sync()

    def begin(self, device: str) -> None:
        """Note what the generator runs on, before the first unit: its rounding depends on it.

        Args:
            device: `Generator.runs_on` of the workers.

        Raises:
            StoreError: Units are done already, on something else.
            WriteError: The place refused it.
        """
        begun = _read_json(self.location, _DEVICE).get("device")
        if begun == device:
            return
        if begun is not None and self.read_ledger().any():
            raise StoreError(
                f"{self.location} was begun on a {str(begun).upper()}, and the workers generate on a "
                f"{device.upper()}, which rounds otherwise; give workers with a {str(begun).upper()}, "
                "or another --out"
            )
        with name_failed_writes(self.location):
            root = self._open()
            _write_json(root, _DEVICE, {"device": device})
            root.sync()

    def finish(self, report: Mapping[str, Any]) -> None:
        """Write what was run and, last of all, the consolidated metadata.

        Raises:
            WriteError: The place refused it.
        """
        root = self._open()
        with name_failed_writes(self.location), name_damage(self.location):
            remove_pieces(self.location)
            known = self.read_report().get("missing_items", [])
            if (
                self.read_ledger() == DONE_WITHOUT_ASSETS
            ).any():  # what an earlier run lacked is lacking still
                report = {**report, "missing_items": sorted({*known, *report["missing_items"]})}
            _write_json(root, REPORT, report)
        consolidate(self.location, root)
        with name_failed_writes(self.location):
            root.sync()

    def is_finished(self) -> bool:
        """Whether every unit is done, and the run that did the last of them came to its end."""
        with name_damage(self.location):
            group = zarr.open_group(open_zarr_store(self.location), mode="r")
            consolidated = group.metadata.consolidated_metadata is not None
            done = bool((self.read_ledger() == DONE).all())
            return consolidated and done and not self.read_report().get("failed")

    def read_report(self) -> dict[str, Any]:
        """The report of the last run that came to its end; empty where none did."""
        with name_damage(self.location):
            return _read_json(self.location, REPORT)

    def find_failed_units(self) -> list[int]:
        """Numbers of the units that the last run failed and none has done since."""
        with name_damage(self.location):
            states = self.read_ledger()
            named = (unit["unit"] for unit in self.read_report().get("failed", []))
            return [index for index in named if states[index] != DONE]

    def _get_run(self) -> Run:
        if self.run is None:
            raise ValueError(f"{self.location} was opened to be read; begin a run to write")
        return self.run

    def _open(self) -> FencedStore:
        return open_for_writing(self.location, self._get_run())

    def _new_entry(self) -> Entry:
        return Entry(run=self._get_run().number, plan=self.plan)


def read_about(location: str) -> dict[str, Any]:
    """What a store keeps beside its data: `model` (its card), `left_out`, `offsets`, `run` (the report)."""
    with name_damage(location):
        return _read_json(location, ABOUT) | {"run": _read_json(location, REPORT)}


def _read_json(location: str, key: str) -> dict[str, Any]:
    """An object of JSON that a store keeps; empty where there is none that can be read."""
    try:
        body = json.loads(read_object(location, key) or b"")
    except (ValueError, RecursionError):
        return {}
    return body if isinstance(body, dict) else {}


def _write_json(root: ZarrStore, key: str, body: Mapping[str, Any]) -> None:
    text = json.dumps(dict(body)).encode()
    copy_objects({key: default_buffer_prototype().buffer.from_bytes(text)}, root, [key])


def check_store(location: str, spec: StoreSpec, *, overwrite: bool = False) -> None:
    """Make sure that a store may be written somewhere, without writing.

    Args:
        location: Path of a directory, or URL of an object store.
        spec: What is to be written.
        overwrite: Whether a store of ours that holds something else may be removed.

    Raises:
        StoreError: Something else is there: another store of ours, or no store of ours.
    """
    check_identity(location, spec.identity, overwrite=overwrite)


def find_store(location: str, spec: StoreSpec) -> Store | None:
    """The store of just this content that is there, to be read; None where there is none, or only a part.

    Raises:
        StoreError: See `read_identity`.
    """
    found = read_identity(location)
    if not is_made_for(found, spec.identity):
        return None
    store = Store(location, compute_plan_digest(spec.identity))
    with name_unusable(location):
        root = open_zarr_store(location)
        return store if _has_root(root) and is_as_made(root, spec) else None


def prepare_store(location: str, spec: StoreSpec, *, overwrite: bool = False) -> Store:
    """Make the template of a store, or continue one that holds the same, whatever is done of it.

    What is damaged of a template is made anew. The store that is returned is open for a run of its own.

    The arguments and errors are those of `check_store`; and StoreError where another run is writing there.
    """
    check_store(location, spec, overwrite=overwrite)
    if not is_object_store(location):
        location = str(Path(location).resolve())  # a worker may have another working directory
    with hold_lease(location), name_unusable(location):
        found = read_identity(location)
        if found is not None and not is_made_for(found, spec.identity):
            remove_store(location, found)
        _make_root(location, describe_root(spec))
        run = take_run(location)
        if not is_made_for(read_identity(location), spec.identity):  # of a run that has taken over the lease
            raise not_ours(location)
        root = open_for_writing(location, run)
        for key, body in ((COPY, spec.identity), (ABOUT, spec.about)):
            if _read_json(location, key) != body:
                _write_json(root, key, body)
        make_template(open_zarr_store(location), root, spec)
        root.sync()
    return Store(location, compute_plan_digest(spec.identity), run)


def make_root_group(location: str, zones: Sequence[str]) -> None:
    """Make a group that holds stores, in place of whatever else of ours is there.

    Whoever calls it holds its lease.

    Args:
        location: Path of a directory, or URL of an object store.
        zones: Names of the stores.

    Raises:
        StoreError: The place cannot be used.
    """
    with name_unusable(location):
        found = read_identity(location)
        if found is not None and found != {"zones": list(zones)}:
            remove_store(location, found)
        _make_root(location, {"Conventions": "CF-1.11", ZONES: " ".join(zones)})


def _make_root(location: str, attributes: dict[str, Any]) -> None:
    """Make the group at the root, where there is none that can be read.

    With its attributes in one write: a group without them is no store of ours.
    """
    condition = find_condition(location, "zarr.json")
    if _has_root(open_zarr_store(location)):
        return
    made: dict[str, Buffer] = {}
    zarr.open_group(zarr.storage.MemoryStore(made), mode="w", zarr_format=3, attributes=attributes)
    write_on_condition(location, "zarr.json", made["zarr.json"].to_bytes(), condition)


def _has_root(root: ZarrStore) -> bool:
    try:
        zarr.open_group(root, mode="r", zarr_format=3, use_consolidated=False)
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return False
    return True

"""The Zarr store: found, checked, prepared, and written unit by unit.

Its template is made once. Each work unit then writes whole shards that no other unit touches, and is entered
in the ledger after its data is there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from cloudgan.errors import StoreError
from cloudgan.geo.grid import Window
from cloudgan.io.lease import hold_lease
from cloudgan.io.store import ledger
from cloudgan.io.store.access import (
    IDENTITY,
    consolidate,
    name_damage,
    name_unusable,
    open_zarr_store,
    remove_pieces,
    remove_store,
)
from cloudgan.io.store.identity import FORMAT, check_identity, is_made_for, read_format, read_identity
from cloudgan.io.store.ledger import DONE, DONE_WITHOUT_ASSETS
from cloudgan.io.store.spec import StoreSpec
from cloudgan.io.store.template import check_template, make_template
from cloudgan.object_stores import is_object_store, name_failed_writes

_RUN = "cloudgan:run"  # attribute of the root: the report of the last run
_DEVICE = "cloudgan:device"  # attribute of the root: what the generator ran on


@dataclass(frozen=True, slots=True)
class Store:
    """A store that was prepared; plain data, so that it can be sent to workers."""

    location: str
    """Path of a directory, or URL of an object store (`s3://bucket/key`)."""
    format: int = FORMAT
    """Format of the store, which decides names of variables."""

    def read_ledger(self) -> NDArray[np.uint8]:
        """The state of each unit, shape (units,)."""
        return ledger.read_states(self.location)

    def open_writer(
        self, spec: StoreSpec, window: Window
    ) -> Callable[[int, Mapping[str, NDArray[Any]]], None]:
        """What writes the dates of a unit, each as whole shards.

        Args:
            spec: What the store was made for.
            window: Pixels of the unit.

        Returns:
            A function of the date's index in the store and its variables by name, each over the window. It
            raises WriteError where the place refuses them.

        Raises:
            WriteError: The store cannot be opened any more.
        """
        root = open_zarr_store(self.location)
        with name_failed_writes(self.location):
            arrays = {
                one.name: zarr.open_array(root, path=one.stored_name(self.format), mode="r+")
                for one in spec.variables
            }
        rows, cols = window.slices_in(spec.grid.window)

        def write(at: int, values: Mapping[str, NDArray[Any]]) -> None:
            with name_failed_writes(self.location):
                for name, array in arrays.items():
                    array[at, rows, cols] = values[name]

        return write

    def read_offsets(self, place: int) -> NDArray[np.float32] | None:
        """The radiometric offsets of an MGRS tile by its number; None where nothing was kept yet."""
        return ledger.read_offsets(self.location, self.format, place)

    def write_offsets(self, place: int, offsets: NDArray[np.float32]) -> None:
        """Keep the radiometric offsets of an MGRS tile, for all other units; see `ledger.write_offsets`."""
        ledger.write_offsets(self.location, self.format, place, offsets)

    def mark(self, index: int, state: int) -> None:
        """Enter a unit in the ledger, after its data is there.

        Args:
            index: Number of the unit.
            state: `DONE` or `DONE_WITHOUT_ASSETS`.

        Raises:
            WriteError: The place refused it.
        """
        ledger.mark_unit(self.location, index, state)

    def begin(self, device: str) -> None:
        """Note what the generator runs on, before the first unit: its rounding depends on it.

        Args:
            device: `Generator.runs_on` of the workers.

        Raises:
            StoreError: Units are done already, on something else.
            WriteError: The place refused it.
        """
        group = self._open_group("r+")
        begun = group.attrs.get(_DEVICE)
        if begun == device:
            return
        if begun is not None and self.read_ledger().any():
            raise StoreError(
                f"{self.location} was begun on a {str(begun).upper()}, and the workers generate on a "
                f"{device.upper()}, which rounds otherwise; give workers with a {str(begun).upper()}, "
                "or another --out"
            )
        with name_failed_writes(self.location):
            group.update_attributes({_DEVICE: device})

    def finish(self, report: Mapping[str, Any]) -> None:
        """Write what was run and, last of all, the consolidated metadata.

        Raises:
            WriteError: The place refused it.
        """
        with name_failed_writes(self.location):
            remove_pieces(self.location)
            group = self._open_group("r+")
            known = _read_report(group).get("missing_items", [])
            if (
                self.read_ledger() == DONE_WITHOUT_ASSETS
            ).any():  # what an earlier run lacked is lacking still
                report = {**report, "missing_items": sorted({*known, *report["missing_items"]})}
            group.update_attributes({_RUN: dict(report)})
        consolidate(self.location)

    def is_finished(self) -> bool:
        """Whether every unit is done, and the run that did the last of them came to its end."""
        with name_damage(self.location):
            group = zarr.open_group(open_zarr_store(self.location), mode="r")
            consolidated = group.metadata.consolidated_metadata is not None
            done = bool((self.read_ledger() == DONE).all())
            return consolidated and done and not _read_report(group).get("failed")

    def find_failed_units(self) -> list[int]:
        """Numbers of the units that the last run failed and none has done since."""
        with name_damage(self.location):
            states = self.read_ledger()
            named = (unit["unit"] for unit in _read_report(self._open_group("r")).get("failed", []))
            return [index for index in named if states[index] != DONE]

    def _open_group(self, mode: Any) -> zarr.Group:
        return zarr.open_group(open_zarr_store(self.location), mode=mode, use_consolidated=False)


def _read_report(group: zarr.Group) -> dict[str, Any]:
    """The report of the last run that came to its end; empty where none did."""
    run = group.attrs.get(_RUN)
    return run if isinstance(run, dict) else {}


def check_store(location: str, spec: StoreSpec, *, overwrite: bool = False) -> None:
    """Make sure that a store may be written somewhere, without writing.

    Args:
        location: Path of a directory, or URL of an object store.
        spec: What is to be written.
        overwrite: Whether a store of ours that holds something else may be removed.

    Raises:
        StoreError: Something else is there: another store of ours, or no store of ours.
    """
    check_identity(location, spec.identity, spec.model_files, overwrite=overwrite)


def find_store(location: str, spec: StoreSpec) -> Store | None:
    """The store of just this content that is there, with a ledger; None where there is none.

    Raises:
        StoreError: See `read_identity`; or what is there is damaged.
    """
    found = read_identity(location)
    if found is None or not is_made_for(found, spec):
        return None
    store = Store(location, read_format(found))
    with name_damage(location):
        group = zarr.open_group(open_zarr_store(location), mode="r", use_consolidated=False)
        if ledger.UNITS not in group:  # its template was cut off
            return None
        check_template(group, spec, store.format)
    return store


def prepare_store(location: str, spec: StoreSpec, *, overwrite: bool = False) -> Store:
    """Make the template of a store, or continue one that holds the same, whatever is done of it.

    The arguments and errors are those of `check_store`; and StoreError where another run is writing there.
    """
    check_store(location, spec, overwrite=overwrite)
    if not is_object_store(location):
        location = str(Path(location).resolve())  # a worker may have another working directory
    with hold_lease(location), name_unusable(location):
        found = read_identity(location)
        if found is not None and not is_made_for(found, spec):
            remove_store(location)
            found = None
        store = Store(location, FORMAT if found is None else read_format(found))
        make_template(open_zarr_store(location), spec, store.format)
    return store


def make_root_group(location: str, identity: dict[str, Any]) -> None:
    """Make a group that holds stores, in place of whatever else of ours is there.

    Whoever calls it holds its lease.

    Args:
        location: Path of a directory, or URL of an object store.
        identity: What tells it from other stores.

    Raises:
        StoreError: The place cannot be used.
    """
    with name_unusable(location):
        if read_identity(location) not in (None, identity):
            remove_store(location)
        attributes: dict[str, Any] = {"Conventions": "CF-1.11", IDENTITY: identity}
        root = open_zarr_store(location)
        zarr.open_group(root, mode="a", zarr_format=3, use_consolidated=False, attributes=attributes)

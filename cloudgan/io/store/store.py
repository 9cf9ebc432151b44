"""The Zarr store: its template, the writing of work units, and the ledger of what is done.

The template is made once, before any unit. Each unit then writes whole shards that no other unit touches,
and marks itself in the ledger after its data is there, so that a unit may be interrupted, repeated or raced
by its own twin, and the bytes are the same.
"""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from pyproj import CRS, Transformer
from zarr.abc.store import Store as ZarrStore
from zarr.codecs import BloscCodec

from cloudgan import __version__, schema
from cloudgan.errors import CloudganError, StoreError
from cloudgan.io.lease import hold_lease
from cloudgan.io.store.identity import describe_differences
from cloudgan.object_stores import (
    explain_error,
    is_object_store,
    is_refusal,
    name_failed_writes,
    open_object_store,
    unusable_error,
)
from cloudgan.planning.plan import Plan
from cloudgan.planning.units import CHUNK, Unit
from cloudgan.removal.core import DecloudedDate

# Of the codecs tried, byte shuffle with zstd gives the best ratio, at 0.6 of plain zstd's CPU. On real
# reflectance level 5 stores no less than level 3 (both 1.5 to 1), at three times the CPU.
_CODEC = BloscCodec(cname="zstd", clevel=3, shuffle="shuffle")
_IDENTITY = "cloudgan:plan"  # attribute of the root: the plan's identity, and the mark of a store of ours
_RUN = "cloudgan:run"  # attribute of the root: the report of the last run
_DEVICE = "cloudgan:device"  # attribute of the root: what the generator ran on
_LEDGER = "ledger/units"
_SHIFTS = "ledger/shifts-{}"
_COORDINATES = ("time", "y", "x", "spatial_ref", "item_ids", "cloud_cover", "processing_baseline")

PENDING, DONE, DONE_WITHOUT_ASSETS = 0, 1, 2
"""States of a unit in the ledger; the last is done again by a rerun, for its assets may be back."""


@dataclass(frozen=True, slots=True)
class Store:
    """An output store that fits a plan; plain data, so that workers can be told of it."""

    location: str
    """Path of a directory, or URL of an object store (`s3://bucket/key`)."""

    def read_ledger(self) -> NDArray[np.uint8]:
        """The state of each unit, shape (units,)."""
        with _naming_damage(self.location):
            return np.asarray(zarr.open_array(_zarr_store(self.location), path=_LEDGER, mode="r")[:])

    def writer(self, plan: Plan, unit: Unit) -> Callable[[int, DecloudedDate], None]:
        """What writes the dates of a unit, each as whole shards.

        Args:
            plan: The plan that the store was made for.
            unit: Which block.

        Returns:
            A function of the date's index in the store and its arrays, over the unit's window. It raises
            WriteError where the place refuses them.

        Raises:
            WriteError: The store cannot be opened any more.
        """
        root = _zarr_store(self.location)
        with name_failed_writes(self.location):
            arrays = {one.name: zarr.open_array(root, path=one.name, mode="r+") for one in _variables(plan)}
        rows, cols = unit.window.slices_in(plan.grid.window)

        def write(at: int, date: DecloudedDate) -> None:
            with name_failed_writes(self.location):
                for name, values in date.variables(plan.contract.output_bands).items():
                    arrays[name][at, rows, cols] = values

        return write

    def offsets(self, place: int) -> NDArray[np.float32] | None:
        """See `write_offsets`; None where nothing was kept yet."""
        try:
            with _naming_damage(self.location):
                kept = zarr.open_array(_zarr_store(self.location), path=_SHIFTS.format(place), mode="r")
                values: NDArray[np.float32] = np.asarray(kept[:])
        except FileNotFoundError:
            return None
        # Between its metadata and its values an array is all unknown, which no date is to itself.
        return None if np.isnan(values).all() else values

    def write_offsets(self, place: int, offsets: NDArray[np.float32]) -> None:
        """Keep how the dates of an MGRS tile differ, for all other units: whoever measures it finds the same.

        Args:
            place: Number of the MGRS tile.
            shifts: See `normalisation.RadiometricOffsets.values`.

        Raises:
            WriteError: The place refused it.
        """
        with name_failed_writes(self.location):
            array = zarr.create_array(
                _zarr_store(self.location),
                name=_SHIFTS.format(place),
                shape=offsets.shape,
                chunks=offsets.shape,
                dtype=offsets.dtype,
                fill_value=np.nan,
                overwrite=True,
            )
            array[:] = offsets

    def mark(self, unit: Unit, state: int) -> None:
        """Enter a unit in the ledger, after its data is there.

        Raises:
            WriteError: The place refused it.
        """
        with name_failed_writes(self.location):
            zarr.open_array(_zarr_store(self.location), path=_LEDGER, mode="r+")[unit.index] = state

    def begin(self, device: str) -> None:
        """Note what the generator runs on, before the first unit; its rounding is its own.

        Args:
            device: `Generator.runs_on` of the workers.

        Raises:
            StoreError: Units are done already, on something else.
            WriteError: The place refused it.
        """
        group = zarr.open_group(_zarr_store(self.location), mode="r+", use_consolidated=False)
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
        root = _zarr_store(self.location)
        with name_failed_writes(self.location):
            _sweep(root)
            group = zarr.open_group(root, mode="r+", use_consolidated=False)
            known = _run_of(group).get("missing_items", [])
            if (
                self.read_ledger() == DONE_WITHOUT_ASSETS
            ).any():  # what an earlier run missed is missing still
                report = {**report, "missing_items": sorted({*known, *report["missing_items"]})}
            group.update_attributes({_RUN: dict(report)})
        consolidate(self.location)

    def is_finished(self) -> bool:
        """Whether every unit is done, and the run that did the last of them came to its end."""
        with _naming_damage(self.location):
            group = zarr.open_group(_zarr_store(self.location), mode="r")
            consolidated = group.metadata.consolidated_metadata is not None
            return (
                consolidated and not _run_of(group).get("failed") and bool((self.read_ledger() == DONE).all())
            )

    def find_failed_units(self) -> list[int]:
        """Numbers of the units that the last run failed and none has done since."""
        with _naming_damage(self.location):
            group = zarr.open_group(_zarr_store(self.location), mode="r", use_consolidated=False)
            ledger = self.read_ledger()
            named = (letter["unit"] for letter in _run_of(group).get("failed", []))
            return [index for index in named if ledger[index] != DONE]


def consolidate(location: str) -> None:
    """Gather the metadata of all groups and arrays at their root: opening them then takes one read.

    Raises:
        WriteError: The place refused it.
    """
    with name_failed_writes(location), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # consolidated metadata is xarray's and GDAL's, not yet the spec's
        zarr.consolidate_metadata(_zarr_store(location))


def _run_of(group: zarr.Group) -> dict[str, Any]:
    """The report of the last run that came to its end; empty where none did."""
    run = group.attrs.get(_RUN)
    return run if isinstance(run, dict) else {}


def _sweep(root: ZarrStore) -> None:
    """Remove what workers that were killed while they wrote have left; only the disk keeps such pieces."""
    if isinstance(root, zarr.storage.LocalStore):
        for piece in root.root.rglob("*.partial"):
            piece.unlink(missing_ok=True)


def _zarr_store(location: str) -> ZarrStore:
    if is_object_store(location):
        return zarr.storage.ObjectStore(open_object_store(location))
    return zarr.storage.LocalStore(location)


def read_identity(location: str) -> dict[str, Any] | None:
    """The identity of the plan that a store was made for; None where there is nothing.

    Raises:
        StoreError: Something is there that cloudgan did not make.
    """
    root = _zarr_store(location)
    try:
        group = zarr.open_group(root, mode="r", zarr_format=3, use_consolidated=False)
    except (FileNotFoundError, NotADirectoryError):
        if isinstance(root, zarr.storage.LocalStore) and root.root.exists():
            if root.root.is_dir() and not any(root.root.iterdir()):
                return None
            raise _not_ours(location) from None
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise _not_ours(location) from error
    except Exception as error:  # the disk's errors, and those of whatever object store it is
        raise unusable_error(location, error) from error
    identity = group.attrs.get(_IDENTITY)
    if not isinstance(identity, dict):
        raise _not_ours(location)
    return identity


@contextmanager
def _naming_damage(location: str) -> Iterator[None]:
    """Turn whatever zarr stumbles over in a broken store into one sentence.

    Raises:
        StoreError: What is done within met something else than a refusal of the place.
    """
    try:
        yield
    except Exception as error:  # of zarr, its codecs, JSON and numpy
        if isinstance(error, CloudganError) or is_refusal(error):
            raise
        raise StoreError(
            f"{location} is damaged ({explain_error(error)}); remove it, or give another --out"
        ) from error


def _not_ours(location: str) -> StoreError:
    return StoreError(f"{location} exists and is no store of cloudgan's; give another --out")


def check_store(location: str, plan: Plan, *, overwrite: bool = False) -> None:
    """Make sure that a plan may be written somewhere, without writing.

    Args:
        location: Path of a directory, or URL of an object store.
        plan: What is to be written.
        overwrite: Whether a store of ours for another plan may be removed.

    Raises:
        StoreError: Something else is there: a store for another plan, or not a store of ours.
    """
    check_identity(location, plan.identity(), overwrite=overwrite)


def check_identity(location: str, wanted: dict[str, Any], *, overwrite: bool = False) -> None:
    """`check` for whatever has this identity."""
    found = read_identity(location)
    if found not in (None, wanted) and not overwrite:
        with _naming_damage(location):
            lines = "".join(f"\n  {line}" for line in describe_differences(found or {}, wanted))
        raise StoreError(
            f"{location} was made with other settings; give another --out, or --overwrite to replace it; "
            f"there -> wanted:{lines}"
        )


def find_store(location: str, plan: Plan) -> Store | None:
    """The store of this very plan that is there, with a ledger; None where there is none.

    Raises:
        StoreError: See `read_identity`; or what is there is damaged.
    """
    if read_identity(location) != plan.identity():
        return None
    with _naming_damage(location):
        group = zarr.open_group(_zarr_store(location), mode="r", use_consolidated=False)
        if _LEDGER not in group:  # its template was cut off
            return None
        _check_template(group, plan)
    return Store(location)


def prepare_store(location: str, plan: Plan, *, overwrite: bool = False) -> Store:
    """Make the template of a store, or take up one that was made for the same plan, whatever is done of it.

    The arguments and errors are those of `check`; and StoreError where another run is writing there.
    """
    check_store(location, plan, overwrite=overwrite)
    if not is_object_store(location):
        location = str(Path(location).resolve())  # a worker may have another working directory
    with hold_lease(location), _naming_disuse(location):
        if read_identity(location) not in (None, plan.identity()):
            _remove(location)
        _make_template(_zarr_store(location), plan)
    return Store(location)


def make_root_group(location: str, identity: dict[str, Any]) -> None:
    """Make a group that holds stores, in place of whatever else of ours is there.

    Whoever calls it holds its lease.

    Args:
        location: Path of a directory, or URL of an object store.
        identity: What tells it from other stores.

    Raises:
        StoreError: The place cannot be used.
    """
    with _naming_disuse(location):
        if read_identity(location) not in (None, identity):
            _remove(location)
        attributes: dict[str, Any] = {"Conventions": "CF-1.11", _IDENTITY: identity}
        root = _zarr_store(location)
        zarr.open_group(root, mode="a", zarr_format=3, use_consolidated=False, attributes=attributes)


@contextmanager
def _naming_disuse(location: str) -> Iterator[None]:
    """Turn what a place or a broken store there refuses, before anything is begun, into one sentence."""
    try:
        with _naming_damage(location):
            yield
    except CloudganError:
        raise
    except Exception as error:  # the disk's errors, and those of whatever object store it is
        raise unusable_error(location, error) from error


def _remove(location: str) -> None:
    root = _zarr_store(location)
    if isinstance(root, zarr.storage.LocalStore):
        # Aside first: a removal cut off half-way must not leave what is no store of ours any more.
        aside = root.root.with_name(f"{root.root.name}.removed")
        root.root.rename(aside)
        shutil.rmtree(aside)
    else:
        zarr.open_group(root, mode="w")


def _make_template(root: ZarrStore, plan: Plan) -> None:
    """Create what is missing of the template; the ledger comes last, and vouches for the rest."""
    # With its attributes in one write: a group without them is no store of ours.
    attributes = _root_attributes(plan) | {_IDENTITY: plan.identity()}
    group = zarr.open_group(root, mode="a", zarr_format=3, use_consolidated=False, attributes=attributes)
    if _LEDGER in group:
        _check_template(group, plan)
        return
    _make_coordinates(group, plan)
    chunk = min(CHUNK, plan.block)
    for variable in _variables(plan):
        spatial = {
            "grid_mapping": "spatial_ref",
            "coordinates": "spatial_ref item_ids cloud_cover processing_baseline",
        }
        group.create_array(
            variable.name,
            shape=(len(plan.written), *plan.grid.shape),
            dtype=variable.dtype,
            chunks=(1, chunk, chunk),
            shards=(1, plan.block, plan.block),
            compressors=[_CODEC],
            fill_value=variable.fill,
            dimension_names=("time", "y", "x"),
            attributes=variable.attributes | spatial,
            overwrite=True,
        )
    group.create_array(
        _LEDGER,
        shape=(plan.unit_count,),
        dtype="uint8",
        chunks=(1,),
        fill_value=PENDING,
        dimension_names=("unit",),
        overwrite=True,
    )


def _check_template(group: zarr.Group, plan: Plan) -> None:
    """Make sure that the arrays are what was made, before they are read: a ledger may claim any size.

    Raises:
        StoreError: One is missing or has another shape.
    """
    shape = (len(plan.written), *plan.grid.shape)
    wanted: dict[str, tuple[tuple[int, ...], np.dtype[Any]]]
    wanted = {one.name: (shape, one.dtype) for one in _variables(plan)}
    wanted |= {_LEDGER: ((plan.unit_count,), np.dtype(np.uint8))}
    found = {name: group.get(name) for name in (*wanted, *_COORDINATES)}
    for name, array in found.items():
        known = isinstance(array, zarr.Array) and (array.shape, array.dtype)
        if not known or known != wanted.get(name, known):
            raise StoreError(
                f"{group.store_path} is damaged (its {name} is not what was made); give another --out, or "
                "remove it"
            )


def _make_coordinates(group: zarr.Group, plan: Plan) -> None:
    scenes = [plan.scenes[at] for at in plan.written]
    days = np.array([scene.date for scene in scenes], "datetime64[D]").astype(np.int64)
    covers = [[item.cloud_cover for item in scene.items if item.cloud_cover is not None] for scene in scenes]
    values: dict[str, tuple[tuple[str, ...], NDArray[Any], dict[str, Any]]] = {
        "time": (
            ("time",),
            days,
            {"standard_name": "time", "units": "days since 1970-01-01", "calendar": "proleptic_gregorian"},
        ),
        "y": (("y",), plan.grid.y(), _axis("y")),
        "x": (("x",), plan.grid.x(), _axis("x")),
        "spatial_ref": ((), np.array(0, np.int64), _spatial_ref(plan)),
        "item_ids": (
            ("time",),
            np.array(
                [" ".join(item.id for item in scene.items) for scene in scenes], np.dtypes.StringDType()
            ),
            {"long_name": "source STAC items, first on top"},
        ),
        "cloud_cover": (
            ("time",),
            np.array([np.mean(cover) if cover else np.nan for cover in covers], np.float32),
            {"long_name": "cloud cover of the source items, mean", "units": "percent"},
        ),
        "processing_baseline": (
            ("time",),
            np.array(
                [" ".join(sorted({i.processing_baseline or "?" for i in s.items})) for s in scenes],
                np.dtypes.StringDType(),
            ),
            {"long_name": "ESA processing baseline of the source items"},
        ),
    }
    for name, (dimensions, data, attributes) in values.items():
        array = group.create_array(
            name,
            shape=data.shape,
            dtype="str" if data.dtype.kind == "T" else data.dtype,
            chunks=data.shape,
            dimension_names=dimensions,
            attributes=attributes,
            overwrite=True,
        )
        array[...] = data


def _axis(name: str) -> dict[str, Any]:
    return {
        "standard_name": f"projection_{name}_coordinate",
        "long_name": f"{name} of pixel centres",
        "units": "m",
        "axis": name.upper(),
    }


def _spatial_ref(plan: Plan) -> dict[str, Any]:
    transform = plan.grid.transform
    crs = CRS.from_epsg(plan.grid.epsg)
    return crs.to_cf() | {
        "spatial_ref": crs.to_wkt(),
        "GeoTransform": " ".join(
            f"{value:.12g}"
            for value in (transform.c, transform.a, transform.b, transform.f, transform.d, transform.e)
        ),
    }


def _variables(plan: Plan) -> tuple[schema.Variable, ...]:
    contract = plan.contract
    return schema.variables(contract.output_bands, predicts_uncertainty=contract.predicts_uncertainty)


def _root_attributes(plan: Plan) -> dict[str, Any]:
    west, south, east, north = plan.grid.bounds
    lonlat = Transformer.from_crs(plan.grid.epsg, 4326, always_xy=True).transform_bounds(
        west, south, east, north, densify_pts=21
    )
    dates = [plan.scenes[at].date for at in plan.written]
    contract = plan.contract
    return {
        "Conventions": "CF-1.11",
        "title": "Sentinel-2 surface reflectance, clouds and their shadows removed",
        "source": f"Copernicus Sentinel-2 L2A; hidden pixels generated by the model {contract.name}",
        "history": f"cloudgan {__version__}, model {contract.name} {contract.version}",
        "license": "contains modified Copernicus Sentinel data",
        "proj:code": f"EPSG:{plan.grid.epsg}",
        "proj:bbox": [west, south, east, north],
        "proj:shape": list(plan.grid.shape),
        "proj:transform": list(plan.grid.transform)[:6],
        "geospatial_lon_min": lonlat[0],
        "geospatial_lat_min": lonlat[1],
        "geospatial_lon_max": lonlat[2],
        "geospatial_lat_max": lonlat[3],
        "time_coverage_start": min(dates).isoformat(),
        "time_coverage_end": max(dates).isoformat(),
        "cloudgan:model": {
            "name": contract.name,
            "version": contract.version,
            "sha256": plan.model,
            "input_channels": [str(one) for one in contract.input_channels],
            "training": contract.training,
        },
    }

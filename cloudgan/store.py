"""The Zarr store: its template, the writing of work units, and the ledger of what is done.

The template is made once, before any unit. Each unit then writes whole shards that no other unit touches,
and marks itself in the ledger after its data is there, so that a unit may be interrupted, repeated or raced
by its own twin, and the bytes are the same.
"""

from __future__ import annotations

import json
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

from cloudgan import __version__
from cloudgan.clouds import NEVER
from cloudgan.errors import CloudganError, StoreError
from cloudgan.plan import Plan
from cloudgan.removal import NO_SPREAD, REFLECTANCE_SCALE, Declouded, Provenance, output_dtypes
from cloudgan.units import CHUNK, Unit

# Of the codecs tried, byte shuffle with zstd gives the best ratio, at 0.6 of plain zstd's CPU. On real
# reflectance level 5 stores no less than level 3 (both 1.5 to 1), at three times the CPU.
_CODEC = BloscCodec(cname="zstd", clevel=3, shuffle="shuffle")
_IDENTITY = "cloudgan:plan"  # attribute of the root: the plan's identity, and the mark of a store of ours
_LEDGER = "ledger/units"
_COORDINATES = ("time", "y", "x", "spatial_ref", "item_ids", "cloud_cover", "processing_baseline")

PENDING, DONE, DONE_WITHOUT_ASSETS = 0, 1, 2
"""States of a unit in the ledger; the last is done again by a rerun, for its assets may be back."""

_COMMON_NAMES = {  # central wavelength in nanometres (Sentinel-2A MSI spectral responses, ESA)
    "blue": 492.4,
    "green": 559.8,
    "red": 664.6,
    "nir": 832.8,
}


@dataclass(frozen=True, slots=True)
class Store:
    """An output store that fits a plan; plain data, so that workers can be told of it."""

    location: str
    """Path of a directory, or URL of an object store (`s3://bucket/key`)."""

    def ledger(self) -> NDArray[np.uint8]:
        """The state of each unit, shape (units,)."""
        with _naming_damage(self.location):
            return np.asarray(zarr.open_array(_zarr_store(self.location), path=_LEDGER, mode="r")[:])

    def writer(self, plan: Plan, unit: Unit) -> Callable[[int, Declouded], None]:
        """What writes the dates of a unit, each as whole shards.

        Args:
            plan: The plan that the store was made for.
            unit: Which block.

        Returns:
            A function of the date's index in the store and its arrays, over the unit's window.
        """
        root = _zarr_store(self.location)
        arrays = {name: zarr.open_array(root, path=name, mode="r+") for name in _variables(plan)}
        rows, cols = unit.window.slices_in(plan.grid.window)

        def write(at: int, date: Declouded) -> None:
            for name, values in date.variables(plan.contract.bands).items():
                arrays[name][at, rows, cols] = values

        return write

    def mark(self, unit: Unit, state: int) -> None:
        """Enter a unit in the ledger, after its data is there."""
        zarr.open_array(_zarr_store(self.location), path=_LEDGER, mode="r+")[unit.index] = state

    def finish(self, report: Mapping[str, Any]) -> None:
        """Write what was run and, last of all, the consolidated metadata."""
        group = zarr.open_group(_zarr_store(self.location), mode="r+", use_consolidated=False)
        before: Any = group.attrs.get("cloudgan:run")
        known = before.get("missing_items", []) if isinstance(before, dict) else []
        if (self.ledger() == DONE_WITHOUT_ASSETS).any():  # what an earlier run missed is missing still
            report = {**report, "missing_items": sorted({*known, *report["missing_items"]})}
        group.update_attributes({"cloudgan:run": dict(report)})
        consolidate(self.location)


def consolidate(location: str) -> None:
    """Gather the metadata of all groups and arrays at their root: opening them then takes one read."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # consolidated metadata is xarray's and GDAL's, not yet the spec's
        zarr.consolidate_metadata(_zarr_store(location))


def _zarr_store(location: str) -> ZarrStore:
    if "://" not in location:
        return zarr.storage.LocalStore(location)
    try:
        from obstore.store import from_url
    except ImportError as error:
        raise StoreError(
            f"{location} is an object store, and the package that writes there is not installed; "
            "pip install 'cloudgan[s3]', or give a directory"
        ) from error
    try:
        return zarr.storage.ObjectStore(from_url(location))
    except Exception as error:  # obstore's own types, one for each way of being wrong
        raise _unusable(location, error) from error


def identity_of(location: str) -> dict[str, Any] | None:
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
        raise _unusable(location, error) from error
    identity = group.attrs.get(_IDENTITY)
    if not isinstance(identity, dict):
        raise _not_ours(location)
    return identity


@contextmanager
def _naming_damage(location: str) -> Iterator[None]:
    """Turn whatever zarr stumbles over in a broken store into one sentence.

    Raises:
        StoreError: What is done within met something else than a refusal of the disk.
    """
    try:
        yield
    except (CloudganError, OSError):
        raise
    except Exception as error:  # of zarr, its codecs, JSON and numpy
        reason = str(error).strip().split("\n", maxsplit=1)[0] or type(error).__name__
        raise StoreError(f"{location} is damaged ({reason}); remove it, or give another --out") from error


def _unusable(location: str, error: Exception) -> StoreError:
    reason = str(error).strip().split("\n", maxsplit=1)[0] or type(error).__name__
    return StoreError(f"{location} cannot be used ({reason}); give an --out that can be written")


def _not_ours(location: str) -> StoreError:
    return StoreError(f"{location} exists and is no store of cloudgan's; give another --out")


def check(location: str, plan: Plan, *, overwrite: bool = False) -> None:
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
    found = identity_of(location)
    if found not in (None, wanted) and not overwrite:
        with _naming_damage(location):
            differ = differences(found or {}, wanted)
        raise StoreError(
            f"{location} was made with other settings ({differ}); "
            "give another --out, or --overwrite to replace it"
        )


def prepare(location: str, plan: Plan, *, overwrite: bool = False) -> Store:
    """Make the template of a store, or take up one that was made for the same plan, whatever is done of it.

    The arguments and errors are those of `check`.
    """
    check(location, plan, overwrite=overwrite)
    if "://" not in location:
        location = str(Path(location).resolve())  # a worker may have another working directory
    try:
        if identity_of(location) not in (None, plan.identity()):
            _remove(location)
        with _naming_damage(location):
            _make_template(_zarr_store(location), plan)
    except OSError as error:
        raise _unusable(location, error) from error
    return Store(location)


def make_root(location: str, identity: dict[str, Any]) -> None:
    """Make a group that holds stores, in place of whatever else of ours is there.

    Args:
        location: Path of a directory, or URL of an object store.
        identity: What tells it from other stores.
    """
    try:
        if identity_of(location) not in (None, identity):
            _remove(location)
        attributes: dict[str, Any] = {"Conventions": "CF-1.11", _IDENTITY: identity}
        root = _zarr_store(location)
        zarr.open_group(root, mode="a", zarr_format=3, use_consolidated=False, attributes=attributes)
    except OSError as error:
        raise _unusable(location, error) from error


def differences(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    """What differs between two identities of plans, for people."""
    parts = []
    for name in sorted({*found, *wanted}):
        old, new = found.get(name), wanted.get(name)
        if old == new:
            continue
        if name == "items":
            old_ids, new_ids = (
                {item[0] for items in (x or {}).values() for item in items} for x in (old, new)
            )
            parts += [f"{len(new_ids - old_ids)} items more and {len(old_ids - new_ids)} fewer, or moved"]
        elif name == "dates":
            parts += [f"{len(old or ())} dates there, {len(new or ())} wanted"]
        else:
            parts += [f"{name}: {_short(old)} there, {_short(new)} wanted"]
    return "; ".join(parts)


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 24 else f"{text[:21]}..."


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
    chunk, dtypes = min(CHUNK, plan.block), output_dtypes(plan.contract.bands)
    for name, attributes in _variables(plan).items():
        spatial = {
            "grid_mapping": "spatial_ref",
            "coordinates": "spatial_ref item_ids cloud_cover processing_baseline",
        }
        fill = attributes.get("_FillValue", Provenance.NO_DATA)
        group.create_array(
            name,
            shape=(len(plan.written), *plan.grid.shape),
            dtype=dtypes[name],
            chunks=(1, chunk, chunk),
            shards=(1, plan.block, plan.block),
            compressors=[_CODEC],
            fill_value=int(fill),
            dimension_names=("time", "y", "x"),
            attributes=attributes | spatial,
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
    shape, dtypes = (len(plan.written), *plan.grid.shape), output_dtypes(plan.contract.bands)
    wanted: dict[str, tuple[tuple[int, ...], np.dtype[Any]]]
    wanted = {name: (shape, np.dtype(dtypes[name])) for name in _variables(plan)}
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


def _variables(plan: Plan) -> dict[str, dict[str, Any]]:
    """CF attributes of the variables over (time, y, x)."""
    bands = {
        name: {
            "_FillValue": 0,
            "standard_name": "surface_bidirectional_reflectance",
            "long_name": f"{name} surface reflectance, declouded",
            "units": "1",
            "scale_factor": REFLECTANCE_SCALE,
            "add_offset": 0.0,
            "ancillary_variables": "provenance days_before days_after spread",
        }
        | ({"wavelength_nm": _COMMON_NAMES[name]} if name in _COMMON_NAMES else {})
        for name in plan.contract.bands
    }
    days = "days from this date to the nearest clear look {} it, 0 where observed, {} where there is none"
    return bands | {
        "provenance": {
            "long_name": "where the pixel's values are from",
            "flag_values": [int(flag) for flag in Provenance],
            "flag_meanings": " ".join(flag.name.lower() for flag in Provenance),
        },
        # "d" is UDUNITS' day too; "days" would make xarray turn numbers into timedeltas.
        "days_before": {
            "_FillValue": NEVER,
            "units": "d",
            "long_name": days.format("before", NEVER),
        },
        "days_after": {
            "_FillValue": NEVER,
            "units": "d",
            "long_name": days.format("after", NEVER),
        },
        "spread": {
            "_FillValue": NO_SPREAD,
            "units": "1",
            "scale_factor": REFLECTANCE_SCALE,
            "add_offset": 0.0,
            "long_name": "largest minus smallest prediction of overlapping tiles, mean over bands",
        },
    }


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
            "planes": list(contract.planes),
            "training": contract.training,
        },
    }

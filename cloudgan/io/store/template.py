"""The template of a store: its groups, arrays, coordinates and attributes, made once, before any unit."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.abc.store import Store as ZarrStore
from zarr.codecs import BloscCodec
from zarr.core.buffer import Buffer

from cloudgan.io.store import ledger
from cloudgan.io.store.access import IDENTITY, copy_objects
from cloudgan.io.store.attributes import describe_area, describe_axis, describe_crs, describe_frame
from cloudgan.io.store.identity import compute_plan_digest
from cloudgan.io.store.spec import ACQUIRED, ERROR_STD, HAZY, StoreSpec
from cloudgan.object_stores import is_refusal
from cloudgan.schema import Variable
from cloudgan.stac.search import Scene

# Of the codecs tried, byte shuffle with zstd gives the best ratio, at 0.6 of plain zstd's CPU. On real
# reflectance level 5 stores no less than level 3 (both 1.5 to 1), at three times the CPU.
_CODEC = BloscCodec(cname="zstd", clevel=3, shuffle="shuffle")
_PER_DATE = f"{ACQUIRED} item_ids cloud_cover processing_baseline"

_Coordinate = tuple[tuple[str, ...], NDArray[Any], dict[str, Any]]  # dimensions, values, attributes


def make_template(found: ZarrStore, root: ZarrStore, spec: StoreSpec) -> None:
    """Make what is missing of the template, or damaged; the ledger comes last, and vouches for the rest.

    Shards and entries of the ledger stay as they are.

    Args:
        found: Where, open for reading; its root group is there.
        root: The same, open for writing.
        spec: What the store is to hold.
    """
    template = _Template.of(spec)
    broken = template.find_broken(found)
    for name in sorted(template.names, key=lambda name: name == ledger.UNITS):
        if name in broken:
            copy_objects(template.objects, root, template.keys(name))


def describe_root(spec: StoreSpec) -> dict[str, Any]:
    """Attributes of the root group."""
    return describe_area(spec) | {IDENTITY: compute_plan_digest(spec.identity)}


def is_as_made(root: ZarrStore, spec: StoreSpec) -> bool:
    """Whether the whole template is there, before anything of it is relied on."""
    return not _Template.of(spec).find_broken(root)


@dataclass(frozen=True, slots=True)
class _Template:
    """A template in memory."""

    objects: dict[str, Buffer]
    """All its objects, by key."""
    coordinates: tuple[str, ...]
    """Names of the arrays that have values."""

    @classmethod
    def of(cls, spec: StoreSpec) -> _Template:
        """The template of a store."""
        objects: dict[str, Buffer] = {}
        group = zarr.open_group(zarr.storage.MemoryStore(objects), mode="w", zarr_format=3)
        coordinates = _cube_coordinates(spec) | _date_coordinates(spec.scenes)
        for name, coordinate in coordinates.items():
            _write_coordinate(group, name, coordinate)
        _make_quality_of_dates(group, spec)
        for variable in spec.variables:
            _make_array(group, variable, spec)
        objects |= ledger.make_ledger(spec.unit_count)
        return cls(objects, tuple(coordinates))

    @property
    def names(self) -> list[str]:
        """Names of its arrays."""
        return [key.removesuffix("/zarr.json") for key in self.objects if key.endswith("/zarr.json")]

    def keys(self, name: str) -> list[str]:
        """Keys of an array's objects, its metadata first."""
        values = [key for key in self.objects if key == f"{name}/c" or key.startswith(f"{name}/c/")]
        return [f"{name}/zarr.json", *values]

    def find_broken(self, root: ZarrStore) -> list[str]:
        """Names of the arrays that are missing in a store, or not what was made."""
        return [name for name in self.names if not self._holds(root, name)]

    def _holds(self, root: ZarrStore, name: str) -> bool:
        wanted = zarr.open_array(zarr.storage.MemoryStore(self.objects), path=name, mode="r")
        try:
            found = zarr.open_array(root, path=name, mode="r", zarr_format=3)
            if _get_layout(found) != _get_layout(wanted):
                return False
            # A coordinate has few values, and one that a power cut took reads as the fill value.
            return name not in self.coordinates or _are_equal(found[...], wanted[...])
        except Exception as error:
            if not _is_damage(error):
                raise
            return False


def _get_layout(array: zarr.Array[Any]) -> tuple[Any, ...]:
    return array.shape, array.dtype, array.chunks, array.shards, array.metadata.dimension_names  # type: ignore[union-attr]


def _are_equal(one: Any, other: Any) -> bool:
    one, other = np.asarray(one), np.asarray(other)
    return bool(np.array_equal(one, other, equal_nan=one.dtype.kind == "f"))


def _is_damage(error: Exception) -> bool:
    """Whether an error of zarr, its codecs, JSON or numpy is of what lies there, and not of the place."""
    return isinstance(error, FileNotFoundError | NotADirectoryError) or not is_refusal(error)


def _make_array(group: zarr.Group, variable: Variable, spec: StoreSpec) -> None:
    chunk = min(spec.chunk, spec.block)
    per_date = " ".join([_PER_DATE, HAZY, *(f"{ERROR_STD}_{band}" for band in spec.bands)])
    where = {"grid_mapping": "spatial_ref", "coordinates": f"spatial_ref {per_date}"}
    group.create_array(
        variable.name,
        shape=spec.shape,
        dtype=variable.dtype,
        chunks=(1, chunk, chunk),
        shards=(1, spec.block, spec.block),
        compressors=[_CODEC],
        fill_value=variable.fill,
        dimension_names=("time", "y", "x"),
        attributes=variable.attributes | where | describe_frame(spec.grid),
    )


def _make_quality_of_dates(group: zarr.Group, spec: StoreSpec) -> None:
    """Coordinates of each date that a run fills at its end: nothing is known before."""
    count = len(spec.scenes)
    hazy: dict[str, Any] = {
        "long_name": "whether haze or thin cloud brightens what was observed on this date",
        "flag_values": [0, 1, 255],
        "flag_meanings": "no yes unknown",
    }
    where: dict[str, Any] = {"shape": (count,), "chunks": (count,), "dimension_names": ("time",)}
    group.create_array(HAZY, dtype=np.uint8, fill_value=255, attributes=hazy, **where)
    for band in spec.bands:
        std: dict[str, Any] = {
            "long_name": f"standard error of the date in {band}, told by its neighbours",
            "units": "1",
        }
        group.create_array(
            f"{ERROR_STD}_{band}", dtype=np.float32, fill_value=np.nan, attributes=std, **where
        )


def write_quality_of_dates(root: ZarrStore, hazy: NDArray[np.bool_], std: Mapping[str, NDArray[Any]]) -> None:
    """Fill the coordinates that say how good each date is.

    Args:
        root: The store, open for writing.
        hazy: Which dates are hazy, shape (time,).
        std: By band: standard error of each date, shape (time,), NaN where it is unknown.
    """
    unknown = np.all([np.isnan(values) for values in std.values()], axis=0)
    values: dict[str, NDArray[Any]] = {HAZY: np.where(unknown, np.uint8(255), hazy.astype(np.uint8))}
    values |= {f"{ERROR_STD}_{band}": of_band for band, of_band in std.items()}
    for name, array in values.items():
        zarr.open_array(root, path=name, mode="r+")[...] = array


def _write_coordinate(group: zarr.Group, name: str, coordinate: _Coordinate) -> None:
    dimensions, data, attributes = coordinate
    with warnings.catch_warnings():
        # Text of a fixed length is zarr-python's, not yet the spec's; that of any length is an object to
        # xarray, which netCDF and `chunks="auto"` do not take.
        warnings.simplefilter("ignore")
        array = group.create_array(
            name,
            shape=data.shape,
            dtype=data.dtype,
            chunks=data.shape,
            dimension_names=dimensions,
            attributes=attributes,
        )
    array[...] = data


def _cube_coordinates(spec: StoreSpec) -> dict[str, _Coordinate]:
    days = np.array([scene.date for scene in spec.scenes], "datetime64[D]").astype(np.int64)
    calendar = {
        "standard_name": "time",
        "units": "days since 1970-01-01",
        "calendar": "proleptic_gregorian",
    }
    return {
        "time": (("time",), days, calendar),
        "y": (("y",), spec.grid.y(), describe_axis("y")),
        "x": (("x",), spec.grid.x(), describe_axis("x")),
        "spatial_ref": ((), np.array(0, np.int64), describe_crs(spec.grid)),
    }


def _date_coordinates(scenes: tuple[Scene, ...]) -> dict[str, _Coordinate]:
    ids = [" ".join(item.id for item in scene.items) for scene in scenes]
    covers = [[item.cloud_cover for item in scene.items if item.cloud_cover is not None] for scene in scenes]
    baselines = [
        " ".join(sorted({item.processing_baseline or "?" for item in scene.items})) for scene in scenes
    ]
    return {
        ACQUIRED: (
            ("time",),
            np.array([_find_first_second(scene) for scene in scenes], np.int64),
            {
                "long_name": "when the first of the source items was taken, UTC",
                "units": "seconds since 1970-01-01",
                "calendar": "proleptic_gregorian",
            },
        ),
        "item_ids": (
            ("time",),
            np.array(ids),
            {"long_name": "source STAC items, first on top"},
        ),
        "cloud_cover": (
            ("time",),
            np.array([np.mean(cover) if cover else np.nan for cover in covers], np.float32),
            {"long_name": "cloud cover of the source items, mean", "units": "percent"},
        ),
        "processing_baseline": (
            ("time",),
            np.array(baselines),
            {"long_name": "ESA processing baseline of the source items"},
        ),
    }


def _find_first_second(scene: Scene) -> int:
    return math.floor(min(item.datetime for item in scene.items).timestamp())

"""What a store holds, in figures, from the store alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import zarr

from cloudgan.errors import StoreError
from cloudgan.io.store.access import name_damage, open_zarr_store
from cloudgan.io.store.identity import check_format, read_identity
from cloudgan.io.store.ledger import DONE, DONE_WITHOUT_ASSETS, read_states
from cloudgan.io.store.store import read_about
from cloudgan.schema import PROVENANCE, Provenance

FEW_PIXELS = 200_000_000
"""Pixels of all dates up to which the shares of their provenance are counted: a second or two."""


def describe_store(location: str) -> dict[str, Any]:
    """Describe a store, finished or not.

    Args:
        location: Path of a directory, or URL of an object store.

    Returns:
        JSON: `location`, `model`, `variables`, `crs`, `resolution`, `shape` (time, y, x), `bounds` (west,
        south, east, north in degrees), `dates`, `units` (`total`, `done`, `without_assets`), `provenance`
        (the share of each kind of pixel; None for a large store), `left_out`, `offsets` and `run` (the report
        of the last run, with the scores of `--score`). Of a store with several UTM zones, `location` and
        `zones`, which holds these by the name of the group.

    Raises:
        StoreError: There is no store of cloudgan's, or it is damaged.
    """
    identity = read_identity(location)
    if identity is None:
        raise StoreError(f"there is no store at {location}; give the --out of a run")
    if "zones" in identity:
        groups = {name: describe_store(f"{location.rstrip('/')}/{name}") for name in identity["zones"]}
        return {"location": location, "zones": groups}
    check_format(location, identity)
    states, about = read_states(location), read_about(location)
    with name_damage(location):
        group = zarr.open_group(open_zarr_store(location), mode="r", use_consolidated=False)
        return (
            {"location": location}
            | _describe_group(group, about["model"])
            | {
                "units": {
                    "total": len(states),
                    "done": int(np.isin(states, (DONE, DONE_WITHOUT_ASSETS)).sum()),
                    "without_assets": int((states == DONE_WITHOUT_ASSETS).sum()),
                },
                "provenance": _count_provenance(group[PROVENANCE.name]),
            }
            | {name: about[name] for name in ("left_out", "offsets", "run")}
        )


def _describe_group(group: zarr.Group, model: Mapping[str, Any]) -> dict[str, Any]:
    attributes: dict[str, Any] = dict(group.attrs)
    arrays = dict(group.arrays())
    bounds = [attributes[f"geospatial_{axis}_{end}"] for end in ("min", "max") for axis in ("lon", "lat")]
    days = np.asarray(arrays["time"][:]).astype("datetime64[D]")
    return {
        "model": {name: model[name] for name in ("name", "version", "digest")},
        "variables": sorted(name for name, array in arrays.items() if array.ndim == 3),
        "crs": attributes["proj:code"],
        "resolution": attributes["spatial:transform"][0],
        "shape": list(arrays[PROVENANCE.name].shape),
        "bounds": bounds,
        "dates": [str(day) for day in days],
    }


def _count_provenance(array: Any) -> dict[str, float] | None:
    if array.size > FEW_PIXELS:
        return None
    counts = np.zeros(len(Provenance), np.int64)
    for at in range(array.shape[0]):
        counts += np.bincount(np.asarray(array[at]).ravel(), minlength=len(counts))[: len(counts)]
    return {kind.name.lower(): round(float(counts[kind] / array.size), 4) for kind in Provenance}

"""Gap-free Sentinel-2: clouds removed by a trained generator, from a STAC search to a Zarr store."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from cloudgan.aoi import Aoi, read_aoi
    from cloudgan.catalog import Scene, find_scenes
    from cloudgan.cube import open_cube
    from cloudgan.dates import DateRange
    from cloudgan.errors import CloudganError
    from cloudgan.generator import Generator
    from cloudgan.grid import Grid, Lattice, Window
    from cloudgan.job import BatchJob
    from cloudgan.plan import Plan
    from cloudgan.planning import plan_run, plan_zones
    from cloudgan.removal import remove_clouds
    from cloudgan.run import Job, Report, execute
    from cloudgan.store import Store, prepare

_HOME = {
    "Aoi": "aoi",
    "BatchJob": "job",
    "CloudganError": "errors",
    "DateRange": "dates",
    "Generator": "generator",
    "Grid": "grid",
    "Job": "run",
    "Lattice": "grid",
    "Plan": "plan",
    "Report": "run",
    "Scene": "catalog",
    "Store": "store",
    "Window": "grid",
    "execute": "run",
    "find_scenes": "catalog",
    "open_cube": "cube",
    "plan_run": "planning",
    "plan_zones": "planning",
    "prepare": "store",
    "read_aoi": "aoi",
    "remove_clouds": "removal",
}

__all__ = [
    "Aoi",
    "BatchJob",
    "CloudganError",
    "DateRange",
    "Generator",
    "Grid",
    "Job",
    "Lattice",
    "Plan",
    "Report",
    "Scene",
    "Store",
    "Window",
    "__version__",
    "execute",
    "find_scenes",
    "open_cube",
    "plan_run",
    "plan_zones",
    "prepare",
    "read_aoi",
    "remove_clouds",
]


def __getattr__(name: str) -> Any:
    # Names are fetched on first use: `import cloudgan` must not cost that of GDAL, Dask and ONNX Runtime.
    if name in _HOME:
        return getattr(importlib.import_module(f"cloudgan.{_HOME[name]}"), name)
    raise AttributeError(f"module 'cloudgan' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__

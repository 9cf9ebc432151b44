"""Gap-free Sentinel-2: clouds removed by a trained generator, from a STAC search to a Zarr store."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.2.0"

if TYPE_CHECKING:
    from cloudgan.batch import BatchPlan, Progress, plan_batch, run_batch
    from cloudgan.config import BatchConfig
    from cloudgan.distributed.execute import execute
    from cloudgan.distributed.report import Report, ZoneReport
    from cloudgan.distributed.worker import Job
    from cloudgan.errors import CloudganError
    from cloudgan.geo.aoi import Aoi, read_aoi
    from cloudgan.geo.grid import Grid, Lattice, Window
    from cloudgan.io.cube import open_cube
    from cloudgan.io.store.store import Store, prepare_store
    from cloudgan.model.generator import Generator
    from cloudgan.observations import Observations
    from cloudgan.planning.plan import Plan
    from cloudgan.planning.planner import plan_run, plan_zones
    from cloudgan.products.dataset import open  # noqa: A004 - as xarray and zarr have it
    from cloudgan.removal.core import decloud_dates
    from cloudgan.removal.lazy import remove_clouds
    from cloudgan.sentinel2.dates import DateRange
    from cloudgan.stac.search import Scene, find_scenes

_HOME = {
    "Aoi": "geo.aoi",
    "BatchConfig": "config",
    "BatchPlan": "batch",
    "CloudganError": "errors",
    "DateRange": "sentinel2.dates",
    "Generator": "model.generator",
    "Grid": "geo.grid",
    "Job": "distributed.worker",
    "Lattice": "geo.grid",
    "Observations": "observations",
    "Plan": "planning.plan",
    "Progress": "batch",
    "Report": "distributed.report",
    "Scene": "stac.search",
    "Store": "io.store.store",
    "Window": "geo.grid",
    "ZoneReport": "distributed.report",
    "decloud_dates": "removal.core",
    "execute": "distributed.execute",
    "find_scenes": "stac.search",
    "open": "products.dataset",
    "open_cube": "io.cube",
    "plan_batch": "batch",
    "plan_run": "planning.planner",
    "plan_zones": "planning.planner",
    "prepare_store": "io.store.store",
    "read_aoi": "geo.aoi",
    "remove_clouds": "removal.lazy",
    "run_batch": "batch",
}

__all__ = [
    "Aoi",
    "BatchConfig",
    "BatchPlan",
    "CloudganError",
    "DateRange",
    "Generator",
    "Grid",
    "Job",
    "Lattice",
    "Observations",
    "Plan",
    "Progress",
    "Report",
    "Scene",
    "Store",
    "Window",
    "ZoneReport",
    "__version__",
    "decloud_dates",
    "execute",
    "find_scenes",
    "open",
    "open_cube",
    "plan_batch",
    "plan_run",
    "plan_zones",
    "prepare_store",
    "read_aoi",
    "remove_clouds",
    "run_batch",
]


def __getattr__(name: str) -> Any:
    # Names are fetched on first use: `import cloudgan` must not cost that of GDAL, Dask and ONNX Runtime.
    if name in _HOME:
        return getattr(importlib.import_module(f"cloudgan.{_HOME[name]}"), name)
    raise AttributeError(f"module 'cloudgan' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__

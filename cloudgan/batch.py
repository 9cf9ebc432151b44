"""A batch run from its configuration to its report: what the command `cloudgan-batch` does.

```python
config = cloudgan.BatchConfig(aoi="field.geojson", dates="2020-04/2020-07", out="out.zarr")
report = cloudgan.run_batch(config)
```
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import distributed

from cloudgan.config import BatchConfig
from cloudgan.defaults import READER
from cloudgan.distributed.cluster import (
    connect,
    count_threads,
    divide_machine,
    record_performance,
    start_workers,
)
from cloudgan.distributed.execute import execute
from cloudgan.distributed.report import Report, ZoneReport, unwrap_zone
from cloudgan.distributed.requirements import Requirements
from cloudgan.distributed.worker import Job
from cloudgan.distributed.workers import Cluster, check_workers, keep_worker
from cloudgan.errors import InputError
from cloudgan.geo.aoi import read_aoi
from cloudgan.io.lease import hold_lease
from cloudgan.io.readers import check_reader
from cloudgan.io.store.identity import read_identity
from cloudgan.io.store.store import Store, check_store, find_store, prepare_store
from cloudgan.io.store.zones import Zones
from cloudgan.masks.detector import Detector
from cloudgan.masks.selection import Masks
from cloudgan.model.generator import Generator
from cloudgan.planning.plan import Plan
from cloudgan.planning.planner import continue_plan, plan_zones
from cloudgan.removal.timing import measure_tile_seconds
from cloudgan.sentinel2.bands import BAND_SETS, BANDS
from cloudgan.sentinel2.dates import DateRange

_FEW_UNITS = 1
"""Units of all zones that the process of the command does by itself: starting another takes longer."""
_SECONDS_OF_MEGAPIXEL = 1.0  # of reading, masks and writing: 0.4 to 1.1 were measured, docs/performance.md


@dataclass(frozen=True, slots=True)
class BatchPlan:
    """What a batch run will do, before it writes or starts anything."""

    config: BatchConfig
    """What was asked for."""
    zones: Mapping[str, Plan]
    """A plan for each UTM zone, by the name of its group in the store; empty where there is one zone."""
    generator: Generator
    """What fills the mask."""
    workers: int | None
    """Workers to start on this machine at most; None where a scheduler has them."""
    memory: int | None
    """Bytes that a worker may use; None where nobody said."""
    warnings: tuple[str, ...] = ()
    """What the user should know of the area and of the catalogue."""
    detectors: tuple[Detector, ...] = ()
    """What finds clouds beside the scene classification."""

    @property
    def groups(self) -> Zones:
        """Where the zones lie in the store."""
        return Zones.of(self.config.out, self.zones)

    def summaries(self) -> dict[str, dict[str, Any]]:
        """The plan in figures, by zone; see `Plan.summary`."""
        summaries = {name: plan.summary(self.memory) for name, plan in self.zones.items()}
        if self.config.score:
            from cloudgan.distributed import self_check  # only who wants a score waits for what it takes

            for name, plan in self.zones.items():
                summaries[name]["score"] = self_check.estimate_cost(plan)
        return summaries

    def estimate_work(self, price: float | None = None) -> dict[str, Any]:
        """How long a core like this machine's would take for all of it, as JSON.

        Args:
            price: Of a core hour, in any currency; with it the cost is said too.

        Returns:
            `core_hours`, of them `core_hours_generating`, `seconds_of_tile` (measured now, on `device`) and
            `cost`, where there is a price.
        """
        seconds = measure_tile_seconds(self.generator)
        tiles = sum(summary["tiles_estimated"] for summary in self.summaries().values())
        generating = tiles * seconds / 3600
        pixels = sum(plan.pixels for plan in self.zones.values())
        hours = generating + pixels / 1e6 * _SECONDS_OF_MEGAPIXEL / 3600
        work = {
            "core_hours": float(f"{hours:.3g}"),
            "core_hours_generating": float(f"{generating:.3g}"),
            "seconds_of_tile": round(seconds, 4),
            "device": self.generator.runs_on,
        }
        return work if price is None else work | {"cost": round(hours * price, 2)}

    def as_json(self) -> Any:
        """The plan in figures, as JSON; by zone where there are several."""
        return unwrap_zone(self.summaries())


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is: given at the beginning of a zone that has work, after every unit, and at its end."""

    zone: str
    """Name of the zone's group; empty where there is one zone alone."""
    store: str
    """Path or URL of the zone's store."""
    report: ZoneReport
    """What was done so far."""
    dashboard: str | None
    """Address of the page on which Dask shows its work; None where no worker was needed, or where the workers
    are our own, which have no page."""
    is_finished: bool
    """Whether this is the end of the zone."""


def _load_generator(config: BatchConfig) -> Generator:
    """The generator of a run. One built on estimates gives true colour and near infrared by default."""
    generator = Generator.load(config.model, "auto", config.band_names)
    contract = generator.contract
    if config.bands is not None or not contract.uses_estimate:
        return generator
    usual = {*BAND_SETS["rgbn"], *contract.output_bands}
    return generator.give([band for band in BANDS if band in usual])


def plan_batch(config: BatchConfig, *, client: distributed.Client | None = None) -> BatchPlan:
    """Search the catalogue and decide everything about a run, without writing or starting anything.

    Args:
        config: What to do.
        client: Whose workers will do it; see `run_batch`.

    Raises:
        InputError: Something cannot be done as asked, or the output is not ours.
        CatalogError: The catalogue cannot be read, or holds nothing for the request.
    """
    if client is not None and client.asynchronous:
        raise InputError("the Dask client is asynchronous; give one made with asynchronous=False")
    workers, memory = (None, config.memory_bytes)
    if config.scheduler is None and client is None:
        workers, memory = divide_machine(config.workers, config.memory_bytes)
        check_reader(config.reader)
    span = DateRange.parse(config.dates)
    area = read_aoi(config.aoi)
    generator = _load_generator(config)
    masks = Masks.load(config.masks, config.snow, generator.contract.input_bands)
    read_identity(config.out)  # it raises where somebody else's files are
    plans, warnings = plan_zones(
        area,
        span,
        generator,
        stac=config.stac,
        collection=config.collection,
        resolution=config.resolution,
        max_cloud_cover=config.max_cloud_cover,
        context_days=config.context_days,
        clip=config.clip,
        offset=config.offset_policy,
        masks=masks,
        strict=config.strict,
        allow_missing=config.allow_missing,
        memory=memory,
    )
    plan = BatchPlan(config, plans, generator, workers, memory, tuple(warnings), masks.detectors)
    zones = {
        name: continue_plan(one, read_identity(plan.groups.at(name)), memory) for name, one in plans.items()
    }
    return replace(plan, zones=zones)


def run_batch(
    config: BatchConfig | BatchPlan,
    *,
    client: distributed.Client | None = None,
    retry_failed: bool = False,
    on_progress: Callable[[Progress], None] | None = None,
) -> Report:
    """Remove the clouds from Sentinel-2 over an area and a span of time, into a Zarr store.

    A run that was interrupted, in whatever way, is resumed by the same call: what is done stays.

    Args:
        config: What to do, or the plan that `plan_batch` made of it.
        client: Whose workers do it, instead of those that `config` names.
        retry_failed: Do only the units that the last run names as failed.
        on_progress: Called as the run goes on.

    Returns:
        The report. Units that failed are named in it, and `ok` is false.

    Raises:
        InputError: Something cannot be done as asked; nothing was written.
        StoreError: The output is another run's, or was made with other settings.
        ClusterError: The workers or their scheduler went away.
        WriteError: The page that `config.report` asks for cannot be written; the store is as it is.
    """
    plan = config if isinstance(config, BatchPlan) else plan_batch(config, client=client)
    overwrite = plan.config.overwrite and not retry_failed  # what is replaced has no failed units
    zones = [
        _Zone(name, plan.groups.at(name), one, overwrite, retry_failed) for name, one in plan.zones.items()
    ]
    plan.groups.check(overwrite=overwrite)
    for zone in zones:
        zone.check()
    reports = {}
    with ExitStack() as stack:
        workforce = _Workforce(plan, client, stack)
        stack.enter_context(plan.groups.hold(overwrite=overwrite))
        for zone in zones:
            reports[zone.name] = _run_zone(zone, plan, workforce, on_progress or _ignore)
            if reports[zone.name].stopped is not None:
                break  # what stops one zone stops the others
    report = Report(plan.config.out, plan.summaries(), reports, plan.warnings)
    if not plan.config.report:
        return report
    from cloudgan.report.files import write_beside
    from cloudgan.report.page import write_report

    page = str(write_report(plan.config.out, command=plan.config.as_command()))
    report = replace(report, page=page)
    body = json.dumps(report.as_json(), indent=2).encode()
    return replace(report, files=(page, write_beside(plan.config.out, ".json", body), *workforce.files))


def _ignore(progress: Progress) -> None:
    """The default of `on_progress`."""


@dataclass(frozen=True, slots=True)
class _Zone:
    """A zone of a run, and how its store is treated."""

    name: str
    location: str
    plan: Plan
    overwrite: bool
    retry_failed: bool

    def check(self) -> None:
        """Refuse what cannot be done, before anything is written."""
        check_store(self.location, self.plan.store_spec(), overwrite=self.overwrite)
        if self.retry_failed and self.find_store() is None:
            raise InputError(f"{self.location} has no failed units yet: run without --retry-failed first")

    def find_store(self) -> Store | None:
        """The store of this plan, where a run has begun it."""
        return find_store(self.location, self.plan.store_spec())

    def prepare_store(self) -> Store:
        """The store, made where there is none."""
        return prepare_store(self.location, self.plan.store_spec(), overwrite=self.overwrite)


@dataclass
class _Workforce:
    """The workers of a run, started when the first zone has something to do."""

    plan: BatchPlan
    given: distributed.Client | None
    stack: ExitStack
    files: list[str] = field(default_factory=list)
    """What was written beside the store when they were done with."""

    @property
    def is_own_process(self) -> bool:
        """Whether this process does the units, one after the other, for they are few.

        Not where another than our own code opens files: only in a process of its own can GDAL be kept from
        other formats.
        """
        units = sum(plan.unit_count for plan in self.plan.zones.values())
        return self.count is not None and units <= _FEW_UNITS and self.plan.config.reader == READER

    @cached_property
    def cluster(self) -> Cluster | None:
        """Where the workers are; None where this process is the only one."""
        if self.is_own_process:
            return None
        config = self.plan.config
        client = self.given or self._open(config.wait)
        far = self.given is None and config.scheduler is not None
        cluster = Cluster(client, config.wait, config.resource_amounts, self._open if far else None)
        self.stack.callback(keep_worker(cluster).release)
        if config.report:
            self.stack.enter_context(record_performance(client, self._write_performance))
        return cluster

    def _write_performance(self, page: bytes) -> None:
        from cloudgan.report.files import write_beside

        self.files.append(write_beside(self.plan.config.out, "-performance.html", page))

    @cached_property
    def requirements(self) -> Requirements:
        """What workers must have, once it is sure that those that are there have it."""
        if self.cluster is None:
            return Requirements()
        return check_workers(self.cluster, self.plan.zones.values())

    @property
    def count(self) -> int | None:
        """Workers to start on this machine; None where somebody else has them."""
        if self.given is not None or self.plan.workers is None:
            return None
        return min(self.plan.workers, max(plan.unit_count for plan in self.plan.zones.values()))

    @property
    def threads(self) -> int:
        """Tiles that a worker generates at once."""
        ours = self.count is not None and self.plan.config.workers is None
        return count_threads(self.count) if ours and self.count else 1

    def _open(self, patience: float = 0.0) -> distributed.Client:
        opened: AbstractContextManager[distributed.Client]
        if self.plan.config.scheduler is not None:
            opened = connect(self.plan.config.scheduler, patience)
        else:
            opened = start_workers(self.count or 1, self.plan.memory, self.plan.config.resource_amounts)
        return self.stack.enter_context(opened)


def _find_evaluation(config: BatchConfig) -> Callable[..., dict[str, Any]] | None:
    """What evaluates the generator at the end, where that is asked for."""
    if not config.score:
        return None
    from cloudgan.distributed import self_check

    return self_check.evaluate_generator


def _run_zone(
    zone: _Zone, plan: BatchPlan, workforce: _Workforce, on_progress: Callable[[Progress], None]
) -> ZoneReport:
    """Do what is left of a zone; where nothing is, no worker is started."""
    begun, config = zone.find_store(), plan.config
    only = begun.find_failed_units() if begun and zone.retry_failed else None
    dashboard = None
    if begun and (only == [] or begun.is_finished()) and not config.score:
        ledger = begun.read_ledger()
        report = ZoneReport.of_ledger(ledger, begun.read_report().get("empty"))
        report = report.count_pending(ledger, allow_missing=config.allow_missing)
    else:
        with hold_lease(zone.location):
            pass  # before workers are started for nothing; `execute` takes it again
        cluster = workforce.cluster
        own = workforce.given is None and config.scheduler is None
        dashboard = None if own or cluster is None else cluster.client.dashboard_link
        requirements = workforce.requirements
        store = zone.prepare_store()
        options = config.reader, config.allow_missing, workforce.threads, requirements, plan.detectors
        job = Job(zone.plan, plan.generator, store, *options)

        def show(report: ZoneReport) -> None:
            on_progress(Progress(zone.name, zone.location, report, dashboard, is_finished=False))

        show(ZoneReport.of_ledger(store.read_ledger()))
        report = execute(job, cluster, show, only=only, evaluate=_find_evaluation(config))
    on_progress(Progress(zone.name, zone.location, report, dashboard, is_finished=True))
    return report

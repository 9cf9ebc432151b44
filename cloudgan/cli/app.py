"""The commands. The only place that prints: data on stdout, everything else on stderr."""

from __future__ import annotations

import json
import logging
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, cast

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from cloudgan import __version__
from cloudgan.cli import quality, train
from cloudgan.errors import CloudganError, InputError

if TYPE_CHECKING:
    import distributed

    from cloudgan.config import BatchConfig
    from cloudgan.defaults import Reader
    from cloudgan.distributed.execute import Report
    from cloudgan.model.generator import Generator
    from cloudgan.planning.plan import Plan

DONE, SOME_FAILED, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130

err = Console(stderr=True, highlight=False, soft_wrap=True, markup=False)

app = typer.Typer(
    name="cloudgan",
    help="Gap-free Sentinel-2: clouds removed by a trained generator.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
batch_app = typer.Typer(name="cloudgan-batch", add_completion=False, pretty_exceptions_enable=False)
app.command("evaluate")(quality.evaluate)
app.command("train")(train.train)
app.command("info")(quality.info)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"cloudgan {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


@batch_app.command()
@app.command("batch")
def batch(
    aoi: Annotated[str | None, typer.Option(help="GeoJSON file with the area of interest.")] = None,
    dates: Annotated[
        str | None, typer.Option(help="A day, month or year, or a span: 2020-04-03, 2020-04/2020-07.")
    ] = None,
    out: Annotated[
        str | None, typer.Option(help="The Zarr store to write. [default: cloudgan.zarr]", show_default=False)
    ] = None,
    stac: Annotated[
        str | None,
        typer.Option(
            help="STAC API URL, earth-search, planetary-computer, or path or URL of a static catalogue. "
            "[default: earth-search]",
            show_default=False,
        ),
    ] = None,
    collection: Annotated[
        str | None, typer.Option(help="Collection id. [default: sentinel-2-l2a]", show_default=False)
    ] = None,
    resolution: Annotated[float | None, typer.Option(help="Pixel size in metres. [default: 10]")] = None,
    max_cloud_cover: Annotated[
        float | None, typer.Option(help="Leave out granules with more cloud, in percent. [default: 100]")
    ] = None,
    context_days: Annotated[
        int | None,
        typer.Option(
            help="Days before and after the dates that are read for their clear looks, and not written. "
            "[default: 30]",
            show_default=False,
        ),
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="ONNX file, or name of a model that ships. [default: temporal]")
    ] = None,
    reader: Annotated[str | None, typer.Option(help="odc or stackstac. [default: odc]")] = None,
    scheduler: Annotated[
        str | None, typer.Option(help="Address of a Dask scheduler, instead of workers on this machine.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="Workers on this machine. [default: one a core]")
    ] = None,
    memory: Annotated[
        str | None, typer.Option(help="Memory of one worker, such as 4GB. [default: an equal share]")
    ] = None,
    plan: Annotated[bool, typer.Option("--plan", help="Print what would be done, and stop.")] = False,
    overwrite: Annotated[
        bool | None,
        typer.Option("--overwrite/--no-overwrite", help="Replace a store that was made with other settings."),
    ] = None,
    allow_missing: Annotated[
        bool | None,
        typer.Option(
            "--allow-missing/--no-allow-missing",
            help="Record assets that cannot be read as missing; do not fail.",
        ),
    ] = None,
    clip: Annotated[
        bool | None,
        typer.Option("--clip/--no-clip", help="No data outside the polygon, instead of its bounding box."),
    ] = None,
    score: Annotated[
        bool | None,
        typer.Option("--score/--no-score", help="Judge the generator on clear ground of the cube itself."),
    ] = None,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Do only the units that the last run names as failed.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the plan or the report as JSON.")] = False,
    job: Annotated[Path | None, typer.Option(help="TOML file with these options; flags override it.")] = None,
) -> None:
    """Remove the clouds from Sentinel-2 over an area and a span of time, into a Zarr store.

    A rerun of the same command does only what is missing.
    """
    from cloudgan.config import BatchConfig

    flags = {
        "aoi": aoi,
        "dates": dates,
        "out": out,
        "stac": stac,
        "collection": collection,
        "resolution": resolution,
        "max_cloud_cover": max_cloud_cover,
        "context_days": context_days,
        "model": model,
        "reader": reader,
        "scheduler": scheduler,
        "workers": workers,
        "memory": memory,
        "overwrite": overwrite,
        "allow_missing": allow_missing,
        "clip": clip,
        "score": score,
    }
    _run_batch(BatchConfig.load(job, flags), plan_only=plan, as_json=as_json, retry_failed=retry_failed)


def _run_batch(options: BatchConfig, *, plan_only: bool, as_json: bool, retry_failed: bool) -> None:
    from cloudgan.io.store import store, zones

    workers, memory = _share_of_machine(options)
    plans, generator = _planned(options, memory)
    summaries = {name: plan.summary(memory) for name, plan in plans.items()}
    if not (plan_only and as_json):
        for name, summary in summaries.items():
            err.print(_plan_table(name, summary))
    if plan_only:
        if as_json:
            typer.echo(json.dumps(_by_zone(summaries), indent=2))
        return
    groups = zones.Zones.of(options.out, plans)
    overwrite = options.overwrite and not retry_failed  # what is replaced has no failed units
    jobs = {name: options.replace(out=groups.at(name), overwrite=overwrite) for name in plans}
    groups.check(overwrite=overwrite)
    for name, plan in plans.items():
        store.check_store(jobs[name].out, plan.store_spec(), overwrite=overwrite)
        if retry_failed and store.find_store(jobs[name].out, plan.store_spec()) is None:
            raise InputError(f"{jobs[name].out} has no failed units yet: run without --retry-failed first")
    reports = {}
    with groups.hold(overwrite=overwrite):
        for name, plan in plans.items():
            reports[name] = _report(jobs[name], plan, generator, workers, memory, retry_failed=retry_failed)
            _print_report(reports[name], jobs[name].out)
    if as_json:
        told = _by_zone({name: report.as_json() for name, report in reports.items()})
        typer.echo(json.dumps({"store": options.out, "plan": _by_zone(summaries), "report": told}, indent=2))
    if any(report.failed or report.unfinished for report in reports.values()):
        raise typer.Exit(SOME_FAILED)


def _by_zone(values: dict[str, Any]) -> Any:
    """The value of the only zone, or those of several by name."""
    return values[""] if list(values) == [""] else {"zones": values}


def _planned(options: BatchConfig, memory: int | None) -> tuple[dict[str, Plan], Generator]:
    """Everything that can be refused is refused here, before anything is written or started."""
    from cloudgan.geo import aoi
    from cloudgan.io.store import identity, zones
    from cloudgan.model import generator
    from cloudgan.planning import planner
    from cloudgan.sentinel2 import dates

    span = dates.DateRange.parse(options.dates)
    area = aoi.read_aoi(options.aoi)
    made = generator.Generator.load(options.model, "auto")
    identity.read_identity(options.out)  # that nothing of somebody else's is there
    with err.status("searching the catalogue"):
        plans, warnings = planner.plan_zones(
            area,
            span,
            made,
            stac=options.stac,
            collection=options.collection,
            resolution=options.resolution,
            max_cloud_cover=options.max_cloud_cover,
            context_days=options.context_days,
            clip=options.clip,
            memory=memory,
        )
    for name, plan in plans.items():
        found = identity.read_identity(zones.Zones.of(options.out, plans).at(name))
        plans[name] = planner.continue_plan(plan, found, memory)
    for notice in warnings:
        err.print(f"note: {notice}", style="yellow")
    return plans, made


def _report(
    options: BatchConfig,
    plan: Plan,
    generator: Generator,
    workers: int,
    memory: int | None,
    *,
    retry_failed: bool,
) -> Report:
    """Do what is left of a zone; where nothing is, no worker is started."""
    from cloudgan.distributed import execute
    from cloudgan.io.store import store

    begun = store.find_store(options.out, plan.store_spec())
    only = begun.find_failed_units() if begun and retry_failed else None
    if begun and (only == [] or begun.is_finished()) and not options.score:
        return execute.Report.of_ledger(begun.read_ledger())
    return _executed(options, plan, generator, min(workers, plan.unit_count), memory, only)


def _executed(
    options: BatchConfig,
    plan: Plan,
    generator: Generator,
    workers: int,
    memory: int | None,
    only: list[int] | None,
) -> Report:
    from cloudgan.distributed import execute, self_check
    from cloudgan.io import lease
    from cloudgan.io.store import store

    with lease.hold_lease(options.out):
        pass  # before workers are started for nothing; whoever writes takes it again
    with _client(options, workers, memory) as client, _terminated_as_by_ctrl_c():
        execute.check_workers(client, plan)
        target = store.prepare_store(options.out, plan.store_spec(), overwrite=options.overwrite)
        reader = cast("Reader", options.reader)
        job = execute.Job(plan, generator, target, reader, options.allow_missing, _threads(options, workers))
        try:
            with _progress(plan) as show:
                judge = self_check.score if options.score else None
                return execute.execute(job, client, show, only=only, judge=judge)
        except KeyboardInterrupt:
            err.print("interrupted: what is done is kept; run the same command again to do the rest")
            raise typer.Exit(INTERRUPTED) from None


def _share_of_machine(options: BatchConfig) -> tuple[int, int | None]:
    """Workers to start here, and the memory of each; on a cluster the workers' own limits are checked."""
    if options.scheduler is not None:
        return 1, options.memory_bytes
    from dask.system import CPU_COUNT
    from distributed.system import MEMORY_LIMIT

    memory = options.memory_bytes
    if memory is not None and memory > MEMORY_LIMIT:
        raise InputError(
            f"--memory {options.memory} is more than this machine has, {MEMORY_LIMIT / 1e9:.1f} GB; give less"
        )
    fitting = CPU_COUNT if memory is None else min(CPU_COUNT, MEMORY_LIMIT // memory)
    workers = options.workers or fitting
    return workers, memory or MEMORY_LIMIT // workers


def _threads(options: BatchConfig, workers: int) -> int:
    """Tiles a worker generates at once: cores that have no unit of their own to work on still help."""
    if options.scheduler is not None or options.workers is not None:
        return 1
    from dask.system import CPU_COUNT

    return max(1, CPU_COUNT // workers)


@contextmanager
def _client(options: BatchConfig, workers: int, budget: int | None) -> Iterator[distributed.Client]:
    """Workers of our own, or somebody's scheduler; either way the dashboard's address is printed."""
    import dask
    import distributed

    for name in ("distributed", "distributed.nanny", "distributed.scheduler", "distributed.worker"):
        logging.getLogger(name).setLevel(logging.ERROR)
    if options.scheduler is not None:
        try:
            # How long it may take is Dask's own setting, distributed.comm.timeouts.connect.
            client = distributed.Client(options.scheduler)
        except (OSError, ValueError, TypeError) as error:
            encrypted = str(options.scheduler).startswith("tls:")
            remedy = (
                "check the address, and the certificate that DASK_DISTRIBUTED__COMM__TLS__CA_FILE, "
                "__CLIENT__CERT and __CLIENT__KEY name"
                if encrypted
                else "check the address, as in tcp://host:8786, or tls://host:8786 where it is encrypted"
            )
            raise InputError(
                f"no Dask scheduler answers at {options.scheduler} ({error}); {remedy}"
            ) from error
        with client:
            err.print(f"dashboard: {client.dashboard_link}")
            yield client
        return
    # The limit is a fuse, not the budget: a unit stays within the budget by its plan.
    fuse = {f"distributed.worker.memory.{name}": False for name in ("target", "spill", "pause")}
    with dask.config.set(fuse), _workers_deaf_to_ctrl_c():
        cluster = distributed.LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            memory_limit=budget or "auto",
            dashboard_address="127.0.0.1:0",
        )
    with cluster, distributed.Client(cluster) as client:
        err.print(f"dashboard: {client.dashboard_link}")
        yield client


@contextmanager
def _workers_deaf_to_ctrl_c() -> Iterator[None]:
    """Processes started in here leave Ctrl-C to us; a terminal sends it to all of them."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _terminated_as_by_ctrl_c() -> Iterator[None]:
    """A SIGTERM in here, as clusters send it, ends the run in order, and lets go of the store."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _progress(plan: Plan) -> Iterator[Callable[[Report], None] | None]:
    """A bar of units, pixels, rate and time left; nothing where stderr is no terminal."""
    if not err.is_terminal:
        yield None
        return
    columns = (
        TextColumn("{task.completed}/{task.total} units"),
        BarColumn(),
        TextColumn("{task.fields[pixels]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=err) as bar:
        task = bar.add_task("units", total=plan.unit_count, pixels="")

        def show(report: Report) -> None:
            rate = report.pixels / max(report.seconds, 1e-9) / 1e6
            bar.update(
                task,
                completed=report.skipped + report.done + len(report.failed),
                pixels=f"{report.pixels / 1e6:.1f} Mpixel, {rate:.2f} Mpixel/s",
            )

        yield show


def _plan_table(name: str, summary: dict[str, Any]) -> Table:
    times, height, width = summary["shape"]
    budget = summary["bytes_of_memory_per_worker"]
    rows = {
        "area": f"{width} x {height} pixels of {summary['resolution']:g} m, {summary['crs']}",
        "dates": f"{times}, {summary['dates'][0]} to {summary['dates'][-1]}",
        "context dates": f"{len(summary['context_dates'])}, read around them and not written",
        "items": f"{summary['items']}, baselines {', '.join(summary['baselines'])}",
        "duplicates dropped": str(len(summary["duplicates"])),
        "model": f"{summary['model']} ({summary['model_digest'][:12]})",
        "work units": f"{summary['units']}, each of {summary['unit']} pixels square and "
        f"{summary['unit_dates']} dates at most",
        "generator tiles": f"{summary['tiles_at_most']} at most; without the clear ones some "
        f"{summary['tiles_estimated']}, estimated from the items' cloud cover",
        "to read": f"{summary['bytes_to_read_at_most'] / 1e6:.0f} MB at most, uncompressed",
        "to write": f"{summary['bytes_to_write_at_most'] / 1e6:.0f} MB at most, uncompressed",
        "memory of a unit": f"{summary['bytes_of_memory_per_unit'] / 1e9:.2f} GB"
        + (f" of a worker's {budget / 1e9:.2f} GB" if budget else ""),
    }
    table = Table.grid(padding=(0, 2), pad_edge=False)
    if name:
        table.add_row("group", name)
    for title, value in rows.items():
        table.add_row(title, value)
    return table


def _print_report(report: Report, out: str) -> None:
    if report.skipped:
        err.print(f"{report.skipped} of {report.units} units were done already")
    for index, letter in sorted(report.failed.items()):
        err.print(f"unit {index} failed: {letter.reason}", style="red")
    if report.missing:
        err.print(f"missing, recorded in the store: {', '.join(sorted(report.missing))}", style="yellow")
    rate = report.pixels / max(report.seconds, 1e-9) / 1e6
    err.print(
        f"{out}: {report.done} units, {report.pixels / 1e6:.1f} Mpixel ({report.generated / 1e6:.1f} "
        f"generated, {report.observed / 1e6:.1f} observed) in {report.seconds:.1f} s, {rate:.2f} Mpixel/s"
    )
    if report.score is not None:
        quality.print_score(report.score)
    if report.failed:
        err.print(
            f"{len(report.failed)} units failed; run the same command again to do just these", style="red"
        )
    if report.unfinished:
        err.print(f"the store lacks this run's report: {report.unfinished}", style="red")


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder to write.")] = Path("demo"),
    seed: Annotated[int, typer.Option(help="Another seed, another landscape.")] = 0,
) -> None:
    """Write a demonstration catalogue: a season of simulated farmland in the shape of Earth Search."""
    from cloudgan.demonstration.catalogue import write_catalog

    made = write_catalog(out, seed)
    err.print(f"wrote {made.catalog}")
    typer.echo(str(made.catalog))


def _fail(error: CloudganError) -> NoReturn:
    err.print(f"error: {error}", style="red")
    sys.exit(BAD_INPUT if isinstance(error, InputError) else SOME_FAILED)


def _call(command: typer.Typer, arguments: list[str] | None) -> Any:
    try:
        command(args=arguments)
    except CloudganError as error:
        _fail(error)


def main(arguments: list[str] | None = None) -> None:
    """The command `cloudgan`."""
    _call(app, arguments)


def batch_main(arguments: list[str] | None = None) -> None:
    """The command `cloudgan-batch`, the same as `cloudgan batch`."""
    _call(batch_app, arguments)


def evaluate_main(arguments: list[str] | None = None) -> None:
    """The command `cloudgan-evaluate`, the same as `cloudgan evaluate`."""
    _call(quality.evaluate_app, arguments)


if __name__ == "__main__":
    main()

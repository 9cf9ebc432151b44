"""The command `cloudgan batch` (and `cloudgan-batch`): its options are the fields of `BatchConfig`."""

from __future__ import annotations

import inspect
import logging
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_origin

import typer
from rich.table import Table

from cloudgan.cli.output import BAD_INPUT, INTERRUPTED, SOME_FAILED, err, make_grid, make_table, print_json
from cloudgan.cli.progress import Display, LogFormat, RunLog
from cloudgan.config import BatchConfig
from cloudgan.errors import CloudganError, InputError

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

    from cloudgan import batch as runs
    from cloudgan.distributed.report import Report, ZoneReport

EPILOG = "Example: cloudgan-batch --aoi field.geojson --dates 2020-04/2020-07 --out declouded.zarr"


def batch(
    context: typer.Context,
    *,
    job: Path | None,
    plan: bool,
    price: float | None,
    retry_failed: bool,
    as_json: bool,
    log: LogFormat,
    quiet: bool,
    **options: Any,
) -> None:
    """Remove the clouds over an area and a span of time.

    The result is a Zarr store. A rerun of the same command does only what is missing.
    """
    run_log = RunLog(log, quiet=quiet)
    with _tell_errors(run_log), run_log.take_warnings(), _terminate_like_interrupt():
        config = BatchConfig.load(job, {name: options[name] for name in options if _is_given(context, name)})
        from cloudgan import batch as runs  # here: the help does not wait for Dask, GDAL and ONNX Runtime

        _quieten_dask()
        planned = _plan(runs, config, run_log)
        if plan:
            _show_plan(run_log, planned, planned.estimate_work(price), as_json=as_json)
            return
        if not quiet:
            _show_plan(run_log, planned)
        report = _run(runs, planned, run_log, retry_failed=retry_failed)
    for path in report.files:
        run_log.tell("file", f"report: {path}", path=path)
    if as_json:
        print_json(report.as_json())
    if not report.ok:
        raise typer.Exit(SOME_FAILED)


def _run(module: Any, planned: runs.BatchPlan, log: RunLog, *, retry_failed: bool) -> Report:
    """Do what is planned, and say how it goes."""
    units = {name: plan.unit_count for name, plan in planned.zones.items()}
    with Display(log, units) as display:

        def show(progress: runs.Progress) -> None:
            display.show(progress)
            if progress.is_finished and not log.as_json:
                if log.quiet:
                    _print_what_went_wrong(progress.report)
                else:
                    _print_report(progress.report, progress.store)
            elif progress.is_finished:
                log.tell(
                    "finished", zone=progress.zone, store=progress.store, report=progress.report.as_json()
                )

        report: Report = module.run_batch(planned, retry_failed=retry_failed, on_progress=show)
    return report


@contextmanager
def _tell_errors(log: RunLog) -> Iterator[None]:
    """Say how the run ends where it does not end well; in text, whoever called the command says errors."""
    try:
        yield
    except KeyboardInterrupt:
        text = "interrupted: what is done is kept; run the same command again to do the rest"
        log.tell("interrupted", text)
        raise typer.Exit(INTERRUPTED) from None
    except CloudganError as error:
        if not log.as_json:
            raise
        log.tell("error", str(error))
        raise typer.Exit(BAD_INPUT if isinstance(error, InputError) else SOME_FAILED) from error


def _describe_options() -> inspect.Signature:
    """The signature of the command: how Typer learns of its options."""
    own = {
        "job": (Path | None, typer.Option(help="TOML file with the options below; flags override it."), None),
        "plan": (bool, typer.Option("--plan", help="Print what would be done, and stop."), False),
        "price": (
            float | None,
            typer.Option(min=0, help="Price of a core hour, for --plan."),
            None,
        ),
        "retry_failed": (
            bool,
            typer.Option("--retry-failed", help="Do only the units that the last run names as failed."),
            False,
        ),
        "as_json": (bool, typer.Option("--json", help="Print the plan or the report as JSON."), False),
        "log": (
            LogFormat,
            typer.Option(help="Form of stderr."),
            LogFormat.TEXT,
        ),
        "quiet": (
            bool,
            typer.Option("--quiet", help="Say only warnings and errors on stderr."),
            False,
        ),
    }
    fields = {name: _describe_field(name, field) for name, field in BatchConfig.model_fields.items()}
    described = {"job": own.pop("job")} | fields | own
    parameters = [
        inspect.Parameter(
            name, inspect.Parameter.KEYWORD_ONLY, annotation=Annotated[kind, option], default=value
        )
        for name, (kind, option, value) in described.items()
    ]
    context = inspect.Parameter("context", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context)
    return inspect.Signature([context, *parameters])


def _describe_field(name: str, field: FieldInfo) -> tuple[Any, Any, Any]:
    """Type, option and default of a field; what the type does not allow, `BatchConfig` refuses."""
    kind = str if get_origin(field.annotation) is Literal else field.annotation
    flag = f"--{name.replace('_', '-')}"
    flags = f"{flag}/--no-{name.replace('_', '-')}" if kind is bool else flag
    if isinstance(field.json_schema_extra, dict) and field.json_schema_extra.get("repeated"):
        return list[str], typer.Option(flag, help=field.description), [field.default]
    option = typer.Option(flags, help=field.description, show_default=kind is not bool)
    return (str | None, option, None) if field.is_required() else (kind, option, field.default)


_SIGNATURE = _describe_options()
batch.__dict__["__signature__"] = _SIGNATURE
batch.__annotations__ = {each.name: each.annotation for each in _SIGNATURE.parameters.values()}


def _is_given(context: typer.Context, name: str) -> bool:
    """Whether an option stands on the command line: what is not given may stand in the job file."""
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def _quieten_dask() -> None:
    for name in ("distributed", "distributed.nanny", "distributed.scheduler", "distributed.worker"):
        logging.getLogger(name).setLevel(logging.ERROR)


@contextmanager
def _terminate_like_interrupt() -> Iterator[None]:
    """A SIGTERM in here, as clusters send it, ends the run as Ctrl-C does, and releases the store."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _plan(module: Any, config: BatchConfig, log: RunLog) -> runs.BatchPlan:
    with nullcontext() if log.as_json or log.quiet else err.status("searching the catalogue"):
        planned: runs.BatchPlan = module.plan_batch(config)
    for warning in planned.warnings:
        log.tell("warning", f"note: {warning}", style="yellow")
    return planned


def _show_plan(
    log: RunLog, planned: runs.BatchPlan, work: Mapping[str, Any] | None = None, *, as_json: bool = False
) -> None:
    """Say what is planned: on stdout as JSON, or on stderr."""
    if as_json:
        print_json(planned.as_json() | ({"work": work} if work else {}))
        return
    if log.as_json:
        log.tell("planned", plan=planned.as_json(), work=work)
        return
    for name, summary in planned.summaries().items():
        err.print(_make_plan_table(name, summary))
    if work is not None:
        err.print(make_grid([("core hours", _describe_work(work))]))


def _describe_work(work: Mapping[str, Any]) -> str:
    """Core hours and cost, for people."""
    cost = "" if "cost" not in work else f"; {work['cost']:,.2f} at the price given"
    return (
        f"some {work['core_hours']:,.2f}, of them {work['core_hours_generating']:,.2f} generating, at the "
        f"{work['seconds_of_tile']:.3f} s that a tile takes on this machine's {work['device'].upper()}{cost}"
    )


def _make_plan_table(name: str, summary: Mapping[str, Any]) -> Table:
    times, height, width = summary["shape"]
    budget = summary["bytes_of_memory_per_worker"]
    rows = {
        "area": f"{width} x {height} pixels of {summary['resolution']:g} m, {summary['crs']}",
        "dates": f"{times}, {summary['dates'][0]} to {summary['dates'][-1]}",
        "context dates": f"{len(summary['context_dates'])}, read around them and not written",
        "items": f"{summary['items']}, baselines {', '.join(summary['baselines'])}",
        "duplicates dropped": str(len(summary["duplicates"])),
        "items left out": str(len(summary["left_out"])),
        "model": f"{summary['model']} ({summary['model_digest'][:12]})",
        "masks": f"{', '.join(summary['mask']) or 'none'}; bands {', '.join(summary['bands'])}",
        "work units": f"{summary['units']}, each of {summary['unit']} pixels square and "
        f"{summary['unit_dates']} dates at most",
        "generator tiles": f"{summary['tiles_at_most']} at most; without the clear ones some "
        f"{summary['tiles_estimated']}, estimated from the items' cloud cover",
        "to read": f"{summary['bytes_to_read_at_most'] / 1e6:.0f} MB at most, uncompressed",
        "to write": f"{summary['bytes_to_write_at_most'] / 1e6:.0f} MB at most, uncompressed",
        "memory of a unit": f"{summary['bytes_of_memory_per_unit'] / 1e9:.2f} GB"
        + (f" of a worker's {budget / 1e9:.2f} GB" if budget else ""),
    }
    if (score := summary.get("score")) is not None:
        rows["to score"] = (
            f"{score['tiles_at_most']} generator tiles and {score['bytes_to_read_at_most'] / 1e6:.0f} MB to "
            f"read at most, on {score['pieces']} pieces of the area"
        )
    return make_grid([*([("group", name)] if name else []), *rows.items()])


def _print_report(report: ZoneReport, store: str) -> None:
    if report.skipped:
        err.print(f"{report.skipped} of {report.units} units were done already")
    _print_missing(report)
    rate = report.pixels / max(report.seconds, 1e-9) / 1e6
    err.print(
        f"{store}: {report.done} units, {report.pixels / 1e6:.1f} Mpixel ({report.generated / 1e6:.1f} "
        f"generated, {report.observed / 1e6:.1f} observed) in {report.seconds:.1f} s, {rate:.2f} Mpixel/s"
    )
    if masked := report.masked_on_average():
        shares = ", ".join(f"{name} {share:.1%}" for name, share in masked.items())
        err.print(f"masked by: {shares} (a pixel may have several)")
    if report.hazy:
        err.print(
            f"hazy, too bright where observed: {', '.join(report.hazy)} (coordinate hazy of the store)",
            style="yellow",
        )
    _print_unusual_pixels(report)
    if report.score is not None:
        _print_score(report.score)
    _print_faults(report)


def _print_what_went_wrong(report: ZoneReport) -> None:
    """Print what `--quiet` leaves of a report: nothing, if all is well."""
    _print_missing(report)
    if report.empty is not None and not report.ok:
        err.print(report.empty, style="red")
    _print_faults(report)


def _print_missing(report: ZoneReport) -> None:
    if report.missing:
        err.print(f"missing, recorded in the store: {', '.join(sorted(report.missing))}", style="yellow")


def _print_faults(report: ZoneReport) -> None:
    """Print what is not done, and why."""
    if report.failed:
        err.print(
            f"{len(report.failed)} units failed; run the same command again to do just these", style="red"
        )
    elif report.pending:
        err.print(
            f"{report.pending} of {report.units} units are not done; run the same command without "
            "--retry-failed and --allow-missing to do them",
            style="red",
        )
    if report.stopped is not None:
        err.print(report.stopped, style="red")
    if report.unfinished:
        err.print(f"the store lacks this run's report: {report.unfinished}", style="red")


def _print_unusual_pixels(report: ZoneReport) -> None:
    """Print how many pixels are not what one would expect, and why there are none at all."""
    if report.unreliable:
        err.print(f"{report.unreliable:,} pixels show no surface that can be vouched for (provenance 4)")
    if report.clamped:
        err.print(f"{report.clamped:,} generated pixels were out of range and clamped", style="yellow")
    if report.empty is not None:
        err.print(report.empty, style="yellow" if report.ok else "red")


def _print_score(score: Mapping[str, Any]) -> None:
    """Print what `self_check.evaluate_generator` found."""
    for reason in score["failed"]:
        err.print(f"a piece could not be evaluated: {reason}", style="yellow")
    if score["methods"]:
        title = f"on clear pixels of this cube under its own clouds: {score['pixels']:,} pixels"
        table = make_table(f"{title}, {score['cases']} cases", "method", "PSNR dB", "MAE", "SSIM", "SAM deg")
        for name, row in score["methods"].items():
            table.add_row(
                name, f"{row['psnr']:.2f}", f"{row['mae']:.4f}", f"{row['ssim']:.3f}", f"{row['sam']:.2f}"
            )
        err.print(table)
    won = score["best"] is not None and score["model"].startswith(f"{score['best']} ")
    err.print(score["verdict"], style="green" if won else "yellow")

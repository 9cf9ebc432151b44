"""Counters of a worker process for Prometheus, which Dask's own page `/metrics` of the worker serves."""

from __future__ import annotations

from prometheus_client import Counter

from cloudgan.distributed.report import UnitReport

UNITS = Counter("cloudgan_units", "Work units, by what came of a try", ["outcome"])
PIXELS = Counter("cloudgan_pixels", "Pixels written, all dates, by provenance", ["provenance"])
SECONDS = Counter("cloudgan_phase_seconds", "Time spent on units that were done, by phase", ["phase"])
BYTES = Counter("cloudgan_bytes", "Bytes of pixels, uncompressed, of units that were done", ["direction"])

# A counter that is there from the beginning has a rate when it rises for the first time.
for _outcome in ("done", "failed"):
    UNITS.labels(_outcome)


def count_done(unit: UnitReport) -> None:
    """Count a unit that is done."""
    UNITS.labels("done").inc()
    rest = unit.pixels - unit.observed - unit.generated
    for name, count in (("observed", unit.observed), ("generated", unit.generated), ("none", rest)):
        PIXELS.labels(name).inc(count)
    for phase, seconds in unit.seconds.items():
        SECONDS.labels(phase).inc(seconds)
    for direction, count in unit.bytes.items():
        BYTES.labels(direction).inc(count)


def count_failed() -> None:
    """Count a try of a unit that failed."""
    UNITS.labels("failed").inc()

"""A batch run from Python: the same as `cloudgan-batch --job JOB.toml`, with the report as a value.

python pipelines/batch.py JOB.toml
"""

from __future__ import annotations

import sys
from pathlib import Path

import cloudgan


def show(progress: cloudgan.Progress) -> None:
    """One line a work unit, on stderr."""
    report = progress.report
    print(f"{progress.store}: {report.skipped + report.done} of {report.units} units", file=sys.stderr)


if __name__ == "__main__":  # Dask's workers import this module
    planned = cloudgan.plan_batch(cloudgan.BatchConfig.load(Path(sys.argv[1])))
    for warning in planned.warnings:
        print(f"note: {warning}", file=sys.stderr)
    finished = cloudgan.run_batch(planned, on_progress=show)
    for failed in finished.failed:
        print(f"unit {failed.unit} failed: {failed.reason}", file=sys.stderr)
    print(finished.store)
    sys.exit(0 if finished.ok else 1)

"""What came of a run: of one unit, of one store, and of all zones of an area."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cloudgan.distributed.scheduling import Failure
from cloudgan.geo.grid import Grid
from cloudgan.io.store.ledger import DONE
from cloudgan.planning.plan import Plan


@dataclass(frozen=True, slots=True)
class UnitReport:
    """What came of one unit that is done."""

    index: int
    """Number of the unit."""
    pixels: int
    """Pixels written, all dates."""
    generated: int
    """Of these, generated."""
    observed: int
    """Of these, observed."""
    missing: tuple[str, ...]
    """Ids of items that could not be read."""
    seconds: Mapping[str, float]
    """Time spent reading, generating (with the rest of the array work) and writing."""


@dataclass(frozen=True, slots=True)
class FailedUnit:
    """A unit that was given up."""

    unit: int
    """Number of the unit."""
    crs: str
    """CRS of the bounds, as `EPSG:32633`."""
    bounds: tuple[float, float, float, float]
    """West, south, east and north of the unit, in metres."""
    dates: tuple[str, str]
    """First and last date that it writes, ISO 8601."""
    items: tuple[str, ...]
    """Ids of the items that could not be read, where it is known."""
    asset: str | None
    """Address of the file that could not be read, where it is known."""
    reason: str
    """What the last try met, in one sentence."""
    tries: int
    """How often the unit was begun."""

    @classmethod
    def of(cls, plan: Plan, index: int, failure: Failure) -> FailedUnit:
        """What came of a unit of a plan."""
        unit = plan.unit(index)
        grid = Grid(plan.grid.lattice, unit.window)
        first, last = (plan.scenes[plan.written[unit.dates[at]]].date.isoformat() for at in (0, -1))
        where = f"EPSG:{grid.epsg}", grid.bounds, (first, last)
        return cls(index, *where, failure.items, failure.asset, failure.reason, failure.tries)


@dataclass(frozen=True, slots=True)
class ZoneReport:
    """What came of the units of one plan, which fill one store."""

    units: int
    """Work units of the plan."""
    skipped: int
    """Units that an earlier run had done."""
    done: int = 0
    """Units done by this run."""
    pixels: int = 0
    """Pixels written by this run, all dates."""
    generated: int = 0
    """Of these, generated."""
    observed: int = 0
    """Of these, observed."""
    failed: Mapping[int, FailedUnit] = field(default_factory=dict)
    """Units that failed, by their numbers."""
    missing: frozenset[str] = frozenset()
    """Ids of items that could not be read, where that is allowed."""
    seconds: float = 0.0
    """How long the run took."""
    worker_seconds: Mapping[str, float] = field(default_factory=dict)
    """Time the workers spent reading, generating and writing, added up."""
    unfinished: str | None = None
    """Why the store lacks this report and its consolidated metadata, where it does."""
    score: Mapping[str, Any] | None = None
    """See `self_check.evaluate_generator`, where the run was asked for it."""

    @classmethod
    def of_ledger(cls, ledger: NDArray[np.uint8]) -> ZoneReport:
        """The report of a run that has not done anything yet, over a store's ledger."""
        return cls(len(ledger), int((ledger == DONE).sum()))

    @property
    def ok(self) -> bool:
        """Whether all units are done, and the store says so."""
        return not self.failed and self.unfinished is None

    def add(self, unit: UnitReport | FailedUnit) -> ZoneReport:
        """The report with one unit more."""
        if isinstance(unit, FailedUnit):
            return replace(self, failed={**self.failed, unit.unit: unit})
        spent = {name: self.worker_seconds.get(name, 0.0) + more for name, more in unit.seconds.items()}
        return replace(
            self,
            done=self.done + 1,
            pixels=self.pixels + unit.pixels,
            generated=self.generated + unit.generated,
            observed=self.observed + unit.observed,
            missing=self.missing.union(unit.missing),
            worker_seconds={**self.worker_seconds, **spent},
        )

    def as_json(self) -> dict[str, Any]:
        """The report as JSON."""
        report = {
            "units": self.units,
            "skipped": self.skipped,
            "done": self.done,
            "failed": [asdict(failed) for _, failed in sorted(self.failed.items())],
            "pixels": self.pixels,
            "generated": self.generated,
            "observed": self.observed,
            "missing_items": sorted(self.missing),
            "seconds": round(self.seconds, 3),
            "worker_seconds": {name: round(value, 3) for name, value in self.worker_seconds.items()},
        }
        return report if self.score is None else report | {"score": dict(self.score)}


@dataclass(frozen=True, slots=True)
class Report:
    """What came of a batch run over all zones of its area."""

    store: str
    """Path or URL of the store."""
    plan: Mapping[str, Mapping[str, Any]]
    """What was planned, in figures, by zone (see `Plan.summary`)."""
    zones: Mapping[str, ZoneReport]
    """What came of each zone, by the name of its group; of one zone alone by an empty name."""
    warnings: tuple[str, ...] = ()
    """What the user should know of the area and of the catalogue."""

    @property
    def ok(self) -> bool:
        """Whether every zone is whole."""
        return all(zone.ok for zone in self.zones.values())

    @property
    def failed(self) -> tuple[FailedUnit, ...]:
        """The units that failed, zone by zone."""
        return tuple(unit for zone in self.zones.values() for _, unit in sorted(zone.failed.items()))

    def as_json(self) -> dict[str, Any]:
        """The report as JSON: `store`, `plan` and `report`, the last two by zone where there are several."""
        reports = {name: zone.as_json() for name, zone in self.zones.items()}
        return {"store": self.store, "plan": unwrap_zone(self.plan), "report": unwrap_zone(reports)}


def unwrap_zone(values: Mapping[str, Any]) -> Any:
    """The value of the only zone, or `zones` with those of several by name."""
    return values[""] if list(values) == [""] else {"zones": dict(values)}

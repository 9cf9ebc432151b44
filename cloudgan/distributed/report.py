"""What came of a run: of one unit, of one store, and of all zones of an area."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cloudgan.distributed.scheduling import Failure
from cloudgan.geo.grid import Grid
from cloudgan.io.store.ledger import DONE, DONE_WITHOUT_ASSETS
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
    unreliable: int
    """Of these, not generated, with a value that nothing vouches for; see `Provenance.UNRELIABLE`."""
    clamped: int
    """Of the generated, those whose value was out of range; see `DecloudedDate.clamped`."""
    masked: Mapping[str, Mapping[str, int]]
    """By date, ISO 8601: of the area's pixels (`pixels`), how many each source masked, by its name; see
    `schema.MaskSource`."""
    missing: tuple[str, ...]
    """Ids of items that could not be read."""
    seconds: Mapping[str, float]
    """Time spent reading, generating (with the rest of the array work) and writing."""
    bytes: Mapping[str, int] = field(default_factory=dict)
    """Of pixels that were read and written, uncompressed."""


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
    unreliable: int = 0
    """Of these, not generated, with a value that nothing vouches for; see `Provenance.UNRELIABLE`."""
    clamped: int = 0
    """Of the generated, those whose value was out of range; see `DecloudedDate.clamped`."""
    masked: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """By date: of the area's pixels, how many each source masked; see `UnitReport.masked`."""
    failed: Mapping[int, FailedUnit] = field(default_factory=dict)
    """Units that failed, by their numbers."""
    pending: int = 0
    """Units that are not done at the end of the run, whoever was to do them."""
    missing: frozenset[str] = frozenset()
    """Ids of items that could not be read, where that is allowed."""
    seconds: float = 0.0
    """How long the run took."""
    worker_seconds: Mapping[str, float] = field(default_factory=dict)
    """Time the workers spent reading, generating and writing, added up."""
    retried: int = 0
    """How often units were tried again in this run."""
    stopped: str | None = None
    """Why units that are pending were not even begun, where it is so."""
    unfinished: str | None = None
    """Why the store lacks this report and its consolidated metadata, where it does."""
    dates: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """By date, where it is known: `error_std` (standard error by band, reflectance) and `hazy`."""
    score: Mapping[str, Any] | None = None
    """See `self_check.evaluate_generator`, where the run was asked for it."""

    empty: str | None = None
    """Why nothing was observed and nothing generated, where all units are done and it is so."""

    @classmethod
    def of_ledger(cls, ledger: NDArray[np.uint8], empty: object = None) -> ZoneReport:
        """The report of a run that has not done anything yet, over a store's ledger.

        Args:
            ledger: State of each unit.
            empty: What an earlier report says of a store without any data.
        """
        reason = empty if isinstance(empty, str) else None
        return cls(len(ledger), int((ledger == DONE).sum()), empty=reason)

    @property
    def ok(self) -> bool:
        """Whether all units are done, and the store says so."""
        found_something = self.empty is None or bool(self.missing)
        return not self.failed and not self.pending and self.unfinished is None and found_something

    def count_pending(self, ledger: NDArray[np.uint8], *, allow_missing: bool) -> ZoneReport:
        """The report with the units that the ledger does not call done.

        Args:
            ledger: States of the units.
            allow_missing: Whether a unit without some assets is done.
        """
        done = (DONE, DONE_WITHOUT_ASSETS) if allow_missing else (DONE,)
        return replace(self, pending=int((~np.isin(ledger, done)).sum()))

    def explain_emptiness(self, plan: Plan) -> ZoneReport:
        """The report with the reason why there is no data, where this run did all units and found none."""
        if self.skipped or self.failed or not self.done or self.observed + self.generated:
            return self
        items = [item for at in plan.written for item in plan.scenes[at].items]
        names = ", ".join(item.id for item in items[:3]) + (", ..." if len(items) > 3 else "")
        if self.missing:
            reason = f"the assets of {len(self.missing)} items could not be read"
        else:
            reason = (
                f"the {len(items)} items found hold no usable pixel in this area ({names}): it lies beside "
                "what the satellite saw, or their files hold nothing there; check the AOI and these files"
            )
        return replace(self, empty=f"nothing was observed and nothing generated: {reason}")

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
            unreliable=self.unreliable + unit.unreliable,
            clamped=self.clamped + unit.clamped,
            masked=_add_counts(self.masked, unit.masked),
            missing=self.missing.union(unit.missing),
            worker_seconds={**self.worker_seconds, **spent},
        )

    @property
    def hazy(self) -> tuple[str, ...]:
        """The dates that are hazy, in order."""
        return tuple(date for date, one in sorted(self.dates.items()) if one["hazy"])

    def masked_on_average(self) -> dict[str, float]:
        """Share of the area's pixels that each source masked, by its name, over all dates."""
        total: dict[str, int] = {}
        for counts in self.masked.values():
            total = {name: total.get(name, 0) + count for name, count in counts.items()}
        return _share(total)

    def as_json(self) -> dict[str, Any]:
        """The report as JSON."""
        report = {
            "units": self.units,
            "skipped": self.skipped,
            "done": self.done,
            "pending": self.pending,
            "retried": self.retried,
            "failed": [asdict(failed) for _, failed in sorted(self.failed.items())],
            "pixels": self.pixels,
            "generated": self.generated,
            "observed": self.observed,
            "unreliable": self.unreliable,
            "clamped": self.clamped,
            "masked": {date: _share(counts) for date, counts in sorted(self.masked.items())},
            "dates": {date: dict(one) for date, one in sorted(self.dates.items())},
            "missing_items": sorted(self.missing),
            "seconds": round(self.seconds, 3),
            "worker_seconds": {name: round(value, 3) for name, value in self.worker_seconds.items()},
        }
        report |= {} if self.stopped is None else {"stopped": self.stopped}
        report |= {} if self.empty is None else {"empty": self.empty}
        return report if self.score is None else report | {"score": dict(self.score)}


def _add_counts(
    some: Mapping[str, Mapping[str, int]], more: Mapping[str, Mapping[str, int]]
) -> dict[str, dict[str, int]]:
    """Counts by date and name, added up."""
    return {
        date: {
            name: some.get(date, {}).get(name, 0) + more.get(date, {}).get(name, 0)
            for name in (some.get(date) or more[date])
        }
        for date in {**some, **more}
    }


def _share(counts: Mapping[str, int]) -> dict[str, float]:
    """What each source masked, as a share of the pixels; the sources that masked any."""
    pixels = counts.get("pixels", 0)
    return {name: round(count / pixels, 4) for name, count in counts.items() if count and name != "pixels"}


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
    page: str | None = None
    """Path of the HTML page, where the run was asked for one."""
    files: tuple[str, ...] = ()
    """Paths or URLs of what was written about the run: the page, this report as JSON, and the page on which
    Dask shows what the workers did, where it can."""

    @property
    def ok(self) -> bool:
        """Whether every zone is whole."""
        return all(zone.ok for zone in self.zones.values())

    @property
    def failed(self) -> tuple[FailedUnit, ...]:
        """The units that failed, zone by zone."""
        return tuple(unit for zone in self.zones.values() for _, unit in sorted(zone.failed.items()))

    def as_json(self) -> dict[str, Any]:
        """The report as JSON: `store`, `plan` and `report` (by zone where there are several), `warnings`.

        And `page`, where there is one.
        """
        reports = {name: zone.as_json() for name, zone in self.zones.items()}
        page = {} if self.page is None else {"page": self.page}
        return {
            "store": self.store,
            "plan": unwrap_zone(self.plan),
            "report": unwrap_zone(reports),
            "warnings": list(self.warnings),
        } | page


def unwrap_zone(values: Mapping[str, Any]) -> Any:
    """The value of the only zone, or `zones` with those of several by name."""
    return values[""] if list(values) == [""] else {"zones": dict(values)}

"""When a run stops because what its units fail of is no matter of single units."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from cloudgan.distributed.report import FailedUnit, UnitReport

IN_A_ROW = 10
"""Units that fail one after the other for one reason, at which a run stops; twice as many as there are
threads where that is more. So many are in flight at once, and may fail together of one event that has passed.
Ten, for a run where one unit of ten fails by chance sees ten in a row once in ten thousand million units."""


def longest_row(threads: int) -> int:
    """Units that may fail one after the other before a run stops, for so many threads of all workers."""
    return max(IN_A_ROW, 2 * threads)


@dataclass(slots=True)
class FailureRow:
    """Units that failed one after the other for one reason.

    A broken file fails all units that need it, hundreds where it is that of an MGRS tile, and says nothing of
    the others. So units that failed of one file count once. Missing rights have the same effect, as all units
    of an MGRS tile begin with the same file: whether other files can be read is then asked of a worker.
    """

    reason: str = ""
    """What they have in common, see `name_reason`."""
    example: str = ""
    """The last one's reason, in full."""
    causes: list[str] = field(default_factory=list)
    """What failed them, each once: a file, or the unit where no file is to blame."""
    unexamined: list[str] = field(default_factory=list)
    """What failed them since it was last asked; a file for each unit."""
    broken: set[str] = field(default_factory=set)
    """Files that are broken while others can be read."""

    def add(self, unit: FailedUnit | UnitReport) -> None:
        """Take note of a unit; one that is done ends the row."""
        if isinstance(unit, UnitReport):
            self.causes, self.unexamined = [], []
            return
        reason, self.example = name_reason(unit), unit.reason
        if reason != self.reason:
            self.reason, self.causes, self.unexamined = reason, [], []
        cause = unit.asset or f"unit {unit.unit}"
        if cause not in self.causes:
            self.causes.append(cause)
        if cause not in self.broken:
            self.unexamined.append(cause)

    def is_hopeless(self, threads: int) -> bool:
        """Whether so many units failed of something else each that more will.

        Args:
            threads: Of all workers.
        """
        return len(self.causes) >= longest_row(threads)

    def is_doubtful(self, threads: int) -> bool:
        """Whether so many units failed that it must be asked whether the workers can do the work at all."""
        return len(self.unexamined) >= longest_row(threads)

    def trust_workers(self) -> None:
        """The workers can do the work, so the files are broken."""
        self.broken |= set(self.unexamined)
        self.unexamined = []


def name_reason(unit: FailedUnit) -> str:
    """The reason of a failure without what differs from unit to unit: items, bands, paths, numbers."""
    reason = re.sub(r"\basset \w+|\bfile of \w+", "", unit.reason)
    return " ".join(word for word in reason.split() if not re.search(r"[\d/\\]", word))

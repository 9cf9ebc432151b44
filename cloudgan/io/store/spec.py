"""What a store is to hold: the value from which its template is made, and which tells it from others."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from cloudgan.geo.grid import Grid
from cloudgan.schema import Variable, is_band
from cloudgan.stac.search import Scene

ACQUIRED = "acquired"
"""Name of the coordinate that says when a date was taken, to the second."""
HAZY = "hazy"
"""Name of the coordinate that marks hazy dates: 1 hazy, 0 not, 255 unknown."""
ERROR_STD = "error_std"
"""With the name of a band, the coordinate of each date's standard error in it, see `estimation.trust`."""
COORDINATES = (
    *("time", "y", "x", "spatial_ref"),
    *(ACQUIRED, "item_ids", "cloud_cover", "processing_baseline", HAZY),
)
"""Names of the coordinates of every store, beside `ERROR_STD` of each band."""


@dataclass(frozen=True, slots=True)
class StoreSpec:
    """One store, described in full."""

    grid: Grid
    """Its pixels."""
    scenes: tuple[Scene, ...]
    """Its dates, in order of time, with the items that they come from."""
    variables: tuple[Variable, ...]
    """Its variables over (time, y, x)."""
    block: int
    """Edge in pixels of a shard, which is also the edge of a work unit."""
    chunk: int
    """Edge in pixels of a chunk within a shard."""
    unit_count: int
    """Work units of the ledger."""
    identity: dict[str, Any]
    """All that decides a byte of the store, as JSON; see `identity`."""
    attributes: dict[str, str] = field(default_factory=dict)
    """Attributes of the root that describe the model and the source."""
    about: dict[str, Any] = field(default_factory=dict)
    """What is kept beside the data as JSON: the model's card, items left out, BOA offsets."""

    @property
    def bands(self) -> tuple[str, ...]:
        """Names of its spectral bands."""
        return tuple(one.name for one in self.variables if is_band(one.attributes))

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of each variable, (time, y, x)."""
        return len(self.scenes), *self.grid.shape

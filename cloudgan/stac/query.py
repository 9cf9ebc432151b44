"""What is asked of a catalogue, and what a catalogue offers to be asked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from cloudgan.errors import CatalogError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from shapely.geometry.base import BaseGeometry

    from cloudgan.sentinel2.dates import DateRange
    from cloudgan.stac.raw_items import RawItem

MAX_ITEMS = 1_000_000
"""Items read from one source before giving up: a continent has fewer in a year, so it ignores the request."""


@dataclass(frozen=True, slots=True)
class Query:
    """What to search for."""

    area: BaseGeometry
    """Area of interest, in longitude and latitude."""
    dates: DateRange
    """When."""
    collection: str | None = None
    """Collection id; None for whatever the source holds."""
    max_cloud_cover: float | None = None
    """Percent; None to ask for all."""


class Source(Protocol):
    """Anything that items can be searched in."""

    @property
    def where(self) -> str:
        """Its address, for messages."""

    @property
    def static(self) -> bool:
        """Whether it is a catalogue in files, so that nothing but the client can filter."""

    @property
    def filters_clouds(self) -> bool:
        """Whether a search leaves cloudy items out by itself."""

    @property
    def warnings(self) -> Sequence[str]:
        """What the last search met: a source that delivers less than it counts."""

    def search(self, query: Query) -> Iterator[RawItem | CatalogError]:
        """Items that may match: all that do, and often more; and errors that name features that are none.

        Raises:
            CatalogError: The source cannot be read, or is not STAC.
        """

    def list_collections(self) -> list[str]:
        """Ids of the collections it lists, for messages; empty where it lists none."""


def check_count(count: int, where: str, what: str = "items") -> None:
    """Give a source up that does not end.

    Raises:
        CatalogError: It returned over `MAX_ITEMS` items or files.
    """
    if count > MAX_ITEMS:
        raise CatalogError(
            f"{where} returned over {MAX_ITEMS} {what}, so it ignores what was asked for: "
            "use another --stac, or ask for fewer dates"
        )

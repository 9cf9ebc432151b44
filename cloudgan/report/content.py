"""What a report says of a store: gathered from the store alone, one date at a time."""

from __future__ import annotations

import datetime as dt
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from cloudgan.errors import StoreError
from cloudgan.io.store.access import name_damage
from cloudgan.io.store.identity import check_format, read_identity
from cloudgan.io.store.ledger import DONE, DONE_WITHOUT_ASSETS, read_states
from cloudgan.io.store.store import read_about
from cloudgan.products.reader import StoreReader
from cloudgan.report import colours, images
from cloudgan.report.colours import Composite, Stretch
from cloudgan.report.overview import Figures, Overview, choose_step, read_overview
from cloudgan.schema import Provenance

EDGE = 600
"""Cells of a picture's longer side, at most."""
WEIGHT = 24_000_000
"""Bytes of all pictures of a page, about; its other parts take little."""
_MOST_OF_A_DATE = 600_000  # bytes, where there are few dates
_BASE64 = 3 / 4

OnProgress = Callable[[int, int], None]
"""Told how many dates are read, and of how many."""


@dataclass(frozen=True, slots=True)
class DateEntry:
    """What a report says of a date."""

    day: dt.date
    """The date."""
    items: tuple[str, ...]
    """Ids of its source items."""
    cloud_cover: float | None
    """Cloud cover of these items in percent, where they state it."""
    figures: Figures
    """What is counted of its pixels."""
    is_hazy: bool = False
    """Whether haze brightens what was observed."""


@dataclass(frozen=True, slots=True)
class ZoneContent:
    """What a report says of the store of one UTM zone."""

    name: str
    """Name of its group; empty where there is one zone alone."""
    reader: StoreReader
    """The store."""
    step: int
    """Pixels that a cell of its pictures is wide."""
    composites: tuple[Composite, ...]
    """What its pictures show."""
    stretch: Stretch
    """How its numbers become brightness."""
    identity: dict[str, Any]
    """See `read_identity`."""
    about: dict[str, Any]
    """See `read_about`."""
    states: NDArray[np.uint8]
    """State of each work unit."""
    covers: NDArray[np.float64]
    """Cloud cover by date in percent; NaN where no item states it."""
    dates: list[DateEntry] = field(default_factory=list)
    """Its dates, as they are read."""

    @classmethod
    def open(cls, name: str, location: str) -> ZoneContent:
        """Open the store of a zone, and set the colours of its pictures.

        Raises:
            StoreError: There is none, or it is damaged.
        """
        identity = read_identity(location)
        if identity is None:
            raise StoreError(f"there is no store at {location}; give the --out of a run")
        check_format(location, identity)
        reader = StoreReader.open(location)
        composites = colours.find_composites(reader.bands)
        step = choose_step(reader.grid.shape, EDGE)
        bands = _find_bands(reader, composites)
        sample = Stretch.sample(range(len(reader.days)))
        stretch = Stretch.estimate(read_overview(reader, at, step, bands) for at in sample)
        with name_damage(location):
            cover = reader.arrays.get("cloud_cover")
            covers = np.full(len(reader.days), np.nan) if cover is None else np.asarray(cover[:], float)
        about, states = read_about(location), read_states(location)
        return cls(name, reader, step, composites, stretch, identity, about, states, covers)

    @property
    def run(self) -> dict[str, Any]:
        """The report of the last run; empty where none came to its end."""
        run: dict[str, Any] = self.about.get("run") or {}
        return run

    @property
    def done(self) -> int:
        """Work units that are done."""
        return int(np.isin(self.states, (DONE, DONE_WITHOUT_ASSETS)).sum())

    @property
    def pixels(self) -> int:
        """Pixels of a date that show the area: those with data on the date that shows most of it."""
        totals = [
            sum(entry.figures.pixels.values()) - entry.figures.pixels[Provenance.NO_DATA.name.lower()]
            for entry in self.dates
        ]
        return max([*totals, 1])

    def read(self) -> Iterator[Overview]:
        """The dates, one after the other; each is entered in `dates`."""
        bands = _find_bands(self.reader, self.composites)
        for at in range(len(self.reader.days)):
            overview = read_overview(self.reader, at, self.step, bands)
            cover = float(self.covers[at])
            self.dates.append(
                DateEntry(
                    overview.day,
                    tuple(self.reader.read_items(at).split()),
                    None if np.isnan(cover) else cover,
                    overview.figures,
                    overview.day.isoformat() in self._list_hazy(),
                )
            )
            yield overview

    def _list_hazy(self) -> set[str]:
        """The dates that the last run called hazy."""
        return {date for date, one in self.run.get("dates", {}).items() if one.get("hazy")}

    def draw(self, overview: Overview, weight: int) -> dict[str, str]:
        """The pictures of a date as data URIs, by name: composites and layers.

        Args:
            overview: The date.
            weight: Bytes that they may have together, about.
        """
        limit = int(0.75 * weight / max(len(self.composites), 1))
        layers = {
            "provenance": (overview.provenance, colours.PROVENANCE_COLOURS),
            "source": (overview.masked_by, colours.SOURCE_COLOURS),
            "uncertainty": (self.stretch.shade(overview.uncertainty), colours.UNCERTAINTY_COLOURS),
        }
        drawn = {
            one.key: images.encode_picture(self.stretch.render(overview, one), limit)
            for one in self.composites
        }
        return drawn | {
            name: images.encode_classes(numbers, palette, int(0.25 * weight / len(layers)))
            for name, (numbers, palette) in layers.items()
        }


def _find_bands(reader: StoreReader, composites: tuple[Composite, ...]) -> list[str]:
    """The bands that pictures and NDVI need."""
    wanted = {band for one in composites for band in one.bands} | {"red", "nir"}
    return [band for band in reader.bands if band in wanted]


def find_zones(location: str) -> dict[str, str]:
    """Where the zones of a store lie, by name: its groups, or the store itself without a name.

    Groups that no run has begun are left out.

    Raises:
        StoreError: There is no store of cloudgan's, or it is damaged.
    """
    identity = read_identity(location)
    if identity is None:
        raise StoreError(f"there is no store at {location}; give the --out of a run")
    if "zones" not in identity:
        return {"": location}
    places = {name: f"{location.rstrip('/')}/{name}" for name in identity["zones"]}
    begun = {name: place for name, place in places.items() if read_identity(place) is not None}
    if not begun:
        raise StoreError(f"{location} has no zone that a run has begun; run the batch command first")
    return begun


def open_zones(location: str) -> list[ZoneContent]:
    """The zones of a store; see `find_zones`.

    Raises:
        StoreError: There is no store of cloudgan's, or it is damaged.
    """
    return [ZoneContent.open(name, place) for name, place in find_zones(location).items()]


@dataclass(slots=True)
class Pictures:
    """The pictures of a page, on their way into a file: they are many, and come before the text is known."""

    file: IO[str]
    """Where they wait."""
    shares: list[str] = field(default_factory=list)
    """Of each zone, a picture of how often each place was observed, as a data URI."""

    def copy_to(self, target: IO[str]) -> None:
        """Write them to another file."""
        self.file.seek(0)
        while part := self.file.read(1 << 20):
            target.write(part)


def read_pictures(
    zones: list[ZoneContent],
    write: Callable[[IO[str], int, int, dict[str, str]], None],
    on_progress: OnProgress,
) -> Pictures:
    """Read all dates of all zones, and write their pictures to a temporary file.

    Args:
        zones: What to read; their `dates` are filled.
        write: Writes the pictures of a date: where to, numbers of the zone and the date, the pictures.
        on_progress: Called after each date.
    """
    pictures = Pictures(tempfile.TemporaryFile("w+", encoding="utf-8"))  # noqa: SIM115 - removed by itself
    total = sum(len(zone.reader.days) for zone in zones)
    weight = int(min(_MOST_OF_A_DATE, WEIGHT * _BASE64 / total))
    done = 0
    on_progress(0, total)
    for number, zone in enumerate(zones):
        seen, known = 0.0, 0.0
        for at, overview in enumerate(zone.read()):
            write(pictures.file, number, at, zone.draw(overview, weight))
            seen = seen + overview.shares[Provenance.OBSERVED]
            known = known + (1 - overview.shares[Provenance.NO_DATA])
            done += 1
            on_progress(done, total)
        share = np.asarray(seen, np.float32) / len(zone.reader.days)
        shade = colours.shade_share(share, np.asarray(known) > 0)
        pictures.shares.append(images.encode_classes(shade, colours.SHARE_COLOURS, _MOST_OF_A_DATE))
    return pictures

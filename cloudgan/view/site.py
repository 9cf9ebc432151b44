"""What the page shows of a store: its zones, dates and legends, and the curve of a pixel."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Any

import numpy as np

from cloudgan.io.store.access import name_unusable
from cloudgan.io.store.identity import check_format, read_identity
from cloudgan.io.store.ledger import DONE, DONE_WITHOUT_ASSETS, read_states
from cloudgan.products.indices import INDICES
from cloudgan.products.reader import StoreReader
from cloudgan.report import charts, colours
from cloudgan.report.content import find_zones
from cloudgan.report.html import make_legend, to_css
from cloudgan.report.overview import MASKED_BY
from cloudgan.report.sections import KINDS, SOURCE_TITLES
from cloudgan.schema import PROVENANCE, Provenance
from cloudgan.view.tiles import Painter, count_levels

_CURVE = "ndvi"


@dataclass(frozen=True, slots=True)
class View:
    """The store of one UTM zone."""

    name: str
    """Name of its group; empty where there is one zone alone."""
    painter: Painter
    """What draws it."""
    is_finished: bool
    """Whether no more will be written."""

    @classmethod
    def open(cls, name: str, location: str) -> View:
        """Open the store of a zone.

        Raises:
            StoreError: It is damaged.
        """
        identity = read_identity(location)
        if identity is not None:
            check_format(location, identity)
        is_finished = bool(np.isin(read_states(location), (DONE, DONE_WITHOUT_ASSETS)).all())
        return cls(name, Painter.prepare(StoreReader.open(location)), is_finished)

    @property
    def reader(self) -> StoreReader:
        """The store."""
        return self.painter.reader

    def describe(self) -> dict[str, Any]:
        """What the page needs to know, as JSON has it."""
        grid, painter = self.reader.grid, self.painter
        height, width = grid.shape
        pictures = [(one.key, one.title, "") for one in painter.composites]
        pictures += [(name, name.upper(), self._make_ramp(name)) for name in painter.indices]
        return {
            "name": self.name,
            "size": [width, height],
            "levels": count_levels(grid.shape),
            "resolution": grid.resolution,
            "epsg": grid.epsg,
            "corner": [grid.bounds[0], grid.bounds[3]],
            "pictures": pictures,
            "legends": self._list_legends(),
            "dates": self._list_dates(),
            "has_curve": _CURVE in painter.indices,
        }

    def _list_dates(self) -> list[dict[str, Any]]:
        """The dates, and what is known of each."""
        taken, covers, hazes = (self._read_whole(name) for name in ("acquired", "cloud_cover", "hazy"))
        dates = []
        for at, day in enumerate(self.reader.days):
            facts = []
            if taken is not None:
                facts.append(f"taken {np.datetime64(int(taken[at]), 's').item():%Y-%m-%d %H:%M} UTC")
            if covers is not None and np.isfinite(covers[at]):
                facts.append(f"cloud cover by the catalogue {covers[at]:.0f} %")
            if hazes is not None and hazes[at] == 1:
                facts.append("haze, too bright where observed")
            dates.append({"day": str(day), "facts": facts})
        return dates

    def _read_whole(self, name: str) -> np.ndarray | None:
        with name_unusable(self.reader.location):
            return np.asarray(self.reader.arrays[name][:]) if name in self.reader.arrays else None

    def _list_legends(self) -> dict[str, str]:
        """The legend of each layer."""
        bare = [("bare", "no tint: observed")]
        kinds = [
            (to_css(colours.PROVENANCE_COLOURS[kind]), title.partition(":")[0])
            for kind, title in KINDS.items()
            if colours.PROVENANCE_COLOURS[kind] != colours.CLEAR
        ]
        sources = [
            (to_css(colour), SOURCE_TITLES[name])
            for name, colour in zip(MASKED_BY, colours.SOURCE_COLOURS, strict=True)
            if name != "observed"
        ]
        most = self.painter.stretch.uncertainty
        return {
            "none": "",
            "provenance": make_legend([*kinds, *bare]),
            "source": make_legend([*sources, *bare]),
            "uncertainty": _draw_ramp(
                colours.UNCERTAINTY_COLOURS, "0", f"{most:.3f} or more, in reflectance"
            ),
        }

    def _make_ramp(self, index: str) -> str:
        low, high = self.painter.stretch.limits[index]
        return _draw_ramp(colours.INDEX_COLOURS, f"{low:.2f}", f"{high:.2f} {INDICES[index].long_name}")

    def draw_curve(self, row: int, col: int) -> str:
        """The NDVI of a pixel over time, as SVG; empty where there is none.

        Args:
            row: Counted from the north of the grid.
            col: Counted from the west of the grid.

        Raises:
            KeyError: There is no such pixel, or the bands allow no NDVI.
            StoreError: The store cannot be read.
        """
        height, width = self.reader.grid.shape
        if not (0 <= row < height and 0 <= col < width and _CURVE in self.painter.indices):
            raise KeyError(f"{row}, {col}")
        dates = range(len(self.reader.days))
        place = np.array([row]), np.array([col])
        red, nir, error = (
            self.reader.read_places(name, dates, *place)[:, 0, 0].astype(float)
            for name in ("red", "nir", "uncertainty")
        )
        with name_unusable(self.reader.location):
            kinds = np.asarray(self.reader.arrays[PROVENANCE.name][:, row, col])
        points = [_make_point(*one) for one in zip(self.reader.days, red, nir, error, kinds, strict=True)]
        return charts.draw_series(points, "NDVI", "a pixel")


def _make_point(day: Any, red: float, nir: float, error: float, kind: int) -> charts.SeriesPoint:
    date: dt.date = day.astype(dt.date)
    if not red + nir > 0 or kind not in (Provenance.OBSERVED, Provenance.GENERATED):
        return charts.SeriesPoint(date, None, None, None, 0.0)
    ndvi = (nir - red) / (nir + red)
    is_observed = kind == Provenance.OBSERVED
    # As in the report: the errors of both bands are taken for independent.
    slope = 2 * np.hypot(red, nir) / (nir + red) ** 2
    expected = 0.0 if is_observed or not np.isfinite(error) else min(float(slope * error), 2.0)
    return charts.SeriesPoint(
        date, ndvi, ndvi if is_observed else None, None if is_observed else ndvi, expected, float(is_observed)
    )


def _draw_ramp(palette: tuple[colours.Rgba, ...], low: str, high: str) -> str:
    shown = ",".join(to_css(colour) for colour in palette[1 :: max(1, len(palette) // 15)])
    return (
        f'<p class="ramp"><span>{low}</span><i style="background:linear-gradient(90deg,{shown})"></i>'
        f"<span>{high}</span></p>"
    )


def open_views(location: str) -> tuple[View, ...]:
    """The zones of a store.

    Raises:
        StoreError: There is no store of cloudgan's, or it is damaged.
    """
    return tuple(View.open(name, place) for name, place in find_zones(location).items())

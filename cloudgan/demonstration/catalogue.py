"""The offline demonstration: a season of simulated Sentinel-2 scenes over simulated farmland, with its truth.

Two neighbouring MGRS tiles of UTM zone 33, cropped to 4.3 km where they overlap, show the same land under
the same clouds every five days from April to July 2020. Dates, orbits, tile grids and metadata follow the
real relative orbit 122; land and clouds are simulated. The catalogue has the shape of Earth Search v1, its
pitfalls included.
"""

from __future__ import annotations

import math
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
from shapely import Polygon
from shapely.geometry import mapping

from cloudgan.demonstration.cogs import write_cog
from cloudgan.demonstration.items import (
    COLLECTION,
    Pass,
    Piece,
    Processing,
    wgs84,
    write_catalog_files,
    write_item,
    write_json,
)
from cloudgan.errors import InputError
from cloudgan.sentinel2.classification import Scl
from cloudgan.simulation.covers import BANDS, BANDS_AT
from cloudgan.simulation.farmland import Land, make_land
from cloudgan.simulation.season import (
    classify_scene,
    compute_sun_position,
    draw_radiometry,
    make_cloud_layers,
)

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from numpy.random import Generator
    from numpy.typing import NDArray

__all__ = ["SEASON", "Demo", "write_catalog"]

# The eastern end of the real tile 33UWP, and a piece of 33UXP that starts 1.3 km inside it: pixels coincide.
SIZE = 432
WP = Piece("WP", west=605460, north=5380000, size=SIZE)
XP = Piece("XP", west=608500, north=5380000, size=SIZE)
COLUMNS = (XP.west - WP.west) // 10 + SIZE
LONGITUDE, LATITUDE = 16.47, 48.54
TRUTH = ("green", "red", "nir", *BANDS_AT[20])

FARM = ((606350, 5378900), (608100, 5379150), (610100, 5378750), (611700, 5378980), (611950, 5377400),
        (610900, 5376550), (608900, 5376850), (607100, 5376480), (606200, 5377500))  # fmt: skip

HAZE = dict(zip(BANDS, (0.030, 0.024, 0.020, 0.012, 0.018, 0.016, 0.014, 0.011, 0.003, 0.002), strict=True))
"""What a superseded processing left in the bands."""

CURRENT = Processing("05.00", 0, offset_applied=True)
RAW = Processing("05.00", 0, offset_applied=False)
AGAIN = Processing("05.00", 1, offset_applied=True)
OLD = Processing("02.14", 0, offset_applied=False)


@dataclass(frozen=True, slots=True)
class _Script:
    """The script of one date; everything else is drawn from the seed."""

    cover: float = 0.0
    """Share of the land under low cloud."""
    veil: float = 0.0
    """Share of the land under cirrus."""
    edge: float | None = None
    """Where the swath ends, as a share of the scene's width; None where it covers everything."""
    west: tuple[Processing, ...] = (CURRENT,)
    """The granules of tile 33UWP; the last is the one to use."""
    east: tuple[Processing, ...] = (CURRENT,)
    """The granules of tile 33UXP."""


FIRST = date(2020, 4, 5)
SCRIPT = (
    _Script(),                                                   # April 5
    _Script(cover=0.12),
    _Script(veil=0.45),
    _Script(cover=0.35),
    _Script(cover=0.01, west=(RAW,), east=(RAW,)),               # April 25
    _Script(cover=0.93),
    _Script(cover=0.25, edge=0.86),
    _Script(cover=0.06, east=(OLD, AGAIN)),                      # May 10
    _Script(cover=0.28, veil=0.30),
    _Script(cover=0.97),
    _Script(cover=0.40),
    _Script(cover=0.02, edge=0.72),                              # May 30
    _Script(veil=0.55),
    _Script(cover=0.50),
    _Script(cover=0.10, west=(RAW,)),                            # June 14
    _Script(cover=0.86),
    _Script(west=(CURRENT, AGAIN), east=(OLD, AGAIN)),           # June 24
    _Script(cover=0.30, edge=0.90),
    _Script(cover=0.18, veil=0.40),
    _Script(cover=0.08, east=(RAW,)),                            # July 9
    _Script(cover=0.45),
    _Script(),                                                   # July 19
    _Script(cover=0.80, veil=0.25),
    _Script(cover=0.15, edge=0.80),
)  # fmt: skip

SEASON = tuple(FIRST + timedelta(days=5 * step) for step in range(len(SCRIPT)))
"""The dates of the demonstration, the real ones of relative orbit 122, Sentinel-2A and 2B in turn."""


@dataclass(frozen=True, slots=True)
class Demo:
    """Where a demonstration catalogue lies."""

    catalog: Path
    """The static STAC catalogue, `catalog.json`."""
    aoi: Path
    """An area of interest for it: a farm across both MGRS tiles, GeoJSON in WGS84."""
    truth: Path
    """The folder of `YYYY-MM-DD.tif`: green, red and nir of each date as the satellite would have measured
    them without cloud, shadow, noise and swath edge, under the light and haze of that date; and of
    `YYYY-MM-DD-20m.tif`: the bands of 20 m. Values are reflectance x 10000."""


def write_catalog(directory: Path, seed: int = 0, dates: Iterable[date] | None = None) -> Demo:
    """Write the demonstration catalogue: about 127 MB in some 20 seconds on two cores.

    The same seed gives the same bytes, and a date's files do not depend on which other dates are written.

    Args:
        directory: Where to; made if missing, files in it are overwritten.
        seed: Which land and which clouds.
        dates: Some of `SEASON`; all by default.

    Raises:
        InputError: A date is not one of `SEASON`, or there is none.
    """
    chosen = sorted(set(SEASON if dates is None else dates))
    unknown = [day.isoformat() for day in chosen if day not in SEASON]
    if unknown or not chosen:
        raise InputError(
            f"the demonstration has no {', '.join(unknown) or 'dates to write'}: "
            f"choose from every fifth day, {SEASON[0]} to {SEASON[-1]}"
        )
    truth = directory / "truth"
    truth.mkdir(parents=True, exist_ok=True)
    land = make_land(np.random.default_rng([seed, 0]), (SIZE, COLUMNS))
    with ThreadPoolExecutor(min(2, os.cpu_count() or 1)) as pool:
        written = list(pool.map(lambda day: _write_date(directory, seed, day, land), chosen))
    catalog = write_catalog_files(directory, [item for items in written for item in items])
    aoi = directory / "field.geojson"
    write_json(aoi, {
        "type": "Feature",
        "properties": {"name": "demonstration farm"},
        "geometry": mapping(wgs84(FARM)),
    })  # fmt: skip
    return Demo(catalog, aoi, truth)


def _write_date(directory: Path, seed: int, day: date, land: Land) -> list[dict[str, Any]]:
    """Simulate one overflight and write its granules and its truth; returns the items."""
    step = SEASON.index(day)
    script, rng = SCRIPT[step], np.random.default_rng([seed, 1, step])
    overflight = _overflight(day, step, script.edge)
    shape = (SIZE, COLUMNS)
    radiometry = draw_radiometry(rng, shape)
    when = (day.timetuple().tm_yday, rng.uniform(0, 1), overflight.sun)
    surfaces = {at: radiometry.apply(land.reflectance(*when, at), at) for at in BANDS_AT}
    _write_truth(directory, day, surfaces)
    clouds = make_cloud_layers(rng, shape, script.cover, script.veil, overflight.sun)
    # The bands of 20 m have chance of their own, so that those of 10 m do not depend on them.
    chance = {10: rng, 20: rng.spawn(1)[0]}
    images = {at: _add_noise(chance[at], clouds.cover(surfaces[at], at)) for at in BANDS_AT}
    scl = classify_scene(rng, images[10], clouds)
    scl[_beyond_swath(script.edge, scl.shape)] = Scl.NO_DATA
    items = []
    for piece, granules in ((WP, script.west), (XP, script.east)):
        left = (piece.west - WP.west) // 10
        bands = {
            band: pixels[:, left * 10 // at : (left + SIZE) * 10 // at]
            for at, image in images.items()
            for band, pixels in zip(BANDS_AT[at], image, strict=True)
        }
        classes = scl[:, left // 2 : (left + SIZE) // 2]
        for processing in granules:
            stored = bands if processing == granules[-1] else _add_haze(bands)
            items.append(write_item(directory / COLLECTION, piece, processing, overflight, stored, classes))
    return items


def _write_truth(directory: Path, day: date, surfaces: dict[int, NDArray[np.float32]]) -> None:
    """Write a date's surfaces without cloud, those of each resolution into a file of their own."""
    for resolution, ending in ((10, ""), (20, "-20m")):
        names = tuple(band for band in BANDS_AT[resolution] if band in TRUTH)
        chosen = surfaces[resolution][[BANDS_AT[resolution].index(band) for band in names]]
        write_cog(
            directory / "truth" / f"{day}{ending}.tif",
            np.clip(np.rint(chosen * 10000), 1, 65535).astype(np.uint16),
            WP.west, WP.north, resolution, names, overviews=False,
        )  # fmt: skip


def _overflight(day: date, step: int, edge: float | None) -> Pass:
    """When and how orbit 122 passed on a date; its number is counted from real passes, 143 in ten days."""
    when = datetime(day.year, day.month, day.day, 10, 0, 31 if step % 2 == 0 else 29, tzinfo=UTC)
    platform, first = ("S2A", 25001) if step % 2 == 0 else ("S2B", 16164)
    sun = compute_sun_position(when + timedelta(minutes=7), LONGITUDE, LATITUDE)
    return Pass(when, platform, first + 143 * (step // 2), sun, _swath(edge))


EDGE_SLOPE = math.tan(math.radians(14.6))  # a descending orbit at this latitude runs towards 194.6 degrees


def _swath(edge: float | None) -> Polygon:
    """The swath west of its eastern edge, cut to the pieces and some kilometres around them."""
    middle = WP.west + 10 * COLUMNS * (2 if edge is None else edge)
    north, south, west = WP.north + 1000, WP.north - 10 * SIZE - 1000, WP.west - 1000
    lean = EDGE_SLOPE * (north - south) / 2
    return Polygon([(west, south), (middle - lean, south), (middle + lean, north), (west, north)])


def _beyond_swath(edge: float | None, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Which pixels lie east of the swath's edge."""
    rows, cols = shape
    row, col = np.ogrid[:rows, :cols]
    middle = cols * (2 if edge is None else edge)
    beyond: NDArray[np.bool_] = col + 0.5 > middle + EDGE_SLOPE * (rows / 2 - row - 0.5)
    return beyond


def _add_noise(rng: Generator, image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Add the noise of the instrument: a floor, and a part that grows with the signal."""
    sigma = 0.0004 + 0.001 * np.sqrt(np.clip(image, 0, None))
    return np.asarray(image + sigma * rng.standard_normal(image.shape, dtype=np.float32), np.float32)


def _add_haze(bands: dict[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
    """Add haze, as to a granule of a superseded processing, so that its use would be noticed."""
    return {band: pixels * np.float32(1.1) + np.float32(HAZE[band]) for band, pixels in bands.items()}

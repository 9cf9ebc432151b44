"""Places to judge generators on: the series of `records`, or any static STAC catalogue."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from shapely.geometry import box

from cloudgan import observations
from cloudgan.errors import InputError
from cloudgan.evaluation.cases import Place
from cloudgan.geo.grid import Grid, Lattice, Window
from cloudgan.io.cube import item_window, open_cube, source_lattice
from cloudgan.observations import Observations
from cloudgan.sentinel2.classification import PixelClass
from cloudgan.sentinel2.dates import DateRange, day_numbers
from cloudgan.stac.search import Scene, find_scenes
from cloudgan.training.data import records
from cloudgan.training.data.samples_folder import BANDS
from cloudgan.training.data.series import Series

_MOST_VALUES = 600_000_000  # of a catalogue that are held at once: 1.2 GB
_CLEAR = 0.3  # cloudy share up to which a date's clear pixels are believed
_EVER = DateRange(dt.date(2015, 1, 1), dt.date(2999, 12, 31))
_EVERYWHERE = box(-180, -80, 180, 84)


def place_of(one: Series) -> Place:
    """A series as digital numbers, as serving reads them."""
    numbers = np.clip(np.rint(one.images * 10_000), 0, 65535).astype(np.uint16)
    window = Window(0, 0, *one.images.shape[1:3])
    scenes = Observations(window, tuple(np.moveaxis(numbers, -1, 0)), one.pixel_classes, one.days)
    return Place(one.region, "120 m" if one.buffer == 1 else "10 m", scenes, one.buffer, one.truths, one.scl)


def read_places(source: Path) -> list[Place]:
    """Read what there is to be judged on.

    Args:
        source: The folder of all samples (`records.read_all`; its places of one date alone are left out), a
            netCDF series, a folder of pairs with its `index.csv`, or a static STAC catalogue or its folder.

    Raises:
        InputError: It is none of these, or cannot be read.
    """
    if not source.exists():
        raise InputError(
            f"no imagery at {source}; give a folder of samples, a .nc series or a STAC catalogue"
        )
    if source.suffix == ".nc":
        name = source.stem.removeprefix("series-").removesuffix("-l2a-10m")
        return [place_of(records.read_netcdf(source, name))]
    if (source / "index.csv").exists():
        return [place_of(pair) for pair in records.read_pairs(source)]
    if source.suffix == ".json" or any(
        (source / f"{kind}.json").exists() for kind in ("catalog", "collection")
    ):
        return [read_catalog(str(source))]
    if any(source.glob("series-*.nc")):
        return [place_of(one) for one in records.read_all(source) if not one.invented and len(one.days) > 1]
    raise InputError(
        f"{source} holds neither series-*.nc, nor pairs with an index.csv, nor a STAC catalogue; "
        "give a folder that does"
    )


def read_catalog(where: str) -> Place:
    """All of a static STAC catalogue, in its own pixels.

    Raises:
        InputError: It is of several UTM zones, or too large.
    """
    scenes = find_scenes(_EVERYWHERE, _EVER, bands=BANDS, stac=where).scenes
    items = [item for scene in scenes for item in scene.items]
    if len({item.epsg for item in items}) > 1:
        raise InputError(f"{where} lies in several UTM zones; give a catalogue of one")
    lattice = _lattice(where, scenes)
    windows = [item_window(item, lattice) for item in items]
    window = Window.between(
        min(one.row for one in windows),
        min(one.col for one in windows),
        max(one.bottom for one in windows),
        max(one.right for one in windows),
    )
    values = window.height * window.width * len(scenes) * len(BANDS)
    if values > _MOST_VALUES:
        raise InputError(
            f"{where} has {len(scenes)} dates of {window.width} x {window.height} pixels, more than fit in "
            f"memory at once; give one of {_MOST_VALUES // (3 * len(scenes)):,} pixels or fewer"
        )
    cube = open_cube(scenes, Grid(lattice, window), BANDS)
    bands = tuple(cube[name].values for name in BANDS)
    scl = cube["scl"].values
    pixel_classes = classify(scl, bands)
    truths = np.mean(pixel_classes == PixelClass.CLOUDY, axis=(1, 2)) < _CLEAR
    buffer = observations.metres_to_pixels(observations.BUFFER_METRES, lattice.resolution)
    region = next((item.mgrs_tile for item in items if item.mgrs_tile), None) or Path(where).stem
    group = f"{lattice.resolution:g} m"
    return Place(
        region, group, Observations(window, bands, pixel_classes, day_numbers(cube)), buffer, truths, scl
    )


def _lattice(where: str, scenes: Sequence[Scene]) -> Lattice:
    transform = scenes[0].items[0].asset(BANDS[0]).transform
    if transform is None:
        raise InputError(
            f"the items of {where} do not state proj:transform; add it, to tell their pixel size"
        )
    return source_lattice(scenes, transform[0])

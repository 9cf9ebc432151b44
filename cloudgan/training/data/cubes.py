"""Reading time series for training: a catalogue searched and read as the batch command does, Zarr, netCDF.

All become a `Record`: looks at one place in order of time. A record gives clear ground, real pairs and real
skies to the generators that see one image, and is what the temporal generator learns from.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import xarray as xr
from affine import Affine
from numpy.typing import NDArray
from pyproj import CRS
from pyproj.exceptions import CRSError

from cloudgan.errors import InputError
from cloudgan.geo.aoi import read_aoi
from cloudgan.geo.grid import Grid, lattice_window
from cloudgan.io.cube import open_cube, source_lattice
from cloudgan.schema import Provenance
from cloudgan.sentinel2.classification import SCL, PixelClass
from cloudgan.sentinel2.dates import DateRange
from cloudgan.stac.search import find_scenes
from cloudgan.training.data import samples_folder
from cloudgan.training.data.imagery import Floats, Frame, Imagery, Scene, paired, reflectance_of, seen

log = logging.getLogger(__name__)

_CLEAR_SHARE = 0.1  # a date with less cloud and shadow than this share of its pixels is ground to learn from
_SEEN_SHARE = 0.5  # and it has data in at least this share of them
_COVERED_SHARE = 0.95  # a date with more cloud teaches nothing as one of a pair
_MOST_BYTES = 8e9  # of reflectance held in memory


@dataclass(frozen=True, slots=True)
class Record:
    """ClearDates at one place in order of time."""

    name: str
    """Where it came from."""
    region: str
    """The place; the unit of the split."""
    resolution: float
    """Edge of a pixel in metres."""
    days: NDArray[np.int64]
    """Days since 1970-01-01 of each date, ascending, shape (time,)."""
    images: Floats
    """Reflectance, shape (time, height, width, bands); 0 is no data."""
    pixel_classes: NDArray[np.uint8]
    """Values of `clouds.PixelClass`, shape (time, height, width)."""
    scl: NDArray[np.uint8] | None
    """Scene classification, same shape; None where there is none, and then clouds are not known."""
    frame: Frame | None
    """Where it lies, if that is known."""

    @property
    def truths(self) -> NDArray[np.bool_]:
        """Dates clear enough that their clear pixels are ground to learn from, shape (time,)."""
        known = (self.pixel_classes != PixelClass.NO_DATA) & (self.pixel_classes != PixelClass.MISSING)
        cloudy = np.sum(self.pixel_classes == PixelClass.CLOUDY, axis=(1, 2)) / np.maximum(
            known.sum(axis=(1, 2)), 1
        )
        truths: NDArray[np.bool_] = (cloudy < _CLEAR_SHARE) & (known.mean(axis=(1, 2)) > _SEEN_SHARE)
        return truths

    def without(self, dates: Collection[str]) -> Record:
        """The record without some dates, such as 2018-10-18.

        Raises:
            InputError: It has no such date, or a name is no date.
        """
        try:
            left_out = {int(np.datetime64(date, "D").astype(np.int64)) for date in dates}
        except ValueError as error:
            raise InputError(
                f"{self.name} cannot leave out {sorted(dates)} ({error}); write dates as 2018-10-18"
            ) from error
        if unknown := left_out - set(self.days.tolist()):
            raise InputError(
                f"{self.name} has no date {np.datetime64(min(unknown), 'D')} to leave out; it has dates from "
                f"{np.datetime64(int(self.days[0]), 'D')} to {np.datetime64(int(self.days[-1]), 'D')}"
            )
        return self._only(~np.isin(self.days, sorted(left_out)))

    def _only(self, kept: NDArray[np.bool_]) -> Record:
        return replace(
            self,
            days=self.days[kept],
            images=self.images[kept],
            pixel_classes=self.pixel_classes[kept],
            scl=None if self.scl is None else self.scl[kept],
        )


def imagery_of(record: Record, apart: int = 10) -> Imagery:
    """What the generators that see one image learn from a record.

    Dates nearly without cloud are ground; dates with cloud and shadow give skies; and a cloudy date with the
    clear date nearest in time is a pair.

    Args:
        record: ClearDates at one place.
        apart: Days at most between the looks of a pair.

    Raises:
        InputError: No date is clear.
    """
    truths = record.truths
    if not truths.any():
        raise InputError(
            f"{record.name} has no date with less than {_CLEAR_SHARE:.0%} cloud that shows more than half "
            "of the place; "
            "give more dates or another area"
        )
    scenes = [_scene(record, at) for at in range(len(record.days))]
    shares = [_cloudiness(scene) for scene in scenes]
    pairs, cloud_fields = [], []
    for at in np.flatnonzero(~truths):
        if shares[at] < _CLEAR_SHARE:
            continue
        cloud_fields.append(scenes[at])
        gaps = np.where(truths, np.abs(record.days - record.days[at]), np.iinfo(np.int64).max)
        nearest = int(gaps.argmin())
        if gaps[nearest] <= apart and shares[at] < _COVERED_SHARE:
            pairs.append(paired(scenes[at], scenes[nearest]))
    return Imagery(tuple(scenes[at] for at in np.flatnonzero(truths)), tuple(pairs), tuple(cloud_fields))


def _scene(record: Record, at: int) -> Scene:
    name = f"{record.name} {np.datetime64(int(record.days[at]), 'D')}"
    image = record.images[at]
    if record.scl is None:
        return Scene(
            name, record.region, image, record.pixel_classes[at] == PixelClass.CLEAR, frame=record.frame
        )
    return samples_folder.classified(name, record.region, image, record.scl[at], record.frame)


def _cloudiness(scene: Scene) -> float:
    """Share of the pixels with data that cloud or shadow hides."""
    if scene.cloud is None or scene.shadow is None or not (known := seen(scene.image)).any():
        return 0.0
    return float(np.mean((scene.cloud | scene.shadow)[known]))


def read_catalogue(
    stac: str,
    aoi: Path,
    dates: str,
    region: str,
    bands: Sequence[str],
    *,
    collection: str | None = None,
    resolution: float = 10.0,
    max_cloud_cover: float = 100.0,
) -> Record:
    """Search a catalogue and read what it finds, with the batch command's own functions.

    Args:
        stac: See `catalog.find_scenes`.
        aoi: GeoJSON file.
        dates: As `--dates` takes it.
        region: What to call the place.
        bands: Common names.
        collection: See `catalog.find_scenes`.
        resolution: Edge of a pixel in metres.
        max_cloud_cover: Percent of a granule, included.

    Raises:
        InputError: Nothing is found, or it would not fit into memory.
        ReadError: An asset cannot be read.
    """
    area = read_aoi(aoi)
    selection = find_scenes(
        area.geometry,
        DateRange.parse(dates),
        bands=bands,
        stac=stac,
        collection=collection,
        max_cloud_cover=max_cloud_cover,
    )
    for notice in (*area.warnings, *selection.warnings):
        log.warning("%s", notice)
    zones = Counter(scene.epsg for scene in selection.scenes)
    zone = area.epsg if area.epsg in zones else zones.most_common(1)[0][0]
    scenes = [scene for scene in selection.scenes if scene.epsg == zone]
    lattice = source_lattice(scenes, resolution)
    grid = Grid(lattice, area.window(lattice))
    _refuse_too_large(f"{stac} in {aoi} for {dates}", (len(scenes), *grid.shape), len(bands))
    cube = open_cube(scenes, grid, bands)
    return record_of(cube, bands, f"{Path(aoi).stem}", region)


def read_cube(store: Path | str, region: str, bands: Sequence[str]) -> Record:
    """Read a Zarr store: a cube of `open_cube` saved by xarray, or what a batch run wrote.

    Of a batch run's store the observed pixels alone are believed; generated ones become no data.

    Args:
        store: Path of the store.
        region: What to call the place.
        bands: Common names.

    Raises:
        InputError: It is no such store, or lacks a band.
    """
    try:
        cube = xr.open_zarr(store, mask_and_scale=False, consolidated=False)
    except (OSError, ValueError, KeyError) as error:
        raise InputError(
            f"{store} cannot be read as a Zarr store: {_first_line(error)}; give a cube"
        ) from error
    with cube:
        return record_of(cube, bands, Path(store).stem, region)


def record_of(cube: xr.Dataset, bands: Sequence[str], name: str, region: str) -> Record:
    """A record of a cube with dimensions time, y and x.

    Args:
        cube: A variable per band, digital numbers or reflectance, 0 or NaN no data; perhaps `scl`, or the
            `provenance` of a batch run.
        bands: Common names.
        name: What to call it.
        region: What to call the place.

    Raises:
        InputError: It lacks a band or a dimension, its grid is irregular, or its dates do not rise.
    """
    if missing := [band for band in bands if band not in cube]:
        raise InputError(
            f"{name} has no band {missing[0]}; its variables are {sorted(map(str, cube.data_vars))}"
        )
    if any(set(cube[band].dims) != {"time", "y", "x"} for band in bands):
        raise InputError(f"{name} has bands of dimensions {cube[bands[0]].dims}; a cube has time, y and x")
    cube = cube.transpose("time", "y", "x", ...)
    _refuse_too_large(name, cube[bands[0]].shape, len(bands))
    _, resolution = lattice_window(cube)
    images = reflectance_of(np.stack([cube[band].values for band in bands]))
    scl = np.nan_to_num(cube[SCL].values).astype(np.uint8) if SCL in cube else None
    if "provenance" in cube:
        images[cube["provenance"].values != Provenance.OBSERVED] = 0
    elif scl is None:
        _warn_unclassified(name)
    days = cube["time"].values.astype("datetime64[D]").astype(np.int64)
    west, north = float(cube["x"][0]) - resolution / 2, float(cube["y"][0]) + resolution / 2
    crs = cube["spatial_ref"].attrs if "spatial_ref" in cube.coords or "spatial_ref" in cube else {}
    frame = _frame(crs, Affine(resolution, 0, west, 0, -resolution, north))
    return _record(name, region, resolution, days, images, scl, frame)


def read_netcdf(path: Path, region: str, bands: Sequence[str]) -> Record:
    """Read a netCDF 4 time series with one variable per band, see `data.read_series`.

    Args:
        path: The file; where it has x and y in metres and a CRS (`spatial_ref`, or an attribute `epsg`), its
            place is known.
        region: What to call the place.
        bands: Common names.

    Raises:
        InputError: It cannot be read, lacks a band, or its times have no unit.
    """
    days, images, scl = samples_folder.read_series(path, bands)
    if scl is None:
        _warn_unclassified(str(path))
    with h5py.File(path) as source:
        units = source["time"].attrs.get("units", b"")
        epoch = (units.decode() if isinstance(units, bytes) else str(units)).partition("days since ")[2][:10]
        if not epoch:
            raise InputError(f"{path} counts time in {units!r}; write it in days since a date")
        x, y = (source[axis][:] if axis in source else np.arange(2.0) for axis in ("x", "y"))
        attributes = dict(source["spatial_ref"].attrs) if "spatial_ref" in source else dict(source.attrs)
    days = days + np.datetime64(epoch, "D").astype(np.int64)
    resolution = float(abs(x[1] - x[0]))
    corner = Affine(resolution, 0, x[0] - resolution / 2, 0, -resolution, y[0] + resolution / 2)
    frame = _frame(attributes, corner) if y[0] > y[-1] else None
    return _record(path.stem, region, resolution, days, images, scl, frame)


def _record(
    name: str,
    region: str,
    resolution: float,
    days: NDArray[np.int64],
    images: Floats,
    scl: NDArray[np.uint8] | None,
    frame: Frame | None,
) -> Record:
    if (np.diff(days) <= 0).any():
        raise InputError(f"the dates of {name} do not rise, each of them once; sort and merge them")
    numbers = [
        np.clip(np.rint(band * 10_000), 0, 65535).astype(np.uint16) for band in np.moveaxis(images, -1, 0)
    ]
    classes = np.full(images.shape[:3], 4, np.uint8) if scl is None else scl  # 4 is vegetation: clear
    pixel_classes = classify(classes, numbers)
    whole = Record(name, region, resolution, days, images, pixel_classes, scl, frame)
    return whole._only((pixel_classes != PixelClass.NO_DATA).mean(axis=(1, 2)) > 0.1)


def _frame(attributes: dict[Any, Any], transform: Affine) -> Frame | None:
    """The frame that CF, GDAL or plain attributes tell."""
    text: Any = attributes.get("crs_wkt", attributes.get("spatial_ref", attributes.get("epsg")))
    if text is None:
        return None
    text = text.decode() if isinstance(text, bytes) else text
    try:
        crs = CRS.from_user_input(text if isinstance(text, str) else int(np.ravel(text)[0]))
    except CRSError:
        return None
    code = crs.to_epsg()
    return Frame(f"EPSG:{code}" if code else crs.to_wkt(), transform)


def _warn_unclassified(name: str) -> None:
    log.warning(
        "%s has no scene classification: whatever has data is taken for clear ground; leave cloudy dates out "
        "(without = [...])",
        name,
    )


def _refuse_too_large(what: str, shape: tuple[int, ...], bands: int) -> None:
    need = float(np.prod(shape)) * bands * 4
    if need > _MOST_BYTES:
        raise InputError(
            f"{what} is {shape[0]} dates of {shape[1]} x {shape[2]} pixels, {need / 1e9:.0f} GB in memory, "
            "and "
            f"{_MOST_BYTES / 1e9:.0f} GB is the limit; give a smaller area or fewer dates"
        )


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).split("\n", maxsplit=1)[0]

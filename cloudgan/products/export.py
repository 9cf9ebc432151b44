"""Export of a finished store to files of other formats.

A file is written under a temporary name and renamed when it is whole. So an export that was interrupted is
resumed by the same call.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from cloudgan.errors import InputError, StoreError
from cloudgan.geo.aoi import Aoi, read_aoi
from cloudgan.geo.grid import Grid, Window
from cloudgan.io.store.identity import compute_plan_digest, read_identity
from cloudgan.io.store.ledger import PENDING, read_states
from cloudgan.object_stores import is_object_store, name_failed_writes, normalise_location
from cloudgan.products.cubes import check_netcdf, clip_cube, select_cube, write_netcdf, write_zarr2
from cloudgan.products.dataset import open as open_dataset
from cloudgan.products.geotiff import Frame, cut_blocks, describe_date, write_cog, write_whole
from cloudgan.products.indices import find_index
from cloudgan.products.layers import Content, Layer, Picture, plan_layers
from cloudgan.products.periods import Period, check_period
from cloudgan.products.qgis import write_stack, write_style
from cloudgan.products.reader import StoreReader
from cloudgan.sentinel2.dates import DateRange

Format = Literal["cog", "netcdf", "zarr2"]
"""A Cloud Optimized GeoTIFF for each date; one netCDF file; one Zarr store of version 2 without shards."""
_SETTINGS = "export.json"  # what the files of a folder were made of
_CUBES = {"netcdf": "cloudgan.nc", "zarr2": "cloudgan.zarr"}

OnProgress = Callable[[int, int], None]
"""Told how many files are there, and of how many."""


@dataclass(frozen=True, slots=True)
class ExportRequest:
    """What a user asks for."""

    store: str
    """Path or URL of a store that a run wrote."""
    out: str
    """Folder of the files."""
    format: str = "cog"
    """See `Format`."""
    dates: str | None = None
    """Which dates, in the forms of `DateRange`; None for all."""
    bands: tuple[str, ...] = ()
    """Which bands; none for all."""
    index: str | None = None
    """A spectral index instead of the bands."""
    every: str | None = None
    """The period of composites; None for an image of each date."""
    clip: str | None = None
    """An area of interest; what lies outside is no data."""
    like: str | None = None
    """A raster file whose grid is used."""


@dataclass(frozen=True, slots=True)
class Export:
    """An export of one UTM zone, wholly decided."""

    reader: StoreReader
    """The store."""
    folder: Path
    """Where the files go."""
    format: str
    """See `Format`."""
    layers: tuple[Layer, ...]
    """The images."""
    content: Content
    """What they show."""
    every: Period | None
    """The period of composites."""
    grid: Grid
    """Which pixels of the store."""
    area: Aoi | None
    """Outside of it is no data."""
    like: Frame | None
    """Another grid."""
    settings: dict[str, Any]
    """What the files are made of, as JSON."""
    pending: int
    """Work units of the store that are not done."""

    @property
    def total(self) -> int:
        """How many files there will be: images, or one cube."""
        return 1 if self.format in _CUBES else len(self.layers)

    def run(self, on_progress: OnProgress | None = None) -> list[Path]:
        """Make what is missing.

        Returns:
            The files, those that were there already too.

        Raises:
            InputError: The folder holds files of another export.
            WriteError: The place refused a write.
        """
        show = on_progress or _ignore
        with name_failed_writes(str(self.folder)):
            self._claim_folder()
            show(0, self.total)
            if self.format in _CUBES:
                path = self.folder / _CUBES[self.format]
                if not path.exists():
                    self._write_cube(path)
                show(1, 1)
                return [path]
            files = []
            for done, layer in enumerate(self.layers, 1):
                files += self._write_images(layer)
                show(done, self.total)
            self._write_stacks()
            return files

    def _claim_folder(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / _SETTINGS
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            found = None
        if found not in (None, self.settings):
            raise InputError(
                f"{self.folder} holds an export of another store, or with other settings; remove it, or give "
                "another --out"
            )
        with write_whole(path) as piece:
            piece.write_text(json.dumps(self.settings, indent=2), encoding="utf-8")

    def _pictures(self) -> tuple[Picture, Picture]:
        return self.content.picture, self.content.quality

    def _path(self, layer: Layer, picture: Picture) -> Path:
        return self.folder / f"{layer.name}{picture.suffix}.tif"

    def _write_images(self, layer: Layer) -> list[Path]:
        paths = [self._path(layer, picture) for picture in self._pictures()]
        frame, tags = Frame.of_grid(self.grid), self._describe(layer)
        for at, (path, picture) in enumerate(zip(paths, self._pictures(), strict=True)):
            if not path.exists():
                write_cog(path, picture, frame, self._compute(layer, at), tags, self.like)
            write_style(path, picture)
        return paths

    def _compute(self, layer: Layer, which: int) -> Iterator[tuple[Window, NDArray[Any]]]:
        """The blocks of a picture, counted from the corner of the grid."""
        corner, picture = self.grid.window, self._pictures()[which]
        compute = (self.content.compute_values, self.content.compute_quality)[which]
        for block in cut_blocks(corner):
            numbers = compute(self.reader, layer, block)
            if self.area is not None:
                outside = self.area.mask_outside(Grid(self.grid.lattice, block))
                numbers = np.where(outside, np.asarray(picture.nodata, numbers.dtype), numbers)
            yield Window(block.row - corner.row, block.col - corner.col, block.height, block.width), numbers

    def _describe(self, layer: Layer) -> dict[str, str]:
        days = [str(self.reader.days[at]) for at in layer.dates]
        items = [self.reader.read_items(at) for at in layer.dates]
        return describe_date(layer.date) | {
            "TIFFTAG_IMAGEDESCRIPTION": "Sentinel-2 surface reflectance, clouds and their shadows removed",
            "TIFFTAG_COPYRIGHT": "contains modified Copernicus Sentinel data",
            "dates": " ".join(days),
            "items": " ".join(items),
        }

    def _write_stacks(self) -> None:
        titles = [layer.date.isoformat() for layer in self.layers]
        for picture in self._pictures():
            rasters = [self._path(layer, picture) for layer in self.layers]
            for number, name in enumerate(picture.bands, 1):
                path = self.folder / f"{name}.vrt"
                write_stack(path, rasters, titles, picture, number)
                write_style(path, picture, [name])

    def _write_cube(self, path: Path) -> None:
        cube = select_cube(open_dataset(self.reader.location), self.layers, self.content, self.every)
        cube = clip_cube(cube, self.reader.grid, self.grid, self.area)
        (write_netcdf if self.format == "netcdf" else write_zarr2)(cube, path)


def _ignore(done: int, total: int) -> None:
    """The default of `on_progress`."""


def plan_exports(request: ExportRequest) -> list[Export]:
    """Decide everything about an export, without writing.

    Returns:
        An export for each UTM zone of the store, in a folder of its own where there are several.

    Raises:
        InputError: Something cannot be done as asked.
        StoreError: There is no store of cloudgan's.
    """
    if request.format not in get_args(Format):
        raise InputError(f"there is no format {request.format!r}; give one of {', '.join(get_args(Format))}")
    if request.index and request.bands:
        raise InputError("an index replaces the bands; give either --index or --bands")
    if request.like and request.format != "cog":
        raise InputError(f"--like puts images on another grid, and {request.format} has none; use cog")
    if is_object_store(request.out):
        raise InputError(f"{request.out} is an object store, and files are written on a disk; give a folder")
    if request.format == "netcdf":
        check_netcdf()
    location = normalise_location(request.store)
    identity = read_identity(location)
    if identity is None:
        raise StoreError(f"there is no store at {location}; give the --out of a run")
    out = Path(normalise_location(request.out))
    area = read_aoi(request.clip) if request.clip else None
    if "zones" not in identity:
        return [_plan_export(request, location, out, area)]
    places = [(f"{location.rstrip('/')}/{name}", out / name) for name in identity["zones"]]
    touched = [place for place in places if area is None or _find_part(StoreReader.open(place[0]), area)]
    if not touched:
        raise InputError(f"the area {request.clip} lies beside the store; give another --clip")
    return [_plan_export(request, place, folder, area) for place, folder in touched]


def _plan_export(request: ExportRequest, location: str, folder: Path, area: Aoi | None) -> Export:
    reader = StoreReader.open(location)
    every = check_period(request.every) if request.every else None
    unknown = [name for name in request.bands if name not in reader.bands]
    if unknown:
        raise InputError(f"the store has no band {unknown[0]}; give --bands of {', '.join(reader.bands)}")
    index = find_index(request.index, reader.bands).name if request.index else None
    grid = reader.grid
    if area is not None:
        part = _find_part(reader, area)
        if part is None:
            raise InputError(f"the area {request.clip} lies beside the store; give another --clip")
        grid = Grid(grid.lattice, part)
    states = read_states(location)
    settings = {
        "plan": compute_plan_digest(read_identity(location) or {}),
        "units_done": int((states != PENDING).sum()),
        "format": request.format,
        "dates": request.dates,
        "bands": list(request.bands),
        "index": index,
        "every": every,
        "clip": None if area is None else area.geometry.wkt,
        "like": None if request.like is None else _identify(Frame.of_file(request.like)),
    }
    return Export(
        reader,
        folder,
        request.format,
        plan_layers(reader.days, DateRange.parse(request.dates) if request.dates else None, every),
        Content(request.bands or reader.bands, index, every is not None),
        every,
        grid,
        area,
        Frame.of_file(request.like) if request.like else None,
        settings,
        int((states == PENDING).sum()),
    )


def _find_part(reader: StoreReader, area: Aoi) -> Window | None:
    return area.window(reader.grid.lattice).intersection(reader.grid.window)


def _identify(frame: Frame) -> list[Any]:
    return [frame.crs.to_wkt(), list(frame.transform)[:6], list(frame.shape)]

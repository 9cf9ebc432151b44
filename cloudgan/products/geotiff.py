"""Cloud Optimized GeoTIFFs, written block by block, whole or not at all."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import rasterio
import rasterio.shutil
from affine import Affine
from numpy.typing import NDArray
from rasterio.enums import Resampling
from rasterio.errors import RasterioError
from rasterio.vrt import WarpedVRT
from rasterio.windows import Window as RasterWindow

from cloudgan.errors import InputError
from cloudgan.geo.grid import Grid, Window
from cloudgan.products.layers import Picture

BLOCK = 512
"""Edge in pixels of what is held in memory at once."""


@dataclass(frozen=True, slots=True)
class Frame:
    """Where the pixels of a raster lie, in any CRS."""

    crs: Any
    """What rasterio takes for a CRS."""
    transform: Affine
    """From (column, row) to map coordinates of pixel corners."""
    shape: tuple[int, int]
    """Rows and columns."""

    @classmethod
    def of_grid(cls, grid: Grid) -> Frame:
        """The frame of a grid."""
        return cls(f"EPSG:{grid.epsg}", grid.transform, grid.shape)

    @classmethod
    def of_file(cls, path: str) -> Frame:
        """The frame of a raster file.

        Raises:
            InputError: It cannot be read, or has no CRS.
        """
        try:
            with rasterio.open(path) as source:
                found = cls(source.crs, source.transform, source.shape)
        except RasterioError as error:
            raise InputError(f"the file {path} cannot be read ({error}); give a raster to --like") from error
        if found.crs is None:
            raise InputError(f"the file {path} has no CRS; give a georeferenced raster to --like")
        return found


def cut_blocks(window: Window) -> Iterator[Window]:
    """The blocks of a window, by rows."""
    for row in range(window.row, window.bottom, BLOCK):
        for col in range(window.col, window.right, BLOCK):
            bottom, right = min(row + BLOCK, window.bottom), min(col + BLOCK, window.right)
            yield Window.between(row, col, bottom, right)


@contextmanager
def write_whole(path: Path) -> Iterator[Path]:
    """A name beside a file, that takes the file's name at the end of the block, and is removed else."""
    piece = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        yield piece
        piece.replace(path)
    finally:
        for left in path.parent.glob(f"{piece.name}*"):
            with suppress(OSError):
                left.unlink()


class RasterFile:
    """A raster that is filled block by block, and then written as a Cloud Optimized GeoTIFF."""

    def __init__(self, piece: Path, picture: Picture, frame: Frame) -> None:
        self.picture, self.frame = picture, frame
        self._piece = piece
        self.raw = piece.with_name(f"{piece.name}.raw")

    @contextmanager
    def fill(self, tags: Mapping[str, str]) -> Iterator[Callable[[Window, NDArray[Any]], None]]:
        """What writes a block: its window from the raster's corner, and numbers (bands, rows, columns)."""
        height, width = self.frame.shape
        with rasterio.open(
            self.raw,
            "w",
            driver="GTiff",
            count=len(self.picture.bands),
            height=height,
            width=width,
            dtype=self.picture.dtype,
            crs=self.frame.crs,
            transform=self.frame.transform,
            nodata=self.picture.nodata,
            tiled=True,
            blockxsize=BLOCK,
            blockysize=BLOCK,
            bigtiff="IF_SAFER",
        ) as target:
            target.descriptions = self.picture.bands
            target.scales = [self.picture.scale] * len(self.picture.bands)
            target.offsets = [0.0] * len(self.picture.bands)
            target.update_tags(**tags)
            if self.picture.colours:
                target.write_colormap(1, self.picture.colours)

            def write(window: Window, numbers: NDArray[Any]) -> None:
                place = RasterWindow(window.col, window.row, window.width, window.height)
                target.write(numbers, window=place)

            yield write

    def warp(self, frame: Frame, tags: Mapping[str, str]) -> RasterFile:
        """The same pixels on another grid, each the nearest of its own."""
        warped = RasterFile(self._piece.with_name(f"{self._piece.name}.warped"), self.picture, frame)
        height, width = frame.shape
        with (
            rasterio.open(self.raw) as source,
            WarpedVRT(
                source,
                crs=frame.crs,
                transform=frame.transform,
                height=height,
                width=width,
                resampling=Resampling.nearest,
                nodata=self.picture.nodata,
            ) as view,
            warped.fill(tags) as write,
        ):
            for block in cut_blocks(Window(0, 0, height, width)):
                place = RasterWindow(block.col, block.row, block.width, block.height)
                write(block, view.read(window=place))
        return warped

    def save(self, path: Path) -> None:
        """Write the Cloud Optimized GeoTIFF, with overviews."""
        of_classes = self.picture.dtype == "uint8"
        rasterio.shutil.copy(
            self.raw,
            path,
            driver="COG",
            compress="DEFLATE",
            # A colour table stands for classes, which have no differences.
            predictor="NO" if self.picture.colours else "YES",
            blocksize=BLOCK // 2,
            bigtiff="IF_SAFER",
            overviews="AUTO",
            overview_resampling="NEAREST" if of_classes else "AVERAGE",
        )


def write_cog(
    path: Path,
    picture: Picture,
    frame: Frame,
    blocks: Iterable[tuple[Window, NDArray[Any]]],
    tags: Mapping[str, str],
    like: Frame | None = None,
) -> None:
    """Write a Cloud Optimized GeoTIFF, in the memory of a few blocks.

    Args:
        path: Where to; what is there is replaced when the whole is written.
        picture: What the numbers mean.
        frame: Where the blocks lie.
        blocks: Windows counted from the corner of the frame, with numbers (bands, rows, columns).
        tags: Metadata of the file.
        like: Another grid to put the pixels on.
    """
    with write_whole(path) as piece:
        raster = RasterFile(piece, picture, frame)
        with raster.fill(tags) as write:
            for window, numbers in blocks:
                write(window, numbers)
        if like is not None:
            raster = raster.warp(like, tags)
        raster.save(piece)


def describe_date(date: dt.date) -> dict[str, str]:
    """Tags that say when."""
    return {"TIFFTAG_DATETIME": f"{date:%Y:%m:%d} 00:00:00", "date": date.isoformat()}

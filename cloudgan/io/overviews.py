"""Overviews of whole images: an MGRS tile on each date, for one small read an asset."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import repeat
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio import DatasetReader
from rasterio.enums import Resampling
from rasterio.windows import Window as RasterWindow
from rasterio.windows import from_bounds
from scipy.ndimage import binary_dilation

from cloudgan.errors import CloudganError
from cloudgan.geo.grid import Lattice, Window
from cloudgan.io.encodings import (
    Encoding,
    EncodingError,
    decode,
    decode_classes,
    open_described,
)
from cloudgan.io.placement import item_window
from cloudgan.io.readers import READ_FAILURES, read_error, refuse_file
from cloudgan.removal.normalisation import Radiometry, measure_radiometry
from cloudgan.sentinel2.bands import REFLECTANCE_SCALE
from cloudgan.sentinel2.classification import SCL, PixelClass, classify
from cloudgan.sentinel2.offset import harmonise
from cloudgan.stac.items import SourceItem
from cloudgan.stac.search import Scene

EDGE = 128
"""Pixels along an overview's edge: some 860 m each of an MGRS tile."""
_WHOLE = 2048  # edge in pixels of the largest image that is read whole, where it has no overviews
_AROUND = 5120.0  # edge in metres of what is read of a larger one around a place
_THREADS = 8  # items read at once: a remote asset is mostly waiting

Overview = tuple[NDArray[np.float32], NDArray[np.bool_]]
"""Reflectance of shape (pixel, band), and which pixels are clear."""


def find_frames(scenes: Sequence[Scene], lattice: Lattice, window: Window) -> list[Window]:
    """The MGRS tiles whose images touch a window, in order of place."""
    found = {item_window(item, lattice) for scene in scenes for item in scene.items}
    return sorted(
        (frame for frame in found if frame.intersection(window)), key=lambda frame: (frame.row, frame.col)
    )


def read_radiometry(
    scenes: Sequence[Scene], lattice: Lattice, frame: Window, bands: Sequence[str], max_age: int
) -> Radiometry:
    """How the dates of one MGRS tile differ; nothing is known of dates whose images have no overviews.

    Args:
        scenes: All dates.
        lattice: Of the pixels.
        frame: Which MGRS tile, one of `frames`.
        bands: Common names.
        max_age: See `normalisation.median_offsets`.

    Raises:
        ReadError: An image cannot be read.
    """
    with ThreadPoolExecutor(_THREADS) as pool:
        read = list(pool.map(_read_first, scenes, repeat(lattice), repeat(frame), repeat(tuple(bands))))
    days = np.array([scene.date.toordinal() for scene in scenes], np.int64)
    reflectance, clear = (np.stack(parts) for parts in zip(*read, strict=True))
    return measure_radiometry(frame, reflectance, clear, days, max_age)


def _read_first(scene: Scene, lattice: Lattice, frame: Window, bands: tuple[str, ...]) -> Overview:
    """The first image of the MGRS tile on this date; nothing clear where there is none."""
    for item in scene.items:
        if item_window(item, lattice) == frame and (overview := read_overview(item, bands)) is not None:
            return overview
    return np.zeros((EDGE * EDGE, len(bands)), np.float32), np.zeros(EDGE * EDGE, np.bool_)


def read_overview(item: SourceItem, bands: Sequence[str]) -> Overview | None:
    """An item's images, small; None where one is large and has no overviews.

    Raises:
        ReadError: One cannot be read.
    """
    images = {}
    for name in (*bands, SCL):
        with _named(item, name), open_described(item, name) as (source, encoding):
            if _is_large_without_overviews(source):
                return None
            images[name] = _read_small(source, name, encoding)
    numbers = {name: harmonise(images[name], item.offset) for name in bands}
    stacked = np.stack(list(numbers.values()), axis=-1).astype(np.float32) * np.float32(REFLECTANCE_SCALE)
    return stacked.reshape(-1, len(bands)), _find_clear(images[SCL], numbers).ravel()


def _is_large_without_overviews(source: DatasetReader) -> bool:
    return not source.overviews(1) and max(source.shape) > _WHOLE and source.driver == "GTiff"


def _find_clear(scl: NDArray[np.uint8], numbers: Mapping[str, NDArray[np.uint16]]) -> NDArray[np.bool_]:
    """Clear pixels that touch neither cloud nor snow, which one image cannot tell from cloud."""
    pixel_classes = classify(scl, numbers)
    cloudy = np.isin(pixel_classes, (PixelClass.CLOUDY, PixelClass.SNOW))
    clear: NDArray[np.bool_] = (pixel_classes == PixelClass.CLEAR) & ~binary_dilation(cloudy)
    return clear


def _read_small(
    source: DatasetReader, name: str, encoding: Encoding, window: RasterWindow | None = None
) -> NDArray[Any]:
    """A whole image, or a window of it, in `EDGE` x `EDGE` pixels."""
    part = {"window": window, "boundless": window is not None, "out_shape": (EDGE, EDGE)}
    small = source.read(encoding.index, resampling=Resampling.nearest, **part)
    valid = source.read_masks(encoding.index, **part) > 0 if encoding.masked else None
    return decode_classes(small, valid) if name == SCL else decode(small, valid, encoding)


@contextmanager
def _named(item: SourceItem, name: str) -> Iterator[None]:
    """Name the item and the band in what fails within."""
    try:
        yield
    except EncodingError as error:
        raise refuse_file(item, name, error) from error
    except READ_FAILURES as error:
        raise read_error(item, name, error) from error


@dataclass(frozen=True, slots=True)
class Sample:
    """Some pixels of an item, as they are stored."""

    numbers: tuple[NDArray[np.uint16], ...]
    """Digital numbers of each band, shape (EDGE, EDGE); 0 is no data."""
    clear: NDArray[np.bool_]
    """Which pixels are clear, of the same shape."""


def read_sample(item: SourceItem, bands: Sequence[str], centre: tuple[float, float]) -> Sample | None:
    """Pixels of an item by which its radiometry can be checked; None where they cannot be read.

    They are those of its overviews; of a large image without overviews, those around a place.

    Args:
        item: The item.
        bands: Common names.
        centre: Map x and y, in the item's CRS.
    """
    try:
        images = {name: _read_part(item, name, centre) for name in (*bands, SCL)}
    except (*READ_FAILURES, EncodingError, CloudganError):
        return None  # the unit that needs it names it
    numbers = {name: images[name] for name in bands}
    return Sample(tuple(numbers.values()), _find_clear(images[SCL], numbers))


def _read_part(item: SourceItem, name: str, centre: tuple[float, float]) -> NDArray[Any]:
    with open_described(item, name) as (source, encoding):
        window = None
        if _is_large_without_overviews(source):
            half = _AROUND / 2
            x, y = centre
            window = from_bounds(x - half, y - half, x + half, y + half, source.transform)
        return _read_small(source, name, encoding, window)

"""Overviews of whole images: an MGRS tile on each date, for one small read an asset."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat

import numpy as np
from numpy.typing import NDArray
from rasterio.enums import Resampling
from scipy.ndimage import binary_dilation

from cloudgan.geo.grid import Lattice, Window
from cloudgan.io.gdal import open_image
from cloudgan.io.placement import item_window
from cloudgan.io.readers import READ_FAILURES, read_error
from cloudgan.removal.normalisation import RadiometricOffsets, median_offsets
from cloudgan.sentinel2.bands import REFLECTANCE_SCALE
from cloudgan.sentinel2.classification import SCL, PixelClass, classify
from cloudgan.sentinel2.offset import harmonise
from cloudgan.stac.items import SourceItem
from cloudgan.stac.search import Scene
from cloudgan.stac.signing import sign

EDGE = 128
"""Pixels along an overview's edge: some 860 m each of an MGRS tile."""
_WHOLE = 2048  # edge in pixels of the largest image that is read whole, where it has no overviews
_THREADS = 8  # items read at once: a remote asset is mostly waiting

Overview = tuple[NDArray[np.float32], NDArray[np.bool_]]
"""Reflectance of shape (pixel, band), and which pixels are clear."""


def find_frames(scenes: Sequence[Scene], lattice: Lattice, window: Window) -> list[Window]:
    """The MGRS tiles whose images touch a window, in order of place."""
    found = {item_window(item, lattice) for scene in scenes for item in scene.items}
    return sorted(
        (frame for frame in found if frame.intersection(window)), key=lambda frame: (frame.row, frame.col)
    )


def measure_offsets(
    scenes: Sequence[Scene], lattice: Lattice, frame: Window, bands: Sequence[str], max_age: int
) -> RadiometricOffsets:
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
    return RadiometricOffsets(frame, median_offsets(reflectance, clear, days, max_age))


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
        try:
            with open_image(sign(item.asset(name).href, item.signing)) as source:
                if not source.overviews(1) and max(source.shape) > _WHOLE and source.driver == "GTiff":
                    return None
                images[name] = source.read(1, out_shape=(EDGE, EDGE), resampling=Resampling.nearest)
        except READ_FAILURES as error:
            raise read_error(item, name, error) from error
    numbers = [harmonise(images[name], item.offset) for name in bands]
    pixel_classes = classify(images[SCL], numbers)
    clear = (pixel_classes == PixelClass.CLEAR) & ~binary_dilation(pixel_classes == PixelClass.CLOUDY)
    reflectance = np.stack(numbers, axis=-1).astype(np.float32) * np.float32(REFLECTANCE_SCALE)
    return reflectance.reshape(-1, len(bands)), clear.ravel()

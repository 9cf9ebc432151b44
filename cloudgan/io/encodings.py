"""How a file stores its numbers, and the reading of them onto a grid.

L2A comes as one band of unsigned 16 bits with 0 for no data, and so all libraries read it. Other types, other
marks for no data, masks and tags of scale are understood here. Whatever the reader is, such a file is read by
this module alone, so that the pixels do not depend on it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from affine import Affine
from numpy.typing import NDArray
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.windows import Window as RasterWindow

from cloudgan.geo.grid import Grid, Window
from cloudgan.io.frames import check_frame
from cloudgan.io.gdal import open_image
from cloudgan.sentinel2.bands import MAX_NUMBER, REFLECTANCE_SCALE, common_name
from cloudgan.sentinel2.classification import SCL, Scl
from cloudgan.stac.hrefs import remove_query
from cloudgan.stac.items import Asset, SourceItem
from cloudgan.stac.signing import Signing, sign

LOWEST_NUMBER = -2000
"""Digital number below which a value is no reflectance but a mark: surfaces seldom come out below -0.1."""
LARGEST_REFLECTANCE = 20.0
"""No reflectance comes near: where most numbers of a file are above, they are digital numbers."""
_SAMPLE = 1024  # edge in pixels of the sample by which a file of floats is known
_NUDGE = 1e-3  # of a pixel: settles ties to the east and south, whatever rounding does
_FACTORS: dict[tuple[str, int, int], float] = {}  # by path, band and time of change: what a sample showed
_MOST_PIXELS = 1 << 24  # of a file that are held at once: it may be much finer than the grid
_KNOWN_KINDS = "uif"  # unsigned, signed, float; no complex numbers


class EncodingError(ValueError):
    """A file's numbers are not understood, or contradict the item; what is wrong of it, as a predicate."""


@dataclass(frozen=True, slots=True)
class Encoding:
    """How one band of a file is stored."""

    index: int
    """Which band of the file, from 1."""
    dtype: np.dtype[Any]
    """Type of the stored numbers."""
    nodata: float | None
    """Stored number that means no data; None where the file declares none."""
    factor: float
    """Digital numbers (reflectance x 10000) of a stored 1."""
    masked: bool
    """Whether the file has a mask or an alpha band beside its numbers."""
    shape: tuple[int, int]
    """Rows and columns of the file."""
    transform: Affine
    """From (column, row) of the file to map coordinates of pixel corners."""
    plain: bool
    """Whether every library reads it right: its numbers are digital numbers."""


def band_dtype(name: str) -> np.dtype[Any]:
    """Type of a band's numbers: uint8 of the scene classification, uint16 of all others."""
    return np.dtype(np.uint8 if name == SCL else np.uint16)


@contextmanager
def open_described(item: SourceItem, name: str) -> Iterator[tuple[rasterio.DatasetReader, Encoding]]:
    """The open file of a band, and how it stores its numbers.

    Raises:
        EncodingError: It is not understood, or contradicts the item.
        RasterioError: It cannot be opened.
    """
    asset = item.asset(name)
    with open_image(sign(asset.href, item.signing)) as source:
        check_frame(item, name, source)
        yield source, describe_band(source, name, item.offset)


def describe_band(source: rasterio.DatasetReader, name: str, offset: int) -> Encoding:
    """How a band is stored in an open file.

    Args:
        source: The file.
        name: Common name of the band, or of the scene classification.
        offset: DN to subtract, as the item has it.

    Raises:
        EncodingError: It is not understood.
    """
    index = _find_band(source, name)
    dtype = np.dtype(source.dtypes[index - 1])
    if dtype.kind not in _KNOWN_KINDS:
        raise EncodingError(f"holds numbers of type {dtype}, which no reflectance is")
    nodata = source.nodatavals[index - 1]
    flags = source.mask_flag_enums[index - 1]
    masked = MaskFlags.alpha in flags or (MaskFlags.per_dataset in flags and MaskFlags.all_valid not in flags)
    factor = 1.0 if name == SCL else _find_factor(source, index, dtype, nodata, offset)
    plain = dtype == band_dtype(name) and source.count == 1 and not nodata and not masked and factor == 1
    return Encoding(index, dtype, nodata, factor, masked, source.shape, source.transform, plain)


def _find_band(source: rasterio.DatasetReader, name: str) -> int:
    """Which band of a file to read: the only one, or the one that is described by the name."""
    colours = [at for at in source.indexes if source.colorinterp[at - 1] != ColorInterp.alpha]
    if len(colours) == 1:
        return int(colours[0])
    described = {at: common_name(source.descriptions[at - 1] or "") for at in colours}
    found = [at for at, text in described.items() if text in (name, name.upper())]
    if len(found) != 1:
        raise EncodingError(
            f"holds {len(colours)} bands, described as {list(described.values())}, of which not one is {name}"
        )
    return int(found[0])


def _find_factor(
    source: rasterio.DatasetReader, index: int, dtype: np.dtype[Any], nodata: float | None, offset: int
) -> float:
    """Digital numbers of a stored 1, from the tags of scale and offset, else from the type."""
    scale, tag = source.scales[index - 1], source.offsets[index - 1]
    tagged = scale != 1
    if tagged and not 1e-6 <= scale <= 0.1:
        raise EncodingError(f"has a tag of scale {scale:g}, which is that of no reflectance")
    if tagged:
        factor = scale / REFLECTANCE_SCALE
    elif dtype.kind == "f":
        factor = _find_factor_of_floats(source, index, nodata)
    elif dtype.itemsize == 1:
        raise EncodingError("holds numbers of 8 bits without a tag of scale")
    else:
        factor = 1.0
    declared = round(-tag / (REFLECTANCE_SCALE if tagged or factor != 1 else 1)) if math.isfinite(tag) else 0
    if declared not in (0, offset):
        raise EncodingError(
            f"has a tag of offset that subtracts {declared} DN, where {offset} DN were decided for the item"
        )
    return 1.0 if math.isclose(factor, 1) else factor


def _find_factor_of_floats(source: rasterio.DatasetReader, index: int, nodata: float | None) -> float:
    """Whether floats are reflectance or digital numbers: from a sample of all the file, never of a window."""
    path = remove_query(source.name)
    try:
        key = path, index, Path(path).stat().st_mtime_ns
    except OSError:  # of another machine
        key = path, index, 0
    if key not in _FACTORS:
        sample = source.read(index, out_shape=tuple(min(edge, _SAMPLE) for edge in source.shape))
        marked = np.zeros(sample.shape, np.bool_) if nodata is None else sample == nodata
        known = sample[np.isfinite(sample) & (sample != 0) & ~marked]
        are_numbers = bool(len(known)) and float(np.mean(known > LARGEST_REFLECTANCE)) > 0.5
        _FACTORS[key] = 1.0 if are_numbers else 1 / REFLECTANCE_SCALE
    return _FACTORS[key]


def decode(values: NDArray[Any], valid: NDArray[np.bool_] | None, encoding: Encoding) -> NDArray[np.uint16]:
    """Stored numbers as digital numbers, 0 no data, before any BOA offset is subtracted.

    Args:
        values: As stored.
        valid: What the file's mask says; None without a mask.
        encoding: How they are stored.
    """
    known = np.isfinite(values) if encoding.dtype.kind == "f" else np.ones(values.shape, np.bool_)
    if valid is not None:
        known &= valid
    if encoding.nodata is not None and not math.isnan(encoding.nodata):
        known &= values != np.float64(encoding.nodata).astype(values.dtype)
    if not encoding.nodata:  # none is declared, or 0
        known &= values != 0
    numbers = np.rint(np.where(known, values, 0).astype(np.float64) * encoding.factor)
    known &= numbers > LOWEST_NUMBER
    # Zero and below is dark surface where it is not declared as no data.
    return np.where(known, np.clip(numbers, 1, MAX_NUMBER), 0).astype(np.uint16)


def decode_classes(values: NDArray[Any], valid: NDArray[np.bool_] | None) -> NDArray[np.uint8]:
    """Stored numbers as scene classification; 0, no data, where they are no class."""
    known = np.isin(values, list(Scl))
    if valid is not None:
        known &= valid
    return np.where(known, values, 0).astype(np.uint8)


def read_lazily(item: SourceItem, grid: Grid, name: str, encoding: Encoding, chunks: int) -> Any:
    """See `read_nearest`, as a Dask array of chunks of so many pixels."""
    import dask.array  # a second of import that reading at once does without
    from dask.delayed import delayed

    asset = item.asset(name)
    load = delayed(_read_window)

    def block(top: int, left: int) -> Any:
        window = grid.window
        bottom, right = min(top + chunks, window.height), min(left + chunks, window.width)
        part = Window.between(window.row + top, window.col + left, window.row + bottom, window.col + right)
        made = load(asset, item.signing, Grid(grid.lattice, part), encoding)
        return dask.array.from_delayed(made, part.shape, band_dtype(name))

    height, width = grid.shape
    return dask.array.block(
        [[block(top, left) for left in range(0, width, chunks)] for top in range(0, height, chunks)]
    )


def _read_window(asset: Asset, signing: Signing, grid: Grid, encoding: Encoding) -> NDArray[Any]:
    with open_image(sign(asset.href, signing)) as source:
        return read_nearest(source, grid, asset.band, encoding)


def read_nearest(source: rasterio.DatasetReader, grid: Grid, name: str, encoding: Encoding) -> NDArray[Any]:
    """The nearest pixel of a file for each of the grid; at a tie that to the east and south, as in GDAL."""
    nudge = _NUDGE * grid.resolution
    cols = np.floor((grid.x() + nudge - encoding.transform.c) / encoding.transform.a).astype(np.int64)
    rows = np.floor((grid.y() - nudge - encoding.transform.f) / encoding.transform.e).astype(np.int64)
    in_rows = np.flatnonzero((rows >= 0) & (rows < encoding.shape[0]))
    in_cols = np.flatnonzero((cols >= 0) & (cols < encoding.shape[1]))
    made = np.zeros(grid.shape, band_dtype(name))
    if not len(in_rows) or not len(in_cols):
        return made
    cols = cols[in_cols]
    inner = slice(in_cols[0], in_cols[-1] + 1)
    for part in _cut(rows[in_rows], (cols[-1] + 1 - cols[0])):
        here = rows[in_rows[part]]
        window = RasterWindow.from_slices((here[0], here[-1] + 1), (cols[0], cols[-1] + 1))
        picked = here - here[0], cols - cols[0]
        values = _pick(source.read(encoding.index, window=window), *picked)
        valid = None
        if encoding.masked:
            valid = _pick(source.read_masks(encoding.index, window=window), *picked) > 0
        made[in_rows[part], inner] = _decode_band(values, valid, name, encoding)
    return made


def _cut(rows: NDArray[np.int64], width: int) -> Iterator[slice]:
    """Parts of ascending rows of a file, of each of which so many columns hold `_MOST_PIXELS` at most."""
    height = max(1, _MOST_PIXELS // width)
    starts = np.searchsorted(rows, np.arange(rows[0], rows[-1] + 1, height))
    ends = [*starts[1:], len(rows)]
    return (slice(start, end) for start, end in zip(starts, ends, strict=True) if start < end)


def _pick(values: NDArray[Any], rows: NDArray[np.int64], cols: NDArray[np.int64]) -> NDArray[Any]:
    """Rows and columns of an image; all of it, as it mostly is, without a copy."""
    if values.shape == (len(rows), len(cols)):
        return values
    return values.take(rows, axis=0).take(cols, axis=1)


def _decode_band(
    values: NDArray[Any], valid: NDArray[np.bool_] | None, name: str, encoding: Encoding
) -> NDArray[Any]:
    """Stored numbers as the numbers of the cube; see `decode` and `decode_classes`."""
    if not encoding.plain:
        return decode_classes(values, valid) if name == SCL else decode(values, valid, encoding)
    # What is no class is none here too: 255 stands for a missing asset.
    return values * (values <= max(Scl)) if name == SCL else values

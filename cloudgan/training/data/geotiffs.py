"""Reading GeoTIFFs for training: clear images, and cloudy and clear ones in pairs, each checked before use.

A file that would teach something false is refused with its name, the reason and what to do about it.
"""

from __future__ import annotations

import csv
import logging
import math
import warnings
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.errors import NotGeoreferencedWarning
from scipy.ndimage import binary_dilation

from cloudgan.errors import InputError
from cloudgan.sentinel2.offset import BOA_OFFSET, Verdict, check_histogram, harmonise
from cloudgan.training.data.imagery import (
    BANDS,
    Floats,
    Frame,
    Pair,
    Scene,
    clear_scene,
    common_name,
    reflectance_of,
    seen,
)
from cloudgan.training.data.registration import refuse_unregistered

log = logging.getLogger(__name__)


def read_geotiff(path: Path, bands: Sequence[str] = BANDS, offset: int = 0) -> Floats:
    """Read bands of a GeoTIFF by name, from the descriptions that its bands carry.

    Args:
        path: Integers of reflectance x 10000, or floats of reflectance.
        bands: Common names (green) in the order wanted; descriptions may say B03 or green.
        offset: Digital numbers to subtract, see `radiometry.harmonise`.

    Returns:
        Reflectance, shape (height, width, bands); 0 is no data.

    Raises:
        InputError: The file cannot be read, lacks a band, or holds NaN that it does not declare as no data.
    """
    return _read_geotiff(path, bands, offset)[0]


def _read_geotiff(path: Path, bands: Sequence[str], offset: int) -> tuple[Floats, Frame | None]:
    """The pixels of a GeoTIFF and where they lie."""
    try:
        with opened(path) as source:
            names = [common_name(text or "") for text in source.descriptions]
            if missing := [band for band in bands if band not in names]:
                raise InputError(
                    f"{path} has no band {missing[0]}; its bands are described as {names}: set the "
                    "descriptions to "
                    "the bands' names"
                )
            values = source.read([names.index(band) + 1 for band in bands])
            nodata = source.nodata
            frame = Frame(source.crs.to_string(), source.transform) if source.crs else None
    except rasterio.RasterioIOError as error:
        raise InputError(f"{path} cannot be read as an image: {error}; give a GeoTIFF") from error
    if nodata is None or not math.isnan(nodata):
        _refuse_nan(path, values, bands)
    if nodata is not None:
        values = np.where(values == nodata, 0, values)
    if offset:
        if not np.issubdtype(values.dtype, np.integer):
            raise InputError(
                f"{path} holds {values.dtype}, and an offset is of digital numbers; leave offset away"
            )
        values = harmonise(np.clip(values, 0, 65535).astype(np.uint16), offset)
    return reflectance_of(values), frame


def _refuse_nan(path: Path, values: NDArray[np.generic], bands: Sequence[str]) -> None:
    if not np.issubdtype(values.dtype, np.floating):
        return
    broken = (~np.isfinite(values)).sum(axis=(1, 2))
    if broken.any():
        band = int(broken.argmax())
        raise InputError(
            f"{path} holds {broken[band]} values of band {bands[band]} that are no numbers, and does not "
            "declare NaN as no data; declare it (gdal_edit.py -a_nodata nan), or mend the file"
        )


def read_folder(
    folder: Path,
    region: str,
    bands: Sequence[str] = BANDS,
    without: Collection[str] = (),
    offset: int = 0,
) -> list[Scene]:
    """Read every GeoTIFF of a folder as a clear scene of one region, in order of name.

    Args:
        folder: Of GeoTIFFs.
        region: What to call the place.
        bands: Common names.
        without: File names without suffix to leave out.
        offset: Digital numbers to subtract, see `radiometry.harmonise`.

    Raises:
        InputError: The folder holds no GeoTIFF, or one cannot be read, is empty or shows nothing but cloud.
    """
    found = sorted(folder.glob("*.tif*"))
    _refuse_unknown(folder, without, {path.stem for path in found})
    paths = [path for path in found if path.stem not in without]
    if not paths:
        raise InputError(f"{folder} holds no GeoTIFF to train on; give a folder of *.tif")
    scenes = []
    for path in paths:
        image, frame = _read_geotiff(path, bands, offset)
        _check_clear(path, image, bands, offset)
        scenes.append(clear_scene(f"{folder.name}/{path.stem}", region, image, frame))
    return scenes


def _refuse_unknown(folder: Path, without: Collection[str], names: Collection[str]) -> None:
    """A slip of the pen must not bring back what was judged unfit."""
    if unknown := sorted(set(without) - set(names)):
        raise InputError(
            f"{folder} has no {unknown[0]} to leave out; name files that are there, without suffix"
        )


def _check_clear(path: Path, image: Floats, bands: Sequence[str], offset: int) -> None:
    """Refuse a clear image without ground in it, and warn of one that seems to carry the BOA offset."""
    known = seen(image)
    if not known.any():
        raise InputError(f"{path} holds no data at all; leave it out (without = ['{path.stem}'])")
    # Neither fields nor towns nor sand are above 0.3 in every band nearly everywhere.
    white = float(np.mean(np.all(image[known] > 0.3, axis=-1)))
    if white > 0.95:
        raise InputError(
            f"{path} is to be clear, and {white:.0%} of it is as bright as cloud or snow; leave it out "
            f"(without = ['{path.stem}'])"
        )
    if "red" in bands and not offset:
        red = np.rint(image[..., list(bands).index("red")] * 10_000).astype(np.uint16)
        if check_histogram(red, 0, valid=known) is Verdict.CONTRADICTS:
            log.warning(
                "%s looks as if the BOA offset were still in it: if it is L2A of baseline 04.00 or later, "
                "say offset = %d",
                path,
                BOA_OFFSET,
            )


def read_pair(cloudy: Path, clear: Path, region: str, bands: Sequence[str] = BANDS, offset: int = 0) -> Pair:
    """Read a cloudy and a clear GeoTIFF of one place; what is hidden is judged by their difference.

    Args:
        cloudy: The cloudy look.
        clear: The clear one, a few days before or after.
        region: What to call the place.
        bands: Common names.
        offset: Digital numbers to subtract from both, see `radiometry.harmonise`.

    Raises:
        InputError: They differ in shape, CRS or place, one lies beside the other, there is nothing to learn
            from them (no data, all cloud), or they cannot be read.
    """
    (covered, over), (ground, under) = (_read_geotiff(path, bands, offset) for path in (cloudy, clear))
    if covered.shape != ground.shape:
        raise InputError(
            f"{cloudy} is {_by(covered)} pixels and {clear} is {_by(ground)}: no pair; cut both to one grid"
        )
    _refuse_apart(cloudy, over, clear, under)
    _check_clear(clear, ground, bands, offset)
    # Without a classification: much brighter in green is cloud, much darker in all bands shadow.
    brighter = covered[..., 0] - ground[..., 0] > 0.04
    darker = np.all(covered < 0.7 * ground, axis=-1)
    masked = binary_dilation(brighter | darker, iterations=3)
    valid = seen(covered) & seen(ground)
    if not valid.any():
        raise InputError(f"{cloudy} and {clear} have no pixel with data in both; leave the pair out")
    if not (valid & ~brighter & ~darker).any():
        raise InputError(
            f"{cloudy} shows nothing but cloud where {clear} has data; leave the pair out, or use the "
            "clear one alone"
        )
    refuse_unregistered(f"{cloudy.name} and {clear.name}", covered, ground, valid & ~masked)
    return Pair(cloudy.stem, region, covered, ground, masked, valid, under)


def _refuse_apart(cloudy: Path, over: Frame | None, clear: Path, under: Frame | None) -> None:
    """Refuse two files that lie on different maps, or in different places of one."""
    if over is None or under is None:
        return  # a picture trains as well without a map; the pixels are asked later
    if over.crs != under.crs:
        raise InputError(
            f"{cloudy} is in {over.crs} and {clear} is in {under.crs}: no pair; reproject one to the "
            "other's grid"
        )
    col, row = ~under.transform @ (over.transform @ (0.0, 0.0))
    far_col, far_row = ~under.transform @ (over.transform @ (1000.0, 1000.0))
    if max(abs(col), abs(row), abs(far_col - 1000), abs(far_row - 1000)) > 0.1:
        raise InputError(
            f"{cloudy} begins {row:.1f} rows below and {col:.1f} columns right of {clear}, or has other "
            "pixels: no pair; "
            "resample one to the other's grid"
        )


def _by(image: Floats) -> str:
    return f"{image.shape[0]} x {image.shape[1]}"


def read_pairs(
    folder: Path,
    region: str = "",
    bands: Sequence[str] = BANDS,
    without: Collection[str] = (),
    offset: int = 0,
) -> list[Pair]:
    """Read the cloudy and clear GeoTIFFs of a folder.

    Args:
        folder: With an `index.csv` of columns clear, cloudy (file names) and perhaps region; or with the
            sub-folders `clear` and `cloudy` that hold files of the same names.
        region: What to call the place, where no index tells.
        bands: Common names.
        without: Names without suffix of cloudy files whose pairs to leave out.
        offset: Digital numbers to subtract, see `radiometry.harmonise`.

    Raises:
        InputError: There are no pairs, or no region, or a pair cannot be used, see `read_pair`.
    """
    index = folder / "index.csv"
    named = list(_indexed(index) if index.exists() else _side_by_side(folder))
    _refuse_unknown(folder, without, {row[0].stem for row in named})
    named = [row for row in named if row[0].stem not in without]
    if not named:
        raise InputError(f"{folder} holds no pairs; give it an index.csv, or sub-folders clear and cloudy")
    if not region and not all(row[2] for row in named):
        raise InputError(
            f"the pairs in {folder} have no region; name it, or add a column region to its index.csv"
        )
    return [read_pair(cloudy, clear, place or region, bands, offset) for cloudy, clear, place in named]


def _indexed(index: Path) -> Iterator[tuple[Path, Path, str]]:
    with index.open(newline="") as file:
        rows = csv.DictReader(file)
        if lacking := {"clear", "cloudy"} - set(rows.fieldnames or ()):
            raise InputError(
                f"{index} has no column {sorted(lacking)[0]}; it names a clear and a cloudy file a line"
            )
        for row in rows:
            yield index.parent / row["cloudy"], index.parent / row["clear"], row.get("region") or ""


def _side_by_side(folder: Path) -> Iterator[tuple[Path, Path, str]]:
    for cloudy in sorted((folder / "cloudy").glob("*.tif*")):
        clear = folder / "clear" / cloudy.name
        if not clear.exists():
            raise InputError(f"{cloudy} has no clear look {clear}; add it, or leave the cloudy one out")
        yield cloudy, clear, ""


def opened(path: Path | str) -> rasterio.DatasetReader:
    """Open an image, with or without a map."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)  # a picture trains as well without a map
        return rasterio.open(path)

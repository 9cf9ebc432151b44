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
import shapely
from numpy.typing import NDArray
from rasterio.errors import NotGeoreferencedWarning
from scipy.ndimage import binary_dilation

from cloudgan.errors import InputError
from cloudgan.sentinel2.bands import MAX_NUMBER, common_name, to_numbers
from cloudgan.sentinel2.offset import BOA_OFFSET, Verdict, check_histogram, harmonise
from cloudgan.training.data.faults import name_unreadable
from cloudgan.training.data.imagery import Floats, Frame, Image, Pair, clear_image, has_data
from cloudgan.training.data.registration import refuse_unregistered
from cloudgan.training.data.sites import reflectance_of, warn_of_outliers

log = logging.getLogger(__name__)


def read_geotiff(path: Path, bands: Sequence[str], offset: int = 0) -> Floats:
    """Read bands of a GeoTIFF by name, from the descriptions that its bands carry.

    Args:
        path: Integers of reflectance x 10000, or floats of reflectance.
        bands: Common names (green) in the order wanted; descriptions may say B03 or green.
        offset: Digital numbers to subtract, see `offset.harmonise`.

    Returns:
        Reflectance, shape (height, width, bands); 0 is no data.

    Raises:
        InputError: The file cannot be read, lacks a band, or holds NaN that it does not declare as no data.
    """
    return _read_geotiff(path, bands, offset)[0]


def _read_geotiff(path: Path, bands: Sequence[str], offset: int) -> tuple[Floats, Frame | None]:
    """The pixels of a GeoTIFF and where they lie."""
    with name_unreadable(path, "an image", "give a GeoTIFF"):
        with open_image(path) as source:
            names = [common_name(text or "") for text in source.descriptions]
            if missing := [band for band in bands if band not in names]:
                raise InputError(
                    f"{path} has no band {missing[0]}; its bands are described as {names}: set the "
                    "descriptions to the bands' names"
                )
            values = source.read([names.index(band) + 1 for band in bands])
            nodata = source.nodata
            frame = Frame(source.crs.to_string(), source.transform) if source.crs else None
        if (
            frame is not None
            and not np.isfinite(shapely.get_coordinates(frame.outline(values.shape[1:]))).all()
        ):
            raise InputError(f"{path} lies in no place on Earth ({frame.crs}); give it a frame, or none")
    if nodata is None or not math.isnan(nodata):
        _refuse_nan(path, values, bands)
    if nodata is not None:
        values = np.where(values == nodata, 0, values)
    if offset:
        if not np.issubdtype(values.dtype, np.integer):
            raise InputError(
                f"{path} holds {values.dtype}, and an offset is of digital numbers; leave offset away"
            )
        values = harmonise(np.clip(values, 0, MAX_NUMBER).astype(np.uint16), offset)
    warn_of_outliers(str(path), values)
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


def read_clear(
    path: Path,
    region: str,
    bands: Sequence[str],
    exclude: Collection[str] = (),
    offset: int = 0,
) -> list[Image]:
    """Read GeoTIFFs as clear images, in order of name.

    Args:
        path: One file; a folder of them; or a folder of pairs with an `index.csv`, of which the clear ones
            are read.
        region: What to call the place, where no index states it.
        bands: Common names.
        exclude: File names without suffix, or regions of the index, to leave out.
        offset: Digital numbers to subtract, see `offset.harmonise`.

    Raises:
        InputError: There is no GeoTIFF, or one cannot be read, is empty or shows nothing but cloud.
    """
    listed = list(_list_clear(path))
    _refuse_unknown(path, exclude, {name for file, place in listed for name in (file.stem, place)})
    kept = [(file, place) for file, place in listed if not {file.stem, place} & set(exclude)]
    if not kept:
        raise InputError(f"{path} holds no GeoTIFF to train on; give a folder of *.tif")
    _refuse_nameless(path, region, [place for _, place in kept])
    images = []
    for file, place in kept:
        reflectance, frame = _read_geotiff(file, bands, offset)
        _check_clear(file, reflectance, bands, offset)
        images.append(clear_image(f"{file.parent.name}/{file.stem}", place or region, reflectance, frame))
    return images


def _list_clear(path: Path) -> Iterator[tuple[Path, str]]:
    """Files of clear images, and the regions that an index states."""
    index = path / "index.csv"
    if path.is_file():
        yield path, ""
    elif index.exists():
        yield from dict.fromkeys((clear, place) for _, clear, place in _read_index(index))
    else:
        yield from ((file, "") for file in sorted(path.glob("*.tif*")))


def _refuse_unknown(path: Path, exclude: Collection[str], names: Collection[str]) -> None:
    """A slip of the pen must not bring back what was found unfit."""
    if unknown := sorted(set(exclude) - set(names)):
        raise InputError(
            f"{path} has no {unknown[0]} to leave out; name files that are there, without suffix"
        )


def _refuse_nameless(path: Path, region: str, stated: Sequence[str]) -> None:
    if not region and not all(stated):
        raise InputError(
            f"the images in {path} have no region; name it, or add a column region to its index.csv"
        )


def _check_clear(path: Path, image: Floats, bands: Sequence[str], offset: int) -> None:
    """Refuse a clear image that shows no surface, and warn of one that seems to carry the BOA offset."""
    known = has_data(image)
    if not known.any():
        raise InputError(f"{path} holds no data at all; leave it out (exclude = ['{path.stem}'])")
    # Neither fields nor towns nor sand are above 0.3 in every band nearly everywhere.
    white = float(np.mean(np.all(image[known] > 0.3, axis=-1)))
    if white > 0.95:
        raise InputError(
            f"{path} is to be clear, and {white:.0%} of it is as bright as cloud or snow; leave it out "
            f"(exclude = ['{path.stem}'])"
        )
    if "red" in bands and not offset:
        red = to_numbers(image[..., list(bands).index("red")])
        if check_histogram(red, 0, valid=known) is Verdict.CONTRADICTS:
            log.warning(
                "%s seems to carry the BOA offset still: if it is L2A of baseline 04.00 or later, "
                "say offset = %d",
                path,
                BOA_OFFSET,
            )


def read_pair(cloudy: Path, clear: Path, region: str, bands: Sequence[str], offset: int = 0) -> Pair:
    """Read a cloudy and a clear GeoTIFF of one place; what is masked follows from their difference.

    Args:
        cloudy: The cloudy image.
        clear: The clear one, a few days before or after.
        region: What to call the place.
        bands: Common names.
        offset: Digital numbers to subtract from both, see `offset.harmonise`.

    Raises:
        InputError: They differ in shape, CRS or place, one lies beside the other, there is nothing to learn
            from them (no data, all cloud), or they cannot be read.
    """
    (covered, over), (surface, under) = (_read_geotiff(path, bands, offset) for path in (cloudy, clear))
    if covered.shape != surface.shape:
        raise InputError(
            f"{cloudy} is {_size(covered)} pixels and {clear} is {_size(surface)}: no pair; cut both to one "
            "grid"
        )
    _refuse_apart(cloudy, over, clear, under)
    _check_clear(clear, surface, bands, offset)
    # Without a classification: much brighter in green is cloud, much darker in all bands shadow.
    brighter = covered[..., 0] - surface[..., 0] > 0.04
    darker = np.all(covered < 0.7 * surface, axis=-1)
    masked = binary_dilation(brighter | darker, iterations=3)
    valid = has_data(covered) & has_data(surface)
    if not valid.any():
        raise InputError(f"{cloudy} and {clear} have no pixel with data in both; leave the pair out")
    if not (valid & ~brighter & ~darker).any():
        raise InputError(
            f"{cloudy} shows nothing but cloud where {clear} has data; leave the pair out, or use the "
            "clear one alone"
        )
    refuse_unregistered(f"{cloudy.name} and {clear.name}", covered, surface, valid & ~masked)
    return Pair(cloudy.stem, region, covered, surface, masked, valid, under)


def _refuse_apart(cloudy: Path, over: Frame | None, clear: Path, under: Frame | None) -> None:
    """Refuse two files that lie on different maps, or in different places of one."""
    if over is None or under is None:
        return  # an image trains as well without a map; its pixels are compared later
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
            "pixels: no pair; resample one to the other's grid"
        )


def _size(image: Floats) -> str:
    return f"{image.shape[0]} x {image.shape[1]}"


def read_pairs(
    folder: Path,
    region: str,
    bands: Sequence[str],
    exclude: Collection[str] = (),
    offset: int = 0,
) -> list[Pair]:
    """Read the cloudy and clear GeoTIFFs of a folder.

    Args:
        folder: With an `index.csv` of columns clear, cloudy (file names) and perhaps region; or with the
            sub-folders `clear` and `cloudy` that hold files of the same names.
        region: What to call the place, where no index states it.
        bands: Common names.
        exclude: Names without suffix of cloudy files, or regions of the index, whose pairs to leave out.
        offset: Digital numbers to subtract, see `offset.harmonise`.

    Raises:
        InputError: There are no pairs, or no region, or a pair cannot be used, see `read_pair`.
    """
    index = folder / "index.csv"
    listed = list(_read_index(index) if index.exists() else _match_names(folder))
    _refuse_unknown(folder, exclude, {name for cloudy, _, place in listed for name in (cloudy.stem, place)})
    kept = [row for row in listed if not {row[0].stem, row[2]} & set(exclude)]
    if not kept:
        raise InputError(f"{folder} holds no pairs; give it an index.csv, or sub-folders clear and cloudy")
    _refuse_nameless(folder, region, [place for _, _, place in kept])
    return [read_pair(cloudy, clear, place or region, bands, offset) for cloudy, clear, place in kept]


def _read_index(index: Path) -> Iterator[tuple[Path, Path, str]]:
    """Cloudy file, clear file and region of each line."""
    with (
        name_unreadable(index, "a table", "save it as CSV, in UTF-8"),
        index.open(newline="", encoding="utf-8-sig") as file,
    ):
        rows = csv.DictReader(file)
        lacking = {"clear", "cloudy"} - set(rows.fieldnames or ())
        lines = list(rows)
    if lacking:
        raise InputError(
            f"{index} has no column {sorted(lacking)[0]}; it names a clear and a cloudy file a line"
        )
    for number, row in enumerate(lines, start=2):
        if not row["cloudy"] or not row["clear"]:
            raise InputError(f"line {number} of {index} does not name a cloudy and a clear file; complete it")
        yield index.parent / row["cloudy"], index.parent / row["clear"], row.get("region") or ""


def _match_names(folder: Path) -> Iterator[tuple[Path, Path, str]]:
    for cloudy in sorted((folder / "cloudy").glob("*.tif*")):
        clear = folder / "clear" / cloudy.name
        if not clear.exists():
            raise InputError(f"{cloudy} has no clear image {clear}; add it, or leave the cloudy one out")
        yield cloudy, clear, ""


def open_image(path: Path | str) -> rasterio.DatasetReader:
    """Open an image, with or without a map."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)  # an image trains as well without a map
        return rasterio.open(path)

"""Time series of one place as a `Site`: its pixels as digital numbers, its dates, its parts."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from cloudgan.errors import InputError
from cloudgan.geo.grid import Lattice, Window
from cloudgan.io.encodings import LARGEST_REFLECTANCE
from cloudgan.observations import BUFFER_METRES, Observations, Site, metres_to_pixels
from cloudgan.sentinel2.bands import MAX_NUMBER, REFLECTANCE_SCALE
from cloudgan.sentinel2.classification import ClassRules, PixelClass, classify
from cloudgan.training.data.imagery import Floats, Image, Pair

log = logging.getLogger(__name__)

MAX_TRUSTED_CLOUD = 0.3
"""Share of a date under cloud or shadow up to which its clear pixels are taken for the truth by default."""
DEFAULT_RESOLUTION = 10.0
"""Edge of a pixel in metres where nothing states it."""
_NEXT_TO_NOTHING = 0.1  # share of its pixels that a date must show to be kept


def reflectance_of(values: NDArray[np.generic]) -> Floats:
    """Values of shape (bands, ...) as reflectance of shape (..., bands); see `numbers_of`."""
    numbers = holds_numbers(values)
    known = _known_values(values, numbers)
    # Divided, which rounds correctly: thresholds on reflectance then fall between digital numbers.
    reflectance = known / np.float32(1 / REFLECTANCE_SCALE if numbers else 1)
    return np.moveaxis(np.where(reflectance < 0, np.float32(REFLECTANCE_SCALE), reflectance), 0, -1)


def holds_numbers(values: NDArray[np.generic]) -> bool:
    """Whether values are digital numbers, not reflectance: integers, or floats most of which are too large.

    Some files keep digital numbers as floats, to have NaN. A few large values among reflectance are errors.
    """
    if values.dtype.kind in "iub":
        return True
    known = values[np.isfinite(values) & (values != 0)].astype(np.float64)
    return bool(len(known)) and float(np.mean(known > LARGEST_REFLECTANCE)) > 0.5


def warn_of_outliers(name: str, values: NDArray[np.generic]) -> None:
    """Warn of floats that are no reflectance among others that are: they count as no data."""
    count = int(np.count_nonzero(np.isfinite(values) & (values.astype(np.float64) > LARGEST_REFLECTANCE)))
    if count and not holds_numbers(values):
        log.warning(
            "%s holds %s values above %g among reflectance: they are taken for no data",
            name,
            f"{count:,}",
            LARGEST_REFLECTANCE,
        )


def _known_values(values: NDArray[np.generic], numbers: bool) -> NDArray[np.float32]:
    """Values as float32, 0 where they are no numbers, or no reflectance."""
    known = np.nan_to_num(values.astype(np.float32), posinf=0, neginf=0)
    return known if numbers else np.where(known > LARGEST_REFLECTANCE, np.float32(0), known)


def numbers_of(values: NDArray[np.generic], numbers: bool) -> NDArray[np.uint16]:
    """Values of a band as digital numbers of which 0 alone is no data, of the same shape.

    Args:
        values: Digital numbers or reflectance; 0 and what is not finite is no data.
        numbers: Whether they are digital numbers, see `holds_numbers`.
    """
    known = _known_values(values, numbers)
    scaled = np.rint(known if numbers else known / np.float32(REFLECTANCE_SCALE))
    # Corrections of the atmosphere go to zero and below over dark surface, which is not missing for that.
    clipped = np.clip(scaled, (known != 0).astype(np.float32), MAX_NUMBER)
    return clipped.astype(np.uint16)


def make_site(
    name: str,
    region: str,
    resolution: float,
    observations: Observations,
    *,
    max_trusted_cloud: float = MAX_TRUSTED_CLOUD,
    lattice: Lattice | None = None,
) -> Site:
    """A site whose dates are trusted where little of them is cloudy; dates that show nothing are left out.

    Args:
        name: What to call it.
        region: What to call the place.
        resolution: Edge of a pixel in metres.
        observations: All dates.
        max_trusted_cloud: Share of a date under cloud or shadow from which on it is not trusted.
        lattice: What the window counts on, if that is known.
    """
    shown = 1 - np.mean(observations.pixel_classes == PixelClass.NO_DATA, axis=(1, 2))
    observations = observations.select_dates(shown > _NEXT_TO_NOTHING)
    trusted = np.mean(observations.pixel_classes == PixelClass.CLOUDY, axis=(1, 2)) < max_trusted_cloud
    buffer = metres_to_pixels(BUFFER_METRES, resolution)
    return Site(name, region, resolution, buffer, observations, trusted, lattice=lattice)


def classify_by_data(bands: Mapping[str, NDArray[np.uint16]]) -> NDArray[np.uint8]:
    """Pixel classes where there is no classification: what has data is clear."""
    unknown = np.zeros(next(iter(bands.values())).shape, np.uint8)
    return classify(unknown, bands, ClassRules(is_used=False))


def exclude_dates(site: Site, dates: Collection[str]) -> Site:
    """The site without some dates, such as 2018-10-18.

    Raises:
        InputError: It has no such date, or a name is no date.
    """
    return site.select_dates(~_find_dates(site, dates, "leave out"))


def distrust_dates(site: Site, dates: Collection[str]) -> Site:
    """The site with some dates no longer trusted: they stay among the observations, never as the truth.

    Raises:
        InputError: See `exclude_dates`.
    """
    return replace(site, trusted=site.trusted & ~_find_dates(site, dates, "distrust"))


def _find_dates(site: Site, dates: Collection[str], purpose: str) -> NDArray[np.bool_]:
    days = site.observations.days
    try:
        wanted = {int(np.datetime64(date, "D").astype(np.int64)) for date in dates}
    except ValueError as error:
        raise InputError(
            f"{site.name} cannot {purpose} {sorted(dates)} ({error}); write dates as 2018-10-18"
        ) from error
    if unknown := wanted - set(days.tolist()):
        raise InputError(
            f"{site.name} has no date {np.datetime64(min(unknown), 'D')} to {purpose}; it has dates from "
            f"{np.datetime64(int(days[0]), 'D')} to {np.datetime64(int(days[-1]), 'D')}"
        )
    return np.isin(days, sorted(wanted))


def split_at_column(site: Site, column: int) -> tuple[Site, Site]:
    """Cut a place in a western and an eastern region at a column, to train on one and evaluate on the other.

    Raises:
        InputError: The column leaves one of them empty.
    """
    window = site.observations.window
    if not 0 < column < window.width:
        raise InputError(f"column {column} does not cut {site.name}, {window.width} pixels wide")
    cut = window.col + column
    west = Window.between(window.row, window.col, window.bottom, cut)
    east = Window.between(window.row, cut, window.bottom, window.right)
    return site.crop(west, "west"), site.crop(east, "east")


def site_of_images(
    name: str, images: Sequence[Image], bands: Sequence[str], resolution: float, days_between: int
) -> Site:
    """A site of clear images of one place, so many days apart.

    Args:
        name: What to call it.
        images: In order of time, of one shape.
        bands: Their bands.
        resolution: Edge of a pixel in metres.
        days_between: Days from one to the next.

    Raises:
        InputError: Their shapes or regions differ.
    """
    if len({(image.region, image.reflectance.shape) for image in images}) > 1:
        raise InputError(f"the images of {name} differ in shape or region and are no time series")
    arrays = _stack_bands([image.reflectance for image in images], bands)
    days = np.arange(len(images), dtype=np.int64) * days_between
    window = Window(0, 0, *images[0].valid.shape)
    observations = Observations(window, arrays, classify_by_data(arrays), days)
    return make_site(name, images[0].region, resolution, observations)


def site_of_pair(pair: Pair, bands: Sequence[str], resolution: float, days_between: int) -> Site:
    """A site of two dates: the clear one, which is trusted, and then the cloudy one, which is not.

    Args:
        pair: Both images.
        bands: Their bands.
        resolution: Edge of a pixel in metres.
        days_between: Days from one to the other.
    """
    arrays = _stack_bands([pair.clear, pair.cloudy], bands)
    pixel_classes = classify_by_data(arrays)
    pixel_classes[1][pair.masked] = PixelClass.CLOUDY
    days = np.array([0, days_between], np.int64)
    observations = Observations(Window(0, 0, *pair.masked.shape), arrays, pixel_classes, days)
    site = make_site(pair.name, pair.region, resolution, observations)
    return replace(site, trusted=site.observations.days == 0)


def _stack_bands(images: Sequence[Floats], bands: Sequence[str]) -> dict[str, NDArray[np.uint16]]:
    return {
        band: np.stack([numbers_of(image[..., at], numbers=False) for image in images])
        for at, band in enumerate(bands)
    }

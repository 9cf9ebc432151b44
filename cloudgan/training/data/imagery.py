"""What generators of single images learn from: clear images, pairs and cloudy images, split by region.

Every image carries the name of its region: what is held out is held out by region, never by patch, because
two patches of one place are nearly the same picture. Where the map is known, surface shared by two sides of a
split is found and refused, whatever its regions are called.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import shapely
from affine import Affine
from numpy.typing import NDArray
from pyproj import Transformer
from scipy.ndimage import binary_dilation, zoom
from shapely.geometry.base import BaseGeometry

from cloudgan.errors import InputError
from cloudgan.geo.grid import Grid
from cloudgan.observations import Site, is_empty
from cloudgan.sentinel2.bands import REFLECTANCE_SCALE, SATURATED_NUMBER, to_reflectance
from cloudgan.sentinel2.classification import CLOUD_CLASSES, UNUSABLE_CLASSES, PixelClass, Scl

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]

PairWith = Literal["nearest", "every"]
"""Which clear dates of a series a cloudy one makes pairs with."""

_BORDER = 0.01  # share of the smaller region that two neighbours may have in common: pixels on their border
_CLEAR_SHARE = 0.1  # a trusted date with less cloud and shadow than this, of its pixels with data, is clear
_KNOWN_SHARE = 0.5  # and it has data in at least this share of its pixels
_COVERED_SHARE = 0.95  # a date with more cloud teaches nothing as one of a pair
_CLOUD_EDGE = 2  # pixels around cloud and shadow that their classification misses


@dataclass(frozen=True, slots=True)
class Frame:
    """Where an image lies on the map."""

    crs: str
    """`EPSG:32633`, or WKT where there is no code."""
    transform: Affine
    """From (column, row) of pixel corners to map coordinates."""

    def outline(self, shape: tuple[int, int]) -> BaseGeometry:
        """The outline of an image of `shape` (rows, columns), in longitude and latitude."""
        rows, cols = shape
        # A straight edge on one map is a curve on another: five points an edge follow it to a few metres.
        ring = shapely.segmentize(shapely.box(0, 0, cols, rows), max(rows, cols) / 4)
        col, row = shapely.get_coordinates(ring).T
        x, y = self.transform @ (col, row)
        lon, lat = Transformer.from_crs(self.crs, 4326, always_xy=True).transform(x, y)
        return shapely.Polygon(np.stack([lon, lat], axis=-1))


@dataclass(frozen=True, slots=True)
class Image:
    """One image of the surface, or of clouds over it."""

    name: str
    """Where it came from."""
    region: str
    """The place; the unit of the split."""
    reflectance: Floats
    """Shape (height, width, bands); 0 is no data."""
    valid: Mask
    """Where the surface is in clear view, shape (height, width)."""
    cloud: Mask | None = None
    """Where the classification says cloud, if there is one."""
    shadow: Mask | None = None
    """Where the classification says cloud shadow, if there is one."""
    frame: Frame | None = None
    """Where it lies, if that is known."""


@dataclass(frozen=True, slots=True)
class Pair:
    """Two images of one place, days apart: one cloudy, one clear."""

    name: str
    """Where it came from."""
    region: str
    """The place; the unit of the split."""
    cloudy: Floats
    """Reflectance, shape (height, width, bands)."""
    clear: Floats
    """Reflectance, same shape."""
    masked: Mask
    """Where cloud or shadow lies in the cloudy image, shape (height, width)."""
    valid: Mask
    """Where the clear image shows the surface and the cloudy one has data, shape (height, width)."""
    frame: Frame | None = None
    """Where both lie, if that is known."""


@dataclass(frozen=True, slots=True)
class Imagery:
    """What a run learns from, or is evaluated on."""

    clear: tuple[Image, ...] = ()
    """Clear images, to put simulated clouds over."""
    pairs: tuple[Pair, ...] = ()
    """Real clouds with a clear image of the same surface."""
    cloudy: tuple[Image, ...] = ()
    """Real cloudy images with cloud and shadow masks, to composite clouds from."""

    def __add__(self, other: Imagery) -> Imagery:
        """Both together."""
        return Imagery(self.clear + other.clear, self.pairs + other.pairs, self.cloudy + other.cloudy)

    def regions(self) -> tuple[str, ...]:
        """Names of all regions with clear images or pairs, sorted."""
        return tuple(sorted({image.region for image in self.clear} | {pair.region for pair in self.pairs}))

    def split(self, held_out: Collection[str]) -> tuple[Imagery, Imagery]:
        """Training and validation imagery.

        Args:
            held_out: Names of the regions to validate on.

        Raises:
            InputError: A name is no region, nothing is left to train on or to validate on, or surface of one
                side lies on the map where surface of the other does.
        """
        check_split(self.regions(), held_out)

        def select(held: bool) -> Imagery:
            return Imagery(
                tuple(image for image in self.clear if (image.region in held_out) is held),
                tuple(pair for pair in self.pairs if (pair.region in held_out) is held),
                tuple(image for image in self.cloudy if (image.region in held_out) is held),
            )

        training, validation = select(False), select(True)
        refuse_shared_surface(training.outlines(), validation.outlines())
        return training, validation

    def outlines(self) -> dict[str, BaseGeometry]:
        """By region, the surface whose place is known, in longitude and latitude."""
        images: tuple[Image | Pair, ...] = (*self.clear, *self.pairs)
        return _outlines((one.region, one.frame, one.valid.shape) for one in images)


def split_sites(sites: Collection[Site], held_out: Collection[str]) -> tuple[list[Site], list[Site]]:
    """Training and held-out sites, by region.

    Args:
        sites: All of them.
        held_out: Names of the regions to validate on.

    Raises:
        InputError: See `Imagery.split`.
    """
    check_split({site.region for site in sites}, held_out)
    training = [site for site in sites if site.region not in held_out]
    validation = [site for site in sites if site.region in held_out]
    shared = (
        _outlines((site.region, frame_of(site), site.observations.window.shape) for site in side)
        for side in (training, validation)
    )
    refuse_shared_surface(*shared)
    return training, validation


def check_split(regions: Collection[str], held_out: Collection[str]) -> None:
    """Refuse to hold out what is no region, all regions, or none.

    Raises:
        InputError: As said.
    """
    if unknown := set(held_out) - set(regions):
        raise InputError(f"no such regions to hold out: {sorted(unknown)}; there are {sorted(set(regions))}")
    if not held_out or not set(regions) - set(held_out):
        raise InputError(
            f"hold out some of the regions {sorted(set(regions))} but not all, got {sorted(held_out)}"
        )


def refuse_shared_surface(training: dict[str, BaseGeometry], validation: dict[str, BaseGeometry]) -> None:
    """Make sure that nothing is evaluated on surface that it is trained on.

    Neighbours may share their border: up to a hundredth of the smaller region.

    Args:
        training: Surface by region, in longitude and latitude.
        validation: Likewise.

    Raises:
        InputError: Two regions share more.
    """
    for held, surface in validation.items():
        for name, other in training.items():
            share = surface.intersection(other).area / min(surface.area, other.area)
            if share > _BORDER:
                raise InputError(
                    f"regions {held}, to validate on, and {name}, to train on, share {share:.0%} of the "
                    "surface of the smaller: give both one region, or leave one out"
                )


def _outlines(places: Iterable[tuple[str, Frame | None, tuple[int, ...]]]) -> dict[str, BaseGeometry]:
    frames: dict[str, set[tuple[Frame, tuple[int, int]]]] = {}
    for region, frame, (height, width) in places:
        if frame is not None:
            frames.setdefault(region, set()).add((frame, (height, width)))
    return {
        region: shapely.union_all([frame.outline(shape) for frame, shape in known])
        for region, known in frames.items()
    }


def frame_of(site: Site) -> Frame | None:
    """Where a site lies, if that is known."""
    if site.lattice is None:
        return None
    grid = Grid(site.lattice, site.observations.window)
    return Frame(f"EPSG:{grid.epsg}", grid.transform)


def imagery_of(site: Site, pair_with: PairWith = "nearest", max_pair_days: int = 10) -> Imagery:
    """What the generators that see one image learn from a time series.

    Trusted dates nearly without cloud are clear images, the other dates with cloud and shadow cloudy ones.
    A cloudy date with the clear date nearest in time, or with each clear date, is a pair.

    Args:
        site: Observations of one place.
        pair_with: Which clear dates a cloudy one makes pairs with.
        max_pair_days: Days at most between the dates of a pair.

    Raises:
        InputError: No date is clear.
    """
    classes, days = site.observations.pixel_classes, site.observations.days
    shares = cloud_shares(classes)
    clear = site.trusted & (shares < _CLEAR_SHARE) & ((~is_empty(classes)).mean(axis=(1, 2)) > _KNOWN_SHARE)
    if not clear.any():
        raise InputError(
            f"{site.name} has no trusted date with less than {_CLEAR_SHARE:.0%} cloud and data in more than "
            "half of the place; give more dates or another area"
        )
    cloudy = np.flatnonzero(~clear & (shares >= _CLEAR_SHARE))
    images = {int(at): _image_of(site, int(at)) for at in (*np.flatnonzero(clear), *cloudy)}
    pairs = []
    for at in cloudy[shares[cloudy] < _COVERED_SHARE]:
        gaps = np.where(clear, np.abs(days - days[at]), np.iinfo(np.int64).max)
        near = np.flatnonzero(gaps <= max_pair_days)
        chosen = near if pair_with == "every" else near[gaps[near].argsort(kind="stable")[:1]]
        pairs += [pair_images(images[int(at)], images[int(other)]) for other in chosen]
    return Imagery(
        tuple(images[int(at)] for at in np.flatnonzero(clear)),
        tuple(pairs),
        tuple(images[int(at)] for at in cloudy),
    )


def cloud_shares(pixel_classes: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Share of the pixels with data that are cloudy, by date; argument of shape (time, y, x)."""
    known = (~is_empty(pixel_classes)).sum(axis=(1, 2))
    shares: NDArray[np.float64] = np.sum(pixel_classes == PixelClass.CLOUDY, axis=(1, 2)) / np.maximum(
        known, 1
    )
    return shares


def _image_of(site: Site, at: int) -> Image:
    one = site.observations
    name = f"{site.name} {np.datetime64(int(one.days[at]), 'D')}"
    reflectance = np.stack([to_reflectance(band[at]) for band in one.bands.values()], axis=-1)
    frame = frame_of(site)
    if one.scl is None:
        valid = one.pixel_classes[at] == PixelClass.CLEAR
        return Image(name, site.region, reflectance, valid, frame=frame)
    return classified_image(name, site.region, reflectance, one.scl[at], frame)


def classified_image(
    name: str, region: str, reflectance: Floats, scl: NDArray[np.uint8], frame: Frame | None = None
) -> Image:
    """An image with the masks of its classification; valid two pixels away from what masks the surface."""
    cloud, shadow = np.isin(scl, CLOUD_CLASSES), scl == Scl.CLOUD_SHADOW
    masked = cloud | shadow | np.isin(scl, UNUSABLE_CLASSES)
    valid = has_data(reflectance) & ~binary_dilation(masked, iterations=_CLOUD_EDGE)
    return Image(name, region, reflectance, valid, cloud, shadow, frame)


def clear_image(name: str, region: str, reflectance: Floats, frame: Frame | None = None) -> Image:
    """An image that is clear wherever it has data."""
    return Image(name, region, reflectance, has_data(reflectance), frame=frame)


def pair_images(cloudy: Image, clear: Image) -> Pair:
    """Two classified images on one grid as a pair.

    Raises:
        InputError: The cloudy image has no cloud mask, or the shapes or places differ.
    """
    if cloudy.cloud is None or cloudy.shadow is None:
        raise InputError(
            f"{cloudy.name} has no cloud mask to make a pair with; give one, or a classification"
        )
    if cloudy.reflectance.shape != clear.reflectance.shape or cloudy.frame != clear.frame:
        raise InputError(f"{cloudy.name} and {clear.name} are no pair: read both on one grid")
    masked = binary_dilation(cloudy.cloud | cloudy.shadow, iterations=1)
    name = f"{cloudy.name} / {clear.name}"
    valid = clear.valid & has_data(cloudy.reflectance)
    return Pair(name, cloudy.region, cloudy.reflectance, clear.reflectance, masked, valid, clear.frame)


def enlarge(image: Image, size: int) -> Image:
    """The image, magnified until a tile of `size` fits; as it is where one fits already."""
    smallest = min(image.valid.shape)
    if smallest >= size:
        return image
    factor = size / smallest
    reflectance = zoom(image.reflectance, (factor, factor, 1), order=1, mode="nearest", grid_mode=True)
    valid = zoom(image.valid.astype(np.float32), factor, order=1, mode="nearest", grid_mode=True) > 0.99
    return replace(image, reflectance=reflectance, valid=valid, cloud=None, shadow=None, frame=None)


def has_data(reflectance: Floats) -> Mask:
    """Where every band has data that a surface can reflect, shape (..., height, width)."""
    known: Mask = np.all((reflectance > 0) & (reflectance < SATURATED_NUMBER * REFLECTANCE_SCALE), axis=-1)
    return known

"""What training learns from, as values: scenes, pairs, and their split by region.

Every scene carries the name of its region: what is held out is held out by region, never by patch, because
two patches of one place are nearly the same picture. Where the map is known, ground shared by two sides of a
split is found and refused, whatever its regions are called.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace

import numpy as np
import shapely
from affine import Affine
from numpy.typing import NDArray
from pyproj import Transformer
from scipy.ndimage import binary_dilation, zoom
from shapely.geometry.base import BaseGeometry

from cloudgan.errors import InputError

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]

BANDS = ("green", "red", "nir")
"""The study's false colour."""
_COMMON_NAMES = {"B02": "blue", "B03": "green", "B04": "red", "B08": "nir"}
_QUANTIFICATION = 10_000.0  # Sentinel-2: digital numbers per unit of reflectance
_BORDER = (
    0.01  # share of the smaller ground that two neighbours may have in common: the pixels on their border
)


@dataclass(frozen=True, slots=True)
class Frame:
    """Where an image lies on the map."""

    crs: str
    """`EPSG:32633`, or WKT where there is no code."""
    transform: Affine
    """From (column, row) of pixel corners to map coordinates."""

    def part(self, row: int, col: int) -> Frame:
        """The frame of a part that begins at a row and a column."""
        return replace(self, transform=self.transform @ Affine.translation(col, row))

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
class Scene:
    """One image of the ground, or of clouds over it."""

    name: str
    """Where it came from."""
    region: str
    """The place; the unit of the split."""
    image: Floats
    """Reflectance, shape (height, width, bands); 0 is no data."""
    valid: Mask
    """Where the ground is truly seen, shape (height, width)."""
    cloud: Mask | None = None
    """Where the classification says cloud, if there is one."""
    shadow: Mask | None = None
    """Where the classification says cloud shadow, if there is one."""
    frame: Frame | None = None
    """Where it lies, if that is known."""


@dataclass(frozen=True, slots=True)
class Pair:
    """Two looks at one place, days apart: one cloudy, one clear."""

    name: str
    """Where it came from."""
    region: str
    """The place; the unit of the split."""
    cloudy: Floats
    """Reflectance, shape (height, width, bands)."""
    clear: Floats
    """Reflectance, same shape."""
    masked: Mask
    """Where cloud or shadow lies in the cloudy look, shape (height, width)."""
    valid: Mask
    """Where the clear look shows the ground and the cloudy one has data, shape (height, width)."""
    frame: Frame | None = None
    """Where both lie, if that is known."""


@dataclass(frozen=True, slots=True)
class Imagery:
    """What a run learns from, or is judged on."""

    clear: tuple[Scene, ...] = ()
    """Ground to put simulated clouds over."""
    pairs: tuple[Pair, ...] = ()
    """Real clouds with a clear look at the same ground."""
    cloud_fields: tuple[Scene, ...] = ()
    """Real cloudy scenes with cloud and shadow masks, to transplant clouds from."""

    def __add__(self, other: Imagery) -> Imagery:
        """Both together."""
        return Imagery(
            self.clear + other.clear, self.pairs + other.pairs, self.cloud_fields + other.cloud_fields
        )

    def regions(self) -> tuple[str, ...]:
        """Names of all regions of ground, sorted."""
        return tuple(sorted({s.region for s in self.clear} | {pair.region for pair in self.pairs}))

    def split(self, held_out: Collection[str]) -> tuple[Imagery, Imagery]:
        """Training and validation imagery.

        Args:
            held_out: Names of the regions to validate on.

        Raises:
            InputError: A name is no region, nothing is left to train on or to validate on, or ground of one
                side lies on the map where ground of the other does.
        """
        regions = set(self.regions())

        def side(held: bool) -> Imagery:
            return Imagery(
                tuple(scene for scene in self.clear if (scene.region in held_out) is held),
                tuple(pair for pair in self.pairs if (pair.region in held_out) is held),
                tuple(scene for scene in self.cloud_fields if (scene.region in held_out) is held),
            )

        if unknown := set(held_out) - regions:
            raise InputError(f"no such regions to hold out: {sorted(unknown)}; there are {sorted(regions)}")
        if not held_out or not regions - set(held_out):
            raise InputError(
                f"hold out some of the regions {sorted(regions)} but not all, got {sorted(held_out)}"
            )
        training, validation = side(False), side(True)
        refuse_shared_ground(training.outlines(), validation.outlines())
        return training, validation

    def outlines(self) -> dict[str, BaseGeometry]:
        """By region, the ground whose place is known, in longitude and latitude."""
        ground: dict[str, set[tuple[Frame, tuple[int, int]]]] = {}
        for looks in (self.clear, self.pairs):
            for look in looks:
                if look.frame is not None:
                    ground.setdefault(look.region, set()).add((look.frame, look.valid.shape))
        return {
            region: shapely.union_all([frame.outline(shape) for frame, shape in frames])
            for region, frames in ground.items()
        }


def refuse_shared_ground(training: dict[str, BaseGeometry], validation: dict[str, BaseGeometry]) -> None:
    """Make sure that nothing is judged on ground that it is trained on.

    Neighbours may share their border: up to a hundredth of the smaller ground.

    Args:
        training: Ground by region, in longitude and latitude.
        validation: Likewise.

    Raises:
        InputError: Two regions share more.
    """
    for held, ground in validation.items():
        for name, other in training.items():
            share = ground.intersection(other).area / min(ground.area, other.area)
            if share > _BORDER:
                raise InputError(
                    f"regions {held}, to validate on, and {name}, to train on, share {share:.0%} of the "
                    "ground "
                    "of the smaller: give both one region, or leave one out"
                )


def halves(scene: Scene, column: int) -> tuple[Scene, Scene]:
    """Cut a scene in a western and an eastern region at a column, to train on one and judge on the other.

    Raises:
        InputError: The column leaves one half empty.
    """
    if not 0 < column < scene.image.shape[1]:
        raise InputError(f"column {column} does not cut {scene.name}, {scene.image.shape[1]} pixels wide")

    def part(side: str, cols: slice, first: int) -> Scene:
        return replace(
            scene,
            region=f"{scene.region}-{side}",
            image=scene.image[:, cols],
            valid=scene.valid[:, cols],
            cloud=None if scene.cloud is None else scene.cloud[:, cols],
            shadow=None if scene.shadow is None else scene.shadow[:, cols],
            frame=None if scene.frame is None else scene.frame.part(0, first),
        )

    return part("west", slice(None, column), 0), part("east", slice(column, None), column)


def paired(cloudy: Scene, clear: Scene) -> Pair:
    """Two classified looks at one grid as a pair.

    Raises:
        InputError: The cloudy scene has no cloud mask, or the shapes or places differ.
    """
    if cloudy.cloud is None or cloudy.shadow is None:
        raise InputError(
            f"{cloudy.name} has no cloud mask to make a pair with; give one, or a classification"
        )
    if cloudy.image.shape != clear.image.shape or cloudy.frame != clear.frame:
        raise InputError(f"{cloudy.name} and {clear.name} are no pair: read both on one grid")
    masked = binary_dilation(cloudy.cloud | cloudy.shadow, iterations=1)
    name = f"{cloudy.name} / {clear.name}"
    valid = clear.valid & seen(cloudy.image)
    return Pair(name, cloudy.region, cloudy.image, clear.image, masked, valid, clear.frame)


def enlarged(scene: Scene, size: int) -> Scene:
    """The scene, magnified until a tile of `size` fits; as it is where one fits already."""
    smallest = min(scene.image.shape[:2])
    if smallest >= size:
        return scene
    factor = size / smallest
    image = zoom(scene.image, (factor, factor, 1), order=1, mode="nearest", grid_mode=True)
    valid = zoom(scene.valid.astype(np.float32), factor, order=1, mode="nearest", grid_mode=True) > 0.99
    return replace(scene, image=image, valid=valid, cloud=None, shadow=None, frame=None)


def clear_scene(name: str, region: str, image: Floats, frame: Frame | None = None) -> Scene:
    """A scene that is clear wherever it has data."""
    return Scene(name, region, image, seen(image), frame=frame)


def seen(image: Floats) -> Mask:
    """Where every band has data, shape (..., height, width)."""
    known: Mask = np.all(image > 0, axis=-1)
    return known


def together(parts: Iterable[Imagery]) -> Imagery:
    """All of them as one."""
    return sum(parts, Imagery())


def common_name(text: str) -> str:
    """The common name of a band that a file calls B03 or B3; any other name as it is."""
    match = re.fullmatch(r"B0?(\d+)", text)
    return _COMMON_NAMES.get(f"B{int(match[1]):02}", text) if match else text


def reflectance_of(values: NDArray[np.generic]) -> Floats:
    """Numbers of shape (bands, ...) to reflectance of shape (..., bands), NaN to no data."""
    known = np.nan_to_num(values.astype(np.float32), posinf=0, neginf=0)
    # Some files keep digital numbers as floats, to have NaN; no reflectance comes near 20.
    counts = np.issubdtype(values.dtype, np.integer) or known.max(initial=0) > 20
    reflectance = known / np.float32(_QUANTIFICATION if counts else 1)
    # Corrections of the atmosphere go below zero over dark ground, which is not missing for that.
    return np.moveaxis(np.where(reflectance < 0, np.float32(1 / _QUANTIFICATION), reflectance), 0, -1)

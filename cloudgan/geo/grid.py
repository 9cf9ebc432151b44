"""Pixels and maps: the endless pixel lattice of a UTM zone, windows on it, and grids."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from pyproj import Transformer

from cloudgan.errors import InputError


@dataclass(frozen=True, slots=True)
class Window:
    """A rectangle of pixels, counted in whole rows (southwards) and columns (eastwards) of a lattice."""

    row: int
    """Top row; negative is allowed, a lattice has no edge."""
    col: int
    """Left column; negative is allowed."""
    height: int
    """Rows, at least one."""
    width: int
    """Columns, at least one."""

    def __post_init__(self) -> None:
        if self.height <= 0 or self.width <= 0:
            raise InputError(f"a window needs at least one pixel, got {self.height} x {self.width}")

    @classmethod
    def between(cls, top: int, left: int, bottom: int, right: int) -> Window:
        """The window of rows `top` to `bottom` and columns `left` to `right`, ends excluded."""
        return cls(top, left, bottom - top, right - left)

    @property
    def bottom(self) -> int:
        """The first row below the window."""
        return self.row + self.height

    @property
    def right(self) -> int:
        """The first column right of the window."""
        return self.col + self.width

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.height, self.width

    def buffered(self, pixels: int) -> Window:
        """The window grown by `pixels` on every side."""
        return Window.between(self.row - pixels, self.col - pixels, self.bottom + pixels, self.right + pixels)

    def intersection(self, other: Window) -> Window | None:
        """The pixels that both windows hold, or None where they share none."""
        top, left = max(self.row, other.row), max(self.col, other.col)
        bottom, right = min(self.bottom, other.bottom), min(self.right, other.right)
        return Window.between(top, left, bottom, right) if top < bottom and left < right else None

    def contains(self, other: Window) -> bool:
        """Whether every pixel of `other` is in this window."""
        return self.intersection(other) == other

    def slices_in(self, outer: Window) -> tuple[slice, slice]:
        """Where this window lies in an array that holds `outer`: slices of rows and of columns.

        Raises:
            InputError: This window leaves `outer`.
        """
        if not outer.contains(self):
            raise InputError(f"window {self} leaves {outer}")
        return (
            slice(self.row - outer.row, self.bottom - outer.row),
            slice(self.col - outer.col, self.right - outer.col),
        )


@dataclass(frozen=True, slots=True)
class Lattice:
    """All pixels of one projected CRS: the frame in which tiles and windows are counted.

    Pixel (row, col) covers x from `phase_x + col * resolution` eastwards and y from
    `phase_y - row * resolution` southwards. Nothing here depends on an area of interest.
    """

    epsg: int
    """EPSG code of the CRS, a UTM zone (units: metres)."""
    resolution: float
    """Edge of a pixel in metres."""
    phase_x: float = 0.0
    """Where pixel edges lie: x modulo the resolution, in metres."""
    phase_y: float = 0.0
    """Where pixel edges lie: y modulo the resolution, in metres."""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.resolution) and self.resolution > 0):
            raise InputError(f"the resolution must be a positive number of metres, got {self.resolution}")
        if not (0 <= self.phase_x < self.resolution and 0 <= self.phase_y < self.resolution):
            raise InputError(f"the lattice phase must lie in [0, {self.resolution}), got {self}")

    @classmethod
    def through(cls, epsg: int, resolution: float, x: float, y: float) -> Lattice:
        """The lattice that has a pixel corner at (x, y), in metres."""

        def phase(value: float) -> float:
            # To the micrometre: of two corners of one lattice, rounding must not make two lattices.
            return round(value % resolution, 6) % resolution

        return cls(epsg, resolution, phase(x), phase(y))

    def covering(self, west: float, south: float, east: float, north: float) -> Window:
        """The smallest window that covers these bounds (metres in the lattice's CRS)."""
        eps = 1e-6  # of a pixel: bounds that are pixel edges but for rounding stay what they are

        def col(x: float) -> float:
            return (x - self.phase_x) / self.resolution

        def row(y: float) -> float:
            return (self.phase_y - y) / self.resolution

        top, left = math.floor(row(north) + eps), math.floor(col(west) + eps)
        bottom, right = math.ceil(row(south) - eps), math.ceil(col(east) - eps)
        return Window.between(top, left, max(bottom, top + 1), max(right, left + 1))

    def covering_lonlat(self, bounds: tuple[float, float, float, float]) -> Window:
        """The smallest window that covers these bounds (west, south, east, north in degrees)."""
        # 21 points an edge: in a projection the widest place need not be a corner.
        transformer = Transformer.from_crs(4326, self.epsg, always_xy=True)
        return self.covering(*transformer.transform_bounds(*bounds, densify_pts=21))


@dataclass(frozen=True, slots=True)
class Grid:
    """A raster's frame: one window of a lattice."""

    lattice: Lattice
    """CRS, resolution and phase."""
    window: Window
    """Which pixels of the lattice."""

    @property
    def epsg(self) -> int:
        """EPSG code of the CRS."""
        return self.lattice.epsg

    @property
    def resolution(self) -> float:
        """Edge of a pixel in metres."""
        return self.lattice.resolution

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.window.shape

    @property
    def transform(self) -> Affine:
        """Affine transform from (column, row) of the grid to map coordinates of pixel corners."""
        res = self.resolution
        return Affine(
            res,
            0.0,
            self.lattice.phase_x + self.window.col * res,
            0.0,
            -res,
            self.lattice.phase_y - self.window.row * res,
        )

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """West, south, east, north in metres."""
        west, north = self.transform.c, self.transform.f
        return (
            west,
            north - self.window.height * self.resolution,
            west + self.window.width * self.resolution,
            north,
        )

    def x(self) -> NDArray[np.float64]:
        """Map x of the pixel centres, west to east, in metres; shape (width,)."""
        return np.asarray(self.transform.c + (np.arange(self.window.width) + 0.5) * self.resolution)

    def y(self) -> NDArray[np.float64]:
        """Map y of the pixel centres, north to south, in metres; shape (height,)."""
        return np.asarray(self.transform.f - (np.arange(self.window.height) + 0.5) * self.resolution)


def lattice_window(x: NDArray[Any], y: NDArray[Any]) -> tuple[Window, float]:
    """Where pixel centres lie on the pixel lattice of their CRS, and the resolution in metres.

    Args:
        x: Map x of the pixel centres, shape (width,).
        y: Map y of the pixel centres, shape (height,).

    Raises:
        InputError: They are no regular, north-up grid of square pixels.
    """
    x, y = (np.asarray(axis, np.float64) for axis in (x, y))
    known = np.concatenate([np.diff(x), -np.diff(y)])
    if not len(known):
        raise InputError("a cube of one pixel does not tell its resolution; open it with a margin")
    resolution = float(known[0])
    if resolution <= 0 or not np.allclose(known, resolution, rtol=1e-6, atol=0):
        raise InputError("the cube's x and y are no regular grid, x rising and y falling by the same step")
    west, north = x[0] - resolution / 2, y[0] + resolution / 2
    lattice = Lattice.through(0, resolution, west, north)
    bounds = west, north - len(y) * resolution, west + len(x) * resolution, north
    return lattice.covering(*bounds), resolution

"""The tile lattice: where the generator is run, and how overlapping tiles are blended into one image.

Tiles start at absolute multiples of the stride on the pixel lattice, so that which tiles cover a pixel,
and with which weights, follows from the pixel alone: not from an area of interest, a chunk or a worker.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cloudgan.errors import InputError
from cloudgan.geo.grid import Window

Weights = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Tiling:
    """Square tiles on a regular stride, neighbours overlapping by `size - stride`."""

    size: int = 256
    """Edge of a tile in pixels."""
    stride: int = 192
    """Distance between the starts of neighbouring tiles in pixels; from half a tile to a whole one."""

    def __post_init__(self) -> None:
        if not self.size / 2 <= self.stride <= self.size:
            raise InputError(
                f"the stride must lie between half a tile and a tile ({self.size} pixels), got {self.stride}"
            )

    @property
    def overlap(self) -> int:
        """Pixels that neighbouring tiles share along one axis."""
        return self.size - self.stride

    def _starts(self, low: int, high: int) -> range:
        """Starts of the tiles that hold any of the pixels `low` to `high` (end excluded) of one axis."""
        first = -(-(low - self.size + 1) // self.stride)
        last = (high - 1) // self.stride
        return range(first * self.stride, last * self.stride + 1, self.stride)

    def tiles(self, window: Window) -> list[Window]:
        """All tiles that hold a pixel of `window`, in the fixed order (row, column) of accumulation."""
        rows = self._starts(window.row, window.bottom)
        cols = self._starts(window.col, window.right)
        return [Window(row, col, self.size, self.size) for row in rows for col in cols]

    def count(self, window: Window) -> int:
        """How many tiles hold a pixel of `window`, without listing them."""
        return len(self._starts(window.row, window.bottom)) * len(self._starts(window.col, window.right))

    def count_along(self, low: NDArray[np.int64], high: NDArray[np.int64]) -> NDArray[np.int64]:
        """Along one axis, how many tiles hold any of the pixels `low` to `high` (end excluded), for each."""
        first = -(-(low - self.size + 1) // self.stride)
        last: NDArray[np.int64] = (high - 1) // self.stride
        return last - first + 1

    def cover(self, window: Window) -> Window:
        """The union of the tiles that hold a pixel of `window`: what must be read to generate it."""
        rows = self._starts(window.row, window.bottom)
        cols = self._starts(window.col, window.right)
        return Window.between(rows[0], cols[0], rows[-1] + self.size, cols[-1] + self.size)

    def weights(self) -> Weights:
        """How much each pixel of a tile counts, shape (size, size), float32.

        Along each axis a raised cosine, sin(pi/2 * (i + 1/2) / overlap) squared, rises over the overlap with
        the tile before and falls, as one minus the same curve, over the overlap with the next, so that the
        weights of all tiles at a pixel sum to one.
        """
        rise = np.sin(np.pi / 2 * (np.arange(self.overlap) + 0.5) / max(self.overlap, 1)) ** 2
        axis = np.ones(self.size)
        axis[: self.overlap] = rise
        axis[self.size - self.overlap :] = 1 - rise
        return np.outer(axis, axis).astype(np.float32)

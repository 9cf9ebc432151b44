"""Whether the borders of tiles show in a declouded image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cloudgan.errors import InputError
from cloudgan.geo.grid import Window
from cloudgan.geo.tiling import Tiling
from cloudgan.sentinel2.bands import REFLECTANCE_SCALE


@dataclass(frozen=True, slots=True)
class Seams:
    """How steep generated values are where a tile begins or ends, and elsewhere."""

    across: float
    """Mean absolute difference between neighbours on both sides of a tile's border, in reflectance."""
    elsewhere: float
    """The same between all other neighbours."""
    pairs: int
    """Neighbours on both sides of a border."""

    @property
    def ratio(self) -> float:
        """1 where no border shows."""
        return self.across / self.elsewhere


def measure_seams(
    bands: NDArray[np.uint16], generated: NDArray[np.bool_], window: Window, tiling: Tiling
) -> Seams:
    """Compare differences between neighbours across the borders of tiles with all others.

    Args:
        bands: Digital numbers, shape (band, y, x).
        generated: Pixels that count, shape (y, x): generated without feathering.
        window: Where the arrays lie on the lattice.
        tiling: Where the tiles lie.

    Raises:
        InputError: No border lies among the generated pixels.
    """
    image = bands.astype(np.float64) * REFLECTANCE_SCALE
    found: dict[bool, list[NDArray[np.float64]]] = {True: [], False: []}
    for axis, start in ((0, window.row), (1, window.col)):
        steep = np.abs(np.diff(image, axis=axis + 1)).mean(axis=0)
        both = generated[1:] & generated[:-1] if axis == 0 else generated[:, 1:] & generated[:, :-1]
        # A tile begins at each multiple of the stride, and one ends an overlap further on.
        phase = (start + 1 + np.arange(steep.shape[axis])) % tiling.stride
        border = np.isin(phase, (0, tiling.overlap % tiling.stride))
        borders = np.broadcast_to(border[:, None] if axis == 0 else border, steep.shape)
        for is_border in (True, False):
            found[is_border].append(steep[both & (borders == is_border)])
    across, elsewhere = (np.concatenate(found[is_border]) for is_border in (True, False))
    if not len(across) or not len(elsewhere):
        raise InputError("no border of a tile lies among the generated pixels; give a larger scene")
    return Seams(float(across.mean()), float(elsewhere.mean()), len(across))

"""What a run will do, before it does it: a value that counts, prints and identifies itself."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from cloudgan import __version__
from cloudgan.catalog import Scene
from cloudgan.errors import InputError
from cloudgan.generator import Contract
from cloudgan.grid import Grid, Window
from cloudgan.removal import output_dtypes, read_window
from cloudgan.signing import unsigned
from cloudgan.tiling import Tiling

CHUNK = 512
"""Edge of a Zarr chunk in pixels: what a reader of the store fetches at least."""
BLOCKS = (2048, 1024, 512)
"""Edges of a work unit, which is a Zarr shard, from the best to the smallest, in pixels."""

_SESSION_BYTES = 500_000_000
"""What a worker holds before it reads a pixel: the libraries, ONNX Runtime and its arena (measured)."""


@dataclass(frozen=True, slots=True)
class Unit:
    """One task: a block of space over all dates, which writes whole shards of the store and no others."""

    index: int
    """Number of the unit, by rows of blocks."""
    window: Window
    """Its pixels on the lattice."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A run, wholly decided: what is read, what is generated how, and where it goes in the store."""

    grid: Grid
    """The pixels of the store."""
    scenes: tuple[Scene, ...]
    """All scenes that are read, in order of time."""
    written: tuple[int, ...]
    """Which of the scenes are dates of the store; the others only show the ground around them."""
    contract: Contract
    """What the generator asks for and gives."""
    model: str
    """SHA-256 of the model file."""
    tiling: Tiling
    """Where the generator's tiles lie."""
    reach: int
    """Width of the buffer around cloud and shadow, in pixels."""
    block: int
    """Edge of a work unit in pixels."""
    clip: str | None = None
    """The AOI as WKT, in degrees, where what lies outside is to be no data; else None."""
    duplicates: tuple[str, ...] = ()
    """Items left out because a newer version of the same granule is there."""

    @property
    def blocks(self) -> tuple[int, int]:
        """Rows and columns of blocks."""
        height, width = self.grid.shape
        return -(-height // self.block), -(-width // self.block)

    @property
    def unit_count(self) -> int:
        """How many work units there are."""
        rows, cols = self.blocks
        return rows * cols

    def unit(self, index: int) -> Unit:
        """The unit of this number."""
        row, col = divmod(index, self.blocks[1])
        window = Window(
            self.grid.window.row + row * self.block,
            self.grid.window.col + col * self.block,
            self.block,
            self.block,
        )
        inside = window.intersection(self.grid.window)
        if inside is None or index < 0:
            raise InputError(f"the plan has units 0 to {self.unit_count - 1}, not {index}")
        return Unit(index, inside)

    def units(self) -> Iterator[Unit]:
        """All units, by rows."""
        return map(self.unit, range(self.unit_count))

    @property
    def bands(self) -> tuple[str, ...]:
        """Bands that are read, beside the scene classification."""
        return self.contract.input_bands

    @property
    def pixels(self) -> int:
        """Pixels of the store, all dates."""
        height, width = self.grid.shape
        return height * width * len(self.written)

    @property
    def memory(self) -> int:
        """Bytes that one unit needs at most, in a worker of its own."""
        unit = _unit_shape(self.block, self.grid.shape)
        return memory_of_unit(unit, len(self.scenes), self.contract, self.tiling, self.reach)

    def read_grid(self, window: Window | None = None) -> Grid:
        """What must be read to decloud a window of the store, or all of it."""
        return Grid(self.grid.lattice, read_window(window or self.grid.window, self.tiling, self.reach))

    def digest(self) -> str:
        """SHA-256 of all that decides a byte of the store, in hex: a store of another digest is another."""
        return hashlib.sha256(json.dumps(self.identity(), sort_keys=True).encode()).hexdigest()

    def identity(self) -> dict[str, Any]:
        """All that decides a byte of the store, as JSON."""
        lattice, window = self.grid.lattice, self.grid.window
        return {
            "cloudgan": __version__,
            "crs": f"EPSG:{lattice.epsg}",
            "resolution": float(lattice.resolution),  # 10 and 10.0 are one store
            "phase": [lattice.phase_x, lattice.phase_y],
            "window": [window.row, window.col, window.height, window.width],
            "dates": [self.scenes[at].date.isoformat() for at in self.written],
            "items": {
                scene.date.isoformat(): [
                    [item.id, item.offset, *(unsigned(item.asset(b).href) for b in (*self.bands, "scl"))]
                    for item in scene.items
                ]
                for scene in self.scenes
            },
            "model": self.model,
            "tile": self.tiling.size,
            "stride": self.tiling.stride,
            "buffer": self.reach,
            "block": self.block,
            "clip": self.clip,
        }

    def summary(self) -> dict[str, Any]:
        """The plan in figures, as JSON."""
        height, width = self.grid.shape
        dates = [self.scenes[at].date.isoformat() for at in self.written]
        items = [item for scene in self.scenes for item in scene.items]
        units = [self.unit(at) for at in {0, self.unit_count - 1}]
        read = max(_read_pixels(unit.window, self.tiling, self.reach) for unit in units)
        return {
            "crs": f"EPSG:{self.grid.epsg}",
            "resolution": self.grid.resolution,
            "shape": [len(dates), height, width],
            "bounds": list(self.grid.bounds),
            "dates": dates,
            "items": len(items),
            "duplicates": list(self.duplicates),
            "baselines": sorted({item.processing_baseline or "unknown" for item in items}),
            "model": f"{self.contract.name} {self.contract.version}",
            "model_sha256": self.model,
            "units": self.unit_count,
            "unit": self.block,
            "tiles_at_most": len(dates) * sum(self.tiling.count(unit.window) for unit in self.units()),
            "pixels": self.pixels,
            "bytes_to_read_at_most": self.unit_count * read * len(self.scenes) * (2 * len(self.bands) + 1),
            "bytes_to_write_at_most": self.pixels
            * sum(kind.itemsize for kind in output_dtypes(self.contract.bands).values()),
            "bytes_of_memory_per_unit": self.memory,
            "digest": self.digest(),
        }


def _read_pixels(window: Window, tiling: Tiling, reach: int) -> int:
    height, width = read_window(window, tiling, reach).shape
    return height * width


def _unit_shape(block: int, store: tuple[int, int]) -> tuple[int, int]:
    """Rows and columns of the largest unit of a store."""
    return min(block, store[0]), min(block, store[1])


def memory_of_unit(shape: tuple[int, int], times: int, contract: Contract, tiling: Tiling, reach: int) -> int:
    """Bytes that a unit of so many rows and columns needs at most.

    All dates of the read window are held at once: the bands and the scene classification, states, opacity and
    looks; beside them the work on one date, in float32.
    """
    # However a block lies on the tile lattice, its tiles reach at most a tile beyond it on both sides.
    read = _read_pixels(Window(0, 0, shape[0] + tiling.size, shape[1] + tiling.size), tiling, reach)
    bands = len(contract.input_bands)
    held = 2 * bands + 1 + 1 + 2 + 4
    passing = 4 + 16  # indices while the looks are found, of all dates; distances of one date
    one_date = 4 * 5 * len(contract.bands) + 32
    return _SESSION_BYTES + read * (times * (held + 4) + passing + one_date)


def choose_block(
    shape: tuple[int, int],
    times: int,
    contract: Contract,
    tiling: Tiling,
    reach: int,
    budget: int | None,
) -> int:
    """The largest work unit that fits the budget and is not mostly beyond the store.

    Args:
        shape: Rows and columns of the store.
        times: Dates that are read.
        contract: What the generator asks for and gives.
        tiling: Where its tiles lie.
        reach: Width of the buffer, in pixels.
        budget: Bytes that a worker may use; None is without limit.

    Raises:
        InputError: Not even the smallest unit fits.
    """
    useful = [block for block in BLOCKS if block < 2 * max(shape)] or [BLOCKS[-1]]
    for block in useful:
        needed = memory_of_unit(_unit_shape(block, shape), times, contract, tiling, reach)
        if budget is None or needed <= budget:
            return block
    smallest = _unit_shape(BLOCKS[-1], shape)
    least = memory_of_unit(smallest, times, contract, tiling, reach) / 1e9
    raise InputError(
        f"a worker's memory of {(budget or 0) / 1e9:.2g} GB cannot hold one work unit of {smallest[0]} x "
        f"{smallest[1]} pixels and {times} dates, which needs {least:.2g} GB; give --memory "
        f"{least + 0.1:.1f}GB or more, or fewer dates"
    )

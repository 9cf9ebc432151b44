"""What a run will do, before it does it: a value that counts, prints and identifies itself."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from cloudgan import __version__, schema
from cloudgan.errors import InputError, redacted
from cloudgan.geo.aoi import Aoi
from cloudgan.geo.grid import Grid, Window
from cloudgan.geo.tiling import Tiling
from cloudgan.io.store.identity import FORMAT
from cloudgan.io.store.spec import StoreSpec
from cloudgan.masks.detector import DetectorSpec
from cloudgan.masks.margins import cover_masks, estimate_margin, margin_days
from cloudgan.model.contract import Contract
from cloudgan.observations import MAX_AGE
from cloudgan.planning.offsets import OffsetFinding
from cloudgan.planning.units import (
    CHUNK,
    Blocks,
    Timeline,
    TimeSpan,
    Unit,
    compute_unit_shape,
    count_blocks,
    estimate_unit_memory,
    find_blocks,
    find_outside,
    list_bands,
)
from cloudgan.removal.core import window_to_read
from cloudgan.sentinel2.classification import DEFAULT_RULES, ClassRules
from cloudgan.sentinel2.offset import Verdict
from cloudgan.stac.hrefs import remove_query
from cloudgan.stac.items import SourceItem
from cloudgan.stac.search import LeftOut, Scene


@dataclass(frozen=True, slots=True)
class Plan:
    """A run, wholly decided: what is read, what is generated how, and where it goes in the store."""

    grid: Grid
    """The pixels of the store."""
    scenes: tuple[Scene, ...]
    """All scenes that are read, in order of time."""
    written: tuple[int, ...]
    """Which of the scenes are dates of the store; the others only give clear observations."""
    contract: Contract
    """What the generator asks for and gives."""
    model: str
    """SHA-256 of what the model computes; see `Generator.digest`."""
    tiling: Tiling
    """Where the generator's tiles lie."""
    buffer: int
    """Width of the buffer around cloud and shadow, in pixels."""
    block: int
    """Edge of a work unit in pixels."""
    span: int | None = None
    """Dates of the store in a work unit; None for all."""
    max_age: int = MAX_AGE
    """Days beyond which a clear date does not count."""
    parts: tuple[Window, ...] = ()
    """Boxes around the AOI's polygons, where it has several: beside them is no data. Else none."""
    clip: str | None = None
    """The AOI as WKT, in degrees, where what lies outside is to be no data; else None."""
    duplicates: tuple[str, ...] = ()
    """Items left out because a newer version of the same granule is there."""
    left_out: tuple[LeftOut, ...] = ()
    """Items that were found and cannot be used."""
    rules: ClassRules = DEFAULT_RULES
    """How the scene classification is used."""
    detectors: tuple[DetectorSpec, ...] = ()
    """What finds clouds beside it."""
    is_temporal: bool = False
    """Whether the temporal test does."""
    offsets: tuple[OffsetFinding, ...] = ()
    """What the pixels of items say whose metadata contradict each other about the BOA offset."""

    @property
    def blocks(self) -> Blocks:
        """The blocks of space that hold a part of the AOI."""
        return find_blocks(self.grid, self.block, self.parts, self.clip)

    @property
    def spans(self) -> tuple[TimeSpan, ...]:
        """The spans of time that each block is cut into."""
        days = tuple(scene.date.toordinal() for scene in self.scenes)
        return Timeline(days, self.written, self.time_margin).spans(self.span)

    @property
    def time_margin(self) -> int:
        """Days around a date within which others decide its pixels: clear dates, and what confirms them."""
        return self.max_age + margin_days(self.rules, is_temporal=self.is_temporal)

    @property
    def unit_count(self) -> int:
        """How many work units there are."""
        return len(self.blocks.numbers) * len(self.spans)

    def unit(self, index: int) -> Unit:
        """The unit of this number."""
        blocks, spans = self.blocks, self.spans
        if not 0 <= index < len(blocks.numbers) * len(spans):
            raise InputError(f"the plan has units 0 to {self.unit_count - 1}, not {index}")
        return self._unit(index, blocks, spans)

    def units(self) -> Iterator[Unit]:
        """All units, in the order of their numbers."""
        blocks, spans = self.blocks, self.spans
        return (self._unit(at, blocks, spans) for at in range(len(blocks.numbers) * len(spans)))

    def _unit(self, index: int, blocks: Blocks, spans: tuple[TimeSpan, ...]) -> Unit:
        position, at = divmod(index, len(spans))
        row, col = divmod(int(blocks.numbers[position]), count_blocks(self.grid, self.block)[1])
        top, left = self.grid.window.row + row * self.block, self.grid.window.col + col * self.block
        window = Window(top, left, self.block, self.block).intersection(self.grid.window)
        assert window is not None  # noqa: S101 - every block holds a pixel
        return Unit(index, window, blocks.target(position), spans[at].dates, spans[at].scenes)

    def outside(self, window: Window) -> NDArray[np.bool_] | None:
        """Which pixels of a window are to be no data, shape (height, width); None for none of them."""
        if self.clip is not None:
            mask: NDArray[np.bool_] = Aoi(shapely.from_wkt(self.clip)).mask_outside(
                Grid(self.grid.lattice, window)
            )
            return mask
        return find_outside(window, self.parts)

    @property
    def bands(self) -> tuple[str, ...]:
        """Bands that are read, beside the scene classification: the generator's first."""
        return list_bands(self.contract, self.detectors, is_temporal=self.is_temporal)

    @property
    def pixels(self) -> int:
        """Pixels that are declouded or passed through, all dates."""
        return self.blocks.pixels * len(self.written)

    @property
    def memory(self) -> int:
        """Bytes that one unit needs at most, in a worker of its own."""
        times = max(len(span.scenes) for span in self.spans)
        shape = compute_unit_shape(self.block, self.grid.shape)
        return estimate_unit_memory(
            shape,
            times,
            self.contract,
            self.tiling,
            self.buffer,
            self.detectors,
            is_temporal=self.is_temporal,
        )

    def read_grid(self, window: Window | None = None) -> Grid:
        """What must be read to decloud a window of the store, or all of it."""
        declouded = window_to_read(window or self.grid.window, self.tiling, self.buffer)
        covered = cover_masks(declouded, self.detectors, self.buffer, is_temporal=self.is_temporal)
        return Grid(self.grid.lattice, covered)

    def digest(self) -> str:
        """SHA-256 of all that decides a byte of the store, in hex: a store of another digest is another."""
        return _sha256(self.identity())

    def identity(self) -> dict[str, Any]:
        """All that decides a byte of the store, as JSON."""
        lattice = self.grid.lattice
        return {
            "format": FORMAT,
            "pixel_rules": schema.PIXEL_RULES,
            "crs": f"EPSG:{lattice.epsg}",
            "resolution": float(lattice.resolution),  # 10 and 10.0 are one store
            "phase": [lattice.phase_x, lattice.phase_y],
            "window": _numbers(self.grid.window),
            "parts": _sha256([_numbers(part) for part in self.parts]) if self.parts else None,
            "dates": [self.scenes[at].date.isoformat() for at in self.written],
            "items": {
                scene.date.isoformat(): [_identify_item(item, self.bands) for item in scene.items]
                for scene in self.scenes
            },
            "model": self.model,
            "input_channels": [str(channel) for channel in self.contract.input_channels],
            "output_bands": list(self.contract.output_bands),
            "predicts_uncertainty": self.contract.predicts_uncertainty,
            "tile": self.tiling.size,
            "stride": self.tiling.stride,
            "buffer": self.buffer,
            "max_age": self.max_age,
            "mask": [
                *["scl"] * self.rules.is_used,
                *[" ".join(one.identify()) for one in self.detectors],
                *["temporal"] * self.is_temporal,
            ],
            "snow": self.rules.snow if self.rules.is_used else None,
            "block": self.block,
            "span": self.span,
            "clip": self.clip,
        }

    def store_spec(self) -> StoreSpec:
        """What the store is to hold."""
        contract = self.contract
        model = {
            "name": contract.name,
            "version": contract.version,
            "digest": self.model,
            "input_channels": [str(channel) for channel in contract.input_channels],
            "training": contract.training,
        }
        return StoreSpec(
            grid=self.grid,
            scenes=tuple(self.scenes[at] for at in self.written),
            variables=schema.variables(
                contract.output_bands, predicts_uncertainty=contract.predicts_uncertainty
            ),
            block=self.block,
            chunk=CHUNK,
            unit_count=self.unit_count,
            identity=self.identity(),
            attributes={
                "source": f"Copernicus Sentinel-2 L2A; masked pixels generated by the model {contract.name}",
                "history": f"cloudgan {__version__}, model {contract.name} {contract.version}",
            },
            about={
                "model": model,
                "left_out": [one.as_json() for one in self.left_out],
                "offsets": self._describe_offsets(),
                "source_items": {
                    item.id: redacted(item.href).removesuffix("?...")
                    for scene in self.scenes
                    for item in scene.items
                    if item.href is not None
                },
            },
        )

    def summary(self, budget: int | None = None) -> dict[str, Any]:
        """The plan in figures, as JSON.

        Args:
            budget: Bytes that a worker may use; None where nobody said.
        """
        height, width = self.grid.shape
        written = set(self.written)
        dates = [scene.date.isoformat() for scene in self.scenes]
        items = [item for scene in self.scenes for item in scene.items]
        blocks, spans = self.blocks, self.spans
        tiles = blocks.tiles(self.tiling)
        margin = estimate_margin(self.detectors, self.buffer, is_temporal=self.is_temporal)
        read = blocks.read_pixels(self.tiling, self.buffer + margin)
        read *= sum(len(span.scenes) for span in spans)
        variables = schema.variables(self.contract.output_bands)
        return {
            "crs": f"EPSG:{self.grid.epsg}",
            "resolution": self.grid.resolution,
            "shape": [len(written), height, width],
            "bounds": list(self.grid.bounds),
            "dates": [dates[at] for at in self.written],
            "context_dates": [date for at, date in enumerate(dates) if at not in written],
            "max_age": self.max_age,
            "items": len(items),
            "duplicates": list(self.duplicates),
            "left_out": [one.as_json() for one in self.left_out],
            "offsets": self._describe_offsets(),
            "baselines": sorted({item.processing_baseline or "unknown" for item in items}),
            "model": f"{self.contract.name} {self.contract.version}",
            "model_digest": self.model,
            "mask": [
                *["scl"] * self.rules.is_used,
                *[f"{one.contract.name} {one.contract.version}" for one in self.detectors],
                *["temporal"] * self.is_temporal,
            ],
            "bands": list(self.bands),
            "units": len(blocks.numbers) * len(spans),
            "unit": self.block,
            "unit_dates": max(len(span.dates) for span in spans),
            "tiles_at_most": len(written) * tiles,
            "tiles_estimated": round(tiles * sum(self._share_of_tiles(at) for at in self.written)),
            "pixels": self.pixels,
            "bytes_to_read_at_most": read * (2 * len(self.bands) + 1),
            "bytes_to_write_at_most": self.pixels * sum(one.dtype.itemsize for one in variables),
            "bytes_of_memory_per_unit": self.memory,
            "bytes_of_memory_per_worker": budget,
            "digest": self.digest(),
        }

    def _describe_offsets(self) -> list[dict[str, Any]]:
        """What is worth telling of the offsets: where pixels contradict the metadata, or leave it open."""
        return [one.as_json() for one in self.offsets if one.verdict is not Verdict.AGREES]

    def _share_of_tiles(self, at: int) -> float:
        """Share of a date's tiles that the generator will probably be asked for."""
        scene = self.scenes[at]
        covers = [item.cloud_cover for item in scene.items if item.cloud_cover is not None]
        cloudy = float(np.mean(covers)) / 100 if covers else 1.0
        return estimate_share_of_tiles(cloudy, self.tiling.size * self.grid.resolution)


def estimate_share_of_tiles(cloudy: float, metres: float) -> float:
    """Share of tiles that hold any cloud, estimated.

    Clouds lie scattered: of five real scenes (33TWM, August 2023), those with a cloud cover of 1.1 and 1.3 %
    touched 37 and 49 % of all squares of 2.5 km, 70 and 79 % of 5 km, 15 and 21 % of 1 km; those with 44 and
    71 % touched all. The curve is one through these.

    Args:
        cloudy: Cloudy share of the scene, as its items state it.
        metres: Edge of a tile.
    """
    return float(1 - np.exp(-45 * cloudy * (metres / 2560) ** 1.3))


def _identify_item(item: SourceItem, bands: tuple[str, ...]) -> list[Any]:
    """What of an item decides a byte: its offset, where it lies (as a digest), and its files."""
    assets = [item.asset(band) for band in (*bands, "scl")]
    frame = [item.epsg, item.footprint, *([asset.shape, asset.transform] for asset in assets)]
    return [item.id, item.offset, _sha256(frame)[:16], *(remove_query(asset.href) for asset in assets)]


def _numbers(window: Window) -> list[int]:
    return [window.row, window.col, window.height, window.width]


def _sha256(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()

"""Cloud removal behind an xarray cube: lazy where the cube is lazy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import dask.array
import numpy as np
import xarray as xr
from dask.base import is_dask_collection
from dask.delayed import delayed
from numpy.typing import NDArray

from cloudgan import defaults, schema
from cloudgan.defaults import Snow
from cloudgan.errors import InputError
from cloudgan.geo.grid import Window, lattice_window
from cloudgan.geo.tiling import Tiling
from cloudgan.masks.union import classify_observations
from cloudgan.model.generator import Generator
from cloudgan.observations import BUFFER_METRES, OPACITY, metres_to_pixels
from cloudgan.removal.core import decloud_dates, default_tiling, window_to_read
from cloudgan.schema import MaskSource
from cloudgan.sentinel2.classification import SCL, ClassRules
from cloudgan.sentinel2.dates import day_numbers


def remove_clouds(
    cube: xr.Dataset,
    generator: Generator,
    *,
    buffer_metres: float = BUFFER_METRES,
    snow: Snow = defaults.SNOW,
    mask: xr.DataArray | NDArray[np.bool_] | dask.array.Array | None = None,
) -> xr.Dataset:
    """Decloud an xarray cube, lazily where it is lazy.

    The result does not depend on the cube's chunks. It is that of a batch run except in fully masked tiles,
    and on hazy dates, where the run knows more of the MGRS tile (`read_radiometry` of `decloud_dates`). Near
    the edge of the cube, what lies beyond counts as no data. Where that matters, open the cube with a margin
    (`window_to_read`) and crop the result.

    Args:
        cube: As `open_cube` makes it: the bands that the generator asks for, uint16, and `scl`, uint8, each
            of dimensions (time, y, x) on the pixel grid of a projected CRS, and perhaps `opacity`.
        generator: What fills the mask.
        buffer_metres: Width of the buffer around detected cloud and shadow, in metres.
        snow: What class 11 is taken for: clear where other dates of the cube confirm it (`auto`), clear
            (`keep`), or cloud.
        mask: Where you say that cloud or shadow is, boolean of shape (time, y, x). It alone decides then, and
            the buffer around it. The cube needs no `scl`.

    Returns:
        The generator's output bands, uint16, with `provenance`, `mask_source`, `days_before`,
        `days_after` and `uncertainty`, of the cube's dimensions, coordinates and chunks.

    Raises:
        InputError: The cube lacks a band, has no regular grid in a projected CRS, or was merged with another
            buffer; or the mask has another shape or type.
    """
    names = generator.contract.input_bands
    missing = [name for name in (*names, *([SCL] if mask is None else [])) if name not in cube.data_vars]
    if missing:
        raise InputError(
            f"the cube lacks {', '.join(missing)}, which {generator.contract.name} needs; it has "
            f"{', '.join(map(str, cube.data_vars))}"
        )
    window, resolution = lattice_window(cube["x"].values, cube["y"].values)
    buffer = metres_to_pixels(buffer_metres, resolution)
    merged = [OPACITY] if OPACITY in cube.data_vars and mask is None else []
    if merged:
        _refuse_another_buffer(cube, buffer)
    days, rules = day_numbers(cube["time"].values), ClassRules(is_used=mask is None, snow=snow)
    task = _Task(generator, buffer, default_tiling(generator), days, bool(merged), rules)
    said = cube[SCL] if mask is None else _check_mask(mask, cube)
    arrays = [*(cube[name] for name in names), said, *(cube[name] for name in merged)]
    bands = [array.transpose("time", "y", "x").data for array in arrays]
    lazy = any(is_dask_collection(band) for band in bands)
    made = _compute_lazily(task, window, bands) if lazy else task(window, window, *bands)
    return xr.Dataset(
        {name: (("time", "y", "x"), values) for name, values in made.items()}, cube.coords, cube.attrs
    )


def _refuse_another_buffer(cube: xr.Dataset, buffer: int) -> None:
    if cube[OPACITY].attrs.get("buffer") != buffer:
        raise InputError(
            f"the cube was merged with a buffer of {cube[OPACITY].attrs.get('buffer')} pixels around clouds, "
            f"and {buffer} are asked for; give open_cube the same buffer"
        )


def _check_mask(mask: Any, cube: xr.Dataset) -> xr.DataArray:
    """The user's mask with dimensions time, y and x, in memory or lazy.

    Raises:
        InputError: It has another shape or type.
    """
    wanted = tuple(cube.sizes[name] for name in ("time", "y", "x"))
    if isinstance(mask, xr.DataArray):
        if set(mask.dims) != {"time", "y", "x"}:
            raise InputError(f"the mask has dimensions {mask.dims}; give one of time, y and x")
        mask = mask.transpose("time", "y", "x").data
    dtype, shape = getattr(mask, "dtype", None), getattr(mask, "shape", None)
    if dtype != np.bool_ or shape != wanted:
        found = type(mask).__name__ if dtype is None else f"{dtype} of shape {shape}"
        raise InputError(
            f"the mask is {found}, and must be bool of shape {wanted} (time, y, x), true where cloud or "
            "shadow is"
        )
    return xr.DataArray(mask, dims=("time", "y", "x"))


@dataclass(frozen=True, slots=True)
class _Task:
    """`decloud_dates` for all dates at once, as one task."""

    generator: Generator
    buffer: int
    tiling: Tiling
    days: NDArray[np.int64]
    has_opacity: bool
    rules: ClassRules

    def __call__(self, target: Window, window: Window, *arrays: NDArray[Any]) -> dict[str, NDArray[Any]]:
        contract = self.generator.contract
        count = len(contract.input_bands)
        bands, said, opacity = arrays[:count], arrays[count], arrays[count + 1] if self.has_opacity else None
        named = dict(zip(contract.input_bands, bands, strict=True))
        own = not self.rules.is_used
        observations = classify_observations(
            window,
            named,
            np.zeros(said.shape, np.uint8) if own else said,
            self.days,
            buffer=self.buffer,
            rules=self.rules,
            opacities=opacity,
            called={MaskSource.USER: said} if own else None,
        )
        dates = decloud_dates(observations, target, self.generator, buffer=self.buffer, tiling=self.tiling)
        variables = [date.variables(contract.output_bands) for date in dates]
        return {name: np.stack([date[name] for date in variables]) for name in variables[0]}


def _compute_lazily(task: _Task, window: Window, bands: list[Any]) -> dict[str, Any]:
    """One task per block of space, which depends on the blocks that its tiles touch, and on no other."""
    frame = next(band for band in bands if is_dask_collection(band))
    edges = [np.cumsum([0, *sizes]).tolist() for sizes in frame.chunks[1:]]
    delayed_task = delayed(task)

    def block(top: int, bottom: int, left: int, right: int) -> dict[str, dask.array.Array]:
        target = Window.between(window.row + top, window.col + left, window.row + bottom, window.col + right)
        read = window_to_read(target, task.tiling, task.buffer).intersection(window)
        assert read is not None  # noqa: S101
        rows, cols = read.slices_in(window)
        made = delayed_task(target, read, *(band[:, rows, cols] for band in bands))
        shape = (len(task.days), *target.shape)
        return {
            one.name: dask.array.from_delayed(made[one.name], shape, one.dtype).rechunk({0: frame.chunks[0]})
            for one in schema.variables(task.generator.contract.output_bands)
        }

    grid = [
        [block(top, bottom, left, right) for left, right in zip(edges[1], edges[1][1:], strict=False)]
        for top, bottom in zip(edges[0], edges[0][1:], strict=False)
    ]
    return {name: dask.array.block([[cell[name] for cell in line] for line in grid]) for name in grid[0][0]}

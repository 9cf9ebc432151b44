"""A picture of a batch job before and after: a column a date, as observed above, declouded below.

python pipelines/picture.py JOB.toml PICTURE.png
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import numpy as np
import rasterio
import xarray as xr
from numpy.typing import NDArray
from rasterio.errors import NotGeoreferencedWarning

import cloudgan

FALSE_COLOUR = {"nir": 5500, "red": 2800, "green": 2500}  # digital numbers shown at full brightness
COLUMNS, GAP = 4, 8


def render(cube: xr.Dataset, at: int) -> NDArray[np.uint8]:
    """One date in false colour, shape (3, y, x)."""
    bands = [np.asarray(cube[name][at]) / full for name, full in FALSE_COLOUR.items()]
    return (255 * np.sqrt(np.clip(bands, 0, 1))).astype(np.uint8)


def draw_picture(config: cloudgan.BatchConfig) -> NDArray[np.uint8]:
    """The dates nearest to half cloudy, side by side, shape (3, y, x)."""
    (plan,) = cloudgan.plan_batch(config).zones.values()
    before = cloudgan.open_cube([plan.scenes[at] for at in plan.written], plan.grid, plan.bands)
    after = xr.open_zarr(config.out, mask_and_scale=False)
    generated = (after["provenance"] == 2).mean(["y", "x"]).values
    dates = np.sort(np.argsort(np.abs(generated - 0.5), kind="stable")[:COLUMNS])
    gap = ((0, 0), (0, GAP), (0, GAP))
    rows = [
        np.concatenate([np.pad(render(cube, at), gap, constant_values=255) for at in dates], axis=2)
        for cube in (before, after)
    ]
    return np.concatenate(rows, axis=1)[:, :-GAP, :-GAP]


if __name__ == "__main__":
    warnings.simplefilter("ignore", NotGeoreferencedWarning)  # a picture need not say where it is
    image = draw_picture(cloudgan.BatchConfig.load(Path(sys.argv[1])))
    profile = {"driver": "PNG", "dtype": "uint8", "count": 3}
    profile |= {"height": image.shape[1], "width": image.shape[2]}
    with rasterio.Env(GDAL_PAM_ENABLED="NO"), rasterio.open(sys.argv[2], "w", **profile) as file:
        file.write(image)

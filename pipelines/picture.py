"""A picture of a batch job before and after: a column a date, as seen above, declouded below.

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

FALSE_COLOUR = {"nir": 5500, "red": 2800, "green": 2500}  # what is shown at full brightness, digital numbers
COLUMNS, GAP = 4, 8


def shown(cube: xr.Dataset, at: int) -> NDArray[np.uint8]:
    """One date in false colour, shape (3, y, x)."""
    bands = [np.asarray(cube[name][at]) / full for name, full in FALSE_COLOUR.items()]
    return (255 * np.sqrt(np.clip(bands, 0, 1))).astype(np.uint8)


def picture(job: cloudgan.BatchConfig) -> NDArray[np.uint8]:
    """The job's most telling dates, those nearest to half cloudy, side by side."""
    plan, _ = cloudgan.plan_run(
        cloudgan.read_aoi(job.aoi),
        cloudgan.DateRange.parse(job.dates),
        cloudgan.Generator.load(job.model),
        stac=job.stac,
        collection=job.collection,
        resolution=job.resolution,
        max_cloud_cover=job.max_cloud_cover,
        context_days=0,
    )
    before = cloudgan.open_cube([plan.scenes[at] for at in plan.written], plan.grid, plan.bands)
    after = xr.open_zarr(job.out, mask_and_scale=False)
    cloudy = (after["provenance"] == 2).mean(["y", "x"]).values
    dates = np.sort(np.argsort(np.abs(cloudy - 0.5), kind="stable")[:COLUMNS])
    rows = [
        np.concatenate(
            [np.pad(shown(cube, at), ((0, 0), (0, GAP), (0, GAP)), constant_values=255) for at in dates], 2
        )
        for cube in (before, after)
    ]
    return np.concatenate(rows, 1)[:, :-GAP, :-GAP]


if __name__ == "__main__":
    warnings.simplefilter("ignore", NotGeoreferencedWarning)  # a picture need not say where it is
    image = picture(cloudgan.BatchConfig.load(Path(sys.argv[1]), {}))
    profile = {
        "driver": "PNG",
        "dtype": "uint8",
        "count": 3,
        "height": image.shape[1],
        "width": image.shape[2],
    }
    with rasterio.Env(GDAL_PAM_ENABLED="NO"), rasterio.open(sys.argv[2], "w", **profile) as file:
        file.write(image)

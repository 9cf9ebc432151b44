"""What a user would write instead: odc-stac, the scene classification, linear interpolation in time, a Zarr.

python benchmarks/odc_linear.py CATALOGUE AOI FIRST LAST RESOLUTION OUT
"""

import json
import sys
from pathlib import Path

import numpy as np
import odc.stac
import pystac
import shapely

BANDS = ["blue", "green", "red", "nir"]
CLOUDY = [0, 1, 3, 8, 9, 10]

catalogue, aoi, first, last, resolution, out = sys.argv[1:]
area = shapely.geometry.shape(json.loads(Path(aoi).read_text()))
items = [
    item
    for item in pystac.Catalog.from_file(catalogue).get_items(recursive=True)
    if first <= item.datetime.date().isoformat() <= last
    and area.intersects(shapely.geometry.shape(item.geometry))
]
cube = odc.stac.load(
    items,
    bands=[*BANDS, "scl"],
    crs=items[0].properties["proj:code"],
    resolution=float(resolution),
    bbox=area.bounds,
    groupby="solar_day",
)
days = (cube.time.values - cube.time.values[0]) / np.timedelta64(1, "D")
clear = ~np.isin(cube.scl.values, CLOUDY) & (cube.blue.values > 0)
index = np.arange(len(days))[:, None, None]
before = np.maximum.accumulate(np.where(clear, index, -1))
after = np.minimum.accumulate(np.where(clear, index, len(days))[::-1])[::-1]
before, after = np.where(before < 0, after, before), np.where(after == len(days), before, after)
before, after = before.clip(0, len(days) - 1), after.clip(0, len(days) - 1)
gap = days[after] - days[before]
weight = np.where(gap > 0, (days[:, None, None] - days[before]) / np.where(gap > 0, gap, 1), 0)
for band in BANDS:
    values = cube[band].values
    low, high = np.take_along_axis(values, before, 0), np.take_along_axis(values, after, 0)
    cube[band].values = np.where(clear, values, np.rint(low + weight * (high.astype(float) - low)))
cube[BANDS].to_zarr(out, mode="w")

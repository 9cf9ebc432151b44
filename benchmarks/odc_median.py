"""What a user would write instead: the median of the clear observations, one composite, a Zarr.

python benchmarks/odc_median.py CATALOGUE AOI FIRST LAST RESOLUTION OUT
"""

import json
import sys
import warnings
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
clear = ~cube.scl.isin(CLOUDY) & (cube.blue > 0)
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # pixels that no date shows
    composite = cube[BANDS].where(clear).astype(np.float32).median("time")
composite.fillna(0).round().astype(np.uint16).to_zarr(out, mode="w")

"""Cloud removal in a notebook's way: a lazy cube in, a lazy cube out, no store and no cluster.

python pipelines/remove_clouds.py field.geojson 2020-04/2020-07 [CATALOGUE]
"""

from __future__ import annotations

import sys

import xarray as xr

import cloudgan


def open_declouded(aoi: str, dates: str, stac: str = "earth-search", resolution: float = 10) -> xr.Dataset:
    """The declouded cube of an area, lazy: index, average or plot it, and only that is computed."""
    generator = cloudgan.Generator.load()
    area, span = cloudgan.read_aoi(aoi), cloudgan.DateRange.parse(dates)
    plan, _ = cloudgan.plan_run(area, span, generator, stac=stac, resolution=resolution)
    around = plan.read_grid()  # what lies around the area, and around the dates, decides pixels within
    cube = cloudgan.open_cube(plan.scenes, around, plan.bands, chunks=1024)
    rows, cols = plan.grid.window.slices_in(around.window)
    return cloudgan.remove_clouds(cube, generator).isel(time=list(plan.written), y=rows, x=cols)


def compute_ndvi(cube: xr.Dataset) -> xr.DataArray:
    """Normalised difference vegetation index of a cube of digital numbers."""
    red, nir = cube["red"].astype("float32"), cube["nir"].astype("float32")
    return ((nir - red) / (nir + red)).rename("ndvi")


if __name__ == "__main__":
    print(compute_ndvi(open_declouded(*sys.argv[1:])).mean(["y", "x"]).compute().to_series().to_string())

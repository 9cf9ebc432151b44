"""Which programs open a store and its exports, and whether they find what is in them.

    python research/readers.py STORE [--python PATH] [--uv UV]

Exports one date of a finished store in each format, installs the readers below in environments of their own
where that can be done, opens everything with them and with Debian's GDAL, and prints a table. A cell says
whether CRS, transform, scale, no data and every pixel are right, or what is wrong.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import xarray as xr

from cloudgan.products.export import ExportRequest, plan_exports

READERS = {
    "rasterio 1.4.4": ("rasterio==1.4.4",),
    "rasterio 1.5.2": ("rasterio==1.5.2",),
    "GDAL 3.13.3 (gdal-wheel)": ("gdal-wheel==3.13.3", "numpy"),
    "xarray 2025.6, zarr 3.1.0": ("xarray==2025.6.0", "zarr==3.1.0", "dask", "h5netcdf", "h5py", "rasterio"),
    "newest xarray and zarr": ("xarray", "zarr", "dask", "h5netcdf", "h5py", "rasterio"),
    "rio-tiler 9, titiler.xarray 2.4": ("rio-tiler>=9.4,<10", "titiler.xarray==2.4.*", "h5netcdf", "h5py"),
}
"""What is installed for each reader."""

RASTERIO = """
import json, sys, rasterio, warnings
warnings.simplefilter("ignore")
name, band = sys.argv[1], int(sys.argv[2])
with rasterio.open(name) as found:
    print(json.dumps([found.crs and found.crs.to_epsg(), list(found.transform)[:6], found.scales[band - 1],
        found.nodata, int(found.read(band).sum()), rasterio.__gdal_version__]))
"""
GDAL = """
import json, sys
from osgeo import gdal
gdal.UseExceptions()
if sys.argv[1].startswith("ZARR:") and gdal.GetDriverByName("Zarr") is None:
    raise SystemExit("it has no driver for Zarr")
found = gdal.Open(sys.argv[1])
band, g, crs = found.GetRasterBand(int(sys.argv[2])), found.GetGeoTransform(), found.GetSpatialRef()
frame = [g[1], g[2], g[0], g[4], g[5], g[3]]
total = int(band.ReadAsArray().astype("i8").sum())
epsg = crs and int(crs.GetAuthorityCode(None))
print(json.dumps([epsg, frame, band.GetScale(), band.GetNoDataValue(), total]))
"""
XARRAY = """
import json, sys, warnings, re
import xarray as xr
warnings.simplefilter("ignore")
name, at = sys.argv[1], int(sys.argv[2])
opened = xr.open_dataset if name.endswith(".nc") else xr.open_zarr
raw = opened(name, mask_and_scale=False)
one, crs = raw["red"].isel(time=at), raw["spatial_ref"].attrs
g = [float(each) for each in crs["GeoTransform"].split()]
epsg = int(re.findall(r'ID."EPSG",(\\d+)', crs["crs_wkt"])[-1])
frame, total = [g[1], g[2], g[0], g[4], g[5], g[3]], int(one.astype("i8").sum())
print(json.dumps([epsg, frame, float(one.attrs["scale_factor"]), float(one.attrs["_FillValue"]), total]))
"""
RIO_TILER = """
import json, sys, warnings, math
warnings.simplefilter("ignore")
name, at = sys.argv[1], int(sys.argv[2])
if name.endswith(".tif"):
    from rio_tiler.io import Reader
    with Reader(name) as found:
        one = found.dataset
        print(json.dumps([one.crs.to_epsg(), list(one.transform)[:6], one.scales[0], one.nodata,
            int(found.read(indexes=1).data.sum())]))
else:
    import xarray as xr
    from titiler.xarray.io import Reader
    opened = xr.open_dataset(name) if name.endswith(".nc") else xr.open_zarr(name)
    with Reader(name, variable="red", sel=["time=" + str(opened.time.values[at])]) as found:
        one = found.input
        total = round(float(one.astype("f8").sum()) / one.encoding["scale_factor"])
        print(json.dumps([found.crs.to_epsg(), list(found.input.rio.transform())[:6],
            one.encoding["scale_factor"], one.encoding["_FillValue"] * 1.0, total]))
"""
ZARRITA = """
import * as zarr from "zarrita";
import { FileSystemStore } from "@zarrita/storage";
const [name, at] = process.argv.slice(2);
const one = await zarr.open(zarr.root(new FileSystemStore(name)).resolve("red"), { kind: "array" });
const { data } = await zarr.get(one, [Number(at), null, null]);
const { attrs } = one;
console.log(JSON.stringify([Number(attrs["proj:code"]?.slice(5)), attrs["spatial:transform"],
  attrs.scale_factor, attrs._FillValue, data.reduce((sum, value) => sum + value, 0)]));
"""

TERRA = """
suppressMessages(library(terra))
said <- commandArgs(TRUE)
one <- rast(said[1])[[as.integer(said[2])]]
size <- scoff(one)[1]
raw <- round(values(one) / size)
nothing <- if (min(raw, na.rm = TRUE) > 0) 0 else -1
epsg <- as.integer(crs(one, describe = TRUE)$code)
frame <- c(xres(one), 0, xmin(one), 0, -yres(one), ymax(one))
cat(sprintf("[%d, [%s], %.10f, %d, %.0f]", epsg, toString(frame), size, nothing, sum(raw, na.rm = TRUE)))
"""
STARS = """
suppressMessages(library(stars))
said <- commandArgs(TRUE)
one <- read_stars(said[1], RasterIO = list(bands = as.integer(said[2])))
raw <- round(as.numeric(one[[1]]) / 0.0001)  # netCDF has units
nothing <- if (min(raw, na.rm = TRUE) > 0) 0 else -1
size <- st_dimensions(one)
frame <- c(size$x$delta, 0, size$x$offset, 0, size$y$delta, size$y$offset)
total <- sum(raw, na.rm = TRUE)
cat(sprintf("[%d, [%s], 0.0001, %d, %.0f]", st_crs(one)$epsg, toString(frame), nothing, total))
"""
QGIS = """
import json, sys
import numpy as np
from qgis.core import QgsApplication, QgsRasterLayer
QgsApplication.setPrefixPath("/usr", True)
application = QgsApplication([], False)
application.initQgis()
one, band = QgsRasterLayer(sys.argv[1], "one", "gdal"), int(sys.argv[2])
if not one.isValid():
    raise SystemExit(one.error().message() or "the layer is not valid")
data, box = one.dataProvider(), one.extent()
block = data.block(band, box, one.width(), one.height())
places = [(y, x) for y in range(one.height()) for x in range(one.width()) if not block.isNoData(y, x)]
total = round(sum(block.value(*place) for place in places) / data.bandScale(band))
frame = [one.rasterUnitsPerPixelX(), 0, box.xMinimum(), 0, -one.rasterUnitsPerPixelY(), box.yMaximum()]
epsg = int(one.crs().authid().split(":")[1])
print(json.dumps([epsg, frame, data.bandScale(band), data.sourceNoDataValue(band), total]))
"""
DEBIAN = {
    "terra of Debian's R": ["Rscript", "-e", TERRA],
    "stars of Debian's R": ["Rscript", "-e", STARS],
    "QGIS of Debian": ["/usr/bin/python3", "-c", QGIS],
}
"""What Debian has; their pixels are scaled."""


def judge(found: list, wanted: list) -> str:
    """What is wrong of CRS, transform, scale, no data and pixels."""
    names = ("CRS", "transform", "scale", "no data", "pixels")
    wrong = [
        name
        for name, one, other in zip(names, found, wanted, strict=False)
        if one is None or not np.allclose(one, other, rtol=1e-6)
    ]
    return "right" if not wrong else f"wrong: {', '.join(wrong)}"


def ask_zarrita(folder: Path, store: str, wanted: list) -> str:
    """What JavaScript makes of a store: a row of the table."""
    folder.mkdir()
    install = ["npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", str(folder)]
    packages = ["zarrita@0.7", "@zarrita/storage@0.2"]
    if not shutil.which("npm") or subprocess.run([*install, *packages], check=False).returncode:
        return "zarrita (JavaScript) | cannot be installed here | not its format | not its format | "
    (folder / "read.mjs").write_text(ZARRITA)
    made = ask(["node", str(folder / "read.mjs")], [store, "0"], wanted)
    return f"zarrita 0.7 (JavaScript) | {made} | not its format | not its format | not tried"


def ask(reader: list[str], words: list[str], wanted: list) -> str:
    """What a reader makes of a file."""
    call = [*reader, *words]
    environment = os.environ | {"QT_QPA_PLATFORM": "offscreen"}
    done = subprocess.run(call, capture_output=True, text=True, timeout=120, check=False, env=environment)
    if done.returncode:
        return f"fails: {done.stderr.strip().splitlines()[-1][-90:]}".replace("|", "/")
    return judge(json.loads(done.stdout.splitlines()[-1]), wanted)


def ask_gdalinfo(words: list[str], wanted: list) -> str:
    """What Debian's GDAL makes of a file, without its pixels."""
    name, band = words
    call = ["gdalinfo", "-json", "-stats", name]
    done = subprocess.run(call, capture_output=True, text=True, timeout=120, check=False)
    if done.returncode:
        return f"fails: {done.stderr.strip().splitlines()[-1][-90:]}".replace("|", "/")
    said = json.loads(done.stdout)
    one, geo = said["bands"][int(band) - 1], said.get("geoTransform", [0] * 6)
    epsg = said.get("coordinateSystem", {}).get("wkt", "").rpartition('ID["EPSG",')[2].partition("]")[0]
    found = [int(epsg or 0), [geo[1], geo[2], geo[0], geo[4], geo[5], geo[3]]]
    return judge([*found, one.get("scale"), one.get("noDataValue")], wanted[:4])


def make_environment(folder: Path, packages: tuple[str, ...], python: str, uv: str) -> str | None:
    """An interpreter with packages; None where they cannot be installed."""
    make = [uv, "venv", "-q", "-p", python, str(folder)]
    fill = [uv, "pip", "install", "-q", "-p", str(folder), "--only-binary", ":all:", *packages]
    for call in (make, fill):
        if subprocess.run(call, capture_output=True, timeout=600, check=False).returncode:
            return None
    return str(folder / "bin" / "python")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("store", type=Path)
    parser.add_argument("--python", default=sys.executable, help="interpreter of the environments")
    parser.add_argument("--uv", default="uv")
    options = parser.parse_args()
    raw = xr.open_zarr(options.store, mask_and_scale=False)
    frame = raw["red"].attrs
    wanted = [int(frame["proj:code"][5:]), frame["spatial:transform"], 0.0001, 0,
              int(raw["red"].isel(time=0).astype("i8").sum())]  # fmt: skip
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        date = str(raw["time"].values[0])[:10]
        files = {}
        for kind in ("cog", "netcdf", "zarr2"):
            request = ExportRequest(str(options.store), str(folder / kind), kind, date, ("red",))
            files[kind] = str(plan_exports(request)[0].run()[0])
        store = str(options.store.resolve())
        by_gdal = {
            "the store": [f'ZARR:"{store}":/red', "1"],
            "COG": [files["cog"], "1"],
            "netCDF": [f'NETCDF:"{files["netcdf"]}":red', "1"],
            "Zarr 2": [f'ZARR:"{files["zarr2"]}":/red:0', "1"],
        }
        by_xarray = {
            "the store": [store, "0"], "COG": [files["cog"], "0"],
            "netCDF": [files["netcdf"], "0"], "Zarr 2": [files["zarr2"], "0"],
        }  # fmt: skip
        print(f"| reader | {' | '.join(by_gdal)} |")
        print("| --- " * (1 + len(by_gdal)) + "|")
        if shutil.which("gdalinfo"):
            version = subprocess.run(
                ["gdalinfo", "--version"], capture_output=True, text=True, check=True
            ).stdout
            cells = [ask_gdalinfo(words, wanted) for words in by_gdal.values()]
            print(f"| Debian's {version.split(',')[0]} (without pixels) | {' | '.join(cells)} |", flush=True)
        for reader, call in DEBIAN.items():
            cells = [ask(call, words, wanted) for words in by_gdal.values()]
            print(f"| {reader} | {' | '.join(cells)} |", flush=True)
        for number, (reader, packages) in enumerate(READERS.items()):
            python = make_environment(folder / f"reader-{number}", packages, options.python, options.uv)
            if python is None:
                print(f"| {reader} | {' | '.join(['cannot be installed here'] * len(by_gdal))} |", flush=True)
                continue
            is_xarray, is_tiler = reader.startswith(("xarray", "newest")), reader.startswith("rio-tiler")
            code = XARRAY if is_xarray else GDAL if "GDAL" in reader else RASTERIO
            code = RIO_TILER if is_tiler else code
            names = by_xarray if is_xarray or is_tiler else by_gdal
            cells = [
                "its default opener takes Zarr"
                if is_tiler and kind == "netCDF"
                else "not its format"
                if is_xarray and kind == "COG"
                else ask([python, "-c", code], words, wanted)
                for kind, words in names.items()
            ]
            print(f"| {reader} | {' | '.join(cells)} |", flush=True)
        print(f"| {ask_zarrita(folder / 'zarrita', store, wanted)} |")


if __name__ == "__main__":
    main()

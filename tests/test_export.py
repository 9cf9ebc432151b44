"""Exported files, opened with rasterio, xarray and, where it is installed, GDAL's command line."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as Xml

import numpy as np
import pytest
import rasterio
import rioxarray  # noqa: F401 - an accessor
import xarray as xr
from affine import Affine
from pyproj import Transformer
from shapely.geometry import box, mapping
from test_products import TALL, fill
from test_store import BANDS

import cloudgan
from cloudgan.cli.app import main
from cloudgan.errors import InputError, StoreError
from cloudgan.io.store.store import make_root_group
from cloudgan.products import geotiff
from cloudgan.products.export import ExportRequest, plan_exports
from cloudgan.schema import Provenance

GDALINFO = shutil.which("gdalinfo")


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Path:
    """A finished store of five dates."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cloudgan.io.store.fence._sync", lambda path: None)
        path = tmp_path_factory.mktemp("export") / "out.zarr"
        fill(str(path))
    return path


@pytest.fixture
def raw(store) -> xr.Dataset:
    return xr.open_zarr(store, mask_and_scale=False)


def export(store: Path, out: Path, **options) -> list[Path]:
    (one,) = plan_exports(ExportRequest(str(store), str(out), **options))
    return one.run()


def gdalinfo(name: str) -> dict:
    """What Debian's GDAL says of a raster."""
    if GDALINFO is None:
        pytest.skip("gdalinfo is not installed: apt-get install gdal-bin")
    done = subprocess.run([GDALINFO, "-json", name], capture_output=True, text=True, timeout=60, check=True)
    return json.loads(done.stdout)


def write_area(path: Path, west: float, south: float, east: float, north: float) -> Path:
    """An area of interest from metres."""
    to_degrees = Transformer.from_crs(32633, 4326, always_xy=True)
    path.write_text(json.dumps(mapping(box(*to_degrees.transform_bounds(west, south, east, north)))))
    return path


def test_a_date_is_a_geotiff_with_all_that_it_means(store, raw, tmp_path):
    files = export(store, tmp_path, dates="2020-04-08/2020-04-13")
    assert [path.name for path in files] == [
        "2020-04-08.tif",
        "2020-04-08_provenance.tif",
        "2020-04-13.tif",
        "2020-04-13_provenance.tif",
    ]
    with rasterio.open(tmp_path / "2020-04-08.tif") as found:
        assert found.crs.to_epsg() == 32633
        assert found.transform == TALL.grid.transform
        assert found.descriptions == BANDS
        assert (found.scales, found.offsets) == ((0.0001,) * 3, (0.0,) * 3)
        assert found.nodata == 0
        tags = found.tags()
        assert tags["TIFFTAG_DATETIME"] == "2020:04:08 00:00:00"
        assert (tags["date"], tags["items"]) == ("2020-04-08", "S2A_33TWM_20200408_0_L2A")
        assert found.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        for number, name in enumerate(BANDS, 1):
            np.testing.assert_array_equal(found.read(number), raw[name].values[1])
    with rasterio.open(tmp_path / "2020-04-08_provenance.tif") as found:
        np.testing.assert_array_equal(found.read(1), raw["provenance"].values[1])
        assert found.colormap(1)[Provenance.GENERATED] == (230, 126, 34, 255)
        assert found.nodata == 0


def test_gdal_reads_a_date(store, tmp_path):
    export(store, tmp_path, dates="2020-04-08")
    found = gdalinfo(str(tmp_path / "2020-04-08.tif"))
    assert 'ID["EPSG",32633]' in found["coordinateSystem"]["wkt"]
    assert Affine.from_gdal(*found["geoTransform"]) == TALL.grid.transform
    assert [band["description"] for band in found["bands"]] == list(BANDS)
    assert [(band["scale"], band["noDataValue"]) for band in found["bands"]] == [(0.0001, 0)] * 3
    assert found["metadata"][""]["date"] == "2020-04-08"
    found = gdalinfo(str(tmp_path / "2020-04-08_provenance.tif"))
    assert found["bands"][0]["colorTable"]["entries"][Provenance.OBSERVED] == [46, 139, 87, 255]
    found = gdalinfo(str(tmp_path / "red.vrt"))
    assert [band["description"] for band in found["bands"]] == ["2020-04-08"]
    assert found["bands"][0]["scale"] == 0.0001


def test_a_large_image_has_overviews(tmp_path, monkeypatch):
    picture = geotiff.Picture("", ("red",), "uint16", 0, 0.0001)
    frame = geotiff.Frame("EPSG:32633", Affine(10, 0, 5e5, 0, -10, 5e6), (700, 1100))
    rng = np.random.default_rng(0)
    whole = rng.integers(1, 9000, (1, 700, 1100)).astype(np.uint16)
    blocks = [
        (block, whole[:, block.row : block.bottom, block.col : block.right])
        for block in geotiff.cut_blocks(geotiff.Window(0, 0, 700, 1100))
    ]
    assert max(block.height * block.width for block, _ in blocks) <= geotiff.BLOCK**2
    geotiff.write_cog(tmp_path / "a.tif", picture, frame, blocks, {})
    with rasterio.open(tmp_path / "a.tif") as found:
        assert found.overviews(1) == [2, 4, 8]
        np.testing.assert_array_equal(found.read(), whole)
    assert [path.name for path in tmp_path.iterdir()] == ["a.tif"]


def test_an_index_of_each_date(store, tmp_path):
    export(store, tmp_path, index="NDVI", dates="2020-04-13")
    wanted = cloudgan.open(store).cloudgan.index("ndvi").values[2]
    with rasterio.open(tmp_path / "2020-04-13.tif") as found:
        assert (found.descriptions, found.dtypes, found.nodata) == (("ndvi",), ("int16",), -32768)
        values = found.read(1, masked=True)
        np.testing.assert_array_equal(values.mask, np.isnan(wanted))
        np.testing.assert_allclose(values.filled(0) * found.scales[0], np.nan_to_num(wanted), atol=6e-5)


@pytest.mark.parametrize("index", [None, "ndvi"])
def test_a_composite_is_that_of_the_accessor(store, tmp_path, index):
    export(store, tmp_path, every="dekad", index=index)
    made = cloudgan.open(store).cloudgan.composite("dekad", index=index)
    for at, start in enumerate(("2020-04-01", "2020-04-11", "2020-04-21")):
        with rasterio.open(tmp_path / f"{start}-dekad.tif") as found:
            for number, name in enumerate(found.descriptions, 1):
                wanted = made[name].values[at]
                values = found.read(number, masked=True)
                np.testing.assert_array_equal(np.ma.getmaskarray(values), np.isnan(wanted))
                np.testing.assert_allclose(values.filled(0) * 0.0001, np.nan_to_num(wanted), atol=6e-5)
            assert found.tags()["date"] == start
        with rasterio.open(tmp_path / f"{start}-dekad_observed.tif") as found:
            share, wanted = found.read(1, masked=True), made["observed_share"].values[at]
            np.testing.assert_allclose((share * 0.01)[~share.mask], wanted[~share.mask], atol=0.006)
    assert len(list(tmp_path.glob("*-dekad.tif"))) == 3


def test_a_month_and_a_season_have_their_names(store, tmp_path):
    assert [path.name for path in export(store, tmp_path / "month", every="month", bands=("nir",))] == [
        "2020-04.tif",
        "2020-04_observed.tif",
    ]
    assert export(store, tmp_path / "season", every="season")[0].name == "2020-03-season.tif"


def test_what_lies_outside_of_an_area_is_no_data(store, raw, tmp_path):
    west, south, _, north = TALL.grid.bounds
    area = write_area(tmp_path / "area.geojson", west + 100, south + 200, west + 300, north - 150)
    export(store, tmp_path / "out", clip=str(area), dates="2020-04-08")
    with rasterio.open(tmp_path / "out" / "2020-04-08.tif") as found:
        row, col = (int(one) for one in found.index(west + 205, north - 205))
        assert found.read(2)[row, col] == raw["red"].values[1, 20, 20]
        assert found.shape[0] < 70
        assert (found.read()[:, 0, 0] == 0).all()
        assert (found.transform.c - TALL.grid.transform.c) % 10 == 0
    far = write_area(tmp_path / "far.geojson", west + 9e4, south, west + 9.1e4, north)
    with pytest.raises(InputError, match=r"far\.geojson lies beside the store; give another --clip"):
        export(store, tmp_path / "far", clip=str(far))


def test_pixels_go_on_the_grid_of_another_file(store, raw, tmp_path):
    west, _, _, north = TALL.grid.bounds
    like = {"crs": "EPSG:32633", "transform": Affine(20, 0, west + 100, 0, -20, north - 100)}
    with rasterio.open(
        tmp_path / "like.tif", "w", driver="GTiff", count=1, width=15, height=12, dtype="uint8", **like
    ) as target:
        target.write(np.zeros((1, 12, 15), np.uint8))
    export(store, tmp_path / "out", like=str(tmp_path / "like.tif"), dates="2020-04-08")
    with rasterio.open(tmp_path / "out" / "2020-04-08.tif") as found:
        assert (found.crs.to_epsg(), found.transform, found.shape) == (32633, like["transform"], (12, 15))
        assert (found.descriptions, found.scales[0], found.nodata) == (BANDS, 0.0001, 0)
        near = raw["red"].values[1, 10:34, 10:40]
        choices = np.stack([near[a::2, b::2] for a in (0, 1) for b in (0, 1)])
        assert (choices == found.read(2)).any(0).all()  # a pixel's own number, none between
    with rasterio.open(tmp_path / "out" / "2020-04-08_provenance.tif") as found:
        assert found.colormap(1)[1] == (46, 139, 87, 255)
    (tmp_path / "like.tif").write_text("no raster")
    with pytest.raises(InputError, match=r"like\.tif cannot be read .*give a raster to --like"):
        export(store, tmp_path / "other", like=str(tmp_path / "like.tif"))


def test_another_crs_is_a_grid_too(store, tmp_path):
    lon, lat = Transformer.from_crs(32633, 4326, always_xy=True).transform(*TALL.grid.bounds[:2])
    with rasterio.open(
        tmp_path / "like.tif", "w", driver="GTiff", count=1, width=40, height=50, dtype="uint8",
        crs="EPSG:4326", transform=Affine(2e-4, 0, lon - 1e-3, 0, -2e-4, lat + 8e-3),
    ) as target:  # fmt: skip
        target.write(np.zeros((1, 50, 40), np.uint8))
    export(store, tmp_path / "out", like=str(tmp_path / "like.tif"), dates="2020-04-08", index="ndvi")
    with rasterio.open(tmp_path / "out" / "2020-04-08.tif") as found:
        assert (found.crs.to_epsg(), found.shape) == (4326, (50, 40))
        values = found.read(1, masked=True)
        assert 0 < values.mask.mean() < 1


# Cubes


def test_netcdf_holds_all_of_it_and_opens_in_gdal(store, tmp_path):
    (path,) = export(store, tmp_path, format="netcdf")
    ds = cloudgan.open(store)
    with xr.open_dataset(path, decode_coords="all") as found:
        assert set(found.data_vars) == set(ds.data_vars)
        for name in ds.data_vars:
            np.testing.assert_allclose(found[name].values, ds[name].values, rtol=1e-6)
        assert (found.rio.crs.to_epsg(), found.rio.transform()) == (32633, TALL.grid.transform)
    said = gdalinfo(f'NETCDF:"{path}":red')
    assert 'ID["EPSG",32633]' in said["coordinateSystem"]["wkt"]
    assert Affine.from_gdal(*said["geoTransform"]).almost_equals(TALL.grid.transform, 1e-6)
    assert len(said["bands"]) == 5
    assert said["bands"][0]["scale"] == pytest.approx(0.0001, rel=1e-6)
    assert said["bands"][0]["noDataValue"] == 0


def test_zarr_of_version_2_opens_in_rasterio_and_gdal(store, raw, tmp_path):
    (path,) = export(store, tmp_path, format="zarr2", bands=("red", "nir"))
    with rasterio.open(f'ZARR:"{path}":/red:1') as found:
        assert (found.crs.to_epsg(), found.transform) == (32633, TALL.grid.transform)
        np.testing.assert_array_equal(found.read(1), raw["red"].values[1])
        assert found.scales[0] == pytest.approx(0.0001, rel=1e-6)
        assert found.nodata == 0
    said = gdalinfo(f'ZARR:"{path}":/red:1')
    assert 'ID["EPSG",32633]' in said["coordinateSystem"]["wkt"]
    assert Affine.from_gdal(*said["geoTransform"]) == TALL.grid.transform
    assert said["bands"][0]["scale"] == pytest.approx(0.0001, rel=1e-6)
    with pytest.raises(InputError, match="--like puts images on another grid, and zarr2 has none; use cog"):
        export(store, tmp_path, format="zarr2", like="a.tif")


@pytest.mark.parametrize("kind", ["netcdf", "zarr2"])
def test_cubes_take_composites_indices_and_areas(store, tmp_path, kind):
    west, south, _, north = TALL.grid.bounds
    area = write_area(tmp_path / "area.geojson", west + 100, south + 200, west + 300, north - 150)
    (path,) = export(store, tmp_path / "a", format=kind, every="month", index="ndvi", clip=str(area))
    opened = xr.open_dataset(path) if kind == "netcdf" else xr.open_zarr(path)
    with opened as found:
        assert set(found.data_vars) == {"ndvi", "observed_share"}
        assert found.sizes["time"] == 1
        assert np.isnan(found["ndvi"].values[0, 0, 0])
        wanted = cloudgan.open(store).cloudgan.composite("month", index="ndvi")["ndvi"]
        wanted = wanted.sel(x=found.x, y=found.y, method="nearest").values[0]
        inside = np.isfinite(found["ndvi"].values[0])
        np.testing.assert_allclose(found["ndvi"].values[0][inside], wanted[inside], rtol=1e-5)
    (path,) = export(store, tmp_path / "b", format=kind, clip=str(area), dates="2020-04-08", bands=("red",))
    with xr.open_dataset(path) if kind == "netcdf" else xr.open_zarr(path) as found:
        assert found["provenance"].dtype == np.uint8
        assert {"red", "uncertainty"} <= set(found.data_vars)
        assert "nir" not in found


def test_without_a_package_netcdf_is_refused_in_one_sentence(store, tmp_path, monkeypatch):
    monkeypatch.setattr("cloudgan.products.cubes.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"netCDF needs a package .*pip install 'cloudgan\[netcdf\]'"):
        export(store, tmp_path, format="netcdf")


# QGIS


def test_styles_and_stacks_are_well_formed_and_name_what_is_there(store, raw, tmp_path):
    export(store, tmp_path)
    for path in (*tmp_path.glob("*.qml"), *tmp_path.glob("*.vrt")):
        Xml.parse(path)
    entries = Xml.parse(tmp_path / "2020-04-08_provenance.qml").findall(".//paletteEntry")
    assert [one.get("label") for one in entries][1:3] == ["observed", "generated"]
    renderer = Xml.parse(tmp_path / "2020-04-08.qml").find(".//rasterrenderer")
    assert [renderer.get(f"{colour}Band") for colour in ("red", "green", "blue")] == ["3", "2", "1"]
    with rasterio.open(tmp_path / "nir.vrt") as stack:
        assert stack.descriptions == tuple(str(day)[:10] for day in raw["time"].values)
        np.testing.assert_array_equal(stack.read(), raw["nir"].values)


# Going on, and refusing


def test_an_export_that_was_cut_off_is_resumed(store, tmp_path, monkeypatch):
    whole = {path.name: path.read_bytes() for path in export(store, tmp_path / "whole")}
    copy, calls = rasterio.shutil.copy, []

    def cut_off(*arguments, **options):
        calls.append(arguments)
        if len(calls) == 4:
            raise KeyboardInterrupt
        copy(*arguments, **options)

    monkeypatch.setattr(rasterio.shutil, "copy", cut_off)
    with pytest.raises(KeyboardInterrupt):
        export(store, tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "2020-04-03.tif", "2020-04-03.qml", "2020-04-03_provenance.tif", "2020-04-03_provenance.qml",
        "2020-04-08.tif", "2020-04-08.qml", "export.json",
    }  # fmt: skip
    made = (tmp_path / "out" / "2020-04-08.tif").stat().st_mtime_ns
    files = export(store, tmp_path / "out")
    assert len(calls) == 4 + 7
    assert (tmp_path / "out" / "2020-04-08.tif").stat().st_mtime_ns == made
    assert {path.name: path.read_bytes() for path in files} == whole


def test_files_of_another_export_are_not_mixed_with_these(store, tmp_path):
    export(store, tmp_path, dates="2020-04-08")
    with pytest.raises(InputError, match=r"holds an export of another store, or with other settings; remove"):
        export(store, tmp_path, dates="2020-04-08", index="ndvi")


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"format": "shp"}, r"there is no format 'shp'; give one of cog, netcdf, zarr2"),
        ({"dates": "2021"}, r"the store has no date in 2021; it has 2020-04-03 to 2020-04-28"),
        ({"bands": ("blue",)}, r"the store has no band blue; give --bands of green, red, nir"),
        ({"index": "evi"}, r"evi needs the band blue, and the store has green, red, nir;"),
        ({"index": "ndvi", "bands": ("red",)}, r"an index replaces the bands; give either"),
        ({"every": "week"}, r"there is no period 'week'; give one of month, dekad, season"),
        ({"out": "s3://bucket/x"}, r"is an object store, and files are written on a disk; give a folder"),
    ],
)
def test_what_cannot_be_done_is_refused_in_one_sentence(store, tmp_path, options, reason):
    request = replace(ExportRequest(str(store), str(tmp_path / "out")), **options)
    with pytest.raises(InputError, match=reason) as caught:
        plan_exports(request)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_place_without_a_store_is_refused(tmp_path):
    with pytest.raises(StoreError, match="there is no store at"):
        plan_exports(ExportRequest(str(tmp_path / "none"), str(tmp_path / "out")))


def test_zones_go_to_folders_of_their_own(tmp_path):
    root = tmp_path / "zones.zarr"
    make_root_group(str(root), ["utm33n"])
    fill(str(root / "utm33n"))
    (one,) = plan_exports(ExportRequest(str(root), str(tmp_path / "out"), dates="2020-04-08"))
    assert one.run()[0] == tmp_path / "out" / "utm33n" / "2020-04-08.tif"


def test_the_command_names_its_files(store, tmp_path, capsys):
    with pytest.raises(SystemExit) as end:
        main(["export", str(store), "--out", str(tmp_path / "out"), "--every", "month", "--json"])
    assert not end.value.code
    said = capsys.readouterr()
    assert [Path(name).name for name in json.loads(said.out)["files"]] == [
        "2020-04.tif",
        "2020-04_observed.tif",
    ]
    assert re.search(r"out: 2 files", said.err)
    with pytest.raises(SystemExit, match="2"):
        main(["export", str(store), "--index", "savi"])
    assert "there is no index 'savi'" in capsys.readouterr().err

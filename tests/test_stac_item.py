"""A store as a STAC Item, by pystac and by the schema that pystac brings."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pystac
import pystac.validation
import pytest
from pystac.extensions.datacube import DatacubeExtension
from pystac.extensions.projection import ProjectionExtension
from shapely.geometry import box, shape
from test_products import DAYS, TALL, fill

from cloudgan.cli.app import main
from cloudgan.errors import InputError, StoreError
from cloudgan.geo.grid import Grid, Lattice, Window
from cloudgan.io.store.store import make_root_group
from cloudgan.products.stac_item import _trace_footprint, write_items


@pytest.fixture(scope="module")
def out(tmp_path_factory) -> Path:
    """A finished store."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cloudgan.io.store.fence._sync", lambda path: None)
        path = tmp_path_factory.mktemp("item") / "out.zarr"
        fill(str(path))
    return path


@pytest.fixture
def item(out) -> pystac.Item:
    (path,) = write_items(str(out))
    assert path == out.with_name("out.stac.json")
    return pystac.Item.from_file(str(path))


def test_it_says_where_and_when(item):
    grid = TALL.grid
    assert item.id == "out"
    assert item.datetime is None
    assert item.common_metadata.start_datetime.date().isoformat() == f"2020-04-{DAYS[0]:02d}"
    assert item.common_metadata.end_datetime.date().isoformat() == f"2020-04-{DAYS[-1]:02d}"
    projection = ProjectionExtension.ext(item)
    assert projection.code == "EPSG:32633"
    assert projection.shape == list(grid.shape)
    assert projection.transform == list(grid.transform)[:6]
    assert projection.bbox == list(grid.bounds)
    footprint = shape(item.geometry)
    assert footprint.exterior.is_ccw
    assert footprint.is_valid
    np.testing.assert_allclose(footprint.bounds, item.bbox)


def test_it_names_the_items_that_it_comes_from_by_their_addresses(tmp_path, monkeypatch):
    """An item that says its own address is linked; a signature in it is left out."""
    monkeypatch.setattr("cloudgan.io.store.fence._sync", lambda path: None)
    first, second, *rest = TALL.scenes
    address = "https://stac.example.org/items/one"
    known = (replace(first.items[0], href=f"{address}?sig=secret"), replace(second.items[0], href=None))
    scenes = [replace(scene, items=(item,)) for scene, item in zip((first, second), known, strict=True)]
    fill(str(tmp_path / "out.zarr"), replace(TALL, scenes=(*scenes, *rest)))
    (path,) = write_items(str(tmp_path / "out.zarr"))
    links = json.loads(path.read_text())["links"]
    assert [(link["rel"], link["title"]) for link in links] == [("derived_from", known[0].id)]
    assert links[0]["href"] == address
    assert "secret" not in path.read_text()


def test_its_cube_is_the_store_s(item):
    cube = DatacubeExtension.ext(item)
    assert set(cube.dimensions) == {"time", "y", "x"}
    assert len(item.properties["cube:dimensions"]["time"]["values"]) == len(DAYS)
    assert cube.dimensions["x"].extent == [TALL.grid.x()[0], TALL.grid.x()[-1]]
    assert cube.dimensions["y"].extent == [TALL.grid.y()[-1], TALL.grid.y()[0]]
    kinds = {name: one.var_type for name, one in cube.variables.items()}
    assert kinds["red"] == "data"
    assert kinds["provenance"] == "auxiliary"
    assert item.properties["cloudgan:source_items"]["2020-04-03"] == ["S2A_33TWM_20200403_0_L2A"]


def test_its_asset_is_the_store(item, out):
    asset = item.assets["data"]
    assert Path(asset.get_absolute_href()).resolve() == out.resolve()
    bands = {band["name"]: band for band in asset.extra_fields.get("bands", asset.to_dict()["bands"])}
    assert list(bands) == ["green", "red", "nir"]
    assert bands["red"]["raster:scale"] == 0.0001
    assert (bands["red"]["nodata"], bands["red"]["data_type"]) == (0, "uint16")
    assert bands["nir"]["eo:center_wavelength"] == pytest.approx(0.8328)


def test_it_is_valid_by_the_schema_of_stac(out):
    """Offline: pystac brings the core schemas; those of extensions are on the web alone."""
    pytest.importorskip("jsonschema")
    made = json.loads(write_items(str(out))[0].read_text()) | {"stac_extensions": []}
    assert len(pystac.validation.validate_dict(made)) == 1
    made["properties"].pop("start_datetime")
    with pytest.raises(pystac.STACValidationError):
        pystac.validation.validate_dict(made)


def test_a_footprint_is_cut_at_the_antimeridian():
    grid = Grid(Lattice(32601, 1000.0), Window(-5000, 150, 100, 200))  # the west of zone 1
    footprint, bounds = _trace_footprint(grid)
    assert footprint.geom_type == "MultiPolygon"
    assert box(-180, -90, 180, 90).covers(footprint)
    west, _, east, _ = bounds
    assert west > 0 > east
    whole, _ = _trace_footprint(replace(grid, window=Window(-5000, 400, 100, 200)))
    assert whole.geom_type == "Polygon"


def test_zones_have_an_item_each(tmp_path):
    make_root_group(str(tmp_path / "zones.zarr"), ["utm32n", "utm33n"])
    fill(str(tmp_path / "zones.zarr" / "utm33n"))
    (path,) = write_items(str(tmp_path / "zones.zarr"), str(tmp_path / "items"))
    assert path.name == "zones-utm33n.stac.json"
    assert json.loads(path.read_text())["assets"]["data"]["href"] == "../zones.zarr/utm33n"


def test_the_command_prints_the_file_and_refuses_what_is_no_store(out, tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["stac", str(out), "--out", str(tmp_path)])
    assert capsys.readouterr().out == f"{tmp_path / 'out.stac.json'}\n"
    with pytest.raises(StoreError, match="there is no store at"):
        write_items(str(tmp_path / "none.zarr"))
    with pytest.raises(InputError, match="is an object store, and items are files on a disk"):
        write_items(str(out), "s3://bucket/items")

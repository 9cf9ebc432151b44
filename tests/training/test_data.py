import json

import h5py
import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin

from cloudgan.errors import InputError
from cloudgan.training import data
from cloudgan.training.train import HELD_OUT


def write(path, values, names=("B02", "B03", "B04", "B08")):
    profile = {"driver": "GTiff", "width": values.shape[2], "height": values.shape[1], "count": len(values)}
    with rasterio.open(
        path, "w", dtype=values.dtype, crs="EPSG:32633", transform=from_origin(5e5, 5e6, 10, 10), **profile
    ) as out:
        out.write(values)
        out.descriptions = names


@pytest.fixture
def numbers(rng):
    return rng.integers(100, 5000, (4, 20, 30), dtype=np.uint16)


def test_geotiff_bands_by_name(tmp_path, numbers):
    write(tmp_path / "a.tif", numbers)
    image = data.read_geotiff(tmp_path / "a.tif", ("nir", "green"))
    np.testing.assert_allclose(image, np.moveaxis(numbers[[3, 1]], 0, -1) / 1e4, rtol=1e-6)
    assert image.dtype == np.float32
    with pytest.raises(InputError, match="no band swir"):
        data.read_geotiff(tmp_path / "a.tif", ("swir",))
    (tmp_path / "b.tif").write_text("no picture")
    with pytest.raises(InputError, match="cannot be read"):
        data.read_geotiff(tmp_path / "b.tif")


def test_folder_in_order_and_without_the_named(tmp_path, numbers):
    for name in ("b", "a", "c"):
        write(tmp_path / f"{name}.tif", numbers)
    scenes = data.read_folder(tmp_path, "here", without=("c",))
    assert [scene.name for scene in scenes] == [f"{tmp_path.name}/a", f"{tmp_path.name}/b"]
    assert {scene.region for scene in scenes} == {"here"}
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no GeoTIFF"):
        data.read_folder(tmp_path / "empty", "there")


def test_series(tmp_path, rng):
    values = {name: rng.integers(0, 4000, (5, 6, 7), dtype=np.uint16) for name in ("B3", "B4", "B8")}
    with h5py.File(tmp_path / "s.nc", "w") as file:
        file["time"] = np.arange(0, 50, 10)
        for name, value in values.items():
            file[name] = value
    days, images, scl = data.read_series(tmp_path / "s.nc")
    assert list(days) == [0, 10, 20, 30, 40]
    assert scl is None
    np.testing.assert_allclose(images[..., 2], values["B8"] / 1e4, rtol=1e-6)
    with pytest.raises(InputError, match="no band blue"):
        data.read_series(tmp_path / "s.nc", ("blue",))


@pytest.mark.parametrize("factor", [1, 10_000])
def test_floats_are_reflectance_or_digital_numbers_with_nan(tmp_path, rng, factor):
    reflectance = rng.uniform(0.01, 1.4, (2, 6, 7)).astype(np.float32)
    with h5py.File(tmp_path / "s.nc", "w") as file:
        file["time"] = [0, 5]
        for name in ("B03", "B04", "B08"):
            values = reflectance * factor
            values[0, 0, 0] = np.nan
            file[name] = values
    _, images, _ = data.read_series(tmp_path / "s.nc")
    assert (images[0, 0, 0] == 0).all()
    np.testing.assert_allclose(images[1, ..., 0], reflectance[1], rtol=1e-5)


@pytest.mark.parametrize(("applied", "added"), [(True, 0), (False, 1000)])
def test_stac_item_and_its_offset(tmp_path, numbers, applied, added):
    scl = np.full((20, 30), 4, np.uint8)
    scl[5:8, 5:8], scl[12:14, 20:24] = 9, 3
    numbers[:, :, 0] = 0
    assets = {}
    for name, values in zip(("green", "red", "nir", "scl"), (*numbers[1:], scl), strict=True):
        write(tmp_path / f"{name}.tif", values[None], (name,))
        assets[name] = {"href": f"./{name}.tif", "raster:bands": [{"scale": 0.0001, "offset": -0.1}]}
    properties = {
        "earthsearch:boa_offset_applied": applied,
        "grid:code": "MGRS-33TWM",
        "datetime": "2023-08-20T10:00:00Z",
        "s2:processing_baseline": "05.09",
    }
    item = {"id": "an item", "bbox": [15, 46, 16, 47], "properties": properties, "assets": assets}
    (tmp_path / "item.json").write_text(json.dumps(item))
    scene = data.read_stac_item(tmp_path / "item.json")
    wanted = np.where(numbers[1] > 0, np.maximum(numbers[1].astype(int) - added, 1), 0) / 1e4
    np.testing.assert_allclose(scene.image[..., 0], wanted, rtol=1e-6)
    assert scene.cloud.sum() == 9
    assert scene.shadow.sum() == 8
    assert not scene.valid[:, 0].any()
    assert not scene.valid[4:9, 4:9].any()
    west, east = data.halves(scene, 10)
    assert (west.region, east.region) == ("MGRS-33TWM-west", "MGRS-33TWM-east")
    assert west.image.shape[1] + east.image.shape[1] == 30
    pair = data.paired(scene, scene)
    assert pair.hidden.sum() > 17
    assert not (pair.valid & pair.hidden).any()


def test_pairs_are_hidden_where_they_differ(tmp_path, numbers):
    clear = np.full_like(numbers, 1000)
    cloudy = clear.copy()
    cloudy[:, 5:9, 5:9], cloudy[:, 14:17, 20:25] = 6000, 300
    write(tmp_path / "clear.tif", clear)
    write(tmp_path / "cloudy.tif", cloudy)
    pair = data.read_pair(tmp_path / "cloudy.tif", tmp_path / "clear.tif", "here")
    assert pair.hidden[5:9, 5:9].all()
    assert pair.hidden[14:17, 20:25].all()
    assert not pair.hidden[:, 28:].any()
    write(tmp_path / "small.tif", clear[:, :5])
    with pytest.raises(InputError, match="no pair"):
        data.read_pair(tmp_path / "cloudy.tif", tmp_path / "small.tif", "here")


def test_split_keeps_regions_whole(fields):
    valid = np.ones(fields.shape[:2], bool)
    scenes = tuple(data.Scene(f"{region}{i}", region, fields, valid) for region in "abc" for i in range(2))
    training, validation = data.Imagery(scenes).split(["b"])
    assert training.regions() == ("a", "c")
    assert validation.regions() == ("b",)
    assert len(training.clear) + len(validation.clear) == 6
    for held_out, reason in (
        (["d"], "no such regions"),
        ([], "hold out some"),
        (["a", "b", "c"], "hold out some"),
    ):
        with pytest.raises(InputError, match=reason):
            data.Imagery(scenes).split(held_out)


def test_small_scenes_are_enlarged(fields):
    scene = data.Scene("s", "r", fields[:100, :120], np.ones((100, 120), bool))
    large = data.enlarged(scene, 256)
    assert large.image.shape == (256, 307, 3)
    assert large.valid.all()
    assert large.image.mean() == pytest.approx(scene.image.mean(), rel=0.02)
    assert data.enlarged(large, 256) is large


def test_the_real_imagery(samples_dir):
    imagery = data.read_samples(samples_dir)
    training, validation = imagery.split(HELD_OUT)
    assert set(validation.regions()) == set(HELD_OUT)
    assert not set(training.regions()) & set(HELD_OUT)
    assert {scene.region for scene in training.skies} == {"MGRS-33TWM-west"}
    for scene in imagery.clear:
        assert scene.image.shape == (*scene.valid.shape, 3)
        green, _, nir = scene.image[scene.valid].mean(axis=0)
        assert 0.02 < green < 0.2, f"{scene.name} is not clear land"
        assert 0.1 < nir < 0.6, f"{scene.name} is not clear land"

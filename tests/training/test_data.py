import json

import h5py
import numpy as np
import pytest
from geotiff import write

from cloudgan.errors import InputError
from cloudgan.training.data import samples_folder

HELD_OUT = ("33UUB", "MGRS-33TWM-east", "summer_102")  # by pipelines/train-single.toml


@pytest.fixture
def numbers(rng):
    return rng.integers(100, 5000, (4, 20, 30), dtype=np.uint16)


def test_series(tmp_path, rng):
    values = {name: rng.integers(0, 4000, (5, 6, 7), dtype=np.uint16) for name in ("B3", "B4", "B8")}
    with h5py.File(tmp_path / "s.nc", "w") as file:
        file["time"] = np.arange(0, 50, 10)
        for name, value in values.items():
            file[name] = value
    days, images, scl = samples_folder.read_series(tmp_path / "s.nc")
    assert list(days) == [0, 10, 20, 30, 40]
    assert scl is None
    np.testing.assert_allclose(images[..., 2], values["B8"] / 1e4, rtol=1e-6)
    with pytest.raises(InputError, match="no band blue"):
        samples_folder.read_series(tmp_path / "s.nc", ("blue",))


@pytest.mark.parametrize("factor", [1, 10_000])
def test_floats_are_reflectance_or_digital_numbers_with_nan(tmp_path, rng, factor):
    reflectance = rng.uniform(0.01, 1.4, (2, 6, 7)).astype(np.float32)
    with h5py.File(tmp_path / "s.nc", "w") as file:
        file["time"] = [0, 5]
        for name in ("B03", "B04", "B08"):
            values = reflectance * factor
            values[0, 0, 0] = np.nan
            file[name] = values
    _, images, _ = samples_folder.read_series(tmp_path / "s.nc")
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
    scene = samples_folder.read_stac_item(tmp_path / "item.json")
    wanted = np.where(numbers[1] > 0, np.maximum(numbers[1].astype(int) - added, 1), 0) / 1e4
    np.testing.assert_allclose(scene.image[..., 0], wanted, rtol=1e-6)
    assert scene.cloud.sum() == 9
    assert scene.shadow.sum() == 8
    assert not scene.valid[:, 0].any()
    assert not scene.valid[4:9, 4:9].any()
    west, east = samples_folder.halves(scene, 10)
    assert (west.region, east.region) == ("MGRS-33TWM-west", "MGRS-33TWM-east")
    assert west.image.shape[1] + east.image.shape[1] == 30
    pair = samples_folder.paired(scene, scene)
    assert pair.masked.sum() > 17
    assert not (pair.valid & pair.masked).any()


def test_the_real_imagery(samples_dir):
    imagery = samples_folder.read_samples(samples_dir)
    training, validation = imagery.split(HELD_OUT)
    assert set(validation.regions()) == set(HELD_OUT)
    assert not set(training.regions()) & set(HELD_OUT)
    assert {scene.region for scene in training.cloud_fields} == {"MGRS-33TWM-west", "cloud-texture-512"}
    for scene in imagery.clear:
        assert scene.image.shape == (*scene.valid.shape, 3)
        green, _, nir = scene.image[scene.valid].mean(axis=0)
        assert 0.02 < green < 0.2, f"{scene.name} is not clear land"
        assert 0.1 < nir < 0.6, f"{scene.name} is not clear land"


def test_the_cumulus_sample_is_a_sky(samples_dir):
    cloud_field = samples_folder.read_texture(samples_dir / "cloud-texture-512.npz", ("nir", "green"))
    assert cloud_field.image.shape == (512, 512, 2)
    assert 0.1 < cloud_field.cloud.mean() < 0.3
    cloud, shadow, ground = (
        cloud_field.image[mask].mean(axis=0)
        for mask in (cloud_field.cloud, cloud_field.shadow, cloud_field.valid)
    )
    assert (shadow < 0.8 * ground).all()
    assert (ground < cloud).all()
    with pytest.raises(InputError, match="no band scl"):
        samples_folder.read_texture(samples_dir / "cloud-texture-512.npz", ("scl",))


def test_a_texture_that_is_none_is_named(tmp_path):
    np.savez(tmp_path / "t.npz", other=np.zeros(3))
    with pytest.raises(InputError, match="cannot be read as a cloud texture"):
        samples_folder.read_texture(tmp_path / "t.npz")

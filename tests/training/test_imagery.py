import numpy as np
import pytest
from affine import Affine
from rasterio.warp import transform_bounds

from cloudgan.errors import InputError
from cloudgan.training.data import imagery
from cloudgan.training.data.imagery import Frame, Image, Imagery


def test_split_keeps_regions_whole(fields):
    valid = np.ones(fields.shape[:2], bool)
    images = tuple(Image(f"{region}{i}", region, fields, valid) for region in "abc" for i in range(2))
    training, validation = Imagery(images).split(["b"])
    assert training.regions() == ("a", "c")
    assert validation.regions() == ("b",)
    assert len(training.clear) + len(validation.clear) == 6
    for held_out, reason in (
        (["d"], "no such regions"),
        ([], "hold out some"),
        (["a", "b", "c"], "hold out some"),
    ):
        with pytest.raises(InputError, match=reason):
            Imagery(images).split(held_out)


def test_small_images_are_enlarged(fields):
    image = Image("s", "r", fields[:100, :120], np.ones((100, 120), bool))
    large = imagery.enlarge(image, 256)
    assert large.reflectance.shape == (256, 307, 3)
    assert large.valid.all()
    assert large.reflectance.mean() == pytest.approx(image.reflectance.mean(), rel=0.02)
    assert imagery.enlarge(large, 256) is large


def placed(region, west, north=5e6, crs="EPSG:32633", size=100):
    """A image of 100 x 100 pixels of 10 m with its upper left corner at a place."""
    frame = Frame(crs, Affine(10, 0, west, 0, -10, north))
    return Image(
        region, region, np.ones((size, size, 3), np.float32), np.ones((size, size), bool), frame=frame
    )


def test_surface_shared_by_both_sides_of_a_split_is_refused():
    images = placed("a", 5e5), placed("b", 5e5 + 700), placed("c", 5e5 + 5000)
    training, validation = Imagery(images[::2]).split(["c"])
    assert (training.regions(), validation.regions()) == (("a",), ("c",))
    with pytest.raises(
        InputError, match="regions b, to validate on, and a, to train on, share 30% of the surface"
    ):
        Imagery(images).split(["b"])
    Imagery(images).split(["c"])  # a and b may share what they like: both are trained on


def test_shared_surface_is_found_across_zones():
    # One place, 15 degrees east, in the two zones that meet near it.
    west, _, _, north = transform_bounds("EPSG:32633", "EPSG:32632", 5e5, 5e6 - 1000, 5e5 + 1000, 5e6)
    with pytest.raises(InputError, match="share"):
        Imagery((placed("a", 5e5), placed("b", west, north, "EPSG:32632"))).split(["b"])


def test_an_outline_is_where_gdal_has_it():
    frame = Frame("EPSG:32633", Affine(10, 0, 7e5, 0, -10, 5e6))
    wanted = transform_bounds("EPSG:32633", "EPSG:4326", 7e5, 5e6 - 3000, 7e5 + 4000, 5e6, densify_pts=21)
    np.testing.assert_allclose(frame.outline((300, 400)).bounds, wanted, atol=1e-6)


def test_a_pair_is_of_one_grid_and_knows_its_clouds():
    cloudy, clear = placed("a", 5e5), placed("a", 5e5 + 10)
    with pytest.raises(InputError, match="has no cloud mask"):
        imagery.pair_images(cloudy, clear)
    mask = np.zeros((100, 100), bool)
    cloudy = Image("a", "a", cloudy.reflectance, cloudy.valid, mask, mask, cloudy.frame)
    with pytest.raises(InputError, match="read both on one grid"):
        imagery.pair_images(cloudy, clear)


def test_a_classified_image_keeps_away_from_what_masks_it(rng):
    reflectance = rng.uniform(0.01, 0.5, (20, 30, 3)).astype(np.float32)
    reflectance[:, 0] = 0
    scl = np.full((20, 30), 4, np.uint8)
    scl[5:8, 5:8], scl[12:14, 20:24] = 9, 3
    image = imagery.classified_image("i", "r", reflectance, scl)
    assert image.cloud.sum() == 9
    assert image.shadow.sum() == 8
    assert not image.valid[:, 0].any()
    assert not image.valid[4:9, 4:9].any()
    pair = imagery.pair_images(image, image)
    assert pair.masked.sum() > 17
    assert not (pair.valid & pair.masked).any()

import numpy as np
import pytest
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from rasterio.warp import transform_bounds

from cloudgan.errors import InputError
from cloudgan.training.data import imagery
from cloudgan.training.data.imagery import Frame, Imagery, Scene


def test_split_keeps_regions_whole(fields):
    valid = np.ones(fields.shape[:2], bool)
    scenes = tuple(Scene(f"{region}{i}", region, fields, valid) for region in "abc" for i in range(2))
    training, validation = Imagery(scenes).split(["b"])
    assert training.regions() == ("a", "c")
    assert validation.regions() == ("b",)
    assert len(training.clear) + len(validation.clear) == 6
    for held_out, reason in (
        (["d"], "no such regions"),
        ([], "hold out some"),
        (["a", "b", "c"], "hold out some"),
    ):
        with pytest.raises(InputError, match=reason):
            Imagery(scenes).split(held_out)


def test_small_scenes_are_enlarged(fields):
    scene = Scene("s", "r", fields[:100, :120], np.ones((100, 120), bool))
    large = imagery.enlarged(scene, 256)
    assert large.image.shape == (256, 307, 3)
    assert large.valid.all()
    assert large.image.mean() == pytest.approx(scene.image.mean(), rel=0.02)
    assert imagery.enlarged(large, 256) is large


def placed(region, west, north=5e6, crs="EPSG:32633", size=100):
    """A scene of 100 x 100 pixels of 10 m with its upper left corner at a place."""
    frame = Frame(crs, Affine(10, 0, west, 0, -10, north))
    return Scene(
        region, region, np.ones((size, size, 3), np.float32), np.ones((size, size), bool), frame=frame
    )


def test_ground_shared_by_both_sides_of_a_split_is_refused():
    scenes = placed("a", 5e5), placed("b", 5e5 + 700), placed("c", 5e5 + 5000)
    training, validation = Imagery(scenes[::2]).split(["c"])
    assert (training.regions(), validation.regions()) == (("a",), ("c",))
    with pytest.raises(
        InputError, match="regions b, to validate on, and a, to train on, share 30% of the ground"
    ):
        Imagery(scenes).split(["b"])
    Imagery(scenes).split(["c"])  # a and b may share what they like: both are trained on


def test_shared_ground_is_found_across_zones():
    # One place, 15 degrees east, in the two zones that meet near it.
    west, _, _, north = transform_bounds("EPSG:32633", "EPSG:32632", 5e5, 5e6 - 1000, 5e5 + 1000, 5e6)
    with pytest.raises(InputError, match="share"):
        Imagery((placed("a", 5e5), placed("b", west, north, "EPSG:32632"))).split(["b"])


@given(cut=st.integers(1, 99))
def test_halves_are_neighbours_and_not_shared_ground(cut):
    west, east = imagery.halves(placed("a", 5e5), cut)
    training, validation = Imagery((west, east)).split(["a-east"])
    assert training.clear[0].image.shape[1] + validation.clear[0].image.shape[1] == 100


def test_an_outline_is_where_gdal_has_it():
    frame = Frame("EPSG:32633", Affine(10, 0, 7e5, 0, -10, 5e6))
    wanted = transform_bounds("EPSG:32633", "EPSG:4326", 7e5, 5e6 - 3000, 7e5 + 4000, 5e6, densify_pts=21)
    np.testing.assert_allclose(frame.outline((300, 400)).bounds, wanted, atol=1e-6)


def test_a_pair_is_of_one_grid_and_knows_its_clouds():
    cloudy, clear = placed("a", 5e5), placed("a", 5e5 + 10)
    with pytest.raises(InputError, match="has no cloud mask"):
        imagery.paired(cloudy, clear)
    mask = np.zeros((100, 100), bool)
    cloudy = Scene("a", "a", cloudy.image, cloudy.valid, mask, mask, cloudy.frame)
    with pytest.raises(InputError, match="read both on one grid"):
        imagery.paired(cloudy, clear)


@pytest.mark.parametrize(
    ("text", "name"), [("B03", "green"), ("B3", "green"), ("nir", "nir"), ("B8A", "B8A")]
)
def test_bands_have_common_names(text, name):
    assert imagery.common_name(text) == name

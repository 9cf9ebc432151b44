import numpy as np
import pytest
from affine import Affine
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from rasterio.warp import Resampling, reproject

from cloudgan.errors import InputError
from cloudgan.training import augmentation as aug

images = st.builds(
    lambda seed, rows, cols: np.random.default_rng(seed).random((rows, cols, 3)).astype(np.float32),
    st.integers(0, 99),
    st.integers(8, 24),
    st.integers(8, 24),
)


def test_the_plain_stack_is_the_documented_one(rng):
    image = rng.random((12, 12, 3)).astype(np.float32)
    stack = aug.make_plain_stack((image, image + 1))
    turns = [0, 1, 2, -1, 0, 1, 2, -1, 0, 1]
    assert len(stack) == 10
    for (cloudy, clear), turn in zip(stack, turns, strict=True):
        np.testing.assert_array_equal(cloudy, np.rot90(image, turn))
        np.testing.assert_array_equal(clear, np.rot90(image + 1, turn))


def test_the_skewed_stack_is_the_documented_one(rng):
    image = rng.random((12, 12, 3)).astype(np.float32)
    stack = aug.make_skewed_stack((image, image), 15)
    skewed = aug.shear_image(image, 15)
    order = [(image, 0), (image, 1), (image, 2), (image, -1)]
    order += [(skewed, 0), (skewed, 1), (skewed, 2), (skewed, -1), (image, 0), (skewed, 0)]
    for (cloudy, _), (source, turn) in zip(stack, order, strict=True):
        np.testing.assert_array_equal(cloudy, np.rot90(source, turn))


@settings(max_examples=20, deadline=None)
@given(image=images, across=st.floats(-40, 40), down=st.floats(-40, 40))
def test_both_images_of_a_pair_share_one_transform(image, across, down):
    # A pair of an image and its shifted double stays such a pair: no image is transformed on its own.
    for cloudy, clear in aug.make_plain_stack((image, image)) + aug.make_skewed_stack(
        (image, image), across, down
    ):
        np.testing.assert_array_equal(cloudy, clear)


@settings(max_examples=40, deadline=None)
@given(image=images, seed=st.integers(0, 999), size=st.integers(2, 8))
def test_a_drawn_transform_moves_every_image_alike_and_invents_nothing(image, seed, size):
    change = aug.draw_transform(np.random.default_rng(seed), image.shape[:2], size)
    row, col = np.indices(image.shape[:2])
    moved, rows, cols = change(image), change(row), change(col)
    assert moved.shape == (size, size, 3)
    np.testing.assert_array_equal(moved, image[rows, cols])
    assert len({*zip(rows.ravel(), cols.ravel(), strict=True)}) == size * size


@settings(max_examples=25)
@given(across=st.floats(-40, 40), down=st.floats(-40, 40))
def test_the_stack_tells_where_each_pixel_came_from_alike_for_both_images(across, down):
    # Images that hold their own coordinates, in another unit each: what a copy holds is the mapping itself.
    assume(abs(np.tan(np.radians(across)) * np.tan(np.radians(down)) - 1) > 0.05)
    rows, cols = np.indices((20, 20), np.float32)
    cloudy, clear = np.stack([rows, cols], -1), np.stack([rows * 3 + 7, cols * 3 + 7], -1)
    for one, other in aug.make_skewed_stack((cloudy, clear), across, down):
        np.testing.assert_allclose((other - 7) / 3, one, atol=2e-4)


@settings(max_examples=25)
@given(seed=st.integers(0, 99), across=st.floats(-45, 45), down=st.floats(-20, 20))
def test_the_shear_is_the_one_that_gdal_warps(seed, across, down):
    image = np.random.default_rng(seed).random((31, 33, 1)).astype(np.float32)
    skewed = aug.shear_image(image, across, down)
    # GDAL's geotransform of a skewed raster about the centre of the image: x and y of a pixel of the result.
    middle = Affine.translation(16.5, 15.5)
    skew = Affine(1, np.tan(np.radians(across)), 0, np.tan(np.radians(down)), 1, 0)
    warped = np.full((31, 33), np.nan, np.float32)
    reproject(
        image[..., 0],
        warped,
        src_transform=Affine.identity(),
        dst_transform=middle @ skew @ ~middle,
        src_crs="EPSG:32633",
        dst_crs="EPSG:32633",
        dst_nodata=np.nan,
        resampling=Resampling.bilinear,
    )
    # Compared where all four neighbours lie in the image; beyond it, GDAL has nothing and we mirror.
    rows, cols = np.indices((31, 33))
    x, y = (middle @ skew @ ~middle) @ (cols + 0.5, rows + 0.5)
    inside = (x > 1) & (x < 32) & (y > 1) & (y < 30)
    assert inside.sum() > 100
    np.testing.assert_allclose(skewed[..., 0][inside], warped[inside], atol=2e-3)


def test_shear_is_in_degrees(rng):
    line = np.zeros((41, 41, 1), np.float32)
    line[:, 20] = 1
    skewed = aug.shear_image(line, 45)
    assert skewed[20, 20, 0] == pytest.approx(1)
    assert skewed[10, :, 0].argmax() in (10, 30)
    assert skewed[10, :, 0].argmax() + skewed[30, :, 0].argmax() == 40
    np.testing.assert_array_equal(aug.shear_image(line, 0), line)


def test_gain_stays_near_one(rng):
    gains = np.array([aug.draw_gain(rng, 3) for _ in range(300)])
    assert gains.mean() == pytest.approx(1, abs=0.05)
    assert gains.min() >= 0.5
    assert gains.max() <= 2
    np.testing.assert_array_equal(aug.draw_gain(rng, 3, 0.0), np.ones(3))


def test_bad_arguments_are_named(rng):
    image = rng.random((8, 8, 3)).astype(np.float32)
    with pytest.raises(InputError, match="multiples of 90"):
        aug.rotate(image, 45)
    with pytest.raises(InputError, match="90"):
        aug.shear_image(image, 90)
    with pytest.raises(InputError, match="flatten"):
        aug.shear_image(image, 45, 45)
    with pytest.raises(InputError, match="no crop of 9 pixels in an image of 8 x 8"):
        aug.draw_transform(rng, (8, 8), 9)

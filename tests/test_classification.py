"""Pixel classes: what each class of the scene classification means, and how the bands decide on data."""

import numpy as np
import pytest

from cloudgan.sentinel2.classification import SCL_MISSING, PixelClass, classify

SCL_CLASSES = {  # Sentinel-2 L2A product definition
    0: ("no data", PixelClass.INCOMPLETE),
    1: ("saturated or defective", PixelClass.INCOMPLETE),
    2: ("dark area", PixelClass.CLEAR),
    3: ("cloud shadow", PixelClass.CLOUDY),
    4: ("vegetation", PixelClass.CLEAR),
    5: ("bare soil", PixelClass.CLEAR),
    6: ("water", PixelClass.CLEAR),
    7: ("unclassified", PixelClass.CLEAR),
    8: ("cloud, medium probability", PixelClass.CLOUDY),
    9: ("cloud, high probability", PixelClass.CLOUDY),
    10: ("thin cirrus", PixelClass.CLOUDY),
    11: ("snow or ice", PixelClass.CLEAR),
    12: ("no class", PixelClass.INCOMPLETE),
    254: ("no class", PixelClass.INCOMPLETE),
}


def numbers(*values):
    return np.array([values], np.uint16)


def class_of(scl, *bands):
    return PixelClass(classify(np.array([[scl]], np.uint8), [numbers(band) for band in bands])[0, 0])


@pytest.mark.parametrize(("scl", "name", "expected"), [(scl, *rest) for scl, rest in SCL_CLASSES.items()])
def test_each_class_of_the_scene_classification_has_its_pixel_class(scl, name, expected):
    assert class_of(scl, 500, 400, 3000) == expected


EVERY_CLASS = np.arange(255, dtype=np.uint8)[None]


def test_whether_there_is_data_is_decided_by_the_bands():
    empty, full = np.zeros((1, 255), np.uint16), np.full((1, 255), 500, np.uint16)
    assert (classify(EVERY_CLASS, [empty, empty]) == PixelClass.NO_DATA).all()
    assert not np.isin(classify(EVERY_CLASS, [full, full]), [PixelClass.NO_DATA, PixelClass.MISSING]).any()


@pytest.mark.parametrize("bands", [(500, 0, 3000), (0, 0, 1), (0, 400, 0)])
def test_a_pixel_that_lacks_a_band_never_counts_as_clear(bands):
    full = [np.full((1, 255), 500, np.uint16)] * 3
    partial = classify(EVERY_CLASS, [np.full((1, 255), band, np.uint16) for band in bands])
    whole = classify(EVERY_CLASS, full)
    np.testing.assert_array_equal(partial, np.where(whole == PixelClass.CLEAR, PixelClass.INCOMPLETE, whole))


def test_an_asset_that_could_not_be_read_is_missing_and_not_empty():
    assert class_of(SCL_MISSING, 0, 0, 0) == PixelClass.MISSING


def test_each_pixel_of_each_date_is_classified():
    scl = np.array([[[4, 9]], [[3, 0]], [[255, 6]]], np.uint8)
    band = np.array([[[500, 900]], [[1, 0]], [[0, 7]]], np.uint16)
    pixel_classes = classify(scl, [band, band])
    assert pixel_classes.tolist() == [[[1, 2]], [[2, 0]], [[4, 1]]]
    assert pixel_classes.dtype == np.uint8

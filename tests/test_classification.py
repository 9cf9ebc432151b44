"""Pixel classes: what each class of the scene classification means, and how the bands decide on data."""

import numpy as np
import pytest

from cloudgan.sentinel2.classification import SCL_MISSING, ClassRules, PixelClass, classify

SCL_CLASSES = {  # Sentinel-2 L2A product definition
    0: ("no data", PixelClass.UNRELIABLE),
    1: ("saturated or defective", PixelClass.UNRELIABLE),
    2: ("dark area", PixelClass.CLEAR),
    3: ("cloud shadow", PixelClass.CLOUDY),
    4: ("vegetation", PixelClass.CLEAR),
    5: ("bare soil", PixelClass.CLEAR),
    6: ("water", PixelClass.CLEAR),
    7: ("unclassified", PixelClass.CLEAR),
    8: ("cloud, medium probability", PixelClass.CLOUDY),
    9: ("cloud, high probability", PixelClass.CLOUDY),
    10: ("thin cirrus", PixelClass.CLOUDY),
    11: ("snow or ice", PixelClass.SNOW),
    12: ("no class", PixelClass.UNRELIABLE),
    254: ("no class", PixelClass.UNRELIABLE),
}


def numbers(*values):
    return np.array([values], np.uint16)


def class_of(scl, *bands):
    named = dict(zip(("green", "red", "nir"), map(numbers, bands), strict=False))
    return PixelClass(classify(np.array([[scl]], np.uint8), named)[0, 0])


@pytest.mark.parametrize(("scl", "name", "expected"), [(scl, *rest) for scl, rest in SCL_CLASSES.items()])
def test_each_class_of_the_scene_classification_has_its_pixel_class(scl, name, expected):
    assert class_of(scl, 500, 400, 3000) == expected


NAMES = ("green", "red", "nir")
EVERY_CLASS = np.arange(255, dtype=np.uint8)[None]


def test_whether_there_is_data_is_decided_by_the_bands():
    empty, full = np.zeros((1, 255), np.uint16), np.full((1, 255), 500, np.uint16)
    assert (classify(EVERY_CLASS, {"green": empty, "nir": empty}) == PixelClass.NO_DATA).all()
    assert not np.isin(
        classify(EVERY_CLASS, {"green": full, "nir": full}), [PixelClass.NO_DATA, PixelClass.MISSING]
    ).any()


@pytest.mark.parametrize("bands", [(500, 0, 3000), (0, 0, 1), (0, 400, 0)])
def test_a_pixel_that_lacks_a_band_never_counts_as_clear(bands):
    full = {name: np.full((1, 255), 500, np.uint16) for name in NAMES}
    partial = classify(
        EVERY_CLASS,
        {name: np.full((1, 255), band, np.uint16) for name, band in zip(NAMES, bands, strict=True)},
    )
    whole = classify(EVERY_CLASS, full)
    np.testing.assert_array_equal(
        partial, np.where(np.isin(whole, (PixelClass.CLEAR, PixelClass.SNOW)), PixelClass.UNRELIABLE, whole)
    )


def test_an_asset_that_could_not_be_read_is_missing_and_not_empty():
    assert class_of(SCL_MISSING, 0, 0, 0) == PixelClass.MISSING


def test_each_pixel_of_each_date_is_classified():
    scl = np.array([[[4, 9]], [[3, 0]], [[255, 6]]], np.uint8)
    band = np.array([[[500, 900]], [[1, 0]], [[0, 70]]], np.uint16)
    pixel_classes = classify(scl, {"green": band, "red": band})
    assert pixel_classes.tolist() == [[[1, 2]], [[2, 0]], [[4, 1]]]
    assert pixel_classes.dtype == np.uint8


@pytest.mark.parametrize(
    ("bands", "expected"),
    [
        pytest.param((15_999, 500, 3000), PixelClass.CLEAR, id="bright"),
        pytest.param((16_000, 500, 3000), PixelClass.UNRELIABLE, id="saturated"),
        pytest.param((500, 500, 64_536), PixelClass.UNRELIABLE, id="0 - 1000 went round"),
        pytest.param((29, 10, 1), PixelClass.UNRELIABLE, id="dark noise"),
        pytest.param((30, 10, 1), PixelClass.CLEAR, id="dark water"),
    ],
)
def test_what_no_surface_reflects_is_unreliable(bands, expected):
    assert class_of(4, *bands) == expected
    assert class_of(9, *bands) == PixelClass.CLOUDY


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        (ClassRules(), PixelClass.SNOW),
        (ClassRules(snow="keep"), PixelClass.CLEAR),
        (ClassRules(snow="cloud"), PixelClass.CLOUDY),
        (ClassRules(is_used=False), PixelClass.CLEAR),
    ],
)
def test_what_is_called_snow_is_what_the_rules_say(rules, expected):
    scl, bright = np.array([[11]], np.uint8), numbers(5000)
    assert classify(scl, {"green": bright}, rules) == expected
    assert classify(scl, {"green": bright * 0}, rules) == PixelClass.NO_DATA


def test_where_the_classification_is_not_used_all_that_has_data_is_clear():
    rules, full = ClassRules(is_used=False), np.full((1, 255), 500, np.uint16)
    assert (classify(EVERY_CLASS, {"green": full}, rules) == PixelClass.CLEAR).all()
    assert (classify(EVERY_CLASS, {"green": full * 0}, rules) == PixelClass.NO_DATA).all()
    missing = np.array([[SCL_MISSING]], np.uint8)
    assert classify(missing, {"green": numbers(0)}, rules) == PixelClass.MISSING


def test_water_is_dark_beyond_the_visible():
    dark = np.full((1, 1), 5, np.uint16)
    scl = np.full((1, 1), 6, np.uint8)
    assert classify(scl, {"nir": dark, "swir16": dark}) == PixelClass.CLEAR
    assert classify(scl, {"green": dark, "swir16": dark}) == PixelClass.UNRELIABLE

"""Mask detectors: their contract, their lattice, and what a user names."""

import json
import pickle
from importlib.util import find_spec

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from networks import BANDS, DETECTOR, write_detector, write_network
from numpy.testing import assert_array_equal
from scipy.ndimage import gaussian_filter

from cloudgan import BatchConfig, plan_batch
from cloudgan.errors import DetectorError, InputError
from cloudgan.geo.grid import Window
from cloudgan.masks import detector as detectors
from cloudgan.masks.contract import DetectorContract
from cloudgan.masks.detector import Detector, cover_detectors, detect_clouds
from cloudgan.masks.selection import Masks
from cloudgan.masks.union import classify_observations
from cloudgan.schema import MaskSource
from cloudgan.sentinel2.classification import ClassRules, PixelClass

WHOLE = Window(-70, 1003, 150, 140)
needs_csmask = pytest.mark.skipif(find_spec("ukis_csmask") is None, reason="ukis-csmask is not installed")


@pytest.fixture(scope="module")
def detector(tmp_path_factory):
    return Detector.load(write_detector(tmp_path_factory.mktemp("masks") / "bright.onnx"))


def image(window, seed=0):
    rng = np.random.default_rng(seed)
    smooth = gaussian_filter(rng.random(window.shape), 4)
    bright = (smooth > np.quantile(smooth, 0.6)) * 3000 + 500
    bands = {name: (bright * rng.uniform(0.8, 1.2, window.shape)).astype(np.uint16) for name in BANDS}
    bands["red"][:10, :10] = 0
    return bands


def crop(bands, whole, window):
    return {name: band[window.slices_in(whole)] for name, band in bands.items()}


def naive(bands, whole, row, col):
    """What the detector says of one pixel, from the tile that decides it, with numpy alone."""
    tile_row, tile_col = ((at - 4) // 24 * 24 for at in (row, col))
    total = 0.0
    for name, mean, scale in zip(DETECTOR["input_bands"], DETECTOR["mean"], DETECTOR["scale"], strict=True):
        for y in range(max(row - 5, tile_row), min(row + 6, tile_row + 32)):
            for x in range(max(col - 5, tile_col), min(col + 6, tile_col + 32)):
                total += (bands[name][y - whole.row, x - whole.col] * 1e-4 - mean) / scale
    return total


def test_a_pixel_is_decided_by_one_tile_of_the_lattice(detector):
    read = detector.spec.cover(WHOLE)
    bands = image(read)
    found = detector.detect(bands, read, WHOLE)
    assert 0.1 < found.mean() < 0.9
    rng = np.random.default_rng(1)
    for row, col in zip(rng.integers(0, 150, 200), rng.integers(0, 140, 200), strict=True):
        score = naive(bands, read, WHOLE.row + row, WHOLE.col + col)
        there = row + WHOLE.row - read.row, col + WHOLE.col - read.col
        if abs(score) > 1e-3:
            assert found[row, col] == (score > 0 and bands["red"][there] > 0)


_MADE: dict = {}


@given(st.integers(0, 100), st.integers(0, 90), st.integers(1, 50), st.integers(1, 50))
def test_a_crop_of_the_whole_is_the_whole_of_the_crop(detector, top, left, height, width):
    read = detector.spec.cover(WHOLE)
    if not _MADE:
        _MADE["bands"] = image(read)
        _MADE["whole"] = detector.detect(_MADE["bands"], read, WHOLE)
    part = Window(WHOLE.row + top, WHOLE.col + left, height, width)
    needed = detector.spec.cover(part)
    assert cover_detectors(part, [detector.spec]) == needed
    assert cover_detectors(part, []) == part
    made = detector.detect(crop(_MADE["bands"], read, needed), needed, part)
    assert_array_equal(made, _MADE["whole"][part.slices_in(WHOLE)])


def test_it_pickles_without_its_session(detector):
    detector.detect(image(WHOLE), WHOLE, WHOLE)
    again = pickle.loads(pickle.dumps(detector))
    assert again == detector
    assert_array_equal(again.detect(image(WHOLE), WHOLE, WHOLE), detector.detect(image(WHOLE), WHOLE, WHOLE))


def test_numbers_that_are_none_are_refused_by_name(tmp_path):
    broken = Detector.load(write_detector(tmp_path / "nan.onnx", gain=float("nan")))
    with pytest.raises(DetectorError, match=r"mask detector bright gave 2,048 values that are no numbers"):
        broken.detect(
            {name: np.full((200, 200), 900, np.uint16) for name in BANDS}, WHOLE, Window(0, 1050, 5, 5)
        )


def test_where_there_is_no_data_nothing_is_asked(detector):
    empty = {name: np.zeros(WHOLE.shape, np.uint16) for name in BANDS}
    assert not detector.detect(empty, WHOLE, WHOLE).any()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"format": 2}, "format 2, and format 1 is read"),
        ({"name": ""}, "1 to 100 plain characters"),
        ({"input_bands": ["red", "colour"]}, "there is no band 'colour'"),
        ({"input_bands": "red"}, "input_bands must be a list of names"),
        ({"input_bands": ["red", "red"]}, "name each once"),
        ({"mean": [0.1]}, "a number for each input band"),
        ({"scale": [0.0, 1.0]}, "scale above zero"),
        ({"scale": [float("nan"), 1.0]}, "finite numbers"),
        ({"tile": 20}, "multiple of 8 from 32"),
        ({"masked": ["haze"]}, "'haze', which is not among its classes"),
        ({"masked": ["clear", "cloud"]}, "nothing could be clear"),
        ({"classes": ...}, "classes is missing"),
        ({"tile": 64}, "should have one float32 input of shape"),
        ({"classes": ["clear", "cloud", "shadow"]}, "should have one float32 output of shape"),
    ],
)
def test_a_contract_that_cannot_be_fulfilled_is_refused(tmp_path, changes, reason):
    contract = {name: value for name, value in (DETECTOR | changes).items() if value is not ...}
    path = write_detector(tmp_path / "bright.onnx", contract=contract)
    with pytest.raises(DetectorError, match=reason) as refused:
        Detector.load(path)
    assert str(path) in str(refused.value)
    assert ";" in str(refused.value)


def test_a_contract_is_read_as_it_was_written():
    contract = DetectorContract.parse(json.dumps(DETECTOR), "bright.onnx")
    assert contract.as_json() == DETECTOR
    plain = {name: value for name, value in DETECTOR.items() if name not in ("mean", "scale")}
    assert DetectorContract.parse(json.dumps(plain), "bright.onnx").scale == (1.0, 1.0)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda path: None, "no mask detector at"),
        (lambda path: path.write_bytes(b"no network"), "not a readable ONNX model"),
        (lambda path: write_network(path), "without the contract of a mask detector"),
        (lambda path: write_detector(path, contract="{"), "broken contract of a mask detector"),
        (lambda path: write_detector(path, contract="[1]"), "broken contract of a mask detector"),
    ],
)
def test_a_file_that_is_no_detector_is_refused(tmp_path, make, reason):
    make(tmp_path / "mask.onnx")
    with pytest.raises(DetectorError, match=reason):
        Masks.load([str(tmp_path / "mask.onnx")], "auto", BANDS)


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        (["fmask"], "--mask fmask is unknown; give scl, csmask, temporal, an ONNX file, or none"),
        (["none", "scl"], "--mask none trusts no mask, and others are named"),
        ([], "--mask names nothing"),
    ],
)
def test_names_that_mean_nothing_are_refused(names, reason):
    with pytest.raises(InputError, match=reason):
        Masks.load(names, "auto", BANDS)


def test_without_the_extra_the_error_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(detectors, "find_spec", lambda name: None)
    with pytest.raises(DetectorError, match=r"csmask is not installed; pip install 'cloudgan\[masks\]'"):
        Masks.load(["csmask"], "auto", BANDS)


def test_the_names_decide_how_the_classification_is_used(detector, tmp_path):
    assert Masks.load(["scl"], "keep", BANDS) == Masks(ClassRules(snow="keep"))
    assert not Masks.load(["none"], "auto", BANDS).rules.is_used
    path = str(write_detector(tmp_path / "bright.onnx"))
    both = Masks.load(["scl", path, path], "auto", BANDS)
    assert both.rules.is_used
    assert both.specs == (detector.spec,)
    assert not Masks.load([path], "auto", BANDS).rules.is_used


@needs_csmask
def test_csmask_takes_six_bands_where_they_are_read_anyway():
    four = Masks.load(["csmask"], "auto", BANDS).detectors[0]
    assert four.spec.contract.input_bands == ("blue", "green", "red", "nir")
    assert four.spec.source is MaskSource.CSMASK
    assert four.spec.contract.version.startswith("1.")
    six = Masks.load(["csmask"], "auto", (*BANDS, "swir16", "swir22")).detectors[0]
    assert six.spec.contract.input_bands[4:] == ("swir16", "swir22")


@needs_csmask
@pytest.mark.parametrize("available", [("green",), ("swir16", "swir22")])
def test_csmask_finds_the_cloud_of_its_own_test_image(samples_dir, available):
    with np.load(samples_dir / "cloud-texture-512.npz") as file:
        numbers, classes = np.maximum(file["img"], 1), file["msk"].squeeze()
    names = ("blue", "green", "red", "nir", "swir16", "swir22")
    bands = {name: numbers[..., at] for at, name in enumerate(names)}
    (one,) = Masks.load(["csmask"], "auto", available).detectors
    window = Window(0, 0, *classes.shape)
    found = one.detect(bands, window, window)
    assert found[classes == 4].mean() > 0.98  # cloud
    assert found[classes == 0].mean() > 0.95  # shadow
    assert found[classes == 3].mean() < 0.2  # land


def test_sources_are_united_and_named():
    shape = (3, 4, 4)
    bands = {"green": np.full(shape, 900, np.uint16)}
    bands["green"][2] = 0
    scl = np.full(shape, 4, np.uint8)
    scl[0, 0], scl[1, 1] = 9, 0
    cloudy = np.zeros(shape, bool)
    cloudy[:, :2] = True
    window, days = Window(0, 0, 4, 4), np.array([0, 5, 10])
    called = {MaskSource.DETECTOR: cloudy, MaskSource.USER: np.ones(shape, bool)}
    made = classify_observations(window, bands, scl, days, buffer=0, called=called)
    assert (made.pixel_classes[:2] == PixelClass.CLOUDY).all()
    assert (made.pixel_classes[2] == PixelClass.NO_DATA).all()
    assert made.mask_sources[0, :, 0].tolist() == [1 + 8 + 32, 8 + 32, 32, 32]
    assert not made.mask_sources[2].any()
    rules = ClassRules(is_used=False)
    alone = classify_observations(
        window, bands, scl, days, buffer=0, rules=rules, called={MaskSource.DETECTOR: cloudy}
    )
    assert_array_equal(alone.pixel_classes[:2] == PixelClass.CLOUDY, cloudy[:2])
    assert (alone.pixel_classes[:2][~cloudy[:2]] == PixelClass.CLEAR).all()


def test_each_date_is_asked_for_alone(detector):
    one, other = image(WHOLE), image(WHOLE, 1)
    found = detect_clouds(
        {name: np.stack([one[name], other[name]]) for name in BANDS}, [detector], WHOLE, WHOLE
    )
    assert list(found) == [MaskSource.DETECTOR]
    for made, bands in zip(found[MaskSource.DETECTOR], (one, other), strict=True):
        assert_array_equal(made, detector.detect(bands, WHOLE, WHOLE))


def request(demo, network, mask):
    return BatchConfig(
        aoi=str(demo.aoi), dates="2020-05-05", stac=str(demo.catalog), model=str(network), mask=mask
    )


def test_a_band_that_the_catalogue_lacks_is_named(demo, network, tmp_path):
    contract = DETECTOR | {"input_bands": ["coastal", "green"]}
    path = write_detector(tmp_path / "coastal.onnx", contract=contract)
    config = BatchConfig(
        aoi=str(demo.aoi),
        dates="2020-05-05",
        stac=str(demo.catalog),
        model=str(network),
        mask=["scl", str(path)],
    )
    with pytest.raises(InputError, match="coastal"):
        plan_batch(config)


def test_a_plan_reads_the_bands_of_its_masks_and_is_another(demo, network, tmp_path):
    def plan(*mask, **changes):
        contract = DETECTOR | changes
        path = write_detector(tmp_path / "bright.onnx", contract=contract)
        words = [str(path) if one == "file" else one for one in mask]
        return plan_batch(request(demo, network, words)).zones[""]

    plain, both = plan("scl"), plan("scl", "file")
    assert plain.bands == BANDS
    assert both.summary()["mask"] == ["scl", "bright 1"]
    assert both.memory > plain.memory
    assert both.read_grid().window.intersection(plain.read_grid().window) == plain.read_grid().window
    plans = [plain, both, plan("file"), plan("none"), plan("scl", "file", scale=[0.5, 0.5])]
    assert len({one.digest() for one in plans}) == len(plans)

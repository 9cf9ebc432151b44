import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cloudgan.errors import InputError
from cloudgan.sentinel2.offset import Claims, Verdict, check_histogram, decide_offset, harmonise

OLD, NEW = (3, 1), (5, 9)
C1 = "sentinel-2-c1-l2a"


@pytest.mark.parametrize(
    ("line", "claims", "offset"),
    [
        ("1 Collection 1 never applies it", Claims(NEW, C1), 1000),
        ("1 nor does old processing have it", Claims(OLD, C1), 0),
        ("2 Earth Search took it off", Claims(NEW, "sentinel-2-l2a", applied=True), 0),
        ("2 there was nothing to take off", Claims(OLD, "sentinel-2-l2a", applied=True), 0),
        ("3 before 04.00 there is nothing to apply", Claims(OLD, "sentinel-2-l2a", applied=False), 0),
        ("4 Planetary Computer, as ESA delivers", Claims(NEW, planetary_computer=True), 1000),
        ("4 Planetary Computer, old processing", Claims(OLD, planetary_computer=True), 0),
        ("4 the first baseline with it", Claims((4, 0), planetary_computer=True), 1000),
        ("4 the last baseline without", Claims((3, 99), planetary_computer=True), 0),
        ("5 another provider declares it", Claims(NEW, declared=1000), 1000),
        ("5 and so without a baseline", Claims(None, declared=0), 0),
        ("5 Collection 1 without a baseline", Claims(None, C1, declared=1000), 1000),
        ("6 nothing but a baseline", Claims(NEW), 1000),
    ],
)
def test_metadata_that_agree_need_no_warning(line, claims, offset):
    decision = decide_offset(claims)
    assert (decision.offset, decision.warning) == (offset, None), line


@pytest.mark.parametrize(
    ("claims", "offset", "warning"),
    [
        (Claims(NEW, C1, applied=True, declared=1000), 1000, "never does"),
        (Claims(NEW, "sentinel-2-l2a", applied=True, declared=1000), 0, "trusted the flag"),
        (
            Claims(NEW, "sentinel-2-l2a", applied=False, declared=1000),
            1000,
            "known to be wrong on some items",
        ),
        (Claims(NEW, planetary_computer=True, declared=0), 1000, "offset of 0 DN"),
        (Claims(NEW, declared=0), 0, "implies 1000: subtract 0"),
        (Claims(OLD, declared=1000), 1000, "implies 0: subtract 1000"),
    ],
)
def test_contradictions_are_reported(claims, offset, warning):
    decision = decide_offset(claims)
    assert decision.offset == offset
    assert warning in decision.warning


@pytest.mark.parametrize(
    "claims", [Claims(), Claims(applied=False), Claims(planetary_computer=True), Claims(None, C1)]
)
def test_an_offset_that_no_metadata_state_is_not_guessed(claims):
    assert decide_offset(claims) is None


def test_harmonising_clips_at_the_offset_and_keeps_no_data():
    dn = np.array([0, 1, 999, 1000, 1001, 1002, 11000, 65535], np.uint16)
    assert harmonise(dn, 1000).tolist() == [0, 1, 1, 1, 1, 2, 10000, 64535]


def test_without_an_offset_nothing_is_copied():
    dn = np.array([0, 1, 5000], np.uint16)
    assert harmonise(dn, 0) is dn


@pytest.mark.parametrize(
    ("dtype", "offset"), [(np.int16, 1000), (np.float32, 0), (np.uint16, -1), (np.uint16, 65535)]
)
def test_harmonising_takes_digital_numbers_only(dtype, offset):
    with pytest.raises(InputError, match="needs uint16"):
        harmonise(np.zeros(3, dtype), offset)


@given(hnp.arrays(np.uint16, hnp.array_shapes(max_dims=3, max_side=6)), st.integers(0, 3000))
def test_harmonising_is_the_clipped_difference_for_any_numbers(dn, offset):
    before = dn.copy()
    got = harmonise(dn, offset)
    expected = np.where(dn == 0, 0, np.maximum(dn.astype(np.int64) - offset, 1))
    assert got.dtype == np.uint16
    np.testing.assert_array_equal(got, expected)
    np.testing.assert_array_equal(dn, before)


def vegetation(offset, *, seed=0):
    """Red digital numbers of a clear summer landscape: reflectance around 0.03, a few bright fields."""
    rng = np.random.default_rng(seed)
    reflectance = np.concatenate([rng.gamma(9, 0.0035, 9000), rng.gamma(9, 0.018, 1000)])
    return (reflectance * 10000 + offset).astype(np.uint16)


@pytest.mark.parametrize("present", [0, 1000])
@pytest.mark.parametrize("claimed", [0, 1000])
def test_dark_land_shows_whether_the_offset_is_there(present, claimed):
    verdict = check_histogram(vegetation(present), claimed)
    assert verdict is (Verdict.AGREES if present == claimed else Verdict.CONTRADICTS)


@pytest.mark.parametrize("offset", [0, 1000])
def test_snow_and_small_samples_decide_nothing(offset):
    snow = np.random.default_rng(1).normal(8000, 500, 10_000).astype(np.uint16)
    assert check_histogram(snow, offset) is Verdict.UNDECIDED
    assert check_histogram(vegetation(0)[:100], offset) is Verdict.UNDECIDED
    assert check_histogram(np.zeros((50, 50), np.uint16), offset) is Verdict.UNDECIDED


def test_the_pixels_to_use_can_be_chosen():
    land, cloud = vegetation(0), np.full(10_000, 9000, np.uint16)
    dn = np.concatenate([land[:600], land[:600], cloud])
    clear = np.arange(dn.size) < 1200
    assert check_histogram(dn, 0, valid=clear) is Verdict.AGREES
    assert check_histogram(dn[600:], 0, valid=clear[600:]) is Verdict.UNDECIDED

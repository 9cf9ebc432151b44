import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter, shift

from cloudgan.errors import InputError
from cloudgan.training.data import registration
from cloudgan.training.data.geotiffs import read_geotiff
from cloudgan.training.data.registration import measure_shift, refuse_unregistered
from cloudgan.training.recipe import BANDS

REAL = ("1158_spring_s2{}_39_p100", "1868_summer_s2{}_101_p840", "2017_winter_s2{}_102_p926")


@pytest.fixture(scope="module")
def fields():
    """Fields with edges, 200 x 200, three bands."""
    rng = np.random.default_rng(3)
    tones = np.kron(rng.uniform(0.03, 0.4, (13, 13, 3)), np.ones((16, 16, 1)))[:200, :200]
    return gaussian_filter(tones + rng.normal(0, 0.004, tones.shape), (1, 1, 0)).astype(np.float32)


@settings(max_examples=15)
@given(
    rows=st.floats(-15, 15),
    cols=st.floats(-15, 15),
    tones=st.floats(0.5, 2),
    cloud=st.tuples(*[st.integers(20, 140)] * 2),
)
def test_a_shift_is_measured_under_clouds_and_other_colours(fields, rows, cols, tones, cloud):
    moved = np.stack(
        [shift(band, (rows, cols), order=3, mode="mirror") for band in np.moveaxis(fields, -1, 0)], -1
    )
    moved = np.clip(moved, 0.01, 1) ** np.float32(tones)
    known = np.ones((200, 200), bool)
    known[cloud[0] : cloud[0] + 60, cloud[1] : cloud[1] + 60] = False
    moved[~known] = 0.8
    found = measure_shift(moved.astype(np.float32), fields, known)
    assert found.rows == pytest.approx(rows, abs=0.35)
    assert found.cols == pytest.approx(cols, abs=0.35)
    assert found.certain == (found.correlation - found.unshifted > 0.1)


def test_nothing_is_claimed_of_little_surface_or_of_noise(fields):
    known = np.zeros((200, 200), bool)
    known[:40, :40] = True
    assert measure_shift(fields, fields, known) is None
    noise = np.random.default_rng(5).random((2, 200, 200, 3)).astype(np.float32)
    everywhere = np.ones((200, 200), bool)
    assert not measure_shift(*noise, everywhere).certain
    refuse_unregistered("noise", *noise, everywhere)


def test_the_correlation_is_that_of_the_pixels_themselves(fields):
    one, other = fields[..., 0].astype(float), fields[..., 1].astype(float)
    known = np.random.default_rng(1).random((200, 200)) > 0.2
    table = registration._correlations(one, other, known)
    for row, col in ((0, 0), (3, -5), (-registration.MAX_SHIFT, 7)):
        rows, cols = (slice(max(0, -by), 200 - max(0, by)) for by in (row, col))
        far = slice(rows.start + row, rows.stop + row), slice(cols.start + col, cols.stop + col)
        both = known[far] & known[rows, cols]
        wanted = np.corrcoef(one[far][both], other[rows, cols][both])[0, 1]
        at = row + registration.MAX_SHIFT, col + registration.MAX_SHIFT
        assert table[at] == pytest.approx(wanted, abs=1e-6)


@pytest.mark.parametrize("name", REAL)
def test_real_pairs_pass_and_moved_ones_do_not(samples_dir, name):
    folder = samples_dir / "pairs-l1c-10m"
    cloudy, clear = (read_geotiff(folder / f"ROIs{name.format(kind)}.tif", BANDS) for kind in ("_cloudy", ""))
    known = np.abs(cloudy - clear)[..., 0] < 0.03
    refuse_unregistered(name, cloudy, clear, known)
    assert measure_shift(cloudy, clear, known).pixels < 0.5
    moved, shown = np.roll(cloudy, (-6, 9), (0, 1)), np.roll(known, (-6, 9), (0, 1)) & known
    with pytest.raises(
        InputError, match=r"lies [56]\.\d pixels above and (8\.[5-9]|9\.[0-5]) right of the clear one"
    ):
        refuse_unregistered(name, moved, clear, shown)

import logging

import numpy as np
import pytest
from geotiff import write
from scipy.ndimage import gaussian_filter

from cloudgan.errors import InputError
from cloudgan.training.data import geotiffs


@pytest.fixture
def numbers(rng):
    return rng.integers(100, 5000, (4, 20, 30), dtype=np.uint16)


def test_geotiff_bands_by_name(tmp_path, numbers):
    write(tmp_path / "a.tif", numbers)
    image = geotiffs.read_geotiff(tmp_path / "a.tif", ("nir", "green"))
    np.testing.assert_allclose(image, np.moveaxis(numbers[[3, 1]], 0, -1) / 1e4, rtol=1e-6)
    assert image.dtype == np.float32
    with pytest.raises(InputError, match="no band swir"):
        geotiffs.read_geotiff(tmp_path / "a.tif", ("swir",))
    (tmp_path / "b.tif").write_text("no picture")
    with pytest.raises(InputError, match="cannot be read"):
        geotiffs.read_geotiff(tmp_path / "b.tif")


def test_folder_in_order_and_without_the_named(tmp_path, numbers):
    for name in ("b", "a", "c"):
        write(tmp_path / f"{name}.tif", numbers)
    scenes = geotiffs.read_folder(tmp_path, "here", without=("c",))
    assert [scene.name for scene in scenes] == [f"{tmp_path.name}/a", f"{tmp_path.name}/b"]
    assert {scene.region for scene in scenes} == {"here"}
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no GeoTIFF"):
        geotiffs.read_folder(tmp_path / "empty", "there")


def test_pairs_are_hidden_where_they_differ(tmp_path, numbers):
    clear = np.full_like(numbers, 1000)
    cloudy = clear.copy()
    cloudy[:, 5:9, 5:9], cloudy[:, 14:17, 20:25] = 6000, 300
    write(tmp_path / "clear.tif", clear)
    write(tmp_path / "cloudy.tif", cloudy)
    pair = geotiffs.read_pair(tmp_path / "cloudy.tif", tmp_path / "clear.tif", "here")
    assert pair.masked[5:9, 5:9].all()
    assert pair.masked[14:17, 20:25].all()
    assert not pair.masked[:, 28:].any()
    write(tmp_path / "small.tif", clear[:, :5])
    with pytest.raises(InputError, match="no pair"):
        geotiffs.read_pair(tmp_path / "cloudy.tif", tmp_path / "small.tif", "here")


@pytest.fixture
def ground(rng):
    """Digital numbers of fields with edges, four bands, 160 x 160."""
    tones = rng.uniform(300, 3000, (4, 160, 160))
    rows, cols = (np.searchsorted(np.sort(rng.integers(0, 160, 12)), np.arange(160)) for _ in range(2))
    fields = tones[:, rows][:, :, cols]
    return np.maximum(gaussian_filter(fields, (0, 0.7, 0.7)) + rng.normal(0, 20, fields.shape), 1).astype(
        np.uint16
    )


def cloudy_over(ground, top=20):
    """The same ground two days later, with a cloud on it."""
    cloudy = (ground * 1.05).astype(np.uint16)
    cloudy[:, top : top + 40, 30:90] = 7000
    return cloudy


def pair(folder, cloudy, clear, **place):
    """Files of a pair."""
    return write(folder / "cloudy" / "a.tif", cloudy, **place), write(folder / "clear" / "a.tif", clear)


def test_a_registered_pair_passes_and_knows_its_place(tmp_path, ground):
    made = geotiffs.read_pair(*pair(tmp_path, cloudy_over(ground), ground), "here")
    assert made.masked[25:55, 35:85].all()
    assert made.valid.all()
    assert made.frame.crs == "EPSG:32633"
    # One scale for both, whatever is brightest in either.
    visible = ~made.masked
    np.testing.assert_allclose(made.cloudy[visible], 1.05 * made.clear[visible], atol=2e-4)


@pytest.mark.parametrize(
    ("place", "reason"),
    [
        ({"crs": "EPSG:32632"}, "is in EPSG:32632 and .* is in EPSG:32633: no pair; reproject"),
        ({"west": 5e5 + 30}, "begins 0.0 rows below and 3.0 columns right"),
        ({"north": 5e6 - 7}, "begins 0.7 rows below"),
    ],
)
def test_a_pair_from_two_places_is_refused(tmp_path, ground, place, reason):
    with pytest.raises(InputError, match=reason):
        geotiffs.read_pair(*pair(tmp_path, cloudy_over(ground), ground, **place), "here")


def test_a_pair_that_is_not_registered_is_refused_with_its_shift(tmp_path, ground):
    moved = np.roll(cloudy_over(ground), (4, -7), (1, 2))
    with pytest.raises(
        InputError, match=r"lies (3\.[5-9]|4\.[0-5]) pixels below and (6\.[5-9]|7\.[0-5]) left of"
    ) as error:
        geotiffs.read_pair(*pair(tmp_path, moved, ground), "here")
    assert "register them" in str(error.value)


def test_a_pair_with_nothing_in_it_is_refused(tmp_path, ground):
    for number, (cloudy, clear, reason) in enumerate(
        (
            (np.full_like(ground, 8000), ground, "nothing but cloud"),
            (np.zeros_like(ground), ground, "no pixel with data in both"),
            (cloudy_over(ground), np.zeros_like(ground), "holds no data at all"),
            (cloudy_over(ground), np.full_like(ground, 6000), "as bright as cloud or snow"),
        )
    ):
        with pytest.raises(InputError, match=reason):
            geotiffs.read_pair(*pair(tmp_path / str(number), cloudy, clear), "here")


def test_a_clear_folder_refuses_what_is_not(tmp_path, ground):
    write(tmp_path / "a.tif", ground)
    write(tmp_path / "empty.tif", np.zeros_like(ground))
    with pytest.raises(InputError, match=r"empty\.tif holds no data at all; leave it out"):
        geotiffs.read_folder(tmp_path, "here")
    write(tmp_path / "white.tif", np.full_like(ground, 6000))
    with pytest.raises(InputError, match=r"white\.tif is to be clear, and 100%"):
        geotiffs.read_folder(tmp_path, "here", without=("empty",))
    assert len(geotiffs.read_folder(tmp_path, "here", without=("empty", "white"))) == 1


def test_nan_is_no_data_where_the_file_says_so_and_refused_elsewhere(tmp_path, ground):
    values = (ground / 1e4).astype(np.float32)
    values[1, 3, 4] = np.nan
    write(tmp_path / "declared.tif", values, nodata=np.nan)
    image = geotiffs.read_geotiff(tmp_path / "declared.tif")
    assert image[3, 4, 0] == 0
    assert np.isfinite(image).all()
    write(tmp_path / "broken.tif", values)
    with pytest.raises(InputError, match="holds 1 values of band green that are no numbers"):
        geotiffs.read_geotiff(tmp_path / "broken.tif")
    values[1, 3, 4], values[2, 0, 0] = -9999, -0.003
    write(tmp_path / "other.tif", values, nodata=-9999)
    image = geotiffs.read_geotiff(tmp_path / "other.tif")
    assert image[3, 4, 0] == 0
    assert 0 < image[0, 0, 1] < 1e-3, "dark ground is not missing"


def test_the_offset_is_taken_off_where_asked_and_noticed_where_not(tmp_path, ground, caplog):
    raised = ground // 4 + 1000
    write(tmp_path / "a.tif", raised)
    (scene,) = geotiffs.read_folder(tmp_path, "here", offset=1000)
    np.testing.assert_allclose(scene.image[..., 0], np.maximum(ground[1] // 4, 1) / 1e4, rtol=1e-6)
    with caplog.at_level(logging.WARNING):
        geotiffs.read_folder(tmp_path, "here")
    assert "say offset = 1000" in caplog.text
    write(tmp_path / "f.tif", (ground / 1e4).astype(np.float32))
    with pytest.raises(InputError, match="an offset is of digital numbers"):
        geotiffs.read_geotiff(tmp_path / "f.tif", offset=1000)


def test_pairs_by_index_and_side_by_side(tmp_path, ground):
    pair(tmp_path, cloudy_over(ground), ground)
    (made,) = geotiffs.read_pairs(tmp_path, "here")
    assert (made.name, made.region) == ("a", "here")
    with pytest.raises(InputError, match="have no region"):
        geotiffs.read_pairs(tmp_path)
    (tmp_path / "index.csv").write_text("clear,cloudy,region\nclear/a.tif,cloudy/a.tif,there\n")
    (made,) = geotiffs.read_pairs(tmp_path)
    assert made.region == "there"
    with pytest.raises(InputError, match="has no nothing to leave out"):
        geotiffs.read_pairs(tmp_path, without=("nothing",))
    with pytest.raises(InputError, match="holds no pairs"):
        geotiffs.read_pairs(tmp_path, without=("a",))
    (tmp_path / "index.csv").write_text("clear\nclear/a.tif\n")
    with pytest.raises(InputError, match="no column cloudy"):
        geotiffs.read_pairs(tmp_path)
    (tmp_path / "index.csv").unlink()
    (tmp_path / "clear" / "a.tif").unlink()
    with pytest.raises(InputError, match="has no clear look"):
        geotiffs.read_pairs(tmp_path, "here")


def test_the_real_pairs_are_registered(samples_dir):
    pairs = geotiffs.read_pairs(samples_dir / "pairs-l1c-10m")
    assert len(pairs) == 29
    assert all(made.frame is not None for made in pairs)

import logging

import numpy as np
import pytest
from geotiff import write
from scipy.ndimage import gaussian_filter

from cloudgan.errors import InputError
from cloudgan.training.data import geotiffs
from cloudgan.training.recipe import BANDS


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
        geotiffs.read_geotiff(tmp_path / "b.tif", BANDS)


def test_folder_in_order_and_without_the_named(tmp_path, numbers):
    for name in ("b", "a", "c"):
        write(tmp_path / f"{name}.tif", numbers)
    images = geotiffs.read_clear(tmp_path, "here", BANDS, exclude=("c",))
    assert [image.name for image in images] == [f"{tmp_path.name}/a", f"{tmp_path.name}/b"]
    assert {image.region for image in images} == {"here"}
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no GeoTIFF"):
        geotiffs.read_clear(tmp_path / "empty", "there", BANDS)


def test_pairs_are_masked_where_they_differ(tmp_path, numbers):
    clear = np.full_like(numbers, 1000)
    cloudy = clear.copy()
    cloudy[:, 5:9, 5:9], cloudy[:, 14:17, 20:25] = 6000, 300
    write(tmp_path / "clear.tif", clear)
    write(tmp_path / "cloudy.tif", cloudy)
    pair = geotiffs.read_pair(tmp_path / "cloudy.tif", tmp_path / "clear.tif", "here", BANDS)
    assert pair.masked[5:9, 5:9].all()
    assert pair.masked[14:17, 20:25].all()
    assert not pair.masked[:, 28:].any()
    write(tmp_path / "small.tif", clear[:, :5])
    with pytest.raises(InputError, match="no pair"):
        geotiffs.read_pair(tmp_path / "cloudy.tif", tmp_path / "small.tif", "here", BANDS)


@pytest.fixture
def surface(rng):
    """Digital numbers of fields with edges, four bands, 160 x 160."""
    tones = rng.uniform(300, 3000, (4, 160, 160))
    rows, cols = (np.searchsorted(np.sort(rng.integers(0, 160, 12)), np.arange(160)) for _ in range(2))
    fields = tones[:, rows][:, :, cols]
    return np.maximum(gaussian_filter(fields, (0, 0.7, 0.7)) + rng.normal(0, 20, fields.shape), 1).astype(
        np.uint16
    )


def cloudy_over(surface, top=20):
    """The same surface two days later, with a cloud on it."""
    cloudy = (surface * 1.05).astype(np.uint16)
    cloudy[:, top : top + 40, 30:90] = 7000
    return cloudy


def pair(folder, cloudy, clear, **place):
    """Files of a pair."""
    return write(folder / "cloudy" / "a.tif", cloudy, **place), write(folder / "clear" / "a.tif", clear)


def test_a_registered_pair_passes_and_knows_its_place(tmp_path, surface):
    made = geotiffs.read_pair(*pair(tmp_path, cloudy_over(surface), surface), "here", BANDS)
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
def test_a_pair_from_two_places_is_refused(tmp_path, surface, place, reason):
    with pytest.raises(InputError, match=reason):
        geotiffs.read_pair(*pair(tmp_path, cloudy_over(surface), surface, **place), "here", BANDS)


def test_a_pair_that_is_not_registered_is_refused_with_its_shift(tmp_path, surface):
    moved = np.roll(cloudy_over(surface), (4, -7), (1, 2))
    with pytest.raises(
        InputError, match=r"lies (3\.[5-9]|4\.[0-5]) pixels below and (6\.[5-9]|7\.[0-5]) left of"
    ) as error:
        geotiffs.read_pair(*pair(tmp_path, moved, surface), "here", BANDS)
    assert "register them" in str(error.value)


def test_a_pair_with_nothing_in_it_is_refused(tmp_path, surface):
    for number, (cloudy, clear, reason) in enumerate(
        (
            (np.full_like(surface, 8000), surface, "nothing but cloud"),
            (np.zeros_like(surface), surface, "no pixel with data in both"),
            (cloudy_over(surface), np.zeros_like(surface), "holds no data at all"),
            (cloudy_over(surface), np.full_like(surface, 6000), "as bright as cloud or snow"),
        )
    ):
        with pytest.raises(InputError, match=reason):
            geotiffs.read_pair(*pair(tmp_path / str(number), cloudy, clear), "here", BANDS)


def test_a_clear_folder_refuses_what_is_not(tmp_path, surface):
    write(tmp_path / "a.tif", surface)
    write(tmp_path / "empty.tif", np.zeros_like(surface))
    with pytest.raises(InputError, match=r"empty\.tif holds no data at all; leave it out"):
        geotiffs.read_clear(tmp_path, "here", BANDS)
    write(tmp_path / "white.tif", np.full_like(surface, 6000))
    with pytest.raises(InputError, match=r"white\.tif is to be clear, and 100%"):
        geotiffs.read_clear(tmp_path, "here", BANDS, exclude=("empty",))
    assert len(geotiffs.read_clear(tmp_path, "here", BANDS, exclude=("empty", "white"))) == 1


def test_nan_is_no_data_where_the_file_says_so_and_refused_elsewhere(tmp_path, surface):
    values = (surface / 1e4).astype(np.float32)
    values[1, 3, 4] = np.nan
    write(tmp_path / "declared.tif", values, nodata=np.nan)
    image = geotiffs.read_geotiff(tmp_path / "declared.tif", BANDS)
    assert image[3, 4, 0] == 0
    assert np.isfinite(image).all()
    write(tmp_path / "broken.tif", values)
    with pytest.raises(InputError, match="holds 1 values of band green that are no numbers"):
        geotiffs.read_geotiff(tmp_path / "broken.tif", BANDS)
    values[1, 3, 4], values[2, 0, 0] = -9999, -0.003
    write(tmp_path / "other.tif", values, nodata=-9999)
    image = geotiffs.read_geotiff(tmp_path / "other.tif", BANDS)
    assert image[3, 4, 0] == 0
    assert 0 < image[0, 0, 1] < 1e-3, "dark surface is not missing"


def test_the_offset_is_taken_off_where_asked_and_warned_of_where_not(tmp_path, surface, caplog):
    raised = surface // 4 + 1000
    write(tmp_path / "a.tif", raised)
    (image,) = geotiffs.read_clear(tmp_path, "here", BANDS, offset=1000)
    np.testing.assert_allclose(image.reflectance[..., 0], np.maximum(surface[1] // 4, 1) / 1e4, rtol=1e-6)
    with caplog.at_level(logging.WARNING):
        geotiffs.read_clear(tmp_path, "here", BANDS)
    assert "say offset = 1000" in caplog.text
    write(tmp_path / "f.tif", (surface / 1e4).astype(np.float32))
    with pytest.raises(InputError, match="an offset is of digital numbers"):
        geotiffs.read_geotiff(tmp_path / "f.tif", BANDS, offset=1000)


def test_pairs_by_index_and_side_by_side(tmp_path, surface):
    pair(tmp_path, cloudy_over(surface), surface)
    (made,) = geotiffs.read_pairs(tmp_path, "here", BANDS)
    assert (made.name, made.region) == ("a", "here")
    with pytest.raises(InputError, match="have no region"):
        geotiffs.read_pairs(tmp_path, "", BANDS)
    (tmp_path / "index.csv").write_text("clear,cloudy,region\nclear/a.tif,cloudy/a.tif,there\n")
    (made,) = geotiffs.read_pairs(tmp_path, "", BANDS)
    assert made.region == "there"
    with pytest.raises(InputError, match="has no nothing to leave out"):
        geotiffs.read_pairs(tmp_path, "", BANDS, exclude=("nothing",))
    with pytest.raises(InputError, match="holds no pairs"):
        geotiffs.read_pairs(tmp_path, "", BANDS, exclude=("a",))
    (tmp_path / "index.csv").write_text("clear\nclear/a.tif\n")
    with pytest.raises(InputError, match="no column cloudy"):
        geotiffs.read_pairs(tmp_path, "", BANDS)
    (tmp_path / "index.csv").unlink()
    (tmp_path / "clear" / "a.tif").unlink()
    with pytest.raises(InputError, match="has no clear image"):
        geotiffs.read_pairs(tmp_path, "here", BANDS)


def test_the_real_pairs_are_registered(samples_dir):
    pairs = geotiffs.read_pairs(samples_dir / "pairs-l1c-10m", "", BANDS)
    assert len(pairs) == 29
    assert all(made.frame is not None for made in pairs)


def test_clear_images_of_a_file_and_of_an_index(tmp_path, surface):
    pair(tmp_path, cloudy_over(surface), surface)
    write(tmp_path / "clear" / "b.tif", surface // 2)
    rows = (
        "clear/a.tif,cloudy/a.tif,here",
        "clear/a.tif,cloudy/a.tif,here",
        "clear/b.tif,cloudy/a.tif,there",
    )
    (tmp_path / "index.csv").write_text("\n".join(("clear,cloudy,region", *rows)))
    one, other = geotiffs.read_clear(tmp_path, "", BANDS)
    assert [(image.name, image.region) for image in (one, other)] == [
        ("clear/a", "here"),
        ("clear/b", "there"),
    ]
    (left,) = geotiffs.read_clear(tmp_path, "", BANDS, exclude=("here",))
    assert left.region == "there"
    (alone,) = geotiffs.read_clear(tmp_path / "clear" / "a.tif", "elsewhere", BANDS)
    assert (alone.name, alone.region) == ("clear/a", "elsewhere")
    np.testing.assert_array_equal(alone.reflectance, one.reflectance)
    with pytest.raises(InputError, match="have no region"):
        geotiffs.read_clear(tmp_path / "clear", "", BANDS)
    with pytest.raises(InputError, match="has no nowhere to leave out"):
        geotiffs.read_clear(tmp_path, "", BANDS, exclude=("nowhere",))


def test_pairs_of_a_region_are_left_out(tmp_path, surface):
    pair(tmp_path, cloudy_over(surface), surface)
    write(tmp_path / "cloudy" / "b.tif", cloudy_over(surface, top=60))
    rows = ("clear/a.tif,cloudy/a.tif,here", "clear/a.tif,cloudy/b.tif,there")
    (tmp_path / "index.csv").write_text("\n".join(("clear,cloudy,region", *rows)))
    (made,) = geotiffs.read_pairs(tmp_path, "", BANDS, exclude=("here",))
    assert (made.name, made.region) == ("b", "there")

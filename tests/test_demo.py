"""The demonstration: its catalogue, its rasters, and the simulated land and clouds in them."""

from __future__ import annotations

import json
import math
from datetime import UTC, date, datetime
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pystac
import pytest
import rasterio
from hypothesis import given, settings
from hypothesis import strategies as st
from pyproj import Transformer
from scipy import fft, ndimage
from shapely.geometry import shape

from cloudgan.demonstration.catalogue import SEASON, Demo, write_catalog
from cloudgan.errors import InputError
from cloudgan.sentinel2.bands import BANDS as SENSOR_BANDS
from cloudgan.simulation.covers import BANDS, BANDS_AT, COVERS, KIND, SOIL
from cloudgan.simulation.farmland import draw_noise, make_land
from cloudgan.simulation.season import compute_sun_position, make_cloud_layers

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

CLEAR, CUMULUS, OFFSET, MIXED, EDGE, HALF, TWICE = (
    date(2020, 4, 5),
    date(2020, 4, 20),
    date(2020, 4, 25),
    date(2020, 5, 15),
    date(2020, 5, 30),
    date(2020, 6, 14),
    date(2020, 6, 24),
)
DATES = (CLEAR, CUMULUS, OFFSET, MIXED, EDGE, HALF, TWICE)
FILES = {
    "blue": "B02", "green": "B03", "red": "B04", "nir": "B08", "scl": "SCL",
    "rededge1": "B05", "rededge2": "B06", "rededge3": "B07", "nir08": "B8A", "swir16": "B11", "swir22": "B12",
}  # fmt: skip
AT_20M = (*BANDS_AT[20], "scl")
TRUE_ORIGIN = {"WP": (499980, 5400000), "XP": (600000, 5400000)}  # of the whole MGRS tiles, 109.8 km wide

# What a real Earth Search v1 item of this collection carries, less the provider's own paths.
PROPERTIES = """
    created platform constellation instruments eo:cloud_cover proj:epsg mgrs:utm_zone mgrs:latitude_band
    mgrs:grid_square grid:code view:sun_azimuth view:sun_elevation s2:degraded_msi_data_percentage
    s2:nodata_pixel_percentage s2:saturated_defective_pixel_percentage s2:dark_features_percentage
    s2:cloud_shadow_percentage s2:vegetation_percentage s2:not_vegetated_percentage s2:water_percentage
    s2:unclassified_percentage s2:medium_proba_clouds_percentage s2:high_proba_clouds_percentage
    s2:thin_cirrus_percentage s2:snow_ice_percentage s2:product_type s2:processing_baseline s2:product_uri
    s2:generation_time s2:datatake_id s2:datatake_type s2:datastrip_id s2:granule_id
    s2:reflectance_conversion_factor datetime s2:sequence earthsearch:boa_offset_applied processing:software
    updated
""".split()  # noqa: SIM905


class Granule(NamedTuple):
    """One item with its pixels."""

    item: dict[str, Any]
    reflectance: NDArray[np.float64]  # (4, rows, columns), harmonised, NaN where there is no data
    scl: NDArray[np.uint8]  # at 10 m


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    return write_catalog(tmp_path_factory.mktemp("demo"), dates=DATES)


def items_of(demo: Demo) -> list[dict[str, Any]]:
    collection = demo.catalog.parent / "sentinel-2-l2a" / "collection.json"
    links = json.loads(collection.read_text())["links"]
    return [
        json.loads((collection.parent / link["href"]).read_text()) for link in links if link["rel"] == "item"
    ]


def read(demo: Demo, item: dict[str, Any], asset: str) -> NDArray[Any]:
    folder = demo.catalog.parent / "sentinel-2-l2a" / item["id"]
    with rasterio.open(folder / item["assets"][asset]["href"]) as source:
        return source.read(1)


def granule(demo: Demo, day: date, square: str, sequence: int | None = None) -> Granule:
    """The granule of a date and tile that is to be used, or the one of a given sequence."""
    of_day = [
        item
        for item in items_of(demo)
        if item["properties"]["datetime"].startswith(day.isoformat())
        and item["properties"]["mgrs:grid_square"] == square
        and (sequence is None or item["properties"]["s2:sequence"] == str(sequence))
    ]
    item = max(of_day, key=lambda item: item["properties"]["s2:sequence"])
    stored = np.stack([read(demo, item, band) for band in BANDS_AT[10]]).astype(float)
    properties = item["properties"]
    has_offset = (
        properties["s2:processing_baseline"] >= "04.00" and not properties["earthsearch:boa_offset_applied"]
    )
    reflectance = np.where(stored == 0, np.nan, stored - 1000 * has_offset) / 10000
    return Granule(item, reflectance, read(demo, item, "scl").repeat(2, 0).repeat(2, 1))


def truth(demo: Demo, item: dict[str, Any]) -> NDArray[np.float64]:
    """Green, red and nir of the truth, cut to an item."""
    west, rows = item["assets"]["red"]["proj:transform"][2], item["assets"]["red"]["proj:shape"][0]
    with rasterio.open(demo.truth / f"{item['properties']['datetime'][:10]}.tif") as source:
        left = round((west - source.transform.c) / 10)
        return source.read()[:, :, left : left + rows] / 10000


def near(mask: NDArray[np.bool_], pixels: int) -> NDArray[np.bool_]:
    return ndimage.binary_dilation(mask, iterations=pixels)


# --- the catalogue


def test_pystac_walks_the_catalogue(demo: Demo) -> None:
    catalog = pystac.Catalog.from_file(str(demo.catalog))
    collection = catalog.get_child("sentinel-2-l2a")
    assert isinstance(collection, pystac.Collection)
    items = list(collection.get_items())
    assert len(items) == 2 * len(DATES) + 2
    start, end = collection.extent.temporal.intervals[0]
    west, south, east, north = collection.extent.spatial.bboxes[0]
    for item in items:
        assert start <= item.datetime <= end
        assert item.collection_id == collection.id
        assert west <= item.bbox[0] < item.bbox[2] <= east
        assert south <= item.bbox[1] < item.bbox[3] <= north
        assert item.get_root() is catalog
        for asset in item.assets.values():
            with rasterio.open(asset.get_absolute_href()) as source:
                assert source.crs.to_epsg() == 32633


def test_links_and_assets_are_relative(demo: Demo) -> None:
    for path in demo.catalog.parent.rglob("*.json"):
        content = json.loads(path.read_text())
        for link in [*content["links"], *content.get("assets", {}).values()]:
            assert link["href"].startswith(".")
            assert (path.parent / link["href"]).exists()


def test_items_have_the_shape_of_earth_search(demo: Demo) -> None:
    for item in items_of(demo):
        properties = item["properties"]
        assert sorted(properties) == sorted(PROPERTIES)
        square, sequence = properties["mgrs:grid_square"], properties["s2:sequence"]
        when = datetime.fromisoformat(properties["datetime"])
        platform = {"sentinel-2a": "S2A", "sentinel-2b": "S2B"}[properties["platform"]]
        assert item["id"] == f"{platform}_33U{square}_{when:%Y%m%d}_{sequence}_L2A"
        assert properties["grid:code"] == f"MGRS-33U{square}"
        assert properties["s2:datatake_id"].endswith("N" + properties["s2:processing_baseline"])
        assert when.hour == 10
        assert when.tzinfo is not None
        assert set(item["assets"]) == set(FILES)
        for name, asset in item["assets"].items():
            assert asset["href"] == f"./{FILES[name]}.tif"
            assert asset["raster:bands"][0]["nodata"] == 0
            if name != "scl":
                (band,) = asset["eo:bands"]
                assert band["name"] == name
                assert band["common_name"] == ("rededge" if "rededge" in name else name)
                assert band["center_wavelength"] == pytest.approx(
                    SENSOR_BANDS[name].wavelength / 1000, abs=0.015
                )
                assert asset["raster:bands"][0]["spatial_resolution"] == asset["gsd"]
                assert asset["raster:bands"][0]["scale"] == 0.0001


def test_satellites_take_turns_every_five_days() -> None:
    assert {(later - earlier).days for earlier, later in pairwise(SEASON)} == {5}
    assert SEASON[0] >= date(2020, 4, 1)
    assert SEASON[-1] <= date(2020, 7, 31)


def test_footprints_are_the_valid_pixels(demo: Demo) -> None:
    to_utm = Transformer.from_crs(4326, 32633, always_xy=True)
    for item in items_of(demo):
        polygon = shape(item["geometry"])
        assert polygon.is_valid
        assert polygon.exterior.is_ccw
        assert polygon.bounds == tuple(item["bbox"])
        corners = np.column_stack(to_utm.transform(*np.array(polygon.exterior.coords).T))
        area = shape({"type": "Polygon", "coordinates": [corners]}).area
        scl = read(demo, item, "scl")
        assert area / 400 / scl.size == pytest.approx(np.mean(scl > 0), abs=0.003)
        assert item["properties"]["s2:nodata_pixel_percentage"] == pytest.approx(
            100 * np.mean(scl == 0), abs=1e-5
        )
        cloudy = np.isin(scl, [8, 9, 10]).sum() / (scl > 0).sum()
        assert item["properties"]["eo:cloud_cover"] == pytest.approx(100 * cloudy, abs=1e-5)


def test_the_farm_lies_in_both_tiles(demo: Demo) -> None:
    farm = shape(json.loads(demo.aoi.read_text())["geometry"])
    west, east = (shape(granule(demo, CLEAR, square).item["geometry"]) for square in ("WP", "XP"))
    assert farm.is_valid
    assert west.union(east).buffer(-0.005).contains(farm)
    assert farm.intersects(west.intersection(east))
    assert not west.contains(farm)
    assert not east.contains(farm)


# --- the files


def test_assets_are_cogs_as_described(demo: Demo) -> None:
    for item in items_of(demo):
        for name, asset in item["assets"].items():
            path = demo.catalog.parent / "sentinel-2-l2a" / item["id"] / asset["href"]
            with rasterio.open(path) as source:
                structure = source.tags(ns="IMAGE_STRUCTURE")
                assert structure["LAYOUT"] == "COG"
                assert structure["COMPRESSION"] == "DEFLATE"
                assert structure["PREDICTOR"] == "2"
                assert source.block_shapes == [(256, 256)]
                assert list(source.shape) == asset["proj:shape"]
                assert list(source.transform)[:6] == asset["proj:transform"]
                assert source.nodata == 0
                assert source.dtypes == ("uint8" if name == "scl" else "uint16",)
                assert source.overviews(1) == ([] if name in AT_20M else [2])
                assert source.res == ((20, 20) if name in AT_20M else (10, 10))


def test_pieces_lie_on_the_grid_of_their_mgrs_tile(demo: Demo) -> None:
    for item in items_of(demo):
        west, north = TRUE_ORIGIN[item["properties"]["mgrs:grid_square"]]
        for asset in item["assets"].values():
            step, _, x, _, _, y = asset["proj:transform"]
            size = step * asset["proj:shape"][0]
            assert (x - west) % step == 0
            assert (north - y) % step == 0
            assert west <= x < x + size <= west + 109800
            assert north - 109800 <= y - size < y <= north


def test_truth_covers_both_pieces(demo: Demo) -> None:
    assert sorted(path.name for path in demo.truth.iterdir()) == sorted(
        f"{day}{ending}.tif" for day in DATES for ending in ("", "-20m")
    )
    for path in demo.truth.iterdir():
        with rasterio.open(path) as source:
            at_20m = path.stem.endswith("-20m")
            assert source.descriptions == (BANDS_AT[20] if at_20m else ("green", "red", "nir"))
            assert source.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
            assert source.read().min() > 0
            bounds = source.bounds
    pieces = [granule(demo, CLEAR, square).item["assets"]["red"] for square in ("WP", "XP")]
    assert bounds.left == pieces[0]["proj:transform"][2]
    assert bounds.right == pieces[1]["proj:transform"][2] + 10 * pieces[1]["proj:shape"][1]


def test_the_whole_season_stays_under_a_hundred_and_forty_megabytes(demo: Demo) -> None:
    def total(folder: Path) -> int:
        return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())

    per_item = total(demo.catalog.parent / "sentinel-2-l2a") / len(items_of(demo))
    assert per_item * (2 * len(SEASON) + 3) + total(demo.truth) / len(DATES) * len(SEASON) < 140e6


def test_the_same_seed_writes_the_same_bytes_whatever_else_is_written(demo: Demo, tmp_path: Path) -> None:
    again = write_catalog(tmp_path / "again", dates=[MIXED])
    written = [path for path in again.catalog.parent.rglob("*") if path.is_file()]
    assert len(written) == 2 * 12 + 2 + 3  # granules, truth; catalogue, collection, area of interest
    for path in written:
        if path.name not in ("collection.json",):
            assert (
                path.read_bytes() == (demo.catalog.parent / path.relative_to(tmp_path / "again")).read_bytes()
            )


def test_another_seed_gives_other_pixels(demo: Demo, tmp_path: Path) -> None:
    other = write_catalog(tmp_path, seed=1, dates=[CLEAR])
    item = granule(demo, CLEAR, "WP").item
    assert np.mean(read(other, item, "red") != read(demo, item, "red")) > 0.9


@pytest.mark.parametrize("dates", [[date(2020, 4, 6)], [date(2021, 4, 5), CLEAR], []])
def test_dates_out_of_season_are_refused_before_anything_is_written(
    dates: list[date], tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="2020-04-05 to 2020-07-29"):
        write_catalog(tmp_path / "new", dates=dates)
    assert not (tmp_path / "new").exists()


# --- the pixels


@pytest.mark.parametrize("day", DATES)
def test_both_tiles_show_the_same_where_they_overlap(demo: Demo, day: date) -> None:
    west, east = granule(demo, day, "WP"), granule(demo, day, "XP")
    shift = (
        east.item["assets"]["red"]["proj:transform"][2] - west.item["assets"]["red"]["proj:transform"][2]
    ) // 10
    common = west.scl.shape[1] - shift
    assert common >= 100
    np.testing.assert_array_equal(west.scl[:, shift:], east.scl[:, :common])
    np.testing.assert_allclose(west.reflectance[..., shift:], east.reflectance[..., :common], atol=1e-9)


@pytest.mark.parametrize("day", DATES)
@pytest.mark.parametrize("square", ["WP", "XP"])
def test_clear_pixels_are_the_truth_up_to_noise(demo: Demo, day: date, square: str) -> None:
    image = granule(demo, day, square)
    clear = ~near(~np.isin(image.scl, [4, 5, 6]), 6)
    assert clear.mean() > 0.03
    error = (image.reflectance[1:] - truth(demo, image.item))[:, clear]
    assert np.abs(error.mean(axis=1)).max() < 0.0005
    assert np.abs(error).mean() < 0.001
    assert np.mean(np.abs(error) > 0.006) < 0.01  # faint cloud and shadow that the classification misses


@pytest.mark.parametrize("day", [CUMULUS, MIXED])
def test_scl_finds_the_clouds(demo: Demo, day: date) -> None:
    image = granule(demo, day, "WP")
    cloudy, real = image.reflectance[1:], truth(demo, image.item)
    cloud = image.scl == 9
    assert np.median((cloudy - real)[:2, cloud]) > 0.3
    assert np.median((cloudy / real)[2, image.scl == 3]) < 0.55
    # Pixels that are not flagged are hardly changed, but for edges that the real classification misses too.
    changed = np.abs(cloudy - real).max(axis=0) > 0.03
    flagged = np.isin(image.scl, [2, 3, 7, 8, 9, 10])
    assert np.mean(changed & ~flagged) < 0.08
    assert np.mean(changed & ~near(flagged, 6)) < 0.001
    assert np.mean(flagged & ~changed) < 0.08


def test_cirrus_is_thin_and_bluish(demo: Demo) -> None:
    image, clear = granule(demo, MIXED, "WP"), granule(demo, CLEAR, "WP")
    cirrus = (image.scl == 10) & ~near(np.isin(image.scl, [3, 7, 8, 9]), 6)
    assert cirrus.mean() > 0.02
    added = (image.reflectance[1:] - truth(demo, image.item))[:, cirrus].mean(axis=1)
    assert 0.02 < added[1] < 0.2
    assert added[0] > added[1] > added[2]
    assert np.isin(clear.scl, [3, 8, 9, 10]).mean() < 0.001


def test_swath_edge_cuts_a_slanted_wedge(demo: Demo) -> None:
    image = granule(demo, EDGE, "XP")
    empty = image.scl == 0
    np.testing.assert_array_equal(
        np.isnan(image.reflectance), np.broadcast_to(empty, image.reflectance.shape)
    )
    valid = (~empty).sum(axis=1)
    assert empty.mean() > 0.2
    assert np.all(np.diff(valid) <= 0)  # a descending orbit: the edge runs towards the south-west
    slope = (valid[0] - valid[-1]) / (len(valid) - 2)
    assert slope == pytest.approx(math.tan(math.radians(14.6)), abs=0.01)
    assert not np.any(granule(demo, EDGE, "WP").scl == 0)


def test_stored_numbers_carry_the_offset_that_the_flags_state(demo: Demo) -> None:
    for item in items_of(demo):
        properties = item["properties"]
        red = read(demo, item, "red")
        dark = np.percentile(red[red > 0], 2)
        new = properties["s2:processing_baseline"] >= "04.00"
        if new and not properties["earthsearch:boa_offset_applied"]:
            assert red[red > 0].min() > 1000
        else:
            assert dark < 800
        declared = {item["assets"][band]["raster:bands"][0]["offset"] for band in BANDS}
        assert declared == {-0.1 if new else 0}  # even where it was applied, as in the real catalogue
    flags = {
        granule(demo, HALF, square).item["properties"]["earthsearch:boa_offset_applied"]
        for square in ("WP", "XP")
    }
    assert flags == {True, False}


@pytest.mark.parametrize(("square", "baselines"), [("WP", ("05.00", "05.00")), ("XP", ("02.14", "05.00"))])
def test_superseded_granules_would_be_noticed(demo: Demo, square: str, baselines: tuple[str, str]) -> None:
    old, new = granule(demo, TWICE, square, 0), granule(demo, TWICE, square, 1)
    assert (
        old.item["properties"]["s2:processing_baseline"],
        new.item["properties"]["s2:processing_baseline"],
    ) == baselines
    takes = {image.item["properties"]["s2:datatake_id"].rsplit("_N", 1)[0] for image in (old, new)}
    assert len(takes) == 1
    assert np.all(np.median(old.reflectance - new.reflectance, axis=(1, 2)) > 0.02)
    assert np.abs(new.reflectance[1:] - truth(demo, new.item)).mean() < 0.0015


def test_levels_are_those_of_real_farmland(demo: Demo) -> None:
    # 2nd, 50th and 98th percentiles of clear L2A scenes of Flanders and Styria, with a margin.
    bounds = {
        "blue": (0.01, 0.03, 0.08, 0.16),
        "green": (0.02, 0.05, 0.10, 0.22),
        "red": (0.01, 0.03, 0.12, 0.26),
    }
    for day in (CLEAR, OFFSET, TWICE):
        image = granule(demo, day, "WP")
        for band, (lowest, low, high, highest) in bounds.items():
            bottom, middle, top = np.percentile(image.reflectance[BANDS.index(band)], [2, 50, 98])
            assert lowest < bottom < middle < top < highest
            assert low < middle < high
        assert 0.25 < np.median(image.reflectance[3]) < 0.5


# --- the bands of 20 m


def reflectance_of(demo: Demo, day: date, square: str = "WP") -> dict[str, NDArray[np.float64]]:
    """All bands of a date's usable granule at 20 m, harmonised."""
    item = granule(demo, day, square).item
    added = 1000 * (not item["properties"]["earthsearch:boa_offset_applied"])
    made = {}
    for band in BANDS:
        pixels = (read(demo, item, band) - float(added)) / 10000
        made[band] = pixels if band in AT_20M else pixels.reshape(216, 2, 216, 2).mean((1, 3))
    return made


def ratio(bands: Any, one: str, other: str) -> Any:
    """The normalised difference of two bands."""
    return (bands[one] - bands[other]) / (bands[one] + bands[other])


def spectrum_of(name: str) -> dict[str, float]:
    return dict(zip(BANDS, COVERS[KIND[name]].colour, strict=True))


@pytest.mark.parametrize("cover", [cover for cover in COVERS if cover.share], ids=lambda cover: cover.name)
def test_green_crops_have_their_spectrum(cover: Any) -> None:
    crop, soil = spectrum_of(cover.name), dict(zip(BANDS, SOIL, strict=True))
    assert ratio(crop, "nir", "red") > 0.6 > 0.3 > ratio(soil, "nir", "red")
    assert crop["red"] < crop["rededge1"] < crop["rededge2"] < crop["rededge3"] <= crop["nir08"]
    assert crop["nir08"] == pytest.approx(crop["nir"], rel=0.02)
    assert crop["swir22"] < 0.6 * crop["swir16"] < 0.5 * crop["nir08"]
    assert ratio(crop, "nir", "swir16") > 0.3 > 0 > ratio(soil, "nir", "swir16")
    assert ratio(crop, "nir", "swir22") > 0.5 > 0 > ratio(soil, "nir", "swir22")


def test_water_is_darkest_in_the_short_wave_infrared() -> None:
    water = spectrum_of("water")
    assert ratio(water, "green", "nir") > 0
    assert water["swir22"] < water["swir16"] < water["nir08"] < 0.02


def test_land_in_june_is_sane_in_all_bands() -> None:
    land = make_land(np.random.default_rng([1, 0]), (300, 400))
    kind = land.kind[land.label[::4, ::4]]
    pure = ndimage.maximum_filter(kind, 3) == ndimage.minimum_filter(kind, 3)
    images = {at: land.reflectance(166, 0.3, (155, 60), at) for at in BANDS_AT}
    assert images[20].shape == (6, 150, 200)
    fine = images[10].reshape(4, 150, 2, 200, 2).mean((2, 4))
    bands = dict(zip(BANDS, [*fine, *images[20]], strict=True))

    def middle(index: Any, name: str) -> float:
        return float(np.median(index[pure & (kind == KIND[name])]))

    ndvi, ndmi = ratio(bands, "nir", "red"), ratio(bands, "nir", "swir16")
    for crop in ("winter wheat", "rapeseed", "sugar beet", "alfalfa"):
        assert middle(ndvi, crop) > 0.6
        assert middle(ndmi, crop) > 0.15
    assert middle(ratio(bands, "green", "nir"), "water") > 0
    bare = land.reflectance(91, 0.0, (155, 50), 20), land.reflectance(91, 1.0, (155, 50), 20)
    fields = pure & (kind == KIND["maize"])
    dry, wet = (np.median(image[:, fields], axis=1) for image in bare)
    loss = 1 - wet / dry
    assert loss[0] == pytest.approx(0.25, abs=0.01)
    assert loss[0] < loss[4] < loss[5]


def test_the_grids_of_both_resolutions_coincide(demo: Demo) -> None:
    """nir08 is nearly nir: a shift by half a pixel would show."""
    bands = reflectance_of(demo, CLEAR)
    nir, nir08 = (bands[name] - bands[name].mean() for name in ("nir", "nir08"))
    match = {
        (down, right): float((nir * np.roll(nir08, (down, right), (0, 1))).mean())
        for down in (-1, 0, 1)
        for right in (-1, 0, 1)
    }
    assert max(match, key=match.__getitem__) == (0, 0)
    assert match[0, 1] == pytest.approx(match[0, -1], rel=0.02)
    assert match[1, 0] == pytest.approx(match[-1, 0], rel=0.02)


def test_cloud_is_darker_and_cirrus_faint_in_the_short_wave_infrared(demo: Demo) -> None:
    bands, scl = reflectance_of(demo, MIXED), granule(demo, MIXED, "WP").scl[::2, ::2]
    surface = truth(demo, granule(demo, MIXED, "WP").item)[0].reshape(216, 2, 216, 2).mean((1, 3))
    with rasterio.open(demo.truth / f"{MIXED}-20m.tif") as source:
        swir16, swir22 = source.read()[4:, :, :216] / 10000
    cloud = scl == 9
    assert (
        np.median(bands["swir22"][cloud])
        < np.median(bands["swir16"][cloud])
        < np.median(bands["blue"][cloud])
    )
    cirrus = (scl == 10) & ~near(np.isin(scl, [3, 7, 8, 9]), 4)
    added = np.mean((bands["green"] - surface)[cirrus])
    assert added > 0.02
    for name, below in (("swir16", swir16), ("swir22", swir22)):
        assert abs(np.mean((bands[name] - below)[cirrus])) < 0.4 * added
    shadow = scl == 3
    assert np.median((bands["swir16"] / swir16)[shadow]) < 0.6


@pytest.mark.parametrize("day", [CLEAR, OFFSET, HALF])
def test_clear_pixels_of_20m_are_the_truth_up_to_noise(demo: Demo, day: date) -> None:
    scl = granule(demo, day, "WP").scl[::2, ::2]
    clear = ~near(~np.isin(scl, [4, 5, 6]), 4)
    bands = reflectance_of(demo, day)
    with rasterio.open(demo.truth / f"{day}-20m.tif") as source:
        real = source.read()[:, :, :216] / 10000
    for name, surface in zip(BANDS_AT[20], real, strict=True):
        error = (bands[name] - surface)[clear]
        assert abs(error.mean()) < 0.0005
        noise = (0.0004 + 0.001 * np.sqrt(surface[clear])) * math.sqrt(2 / math.pi)
        assert np.abs(error).mean() < 1.3 * noise.mean()  # and the faint cloud that the classification misses


# --- land and clouds


@pytest.mark.parametrize("cover", COVERS, ids=lambda cover: cover.name)
def test_the_shares_of_a_calendar_are_valid(cover: Any) -> None:
    days = [knot[0] for knot in cover.season]
    assert days == sorted(set(days))
    for _, *parts in cover.season:
        assert all(part >= 0 for part in parts)
        assert sum(parts) <= 1


@pytest.mark.parametrize("seed", [1, 2])
def test_crops_follow_the_season(seed: int) -> None:
    land = make_land(np.random.default_rng([seed, 0]), (300, 400))
    kind = land.kind[land.label[::2, ::2]]
    april, may, july = (land.reflectance(day, 0.3, (155, 50)) for day in (100, 122, 195))

    def ndvi(image: NDArray[np.float32], name: str) -> float:
        where = kind == KIND[name]
        return float(np.median((image[3] - image[2])[where] / (image[3] + image[2])[where]))

    assert ndvi(april, "maize") < 0.35 < 0.7 < ndvi(july, "maize")
    assert ndvi(july, "winter wheat") < 0.5 < 0.75 < ndvi(may, "winter wheat")
    flowers = kind == KIND["rapeseed"]
    assert np.median(may[1][flowers]) > 1.4 * np.median(april[1][flowers])
    for image in (april, may, july):
        assert image.min() > 0.003
        assert image.max() < 0.8


@given(
    rows=st.integers(40, 90),
    cols=st.integers(40, 90),
    longest=st.floats(2, 100),
    slope=st.floats(0.5, 3),
    stretch=st.floats(1, 6),
    angle=st.floats(-3, 3),
)
@settings(max_examples=25, deadline=None)
def test_noise_is_standardised(
    rows: int, cols: int, longest: float, slope: float, stretch: float, angle: float
) -> None:
    texture = draw_noise(np.random.default_rng(0), (rows, cols), longest, slope, stretch, angle)
    assert texture.shape == (rows, cols)
    assert texture.dtype == np.float32
    assert abs(texture.mean()) < 1e-3
    assert texture.std() == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize(
    ("when", "azimuth", "elevation"),
    [  # as real items of tile 33TWM state them, for the middle of the tile
        (datetime(2023, 8, 10, 9, 58, tzinfo=UTC), 151.11, 56.31),
        (datetime(2023, 8, 15, 9, 58, tzinfo=UTC), 152.36, 54.95),
        (datetime(2023, 8, 18, 10, 8, tzinfo=UTC), 157.13, 54.82),
    ],
)
def test_the_position_of_the_sun_is_that_of_real_items(
    when: datetime, azimuth: float, elevation: float
) -> None:
    found = compute_sun_position(when, longitude=15.72, latitude=46.46)
    assert found == (pytest.approx(azimuth, abs=1.2), pytest.approx(elevation, abs=0.6))


@pytest.mark.parametrize("sun", [(150.0, 46.0), (165.0, 62.0)])
def test_shadows_fall_away_from_the_sun(sun: tuple[float, float]) -> None:
    clouds = make_cloud_layers(np.random.default_rng(5), (300, 400), cover=0.2, veil=0, sun=sun)
    spectra = [fft.rfft2(part - part.mean()) for part in (clouds.shadow, clouds.cloud)]
    match = fft.irfft2(spectra[0] * spectra[1].conj(), s=clouds.cloud.shape)
    down, right = (int(at) for at in np.unravel_index(match.argmax(), match.shape))
    down, right = (
        at - size if at > size / 2 else at for at, size in zip((down, right), match.shape, strict=True)
    )
    bearing = math.degrees(math.atan2(right, -down)) % 360
    assert abs((bearing - sun[0] - 180 + 180) % 360 - 180) < 3
    height = 10 * math.hypot(down, right) * math.tan(math.radians(sun[1]))
    assert 850 < height < 1650


@pytest.mark.parametrize("cover", [0.0, 0.1, 0.5, 0.95])
def test_low_cloud_covers_the_share_asked_for(cover: float) -> None:
    clouds = make_cloud_layers(np.random.default_rng(3), (300, 400), cover=cover, veil=0, sun=(155, 55))
    assert np.mean(clouds.cloud > 0.02) == pytest.approx(cover, abs=0.08)
    assert 0 <= clouds.cloud.min() <= clouds.cloud.max() <= 1
    assert clouds.cirrus.max() == 0

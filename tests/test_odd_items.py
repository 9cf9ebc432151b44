"""Items that lack something or contradict themselves, from the catalogue to the pixels."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from granules import EDGE, EPSG, FIELD, FRAME, JUNE, LEVELS, NORTH, WEST, save, write_granule, write_image
from shapely.geometry import mapping
from test_frames import spellings

from cloudgan.errors import CatalogError, ReadError
from cloudgan.geo.aoi import Aoi, read_aoi
from cloudgan.io.cube import open_cube
from cloudgan.planning.planner import plan_run
from cloudgan.sentinel2.dates import DateRange
from cloudgan.stac.frames import Frame, locate

CASES = Path(__file__).parents[2] / "shared" / "cases"
DAYS = ("2023-06-01", "2023-06-11", "2023-06-21", "2023-07-01")
ODD = "S2A_33UWP_20230611_0_L2A"


@pytest.fixture
def season(tmp_path):
    """Four granules of a season, in a folder with their files."""
    return [write_granule(tmp_path, day) for day in DAYS]


@pytest.fixture
def plan(tmp_path, generator):
    """Plan a run over these items."""

    def make(items, dates=JUNE, **options):
        return plan_run(Aoi(FIELD), dates, generator, stac=save(tmp_path, *items), **options)

    return make


def list_dates(made):
    return [str(made.scenes[at].date) for at in made.written]


def read_medians(made, bands=("green", "red", "nir")):
    """Harmonised digital numbers of each date, by band."""
    cube = open_cube(made.scenes, made.grid, bands)
    return [
        {band: round(float(np.median(cube[band][at])), -1) for band in bands}
        for at in range(len(made.scenes))
    ]


CLEAR = {band: round(level, -1) for band, level in LEVELS.items()}


# What an item lacks


def without_assets(item):
    item["assets"] = {"scl": item["assets"]["scl"]}


def without_scl(item):
    del item["assets"]["scl"]


def without_time(item):
    del item["properties"]["datetime"]


def without_zone(item):
    del item["properties"]["proj:epsg"]
    item["id"] = "odd"
    for asset in item["assets"].values():
        asset["href"] = "./gone.tif"
    item["properties"] = {key: value for key, value in item["properties"].items() if "data" not in key} | {
        "datetime": "2023-06-11T10:04:35Z"
    }


def without_offset(item):
    keys = ("s2:processing_baseline", "earthsearch:boa_offset_applied", "s2:datatake_id", "s2:datastrip_id")
    for key in keys:
        del item["properties"][key]


def of_another_scale(item):
    item["assets"]["red"]["raster:bands"] = [{"scale": 1.0}]


def with_a_foreign_address(item):
    item["assets"]["red"]["href"] = "/VSIZIP//etc/x.zip/red.tif"


def with_nonsense_for_a_frame(item):
    for asset in item["assets"].values():
        asset |= {"href": "./gone.tif", "proj:transform": [0, 0, 0, 0, 0, 0]}


FAULTS = [
    (without_assets, "has no band green (it has scl)"),
    (without_scl, "has no band scl"),
    (without_time, "has no usable datetime"),
    (without_zone, "says neither its CRS (proj:code, proj:epsg) nor its MGRS tile"),
    (without_offset, "states no BOA offset"),
    (of_another_scale, "scales band red by 1.0"),
    (with_a_foreign_address, "has an address for band red that is not read"),
    (with_nonsense_for_a_frame, "states a frame for band green that no image has"),
    (lambda item: item["properties"].update({"proj:epsg": 3857}), None),
    (lambda item: item.pop("assets"), f"a feature ('{ODD}') that is no STAC item"),
]


@pytest.mark.parametrize(("break_it", "reason"), FAULTS)
def test_one_odd_item_is_left_out_and_named(plan, season, break_it, reason):
    break_it(season[1])
    if reason is None:  # its file tells
        made, warnings = plan(season)
        assert list_dates(made) == list(DAYS[:3])
        assert any("the item states EPSG:3857: EPSG:32633 read from the file" in each for each in warnings)
        return
    made, warnings = plan(season)
    assert list_dates(made) == ["2023-06-01", "2023-06-21"]
    named = [each for each in warnings if each.startswith("left out: ")]
    assert len(named) == 1
    assert reason in named[0]
    assert made.summary()["left_out"][0]["reason"] in named[0]
    assert made.store_spec().about["left_out"] == made.summary()["left_out"]


@pytest.mark.parametrize(("break_it", "reason"), [fault for fault in FAULTS if fault[1]])
def test_strict_refuses_an_odd_item(plan, season, break_it, reason):
    break_it(season[1])
    with pytest.raises(CatalogError, match=r"and --strict was given; 1 items cannot be used") as caught:
        plan(season, strict=True)
    assert reason in str(caught.value)


@pytest.mark.parametrize(("break_it", "reason"), [fault for fault in FAULTS if fault[1]])
def test_where_nothing_is_left_the_error_says_why(plan, season, break_it, reason):
    break_it(season[1])
    with pytest.raises(CatalogError, match=r"cannot be used") as caught:
        plan([season[1]])
    assert reason in str(caught.value)


def test_an_odd_item_in_the_context_days_alone_is_left_out(plan, season):
    without_assets(season[3])
    made, warnings = plan(season)
    assert list_dates(made) == list(DAYS[:3])
    assert any("S2A_33UWP_20230701_0_L2A has no band" in each for each in warnings)


# Nobody needs it


def test_of_a_broken_item_and_its_repair_the_repair_is_taken(plan, season):
    repaired = copy.deepcopy(season[1]) | {"id": ODD.replace("_0_", "_1_")}
    without_assets(season[1])
    made, warnings = plan([*season, repaired], strict=True)
    assert list_dates(made) == list(DAYS[:3])
    assert not any("left out" in each for each in warnings)
    assert made.duplicates == (ODD,)


def test_where_the_newer_version_is_broken_the_older_is_taken(plan, season):
    newer = copy.deepcopy(season[1]) | {"id": ODD.replace("_0_", "_1_")}
    without_assets(newer)
    made, warnings = plan([*season, newer])
    assert list_dates(made) == list(DAYS[:3])
    assert ODD in {item.id for scene in made.scenes for item in scene.items}
    assert any(f"left out: item {newer['id']}" in each for each in warnings)


@pytest.mark.parametrize(
    "change",
    [
        {"datetime": "2021-06-11T10:04:35Z"},
        {"eo:cloud_cover": 99},
        {"datetime": None, "s2:datatake_id": "GS2A_20210611T095551_012345_N05.09"},
    ],
)
def test_an_item_that_was_not_asked_for_is_not_examined(plan, season, change):
    without_assets(season[1])
    season[1]["properties"] |= change
    made, warnings = plan(season, strict=True, max_cloud_cover=50)
    assert list_dates(made) == ["2023-06-01", "2023-06-21"]
    assert not any("left out" in each for each in warnings)


def test_an_odd_item_beside_the_area_is_not_examined(plan, season, tmp_path):
    without_assets(season[1])
    beside = replace(FRAME, transform=(20.0, 0.0, WEST + 90_000.0, 0.0, -20.0, float(NORTH)))
    season[1]["assets"]["scl"]["proj:transform"] = list(beside.transform)
    season[1]["geometry"] = mapping(locate(None, beside)[0])
    made, _ = plan(season, strict=True)
    assert list_dates(made) == ["2023-06-01", "2023-06-21"]


# What the file tells


@pytest.mark.parametrize(
    "transform",
    [
        [WEST, 10.0, 0.0, NORTH, 0.0, -10.0],
        [10, 0, WEST, 0, 10, NORTH],
        [10, 0, 1e300, 0, -10, NORTH],
        [10, 0, WEST + 300_000, 0, -10, NORTH],
    ],
)
def test_a_frame_that_makes_no_sense_is_read_from_the_file(plan, season, transform):
    for asset in season[1]["assets"].values():
        asset["proj:transform"] = transform
    made, warnings = plan(season)
    assert list_dates(made) == list(DAYS[:3])
    assert any("read from the file (S2A_33UWP_20230611_0_L2A)" in each for each in warnings)
    assert read_medians(made) == [CLEAR] * 4


@pytest.mark.parametrize("keys", [("proj:transform",), ("proj:shape", "proj:transform")])
def test_a_frame_that_is_not_stated_is_read_from_the_file(plan, season, keys):
    for item in season:
        for asset in item["assets"].values():
            for key in keys:
                del asset[key]
    made, _ = plan(season)
    assert made.scenes[0].items[0].assets[0].transform == (10, 0, WEST, 0, -10, NORTH)
    assert read_medians(made) == [CLEAR] * 4


def test_a_crs_that_is_not_stated_is_read_from_the_file(plan, season):
    for item in season:
        del item["properties"]["proj:epsg"]
        item["id"] = item["id"].replace("33UWP", "x")
    made, warnings = plan(season)
    assert made.grid.epsg == EPSG
    assert list_dates(made) == list(DAYS[:3])
    assert any("states no CRS: EPSG:32633 read from the file" in each for each in warnings)


def test_a_zone_that_is_not_the_tiles_is_read_from_the_file(plan, season):
    season[1]["properties"]["proj:epsg"] = 32632
    made, _ = plan(season)
    assert list_dates(made) == list(DAYS[:3])
    assert read_medians(made) == [CLEAR] * 4


@pytest.mark.parametrize("reader", ["rasterio", "odc", "stackstac"])
@pytest.mark.parametrize("place", [{"epsg": 32632}, {"west": WEST + 2000.0}])
def test_a_file_that_lies_elsewhere_than_its_item_says_is_named(plan, season, tmp_path, reader, place):
    image = np.full((EDGE, EDGE), 592, np.uint16)
    season[1]["assets"]["red"]["href"] = write_image(tmp_path / "elsewhere.tif", image, **place)
    made, _ = plan(season)
    match = rf"item {ODD} contradicts its file of band red: it (is in EPSG:32632|covers 602000 )"
    with pytest.raises(ReadError, match=match):
        open_cube(made.scenes, made.grid, ("green", "red", "nir"), reader=reader)


FIJI = Frame(32760, (EDGE, EDGE), (10.0, 0.0, 817_500.0, 0.0, -10.0, 8_040_000.0))


@pytest.mark.parametrize("spelling", list(spellings(FIJI)))
def test_pixels_across_the_antimeridian_are_read(plan, tmp_path, generator, spelling):
    item = write_granule(tmp_path, DAYS[1], **{"proj:epsg": FIJI.epsg}) | {"id": "S2A_60KXF_20230611_0_L2A"}
    for band, asset in item["assets"].items():
        metres, edge = (20, EDGE // 2) if band == "scl" else (10, EDGE)
        values = np.full(
            (edge, edge), 4 if band == "scl" else LEVELS[band], np.uint8 if band == "scl" else np.uint16
        )
        place = {"epsg": FIJI.epsg, "west": FIJI.transform[2], "north": FIJI.transform[5]}
        write_image(tmp_path / asset["href"], values, metres=metres, **place)
        asset |= {
            "proj:shape": [edge, edge],
            "proj:transform": [metres, 0, place["west"], 0, -metres, place["north"]],
        }
    item |= spellings(FIJI)[spelling]
    stac = save(tmp_path, item)
    outline = locate(None, FIJI)[0]
    assert len(outline.geoms) == 2
    for part, zone in zip(outline.geoms, (32760, 32760), strict=True):
        made, _ = plan_run(Aoi(part.buffer(-0.001)), JUNE, generator, stac=stac)
        assert made.grid.epsg == zone
        for reader in ("rasterio", "odc", "stackstac"):
            cube = open_cube(made.scenes, made.grid, ("red",), reader=reader)
            assert (cube["red"].values == 592).all()


# The BOA offset


@pytest.mark.parametrize(
    ("options", "red"),
    [({}, 592), ({"offset": "trust"}, 1), ({"offset": 0}, 592), ({"offset": 1000}, 1)],
)
def test_pixels_decide_where_a_flag_is_wrong(plan, tmp_path, season, options, red):
    season[2] = write_granule(tmp_path, DAYS[2], **{"earthsearch:boa_offset_applied": False})
    made, warnings = plan(season, **options)
    assert read_medians(made, ("red",))[2] == {"red": round(red, -1)}
    found = any("is said to carry a BOA offset of 1000, and its pixels show 0" in each for each in warnings)
    assert found == (not options)
    stored = made.store_spec().about["offsets"]
    assert bool(stored) == (not options)
    if stored:
        named = {"item": "S2A_33UWP_20230621_0_L2A", "stated": 1000, "used": 0, "pixels": "contradicts"}
        assert stored == [named]


BRIGHT = {"green": 2500, "red": 3500, "nir": 4500}


def test_a_flag_that_is_right_stays(plan, tmp_path, season):
    dark = {"green": 250, "red": 150, "nir": 2500}
    right = write_granule(
        tmp_path, DAYS[2], add=1000, levels=dark, **{"earthsearch:boa_offset_applied": False}
    )
    made, warnings = plan([*season[:2], right, season[3]])
    assert made.scenes[2].items[0].offset == 1000
    assert not any("is said to carry" in each or "do not show" in each for each in warnings)


@pytest.mark.parametrize(("flag", "add"), [(False, 0), (False, 1000), (True, 0), (True, 1000)])
def test_bright_dates_are_compared_with_their_neighbours(plan, tmp_path, flag, add):
    bright = [write_granule(tmp_path, day, levels=BRIGHT) for day in DAYS]
    bright[1] = write_granule(
        tmp_path, DAYS[1], add=add, levels=BRIGHT, **{"earthsearch:boa_offset_applied": flag}
    )
    for item in bright:
        item["assets"]["red"]["raster:bands"] = [{"scale": 0.0001, "offset": -0.1}]
    made, _ = plan(bright)
    assert made.scenes[1].items[0].offset == add
    assert read_medians(made) == [{band: round(level, -1) for band, level in BRIGHT.items()}] * 4


def test_a_hazy_date_is_not_taken_for_one_with_an_offset(plan, tmp_path):
    bright = [write_granule(tmp_path, day, levels=BRIGHT) for day in DAYS]
    for item in bright:
        item["assets"]["red"]["raster:bands"] = [{"scale": 0.0001, "offset": -0.1}]
    haze = {"green": 3600, "red": 4400, "nir": 4700}
    bright[1] = write_granule(tmp_path, DAYS[1], levels=haze)
    made, _ = plan(bright)
    assert {item.offset for scene in made.scenes for item in scene.items} == {0}


def test_an_item_that_its_pixels_leave_open_is_named(plan, tmp_path):
    alone = write_granule(tmp_path, DAYS[1], levels=BRIGHT, **{"earthsearch:boa_offset_applied": False})
    made, warnings = plan([alone])
    assert made.scenes[0].items[0].offset == 1000
    assert any("do not show whether they carry the BOA offset" in each and ODD in each for each in warnings)
    assert made.summary()["offsets"][0]["pixels"] == "undecided"


@pytest.mark.parametrize("offset", [-1000, -0.9, 0.1, 1e300, -5])
def test_an_absurd_offset_is_not_obeyed(plan, season, offset):
    for band in ("green", "red", "nir"):
        season[1]["assets"][band]["raster:bands"] = [{"offset": offset}]
    made, warnings = plan(season)
    assert made.scenes[1].items[0].offset == 0
    assert any("L2A products have 0 or 1000 in all bands: not obeyed" in each for each in warnings)


def test_overviews_are_used_where_there_are_some(plan, tmp_path, season):
    season[2] = write_granule(tmp_path, DAYS[2], **{"earthsearch:boa_offset_applied": False})
    for band in ("green", "red", "nir"):
        image = np.full((EDGE, EDGE), LEVELS[band], np.uint16)
        write_image(tmp_path / Path(season[2]["assets"][band]["href"]).name, image, overviews=True)
    made, _ = plan(season)
    assert made.scenes[2].items[0].offset == 0


# The inputs from the field, where they are


def plan_case(generator, folder, file, dates, **options):
    if not CASES.is_dir():
        pytest.skip(f"the inputs from the field are not at {CASES}")
    aoi = read_aoi(CASES / folder / options.pop("aoi", "aoi.geojson"))
    return plan_run(aoi, DateRange.parse(dates), generator, stac=str(CASES / folder / file), **options)


@pytest.mark.parametrize(
    ("folder", "file", "left_out"),
    [
        ("item-without-assets", "items.json", [ODD]),
        ("item-without-assets", "noscl.json", [ODD]),
        ("broken-item-beside-its-repair", "repaired.json", []),
        ("broken-item-beside-its-repair", "context.json", ["S2A_33UWP_20230701_0_L2A"]),
        ("broken-item-beside-its-repair", "gdalorder.json", []),
        ("broken-item-beside-its-repair", "itemframe.json", []),
        ("wrong-offset-flag", "items.json", []),
    ],
)
def test_cases_from_the_field(generator, folder, file, left_out):
    made, _ = plan_case(generator, folder, file, "2023-06")
    assert [one.id for one in made.left_out] == left_out
    assert list_dates(made) == [day for day in DAYS[:3] if not (left_out == [ODD] and day == DAYS[1])]
    for at, numbers in zip(made.written, read_medians(made)[: len(made.written)], strict=True):
        if str(made.scenes[at].date) != "2023-06-11":  # which is cloudy
            assert numbers == CLEAR
    if left_out:
        with pytest.raises(CatalogError, match="--strict"):
            plan_case(generator, folder, file, "2023-06", strict=True)


@pytest.mark.parametrize("file", ["items.json", "items_s2.json", "season.json"])
def test_both_halves_of_a_datatake_from_the_field(generator, file):
    made, _ = plan_case(generator, "split-datatake-cdse", file, "2025-03-30")
    assert made.duplicates == ()
    halves = next(scene for scene in made.scenes if str(scene.date) == "2025-03-30").items
    assert len(halves) == 2
    cube = open_cube(made.scenes, made.grid, ("red",))
    assert (cube["red"].values > 0).all()


@pytest.mark.parametrize(
    ("file", "aoi", "dates", "baseline", "tile"),
    [
        ("items.json", "aoi.geojson", "2020-07", "02.14", "28QCH"),
        ("items17.json", "aoi17.geojson", "2022-11", "04.00", "17SPR"),
    ],
)
def test_the_old_collection_from_the_field(generator, file, aoi, dates, baseline, tile):
    made, _ = plan_case(generator, "earth-search-v0", file, dates, aoi=aoi)
    item = made.scenes[0].items[0]
    assert (item.processing_baseline, item.mgrs_tile, item.offset) == (baseline, tile, 0)


def test_an_area_without_a_pixels_centre_keeps_its_pixel_if_clipped(plan, season, tmp_path, generator):
    speck = Aoi(FIELD.centroid.buffer(1e-6))
    made, _ = plan_run(speck, JUNE, generator, stac=save(tmp_path, *season), clip=True)
    outside = made.outside(made.grid.window)
    assert outside is None or not outside.all()

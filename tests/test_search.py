import itertools
import json
import math

import pytest
from shapely.geometry import box, mapping
from stac_items import item

from cloudgan.errors import CatalogError, InputError
from cloudgan.sentinel2.dates import DateRange
from cloudgan.stac.search import find_scenes
from cloudgan.stac.signing import Signing

AOI = box(15.4, 46.2, 15.6, 46.4)
APRIL = DateRange.parse("2020-04")


@pytest.fixture
def find(tmp_path):
    """Searches among the given items, saved as one item collection."""

    def search(*items, dates=APRIL, area=AOI, **options):
        path = tmp_path / "items.json"
        path.write_text(json.dumps({"type": "FeatureCollection", "features": items}))
        return find_scenes(area, dates, bands=["green", "red", "nir"], stac=str(path), **options)

    return search


def ids(scenes):
    return [[source.id for source in scene.items] for scene in scenes]


# Observations


def test_one_scene_per_solar_day_and_zone_in_order(find):
    found = find(
        item("2020-04-08"),
        item("2020-04-03", tile="34TCS"),
        item("2020-04-03", tile="33TXM"),
        item("2020-04-03"),
    )
    assert [(str(scene.date), scene.epsg) for scene in found.scenes] == [
        ("2020-04-03", 32633),
        ("2020-04-03", 32634),
        ("2020-04-08", 32633),
    ]
    assert ids(found.scenes)[0] == ["S2A_33TWM_20200403_0_L2A", "S2A_33TXM_20200403_0_L2A"]
    assert (found.found, found.duplicates, found.warnings) == (4, (), ())
    assert len(found.items) == 4


def test_an_overpass_across_utc_midnight_is_one_scene(find):
    fiji = box(177.2, -17.9, 177.4, -17.7)
    properties = {"proj:epsg": 32760, "grid:code": "MGRS-60KXF"}
    evening = item("2020-04-02", tile="60KXF", clock="23:59:50", **properties)
    night = item("2020-04-03", tile="60KXG", clock="00:00:10", **properties | {"grid:code": "MGRS-60KXG"})
    for granule in (evening, night):
        granule["geometry"] = mapping(fiji)
    found = find(evening, night, area=fiji, dates=DateRange.parse("2020-04-03"))
    assert [str(scene.date) for scene in found.scenes] == ["2020-04-03"]
    assert found.found == 2


def test_the_newest_processing_lies_on_top_and_order_does_not_depend_on_the_catalogue(find):
    items = [
        item(tile="33TWM", baseline="02.14"),
        item(tile="33TXM", baseline="05.00"),
        item(tile="33TVM", baseline="05.00", sequence=1),
        item(tile="33TWL", baseline="05.00", clock="09:59:40"),
    ]
    orders = {tuple(ids(find(*shuffled).scenes)[0]) for shuffled in itertools.permutations(items)}
    assert orders == {
        (
            "S2A_33TVM_20200403_1_L2A",
            "S2A_33TWL_20200403_0_L2A",
            "S2A_33TXM_20200403_0_L2A",
            "S2A_33TWM_20200403_0_L2A",
        )
    }


# Duplicates


def test_of_two_versions_the_higher_baseline_stays(find):
    found = find(item(sequence=1, baseline="02.14"), item(sequence=0, baseline="05.00"))
    assert ids(found.scenes) == [["S2A_33TWM_20200403_0_L2A"]]
    assert found.duplicates == ("S2A_33TWM_20200403_1_L2A",)
    assert found.found == 2


def test_of_one_baseline_the_higher_sequence_stays(find):
    found = find(item(sequence=0), item(sequence=2), item(sequence=1, clock="10:00:30"))
    assert ids(found.scenes) == [["S2A_33TWM_20200403_2_L2A"]]
    assert sorted(found.duplicates) == ["S2A_33TWM_20200403_0_L2A", "S2A_33TWM_20200403_1_L2A"]


def test_of_one_sequence_the_later_product_stays(find):
    early = item(**{"s2:generation_time": "2020-04-03T12:00:00Z"}) | {"id": "early"}
    late = item(**{"s2:generation_time": "2020-09-03T12:00:00Z"}) | {"id": "late"}
    assert ids(find(early, late).scenes) == [["late"]]


def test_two_pieces_of_one_datatake_both_stay(find):
    found = find(item(sequence=0, clock="10:00:00"), item(sequence=1, clock="10:01:30"))
    assert len(found.scenes[0].items) == 2
    assert found.duplicates == ()


def test_without_datastrips_the_time_of_the_granules_tells_pieces_apart(find):
    nameless = {"s2:datastrip_id": None}
    assert find(item(sequence=0, **nameless), item(sequence=1, **nameless)).duplicates
    assert not find(item(sequence=0, **nameless), item(sequence=1, clock="10:02:00", **nameless)).duplicates


def test_two_satellites_are_no_duplicates(find):
    other = item(**{"s2:datatake_id": "GS2B_20200403T095031_016055_N05.00"}) | {"id": "S2B"}
    assert find(item(), other).duplicates == ()


def test_an_item_listed_twice_counts_once(find):
    found = find(item(), item())
    assert (found.found, found.duplicates) == (1, ())


def test_without_datastrips_the_footprints_tell_pieces_apart(find):
    """Two halves of a datatake that have one time, and a newer version of one of them."""
    nameless = {"s2:datastrip_id": None}
    north, south, newer = (item(sequence=at, **nameless) for at in range(3))
    north["geometry"] = mapping(box(15, 46.29, 16, 47))
    south["geometry"] = mapping(box(15, 46, 16, 46.3))
    newer["geometry"] = mapping(box(15, 46.28, 16, 47))
    found = find(north, south, newer)
    assert ids(found.scenes) == [["S2A_33TWM_20200403_2_L2A", "S2A_33TWM_20200403_1_L2A"]]
    assert found.duplicates == ("S2A_33TWM_20200403_0_L2A",)


def test_pieces_and_their_newer_versions_by_datastrip_alone(find):
    """Footprints are of the whole tile."""
    first, second = item(sequence=0), item(sequence=1, clock="10:01:30")
    newer = item(sequence=2, clock="10:01:35")
    assert ids(find(first, second, newer).scenes) == [
        ["S2A_33TWM_20200403_2_L2A", "S2A_33TWM_20200403_0_L2A"]
    ]


# Every predicate is checked here


@pytest.mark.parametrize(
    ("other", "why"),
    [
        (item("2020-05-02"), "another month"),
        (item("2020-04-04", west=17.0), "another place"),
        (item("2020-04-04", **{"eo:cloud_cover": 20.1}), "too cloudy"),
        (item("2020-04-04") | {"collection": "sentinel-2-l1c"}, "another collection"),
        (item("2020-04-04", datetime="2020-04-30T23:30:00Z"), "the first of May in solar time"),
    ],
)
def test_what_was_not_asked_for_is_left_out(find, other, why):
    found = find(item(), other, max_cloud_cover=20, collection="sentinel-2-l2a")
    assert ids(found.scenes) == [["S2A_33TWM_20200403_0_L2A"]], why


def test_the_cloud_limit_is_included(find):
    assert find(item(**{"eo:cloud_cover": 20}), max_cloud_cover=20).found == 1


def test_unknown_cloud_cover_passes_with_a_warning(find):
    found = find(
        item(**{"eo:cloud_cover": None}), item("2020-04-08", **{"eo:cloud_cover": None}), max_cloud_cover=5
    )
    assert found.warnings == (
        "no eo:cloud_cover: kept, whatever the limit (2 items, S2A_33TWM_20200403_0_L2A for one)",
    )


def test_contradictory_radiometry_is_reported_once_with_a_count(find):
    items = [item(day, **{"earthsearch:boa_offset_applied": False}) for day in ("2020-04-03", "2020-04-08")]
    found = find(*items)
    assert [source.offset for source in found.items] == [1000, 1000]
    assert [
        warning.endswith("(2 items, S2A_33TWM_20200403_0_L2A for one)") for warning in found.warnings
    ] == [True]


# Nothing found: what a wider search would find


def test_too_cloudy_tells_how_many_exist_without_the_limit(find):
    days = [item(f"2020-04-{day:02d}", **{"eo:cloud_cover": 50.0}) for day in (3, 8, 13)]
    with pytest.raises(CatalogError) as caught:
        find(*days, dates=DateRange.parse("2020-04/2020-07"), max_cloud_cover=20)
    assert str(caught.value) == (
        "no items for 2020-04/2020-07 in this AOI at cloud cover <= 20 %; "
        "3 exist without the limit: use --max-cloud-cover 100"
    )


@pytest.mark.parametrize(
    ("day", "message"),
    [
        (
            "2020-09-03",
            "no items for 2020-04 in this AOI; 1 exists between 2020-09-03 and 2020-09-03: widen --dates",
        ),
        (
            "2017-09-03",
            "no items for 2020-04 in this AOI; 1 exists between 2017-09-03 and 2017-09-03: widen --dates",
        ),
    ],
)
def test_other_dates_are_searched(find, day, message):
    with pytest.raises(CatalogError) as caught:
        find(item(day))
    assert str(caught.value) == message


def test_another_place_has_nothing_at_any_time(find):
    with pytest.raises(
        CatalogError, match=r"nor at any other time in .*items\.json: check --aoi, --collection"
    ):
        find(item(), area=box(1, 1, 2, 2))
    with pytest.raises(CatalogError, match="no items for 2020-04"):
        find()


# What was asked makes no sense


@pytest.mark.parametrize("limit", [-1, 100.5, math.nan])
def test_the_cloud_limit_is_a_percentage(find, limit):
    with pytest.raises(InputError, match="percentage from 0 to 100"):
        find(item(), max_cloud_cover=limit)


def test_an_empty_area_is_refused(find):
    with pytest.raises(InputError, match="area to search in is empty"):
        find(item(), area=box(0, 0, 1, 1).difference(box(0, 0, 2, 2)))


def test_a_missing_band_stops_the_search(find):
    broken = item()
    del broken["assets"]["nir"]
    with pytest.raises(CatalogError, match="has no band nir"):
        find(broken)


def test_planetary_items_need_the_extra_before_anything_is_planned(find, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    remote = item(baseline="05.00")
    remote["links"] = [{"rel": "self", "href": "https://planetarycomputer.microsoft.com/api/stac/v1/x"}]
    assert find(remote).items[0].signing is Signing.NONE  # its files are here
    remote["assets"]["red"]["href"] = "https://sentinel2l2a01.blob.core.windows.net/sentinel2-l2/B04.tif"
    with pytest.raises(InputError, match=r"cloudgan\[planetary\]"):
        find(remote)

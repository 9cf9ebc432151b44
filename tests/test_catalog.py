import datetime as dt
import itertools
import json
import math

import pytest
from shapely.geometry import box, mapping

from cloudgan.errors import CatalogError, InputError
from cloudgan.stac.search import DateRange, find_scenes

AOI = box(15.4, 46.2, 15.6, 46.4)
APRIL = DateRange.parse("2020-04")


def item(
    day="2020-04-03", *, tile="33TWM", clock="10:00:00", sequence=0, baseline="05.00", west=15.0, **changes
):
    """One granule of satellite A; `changes` are further properties, None takes one away."""
    when = dt.datetime.fromisoformat(f"{day}T{clock}")
    properties = {
        "datetime": f"{when.isoformat()}Z",
        "eo:cloud_cover": 10.0,
        "proj:epsg": 32600 + int(tile[:2]),
        "grid:code": f"MGRS-{tile}",
        "s2:sequence": str(sequence),
        "s2:processing_baseline": baseline,
        "s2:datatake_id": f"GS2A_{when:%Y%m%d}T095031_024964_N{baseline}",
        "s2:datastrip_id": f"S2A_OPER_MSI_L2A_DS_VGS2_20200403T120000_S{when:%Y%m%dT%H%M%S}_N{baseline}",
        "earthsearch:boa_offset_applied": baseline >= "04.00",
    } | changes
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": f"S2A_{tile}_{when:%Y%m%d}_{sequence}_L2A",
        "collection": "sentinel-2-l2a",
        "geometry": mapping(box(west, 46.0, west + 1.0, 47.0)),
        "properties": {key: value for key, value in properties.items() if value is not None},
        "links": [],
        "assets": {band: {"href": f"./{band}.tif"} for band in ("green", "red", "nir", "scl")},
    }


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


# Every predicate is checked here


@pytest.mark.parametrize(
    ("other", "why"),
    [
        (item("2020-05-02"), "another month"),
        (item("2020-04-04", west=17.0), "another place"),
        (item("2020-04-04", **{"eo:cloud_cover": 20.1}), "too cloudy"),
        (item("2020-04-04") | {"collection": "sentinel-2-l1c"}, "another collection"),
        (item("2020-04-04", datetime="2020-04-30T23:30:00Z"), "the first of May on the ground"),
    ],
)
def test_what_was_not_asked_for_is_left_out(find, other, why):
    found = find(item(), other, max_cloud_cover=20, collection="sentinel-2-l2a")
    assert ids(found.scenes) == [["S2A_33TWM_20200403_0_L2A"]], why


def test_the_cloud_limit_is_included(find):
    assert find(item(**{"eo:cloud_cover": 20}), max_cloud_cover=20).found == 1


def test_unknown_cloud_cover_passes_and_is_noticed(find):
    found = find(
        item(**{"eo:cloud_cover": None}), item("2020-04-08", **{"eo:cloud_cover": None}), max_cloud_cover=5
    )
    assert found.warnings == (
        "no eo:cloud_cover: kept, whatever the limit (2 items, S2A_33TWM_20200403_0_L2A for one)",
    )


def test_contradictory_radiometry_is_noticed_once_with_a_count(find):
    items = [item(day, **{"earthsearch:boa_offset_applied": False}) for day in ("2020-04-03", "2020-04-08")]
    found = find(*items)
    assert [source.offset for source in found.items] == [1000, 1000]
    assert [notice.endswith("(2 items, S2A_33TWM_20200403_0_L2A for one)") for notice in found.warnings] == [
        True
    ]


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
def test_other_dates_are_looked_at(find, day, message):
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
    with pytest.raises(InputError, match=r"cloudgan\[planetary\]"):
        find(remote)


# Static catalogues


def write(path, body):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(body))


def links(**hrefs):
    return [{"rel": rel, "href": href} for rel, many in hrefs.items() for href in many]


EXTENT = {"spatial": {"bbox": [[15, 46, 16, 47]]}, "temporal": {"interval": [["2020-04-01T00:00:00Z", None]]}}


@pytest.fixture
def catalogue(tmp_path):
    """A catalogue of two collections; the second links to a file that is not there."""
    root = {"type": "Catalog", "stac_version": "1.0.0", "id": "root", "description": "Two collections"}
    write(
        tmp_path / "catalog.json",
        root | {"links": links(child=["l2a/collection.json", "l1c/collection.json"])},
    )
    collection = {"type": "Collection", "stac_version": "1.0.0", "description": "", "license": "CC0-1.0"}
    l2a = collection | {"id": "sentinel-2-l2a", "extent": EXTENT}
    write(
        tmp_path / "l2a/collection.json",
        l2a | {"links": links(item=["x/item.json"], root=["../catalog.json"])},
    )
    write(tmp_path / "l2a/x/item.json", item())
    l1c = collection | {"id": "sentinel-2-l1c", "extent": EXTENT}
    write(tmp_path / "l1c/collection.json", l1c | {"links": links(item=["gone.json"])})
    return tmp_path / "catalog.json"


def walk(path, *, area=AOI, dates=APRIL, collection="sentinel-2-l2a"):
    return find_scenes(area, dates, bands=["red"], stac=str(path), collection=collection)


@pytest.mark.parametrize("name", ["catalog.json", "", "l2a/collection.json", "l2a", "l2a/x/item.json"])
def test_a_catalogue_is_walked_from_wherever_it_is_named(catalogue, name):
    found = walk(catalogue.parent / name)
    assert found.items[0].asset("red").href == str(catalogue.parent / "l2a/x/red.tif")


def test_a_file_url_is_a_path(catalogue):
    assert walk(catalogue.as_uri()).found == 1


def test_a_path_is_relative_to_where_the_user_is(catalogue, monkeypatch):
    monkeypatch.chdir(catalogue.parent.parent)
    found = walk(f"{catalogue.parent.name}/catalog.json")
    assert found.items[0].asset("red").href == str(catalogue.parent / "l2a/x/red.tif")


def test_other_collections_are_not_read(catalogue):
    assert walk(catalogue).found == 1
    with pytest.raises(CatalogError, match=r"gone\.json: no such file"):
        walk(catalogue, collection=None)


@pytest.mark.parametrize(
    "elsewhere", [{"area": box(20, 40, 21, 41)}, {"dates": DateRange.parse("2019")}], ids=["place", "time"]
)
def test_a_collection_whose_extent_cannot_match_is_not_read(catalogue, elsewhere):
    (catalogue.parent / "l2a/x/item.json").unlink()
    with pytest.raises(CatalogError, match="no items for"):
        walk(catalogue, **elsewhere)


@pytest.mark.parametrize(
    "extent", [None, {}, {"spatial": {"bbox": "everywhere"}}, {"spatial": {}, "temporal": {}}]
)
def test_a_collection_without_a_usable_extent_is_read(catalogue, extent):
    path = catalogue.parent / "l2a/collection.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"extent": extent}))
    assert walk(catalogue).found == 1


def test_an_extent_across_the_antimeridian_is_read(catalogue):
    path = catalogue.parent / "l2a/collection.json"
    extent = EXTENT | {"spatial": {"bbox": [[170, 40, 0, 20, 50, 100]]}}
    path.write_text(json.dumps(json.loads(path.read_text()) | {"extent": extent}))
    assert walk(catalogue).found == 1


def test_an_item_that_names_no_collection_belongs_to_the_one_that_links_to_it(catalogue):
    path = catalogue.parent / "l2a/x/item.json"
    body = json.loads(path.read_text())
    del body["collection"]
    path.write_text(json.dumps(body))
    assert walk(catalogue).items[0].collection == "sentinel-2-l2a"


def test_a_catalogue_linked_in_circles_ends(catalogue):
    path = catalogue.parent / "l2a/collection.json"
    body = json.loads(path.read_text())
    body["links"] += links(child=["../catalog.json", "collection.json"])
    path.write_text(json.dumps(body))
    assert walk(catalogue).found == 1


def test_an_unknown_collection_is_named_with_what_there_is(catalogue):
    with pytest.raises(
        CatalogError, match=r"no collection landsat, change --collection \(it has sentinel-2-l1c, s"
    ):
        walk(catalogue, collection="landsat")


# What is no catalogue


def test_a_missing_file_is_told_with_the_remedy(tmp_path):
    with pytest.raises(
        CatalogError, match=r"no STAC catalogue at '.*nothing\.json', no such file: give a path"
    ):
        walk(tmp_path / "nothing.json")
    with pytest.raises(CatalogError, match="earth-search, planetary-computer"):
        walk("earthsearch")


def test_other_protocols_are_refused():
    with pytest.raises(CatalogError, match="neither http"):
        walk("ftp://host/catalog.json")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("<!doctype html><p>Sign in", "holds HTML where STAC JSON was expected"),
        ("field;area", "holds no JSON"),
        ("", "holds no JSON"),
        ("[]", "JSON that is no STAC"),
        ("null", "JSON that is no STAC"),
        ('{"type": "Polygon", "coordinates": []}', "JSON that is no STAC"),
        ('{"type": "Mystery", "stac_version": "1.0.0"}', "JSON that is no STAC"),
        ('{"type": "FeatureCollection", "features": {}}', "JSON that is no STAC"),
        (
            '{"type": "FeatureCollection", "features": [{"type": "Feature"}]}',
            "a feature that is no STAC item",
        ),
        ('{"type": "FeatureCollection", "features": [7]}', "a feature that is no STAC item"),
    ],
)
def test_other_files_are_told_apart(tmp_path, content, reason):
    path = tmp_path / "file.json"
    path.write_text(content)
    with pytest.raises(CatalogError, match=reason) as caught:
        walk(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_binary_file_is_no_catalogue(tmp_path):
    path = tmp_path / "image.tif"
    path.write_bytes(b"II*\x00\xff\xfe")
    with pytest.raises(CatalogError, match="cannot be read"):
        walk(path)


def test_a_collection_of_an_api_is_told_from_a_static_one(tmp_path):
    path = tmp_path / "collection.json"
    body = {"type": "Collection", "stac_version": "1.0.0", "id": "sentinel-2-l2a", "description": ""}
    write(path, body | {"links": links(items=["https://example.com/collections/sentinel-2-l2a/items"])})
    with pytest.raises(CatalogError, match="one collection of an API: give the API's own address"):
        walk(path)

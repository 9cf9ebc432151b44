import json

import pytest
from shapely.geometry import box
from stac_items import item

from cloudgan.errors import CatalogError
from cloudgan.sentinel2.dates import DateRange
from cloudgan.stac.search import find_scenes

AOI = box(15.4, 46.2, 15.6, 46.4)
APRIL = DateRange.parse("2020-04")


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


def test_the_error_of_a_missing_file_names_the_remedy(tmp_path):
    with pytest.raises(
        CatalogError, match=r"no STAC catalogue at '.*nothing\.json', no such file: give a path"
    ):
        walk(tmp_path / "nothing.json")
    with pytest.raises(CatalogError, match="earth-search, planetary-computer"):
        walk("earthsearch")


def test_paths_that_no_file_can_have_are_refused(tmp_path):
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    for path in (loop, "x" * 5000, "~nobody-of-this-name/catalog.json", "/dev/null"):
        with pytest.raises(CatalogError, match="no STAC catalogue at"):
            walk(path)


def test_a_link_that_no_file_can_have_ends_in_one_sentence(catalogue):
    (catalogue.parent / "loop").symlink_to(catalogue.parent / "loop")
    for href in ("loop/x.json", "x" * 5000):
        catalogue.write_text(json.dumps(json.loads(catalogue.read_text()) | {"links": links(child=[href])}))
        with pytest.raises(CatalogError):
            walk(catalogue)


def test_a_saved_page_of_a_search_that_holds_less_than_it_counts_is_noticed(tmp_path):
    page = {"type": "FeatureCollection", "features": [item()], "numberMatched": 7}
    write(tmp_path / "page.json", page)
    found = walk(tmp_path / "page.json")
    assert any("counts 7 items that match and holds 1: 6 are missing" in each for each in found.warnings)
    write(
        tmp_path / "page.json",
        page | {"links": [{"rel": "next", "href": "https://host/s", "method": "POST"}]},
    )
    found = walk(tmp_path / "page.json")
    assert any("names a further page that a saved search cannot follow" in each for each in found.warnings)
    write(tmp_path / "page.json", page | {"links": [{"rel": "next"}]})
    with pytest.raises(CatalogError, match="names a further page by a link that cannot be followed"):
        walk(tmp_path / "page.json")
    write(tmp_path / "page.json", page | {"links": links(next=["page2.json"])})
    write(tmp_path / "page2.json", page | {"features": [item("2020-04-08")] * 6})
    assert walk(tmp_path / "page.json").warnings == ()


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
def test_files_that_are_no_stac_are_refused_with_the_reason(tmp_path, content, reason):
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


def test_a_collection_of_an_api_is_recognised(tmp_path):
    path = tmp_path / "collection.json"
    body = {"type": "Collection", "stac_version": "1.0.0", "id": "sentinel-2-l2a", "description": ""}
    write(path, body | {"links": links(items=["https://example.com/collections/sentinel-2-l2a/items"])})
    with pytest.raises(CatalogError, match="one collection of an API: give the API's own address"):
        walk(path)

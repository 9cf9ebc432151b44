import json
import socket
import time
from pathlib import Path

import numpy as np
import pytest
from shapely.geometry import Point, box, mapping

from cloudgan.errors import CatalogError
from cloudgan.sentinel2.dates import DateRange
from cloudgan.sentinel2.offset import Verdict, check_histogram
from cloudgan.stac.http import HttpLimits
from cloudgan.stac.search import find_scenes

pytestmark = pytest.mark.integration

AOI = box(15.4, 46.2, 15.6, 46.4)
APRIL = DateRange.parse("2020-04")
HURRY = HttpLimits(connect=2.0, read=0.3, retries=3, backoff=0.01, max_wait=1, total=5.0)
SAMPLE = Path(__file__).parents[3] / "shared" / "data" / "s2-l2a-33TWM-120m" / "catalog.json"


def item(day, cloud_cover=10.0, west=15.0):
    """One granule of an Earth Search kind of item."""
    stamp = day.replace("-", "")
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": f"S2A_33TWM_{stamp}_0_L2A",
        "collection": "sentinel-2-l2a",
        "geometry": mapping(box(west, 46.0, west + 1.0, 47.0)),
        "bbox": [west, 46.0, west + 1.0, 47.0],
        "properties": {
            "datetime": f"{day}T10:00:00Z",
            "eo:cloud_cover": cloud_cover,
            "proj:epsg": 32633,
            "s2:processing_baseline": "02.14",
            "earthsearch:boa_offset_applied": False,
        },
        "links": [],
        "assets": {band: {"href": f"https://example.com/{stamp}/{band}.tif"} for band in ("red", "scl")},
    }


SEASON = [
    item(f"2020-{month:02d}-{day:02d}", cloud_cover=10.0 * month)
    for month in (3, 4, 5)
    for day in (3, 13, 23)
]


def search(server, *, dates=APRIL, area=AOI, limits=HURRY, **options):
    url = server if isinstance(server, str) else server.url
    return find_scenes(area, dates, bands=["red"], stac=url, limits=limits, **options)


def days(selection):
    return [str(scene.date) for scene in selection.scenes]


APRIL_DAYS = ["2020-04-03", "2020-04-13", "2020-04-23"]


# An API that works


@pytest.mark.parametrize("methods", [("POST", "GET"), ("POST",), ("GET",)])
def test_pages_are_followed_by_either_method(stac_server, methods):
    server = stac_server(SEASON, methods=methods, page_size=2)
    assert days(search(server)) == APRIL_DAYS
    assert [method for method, path, _ in server.seen if path == "/search"] == [methods[0]] * 2


def test_the_server_is_asked_for_collection_place_and_a_day_more_on_either_side(stac_server):
    server = stac_server(SEASON)
    search(server)
    asked = server.searches()[0]
    assert asked["collections"] == ["sentinel-2-l2a"]
    assert asked["datetime"] == "2020-03-31T00:00:00Z/2020-05-01T23:59:59Z"
    assert asked["intersects"] == json.loads(json.dumps(mapping(AOI)))
    assert "query" not in asked
    assert "filter" not in asked


def test_an_intricate_area_is_asked_for_by_a_simple_one_around_it(stac_server):
    server = stac_server(SEASON, methods=("GET",))
    intricate = Point(15.5, 46.3).buffer(0.1, quad_segs=500)
    assert days(search(server, area=intricate)) == APRIL_DAYS
    assert len(json.loads(server.searches()[0]["intersects"])["coordinates"][0]) == 5


def test_relative_hrefs_count_from_the_item_itself(stac_server):
    body = item("2020-04-03")
    body["links"] = [{"rel": "self", "href": "https://example.com/items/1/item.json"}]
    body["assets"]["red"]["href"] = "../red.tif"
    found = search(stac_server([body]))
    assert found.items[0].asset("red").href == "https://example.com/items/red.tif"


# Filters: sent only where advertised, and never trusted


def test_the_cloud_limit_is_sent_as_query_where_the_server_takes_it(stac_server):
    server = stac_server(SEASON)
    assert search(server, max_cloud_cover=45).found == 3
    assert server.searches()[0]["query"] == {"eo:cloud_cover": {"lte": 45}}


def test_the_cloud_limit_is_sent_as_cql2_where_the_server_takes_only_that(stac_server):
    conforms = (
        "https://api.stacspec.org/v1.0.0/item-search",
        "https://api.stacspec.org/v1.0.0/item-search#filter",
        "http://www.opengis.net/spec/cql2/1.0/conf/cql2-json",
    )
    server = stac_server(SEASON, conforms=conforms)
    assert search(server, max_cloud_cover=45).found == 3
    assert server.searches()[0]["filter"] == {"op": "<=", "args": [{"property": "eo:cloud_cover"}, 45]}
    assert server.searches()[0]["filter-lang"] == "cql2-json"


def test_no_filter_is_sent_where_none_is_advertised(stac_server):
    server = stac_server(SEASON, conforms=("https://api.stacspec.org/v1.0.0/item-search",))
    found = search(server, dates=DateRange.parse("2020"), max_cloud_cover=45)
    assert found.found == 6
    assert not {"query", "filter"} & server.searches()[0].keys()


def test_a_server_that_ignores_everything_is_checked(stac_server):
    stray = [item("2020-04-04", west=30.0), item("2020-04-05") | {"collection": "landsat-c2-l2"}]
    cloudy = item("2020-04-06", cloud_cover=95.0)
    server = stac_server([*SEASON, *stray, cloudy], honest=False)
    assert days(search(server, max_cloud_cover=45)) == APRIL_DAYS


def test_a_filter_that_is_answered_with_nothing_is_applied_here_with_a_warning(stac_server):
    server = stac_server(SEASON, filters=False)
    found = search(server, max_cloud_cover=45)
    assert days(found) == APRIL_DAYS
    assert found.warnings == (
        f"{server.url} answers a cloud cover filter with nothing although items pass it: filtered here",
    )


# Nothing found


def test_what_exists_without_the_cloud_limit_is_counted(stac_server):
    with pytest.raises(CatalogError) as caught:
        search(stac_server(SEASON), max_cloud_cover=20)
    assert str(caught.value) == (
        "no items for 2020-04 in this AOI at cloud cover <= 20 %; "
        "3 exist without the limit: use --max-cloud-cover 100"
    )


@pytest.mark.parametrize("dates", ["2020-07", "2021"])
def test_what_exists_at_other_dates_is_counted(stac_server, dates):
    with pytest.raises(CatalogError, match="9 exist between 2020-03-03 and 2020-05-23: widen --dates"):
        search(stac_server(SEASON), dates=DateRange.parse(dates))


def test_the_wider_search_stays_cheap(stac_server):
    many = [item(f"2020-0{month}-{day:02d}") for month in range(5, 10) for day in range(1, 29)]
    server = stac_server(many, page_size=10)
    with pytest.raises(CatalogError, match="at least 100 exist between"):
        search(server)
    assert len(server.searches()) == 11


def test_an_unknown_collection_is_named_with_what_there_is(stac_server):
    with pytest.raises(
        CatalogError, match=r"no collection sentinel-2, change.*\(it has sentinel-2-l2a, landsat-c2"
    ):
        search(stac_server(SEASON), collection="sentinel-2")


def test_a_place_without_data_says_so(stac_server):
    with pytest.raises(
        CatalogError, match="nor at any other time in collection sentinel-2-l2a of http://127"
    ):
        search(stac_server(SEASON), area=box(0, 0, 1, 1))


# An API that does not work


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_a_server_that_is_busy_for_a_while_is_asked_again(stac_server, status):
    server = stac_server(SEASON, failures=[status, status])
    assert days(search(server)) == APRIL_DAYS


def test_a_search_by_post_is_repeated_too(stac_server):
    server = stac_server(SEASON, page_size=10, reply=(503, "text/plain", "busy"), reply_to="/search")
    with pytest.raises(
        CatalogError, match=r"/search answers 503 Service Unavailable, 3 retries on: try later"
    ):
        search(server)
    assert [method for method, path, _ in server.seen if path == "/search"] == ["POST"] * 4


def test_a_server_may_not_make_us_wait_an_hour(stac_server):
    started = time.monotonic()
    assert search(stac_server(SEASON, failures=[429])).found == 3  # with Retry-After: 3600
    assert time.monotonic() - started < 3


def test_a_server_that_hangs_is_given_up(stac_server):
    started = time.monotonic()
    with pytest.raises(
        CatalogError, match=r"did not answer within 0\.3 s: check the address and the network"
    ):
        search(stac_server(SEASON, delay=1.0))
    assert time.monotonic() - started < 3


def test_a_slow_server_is_given_up_between_pages(stac_server):
    limits = HttpLimits(read=2.0, backoff=0.01, total=0.5)
    with pytest.raises(CatalogError, match=r"is too slow, the search took over 0\.5 s"):
        search(stac_server(SEASON, delay=0.2, page_size=1), limits=limits)


def test_nobody_listens():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(CatalogError, match=rf"server at http://127\.0\.0\.1:{port} cannot be reached: check"):
        search(f"http://127.0.0.1:{port}")


@pytest.mark.parametrize("path", ["", "/search"])
@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (
            (200, "text/html", "<!doctype html><title>Sign in</title>"),
            "holds HTML where STAC JSON was expected",
        ),
        ((404, "text/html", "<h1>Not found</h1>"), "answers 404 Not Found: check --stac and --collection"),
        (
            (400, "application/json", '{"detail": "too large"}'),
            r"answers 400 Bad Request \(.*too large.*\): check",
        ),
        ((200, "application/json", '{"hello": "world"}'), "JSON that is no STAC"),
        ((200, "application/json", "[1, 2]"), "JSON that is no STAC"),
        ((200, "application/json", '{"features": [{"type": "Feature"}]}'), "no STAC"),
        ((200, "application/json", ""), "holds no JSON"),
        ((299, "text/plain", "odd"), "holds no JSON"),
        ((599, "text/plain", "odd"), r"answers 599 \(odd\)"),
    ],
)
def test_answers_that_are_no_stac_are_named_in_one_sentence(stac_server, reply, reason, path):
    server = stac_server(SEASON, reply=reply, reply_to=path)
    with pytest.raises(CatalogError, match=reason) as caught:
        search(server)
    assert server.url in str(caught.value)
    assert "\n" not in str(caught.value)


def test_pages_in_circles_end(stac_server):
    with pytest.raises(CatalogError, match="pages in circles"):
        search(stac_server(SEASON, circles=True))


def test_a_server_without_end_is_given_up(stac_server, monkeypatch):
    monkeypatch.setattr("cloudgan.stac.query.MAX_ITEMS", 5)
    with pytest.raises(CatalogError, match="returned over 5 items, so it ignores what was asked for"):
        search(stac_server(SEASON, honest=False))


def test_a_broken_landing_page(stac_server):
    broken = {"type": "Catalog", "stac_version": "1.0.0", "links": [{"rel": "search", "href": "/search"}]}
    with pytest.raises(CatalogError, match="JSON that is no STAC"):
        search(stac_server(reply=(200, "application/json", json.dumps(broken))))


# Catalogues on the web


def test_an_item_collection_on_the_web(stac_server):
    body = item("2020-04-03")
    body["assets"]["red"]["href"] = "red.tif"
    collection = json.dumps({"type": "FeatureCollection", "features": [body]})
    server = stac_server(reply=(200, "application/geo+json", collection), reply_to=".json")
    found = search(f"{server.url}/saved/items.json")
    assert found.items[0].asset("red").href == f"{server.url}/saved/red.tif"


def test_one_collection_of_an_api_is_not_taken_for_the_api(stac_server):
    body = {"type": "Collection", "stac_version": "1.0.0", "id": "sentinel-2-l2a", "links": []}
    body["links"] = [{"rel": "items", "href": "items"}]
    server = stac_server(reply=(200, "application/json", json.dumps(body)), reply_to="/sentinel-2-l2a")
    with pytest.raises(
        CatalogError, match="give the API's own address as --stac, and --collection sentinel-2-l2a"
    ):
        search(f"{server.url}/collections/sentinel-2-l2a")


# The real thing


@pytest.mark.skipif(not SAMPLE.exists(), reason=f"the sample scenes are not in {SAMPLE.parent}")
class TestSample:
    """Five real items of August 2023, which Earth Search freed of the offset and says both."""

    def find(self, **options):
        area = box(15.5, 46.1, 15.9, 46.5)
        bands = ["green", "red", "nir"]
        return find_scenes(area, DateRange.parse("2023-08"), bands=bands, stac=str(SAMPLE), **options)

    def test_five_dates_without_offset(self):
        found = self.find()
        assert days(found) == ["2023-08-10", "2023-08-13", "2023-08-15", "2023-08-18", "2023-08-20"]
        assert [source.offset for source in found.items] == [0] * 5
        assert [source.mgrs_tile for source in found.items] == ["33TWM"] * 5
        assert found.duplicates == ()
        assert len(found.warnings) == 1
        assert "trusted the flag and subtract nothing (5 items" in found.warnings[0]
        for asset in (asset for source in found.items for asset in source.assets):
            assert Path(asset.href).is_file()
            assert (asset.shape, asset.transform) == (
                (915, 915),
                (120.0, 0.0, 499980.0, 0.0, -120.0, 5200020.0),
            )

    def test_the_cloud_limit(self):
        assert days(self.find(max_cloud_cover=2)) == ["2023-08-13", "2023-08-15", "2023-08-20"]
        with pytest.raises(
            CatalogError, match=r"<= 0\.1 %; 5 exist without the limit: use --max-cloud-cover 100"
        ):
            self.find(max_cloud_cover=0.1)

    def test_the_pixels_agree_with_the_flag(self):
        rasterio = pytest.importorskip("rasterio")
        for source in self.find().items:
            with rasterio.open(source.asset("scl").href) as file:
                clear = np.isin(file.read(1), (4, 5, 6))
            for band in ("green", "red"):
                with rasterio.open(source.asset(band).href) as file:
                    dn = file.read(1)
                raised = np.where(dn > 0, dn + np.uint16(1000), np.uint16(0))
                assert check_histogram(dn, source.offset, valid=clear & (dn > 0)) is Verdict.AGREES
                assert check_histogram(raised, source.offset, valid=clear) is Verdict.CONTRADICTS
                assert check_histogram(raised, 1000, valid=clear) is Verdict.AGREES


# An API that means harm


def test_an_api_that_leads_to_local_files_is_not_followed(stac_server):
    body = item("2020-04-03")
    body["assets"]["red"]["href"] = "file:///etc/passwd"
    with pytest.raises(CatalogError, match="leads to 'file:///etc/passwd': only a catalogue on this machine"):
        search(stac_server([body]))


@pytest.mark.parametrize("rel", ["item", "child"])
def test_a_catalogue_on_the_web_that_links_to_local_files_is_not_followed(rel, stac_server, tmp_path):
    (tmp_path / "item.json").write_text(json.dumps(item("2020-04-03")))
    link = {"rel": rel, "href": (tmp_path / "item.json").as_uri()}
    catalogue = {"type": "Catalog", "stac_version": "1.0.0", "id": "c", "description": "d", "links": [link]}
    server = stac_server(reply=(200, "application/json", json.dumps(catalogue)))
    with pytest.raises(CatalogError, match="only a catalogue on this machine may name files on it"):
        search(server)


def test_a_next_page_in_a_local_file_is_not_read(stac_server, tmp_path):
    (tmp_path / "page.json").write_text(
        json.dumps({"type": "FeatureCollection", "features": [item("2020-04-03")]})
    )
    link = {"rel": "next", "href": (tmp_path / "page.json").as_uri()}
    page = {"type": "FeatureCollection", "features": [item("2020-04-13")], "links": [link]}
    server = stac_server(reply=(200, "application/json", json.dumps(page)), reply_to="/search")
    with pytest.raises(CatalogError, match=r"file:///.* cannot be reached"):
        search(server)


def test_an_answer_without_end_is_given_up(stac_server, monkeypatch):
    monkeypatch.setattr("cloudgan.stac.http.MAX_BYTES", 100_000)
    server = stac_server(reply=(200, "application/json", " " * 300_000 + "{}"), reply_to="/search")
    with pytest.raises(CatalogError, match=r"/search answers with more than 0 MiB: use another --stac"):
        search(server)


@pytest.mark.parametrize("bomb", ["[" * 200_000, '{"features":' * 100_000])
def test_an_answer_nested_without_end_is_no_stac(bomb, stac_server):
    with pytest.raises(CatalogError, match="holds no JSON where STAC JSON was expected"):
        search(stac_server(reply=(200, "application/json", bomb), reply_to="/search"))


def test_a_catalogue_without_end_is_given_up(stac_server, monkeypatch):
    monkeypatch.setattr("cloudgan.stac.query.MAX_ITEMS", 20)
    server = stac_server()

    def answer(method, path, parameters):
        link = {"rel": "child", "href": f"{server.url}/{len(server.seen)}"}
        body = {"type": "Catalog", "stac_version": "1.0.0", "id": "c", "description": "d", "links": [link]}
        server.seen.append(path)
        return 200, "application/json", json.dumps(body)

    server.answer = answer
    with pytest.raises(CatalogError, match="returned over 20 files"):
        search(server)
    assert len(server.seen) < 30

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


# A server that delivers less than it counts


def pages(server, *many):
    """Answers searches with these pages, one after the other; a `next` link leads from each to the next."""
    whole, asked = server.answer, []

    def answer(method, path, parameters):
        if not path.startswith("/search"):
            return whole(method, path, parameters)
        page = many[min(len(asked), len(many) - 1)]
        links = page.get("links", [{"rel": "next", "href": f"/search?page={len(asked) + 1}"}])
        asked.append(path)
        last = len(asked) == len(many)
        return (
            200,
            "application/json",
            json.dumps(
                {"type": "FeatureCollection"}
                | page
                | {"links": [] if last and "links" not in page else links}
            ),
        )

    server.answer = answer
    return server


APRIL_ITEMS = [one for one in SEASON if one["id"].split("_")[2].startswith("202004")]


@pytest.mark.parametrize("count", [{"numberMatched": 5}, {"context": {"matched": 5}}])
def test_items_that_are_counted_and_not_delivered_are_noticed(stac_server, count):
    server = pages(stac_server(), {"features": APRIL_ITEMS} | count)
    found = search(server)
    assert days(found) == APRIL_DAYS
    assert found.warnings == (
        f"{server.url} counts 5 items that match and delivered 3: 2 are missing; run again later, or ask for "
        "fewer dates",
    )


def test_a_page_that_repeats_a_part_of_another_is_noticed(stac_server):
    first = {"features": APRIL_ITEMS[:2], "numberMatched": 4}
    found = search(pages(stac_server(), first, {"features": APRIL_ITEMS[1:]}))
    assert days(found) == APRIL_DAYS
    assert any("counts 4 items that match and delivered 3" in each for each in found.warnings)


def test_an_empty_page_in_between_does_not_end_the_search(stac_server):
    found = search(
        pages(stac_server(), {"features": APRIL_ITEMS[:1]}, {"features": []}, {"features": APRIL_ITEMS[1:]})
    )
    assert days(found) == APRIL_DAYS
    assert found.warnings == ()


def test_a_search_that_ends_in_empty_pages_is_noticed(stac_server):
    server = pages(stac_server(), {"features": APRIL_ITEMS[:1]}, *[{"features": []}] * 9)
    found = search(server)
    assert days(found) == APRIL_DAYS[:1]
    assert any("3 pages in a row that hold nothing and name a further one" in each for each in found.warnings)


# Links that lead nowhere


@pytest.mark.parametrize(
    "link",
    [
        {},
        {"href": ""},
        {"href": 7},
        {"href": None},
        {"href": "http://"},
        {"href": "https://["},
        {"href": "http:/x"},
        {"href": "https://user:secret@host/x"},
        {"href": "/search", "method": "DELETE"},
        {"href": "/search", "method": 7},
        {"href": "/search", "method": "POST", "body": [1]},
        {"href": "/search", "headers": {"x": ["y"]}},
        {"href": "/search", "headers": {"x": "y\r\nz: 1"}},
        {"href": "/search", "headers": [1]},
    ],
)  # fmt: skip
def test_a_next_link_that_leads_nowhere_ends_in_one_sentence(stac_server, link):
    server = pages(stac_server(), {"features": APRIL_ITEMS[:1], "links": [{"rel": "next"} | link]})
    with pytest.raises(CatalogError) as caught:
        search(server)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("links", [None, 7, {}, [7], [{"rel": 7}], [{"href": "x"}]])
def test_links_that_are_none_are_no_pages(stac_server, links):
    assert days(search(pages(stac_server(), {"features": APRIL_ITEMS, "links": links}))) == APRIL_DAYS


@pytest.mark.parametrize(
    "href", ["http://", "https://[", "http:/x", "/search", "file:///etc/passwd", "search", "ftp://h/x"]
)
def test_a_landing_page_that_was_saved_names_a_server_or_nothing(tmp_path, href):
    landing = {
        "type": "Catalog",
        "stac_version": "1.0.0",
        "id": "saved",
        "description": "d",
        "conformsTo": ["https://api.stacspec.org/v1.0.0/item-search"],
        "links": [{"rel": "search", "href": href, "method": "POST"}],
    }
    path = tmp_path / "landing.json"
    path.write_text(json.dumps(landing))
    with pytest.raises(CatalogError) as caught:
        search(str(path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("href", ["/etc/passwd", "file:///etc/passwd", "../../etc/passwd"])
def test_a_server_names_no_file_of_this_machine_though_its_landing_page_was_saved(
    stac_server, tmp_path, href
):
    body = item("2020-04-03")
    body["assets"]["red"]["href"] = href
    server = stac_server([body])
    landing = json.loads(server.answer("GET", "/", {})[2])
    path = tmp_path / "landing.json"
    path.write_text(json.dumps(landing))
    if href.startswith("file:"):
        with pytest.raises(CatalogError, match="only a catalogue on this machine may name files"):
            search(str(path))
    else:
        assert search(str(path)).items[0].asset("red").href.startswith(server.url)


@pytest.mark.parametrize("url", ["http://", "https://[", "http:/x", "http://host:port/", "https://a b/"])
def test_an_address_that_is_none_ends_in_one_sentence(url):
    with pytest.raises(CatalogError) as caught:
        search(url)
    assert "\n" not in str(caught.value)


def test_the_sum_of_all_answers_is_bounded(stac_server, monkeypatch):
    monkeypatch.setattr("cloudgan.stac.http.MAX_TOTAL_BYTES", 100_000)
    many = [{"features": [item(f"2020-04-{day:02d}")], "padding": " " * 20_000} for day in range(1, 20)]
    with pytest.raises(CatalogError, match=r"the search read more than 0 MiB of catalogue until .*/search"):
        search(pages(stac_server(), *many))


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
    with pytest.raises(
        CatalogError, match=r"/search leads to 'file:///.*only a catalogue on this machine may name files"
    ):
        search(server)


def test_an_answer_without_end_is_given_up(stac_server, monkeypatch):
    monkeypatch.setattr("cloudgan.stac.http.MAX_BYTES", 100_000)
    server = stac_server(reply=(200, "application/json", " " * 300_000 + "{}"), reply_to="/search")
    with pytest.raises(CatalogError, match=r"/search answers with more than 0 MiB: use another --stac, or"):
        search(server)


@pytest.mark.parametrize("bomb", ["[" * 200_000, '{"features":' * 100_000])
def test_an_answer_nested_without_end_is_no_stac(bomb, stac_server):
    with pytest.raises(CatalogError, match="holds no JSON where STAC JSON was expected"):
        search(stac_server(reply=(200, "application/json", bomb), reply_to="/search"))


@pytest.mark.parametrize(
    ("children", "depth", "extent"), [(1, 32, "32 links deep"), (3, 10**6, "50 documents large")]
)
def test_a_catalogue_without_end_is_given_up(stac_server, monkeypatch, children, depth, extent):
    monkeypatch.setattr("cloudgan.stac.static.MAX_DOCUMENTS", 50)
    monkeypatch.setattr("cloudgan.stac.static.MAX_DEPTH", depth)
    server = stac_server()

    def answer(method, path, parameters):
        links = [{"rel": "child", "href": f"{server.url}{path}/{at}"} for at in range(children)]
        body = {"type": "Catalog", "stac_version": "1.0.0", "id": "c", "description": "d", "links": links}
        server.seen.append(path)
        return 200, "application/json", json.dumps(body)

    server.answer = answer
    with pytest.raises(CatalogError, match=f"is over {extent}: give one of its collections"):
        search(server)
    assert len(server.seen) < 60

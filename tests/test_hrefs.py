import pytest

from cloudgan.errors import CatalogError
from cloudgan.stac.hrefs import remove_query, resolve_href


@pytest.mark.parametrize(
    ("href", "base", "absolute"),
    [
        ("./B04.tif", "/data/cat/item.json", "/data/cat/B04.tif"),
        ("../B04.tif", "/data/cat/item.json", "/data/B04.tif"),
        ("/else/B04.tif", "/data/cat/item.json", "/else/B04.tif"),
        ("file:///else/B%2004.tif", "/data/cat/item.json", "/else/B 04.tif"),
        ("./B04.tif", "https://host/cat/item.json", "https://host/cat/B04.tif"),
        ("https://host/B04.tif", "/data/cat/item.json", "https://host/B04.tif"),
        ("s3://bucket/B04.jp2", "https://host/cat/item.json", "s3://bucket/B04.jp2"),
        ("/vsicurl/https://host/B04.tif", "/data/cat/item.json", "/vsicurl/https://host/B04.tif"),
    ],
)
def test_hrefs_become_absolute(href, base, absolute):
    assert resolve_href(href, base) == absolute


# What an address may be


@pytest.mark.parametrize(
    "href",
    [
        "file:///etc/passwd",
        "FILE:///etc/passwd",
        "/vsizip//etc/x.zip/B04.tif",
        "/vsicurl/file:///etc/passwd",
        "/vsistdin/",
        "MEM:::DATAPOINTER=1,PIXELS=1,LINES=1",
        "vrt:///etc/x.tif",
        "ftp://host/B04.tif",
        "javascript:x",
        "http://[",
    ],
)
def test_a_catalogue_on_the_web_names_addresses_on_the_web_alone(href):
    with pytest.raises(CatalogError, match=r"^https://host/item.json (leads to|has a broken address)"):
        resolve_href(href, "https://host/item.json")


@pytest.mark.parametrize(
    ("href", "absolute"),
    [
        ("../../../../etc/passwd", "https://host/etc/passwd"),
        ("/etc/passwd", "https://host/etc/passwd"),
        ("GTIFF_DIR:1:/etc/x.tif", "https://host/cat/GTIFF_DIR:1:/etc/x.tif"),
        ("s3://bucket/B04.tif", "s3://bucket/B04.tif"),
        ("/vsis3/bucket/B04.tif", "/vsis3/bucket/B04.tif"),
    ],
)
def test_a_path_in_a_catalogue_on_the_web_is_its_servers(href, absolute):
    assert resolve_href(href, "https://host/cat/item.json") == absolute


@pytest.mark.parametrize("href", ["MEM:::DATAPOINTER=1", "/vsizip//data/x.zip/B04.tif", "ftp://host/B04.tif"])
def test_a_catalogue_on_this_machine_names_files_and_addresses(href):
    with pytest.raises(CatalogError, match="leads to"):
        resolve_href(href, "/data/cat/item.json")


def test_a_query_is_removed_and_nothing_else():
    assert remove_query("https://host/B04.tif?st=1&sig=a/b?c#d") == "https://host/B04.tif"
    assert remove_query("/data/B04.tif") == "/data/B04.tif"

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
        ("./a b#1?/B04.tif", "/data/c d#2?/item.json", "/data/c d#2?/a b#1?/B04.tif"),
        ("file:///a b#1?/B04.tif", "/data/cat/item.json", "/a b#1?/B04.tif"),
        ("file://localhost/else/B04.tif", "/data/cat/item.json", "/else/B04.tif"),
        ("FILE:/else/B04.tif", "/data/cat/item.json", "/else/B04.tif"),
        ("https://host/a b/B04.tif", "/data/cat/item.json", "https://host/a%20b/B04.tif"),
        ("https://host/a%20b/B04.tif?sig=1%2F", "/data/cat/item.json", "https://host/a%20b/B04.tif?sig=1%2F"),
        ("./a b/B04.tif", "https://host/cat/item.json", "https://host/cat/a%20b/B04.tif"),
        ("./a b#1?/B04.tif", "s3://bucket/c d/item.json", "s3://bucket/c d/a b#1?/B04.tif"),
        ("gcs://bucket/B04.tif", "/data/cat/item.json", "gs://bucket/B04.tif"),
        ("s3a://bucket/B04.tif", "https://host/item.json", "s3://bucket/B04.tif"),
        ("abfs://box/B04.tif", "/data/cat/item.json", "az://box/B04.tif"),
        (
            "abfss://box@acc.dfs.core.windows.net/B04.tif",
            "/x",
            "https://acc.blob.core.windows.net/box/B04.tif",
        ),
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
        "GTIFF_DIR:1:/etc/x.tif",
        "GTIFF_RAW:/etc/x.tif",
        "/VSIZIP//etc/x.zip/B04.tif",
        "/VSICURL/https://host/B04.tif",
        "/vsicurl/https://user:secret@host/B04.tif",
        "/vsicurl?url=https://host/B04.tif",
        "/vsis3//etc/x.tif",
        "http:/host/B04.tif",
        "https:B04.tif",
        "http://",
        "https:///B04.tif",
        "https://host:port/B04.tif",
        "https://user:secret@host/B04.tif",
        "https://user@host/B04.tif",
        "https://host/\x1b[2J/B04.tif",
        "./\nB04.tif",
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
        ("s3://bucket/B04.tif", "s3://bucket/B04.tif"),
        ("/vsis3/bucket/B04.tif", "/vsis3/bucket/B04.tif"),
    ],
)
def test_a_path_in_a_catalogue_on_the_web_is_its_servers(href, absolute):
    assert resolve_href(href, "https://host/cat/item.json") == absolute


@pytest.mark.parametrize(
    "href",
    [
        "MEM:::DATAPOINTER=1",
        "/vsizip//data/x.zip/B04.tif",
        "/VsiZip//data/x.zip/B04.tif",
        "/./vsizip//data/x.zip/B04.tif",
        "../../../vsizip//data/x.zip/B04.tif",
        "GTIFF_DIR:1:/data/x.tif",
        "ftp://host/B04.tif",
        "file://elsewhere/B04.tif",
        "file:B04.tif",
        "file:///vsizip//data/x.zip/B04.tif",
        "https://user:secret@host/B04.tif",
    ],
)
def test_a_catalogue_on_this_machine_names_files_and_addresses(href):
    with pytest.raises(CatalogError, match=r"leads to|broken address"):
        resolve_href(href, "/data/cat/item.json")


def test_a_query_is_removed_and_nothing_else():
    assert remove_query("https://host/B04.tif?st=1&sig=a/b?c#d") == "https://host/B04.tif"
    for path in ("/data/B04.tif", "/data/a?b/B04.tif", "s3://bucket/a?b/B04.tif"):
        assert remove_query(path) == path


def test_a_path_written_as_on_the_web_is_found(tmp_path):
    (tmp_path / "a b").mkdir()
    (tmp_path / "a b" / "B04.tif").touch()
    base = str(tmp_path / "item.json")
    assert resolve_href("./a%20b/B04.tif", base) == str(tmp_path / "a b" / "B04.tif")
    (tmp_path / "a%20b").mkdir()
    (tmp_path / "a%20b" / "B04.tif").touch()
    assert resolve_href("./a%20b/B04.tif", base) == str(tmp_path / "a%20b" / "B04.tif")

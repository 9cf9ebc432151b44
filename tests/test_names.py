"""Names of products, wherever a provider writes them."""

import datetime as dt

import pytest

from cloudgan.stac.names import ProductNames, read_names
from cloudgan.stac.properties import parse_baseline

UTC = dt.UTC
TAKE = dt.datetime(2025, 3, 30, 10, 0, 51, tzinfo=UTC)
STRIP = dt.datetime(2025, 3, 30, 10, 4, 35, tzinfo=UTC)
MADE = dt.datetime(2025, 3, 30, 14, 59, 14, tzinfo=UTC)
PRODUCT = "S2C_MSIL2A_20250330T100051_N0511_R122_T33UWP_20250330T145914"
DATATAKE = "GS2C_20250330T100051_002952_N05.11"
DATASTRIP = "S2C_OPER_MSI_L2A_DS_2CPS_20250330T145914_S20250330T100435_N05.11"
GRANULE = "L2A_T33UWP_A002952_20250330T100435"
ALL = ProductNames("33UWP", (5, 11), "S2C", TAKE, None, 122, MADE)


@pytest.mark.parametrize(
    "properties",
    [
        {"s2:product_uri": f"{PRODUCT}.SAFE"},
        {"sentinel:product_id": PRODUCT},
        {"sentinel2:product_id": PRODUCT},
        {"eopf:product_id": PRODUCT},
        {"title": PRODUCT},
        {"title": f"{PRODUCT}.SAFE"},
        {"provider:some_name": PRODUCT},
    ],
)
def test_the_products_name_tells_all_but_the_datastrip(properties):
    assert read_names(properties, "x") == ALL


def test_the_items_id_may_be_the_products_name():
    assert read_names({}, PRODUCT) == ALL
    assert read_names({}, "S2A_MSIL2A_20230815T095031_R079_T33TWM_20230815T181255").relative_orbit == 79


def test_the_paths_of_its_files_may_be_all_there_is():
    href = f"s3://eodata/Sentinel-2/MSI/L2A/2025/03/30/{PRODUCT}.SAFE/GRANULE/{GRANULE}/IMG_DATA/R10m/x.jp2"
    names = read_names({}, "x", [href])
    assert (names.mgrs_tile, names.baseline, names.datastrip) == ("33UWP", (5, 11), STRIP)


@pytest.mark.parametrize("prefix", ["s2:", "eopf:", "sentinel:", "sentinel2:", ""])
def test_datatake_and_datastrip_under_any_prefix(prefix):
    names = read_names({f"{prefix}datatake_id": DATATAKE, f"{prefix}datastrip_id": DATASTRIP}, "x")
    assert (names.platform, names.datatake, names.datastrip, names.baseline) == ("S2C", TAKE, STRIP, (5, 11))


@pytest.mark.parametrize(
    "properties",
    [
        {"mgrs:utm_zone": 5, "mgrs:latitude_band": "Q", "mgrs:grid_square": "KB"},
        {"sentinel:utm_zone": 5, "sentinel:latitude_band": "Q", "sentinel:grid_square": "KB"},
        {"s2:mgrs_tile": "05QKB"},
        {"s2:mgrs_tile": "T05QKB"},
        {"grid:code": "MGRS-5QKB"},
        {"odc:region_code": "05QKB"},
    ],
)
def test_the_tile_in_every_spelling(properties):
    assert read_names(properties, "x").mgrs_tile == "05QKB"


@pytest.mark.parametrize(
    "properties",
    [
        {"sentinel:utm_zone": 61, "sentinel:latitude_band": "Q", "sentinel:grid_square": "KB"},
        {"grid:code": "MGRS-00QKB"},
        {"odc:region_code": "region 5"},
        {"sentinel:utm_zone": [5], "sentinel:latitude_band": None, "sentinel:grid_square": "KB"},
    ],
)
def test_what_is_no_tile_is_none(properties):
    assert read_names(properties, "x").mgrs_tile is None


def test_an_old_product_tells_orbit_and_start():
    name = "S2A_OPER_PRD_MSIL2A_PDMC_20160101T201513_R065_V20160101T100000_20160101T100000"
    names = read_names({"title": name}, "x")
    assert (names.platform, names.relative_orbit) == ("S2A", 65)
    assert names.datatake == dt.datetime(2016, 1, 1, 10, tzinfo=UTC)


def test_the_baseline_of_the_l1c_product_is_not_the_l2a_products():
    names = read_names({"s2:l1c": "S2A_MSIL1C_20200714T115221_N0209_R123_T28QCH_20200714T191310"}, "x")
    assert (names.baseline, names.mgrs_tile) == (None, "28QCH")


@pytest.mark.parametrize(
    ("stated", "baseline"),
    [
        ("05.09", (5, 9)), ("N0509", (5, 9)), ("N05.09", (5, 9)), ("0400", (4, 0)), (5.09, (5, 9)), (4, (4,
        0)), (5.1, (5, 10)), ("1.2.3", None), (True, None), (None, None), (1e300, None), (float("nan"), None),
        ("5.9", None),
    ],
)  # fmt: skip
def test_the_baseline_in_every_spelling(stated, baseline):
    assert parse_baseline(stated) == baseline

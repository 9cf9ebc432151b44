import datetime as dt
import pickle

import pytest
from granules import parse_item
from shapely.geometry import Polygon, mapping

from cloudgan.errors import CatalogError
from cloudgan.sentinel2.offset import OffsetBasis
from cloudgan.stac.raw_items import RawItem
from cloudgan.stac.signing import Signing

UTC = dt.UTC
BANDS = ("green", "red", "nir")
BASE = "/data/catalog/item.json"
FOOTPRINT = Polygon([(15, 46), (16.4, 46), (16.4, 47), (15, 47), (15, 46)])
STORAGE = "https://sentinel2l2a01.blob.core.windows.net/sentinel2-l2/33/T/WM/2023/08/15/x.SAFE/GRANULE/y"


def earth_search(**changes):
    """An item as Earth Search v1 writes it, cut down; `changes` replace properties, None removes one."""
    properties = {
        "datetime": "2023-08-15T09:57:57.246000Z",
        "platform": "sentinel-2a",
        "eo:cloud_cover": 12.5,
        "proj:epsg": 32633,
        "mgrs:utm_zone": 33,
        "mgrs:latitude_band": "T",
        "mgrs:grid_square": "WM",
        "grid:code": "MGRS-33TWM",
        "s2:processing_baseline": "05.09",
        "s2:sequence": "1",
        "s2:generation_time": "2023-08-15T15:50:57.000000Z",
        "s2:datatake_id": "GS2A_20230815T095031_042547_N05.09",
        "s2:datastrip_id": "S2A_OPER_MSI_L2A_DS_2APS_20230815T155057_S20230815T095630_N05.09",
        "earthsearch:boa_offset_applied": True,
    } | changes
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": "S2A_33TWM_20230815_1_L2A",
        "collection": "sentinel-2-l2a",
        "geometry": mapping(FOOTPRINT),
        "bbox": list(FOOTPRINT.bounds),
        "properties": {key: value for key, value in properties.items() if value is not None},
        "links": [],
        "assets": {
            "green": earth_search_band("green", "B03"),
            "red": earth_search_band("red", "B04"),
            "nir": earth_search_band("nir", "B08"),
            "nir08": earth_search_band("nir08", "B8A", gsd=20),
            "scl": {"href": "./SCL.tif", "type": "image/tiff", "proj:shape": [5490, 5490]},
            "red-jp2": {"href": "s3://x/B04.jp2", "type": "image/jp2", "eo:bands": [{"common_name": "red"}]},
            "visual": {"href": "./TCI.tif", "eo:bands": [{"common_name": "red"}, {"common_name": "green"}]},
        },
    }  # fmt: skip


def earth_search_band(common_name, name, gsd=10):
    return {
        "href": f"./{name}.tif",
        "type": "image/tiff; application=geotiff; profile=cloud-optimized",
        "gsd": gsd,
        "eo:bands": [{"name": common_name, "common_name": common_name}],
        "proj:shape": [10980, 10980],
        "proj:transform": [10, 0, 499980, 0, -10, 5200020],
        "raster:bands": [{"nodata": 0, "data_type": "uint16", "scale": 0.0001, "offset": 0}],
    }


def planetary(**changes):
    """An item as the Planetary Computer writes it, cut down."""
    names = {"B03": "green", "B04": "red", "B08": "nir", "B8A": "rededge"}
    properties = {
        "datetime": "2023-08-15T09:50:31.024000Z",
        "platform": "Sentinel-2A",
        "proj:epsg": 32633,
        "eo:cloud_cover": 0.2,
        "s2:mgrs_tile": "33TWM",
        "s2:processing_baseline": "05.09",
        "s2:datatake_id": "GS2A_20230815T095031_042547_N05.09",
        "s2:generation_time": "2023-08-15T18:12:55.871Z",
    } | changes
    return {
        "type": "Feature",
        "id": "S2A_MSIL2A_20230815T095031_R079_T33TWM_20230815T181255",
        "collection": "sentinel-2-l2a",
        "geometry": mapping(FOOTPRINT),
        "properties": properties,
        "links": [{"rel": "self", "href": "https://planetarycomputer.microsoft.com/api/stac/v1/x"}],
        "assets": {
            key: {"href": f"{STORAGE}/{key}_10m.tif", "eo:bands": [{"name": key, "common_name": name}]}
            for key, name in names.items()
        }
        | {"SCL": {"href": f"{STORAGE}/SCL_20m.tif"}},
    }


def read(body, bands=BANDS, base=BASE):
    return parse_item(RawItem(body, base), bands)


def test_an_earth_search_item():
    item, warnings = read(earth_search())
    assert item.id == "S2A_33TWM_20230815_1_L2A"
    assert item.datetime == dt.datetime(2023, 8, 15, 9, 57, 57, 246_000, tzinfo=UTC)
    assert (item.epsg, item.mgrs_tile, item.sequence, item.cloud_cover) == (32633, "33TWM", 1, 12.5)
    assert (item.processing_baseline, item.baseline, item.offset) == ("05.09", (5, 9), 0)
    assert (item.datatake, item.datastrip) == (
        "S2A_20230815T095031",
        dt.datetime(2023, 8, 15, 9, 56, 30, tzinfo=UTC),
    )
    assert [asset.band for asset in item.assets] == ["green", "red", "nir", "scl"]
    assert item.asset("nir").href == "/data/catalog/B08.tif"
    assert item.asset("nir").shape == (10980, 10980)
    assert item.asset("nir").transform == (10, 0, 499980, 0, -10, 5200020)
    assert item.asset("scl").transform is None
    assert item.geometry.equals(FOOTPRINT)
    assert item.signing is Signing.NONE
    assert warnings == ()


def test_hrefs_of_a_planetary_computer_item_stay_unsigned():
    item, warnings = read(planetary(), base="https://planetarycomputer.microsoft.com/api/stac/v1")
    assert item.signing is Signing.PLANETARY_COMPUTER
    assert item.offset == 1000
    assert item.asset("nir").href == f"{STORAGE}/B08_10m.tif"
    assert (item.mgrs_tile, item.datatake) == ("33TWM", "S2A_20230815T095031")
    assert warnings == ()


def test_signatures_in_a_saved_planetary_computer_search_are_dropped():
    body = planetary()
    body["links"] = []
    for asset in body["assets"].values():
        asset["href"] += "?st=2023-08-20T00%3A00%3A00Z&se=2023-08-20T00%3A45%3A00Z&sig=abc"
    item, _ = read(body)
    assert item.signing is Signing.PLANETARY_COMPUTER
    assert item.asset("red").href == f"{STORAGE}/B04_10m.tif"


def test_an_item_is_small_plain_data():
    item, _ = read(earth_search())
    assert pickle.loads(pickle.dumps(item)) == item
    assert hash(item) == hash(pickle.loads(pickle.dumps(item)))
    assert len(pickle.dumps(item)) < 2000


# Bands


def test_bands_are_found_by_the_new_bands_array_too():
    body = earth_search()
    body["assets"] = {
        "data-1": {"href": "a.tif", "bands": [{"name": "B03", "eo:common_name": "green"}]},
        "data-2": {"href": "b.tif", "bands": [{"name": "B04", "eo:common_name": "red"}]},
        "data-3": {"href": "c.tif", "bands": [{"name": "B08", "eo:common_name": "nir"}], "gsd": 10},
        "data-0": {"href": "d.tif", "bands": [{"name": "B8A", "eo:common_name": "nir"}], "gsd": 20},
        "SCL": {"href": "e.tif"},
    }
    item, _ = read(body)
    assert [asset.href[-5:] for asset in item.assets] == ["a.tif", "b.tif", "c.tif", "e.tif"]


def test_copernicus_names_bands_with_their_resolution_and_the_finest_is_taken():
    body = earth_search()
    keys = ["B03_10m", "B03_20m", "B04_10m", "B08_10m", "B8A_20m", "SCL_20m", "SCL_60m"]
    body["assets"] = {key: {"href": f"{key}.jp2", "gsd": int(key[4:6])} for key in reversed(keys)}
    item, _ = read(body)
    assert [asset.href.rpartition("/")[2] for asset in item.assets] == [
        f"{key}.jp2" for key in ("B03_10m", "B04_10m", "B08_10m", "SCL_20m")
    ]


def test_a_geotiff_is_preferred_to_a_jp2_of_the_same_band():
    body = earth_search()
    body["assets"]["red-cog"] = body["assets"].pop("red")
    item, _ = read(body)
    assert item.asset("red").href == "/data/catalog/B04.tif"


def test_scl_is_read_once_even_if_asked_for():
    item, _ = read(earth_search(), bands=["scl", "red"])
    assert [asset.band for asset in item.assets] == ["scl", "red"]


def test_a_missing_band_is_named_with_what_is_there():
    body = earth_search()
    del body["assets"]["nir"]
    with pytest.raises(
        CatalogError, match=r"S2A_33TWM_20230815_1_L2A has no band nir \(it has green, nir08, red,"
    ):
        read(body)


def test_a_band_that_was_not_asked_for_is_not_there():
    item, _ = read(earth_search(), bands=["red"])
    with pytest.raises(CatalogError, match="without band nir"):
        item.asset("nir")


# Projection


@pytest.mark.parametrize(
    ("properties", "epsg"),
    [
        ({"proj:epsg": 32633}, 32633),
        ({"proj:epsg": None, "proj:code": "EPSG:32633"}, 32633),
        ({"proj:epsg": None}, 32633),
        ({"proj:epsg": None, "mgrs:utm_zone": None}, 32633),
        ({"proj:epsg": None, "mgrs:utm_zone": None, "grid:code": None}, 32633),
        ({"proj:epsg": None, "mgrs:latitude_band": "H"}, 32733),
        ({"proj:epsg": None, "mgrs:latitude_band": "N"}, 32633),
        ({"proj:epsg": None, "mgrs:utm_zone": 5, "mgrs:latitude_band": "M"}, 32705),
    ],
)
def test_the_zone_is_read_or_derived(properties, epsg):
    assert read(earth_search(**properties))[0].epsg == epsg


def test_the_zone_may_be_stated_by_an_asset():
    body = earth_search(**{"proj:epsg": None})
    body["assets"]["scl"]["proj:code"] = "EPSG:32634"
    assert read(body)[0].epsg == 32634


def test_an_item_without_any_projection_is_refused():
    body = earth_search(**{"proj:epsg": None, "mgrs:utm_zone": None, "grid:code": None}) | {"id": "mystery"}
    with pytest.raises(CatalogError, match=r"mystery says neither its CRS .* nor its MGRS tile"):
        read(body)


def test_items_outside_utm_are_refused():
    with pytest.raises(CatalogError, match="EPSG:4326, and cloudgan reads UTM zones only"):
        read(earth_search(**{"proj:epsg": 4326}))


@pytest.mark.parametrize(
    ("item_id", "tile"),
    [
        ("S2A_5QKB_20230815_0_L2A", "05QKB"),
        ("S2B_T33TWM_20230815T095630_L2A", "33TWM"),
        ("S2A_MSIL2A_20230815T095031_N0509_R079_T33TWM_20230815T155057", "33TWM"),
        ("scene-17", None),
    ],
)
def test_the_mgrs_tile_is_found_in_ids(item_id, tile):
    names = ("mgrs:utm_zone", "mgrs:latitude_band", "mgrs:grid_square", "grid:code")
    body = earth_search(**dict.fromkeys(names)) | {"id": item_id}
    assert read(body)[0].mgrs_tile == tile


# Versions of one granule


@pytest.mark.parametrize(
    ("properties", "item_id", "datatake"),
    [
        ({}, "x", "S2A_20230815T095031"),
        (
            {"s2:datatake_id": None, "s2:product_uri": "S2B_MSIL2A_20230815T095031_N0509_R079_T33TWM_2.SAFE"},
            "x",
            "S2B_20230815T095031",
        ),
        (
            {"s2:datatake_id": None},
            "S2C_MSIL2A_20230815T095031_R079_T33TWM_20230815T181255",
            "S2C_20230815T095031",
        ),
        ({"s2:datatake_id": None}, "S2A_33TWM_20230815_1_L2A", "S2A_20230815"),
        ({"s2:datatake_id": None, "platform": "Sentinel-2B"}, "x", "S2B_20230815"),
        ({"s2:datatake_id": None, "platform": None}, "x", None),
    ],
)
def test_the_datatake_is_named_without_its_baseline(properties, item_id, datatake):
    strip = {"s2:datastrip_id": None}
    assert read(earth_search(**(strip | properties)) | {"id": item_id})[0].datatake == datatake


@pytest.mark.parametrize(
    ("properties", "baseline"),
    [
        ({}, "05.09"),
        ({"s2:processing_baseline": "02.12"}, "02.12"),
        ({"s2:processing_baseline": None}, "05.09"),
        ({"s2:processing_baseline": None, "s2:product_uri": "S2A_MSIL2A_2_N0400_R079_T33TWM.SAFE"}, "05.09"),
        (
            {
                "s2:processing_baseline": None,
                "s2:datatake_id": None,
                "s2:product_uri": "S2A_MSIL2A_20200401T095031_N0214_R079_T33TWM_2.SAFE",
            },
            "02.14",
        ),
        ({"s2:processing_baseline": None, "s2:datatake_id": None, "s2:datastrip_id": None}, None),
    ],
)
def test_the_baseline_is_read_or_derived(properties, baseline):
    assert read(earth_search(**properties))[0].processing_baseline == baseline


@pytest.mark.parametrize(("stated", "sequence"), [("3", 3), (2, 2), (None, 1), ("x", 1)])
def test_the_sequence_is_read_or_derived(stated, sequence):
    assert read(earth_search(**{"s2:sequence": stated}))[0].sequence == sequence


# Radiometry


def test_the_flag_and_the_raster_offset_contradict_each_other():
    body = earth_search()
    for band in BANDS:
        body["assets"][band]["raster:bands"][0]["offset"] = -0.1
    item, warnings = read(body)
    assert item.offset == 0
    assert [warning.split(":")[0] for warning in warnings] == ["earthsearch"]


@pytest.mark.parametrize(
    "band",
    [
        {"raster:bands": [{"scale": 0.0001, "offset": -0.1}]},
        {"bands": [{"raster:scale": 0.0001, "raster:offset": -0.1}]},
        {"raster:scale": 0.0001, "raster:offset": -0.1},
        {"raster:bands": [{"offset": -0.1}]},
    ],
)
def test_another_provider_declares_the_offset_in_either_spelling(band):
    body = earth_search(**{"earthsearch:boa_offset_applied": None, "s2:processing_baseline": "05.09"})
    for name in BANDS:
        body["assets"][name] = {"href": f"{name}.tif"} | band
    assert read(body)[0].offset == 1000


def test_bands_with_different_offsets_are_not_obeyed():
    body = earth_search()
    body["assets"]["nir"]["raster:bands"][0]["offset"] = -0.1
    item, warnings = read(body)
    assert (item.offset, item.offset_basis) == (0, OffsetBasis.CONTRADICTED)
    assert warnings == (
        "raster metadata declare BOA offsets of [0, 1000] DN, and L2A products have 0 or 1000 in all bands: "
        "not obeyed",
    )


def test_another_scale_is_refused():
    body = earth_search()
    body["assets"]["red"]["raster:bands"][0]["scale"] = 1.0
    with pytest.raises(CatalogError, match=r"scales band red by 1\.0, where 0\.0001 was expected"):
        read(body)


def test_unknown_radiometry_is_refused():
    names = ("s2:processing_baseline", "s2:datatake_id", "s2:datastrip_id", "earthsearch:boa_offset_applied")
    body = earth_search(**dict.fromkeys(names))
    for band in BANDS:
        del body["assets"][band]["raster:bands"]
    with pytest.raises(CatalogError, match=r"states no BOA offset, neither a processing baseline"):
        read(body)


# What items leave out


def test_unknown_cloud_cover_is_kept_with_a_warning():
    item, warnings = read(earth_search(**{"eo:cloud_cover": None}))
    assert item.cloud_cover is None
    assert warnings == ("no eo:cloud_cover: kept, whatever the limit",)


def test_the_bbox_stands_in_for_a_missing_geometry():
    item, _ = read(earth_search() | {"geometry": None})
    assert item.geometry.bounds == FOOTPRINT.bounds
    with_heights = earth_search() | {"geometry": None, "bbox": [15, 46, 0, 16, 47, 100]}
    assert read(with_heights)[0].geometry.bounds == (15, 46, 16, 47)


def test_a_self_crossing_footprint_is_repaired():
    bow_tie = {"type": "Polygon", "coordinates": [[[15, 46], [16, 47], [16, 46], [15, 47], [15, 46]]]}
    assert read(earth_search() | {"geometry": bow_tie})[0].geometry.is_valid


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"properties": {"proj:epsg": 32633, "s2:processing_baseline": "05.09"}}, "no usable datetime"),
        ({"properties": []}, "no STAC item"),
        ({"assets": None}, "no STAC item"),
        ({"id": 7}, "no STAC item"),
    ],
)
def test_what_is_no_item_is_refused_by_name(change, reason):
    with pytest.raises(CatalogError, match=reason):
        read(earth_search() | change)


@pytest.mark.parametrize("geometry", [None, {"type": "Polygon"}, "here"])
def test_the_frame_stands_in_for_a_missing_footprint_and_nothing_for_both(geometry):
    body = earth_search() | {"geometry": geometry, "bbox": None}
    assert read(body)[0].geometry.area == pytest.approx(1.4, abs=0.1)
    for band in BANDS:
        del body["assets"][band]["proj:transform"]
    with pytest.raises(CatalogError, match="no usable geometry or bbox"):
        read(body)


@pytest.mark.parametrize(
    "frame",
    [
        {"proj:shape": [10**9, 10**9]},
        {"proj:shape": [0, 10980]},
        {"proj:transform": [0, 0, 499980, 0, 0, 5200020]},
        {"proj:transform": [10, 0, 1e300, 0, -10, 5200020]},
        {"proj:transform": [10, 5, 499980, 5, -10, 5200020]},
    ],
)
def test_a_frame_that_no_image_has_is_refused(frame):
    body = earth_search()
    body["assets"]["red"] |= frame
    with pytest.raises(CatalogError, match="states a frame for band red that no image has"):
        parse_item(RawItem(body, BASE), BANDS)

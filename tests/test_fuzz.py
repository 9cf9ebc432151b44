"""Whatever is in a file or an answer, what comes out is a result or one of our own errors, in one sentence.

`CLOUDGAN_FUZZ=100 pytest tests/test_fuzz.py` tries a hundred times as much, and something else each time.
"""

from __future__ import annotations

import copy
import datetime as dt
import json
import math
import os
import pickle
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from granules import parse_item
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from networks import write_network
from shapely.geometry import box, mapping

from cloudgan.config import BatchConfig
from cloudgan.errors import CloudganError, GeneratorError, InputError, StoreError, redacted
from cloudgan.geo.aoi import parse_aoi, read_aoi
from cloudgan.geo.grid import Lattice, Window
from cloudgan.geo.tiling import Tiling
from cloudgan.io.placement import item_window
from cloudgan.io.readers import stac_item
from cloudgan.io.store.fence import FOLDER
from cloudgan.io.store.identity import read_identity
from cloudgan.io.store.ledger import DONE
from cloudgan.io.store.store import prepare_store
from cloudgan.model.contract import Contract
from cloudgan.model.generator import Generator
from cloudgan.observations import Observations
from cloudgan.planning.planner import plan_run
from cloudgan.removal.blending import GENERATED_RANGE
from cloudgan.removal.core import decloud_dates
from cloudgan.schema import Provenance
from cloudgan.sentinel2.classification import PixelClass
from cloudgan.sentinel2.dates import DateRange
from cloudgan.stac.frames import Frame
from cloudgan.stac.raw_items import RawItem
from cloudgan.stac.search import find_scenes, group_scenes
from cloudgan.stac.versions import group_versions

TIMES = int(os.environ.get("CLOUDGAN_FUZZ", "1"))


def fuzzed(examples: int):
    """So many examples, or as many times as the environment says."""
    return settings(
        max_examples=examples * TIMES,
        derandomize=TIMES == 1,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    )


def one_sentence(error: CloudganError) -> None:
    text = str(error)
    assert text
    assert len(text) < 2000, text


# Strange numbers and texts, and documents with something strange in them

NUMBERS = (10**400, -(10**400), 2**63, 1e308, -1, 0, math.inf, -math.inf, math.nan)
TEXTS = (
    "",
    "\0",
    "../../etc/passwd",
    "file:///etc/passwd",
    "http://[",
    "\ud800",
    "2020-13-45",
    "EPSG:0",
    "0" * 5000,
)
ODD = st.sampled_from([*NUMBERS, *TEXTS, [], {}, [[]], [{}], None])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | ODD,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)


def paths(document: Any, at: tuple = ()) -> list[tuple]:
    """The way to every value of a JSON document."""
    members = document.items() if isinstance(document, dict) else enumerate(document)
    found = []
    for key, value in members:
        found.append((*at, key))
        if isinstance(value, dict | list):
            found += paths(value, (*at, key))
    return found


@st.composite
def mutated(draw, document: Any, at_most: int = 2) -> Any:
    """The document with a few of its values replaced or removed."""
    changed = copy.deepcopy(document)
    for _ in range(draw(st.integers(1, at_most))):
        ways = paths(changed)
        if not ways:
            break
        *way, last = draw(st.sampled_from(ways))
        holder = changed
        for step in way:
            holder = holder[step]
        if draw(st.booleans()):
            holder[last] = copy.deepcopy(draw(ODD | JSON))  # an empty list may be filled next
        else:
            del holder[last]
    return changed


@st.composite
def mutated_bytes(draw, body: bytes) -> bytes:
    """The bytes with some of them changed, cut off, put in or repeated."""
    changed = bytearray(body)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(len(changed) - 1, 0)))
        end = at + draw(st.integers(0, 16))
        kind = draw(st.sampled_from(["change", "cut", "insert", "repeat", "drop"]))
        if kind == "change":
            changed[at:end] = draw(st.binary(min_size=len(changed[at:end]), max_size=len(changed[at:end])))
        elif kind == "cut":
            del changed[at:]
        elif kind == "insert":
            changed[at:at] = draw(st.binary(max_size=16))
        elif kind == "repeat":
            changed[at:at] = changed[at:end] * 3
        else:
            del changed[at:end]
    return bytes(changed)


# Areas

AREA = {
    "type": "FeatureCollection",
    "features": [
        {"type": "Feature", "properties": {}, "geometry": mapping(box(16.4, 48.5, 16.5, 48.6))},
        {
            "type": "Feature",
            "properties": {"name": "b"},
            "geometry": {
                "type": "GeometryCollection",
                "geometries": [
                    {
                        "type": "MultiPolygon",
                        "coordinates": [mapping(box(16.6, 48.5, 16.7, 48.6))["coordinates"]],
                    }
                ],
            },
        },
    ],
}
AREA = json.loads(json.dumps(AREA))


def use_area(area) -> None:
    lattice = Lattice(area.epsg, 10.0)
    window = area.window(lattice)
    assert window.height > 0


@fuzzed(150)
@given(mutated(AREA) | JSON)
def test_areas(document):
    try:
        use_area(parse_aoi(document))
    except CloudganError as error:
        one_sentence(error)


@fuzzed(100)
@given(mutated_bytes(json.dumps(AREA).encode()) | st.binary(max_size=64))
def test_area_files(body):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "area.geojson"
        path.write_bytes(body)
        try:
            use_area(read_aoi(path))
        except CloudganError as error:
            one_sentence(error)


@pytest.mark.parametrize("bomb", ["[" * 100_000, '{"features":' * 100_000, '{"type":' + "9" * 10_000 + "}"])
def test_an_area_that_is_a_bomb(bomb, tmp_path):
    path = tmp_path / "bomb.geojson"
    path.write_text(bomb)
    with pytest.raises(InputError, match="is not JSON"):
        read_aoi(path)


def test_an_area_nested_too_deep(tmp_path):
    nested: Any = mapping(box(16.4, 48.5, 16.5, 48.6))
    for _ in range(200_000):
        nested = {"type": "GeometryCollection", "geometries": [nested]}
    with pytest.raises(InputError, match="nested"):
        parse_aoi(nested)


# Dates


@fuzzed(300)
@given(
    st.text(max_size=30)
    | st.text("0123456789-/:TZ.+ ", max_size=45)
    | st.from_regex(r"\d{4}-\d{2}/\d{4}-\d{2}")
)
def test_dates(text):
    try:
        dates = DateRange.parse(text)
        first, last = dates.utc_span()
        assert first <= last
        dates.contains(dt.datetime(2020, 1, 1, tzinfo=dt.UTC), dt.date(2020, 1, 1))
        dates.whole_years()
    except CloudganError as error:
        one_sentence(error)


# Items

ITEM = {
    "type": "Feature",
    "stac_version": "1.0.0",
    "id": "S2A_33UWP_20200505_0_L2A",
    "collection": "sentinel-2-l2a",
    "geometry": mapping(box(16.4, 48.5, 16.5, 48.6)),
    "bbox": [16.4, 48.5, 16.5, 48.6],
    "properties": {
        "datetime": "2020-05-05T10:07:31.417000Z",
        "platform": "sentinel-2a",
        "eo:cloud_cover": 10.0,
        "proj:epsg": 32633,
        "mgrs:utm_zone": 33,
        "mgrs:latitude_band": "U",
        "mgrs:grid_square": "WP",
        "grid:code": "MGRS-33UWP",
        "s2:processing_baseline": "05.00",
        "s2:generation_time": "2023-06-25T15:00:29.000000Z",
        "s2:datatake_id": "GS2A_20200505T100029_016736_N05.00",
        "s2:datastrip_id": "S2A_OPER_MSI_L2A_DS_S2RP_20230625T150029_S20200505T100344_N05.00",
        "s2:sequence": "0",
        "earthsearch:boa_offset_applied": True,
    },
    "links": [{"rel": "self", "href": "https://example.com/item.json"}],
    "assets": {
        band: {
            "href": f"./{band}.tif",
            "type": "image/tiff; application=geotiff",
            "gsd": 10,
            "eo:bands": [{"name": band, "common_name": band}],
            "proj:shape": [432, 432],
            "proj:transform": [10, 0, 605460, 0, -10, 5380000],
            "raster:bands": [{"scale": 0.0001, "nodata": 0, "offset": -0.1, "data_type": "uint16"}],
        }
        for band in ("green", "red", "nir", "scl")
    },
}
ITEM = json.loads(json.dumps(ITEM))
BANDS = ("green", "red", "nir")


@fuzzed(400)
@given(mutated(ITEM, at_most=3), st.sampled_from(["https://example.com/item.json", "/somewhere/item.json"]))
def test_items(body, base):
    try:
        item, _ = parse_item(RawItem(body, base), BANDS)
        kept = [versions[0] for versions in group_versions([item, item])]
        assert group_scenes(kept)
        item_window(item, Lattice(item.epsg, 10.0))
        json.dumps(stac_item(item, (*BANDS, "scl")))
        pickle.dumps(item)
    except CloudganError as error:
        one_sentence(error)


PARTS = ("properties", "geometry", "bbox", "assets", "links", "collection")
KEYS = sorted(ITEM["properties"])
SPELLINGS = {
    "proj:epsg": [None, 4326, "EPSG:32633", 32632, "32733", 0, True],
    "datetime": [None, "2020-05-05", "yesterday", "2020-05-05T10:07:31+02:00", 0],
    "s2:processing_baseline": [None, "N0500", 5.0, "", "99.99", {}],
    "earthsearch:boa_offset_applied": [None, "false", False, 0, []],
    "s2:datatake_id": [None, "x" * 2000, "GS2A_20209999T999999_016736_N05.00", 7],
    "s2:datastrip_id": [None, "_S20200505T990344_", []],
    "grid:code": [None, "MGRS-99XXX", "33UWP", 5],
    "eo:cloud_cover": [None, -1, 101, "10", math.nan],
}
FRAMES = (
    {"proj:transform": [605460, 10, 0, 5380000, 0, -10]},
    {"proj:transform": [10, 0, 5380000, 0, -10, 605460]},
    {"proj:transform": [1e-9, 0, 0, 0, -1e9, 0]},
    {"proj:shape": [0, 0]},
    {"proj:shape": [432.5, 1e99]},
    {"proj:shape": None, "proj:transform": None},
    {"href": "/VSIZIP//x"},
    {"href": "GTIFF_DIR:1:x"},
    {"href": "https://[", "raster:bands": [{"offset": 1e308, "scale": 0.0001}]},
    {"raster:bands": [{"offset": -0.1, "scale": 7}]},
)


@st.composite
def odd_items(draw) -> Any:
    """An item with a part missing, in another spelling, or contradicting another, as they are met in the
    field."""
    item = copy.deepcopy(ITEM)
    for _ in range(draw(st.integers(1, 3))):
        kind = draw(st.sampled_from(["part", "property", "spelling", "asset", "file", "frame"]))
        if kind == "part":
            item.pop(draw(st.sampled_from(PARTS)), None)
        elif kind == "property" and "properties" in item:
            item["properties"].pop(draw(st.sampled_from(KEYS)), None)
        elif kind == "spelling" and "properties" in item:
            key = draw(st.sampled_from(sorted(SPELLINGS)))
            item["properties"][key] = draw(st.sampled_from(SPELLINGS[key]))
        elif item.get("assets"):
            band = draw(st.sampled_from(sorted(item["assets"])))
            if kind == "asset":
                del item["assets"][band]
            else:
                item["assets"][band] |= draw(st.sampled_from(FRAMES))
    return item


@fuzzed(300)
@given(
    odd_items(),
    st.sampled_from([None, Frame(32633, (432, 432), (10.0, 0.0, 605460.0, 0.0, -10.0, 5380000.0))]),
)
def test_odd_items_beside_a_good_one(odd, frame_of_its_file):
    """It is used, left out by name, or outside what was asked for; the good one is there in any case."""
    good = copy.deepcopy(ITEM)
    good["id"] = "S2A_33UWP_20200515_0_L2A"
    for key, value in good["properties"].items():
        good["properties"][key] = (
            value.replace("20200505", "20200515").replace("05-05T", "05-15T")
            if isinstance(value, str)
            else value
        )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "items.json"
        path.write_text(json.dumps({"type": "FeatureCollection", "features": [odd, good]}))
        found = find_scenes(
            box(16.4, 48.5, 16.5, 48.6),
            DateRange.parse("2020-05"),
            bands=BANDS,
            stac=str(path),
            read_frame=lambda href, signing: frame_of_its_file,
        )
    ids = {item.id for item in found.items}
    assert good["id"] in ids
    for warning in found.warnings:
        assert len(warning) < 2000
    used = ITEM["id"] in ids
    named = any(ITEM["id"] in one.reason for one in found.left_out)
    assert used or named or found.found == 1


CATALOG = {
    "type": "Catalog",
    "stac_version": "1.0.0",
    "id": "c",
    "description": "d",
    "links": [{"rel": "item", "href": "./item.json"}, {"rel": "child", "href": "./child.json"}],
}
COLLECTION = {
    "type": "Collection",
    "stac_version": "1.0.0",
    "id": "sentinel-2-l2a",
    "description": "d",
    "license": "other",
    "extent": {
        "spatial": {"bbox": [[16.0, 48.0, 17.0, 49.0]]},
        "temporal": {"interval": [["2020-01-01T00:00:00Z", None]]},
    },
    "links": [{"rel": "item", "href": "item.json"}],
}
FILES = {"catalog.json": CATALOG, "child.json": COLLECTION, "item.json": ITEM}


@fuzzed(200)
@given(st.data())
def test_catalogues(data):
    name = data.draw(st.sampled_from(sorted(FILES)))
    written = FILES | {name: data.draw(mutated(FILES[name]) | JSON)}
    with tempfile.TemporaryDirectory() as folder:
        for file, body in written.items():
            text = json.dumps(body).encode()
            if data.draw(st.integers(0, 9)) == 0:
                text = data.draw(mutated_bytes(text))
            (Path(folder) / file).write_bytes(text)
        try:
            found = find_scenes(
                box(16.4, 48.5, 16.5, 48.6),
                DateRange.parse("2020-05"),
                bands=BANDS,
                stac=f"{folder}/catalog.json",
            )
            assert found.items
        except CloudganError as error:
            one_sentence(error)


# Jobs

JOB = """aoi = "field.geojson"
dates = "2020-04/2020-07"
out = "out.zarr"
resolution = 20.0
max-cloud-cover = 90
workers = 2
memory = "4GB"
clip = true
"""


@fuzzed(150)
@given(mutated_bytes(JOB.encode()) | st.binary(max_size=40))
def test_job_files(body):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "job.toml"
        path.write_bytes(body)
        try:
            BatchConfig.load(path, {}).as_json()
        except CloudganError as error:
            one_sentence(error)


OPTIONS = sorted(BatchConfig(aoi="a", dates="b").as_json())


@fuzzed(150)
@given(
    st.dictionaries(
        st.sampled_from(OPTIONS), ODD | JSON | st.sampled_from(["1e400GB", "9" * 400, "-1GB"]), max_size=4
    )
)
def test_job_options(flags):
    try:
        job = BatchConfig.load(None, {"aoi": "a", "dates": "2020"} | flags)
        assert job.memory_bytes is None or job.memory_bytes > 0
    except CloudganError as error:
        one_sentence(error)


# Models


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> bytes:
    """A small one: most of what is changed is not weights."""
    return write_network(tmp_path_factory.mktemp("model") / "m.onnx", tile=8, radius=1).read_bytes()


@fuzzed(150)
@given(st.data())
def test_model_files(model, data):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        path.write_bytes(data.draw(mutated_bytes(model) | st.binary(max_size=40)))
        try:
            generator = Generator.load(path)
            contract = generator.contract
            made = generator(
                np.ones((1, len(contract.input_channels), contract.tile, contract.tile), np.float32)
            )
            assert made.shape == (1, len(contract.output_bands), contract.tile, contract.tile)
        except CloudganError as error:
            one_sentence(error)


CONTRACT = {
    "format": 2,
    "name": "mean",
    "version": "1",
    "input_channels": ["target:green", "mask", "nearest-before:green", "nearest-before:days"],
    "output_bands": ["green"],
    "tile": 32,
    "predicts_uncertainty": False,
    "training": {"scores": {"psnr": 30.0}},
    "supersedes": ["0" * 64],
}
CONTRACT_1 = {
    "format": 1,
    "name": "mean",
    "version": "1",
    "planes": ["cloudy:green", "mask", "before:green", "before:age"],
    "bands": ["green"],
    "tile": 32,
    "training": {"scores": {"psnr": 30.0}},
}


@fuzzed(200)
@given(mutated(CONTRACT, at_most=3) | mutated(CONTRACT_1, at_most=3) | JSON)
def test_contracts(document):
    try:
        contract = Contract.parse(json.dumps(document), "m.onnx")
        assert contract.input_bands
        hash(contract.input_channels)
        json.dumps(contract.training)
    except CloudganError as error:
        one_sentence(error)


@fuzzed(40)
@given(st.data())
def test_models_with_odd_numbers(data):
    """Weights of any number: reflectance in its range, or an error; never NaN."""
    gain = data.draw(st.sampled_from([math.nan, math.inf, -math.inf, 1e38, -1e38, 1e30, -5.0, 0.0, 1.0]))
    uncertain = data.draw(st.booleans())
    with tempfile.TemporaryDirectory() as folder:
        path = write_network(
            Path(folder) / "m.onnx", tile=16, radius=1, gain=gain, predicts_uncertainty=uncertain
        )
        generator = Generator.load(path)
    window = Window(0, 0, 16, 16)
    number = data.draw(st.sampled_from([1, 2000, 16_000, 64_536, 65_535]))
    bands = {band: np.full((1, *window.shape), number, np.uint16) for band in BANDS}
    classes = np.full((1, *window.shape), PixelClass.CLOUDY, np.uint8)
    observations = Observations(window, bands, classes, np.array([18_000]))
    try:
        (date,) = decloud_dates(observations, window, generator, buffer=0, tiling=Tiling(16, 16))
    except GeneratorError as error:
        assert not 0 <= abs(gain) <= 1e30, error  # noqa: PT017
        one_sentence(error)
        return
    assert (date.provenance == Provenance.GENERATED).all()
    low, high = GENERATED_RANGE
    assert ((date.bands >= low) & (date.bands <= high)).all()


@pytest.mark.parametrize(
    "changed",
    [
        {"name": "a\x1b[2J\x1b[31m\nerror: your disk is broken"},
        {"name": "\ud800lone", "version": "\udfff"},
        {"training": {"notes\x1b]0;x\x07": ["\x1b[1m", {"deep": "\u202eabc"}]}},
        {"training": {"psnr": math.nan, "mae": math.inf, "steps": 10**300}},
    ],
)
def test_what_a_card_says_can_be_shown(changed):
    contract = Contract.parse(json.dumps(CONTRACT | changed), "m.onnx")
    shown = json.dumps(
        [contract.name, contract.version, contract.training], ensure_ascii=False, allow_nan=False
    )
    assert shown.isprintable()
    shown.encode()


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"name": "x" * 10_000_000}, "10,000,... characters, more than 1,000,000"),
        ({"name": "x" * 300}, "name and version of 301 characters"),
        ({"name": " \n"}, "name and version"),
        ({"training": {"deep": nested(100)}}, "nested more than 20 deep"),
        ({"training": {str(at): "y" * 100 for at in range(20_000)}}, "more than 1,000,000"),
    ],
)
def test_a_card_that_is_too_much_is_refused_in_one_sentence(changed, reason):
    with pytest.raises(GeneratorError, match=reason) as caught:
        Contract.parse(json.dumps(CONTRACT | changed), "m.onnx")
    one_sentence(caught.value)


# Stores


@pytest.fixture(scope="module")
def plan(demo, generator):
    made, _ = plan_run(
        read_aoi(demo.aoi), DateRange.parse("2020-05-05/2020-05-10"), generator, stac=str(demo.catalog)
    )
    return made


@pytest.fixture(scope="module")
def template(plan, tmp_path_factory) -> Path:
    """A store that was just begun."""
    out = tmp_path_factory.mktemp("template") / "out.zarr"
    store = prepare_store(str(out), plan.store_spec())
    store.mark(0, DONE)
    return out


@fuzzed(60)
@given(st.data())
def test_stores(plan, template, data):
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out.zarr"
        shutil.copytree(template, out)
        found = [path for path in sorted(out.rglob("*")) if path.is_file()]
        file = data.draw(st.sampled_from(found))
        body = file.read_bytes()
        changes = mutated_bytes(body)
        if file.name == "zarr.json":
            changes |= mutated(json.loads(body)).map(lambda document: json.dumps(document).encode())
        file.write_bytes(data.draw(changes))
        try:
            read_identity(str(out))
            store = prepare_store(str(out), plan.store_spec())
            assert store.read_ledger().shape == (plan.unit_count,)
            store.finish({"missing_items": []})
        except CloudganError as error:
            one_sentence(error)


def test_a_store_that_would_run_code_is_not_opened(plan, tmp_path):
    """Zarr's older format has a codec that unpickles."""
    out = tmp_path / "out.zarr"
    ran = tmp_path / "ran"

    class Trap:
        def __reduce__(self):
            return (Path.touch, (ran,))

    (out / FOLDER).mkdir(parents=True)
    (out / ".zgroup").write_text('{"zarr_format": 2}')
    (out / ".zattrs").write_text(json.dumps({"cloudgan:plan": plan.identity()}))
    shape = [plan.unit_count]
    described = {"shape": shape, "chunks": shape, "dtype": "|O", "fill_value": 0, "order": "C"}
    described |= {"zarr_format": 2, "filters": [{"id": "pickle", "protocol": 5}], "compressor": None}
    (out / FOLDER / ".zarray").write_text(json.dumps(described))
    (out / FOLDER / "0").write_bytes(pickle.dumps([Trap(), *shape]))
    with pytest.raises(StoreError, match="is no store of cloudgan's"):
        prepare_store(str(out), plan.store_spec()).read_ledger()
    assert not ran.exists()
    assert zarr.open_group(out, mode="r", zarr_format=2).attrs["cloudgan:plan"] == plan.identity()


# Messages


@fuzzed(200)
@given(
    st.sampled_from(
        ["{} was refused", "no signed URL for '{}': timeout", '"{}"', "({})", "at {}, then {}; stop", "{}"]
    ),
    st.sampled_from(
        ["https://host/a.tif", "/vsicurl/https://host/a.tif", "a.tif", "https://user:canary@host/b/a.tif"]
    ),
    st.text("abcXYZ019%-_.~+/=&,;:)", min_size=0, max_size=20),
)
def test_no_secret_of_an_address_is_told(sentence, address, signature):
    text = redacted(sentence.format(*[f"{address}?sv=1&sig=canary{signature}"] * 2))
    assert "canary" not in text
    assert "a.tif?..." in text
    assert redacted(sentence.format("is it whole?", "why?")) == sentence.format("is it whole?", "why?")

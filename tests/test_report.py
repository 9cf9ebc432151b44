"""The report of a store: what it counts, what it draws, and what it never does."""

from __future__ import annotations

import datetime as dt
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import shapely
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pyproj import Transformer
from test_products import DAYS, TALL, fill
from test_store import scene

from cloudgan.cli.app import main
from cloudgan.config import BatchConfig
from cloudgan.errors import InputError, StoreError
from cloudgan.geo.grid import Grid, Lattice, Window
from cloudgan.io.store.store import make_root_group, prepare_store
from cloudgan.products.reader import StoreReader
from cloudgan.report import charts, colours, content, images, overview
from cloudgan.report.area import draw_area
from cloudgan.report.page import choose_path, write_report
from cloudgan.schema import MaskSource, Provenance


@pytest.fixture(scope="module")
def out(tmp_path_factory) -> Path:
    """A finished store of several shards."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cloudgan.io.store.fence._sync", lambda path: None)
        path = tmp_path_factory.mktemp("report") / "out.zarr"
        fill(str(path))
    return path


@pytest.fixture(scope="module")
def page(out) -> str:
    return write_report(str(out), command="cloudgan-batch --aoi 'a field.geojson'").read_text()


@pytest.fixture
def raw(out) -> xr.Dataset:
    return xr.open_zarr(out)


def read(out: Path, step: int = 1) -> overview.Overview:
    return overview.read_overview(StoreReader.open(str(out)), 1, step, ["green", "red", "nir"])


class Elements(HTMLParser):
    """The elements of a page, their attributes, and whether they are closed in order."""

    VOID = frozenset({"meta", "input", "img", "link", "br"})
    DRAWN = frozenset({"line", "circle", "polygon", "polyline", "rect", "image", "path"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


# Overviews


@given(
    hnp.arrays(
        np.float32, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.floats(0, 1, width=32)
    ),
    st.integers(1, 5),
)
def test_a_cell_is_the_mean_of_its_pixels(values, step):
    made = overview.average_cells(values, step)
    for row, col in np.ndindex(*made.shape):
        inside = values[row * step : (row + 1) * step, col * step : (col + 1) * step]
        np.testing.assert_allclose(made[row, col], inside.mean(), rtol=1e-4, atol=1e-6)


@given(
    hnp.arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.integers(0, 5)),
    st.integers(1, 5),
)
def test_shares_of_a_cell_are_those_of_its_pixels(numbers, step):
    made = overview.share_cells(numbers, 5, step)
    for number, row, col in np.ndindex(*made.shape):
        inside = numbers[row * step : (row + 1) * step, col * step : (col + 1) * step]
        assert made[number, row, col] == pytest.approx((inside == number).mean())


def test_what_is_unknown_is_left_out_of_a_mean():
    values = np.array([[1, np.nan], [3, np.nan], [np.nan, np.nan]], np.float32)
    np.testing.assert_array_equal(overview.average_cells(values, 2), [[2], [np.nan]])


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 7), st.integers(4, 16))
def test_blocks_hold_every_cell_once(height, width, step, block):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(overview, "BLOCK", block)
        seen = np.zeros((-(-height // step), -(-width // step)), int)
        for window, place in overview.cut_cells(Window(5, -3, height, width), step):
            seen[place] += 1
            assert max(window.shape) <= max(block, step)
            assert seen[place].shape == tuple(-(-length // step) for length in window.shape)
    assert (seen == 1).all()


def test_figures_are_those_of_all_pixels(out, raw):
    kinds = raw["provenance"].values[1]
    made = read(out, step=3).figures
    assert made.pixels == {kind.name.lower(): int((kinds == kind).sum()) for kind in Provenance}
    assert made.masked["scl"] == int((kinds != Provenance.OBSERVED).sum())
    red, nir, error = (raw[name].values[1].astype(float) for name in ("red", "nir", "uncertainty"))
    ndvi = (nir - red) / (nir + red)
    observed, generated = kinds == Provenance.OBSERVED, kinds == Provenance.GENERATED
    assert made.ndvi_observed == pytest.approx(np.nanmean(ndvi[observed]), rel=1e-5)
    assert made.ndvi_generated == pytest.approx(np.nanmean(ndvi[generated]), rel=1e-5)
    assert made.ndvi == pytest.approx(np.nanmean(ndvi[observed | generated]), rel=1e-5)
    assert made.uncertainty == pytest.approx(np.nanmean(error[generated]), rel=1e-5)
    # What the error of each band does to NDVI, by finite differences.
    step = 1e-6
    by_nir = (((nir + step) - red) / ((nir + step) + red) - ndvi) / step
    by_red = ((nir - (red + step)) / (nir + (red + step)) - ndvi) / step
    errors = np.where(generated, np.hypot(by_nir, by_red) * error, 0)[observed | generated]
    assert made.ndvi_error == pytest.approx(np.nanmean(np.clip(errors, 0, 2)), rel=1e-3)


def test_figures_do_not_depend_on_blocks_and_cells(out, monkeypatch):
    whole = read(out).figures
    monkeypatch.setattr(overview, "BLOCK", 16)
    again = read(out, step=4).figures
    assert again.pixels == whole.pixels
    assert again.ndvi == pytest.approx(whole.ndvi)
    assert again.ndvi_error == pytest.approx(whole.ndvi_error)


def test_no_more_is_read_at_once_than_a_block(out, monkeypatch):
    monkeypatch.setattr(overview, "BLOCK", 20)
    largest = 0
    reader_read = StoreReader.read

    def measure(self, name, at, window, every=1):
        nonlocal largest
        largest = max(largest, window.height * window.width)
        return reader_read(self, name, at, window, every)

    monkeypatch.setattr(StoreReader, "read", measure)
    read(out, step=5)
    assert 0 < largest <= 20 * 20


@pytest.mark.parametrize(
    ("source", "name"),
    [
        (0, "observed"),
        (MaskSource.SCL, "scl"),
        (MaskSource.SCL | MaskSource.BUFFER, "scl"),
        (MaskSource.SCL | MaskSource.CSMASK, "several"),
        (MaskSource.BUFFER, "buffer"),
        (MaskSource.NO_DATA | MaskSource.SCL, "no_data"),
    ],
)
def test_a_pixel_has_one_class_of_who_masked_it(source, name):
    assert overview.MASKED_BY[overview.CLASS_OF[int(source)]] == name


# The map


def test_the_map_draws_the_area_of_interest_with_its_holes():
    """A square from the middle of the grid to its corner, with a hole, on a map of 560 pixels."""
    grid = Grid(Lattice(32633, 10.0), Window(-500_000, 40_000, 100, 100))
    west, south, east, north = grid.bounds
    middle = (west + east) / 2, (south + north) / 2
    inside = shapely.box(*middle, east, north).difference(shapely.Point(*middle).buffer(200))
    to_degrees = Transformer.from_crs(32633, 4326, always_xy=True).transform
    outline = shapely.transform(inside, lambda x, y: to_degrees(x, y), interleaved=False)
    holed = shapely.transform(
        shapely.box(west, south, east, north).difference(shapely.Point(*middle).buffer(200)),
        lambda x, y: to_degrees(x, y),
        interleaved=False,
    )
    drawn = draw_area(grid, "data:,", "map", outline.wkt)
    (path,) = re.findall(r'<path class="aoi" d="([^"]*)"', drawn)
    numbers = np.array([point.split() for point in re.findall(r"[\d.]+ [\d.]+", path)], float)
    np.testing.assert_allclose(numbers.max(0), (560, 280), atol=0.2)
    np.testing.assert_allclose(numbers.min(0), (280, 0), atol=0.2)
    assert draw_area(grid, "data:,", "map", holed.wkt).count("Z") == 2
    assert "aoi" not in draw_area(grid, "data:,", "map")


# Colours and pictures


def test_colours_are_what_the_bands_allow():
    assert [one.key for one in colours.find_composites(("blue", "green", "red", "nir"))] == ["true", "false"]
    assert [one.key for one in colours.find_composites(("green", "red", "nir"))] == ["false"]
    assert [one.key for one in colours.find_composites(("swir16", "swir22"))] == ["grey"]
    assert colours.find_composites(("blue", "green", "swir16"))[0].bands == ("swir16", "green", "blue")


def test_brightness_is_the_same_on_all_dates_and_no_data_is_transparent(out):
    one = read(out)
    stretch = colours.Stretch.estimate([one])
    (composite,) = colours.find_composites(("green", "red", "nir"))
    made = stretch.render(one, composite)
    assert made.shape == (*TALL.grid.shape, 4)
    empty = np.isnan(one.bands["red"])
    np.testing.assert_array_equal(made[..., 3] == 0, empty)
    low, high = stretch.limits["nir"]
    assert (made[..., 0][one.bands["nir"] <= low] == 0).all()
    assert (made[..., 0][one.bands["nir"] >= high] == 255).all()


@pytest.mark.parametrize("limit", [400_000, 20_000, 4_000])
def test_a_picture_keeps_to_its_weight(limit):
    noise = np.random.default_rng(0).integers(0, 255, (300, 400, 4)).astype(np.uint8)
    for opaque in (True, False):
        noise[..., 3] = 255 if opaque else np.where(noise[..., 0] > 90, 255, 0)
        uri = images.encode_picture(noise, limit)
        assert len(uri) * 0.75 <= limit * 1.02
        assert uri.startswith("data:image/")
    classes = noise[..., 0] % 5
    assert len(images.encode_classes(classes, colours.PROVENANCE_COLOURS, limit)) * 0.75 <= limit * 1.02


# Charts


@given(st.lists(st.dates(dt.date(1999, 1, 1), dt.date(2050, 1, 1)), min_size=1, max_size=30, unique=True))
def test_a_chart_holds_all_dates_and_few_labels(days):
    days.sort()
    points = [charts.SeriesPoint(day, 0.5, 0.5, None, 0.1) for day in days]
    drawn = charts.draw_series(points, "NDVI")
    assert drawn.count("<circle") == len(days)
    assert len(re.findall(r'<text class="tick"', drawn)) < 24
    places = charts.place_dates(days)
    assert places == sorted(places)
    assert all(charts.LEFT <= place <= charts.WIDTH for place in places)


def test_a_chart_without_values_is_none():
    assert charts.draw_series([charts.SeriesPoint(dt.date(2020, 1, 1), None, None, None, 0)], "NDVI") == ""


# The page


def test_the_page_is_beside_the_store_and_holds_all_dates(out, page):
    assert (out.parent / "out.html").is_file()
    for day in DAYS:
        assert f"2020-04-{day:02d}" in page
    for at in range(len(DAYS)):
        text = re.search(rf'id="pictures-0-{at}">(.*?)</script>', page, re.S)[1]
        assert set(json.loads(text)) == {"false", "provenance", "source", "uncertainty"}
    for title in ("Vegetation over time", "Clouds over time", "The area", "Command and versions"):
        assert f"<h2>{title}</h2>" in page
    assert "cloudgan-batch --aoi &#x27;a field.geojson&#x27;" in page
    assert "{{" not in page


def test_the_page_is_well_formed_and_refers_to_nothing_else(page):
    elements = Elements(page)
    assert elements.open == []
    names = [attributes["id"] for _, attributes in elements.found if "id" in attributes]
    assert len(names) == len(set(names))
    for tag, attributes in elements.found:
        for name in ("src", "href", "xlink:href", "action", "srcset"):
            value = attributes.get(name) or "#"
            assert value.startswith(("data:", "#")), (tag, value[:80])
    policy = next(a["content"] for tag, a in elements.found if a.get("http-equiv"))
    assert policy.startswith("default-src 'none'")
    assert not re.search(r"https?://", re.sub(r"data:[^\"')]*", "", page).replace("http://www.w3.org", ""))


def test_what_a_store_says_is_text(tmp_path):
    """Ids of items are a catalogue's, and a catalogue is somebody else's."""
    evil = "</script><script>alert(1)</script>{{data}}"
    bad = replace(scene(3), items=tuple(replace(item, id=evil) for item in scene(3).items))
    plan = replace(TALL, scenes=(bad,), written=(0,))
    fill(str(tmp_path / "out.zarr"), plan)
    text = write_report(str(tmp_path / "out.zarr")).read_text()
    assert "<script>alert" not in text
    assert Elements(text).open == []
    data = re.search(r'id="data">(.*?)</script>', text, re.S)[1]
    assert json.loads(data)[0]["dates"][0]["items"][0] == evil.split()[0]


def test_a_hazy_date_says_so(tmp_path):
    out = tmp_path / "out.zarr"
    fill(str(out))
    first, second = (str(day) for day in xr.open_zarr(out)["time"].values[:2].astype("datetime64[D]"))
    dates = {first: {"hazy": True}, second: {"hazy": False}}
    (out / "spatial_ref" / "cloudgan" / "report.json").write_text(json.dumps({"dates": dates}))
    data = json.loads(re.search(r'id="data">(.*?)</script>', write_report(str(out)).read_text(), re.S)[1])
    hazy = [date["day"] for date in data[0]["dates"] if "haze" in dict(date["facts"])]
    assert hazy == [first]


def test_what_failed_and_the_score_are_shown(tmp_path):
    out = tmp_path / "out.zarr"
    fill(str(out))
    path = out / "spatial_ref" / "cloudgan" / "report.json"
    score = {"psnr": 30.0, "mae": 0.01, "ssim": 0.9, "sam": 2.0}
    run = {
        "failed": [{"unit": 3, "dates": ["2020-04-03", "2020-04-08"], "reason": "its <file> is gone"}],
        "missing_items": ["S2A_LOST"],
        "seconds": 7300,
        "worker_seconds": {"read": 5.0, "generate": 200.0},
        "pixels": 5_000_000,
        "score": {
            "model": "mean 1.0",
            "methods": {"mean": score, "linear": score | {"mae": 0.02}},
            "verdict": "mean is closer",
        },
    }
    path.write_text(json.dumps(run))
    text = write_report(str(out)).read_text()
    for wanted in ("its &lt;file&gt; is gone", "S2A_LOST", "Mean is closer.", "3.3 min", "2.0 h", "0.0200"):
        assert wanted in text, wanted


def test_an_unfinished_store_says_what_is_pending(tmp_path):
    prepare_store(str(tmp_path / "out.zarr"), TALL.store_spec())
    text = write_report(str(tmp_path / "out.zarr")).read_text()
    assert "6 of 6 work units are not done" in text
    assert "No pixel has data" in text


def test_zones_have_a_choice_and_sections_each(tmp_path):
    make_root_group(str(tmp_path / "zones.zarr"), ["utm32n", "utm33n", "utm34n"])
    for name in ("utm32n", "utm33n"):
        fill(str(tmp_path / "zones.zarr" / name))
    text = write_report(str(tmp_path / "zones.zarr"), tmp_path / "new" / "page.html").read_text()
    assert re.findall(r"<option [^>]*>(\w+)</option>", text) == ["utm32n", "utm33n"]
    assert text.count('<div class="zone"') == 2
    assert 'id="pictures-1-4"' in text


def test_500_dates_stay_light_and_are_read_one_by_one(tmp_path, monkeypatch):
    """Of noise, which no format makes small."""
    monkeypatch.setattr("cloudgan.io.store.fence._sync", lambda path: None)
    out = tmp_path / "out.zarr"
    many = 40
    grid = Grid(Lattice(32633, 10.0), Window(0, 40_000, 256, 256))
    first = dt.date(2020, 1, 1)
    scenes = tuple(replace(scene(3), date=first + dt.timedelta(days=5 * at)) for at in range(many))
    plan = replace(TALL, grid=grid, scenes=scenes, written=tuple(range(many)), block=256)
    fill(str(out), plan)
    monkeypatch.setattr(content, "WEIGHT", content.WEIGHT * many // 500)
    path = write_report(str(out))
    assert path.stat().st_size < 30e6 * many / 500 + 300_000
    assert path.read_text().count('id="pictures-0-') == many


def test_what_is_no_store_and_no_file_is_refused(out, tmp_path):
    with pytest.raises(StoreError, match=r"^there is no store at .*none\.zarr; give the --out of a run$"):
        write_report(str(tmp_path / "none.zarr"))
    with pytest.raises(InputError, match=r"is a folder, and a report is a file; give a name such as"):
        write_report(str(out), tmp_path)
    with pytest.raises(InputError, match=r"is an object store, and a report is a file on a disk"):
        write_report(str(out), "s3://bucket/report.html")


def test_a_report_of_a_bucket_lies_in_the_working_directory():
    assert choose_path("s3://bucket/some/field.zarr") == Path("field.html")
    assert choose_path("demo/out.zarr") == Path("demo/out.html")


def test_the_command_prints_the_file_alone(out, tmp_path, capsys):
    main_exits = pytest.raises(SystemExit)
    with main_exits as end:
        main(["report", str(out), "--out", str(tmp_path / "page.html")])
    assert end.value.code in (0, None)
    assert capsys.readouterr().out == f"{tmp_path / 'page.html'}\n"


def test_a_run_says_its_own_command_without_secrets():
    config = BatchConfig(
        aoi="a field.geojson",
        dates="2020",
        stac="https://me:secret@api.org/v1?token=abc",
        report=True,
        workers=2,
    )
    command = config.as_command()
    assert command.startswith("cloudgan-batch --aoi 'a field.geojson' --dates 2020 --stac ")
    assert command.endswith("--workers 2 --report")
    assert "secret" not in command
    assert "abc" not in command

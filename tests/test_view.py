"""The live view without its server: tiles, what the page is told, and what is refused."""

from __future__ import annotations

import hashlib
import io
import tomllib
from dataclasses import replace
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from test_products import TALL, fill
from test_store import quick_disk  # noqa: F401 - a fixture

from cloudgan.cli.app import main
from cloudgan.errors import StoreError
from cloudgan.geo.grid import Grid, Lattice, Window
from cloudgan.io.store.store import make_root_group
from cloudgan.products.reader import StoreReader
from cloudgan.report import colours
from cloudgan.schema import Provenance
from cloudgan.view import tiles
from cloudgan.view.server import is_loopback
from cloudgan.view.site import View, open_views
from cloudgan.view.tiles import EDGE, LAYERS, AbandonedError, Painter, Tile, count_levels


@pytest.fixture(scope="module")
def out(tmp_path_factory) -> Path:
    """A finished store of several shards."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cloudgan.io.store.fence._sync", lambda path: None)
        path = tmp_path_factory.mktemp("view") / "out.zarr"
        fill(str(path))
    return path


@pytest.fixture(scope="module")
def view(out) -> View:
    (view,) = open_views(str(out))
    return view


@pytest.fixture
def raw(out) -> xr.Dataset:
    return xr.open_zarr(out)


def paint(view: View, content: str, state: tiles.State = "declouded", level: int = 0) -> np.ndarray:
    """The first tile of a level."""
    body = view.painter.paint(1, content, state, Tile(level, 0, 0))
    assert body is not None
    return np.asarray(Image.open(io.BytesIO(body)).convert("RGBA"))


# Tiles


def test_a_pixel_of_the_store_is_a_pixel_of_the_map(view, raw):
    """Beyond the grid a tile is transparent; within it, the brightest band is the store's largest value."""
    drawn = paint(view, "false")
    height, width = TALL.grid.shape
    assert drawn.shape == (EDGE, EDGE, 4)
    assert (drawn[height:, :, 3] == 0).all()
    assert (drawn[:, width:, 3] == 0).all()
    inside = drawn[:height, :width]
    nir = raw["nir"].values[1]
    np.testing.assert_array_equal(inside[..., 3] > 0, np.isfinite(nir))
    assert inside[..., 0][nir >= view.painter.stretch.limits["nir"][1]].min() == 255


def test_before_shows_what_was_observed_alone_and_with_the_same_colours(view, raw):
    height, width = TALL.grid.shape
    before, after = (paint(view, "false", state)[:height, :width] for state in tiles.STATES[::-1])
    observed = raw["provenance"].values[1] == Provenance.OBSERVED
    np.testing.assert_array_equal(before[..., 3] > 0, observed & (after[..., 3] > 0))
    np.testing.assert_array_equal(before[observed], after[observed])


def test_an_index_is_coloured_by_its_values(view, raw):
    height, width = TALL.grid.shape
    red, nir = (raw[name].values[1].astype(float) for name in ("red", "nir"))
    low, high = view.painter.stretch.limits["ndvi"]
    shade = 1 + np.rint(254 * np.clip(((nir - red) / (nir + red) - low) / (high - low), 0, 1))
    expected = np.array(colours.INDEX_COLOURS)[np.nan_to_num(shade).astype(int)]
    drawn = paint(view, "ndvi")[:height, :width]
    known = np.isfinite(shade)
    np.testing.assert_allclose(drawn[known], expected[known], atol=2)  # float32 at the edge of two shades
    assert (drawn[~known][:, 3] == 0).all()


def test_provenance_has_its_colours(view, raw):
    height, width = TALL.grid.shape
    drawn = paint(view, "provenance")[:height, :width]
    expected = np.array(colours.PROVENANCE_COLOURS)[raw["provenance"].values[1]]
    shown = expected[..., 3] > 0
    np.testing.assert_array_equal(drawn[..., 3] > 0, shown)
    np.testing.assert_array_equal(drawn[shown], expected[shown])


@pytest.mark.parametrize("name", LAYERS)
def test_uncertain_and_masked_places_are_tinted_alone(view, raw, name):
    height, width = TALL.grid.shape
    tinted = paint(view, name)[:height, :width, 3] > 0
    assert not (tinted & (raw["provenance"].values[1] == Provenance.OBSERVED)).any()
    assert tinted.any()


def test_a_coarser_tile_shows_means(view, raw):
    height, width = TALL.grid.shape
    drawn = paint(view, "ndvi", level=2)
    rows, cols = -(-height // 4), -(-width // 4)
    assert (drawn[rows:, :, 3] == 0).all()
    assert (drawn[:, cols:, 3] == 0).all()
    red, nir = (raw[name].values[1, :4, :4].astype(float) for name in ("red", "nir"))
    low, high = view.painter.stretch.limits["ndvi"]
    mean = np.nanmean((nir - red) / (nir + red))
    shade = int(1 + np.rint(254 * np.clip((mean - low) / (high - low), 0, 1)))
    np.testing.assert_allclose(drawn[0, 0], colours.INDEX_COLOURS[shade], atol=2)


def test_a_cell_of_many_pixels_shows_some_of_them_evenly(view, raw):
    """A cell of level 5 has 32 x 32 pixels: one in four rows and columns counts."""
    drawn = paint(view, "ndvi", level=5)
    red, nir = (raw[name].values[1, :32:4, :32:4].astype(float) for name in ("red", "nir"))
    low, high = view.painter.stretch.limits["ndvi"]
    mean = np.nanmean((nir - red) / (nir + red))
    shade = int(1 + np.rint(254 * np.clip((mean - low) / (high - low), 0, 1)))
    np.testing.assert_allclose(drawn[0, 0], colours.INDEX_COLOURS[shade], atol=2)


@given(
    st.integers(1, 3000), st.integers(1, 3000), st.integers(-50, 50), st.integers(-50, 50), st.integers(0, 4)
)
def test_tiles_cover_a_grid_once(height, width, row, col, level):
    grid = Grid(Lattice(32633, 10.0), Window(row, col, height, width))
    edge = EDGE << level
    counts = -(-height // edge), -(-width // edge)
    seen = 0
    for place in np.ndindex(*counts):
        window = Tile(level, *place).window_in(grid)
        seen += window.height * window.width
        assert max(window.shape) <= edge
    assert seen == height * width
    assert Tile(level, counts[0], 0).window_in(grid) is None
    assert Tile(level, 0, counts[1]).window_in(grid) is None


@given(st.integers(1, 200_000), st.integers(1, 200_000))
def test_the_coarsest_level_shows_a_grid_in_few_tiles(height, width):
    assert max(height, width) / 2 ** count_levels((height, width)) <= 512


def test_no_more_is_held_than_a_block_and_what_nobody_waits_for_ends(view, monkeypatch):
    monkeypatch.setattr("cloudgan.report.overview.BLOCK", 20)
    largest, calls = 0, 0
    read = StoreReader.read

    def measure(self, name, at, window, every=1):
        nonlocal largest
        largest = max(largest, window.height * window.width)
        return read(self, name, at, window, every)

    def check():
        nonlocal calls
        calls += 1
        if calls > 3:
            raise AbandonedError

    monkeypatch.setattr(StoreReader, "read", measure)
    with pytest.raises(AbandonedError):
        view.painter.paint(1, "false", "observed", Tile(0, 0, 0), check)
    assert calls == 4
    assert 0 < largest <= 20 * 20


def test_what_a_store_does_not_have_is_not_drawn(view):
    with pytest.raises(KeyError):
        view.painter.paint(1, "true", "declouded", Tile(0, 0, 0))
    assert view.painter.paint(1, "false", "declouded", Tile(0, 7, 7)) is None


def test_a_large_store_is_opened_by_few_of_its_pixels():
    places = tiles._choose_lines(10_980)
    assert len(places) == 4 * 128
    assert (places[0], places[-1]) == (0, 10_979)
    assert len(tiles._choose_lines(300)) == 300


# What the page is told


def test_the_page_knows_dates_pictures_and_place(view):
    told = view.describe()
    assert [one["day"] for one in told["dates"]] == [str(day) for day in view.reader.days]
    assert [key for key, *_ in told["pictures"]] == ["false", "ndvi", "ndwi"]
    assert told["size"] == [50, 70]
    assert told["corner"] == [TALL.grid.bounds[0], TALL.grid.bounds[3]]
    assert "generated" in told["legends"]["provenance"]


def test_the_curve_of_a_pixel_tells_observed_from_generated(view, raw):
    row, col = 11, 7
    drawn = view.draw_curve(row, col)
    kinds = raw["provenance"].values[:, row, col]
    has_value = np.isfinite(raw["red"].values[:, row, col])
    assert drawn.count("<circle") == (has_value & (kinds == Provenance.OBSERVED)).sum()
    assert drawn.count('class="generated"') == (has_value & (kinds == Provenance.GENERATED)).sum()
    with pytest.raises(KeyError):
        view.draw_curve(70, 0)


def test_zones_are_views(tmp_path, quick_disk):  # noqa: F811 - a fixture
    make_root_group(str(tmp_path / "zones.zarr"), ["utm32n", "utm33n"])
    fill(str(tmp_path / "zones.zarr" / "utm33n"), replace(TALL, written=(0, 1), scenes=TALL.scenes[:2]))
    assert [view.name for view in open_views(str(tmp_path / "zones.zarr"))] == ["utm33n"]


# What is refused


def test_what_is_no_store_is_refused_in_one_sentence(tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["view", str(tmp_path / "none.zarr")])
    said = capsys.readouterr()
    assert said.out == ""
    assert "there is no store at" in said.err
    assert "Traceback" not in said.err


def test_a_damaged_store_is_refused(out, tmp_path):
    (tmp_path / "out.zarr").mkdir()
    (tmp_path / "out.zarr" / "zarr.json").write_bytes((out / "zarr.json").read_bytes())
    with pytest.raises(StoreError):
        Painter.prepare(StoreReader.open(str(tmp_path / "out.zarr")))


@pytest.mark.parametrize(("port", "status"), [("65536", 2), ("-1", 2), ("none", 2)])
def test_what_is_no_port_is_refused(port, status, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["view", "out.zarr", "--port", port])
    assert ended.value.code == status


@pytest.mark.parametrize(
    ("host", "own"),
    [("127.0.0.1", True), ("localhost", True), ("::1", True), ("127.9.9.9", True), ("0.0.0.0", False),
     ("192.168.1.2", False), ("example.org", False), ("", False)],
)  # fmt: skip
def test_loopback_is_told_from_the_rest(host, own):
    assert is_loopback(host) is own


# What is vendored


def test_leaflet_is_the_release_as_it_was_published():
    """A changed file would be a fork; the licence goes with it, and the package says so."""
    folder = resources.files("cloudgan.view") / "leaflet"
    digests = {
        "leaflet.js": "db49d009c841f5ca34a888c96511ae936fd9f5533e90d8b2c4d57596f4e5641a",
        "leaflet.css": "a7837102824184820dfa198d1ebcd109ff6d0ff9a2672a074b9a1b4d147d04c6",
    }
    for name, digest in digests.items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest
    assert "Redistribution and use" in (folder / "LICENSE").read_text()
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
    assert project["license"] == "CC0-1.0 AND BSD-2-Clause"
    assert "cloudgan/view/leaflet/LICENSE" in project["license-files"]

"""From a request to a plan, over catalogues that are nothing but metadata."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from pyproj import Transformer
from shapely.geometry import box, mapping

from cloudgan.aoi import Aoi
from cloudgan.dates import DateRange
from cloudgan.errors import CatalogError, InputError
from cloudgan.planning import plan_run

SPAN = DateRange.parse("2023-08")


def item(name: str, epsg: int, west: float, north: float, *, size: int = 10980, metres: float = 10) -> dict:
    """An item as Earth Search has them; its frame is also its footprint."""
    edge = size * metres
    bounds = Transformer.from_crs(epsg, 4326, always_xy=True).transform_bounds(
        west, north - edge, west + edge, north
    )
    west_lon, south, east_lon, top = bounds
    outline = box(*bounds) if west_lon < east_lon else box(west_lon, south, 180, top)
    frame = {"proj:shape": [size, size], "proj:transform": [metres, 0, west, 0, -metres, north]}
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": name,
        "geometry": mapping(outline),
        "bbox": list(outline.bounds),
        "links": [],
        "collection": "sentinel-2-l2a",
        "properties": {
            "datetime": "2023-08-15T10:00:00Z",
            "proj:epsg": epsg,
            "eo:cloud_cover": 5,
            "s2:processing_baseline": "05.09",
            "earthsearch:boa_offset_applied": True,
        },
        "assets": {band: {"href": f"{name}/{band}.tif"} | frame for band in ("green", "red", "nir", "scl")},
    }


@pytest.fixture
def plan(tmp_path, generator):
    """Plan a run over an area of these items."""

    def make(area, items, dates=SPAN, **options):
        catalog = tmp_path / "items.json"
        catalog.write_text(json.dumps({"type": "FeatureCollection", "features": items}))
        return plan_run(Aoi(area), dates, generator, stac=str(catalog), **options)

    return make


def test_an_area_at_the_edge_of_its_zone_takes_the_zone_that_shows_it(plan):
    """A zone-33 item lies in the search margin alone; the area is seen by zone 32."""
    seen = item("in", 32632, 690_000, 5_250_000, size=2000)
    lon, lat = Transformer.from_crs(32632, 4326, always_xy=True).transform(709_000, 5_240_000)
    area = box(lon - 0.004, lat - 0.004, lon + 0.004, lat + 0.004)
    x, y = Transformer.from_crs(4326, 32633, always_xy=True).transform(lon + 0.006, lat)
    beside = item("beside", 32633, x, y + 500, size=100)
    made, _ = plan(area, [seen, beside])
    assert made.grid.epsg == 32632
    assert [one.id for scene in made.scenes for one in scene.items] == ["in"]


def test_items_in_the_margin_alone_are_read_but_make_no_dates(plan):
    area = box(15.5, 46.4, 15.505, 46.404)
    x, y = Transformer.from_crs(4326, 32633, always_xy=True).transform(15.5, 46.404)
    here = item("here", 32633, x - 20_000, y + 20_000, size=4000)
    beside = item("beside", 32633, x + 500, y + 200, size=100)
    beside["properties"]["datetime"] = "2023-08-17T10:00:00Z"
    made, _ = plan(area, [here, beside])
    assert [str(scene.date) for scene in made.scenes] == ["2023-08-15", "2023-08-17"]
    assert made.written == (0,)
    with pytest.raises(CatalogError, match="lie beside the AOI, not in it"):
        plan(area, [beside])


def on_days(*instants: str) -> list[dict]:
    """The same place on each of these."""
    items = []
    for instant in instants:
        one = item(f"on {instant}", 32633, 499_980, 5_200_020)
        one["properties"]["datetime"] = instant if "T" in instant else f"{instant}T10:00:00Z"
        items.append(one)
    return items


FIELD = box(15.5, 46.4, 15.52, 46.42)


@pytest.mark.parametrize(
    ("context_days", "read", "written"), [(0, 2, (0, 1)), (1, 4, (1, 2)), (30, 6, (2, 3))]
)
def test_dates_around_the_span_are_read_and_not_written(plan, context_days, read, written):
    days = ("2023-07-02", "2023-07-31", "2023-08-01", "2023-08-31", "2023-09-01", "2023-09-30")
    made, _ = plan(FIELD, on_days("2023-07-01", *days, "2023-10-01"), context_days=context_days)
    assert len(made.scenes) == read
    assert made.written == written
    assert made.summary()["dates"] == ["2023-08-01", "2023-08-31"]


def test_what_was_read_around_the_span_is_part_of_the_plan(plan):
    items = on_days("2023-07-31", "2023-08-15")
    alone, beside, far = (plan(FIELD, items, context_days=days)[0] for days in (0, 30, 60))
    assert alone.digest() != beside.digest() == far.digest()


def test_context_alone_is_no_plan(plan):
    with pytest.raises(CatalogError, match=r"no items for 2023-08 in this AOI; 1 exists .*: widen --dates"):
        plan(FIELD, on_days("2023-07-31"))


def test_a_day_that_a_timestamp_cuts_keeps_what_is_within(plan):
    early, late = on_days("2023-08-15T10:00:00Z", "2023-08-15T10:05:00Z")
    made, _ = plan(FIELD, [early, late], dates=DateRange.parse("2023-08-15T10:01:00Z/2023-08-20T00:00:00Z"))
    assert [one.id for scene in made.scenes for one in scene.items] == [late["id"]]
    assert made.written == (0,)


def test_an_area_at_the_antimeridian_does_not_search_the_whole_globe(plan):
    near = item("near", 32660, 780_000, 5_250_000, size=4000)
    far = item("far", 32630, 600_000, 5_250_000)
    lon, lat = Transformer.from_crs(32660, 4326, always_xy=True).transform(783_000, 5_240_000)
    made, _ = plan(box(lon, lat, lon + 0.01, lat + 0.005), [near, far])
    assert [one.id for scene in made.scenes for one in scene.items] == ["near"]


def test_a_part_that_no_scene_shows_is_noticed(plan):
    x, y = Transformer.from_crs(4326, 32633, always_xy=True).transform(15.5, 46.4)
    half = item("half", 32633, x, y + 10_000, size=2000)
    _, notices = plan(box(15.48, 46.38, 15.52, 46.42), [half])
    assert any("of the AOI lies outside the scenes found in EPSG:32633" in notice for notice in notices)


def test_an_area_far_beyond_its_zone_is_refused(plan):
    with pytest.raises(InputError, match=r"far beyond UTM zone 33 .*; cut it into one AOI a zone"):
        plan(box(5, 46, 25, 47), [])


@pytest.mark.parametrize("resolution", [10, 20, 120])
def test_the_lattice_does_not_depend_on_which_tiles_an_area_touches(plan, resolution):
    """Two MGRS tiles whose origins differ by 40 m modulo 60."""
    west = item("west", 32633, 499_980, 5_200_020)
    east = item("east", 32633, 600_000, 5_200_020)
    to_lonlat = Transformer.from_crs(32633, 4326, always_xy=True)
    one = to_lonlat.transform(550_000, 5_150_000)
    two = to_lonlat.transform(605_000, 5_150_000)
    plans = [
        plan(box(lon, lat, lon + 0.02, lat + 0.02), [west, east], resolution=resolution)[0]
        for lon, lat in (one, two)
    ]
    assert [len(made.scenes[0].items) for made in plans] == [1, 2]
    assert plans[0].grid.lattice == plans[1].grid.lattice


def test_the_sources_own_phase_is_kept_at_their_own_resolution(plan):
    coarse = item("coarse", 32633, 499_980, 5_200_020, size=915, metres=120)
    made, _ = plan(box(15.5, 46.4, 15.6, 46.5), [coarse], resolution=120)
    assert (made.grid.lattice.phase_x, made.grid.lattice.phase_y) == (60, 60)


def test_a_plan_is_the_same_for_the_same_request(plan):
    items = [item("here", 32633, 499_980, 5_200_020)]
    first, _ = plan(box(15.5, 46.4, 15.6, 46.5), items)
    second, _ = plan(box(15.5, 46.4, 15.6, 46.5), items)
    assert first == second
    assert first.digest() == second.digest()
    assert first.digest() != replace(first, reach=first.reach + 1).digest()

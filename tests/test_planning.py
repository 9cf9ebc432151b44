"""From a request to a plan, over catalogues that are nothing but metadata."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import shapely
from pyproj import Transformer
from shapely.geometry import box, mapping

from cloudgan.errors import CatalogError, InputError
from cloudgan.geo.aoi import Aoi, parse_aoi
from cloudgan.planning.planner import plan_run, plan_zones
from cloudgan.sentinel2.dates import DateRange

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
    """A zone-33 item lies in the search margin alone; zone 32 shows the area."""
    within = item("in", 32632, 690_000, 5_250_000, size=2000)
    lon, lat = Transformer.from_crs(32632, 4326, always_xy=True).transform(709_000, 5_240_000)
    area = box(lon - 0.004, lat - 0.004, lon + 0.004, lat + 0.004)
    x, y = Transformer.from_crs(4326, 32633, always_xy=True).transform(lon + 0.006, lat)
    beside = item("beside", 32633, x, y + 500, size=100)
    made, _ = plan(area, [within, beside])
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
    _, warnings = plan(box(15.48, 46.38, 15.52, 46.42), [half])
    assert any(
        "of the AOI lies outside the scenes found and stays without data" in warning for warning in warnings
    )


@pytest.mark.parametrize(("south", "north"), [(83, 84.5), (-80.2, -79)])
def test_an_area_beyond_the_mapped_latitudes_is_refused(plan, south, north):
    with pytest.raises(InputError, match=r"Sentinel-2 is mapped from -80 to 84; leave out what lies beyond"):
        plan(box(10, south, 11, north), [])


# Several zones


def tile_of(epsg: int, lon: float, lat: float) -> dict:
    """An item of a zone around a place, large enough for the tests."""
    x, y = Transformer.from_crs(4326, epsg, always_xy=True).transform(lon, lat)
    return item(f"{epsg}", epsg, round(x, -3) - 60_000, round(y, -3) + 60_000, size=12_000)


@pytest.fixture
def zones(tmp_path, generator):
    """Plans of an area in each of its zones."""

    def make(area, items, **options):
        catalog = tmp_path / "items.json"
        catalog.write_text(json.dumps({"type": "FeatureCollection", "features": items}))
        return plan_zones(Aoi(area), SPAN, generator, stac=str(catalog), **options)[0]

    return make


BORDER = [tile_of(32632, 12, 46), tile_of(32633, 12, 46)]


def test_an_area_over_two_zones_is_cut_where_they_meet(zones):
    area = box(11.95, 45.95, 12.03, 46.05)
    plans = zones(area, BORDER)
    assert list(plans) == ["utm32n", "utm33n"]
    for name, west, east in (("utm32n", 11.95, 12), ("utm33n", 12, 12.03)):
        alone = zones(box(west, 45.95, east, 46.05), BORDER)
        assert list(alone) == [""]
        assert alone[""] == plans[name]
        assert {scene.epsg for scene in plans[name].scenes} == {plans[name].grid.epsg}


def test_fields_are_planned_as_if_each_were_alone(zones):
    fields = [box(11.9, 46, 11.91, 46.01), box(11.98, 45.9, 11.99, 45.91), box(12.01, 46, 12.02, 46.01)]
    plans = zones(shapely.union_all(fields), BORDER)
    assert [len(plan.parts) for plan in plans.values()] == [2, 0]
    windows = [*plans["utm32n"].parts, plans["utm33n"].grid.window]
    alone = [zones(field, BORDER)[""] for field in fields]
    assert {plan.grid.window for plan in alone} == set(windows)
    assert alone[0].grid.lattice == plans["utm32n"].grid.lattice
    assert plans["utm32n"].unit_count == 2


def test_one_plan_for_two_zones_is_refused(plan):
    with pytest.raises(InputError, match=r"several UTM zones \(utm32n, utm33n\), .*use plan_zones"):
        plan(box(11.95, 45.95, 12.03, 46.05), BORDER)


def test_a_zone_that_shows_nothing_leaves_its_piece_to_the_one_that_does(zones):
    for items, epsg in ((BORDER[:1], 32632), (BORDER[1:], 32633)):
        plans = zones(box(11.95, 45.95, 12.03, 46.05), items)
        assert [plan.grid.epsg for plan in plans.values()] == [epsg]
        assert plans[""].parts == ()


def test_a_zone_that_shows_a_part_leaves_the_field_to_the_one_that_shows_all(zones):
    whole, part = tile_of(32633, 12, 46), item("part", 32632, 730_000, 5_110_000, size=300)
    area = box(11.97, 46.0, 11.995, 46.03)
    assert zones(area, [whole, part])[""].grid.epsg == 32633


@pytest.mark.parametrize("size", [0.0001, 0.00001])
def test_an_area_of_a_pixel(zones, size):
    plans = zones(box(15.50001, 46.40001, 15.50001 + size, 46.40001 + size), [tile_of(32633, 15.5, 46.4)])
    height, width = plans[""].grid.shape
    assert 1 <= height <= 3
    assert 1 <= width <= 2
    assert plans[""].unit_count == 1


def test_the_equator_is_a_border_of_zones(zones):
    plans = zones(box(15.5, -0.05, 15.6, 0.05), [tile_of(32633, 15.5, 0), tile_of(32733, 15.5, 0)])
    assert list(plans) == ["utm33n", "utm33s"]


@pytest.mark.parametrize(
    "ring",
    [
        [[179.9, 10], [-179.9, 10], [-179.9, 10.1], [179.9, 10.1], [179.9, 10]],
        [[-179.9, 10], [-179.9, 10.1], [179.9, 10.1], [179.9, 10], [-179.9, 10]],
    ],
)
def test_an_area_across_the_antimeridian_is_two_zones(zones, ring):
    items = [tile_of(32660, 179.9, 10), tile_of(32601, -179.9, 10)]
    aoi = parse_aoi({"type": "Polygon", "coordinates": [ring]})
    assert aoi.geometry.area == pytest.approx(0.2 * 0.1)
    plans = zones(aoi.geometry, items)
    assert sorted(plans) == ["utm01n", "utm60n"]
    split = shapely.union_all([box(179.9, 10, 180, 10.1), box(-180, 10, -179.9, 10.1)])
    assert zones(split, items) == plans
    for plan in plans.values():
        assert 1000 < plan.grid.shape[0] < 1200
        assert 1000 < plan.grid.shape[1] < 1200


def test_near_the_pole_zones_are_narrow_and_still_fit(zones):
    plans = zones(box(20.9, 83.4, 21.1, 83.5), [tile_of(32633, 21, 83.5), tile_of(32635, 21, 83.5)])
    assert list(plans) == ["utm33n", "utm35n"]


def test_the_zones_of_the_globe_have_no_gap_and_no_overlap():
    whole = Aoi(box(-180, -80, 180, 84)).split_by_zone()
    assert len(whole) == 120
    assert sum(piece.area for piece in whole.values()) == pytest.approx(360 * 164)


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
    assert first.digest() != replace(first, buffer=first.buffer + 1).digest()

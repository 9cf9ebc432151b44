"""Where items lie, by their frames, whatever their footprints say."""

import json

import numpy as np
import pytest
import shapely
from pyproj import Transformer
from shapely.geometry import MultiPolygon, box, mapping

from cloudgan.sentinel2.dates import DateRange
from cloudgan.stac.frames import Frame, lies_elsewhere, locate, unwrap
from cloudgan.stac.search import find_scenes

AUGUST = DateRange.parse("2023-08")
# Tile 60KXF and its neighbour 01KAB, on either side of the antimeridian in Fiji, in the frames they have.
WEST_OF_IT = Frame(32760, (10980, 10980), (10.0, 0.0, 790_000.0, 0.0, -10.0, 8_100_000.0))
EAST_OF_IT = Frame(32701, (10980, 10980), (10.0, 0.0, 199_980.0, 0.0, -10.0, 8_100_000.0))


def spellings(frame):
    """One place in all the ways that providers write it."""
    outline, _ = locate(None, frame)
    middle = frame.epsg % 100 * 6 - 183
    west, south, east, north = unwrap(outline, middle).bounds
    around = {"west": west, "east": east}
    for name, lon in around.items():
        around[name] = (lon + 180) % 360 - 180
    ring = [
        (around["west"], south),
        (around["east"], south),
        (around["east"], north),
        (around["west"], north),
    ]
    return {
        "split": {"geometry": mapping(outline)},
        "beyond 180": {"geometry": mapping(box(west, south, east, north))},
        "other turn": {
            "geometry": mapping(
                box(west + 360, south, east + 360, north)
                if west < 0
                else box(west - 360, south, east - 360, north)
            )
        },
        "wrapped ring": {"geometry": mapping(shapely.Polygon(ring))},
        "bbox alone": {"geometry": None, "bbox": [around["west"], south, around["east"], north]},
        "bbox with heights": {"geometry": None, "bbox": [around["west"], south, 0, around["east"], north, 9]},
        "round the globe": {"geometry": mapping(box(-180, south, 180, north))},
        "round the globe as a bbox": {"geometry": None, "bbox": [-180, south, 180, north]},
        "none at all": {"geometry": None, "bbox": None},
    }


def item(frame, place):
    """An item of a frame, with a footprint as it is written."""
    image = {"proj:shape": list(frame.shape), "proj:transform": list(frame.transform)}
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": f"S2A_{frame.epsg}",
        "collection": "sentinel-2-l2a",
        "links": [],
        "properties": {
            "datetime": "2023-08-15T22:00:00Z",
            "eo:cloud_cover": 5,
            "proj:epsg": frame.epsg,
            "s2:processing_baseline": "02.14",
        },
        "assets": {band: {"href": f"./{band}.tif"} | image for band in ("red", "scl")},
    } | place


def find(tmp_path, area, *items):
    path = tmp_path / "items.json"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": items}))
    return find_scenes(area, AUGUST, bands=["red"], stac=str(path))


def place_in(frame, share):
    """A field in a frame, at a share of its width."""
    west, south, east, north = frame.bounds
    to_degrees = Transformer.from_crs(frame.epsg, 4326, always_xy=True)
    lon, lat = to_degrees.transform(west + share * (east - west), (south + north) / 2)
    return box(lon - 0.005, lat - 0.005, lon + 0.005, lat + 0.005)


@pytest.mark.parametrize("frame", [WEST_OF_IT, EAST_OF_IT], ids=["zone 60", "zone 1"])
@pytest.mark.parametrize("spelling", list(spellings(WEST_OF_IT)))
def test_an_item_across_the_antimeridian_is_found_where_its_pixels_are(tmp_path, frame, spelling):
    odd = item(frame, spellings(frame)[spelling])
    for share in (0.1, 0.9):
        found = find(tmp_path, place_in(frame, share), odd)
        assert [one.id for one in found.items] == [f"S2A_{frame.epsg}"]
        geometry = found.items[0].geometry
        assert geometry.bounds[0] >= -180
        assert geometry.bounds[2] <= 180
        assert geometry.area < 2


@pytest.mark.parametrize("spelling", ["round the globe", "wrapped ring", "round the globe as a bbox"])
def test_a_footprint_round_the_globe_takes_no_field_elsewhere(tmp_path, spelling):
    odd = item(WEST_OF_IT, spellings(WEST_OF_IT)[spelling])
    here = Frame(32733, (10980, 10980), (10.0, 0.0, 499_980.0, 0.0, -10.0, 8_100_000.0))
    found = find(tmp_path, place_in(here, 0.5), odd, item(here, spellings(here)["split"]))
    assert [one.id for one in found.items] == ["S2A_32733"]


def test_a_swath_across_the_antimeridian_is_no_more_than_itself():
    swath = MultiPolygon([box(179.9, -17.9, 180, -17.5), box(-180, -17.9, -179.95, -17.5)])
    place, is_footprint = locate(swath, WEST_OF_IT)
    assert is_footprint
    assert place.area == pytest.approx(swath.area)


@pytest.mark.parametrize(
    ("footprint", "elsewhere"),
    [
        (box(15, 47.8, 16, 48.7), False),
        (box(15, 47.8, 15.01, 48.7), False),
        (box(0, 0, 90, 80), False),
        (box(20, 47.8, 21, 48.7), True),
        (box(15, 41.8, 16, 42.7), True),
    ],
)
def test_frames_and_footprints_of_different_places_are_told_apart(footprint, elsewhere):
    frame = Frame(32633, (10980, 10980), (10.0, 0.0, 499_980.0, 0.0, -10.0, 5_400_000.0))
    assert lies_elsewhere(footprint, frame) == elsewhere


def test_a_footprint_of_a_million_vertices_is_taken_for_its_hull(tmp_path):
    frame = Frame(32633, (10980, 10980), (10.0, 0.0, 499_980.0, 0.0, -10.0, 5_400_000.0))
    angle = np.linspace(0, 2 * np.pi, 1_000_000, endpoint=False)
    radius = 0.3 + 0.01 * (np.arange(angle.size) % 2)
    ring = np.column_stack([15.7 + radius * np.cos(angle), 48.3 + radius * np.sin(angle)])
    intricate = shapely.Polygon(ring)
    odd = item(frame, {"geometry": mapping(intricate)})
    found = find(tmp_path, box(15.7, 48.3, 15.71, 48.31), odd)
    assert shapely.get_num_coordinates(found.items[0].geometry) <= 10_000

import json
import math

import numpy as np
import pytest
import shapely
from hypothesis import assume, given
from hypothesis import strategies as st
from pyproj import Transformer
from pyproj.database import query_utm_crs_info
from shapely.geometry import MultiPolygon, Polygon, box, mapping

from cloudgan.errors import InputError
from cloudgan.geo.aoi import Aoi, cover_windows, parse_aoi, read_aoi, utm_epsg
from cloudgan.geo.grid import Grid, Lattice, Window

FIELD = box(15.0, 46.0, 15.1, 46.1)
OTHER = box(15.2, 46.0, 15.3, 46.1)
RING = [[15.0, 46.0], [15.1, 46.0], [15.1, 46.1], [15.0, 46.0]]
BOW_TIE = Polygon([(15.0, 46.0), (15.1, 46.1), (15.1, 46.0), (15.0, 46.1)])
CURVED = Polygon([(15.0, 46.0), (15.06, 46.01), (15.1, 46.08), (15.05, 46.04), (15.01, 46.09)])


def feature(geometry):
    return {"type": "Feature", "properties": {}, "geometry": geometry and mapping(geometry)}


def collection(*geometries):
    return {"type": "FeatureCollection", "features": [feature(geometry) for geometry in geometries]}


@pytest.fixture
def saved(tmp_path):
    """Writes an AOI file, from text or as JSON."""

    def save(content):
        path = tmp_path / "field.geojson"
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return path

    return save


# What is read


@pytest.mark.parametrize(
    "document",
    [
        mapping(FIELD),
        feature(FIELD),
        collection(FIELD),
        collection(FIELD, None),
        mapping(MultiPolygon([FIELD])),
        {"type": "GeometryCollection", "geometries": [mapping(FIELD)]},
        mapping(shapely.force_3d(FIELD, 250.0)),
        mapping(FIELD) | {"crs": {"type": "name", "properties": {"name": "urn:ogc:def:crs:OGC:1.3:CRS84"}}},
        mapping(FIELD) | {"crs": {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::4326"}}},
        mapping(FIELD) | {"crs": None},
        *(
            mapping(FIELD) | {"crs": {"type": "name", "properties": {"name": name}}}
            for name in (
                "EPSG:4326",
                "WGS84",
                "WGS 84",
                "wgs_84",
                "CRS84h",
                "OGC:CRS84",
                "OGC:CRS84h",
                "EPSG:4979",
                "http://www.opengis.net/def/crs/EPSG/0/4326",
                "http://www.opengis.net/def/crs/OGC/1.3/CRS84",
                "https://www.opengis.net/def/crs/OGC/0/CRS84h",
                "http://www.opengis.net/gml/srs/epsg.xml#4326",
                "GCS_WGS_1984",
            )
        ),
        mapping(FIELD) | {"crs": {"type": "EPSG", "properties": {"code": 4326}}},
        mapping(FIELD) | {"crs": "EPSG:4326"},
    ],
)
def test_an_aoi_is_a_polygon_however_it_is_wrapped(saved, document):
    aoi = read_aoi(saved(document))
    assert aoi.geometry.equals(FIELD)
    assert not aoi.geometry.has_z
    assert aoi.warnings == ()


def test_the_features_of_a_collection_are_united():
    overlapping = box(15.05, 46.0, 15.15, 46.1)
    aoi = parse_aoi(collection(FIELD, overlapping, OTHER))
    assert aoi.geometry.equals(MultiPolygon([box(15.0, 46.0, 15.15, 46.1), OTHER]))
    assert aoi.warnings == ()


def test_holes_and_parts_stay():
    holed = FIELD.difference(box(15.02, 46.02, 15.04, 46.04))
    aoi = parse_aoi(mapping(MultiPolygon([holed, OTHER])))
    assert aoi.geometry.equals(MultiPolygon([holed, OTHER]))
    assert not aoi.geometry.contains(shapely.Point(15.03, 46.03))


def test_an_outline_that_crosses_itself_is_repaired_with_a_warning(saved):
    path = saved(feature(BOW_TIE))
    aoi = read_aoi(path)
    assert aoi.geometry.is_valid
    assert aoi.geometry.geom_type in ("Polygon", "MultiPolygon")
    assert aoi.geometry.area == pytest.approx(0.005)
    assert aoi.warnings == (f"{path} crosses itself and was repaired; check its outline",)


def test_a_part_that_collapses_to_a_line_is_dropped():
    line = [[15.5, 46], [15.6, 46], [15.7, 46], [15.5, 46]]
    document = mapping(FIELD) | {
        "type": "MultiPolygon",
        "coordinates": [mapping(FIELD)["coordinates"], [line]],
    }
    aoi = parse_aoi(document)
    assert aoi.geometry.equals(FIELD)
    assert aoi.geometry.geom_type == "Polygon"
    assert len(aoi.warnings) == 1


def test_the_whole_earth_is_within_bounds():
    assert parse_aoi(mapping(box(-180, -90, 180, 90))).geometry.area == 360 * 180


# What is refused


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"AOI file .*nowhere\.geojson cannot be read \(No such file.*give"):
        read_aoi(tmp_path / "nowhere.geojson")


def test_a_folder_is_no_file(tmp_path):
    with pytest.raises(InputError, match=r"cannot be read \(Is a directory\)"):
        read_aoi(tmp_path)


@pytest.mark.parametrize("text", ["", "<kml/>", "{'type': 'Polygon'}"])
def test_what_is_not_json_is_refused(saved, text):
    with pytest.raises(InputError, match=r"field\.geojson is not JSON \(.*\); save the area as GeoJSON"):
        read_aoi(saved(text))


def test_what_is_not_text_is_refused(tmp_path):
    path = tmp_path / "field.geojson"
    path.write_bytes(b"\xff\xfe\x27\x0a\xff\xfe")
    with pytest.raises(InputError, match=r"field\.geojson is not JSON"):
        read_aoi(path)


@pytest.mark.parametrize(
    "document",
    [{}, [], None, 5, {"type": 5}, {"coordinates": [RING]}, {"type": "Feature", "geometry": 5}],
)
def test_what_is_not_geojson_is_refused(saved, document):
    with pytest.raises(InputError, match=r"field\.geojson is JSON but no GeoJSON .*save the area as GeoJSON"):
        read_aoi(saved(document))


@pytest.mark.parametrize(
    ("kind", "geometry"),
    [
        ("Point", shapely.Point(15, 46)),
        ("LineString", shapely.LineString(RING)),
        ("MultiPoint", shapely.MultiPoint(RING)),
    ],
)
def test_points_and_lines_have_no_area(saved, kind, geometry):
    for document in (mapping(geometry), feature(geometry), collection(geometry, geometry)):
        with pytest.raises(InputError, match=f"holds a {kind}, and an area needs polygons; draw one"):
            read_aoi(saved(document))


def test_what_lies_beside_polygons_is_left_out_with_a_warning(saved):
    point, line = shapely.Point(15, 46), shapely.LineString(RING)
    document = collection(FIELD, point, line, point)
    empty = {"type": "Polygon", "coordinates": []}
    path = saved(document | {"features": [*document["features"], feature(None) | {"geometry": empty}]})
    aoi = read_aoi(path)
    assert aoi.geometry.equals(FIELD)
    assert aoi.warnings == (
        f"{path} holds more than polygons: 2 x Point and 1 x LineString and 1 x empty geometry left out",
    )


@pytest.mark.parametrize(
    "document",
    [
        {"type": "FeatureCollection", "features": []},
        {"type": "FeatureCollection"},
        {"type": "GeometryCollection", "geometries": []},
        {"type": "Polygon", "coordinates": []},
        {"type": "MultiPolygon", "coordinates": []},
        feature(None),
    ],
)
def test_an_empty_aoi_is_refused(saved, document):
    with pytest.raises(InputError, match=r"field\.geojson holds no polygon with an area; draw one"):
        read_aoi(saved(document))


def test_a_polygon_without_an_area_is_refused(saved):
    line = {"type": "Polygon", "coordinates": [[[15, 46], [16, 46], [17, 46], [15, 46]]]}
    with pytest.raises(InputError, match=r"field\.geojson has no area; draw a polygon"):
        read_aoi(saved(line))


@pytest.mark.parametrize(
    "polygon",
    [
        {"type": "Polygon"},
        {"type": "Polygon", "coordinates": 5},
        {"type": "Polygon", "coordinates": "15 46, 16 46"},
        {"type": "Polygon", "coordinates": [[[15, 46], [16, 47]]]},
        {"type": "Polygon", "coordinates": [[[15], [16], [17], [15]]]},
        {"type": "Polygon", "coordinates": [[["east", 46], *RING]]},
        {"type": "Polygon", "coordinates": [[[None, 46], *RING]]},
        {"type": "Polygon", "coordinates": [[[15, 46, 250], *RING]]},
        {"type": "Polygon", "coordinates": RING},
        {"type": "MultiPolygon", "coordinates": [RING]},
    ],
)
def test_broken_coordinates_are_refused(saved, polygon):
    match = rf"field\.geojson has a {polygon['type']} with broken coordinates \(.*\); save it again"
    with pytest.raises(InputError, match=match):
        read_aoi(saved(polygon))


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("at", [0, 2, 4])
def test_coordinates_that_are_no_numbers_are_refused(saved, number, at):
    ring = [list(corner) for corner in FIELD.exterior.coords]
    ring[at][1] = number
    polygon = {"type": "Polygon", "coordinates": [ring]}
    match = (
        r"a Polygon with (coordinates that are no numbers|broken coordinates \(.*closed.*\)); save it again"
    )
    with pytest.raises(InputError, match=match):
        read_aoi(saved(feature(None) | {"geometry": polygon}))


@pytest.mark.parametrize(
    "bounds",
    [
        (179.9, 0, 180.1, 1),
        (-180.1, 0, -179.9, 1),
        (15, 89.9, 16, 90.1),
        (15, -90.1, 16, -89.9),
        (399960, 5090220, 509760, 5200020),
    ],
)
def test_what_is_outside_the_degrees_of_the_earth_is_refused(saved, bounds):
    match = r"field\.geojson reaches from .* outside \+-180 and \+-90 degrees; .*reproject it to EPSG:4326"
    with pytest.raises(InputError, match=match):
        read_aoi(saved(mapping(box(*bounds))))


@pytest.mark.parametrize("name", ["urn:ogc:def:crs:EPSG::32633", "EPSG:3857", "urn:ogc:def:crs:EPSG::14326"])
def test_a_projected_crs_is_refused_though_its_numbers_might_be_degrees(saved, name):
    document = collection(FIELD) | {"crs": {"type": "name", "properties": {"name": name}}}
    with pytest.raises(InputError, match=rf"field\.geojson is in {name}; .*reproject it to EPSG:4326"):
        read_aoi(saved(document))


# UTM zones


AREAS_OF_USE = {int(crs.code): crs.area_of_use.bounds for crs in query_utm_crs_info(datum_name="WGS 84")}


@given(lon=st.floats(-180, 180), lat=st.floats(-80, 84))
def test_the_zone_of_a_place_is_one_that_epsg_says_is_for_it(lon, lat):
    assume(not (56 <= lat < 64 and 3 <= lon < 12))
    assume(not (lat >= 72 and 0 <= lon < 42))
    west, south, east, north = AREAS_OF_USE[utm_epsg(lon, lat)]
    assert south <= lat <= north
    assert west - 1e-9 <= lon <= east + 1e-9


@pytest.mark.parametrize(
    ("place", "lon", "lat", "epsg"),
    [
        ("Bergen, in the widened zone 32", 5.3, 60.4, 32632),
        ("west of it", 2.9, 60.4, 32631),
        ("east of it", 12.0, 60.4, 32633),
        ("south of it", 5.3, 55.9, 32631),
        ("north of it", 5.3, 64.0, 32631),
        ("Svalbard, in zone 33 from 9 to 21 degrees", 9.0, 78.0, 32633),
        ("Longyearbyen", 15.6, 78.2, 32633),
        ("west of Svalbard", 8.9, 78.0, 32631),
        ("Kvitoya", 32.0, 80.1, 32635),
        ("Franz Josef Land", 41.9, 80.0, 32637),
        ("beyond it", 42.0, 80.0, 32638),
        ("south of it", 10.0, 71.9, 32632),
        ("the antimeridian, from the west", 180.0, 10.0, 32660),
        ("the antimeridian, from the east", -180.0, 10.0, 32601),
        ("the equator", 15.0, 0.0, 32633),
        ("south of the equator", 15.0, -0.001, 32733),
        ("Tierra del Fuego", -68.3, -54.8, 32719),
    ],
)
def test_zones_have_exceptions_and_edges(place, lon, lat, epsg):
    assert utm_epsg(lon, lat) == epsg


def test_the_zone_of_an_aoi_is_that_of_its_centre():
    assert Aoi(box(11.0, 46.0, 12.5, 46.1)).epsg == 32632
    assert Aoi(box(11.8, 46.0, 12.5, 46.1)).epsg == 32633


@given(
    west=st.integers(-18_000, 17_800),
    south=st.integers(-8000, 8200),
    width=st.integers(1, 2000),
    height=st.integers(1, 2000),
)
def test_an_area_is_cut_into_what_lies_in_each_zone(west, south, width, height):
    """All in hundredths of a degree."""
    area = box(west / 100, south / 100, min((west + width) / 100, 180), min((south + height) / 100, 84))
    pieces = Aoi(area).split_by_zone()
    assert sum(piece.area for piece in pieces.values()) == pytest.approx(area.area)
    for epsg, piece in pieces.items():
        place = piece.representative_point()
        assert utm_epsg(place.x, place.y) == epsg


# Across the antimeridian

ACROSS = [[179, 10], [-179, 10], [-178, 12], [178, 12], [179, 10]]


def test_an_area_with_edges_over_half_the_globe_is_read_by_the_shorter_way(saved):
    path = saved({"type": "Polygon", "coordinates": [ACROSS]})
    aoi = read_aoi(path)
    assert aoi.geometry.area == pytest.approx((2 + 4) / 2 * 2)
    halves = {part.bounds for part in shapely.get_parts(aoi.geometry)}
    assert halves == {(178, 10, 180, 12), (-180, 10, -178, 12)}
    assert aoi.warnings == (
        f"{path} has edges over more than half the globe and was read as crossing the antimeridian",
    )


def test_a_hole_and_a_neighbour_across_the_antimeridian_stay():
    hole = [[179.5, 11], [-179.5, 11], [-179.5, 11.5], [179.5, 11.5], [179.5, 11]]
    neighbour = mapping(box(-177, 10, -176, 11))
    polygon = {"type": "Polygon", "coordinates": [ACROSS, hole]}
    aoi = parse_aoi({"type": "GeometryCollection", "geometries": [polygon, neighbour]})
    assert aoi.geometry.area == pytest.approx(6 - 0.5 + 1)
    assert not aoi.geometry.contains(shapely.Point(179.8, 11.2))
    assert aoi.geometry.contains(shapely.Point(-176.5, 10.5))


def test_what_was_cut_at_the_antimeridian_already_stays_as_it_is():
    cut = MultiPolygon([box(179, 10, 180, 11), box(-180, 10, -179, 11)])
    aoi = parse_aoi(mapping(cut))
    assert aoi.geometry.equals(cut)
    assert aoi.warnings == ()


@given(
    zone=st.sampled_from([1, 2, 31, 59, 60]),
    south=st.booleans(),
    row=st.integers(-700_000, -100_000),
    col=st.integers(10_000, 90_000),
    size=st.tuples(st.integers(1, 9000), st.integers(1, 9000)),
)
def test_boxes_in_degrees_cover_their_windows(zone, south, row, col, size):
    lattice = Lattice((32700 if south else 32600) + zone, 10.0)
    window = Window(row, col, *size)
    covered = cover_windows([window, window.buffered(3)], lattice)
    west, _, east, _ = covered.bounds
    assert -180 <= west <= east <= 180
    left, bottom, right, top = Grid(lattice, window).bounds
    x, y = np.meshgrid(np.linspace(left, right, 9), np.linspace(bottom, top, 9))
    lon, lat = Transformer.from_crs(lattice.epsg, 4326, always_xy=True).transform(x, y)
    assert shapely.intersects_xy(covered.buffer(1e-9), lon, lat).all()
    assert covered.area < 40


# Pixels


@given(
    lon=st.floats(12, 17.5),
    lat=st.floats(-78, 82),
    size=st.tuples(st.floats(0.001, 0.4), st.floats(0.001, 0.2)),
    resolution=st.sampled_from([10.0, 60.0, 120.0]),
)
def test_the_window_covers_the_polygon(lon, lat, size, resolution):
    aoi = Aoi(box(lon, lat, lon + size[0], lat + size[1]))
    lattice = Lattice(aoi.epsg, resolution, 0.0, resolution / 2)
    west, south, east, north = Grid(lattice, aoi.window(lattice)).bounds
    edge = shapely.get_coordinates(shapely.segmentize(aoi.geometry, 0.0013))  # other places than its own
    x, y = Transformer.from_crs(4326, aoi.epsg, always_xy=True).transform(*edge.T)
    for covered in ((west, x.min()), (south, y.min()), (x.max(), east), (y.max(), north)):
        # an edge bulges by a metre at most between its vertices; all else is the smallest window
        assert -1 <= covered[1] - covered[0] <= resolution + 1


@pytest.mark.parametrize("geometry", [CURVED, FIELD, CURVED.union(OTHER), FIELD.difference(CURVED)])
@pytest.mark.parametrize("resolution", [60.0, 240.0])
def test_outside_is_where_the_pixel_centre_is_not_in_the_polygon(geometry, resolution):
    aoi = Aoi(geometry)
    lattice = Lattice(32633, resolution)
    grid = Grid(lattice, aoi.window(lattice).buffered(3))
    x, y = np.meshgrid(grid.x(), grid.y())
    to_degrees = Transformer.from_crs(32633, 4326, always_xy=True)
    inside = shapely.contains_xy(geometry, *to_degrees.transform(x, y))
    outside = aoi.mask_outside(grid)
    assert outside.shape == grid.shape
    assert outside.dtype == np.bool_
    assert 0 < inside.mean() < 1
    # a centre within a few centimetres of the outline may fall either way
    assert np.mean(outside == inside) < 1e-3


@pytest.mark.parametrize("metres", [0.5, 3, 9])
@pytest.mark.parametrize("shift", [0.0, 2.5, 5.0, 7.5])
def test_a_field_smaller_than_a_pixel_keeps_the_pixel_it_lies_in(metres, shift):
    lattice = Lattice(32633, 10)
    to_degrees = Transformer.from_crs(32633, 4326, always_xy=True).transform
    field = shapely.box(500_001 + shift, 5_200_001, 500_001 + shift + metres, 5_200_001 + metres)
    area = Aoi(shapely.transform(field, to_degrees, interleaved=False))
    whole = lattice.covering(499_900, 5_199_900, 500_200, 5_200_200)
    inside = ~area.mask_outside(Grid(lattice, whole))
    assert inside.sum() >= 1
    row, col = np.argwhere(inside)[0]
    west, north = Grid(lattice, whole).transform @ (int(col), int(row))
    assert shapely.box(west, north - 10, west + 10, north).intersects(field)
    # A part of it, as a work unit has it, says the same.
    part = Window(whole.row + 4, whole.col + 3, 20, 18)
    rows, cols = part.slices_in(whole)
    np.testing.assert_array_equal(~area.mask_outside(Grid(lattice, part)), inside[rows, cols])


def test_a_field_with_a_pixels_centre_keeps_those_pixels_alone():
    lattice = Lattice(32633, 10)
    to_degrees = Transformer.from_crs(32633, 4326, always_xy=True).transform
    field = shapely.box(500_004, 5_200_004, 500_016, 5_200_006)
    area = Aoi(shapely.transform(field, to_degrees, interleaved=False))
    grid = Grid(lattice, lattice.covering(499_900, 5_199_900, 500_200, 5_200_200))
    assert (~area.mask_outside(grid)).sum() == 2

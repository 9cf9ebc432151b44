"""Areas of interest in other formats, and in other places."""

import io
import json
import sys
import zipfile

import numpy as np
import pytest
import requests
import shapely
from pyproj import Transformer
from shapely.geometry import box, mapping

from cloudgan.errors import InputError
from cloudgan.geo.aoi import MAX_VERTICES, read_aoi

pyogrio = pytest.importorskip("pyogrio")

FIELD = box(15.0, 46.0, 15.1, 46.1)
OTHER = box(15.2, 46.0, 15.3, 46.1)


def write(path, geometries, *, epsg=4326, layer=None, append=False):
    """A vector file of one layer, without fields."""
    if epsg != 4326:
        transform = Transformer.from_crs(4326, epsg, always_xy=True).transform
        geometries = [
            shapely.transform(shapely.segmentize(each, 0.001), transform, interleaved=False)
            for each in geometries
        ]
    kinds = {each.geom_type for each in geometries}
    pyogrio.raw.write(
        path,
        geometry=shapely.to_wkb(np.array(geometries, dtype=object)),
        field_data=[],
        fields=[],
        crs=f"EPSG:{epsg}",
        geometry_type=kinds.pop() if len(kinds) == 1 else "Unknown",
        layer=layer,
        append=append,
        driver={".gpkg": "GPKG", ".shp": "ESRI Shapefile", ".kml": "KML", ".fgb": "FlatGeobuf"}[path.suffix],
    )
    return path


@pytest.mark.parametrize("suffix", [".gpkg", ".shp", ".kml", ".fgb"])
def test_the_formats_of_desktops_are_read(tmp_path, suffix):
    aoi = read_aoi(write(tmp_path / f"field{suffix}", [FIELD, OTHER]))
    assert aoi.geometry.symmetric_difference(FIELD.union(OTHER)).area < 1e-9
    assert aoi.warnings == ()


@pytest.mark.parametrize("suffix", [".gpkg", ".shp"])
def test_a_projected_file_is_brought_to_degrees(tmp_path, suffix):
    aoi = read_aoi(write(tmp_path / f"field{suffix}", [FIELD], epsg=32633))
    assert aoi.geometry.symmetric_difference(FIELD).area < 1e-7


def test_a_zipped_shapefile_is_read(tmp_path):
    folder = tmp_path / "shape"
    folder.mkdir()
    write(folder / "field.shp", [FIELD])
    with zipfile.ZipFile(tmp_path / "field.zip", "w") as packed:
        for file in folder.iterdir():
            packed.write(file, file.name)
    assert read_aoi(tmp_path / "field.zip").geometry.symmetric_difference(FIELD).area < 1e-9


def test_a_shapefile_without_a_crs_is_refused(tmp_path):
    path = write(tmp_path / "field.shp", [FIELD])
    path.with_suffix(".prj").unlink()
    with pytest.raises(InputError, match=r"field\.shp.* does not say its CRS; save it with one .*\.prj"):
        read_aoi(path)


def test_points_beside_polygons_are_left_out(tmp_path):
    path = write(tmp_path / "field.gpkg", [FIELD, shapely.Point(15, 46)])
    aoi = read_aoi(path)
    assert aoi.geometry.equals(FIELD)
    assert aoi.warnings == (f"{path} holds more than polygons: 1 x Point left out",)
    with pytest.raises(InputError, match="holds a Point, and an area needs polygons"):
        read_aoi(write(tmp_path / "points.gpkg", [shapely.Point(15, 46)]))


def test_of_several_layers_of_polygons_one_must_be_meant(tmp_path):
    path = write(tmp_path / "two.gpkg", [FIELD], layer="fields")
    write(path, [OTHER], layer="towns", append=True)
    with pytest.raises(InputError, match=r"several layers of polygons \(fields, towns\); save the one"):
        read_aoi(path)


@pytest.mark.parametrize("name", ["field.gpkg", "field.shp", "field.kml", "field.zip"])
@pytest.mark.parametrize(
    "content", [b"", b"nothing of the kind", b"SQLite format 3\x00", b"PK\x03\x04", b"\x00\x00\x27\x0a"]
)
def test_a_file_that_is_none_ends_in_one_sentence(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        read_aoi(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_without_the_extra_the_remedy_is_named(tmp_path, monkeypatch):
    path = write(tmp_path / "field.gpkg", [FIELD])
    monkeypatch.setitem(sys.modules, "pyogrio", None)
    with pytest.raises(InputError, match=r"pip install 'cloudgan\[vector\]', or save the area as GeoJSON"):
        read_aoi(path)


# Places


def stdin(monkeypatch, content):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content)))


def test_standard_input_is_read(tmp_path, monkeypatch):
    stdin(monkeypatch, json.dumps(mapping(FIELD)).encode())
    assert read_aoi("-").geometry.equals(FIELD)
    stdin(monkeypatch, write(tmp_path / "field.gpkg", [FIELD]).read_bytes())
    assert read_aoi("-").geometry.equals(FIELD)
    stdin(monkeypatch, b"")
    with pytest.raises(InputError, match="the AOI file - is not JSON"):
        read_aoi("-")


def test_home_and_file_addresses_are_paths(tmp_path, monkeypatch):
    folder = tmp_path / "a b#1?"
    folder.mkdir()
    path = folder / "field.geojson"
    path.write_text(json.dumps(mapping(FIELD)))
    monkeypatch.setenv("HOME", str(folder))
    for location in (
        "~/field.geojson",
        f"file://{path}",
        path.as_uri(),
        str(path),
        f"file://localhost{path}",
    ):
        assert read_aoi(location).geometry.equals(FIELD)


class Answer:
    """What a web server answers."""

    def __init__(self, content):
        self.content = content

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def raise_for_status(self):
        pass

    def iter_content(self, size):
        yield from (self.content[at : at + size] for at in range(0, len(self.content), size))


def test_an_address_on_the_web_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr("requests.get", lambda *_, **__: Answer(json.dumps(mapping(FIELD)).encode()))
    assert read_aoi("https://host/field.geojson").geometry.equals(FIELD)
    body = write(tmp_path / "field.gpkg", [FIELD]).read_bytes()
    monkeypatch.setattr("requests.get", lambda *_, **__: Answer(body))
    assert read_aoi("https://host/field.gpkg?token=1").geometry.equals(FIELD)


def test_an_address_that_does_not_answer_is_named(monkeypatch):
    def refuse(*_, **__):
        raise requests.ConnectionError("nobody there")

    monkeypatch.setattr("requests.get", refuse)
    with pytest.raises(InputError, match=r"the AOI file https://host\.invalid/field\.geojson cannot be read"):
        read_aoi("https://host.invalid/field.geojson")


def test_a_bucket_is_read(monkeypatch):
    monkeypatch.setattr(
        "cloudgan.geo.aoi_files.read_bytes", lambda url, limit: json.dumps(mapping(FIELD)).encode()
    )
    assert read_aoi("s3://bucket/field.geojson").geometry.equals(FIELD)


# Size


def test_an_outline_of_a_million_vertices_is_simplified(tmp_path):
    path = tmp_path / "round.geojson"
    angle = np.linspace(0, 2 * np.pi, 1_000_000, endpoint=False)
    ring = np.column_stack([15 + 0.1 * np.cos(angle), 46 + 0.1 * np.sin(angle)])
    path.write_text(json.dumps(mapping(shapely.Polygon(ring))))
    aoi = read_aoi(path)
    assert shapely.get_num_coordinates(aoi.geometry) < 2000
    assert aoi.geometry.area == pytest.approx(np.pi * 0.01, rel=1e-3)
    assert any("has 1000001 vertices and was simplified to" in each for each in aoi.warnings)


def test_one_that_cannot_be_simplified_is_refused(tmp_path):
    angle = np.linspace(0, 2 * np.pi, 2 * MAX_VERTICES, endpoint=False)
    radius = 0.2 + 0.05 * (np.arange(angle.size) % 2)
    star = shapely.Polygon(np.column_stack([15 + radius * np.cos(angle), 46 + radius * np.sin(angle)]))
    path = tmp_path / "star.geojson"
    path.write_text(json.dumps(mapping(star)))
    with pytest.raises(InputError, match=r"has 200001 vertices, and \d+ where it is simplified by a metre"):
        read_aoi(path)

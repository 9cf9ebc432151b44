"""Profiles: catalogues by a name, those that are known and those of the user's configuration file."""

from __future__ import annotations

import json

import pytest

from cloudgan.config import BatchConfig
from cloudgan.errors import CatalogError, InputError
from cloudgan.stac.http import HttpLimits
from cloudgan.stac.profiles import find_config, find_profile, list_profiles
from cloudgan.stac.source import open_source


@pytest.fixture
def config(tmp_path, monkeypatch):
    """Writes the user's configuration file."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))

    def write(text: str) -> None:
        (tmp_path / "cloudgan").mkdir(exist_ok=True)
        (tmp_path / "cloudgan" / "config.toml").write_text(text)

    return write


OWN = """
[profiles.my-api]
stac = "https://stac.example.org"
collection = "s2-l2a"
offset = "none"
workers = 3
"""


def make(**options) -> BatchConfig:
    return BatchConfig(aoi="field.geojson", dates="2020", **options)


def test_three_catalogues_are_known_without_a_file(config):
    assert list(list_profiles()) == ["earth-search", "planetary-computer", "copernicus-data-space"]
    assert find_profile("copernicus-data-space").stac == "https://stac.dataspace.copernicus.eu/v1"
    assert make().collection is None


def test_the_copernicus_data_space_is_not_asked_for_more_than_it_allows(config):
    assert make(stac="copernicus-data-space").workers == 2
    assert make(stac="copernicus-data-space", workers=1).workers == 1
    assert make(stac="https://stac.dataspace.copernicus.eu/v1").workers is None


def test_ones_own_profile_gives_what_is_not_given(config, tmp_path):
    config(OWN)
    job = make(stac="my-api")
    assert (job.stac, job.collection, job.offset, job.workers) == ("my-api", "s2-l2a", "none", 3)
    assert make(stac="my-api", collection="other").collection == "other"
    file = tmp_path / "job.toml"
    file.write_text('stac = "my-api"\nworkers = 8\naoi = "field.geojson"\ndates = "2020"\n')
    loaded = BatchConfig.load(file, {"offset": "trust"})
    assert (loaded.collection, loaded.workers, loaded.offset) == ("s2-l2a", 8, "trust")
    assert job.replace(stac="earth-search").collection == "s2-l2a"  # a change of one field changes no other


def test_ones_own_profile_comes_before_a_known_one(config):
    config('[profiles.earth-search]\nstac = "https://mirror.example.org"\nworkers = 5\n')
    assert find_profile("earth-search").stac == "https://mirror.example.org"
    assert make().workers == 5


def test_a_profile_may_name_a_catalogue_on_a_disk(config, tmp_path):
    catalogue = {"type": "Catalog", "id": "c", "stac_version": "1.0.0", "links": []}
    (tmp_path / "catalog.json").write_text(json.dumps(catalogue))
    config(f'[profiles.disk]\nstac = "{tmp_path}"\n')
    with open_source("disk", HttpLimits()) as source:
        assert source is not None


def test_paths_and_addresses_are_no_profiles(config):
    config("nonsense")  # and no reason to read the file
    for text in (
        "https://stac.example.org",
        "./earth-search",
        "/data/catalog.json",
        "s3://bucket/x",
        "a.json",
        "",
    ):
        assert find_profile(text) is None


def test_an_unknown_name_is_told_what_there_is(config):
    config(OWN)
    with pytest.raises(CatalogError, match="my-api, earth-search, planetary-computer, copernicus-data-space"):
        open_source("earthsearch", HttpLimits()).__enter__()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("nonsense", "is no TOML"),
        ("[profiles.x]\nstac = 5", r"profiles\.x\.stac 5 is no text"),
        ('[profiles.x]\nstac = "a"\nwokers = 2', r"no key profiles\.x\.wokers; there are collection"),
        ("[profiles.x]\nworkers = 2", r"profiles\.x\.stac must be given"),
        ('[profiles.x]\nstac = "a"\nworkers = 0', r"profiles\.x\.workers 0 is below 1"),
        ('[profile.x]\nstac = "a"', "no key profile; there are profiles"),
        ("profiles = 3", "profiles 3 is no table"),
        ('[profiles."a b"]\nstac = "a"', "the name 'a b'"),
    ],
)
def test_a_wrong_file_is_named_in_one_sentence(config, text, reason):
    config(text)
    with pytest.raises(InputError, match=rf"the configuration file .*config\.toml.*{reason}"):
        make(stac="x")


def test_a_wrong_value_of_a_profile_is_refused_as_the_option_is(config):
    config('[profiles.x]\nstac = "https://a"\noffset = "never"')
    with pytest.raises(InputError, match="--offset never is no offset"):
        make(stac="x")


def test_the_file_lies_where_the_specification_says(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    for unusable in ("", "relative/folder"):
        monkeypatch.setenv("XDG_CONFIG_HOME", unusable)
        assert find_config() == tmp_path / ".config" / "cloudgan" / "config.toml"
    monkeypatch.delenv("XDG_CONFIG_HOME")
    assert find_config() == tmp_path / ".config" / "cloudgan" / "config.toml"

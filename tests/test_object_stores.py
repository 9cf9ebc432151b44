"""Errors of disks and object stores in one line."""

from __future__ import annotations

import pytest

from cloudgan.errors import StoreError
from cloudgan.object_stores import explain_error, normalise_location, open_object_store


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError(28, "No space left on device", "/out/x"), "No space left on device"),
        (RuntimeError(), "RuntimeError"),
        (ValueError("https://a.b/c.tif?sig=secret is\n gone"), "https://a.b/c.tif?... is gone"),
        (
            RuntimeError(
                "PUT http://h/b/k in 2.3ms - 403 Forbidden: <?xml version='1.0'?><Error><Code>No</Code>"
            ),
            "PUT http://h/b/k - 403 Forbidden, No",
        ),
    ],
)
def test_reasons_are_one_line_without_signatures(error, reason):
    assert explain_error(error) == reason


@pytest.mark.parametrize(
    ("location", "normalised"),
    [
        ("out.zarr", "out.zarr"),
        ("~/out.zarr", "/home/me/out.zarr"),
        ("file:///a/out.zarr", "/a/out.zarr"),
        ("file:/a/out.zarr", "/a/out.zarr"),
        ("FILE://localhost/a%20b/out.zarr", "/a b/out.zarr"),
        ("s3://bucket/out.zarr", "s3://bucket/out.zarr"),
        ("s3a://bucket/out.zarr", "s3://bucket/out.zarr"),
        ("gcs://bucket/out.zarr", "gs://bucket/out.zarr"),
        ("abfs://box/out.zarr", "az://box/out.zarr"),
        ("abfss://box@mine.dfs.core.windows.net/out.zarr", "az://box/out.zarr"),
        (
            "abfss://box@other.dfs.core.windows.net/out.zarr",
            "abfss://box@other.dfs.core.windows.net/out.zarr",
        ),
        ("wasbs://box@mine.blob.core.windows.net/out.zarr", "az://box/out.zarr"),
        ("https://host/field.geojson", "https://host/field.geojson"),
        ("-", "-"),
        ("~nobody-of-this-name/x", "~nobody-of-this-name/x"),
        (f"file:///{'x' * 5000}", f"/{'x' * 5000}"),
    ],
)
def test_locations_in_the_spellings_of_others(monkeypatch, location, normalised):
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "mine")
    assert normalise_location(location) == normalised


def test_a_scheme_that_nobody_knows_is_named():
    with pytest.raises(StoreError, match=r"nowhere://bucket/out cannot be used \(.*\); give an --out"):
        open_object_store("nowhere://bucket/out")

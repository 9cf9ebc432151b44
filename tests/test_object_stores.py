"""Errors of disks and object stores in one line."""

from __future__ import annotations

import pytest

from cloudgan.errors import StoreError
from cloudgan.object_stores import explain_error, open_object_store


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


def test_a_scheme_that_nobody_knows_is_named():
    with pytest.raises(StoreError, match=r"nowhere://bucket/out cannot be used \(.*\); give an --out"):
        open_object_store("nowhere://bucket/out")

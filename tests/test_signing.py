import importlib.util

import pytest

from cloudgan.errors import InputError
from cloudgan.stac.signing import Signing, check_signing, sign

HREF = "https://sentinel2l2a01.blob.core.windows.net/sentinel2-l2/B04.tif"


def test_most_hrefs_need_no_signature():
    check_signing(Signing.NONE)
    assert sign(HREF, Signing.NONE) is HREF


def test_without_the_extra_the_remedy_is_named(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install 'cloudgan\[planetary\]'"):
        check_signing(Signing.PLANETARY_COMPUTER)
    with pytest.raises(InputError, match="signed URLs"):
        sign(HREF, Signing.PLANETARY_COMPUTER)


@pytest.mark.parametrize(
    "href",
    [
        "https://example.com/B04.tif",
        "/data/B04.tif",
        "s3://bucket/B04.tif",
        "https://blob.core.windows.net.example.com/x/B04.tif",
        "https://ai4edatasetspublicassets.blob.core.windows.net/assets/thumbnail.png",
        f"{HREF}?st=2023-08-20T00%3A00%3A00Z&se=2023-08-20T00%3A45%3A00Z&sp=rl&sig=abc",
    ],
)
def test_only_unsigned_addresses_in_microsofts_storage_are_signed(href):
    assert sign(href, Signing.PLANETARY_COMPUTER) == href

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


def test_only_microsoft_storage_is_signed():
    assert sign("https://example.com/B04.tif", Signing.PLANETARY_COMPUTER) == "https://example.com/B04.tif"

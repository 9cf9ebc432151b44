"""Signatures for the Planetary Computer's storage, from a token service on loopback."""

import datetime as dt
import json

import pytest

from cloudgan.errors import SigningError
from cloudgan.stac.signing import Signing, forget_signatures, sign

pytestmark = pytest.mark.integration

STORAGE = "https://sentinel2l2a01.blob.core.windows.net"
BLOB = f"{STORAGE}/sentinel2-l2/B04.tif"


@pytest.fixture
def token_service(stac_server, monkeypatch):
    """A token service that answers `reply`, and knows which requests it got."""
    pytest.importorskip("obstore")
    server = stac_server()
    monkeypatch.setenv("PC_SDK_SAS_URL", server.url)
    monkeypatch.delenv("PC_SDK_SUBSCRIPTION_KEY", raising=False)
    forget_signatures()
    yield server
    forget_signatures()


def make_token(lifetime, query="sig=abc"):
    expiry = (dt.datetime.now(dt.UTC) + lifetime).isoformat()
    return 200, "application/json", json.dumps({"token": query, "msft:expiry": expiry})


def asked_paths(server):
    return [path for _, path, _ in server.seen]


def test_hrefs_are_signed_when_they_are_read_and_tokens_are_kept(token_service):
    token_service.reply = make_token(dt.timedelta(minutes=45))
    assert sign(BLOB, Signing.PLANETARY_COMPUTER) == f"{BLOB}?sig=abc"
    assert sign(f"{BLOB}.aux", Signing.PLANETARY_COMPUTER) == f"{BLOB}.aux?sig=abc"
    assert asked_paths(token_service) == ["/sentinel2l2a01/sentinel2-l2"]


def test_each_container_has_its_own_token(token_service):
    token_service.reply = make_token(dt.timedelta(minutes=45), "sig=one")
    sign(BLOB, Signing.PLANETARY_COMPUTER)
    token_service.reply = make_token(dt.timedelta(minutes=45), "sig=other")
    other = f"{STORAGE}/landsat-c2/B4.tif"
    assert sign(other, Signing.PLANETARY_COMPUTER) == f"{other}?sig=other"
    assert sign(BLOB, Signing.PLANETARY_COMPUTER) == f"{BLOB}?sig=one"
    assert asked_paths(token_service) == ["/sentinel2l2a01/sentinel2-l2", "/sentinel2l2a01/landsat-c2"]


def test_a_token_that_ends_within_a_minute_is_renewed(token_service):
    token_service.reply = make_token(dt.timedelta(seconds=50), "sig=short")
    assert sign(BLOB, Signing.PLANETARY_COMPUTER) == f"{BLOB}?sig=short"
    token_service.reply = make_token(dt.timedelta(seconds=70), "sig=long")
    for _ in range(2):
        assert sign(BLOB, Signing.PLANETARY_COMPUTER) == f"{BLOB}?sig=long"
    assert len(token_service.seen) == 2


def test_a_token_that_was_refused_is_forgotten(token_service):
    token_service.reply = make_token(dt.timedelta(minutes=45), "sig=refused")
    sign(BLOB, Signing.PLANETARY_COMPUTER)
    forget_signatures()
    token_service.reply = make_token(dt.timedelta(minutes=45), "sig=new")
    assert sign(BLOB, Signing.PLANETARY_COMPUTER) == f"{BLOB}?sig=new"


def test_a_service_that_is_busy_is_asked_again(token_service):
    token_service.failures = [503]
    token_service.reply = make_token(dt.timedelta(minutes=45))
    assert sign(BLOB, Signing.PLANETARY_COMPUTER) == f"{BLOB}?sig=abc"
    assert len(token_service.seen) == 2


@pytest.mark.parametrize(
    "reply",
    [
        (403, "text/plain", "no"),
        (200, "text/html", "<p>"),
        (200, "text/json", "{}"),
        (200, "text/json", "[]"),
        (200, "text/json", '{"token": 7, "msft:expiry": "2999-01-01T00:00:00Z"}'),
        (200, "text/json", '{"token": "sig=abc", "msft:expiry": "2999-01-01T00:00:00"}'),
        (200, "text/json", '{"token": "sig=abc", "msft:expiry": "soon"}'),
        (200, "text/json", '{"token": "sig=abc", "msft:expiry": 5}'),
    ],
)
def test_a_refused_signature_is_a_failed_read(token_service, reply):
    token_service.reply = reply
    with pytest.raises(SigningError, match=r"no signed URL for https://sentinel2l2a01.*a rerun may get one"):
        sign(BLOB, Signing.PLANETARY_COMPUTER)


def test_the_subscription_key_of_the_environment_is_sent(token_service, monkeypatch):
    requests = pytest.importorskip("requests")
    sent = []
    original = requests.Session.send

    def send(session, request, **options):
        sent.append(request.headers.get("Ocp-Apim-Subscription-Key"))
        return original(session, request, **options)

    monkeypatch.setattr(requests.Session, "send", send)
    monkeypatch.setenv("PC_SDK_SUBSCRIPTION_KEY", "5ubscription")
    token_service.reply = make_token(dt.timedelta(minutes=45))
    sign(BLOB, Signing.PLANETARY_COMPUTER)
    assert sent == ["5ubscription"]

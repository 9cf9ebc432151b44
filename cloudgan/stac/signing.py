"""Hrefs that need a signature before they can be read."""

from __future__ import annotations

import datetime as dt
import importlib.util
from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import parse_qs, urlsplit

from cloudgan.errors import InputError, SigningError

MIN_TOKEN_LIFE = dt.timedelta(minutes=1)
"""A token that is valid for less is renewed: GDAL must have finished reading before it ends."""
_PACKAGES = ("obstore", "dotenv")
"""What the extra `planetary` installs; obstore reads `~/.planetarycomputer/settings.env` with the second."""
_AZURE_DOMAIN = ".blob.core.windows.net"
_PUBLIC_ACCOUNT = "ai4edatasetspublicassets"  # thumbnails, which need no signature
_SIGNATURE_FIELDS = {"st", "se", "sp"}


class Signing(StrEnum):
    """How an item's hrefs become readable; plain data, so that a plan can carry it."""

    NONE = "none"
    PLANETARY_COMPUTER = "planetary-computer"


@dataclass(frozen=True, slots=True)
class _Token:
    """A shared access signature of Azure, which lets its bearer read one container."""

    query: str
    """What is put behind the `?` of an address."""
    expires: dt.datetime
    """Until when it is valid; aware."""


_tokens: dict[tuple[str, str], _Token] = {}
"""Tokens of this process by storage account and container."""


def check_signing(signing: Signing) -> None:
    """Make sure, before anything is planned, that hrefs can be signed later.

    Raises:
        InputError: The optional packages that sign them are not installed.
    """
    if signing is Signing.NONE:
        return
    if any(importlib.util.find_spec(name) is None for name in _PACKAGES):
        raise InputError(
            "the items lie in the Planetary Computer, which wants signed URLs, and the packages that make "
            "them are not installed: pip install 'cloudgan[planetary]'"
        )


def sign(href: str, signing: Signing) -> str:
    """The address to read an asset from, now.

    A signature lasts about 45 minutes, less than a long run: call this inside the work unit, right before
    opening the asset, and never when the plan is made. Tokens are kept in the process and renewed in time,
    so a call rarely touches the network. `PC_SDK_SUBSCRIPTION_KEY` and `PC_SDK_SAS_URL` in the environment
    name a subscription key and another token service.

    Args:
        href: The asset's address as the item has it.
        signing: `SourceItem.signing`.

    Raises:
        InputError: The optional packages that sign are not installed.
        SigningError: The service that hands out signatures did not give one.
    """
    if signing is Signing.NONE:
        return href
    check_signing(signing)
    if not needs_signature(href):
        return href
    address = urlsplit(href)
    account = address.netloc.partition(".")[0]
    container = address.path.lstrip("/").partition("/")[0]
    try:
        token = _get_token(account, container)
    except (OSError, ValueError, KeyError, TypeError) as err:
        # Errors of requests are OSErrors; of an answer that is no token, one of the others.
        reason = " ".join(str(err).split())[:200]
        raise SigningError(f"no signed URL for {href}: {reason}; a rerun may get one") from err
    return f"{href}?{token.query}"


def needs_signature(href: str) -> bool:
    """Whether an address is in Azure's storage, not public, and not signed already."""
    try:
        address = urlsplit(href)
    except ValueError:  # no address: whoever reads it says so
        return False
    return (
        address.netloc.endswith(_AZURE_DOMAIN)
        and address.netloc != f"{_PUBLIC_ACCOUNT}{_AZURE_DOMAIN}"
        and not parse_qs(address.query).keys() & _SIGNATURE_FIELDS
    )


def forget_signatures() -> None:
    """Drop the tokens kept in this process: the next call of `sign` fetches new ones.

    A token may be refused before the time that it states, as when the clocks differ.
    """
    _tokens.clear()


def _get_token(account: str, container: str) -> _Token:
    """The token of a container, fetched where none is kept that is valid for `MIN_TOKEN_LIFE`."""
    token = _tokens.get((account, container))
    if token is None or token.expires - dt.datetime.now(dt.UTC) < MIN_TOKEN_LIFE:
        token = _tokens[account, container] = _fetch_token(account, container)
    return token


def _fetch_token(account: str, container: str) -> _Token:
    from obstore.auth.planetary_computer import PlanetaryComputerCredentialProvider

    provider = PlanetaryComputerCredentialProvider(account_name=account, container_name=container)
    answer = provider()
    query, expires = answer["sas_token"], answer["expires_at"]
    if not isinstance(query, str) or expires is None or expires.tzinfo is None:
        raise ValueError("the token service answers something that is no token")
    return _Token(query, expires)

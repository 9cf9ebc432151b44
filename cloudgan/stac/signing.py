"""Hrefs that need a signature before they can be read."""

from __future__ import annotations

import importlib.util
import sys
import warnings
from enum import StrEnum

from cloudgan.errors import InputError, SigningError


class Signing(StrEnum):
    """How an item's hrefs become readable; plain data, so that a plan can carry it."""

    NONE = "none"
    PLANETARY_COMPUTER = "planetary-computer"


def check_signing(signing: Signing) -> None:
    """Make sure, before anything is planned, that hrefs can be signed later.

    Raises:
        InputError: The optional package that signs them is not installed.
    """
    if signing is Signing.PLANETARY_COMPUTER and importlib.util.find_spec("planetary_computer") is None:
        raise InputError(
            "the items lie in the Planetary Computer, which wants signed URLs, and the package that makes "
            "them is not installed: pip install 'cloudgan[planetary]'"
        )


def unsigned(href: str) -> str:
    """The address without its query, in which signatures are."""
    return href.partition("?")[0]


def sign(href: str, signing: Signing) -> str:
    """The address to read an asset from, now.

    A signature lasts about 45 minutes, less than a long run: call this inside the work unit, right before
    opening the asset, and never when the plan is made. Tokens are cached in the process and renewed in time,
    so a call rarely touches the network.

    Args:
        href: The asset's address as the item has it.
        signing: `SourceItem.signing`.

    Raises:
        InputError: The optional package that signs is not installed.
        SigningError: The service that hands out signatures did not give one.
    """
    if signing is Signing.NONE:
        return href
    check_signing(signing)
    with warnings.catch_warnings():
        # planetary-computer 1.0 still uses pydantic's old configuration style, and says so on import.
        warnings.simplefilter("ignore", DeprecationWarning)
        import planetary_computer
    try:
        return str(planetary_computer.sign(href))
    except (
        OSError,
        ValueError,
    ) as err:  # requests' errors are OSErrors; a reply that is no token is a ValueError
        reason = " ".join(str(err).split())[:200]
        raise SigningError(f"no signed URL for {href}: {reason}; a rerun may get one") from err


def forget_signatures() -> None:
    """Let go of tokens kept in this process: the next call of `sign` fetches new ones.

    A token may be refused before the time that it states, as when the clocks differ.
    """
    package = sys.modules.get("planetary_computer.sas")
    if package is not None:  # else nothing was signed here
        package.TOKEN_CACHE.clear()

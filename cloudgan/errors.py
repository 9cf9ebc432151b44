"""What can go wrong, grouped by what the caller can do about it."""

from __future__ import annotations

import re

# A signature is a query, and GDAL tells of `B03.tif?sig=...` without a scheme before it; what ends a sentence
# or a quotation is no part of it.
_QUERY = re.compile(r"""(?<=\S)\?(?=[\w%])[^\s"'<>]+?(?=[,;:.)\]]*(?:[\s"'<>]|$))""")
_USER = re.compile(r"""(?<=://)[^\s/?#"'<>]*@""")


def redacted(text: str) -> str:
    """The text without what may be secret in its addresses: queries (signatures), names and passwords."""
    return _QUERY.sub("?...", _USER.sub("", text))


def _showable(text: str) -> str:
    """Without control characters, and without the middle of what is far too long; the remedy comes last."""
    line = "".join(each if each.isprintable() or each == "\n" else " " for each in text)
    return line if len(line) <= 1500 else f"{line[:1000]} ... {line[-400:]}"


class CloudganError(Exception):
    """Any failure that cloudgan foresees; its message names the input, the reason and the remedy.

    Whatever a message quotes, a terminal can show it, and it tells no secret of an address.
    """

    def __init__(self, message: str = "") -> None:
        super().__init__(_showable(redacted(message)))


class InputError(CloudganError):
    """Something the caller gave cannot be used as it is; change it and try again (exit code 2)."""


class CatalogError(InputError):
    """The STAC catalogue cannot be reached, is not one, or holds nothing for the request."""


class GeneratorError(InputError):
    """A model file is broken, foreign, or does not fit the cube."""


class DetectorError(InputError):
    """A mask detector's file is broken, foreign, or gives no numbers."""


class StoreError(InputError):
    """The output cannot be used: it exists with other settings, is another run's, or no store of ours."""


class SigningError(CloudganError):
    """The service that signs an asset's address did not answer; a rerun may heal it."""


class ReadError(CloudganError):
    """An asset could not be read, even after retries; the work unit failed and a rerun may heal it."""

    def __init__(self, message: str, item: str | None = None, asset: str | None = None) -> None:
        super().__init__(message)
        self.item = item
        """Id of the item."""
        self.asset = asset
        """The asset's address, without a signature; None where it is not known which one failed."""


class WriteError(CloudganError):
    """The output refused a write in the middle of a run; with room or rights, a rerun heals it."""


class ClusterError(CloudganError):
    """The Dask scheduler went away in the middle of a run; a rerun does the rest."""

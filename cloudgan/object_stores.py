"""Object stores behind URLs, and in one sentence what went wrong with a place to read or write.

Credentials come from the environment alone, by the names that each provider's own tools read.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from cloudgan.errors import StoreError, WriteError, redacted

if TYPE_CHECKING:
    from obstore.store import ObjectStore, RetryConfig

PATIENCE: RetryConfig = {"max_retries": 6, "retry_timeout": timedelta(seconds=60)}
"""How long a request is repeated, with back-off and jitter, after 429, 5xx or no answer."""


def is_object_store(location: str) -> bool:
    """Whether a location is the URL of an object store, and not a path."""
    return "://" in location


_SCHEMES = {"gcs": "gs", "s3a": "s3", "s3n": "s3"}
_AZURE = re.compile(
    r"(?:abfss?|wasbs?|azure|adl)://([^/@]+)(?:@([^./]+)\.(?:dfs|blob)\.core\.windows\.net)?(?=/|$)",
    re.IGNORECASE,
)


def translate_scheme(location: str) -> str:
    """An address in an object store in the scheme that is used throughout: `s3`, `gs` or `az`.

    Others write `gcs://`, `s3a://` or `abfs://container@account.dfs.core.windows.net/path`. An account that
    is not the environment's is addressed on the web, where what is public can be read.
    """
    scheme, separator, rest = location.partition("://")
    if separator and scheme.lower() in _SCHEMES:
        return f"{_SCHEMES[scheme.lower()]}://{rest}"
    found = _AZURE.match(location)
    if not found:
        return location
    container, account, path = found[1], found[2], location[found.end() :]
    ours = {os.environ.get(name) for name in ("AZURE_STORAGE_ACCOUNT", "AZURE_STORAGE_ACCOUNT_NAME")}
    if account is None or account in ours:
        return f"az://{container}{path}"
    return f"https://{account}.blob.core.windows.net/{container}{path}"


def normalise_location(location: str) -> str:
    """A path or address as a user writes it: `~` and `file:` become paths, other schemes those used here.

    One of Azure that names its account keeps its scheme: whoever writes there takes it from the address.
    """
    if re.match("file:", location, re.IGNORECASE):
        path = strip_file_scheme(location)
        location = path if path_exists(path) else unquote(path)
    if location.startswith("~"):
        with suppress(RuntimeError):  # a user that there is not
            return str(Path(location).expanduser())
    translated = translate_scheme(location)
    return location if translated.startswith("https:") else translated


def strip_file_scheme(url: str) -> str:
    """What a `file:` URL names, still as it is written there."""
    return re.sub(r"^file:(//(localhost)?(?=/))?", "", url, count=1, flags=re.IGNORECASE)


def path_exists(path: str | Path) -> bool:
    """Whether something lies at a path of this machine, which may be any text."""
    try:
        return Path(path).exists()
    except (OSError, ValueError):  # a name that no file can have
        return False


def open_object_store(url: str) -> ObjectStore:
    """The object store that a URL names, everything below the URL's path.

    Args:
        url: `s3://bucket/key`, `gs://bucket/key` or `az://container/key`, the account from the
            environment.

    Raises:
        StoreError: The URL names none, or the package that speaks to it is not installed.
    """
    try:
        from obstore.store import AzureStore, from_url
    except ImportError as error:
        raise StoreError(
            f"{url} is an object store, and the package that writes there is not installed; "
            "pip install 'cloudgan[s3]', or give a directory"
        ) from error
    account = os.environ.get("AZURE_STORAGE_ACCOUNT_NAME")
    try:
        if account and url.startswith("az://"):
            # One that is not told its account itself cannot be printed: obstore panics.
            return AzureStore.from_url(url, account_name=account, retry_config=PATIENCE)
        return from_url(url, retry_config=PATIENCE)
    except Exception as error:  # obstore's own types, one for each way of being wrong
        raise unusable_error(url, error) from error


def read_text(url: str, max_bytes: int = 1 << 30) -> str:
    """An object as UTF-8 text; the arguments and errors are those of `read_bytes`.

    Raises:
        UnicodeDecodeError: It is no UTF-8.
    """
    return read_bytes(url, max_bytes).decode("utf-8-sig")


def read_bytes(url: str, max_bytes: int = 1 << 30) -> bytes:
    """An object.

    Args:
        url: Its address, `s3://bucket/key` for one.
        max_bytes: Its size at most.

    Raises:
        FileNotFoundError: There is none.
        StoreError: The place is none, or refuses, or the object is too large.
    """
    folder, _, name = url.rpartition("/")
    store = open_object_store(folder)
    try:
        if store.head(name)["size"] > max_bytes:
            raise StoreError(f"{url} is larger than {max_bytes >> 20} MiB: give a smaller file")
        return bytes(store.get(name).bytes())
    except (FileNotFoundError, StoreError):
        raise
    except Exception as error:  # obstore's own types
        raise StoreError(
            f"{url} cannot be read ({explain_error(error)}); check it and your credentials"
        ) from error


def read_tag(meta: Any) -> dict[str, str]:
    """What a write on condition has to name of an object: an entity tag, a version, or both, by provider."""
    return {name: meta[name] for name in ("e_tag", "version") if meta.get(name)}


def unusable_error(location: str, error: Exception) -> StoreError:
    """What to tell the user of an output that cannot be opened or begun."""
    return StoreError(
        f"{location} cannot be used ({explain_error(error)}); give an --out that can be written"
    )


@contextmanager
def name_failed_writes(location: str) -> Iterator[None]:
    """Turn the disk's errors, and those of whatever object store it is, into one that names the place.

    Raises:
        WriteError: What was written within was refused.
    """
    try:
        yield
    except Exception as error:
        if not is_refusal(error):
            raise
        raise WriteError(
            f"{location} refused a write ({explain_error(error)}); make room or give it rights, and run again"
        ) from error


def is_refusal(error: Exception) -> bool:
    """Whether a place to write refused or did not answer: a disk, or whatever object store it is."""
    return isinstance(error, OSError) or type(error).__module__.startswith("obstore")


def explain_error(error: BaseException) -> str:
    """An error's own words on one line, without what may be secret: queries of URLs hold signatures."""
    strerror = getattr(error, "strerror", None)
    text = str(strerror or error).strip()
    code = re.search(r"<Code>(.*?)</Code>", text, re.S)
    text = re.split(r"<\?xml|<html|\n\nDebug source", text, maxsplit=1, flags=re.I)[0]
    text = re.sub(r" in [\d.]+(ns|µs|ms|s)\b", "", " ".join(text.split())).rstrip(" :.")
    text = redacted(text) or type(error).__name__
    return text[:300] if code is None else f"{text[:260]}, {code[1][:40]}"

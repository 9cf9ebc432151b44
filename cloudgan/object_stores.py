"""Object stores behind URLs, and in one sentence what went wrong with a place to read or write.

Credentials come from the environment alone, by the names that each provider's own tools read.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

from cloudgan.errors import StoreError, WriteError, redacted

if TYPE_CHECKING:
    from obstore.store import ObjectStore, RetryConfig

PATIENCE: RetryConfig = {"max_retries": 6, "retry_timeout": timedelta(seconds=60)}
"""How long a request is repeated, with back-off and jitter, after 429, 5xx or no answer."""


def is_object_store(location: str) -> bool:
    """Whether a location is the URL of an object store, and not a path."""
    return "://" in location


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


def read_text(url: str) -> str:
    """An object as UTF-8 text.

    Args:
        url: Its address, `s3://bucket/key` for one.

    Raises:
        FileNotFoundError: There is none.
        StoreError: The place is none, or refuses.
    """
    folder, _, name = url.rpartition("/")
    store = open_object_store(folder)
    try:
        return bytes(store.get(name).bytes()).decode("utf-8")
    except (FileNotFoundError, UnicodeDecodeError):
        raise
    except Exception as error:  # obstore's own types
        raise StoreError(
            f"{url} cannot be read ({explain_error(error)}); check it and your credentials"
        ) from error


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
    return (text if code is None else f"{text}, {code[1]}")[:300]

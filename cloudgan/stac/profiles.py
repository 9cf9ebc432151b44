"""Profiles: catalogues by a name, those that are known and those of the user's configuration file."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from contextvars import Context
from pathlib import Path

from pydantic import Field, field_validator

from cloudgan.settings import Settings
from cloudgan.stac.providers import COPERNICUS_DATA_SPACE, EARTH_SEARCH, PLANETARY_COMPUTER

_NAME = re.compile(r"[A-Za-z0-9][\w-]*")


class Profile(Settings):
    """A catalogue, and what a run of it is asked for where the user asks for nothing else."""

    title = "profile"
    remedy = "see the how-to on profiles of catalogues"

    stac: str
    """The URL of a STAC API, or the path or URL of a static catalogue."""
    collection: str | None = None
    """Collection id."""
    offset: str | None = None
    """BOA offset of its items; see the option of that name."""
    workers: int | None = Field(default=None, ge=1)
    """Workers on this machine, where the service limits connections."""

    @property
    def defaults(self) -> dict[str, str | int]:
        """Options of a run by name, without the catalogue itself."""
        given = {"collection": self.collection, "offset": self.offset, "workers": self.workers}
        return {name: value for name, value in given.items() if value is not None}


class UserConfig(Settings):
    """The user's configuration file."""

    title = "configuration file"
    remedy = "see the how-to on profiles of catalogues"

    profiles: dict[str, Profile] = Field(default_factory=dict)
    """Catalogues by the name that `--stac` takes."""

    @field_validator("profiles")
    @classmethod
    def _refuse_what_is_no_name(cls, profiles: dict[str, Profile]) -> dict[str, Profile]:
        for name in profiles:
            if not _NAME.fullmatch(name):
                raise ValueError(f"has the name {name!r}; give one of letters, digits, - and _")
        return profiles


KNOWN: Mapping[str, Profile] = {
    "earth-search": Profile(stac=EARTH_SEARCH),
    "planetary-computer": Profile(stac=PLANETARY_COMPUTER),
    # It allows four connections at once, and each worker reads with several.
    "copernicus-data-space": Profile(stac=COPERNICUS_DATA_SPACE, workers=2),
}
"""Profiles that need no file."""


def find_config() -> Path:
    """Where the user's configuration file lies, or would: `~/.config/cloudgan/config.toml` by default.

    The folder is that of the XDG Base Directory Specification, on all systems.
    """
    base = Path(os.environ.get("XDG_CONFIG_HOME", ""))
    return (base if base.is_absolute() else Path.home() / ".config") / "cloudgan" / "config.toml"


def list_profiles() -> dict[str, Profile]:
    """All profiles by name; the user's come before those that are known.

    Raises:
        InputError: The configuration file cannot be used.
    """
    try:
        file = find_config()
        is_there = file.is_file()
    except (OSError, RuntimeError):  # a home that there is not, or that may not be entered
        return dict(KNOWN)
    # Settings that are asked for while others are validated are not a part of those.
    own = Context().run(UserConfig.load, file).profiles if is_there else {}
    return own | {name: one for name, one in KNOWN.items() if name not in own}


def find_profile(name: str) -> Profile | None:
    """The profile of a name; None for a path, an address, or a name that no profile has.

    Raises:
        InputError: The configuration file cannot be used.
    """
    return list_profiles().get(name) if _NAME.fullmatch(name) else None

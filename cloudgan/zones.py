"""A store with a group for each UTM zone: what holds the groups together."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from cloudgan import store


@dataclass(frozen=True, slots=True)
class Zones:
    """Where the groups of a run lie, each a store of its own; of a single zone the root is the store."""

    location: str
    """Path of a directory, or URL of an object store."""
    names: tuple[str, ...]
    """Names of the groups; one empty name where there is one zone alone."""

    @classmethod
    def of(cls, location: str, names: Iterable[str]) -> Zones:
        """The groups of these names."""
        return cls(location, tuple(names))

    def at(self, name: str) -> str:
        """Path or URL of a group."""
        return f"{self.location.rstrip('/')}/{name}" if name else self.location

    def check(self, *, overwrite: bool = False) -> None:
        """Make sure that the groups may be written here, without writing; see `store.check`."""
        if self._are_groups:
            store.check_identity(self.location, self._identity(), overwrite=overwrite)

    def prepare(self, *, overwrite: bool = False) -> None:
        """Make the group of the groups, if there are several; see `store.prepare`."""
        if self._are_groups:
            self.check(overwrite=overwrite)
            store.make_root(self.location, self._identity())

    def finish(self) -> None:
        """Write the consolidated metadata of all groups, last of all."""
        if self._are_groups:
            store.consolidate(self.location)

    @property
    def _are_groups(self) -> bool:
        return self.names != ("",)

    def _identity(self) -> dict[str, Any]:
        return {"zones": list(self.names)}

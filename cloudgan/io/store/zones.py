"""A store with a group for each UTM zone: what holds the groups together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from cloudgan.io.lease import hold_lease
from cloudgan.io.store.access import consolidate
from cloudgan.io.store.fence import open_unfenced
from cloudgan.io.store.identity import check_identity
from cloudgan.io.store.store import make_root_group


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
        """Make sure that the groups may be written here, without writing; see `check_store`."""
        if self._are_groups:
            check_identity(self.location, self._identity(), overwrite=overwrite)

    @contextmanager
    def hold(self, *, overwrite: bool = False) -> Iterator[None]:
        """Be the only run that writes the groups, until the end of the block; their root is made first.

        At the end comes the consolidated metadata of all groups.

        Raises:
            StoreError: See `prepare_store`.
            WriteError: The place refused the metadata.
        """
        if not self._are_groups:
            yield
            return
        with hold_lease(
            self.location
        ):  # each group has a lease of its own, which replacing them all would pass by
            self.check(overwrite=overwrite)
            make_root_group(self.location, self.names)
            yield
            consolidate(self.location, open_unfenced(self.location))

    @property
    def _are_groups(self) -> bool:
        return self.names != ("",)

    def _identity(self) -> dict[str, Any]:
        return {"zones": list(self.names)}

"""Comparing a store with what its ledger says: the digest of each shard, noted when it was written."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

from cloudgan.errors import StoreError
from cloudgan.io.lease import hold_lease
from cloudgan.io.store.access import list_objects, name_unusable, read_object
from cloudgan.io.store.fence import compute_digest
from cloudgan.io.store.identity import check_format, compute_plan_digest, read_identity
from cloudgan.io.store.ledger import PENDING, Entry, read_entries
from cloudgan.io.store.store import Store


@dataclass(frozen=True, slots=True)
class Verification:
    """What was found in one store."""

    location: str
    """Path or URL of the store."""
    units: int
    """Units that are done."""
    shards: int
    """Shards that they noted."""
    verified: int
    """Shards whose digest was computed."""
    differing: dict[str, str]
    """What is wrong with a shard, by its key."""
    damaged_units: tuple[int, ...]
    """Units of these shards."""
    unnoted: int
    """Units that are done and noted nothing, as those of earlier versions of cloudgan."""
    marked: bool
    """Whether the damaged units were marked to be done again."""

    @property
    def ok(self) -> bool:
        """Whether nothing differs."""
        return not self.differing

    def as_json(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "store": self.location,
            "units": self.units,
            "shards": self.shards,
            "verified": self.verified,
            "differing": self.differing,
            "damaged_units": list(self.damaged_units),
            "units_without_digests": self.unnoted,
            "marked": self.marked,
        }


def verify_store(
    location: str, *, sample: int | None = None, mark: bool = True, seed: int | None = None
) -> list[Verification]:
    """Compute the digests of a store's shards, and mark the units of those that differ to be done again.

    Args:
        location: Path of a directory, or URL of an object store.
        sample: How many shards of each zone to draw at random; None for all. With all of them, shards that
            no unit has noted are found too.
        mark: Whether to mark; a store that is only read needs no rights to write, and no lease.
        seed: Of the random numbers.

    Returns:
        What was found: of each UTM zone where there are several.

    Raises:
        StoreError: There is no store of cloudgan's, another run is writing it, or it cannot be read.
        WriteError: A unit could not be marked.
    """
    identity = read_identity(location)
    if identity is None:
        raise StoreError(f"there is no store at {location}; give the --out of a run")
    check_format(location, identity)
    dice = random.Random(seed)  # noqa: S311 - no secret
    if "zones" in identity:
        groups = [f"{location.rstrip('/')}/{name}" for name in identity["zones"]]
        return [
            _verify_group(group, sample, mark, dice) for group in groups if read_identity(group) is not None
        ]
    return [_verify_group(location, sample, mark, dice)]


def _verify_group(location: str, sample: int | None, mark: bool, dice: random.Random) -> Verification:
    with hold_lease(location) if mark else nullcontext(), name_unusable(location):
        entries = dict(enumerate(read_entries(location)))
        done = {index: entry for index, entry in entries.items() if entry.state != PENDING}
        noted = [(index, key) for index, entry in done.items() for key in entry.shards]
        chosen = noted if sample is None else dice.sample(noted, min(sample, len(noted)))
        wrong = {key: (index, what) for index, key, what in _find_differences(location, done, chosen)}
        units = tuple(sorted({index for index, _ in wrong.values()}))
        differing = {key: what for key, (_, what) in sorted(wrong.items())}
        unnoted = sum(not entry.shards for entry in done.values())
        if sample is None and len(done) == len(entries) and not unnoted:
            differing |= _find_strangers(location, {key for _, key in noted})
        if mark and units:
            _mark_pending(location, units)
    return Verification(
        location, len(done), len(noted), len(chosen), differing, units, unnoted, marked=mark and bool(units)
    )


def _find_differences(
    location: str, entries: dict[int, Entry], chosen: list[tuple[int, str]]
) -> Iterator[tuple[int, str, str]]:
    """Unit, key and fault of the shards that are not as noted."""
    for index, key in chosen:
        body = read_object(location, key)
        if body is None:
            yield index, key, "is missing"
        elif not body:
            yield index, key, "is empty"
        elif compute_digest(body) != entries[index].shards[key]:
            yield index, key, "differs"


def _find_strangers(location: str, noted: set[str]) -> dict[str, str]:
    """Shards that lie beside the noted ones: a reader takes them for data."""
    folders = {key.partition("/c/")[0] for key in noted}
    found = {key for folder in folders for key in list_objects(location, f"{folder}/c")}
    return dict.fromkeys(sorted(found - noted), "is no unit's; remove it")


def _mark_pending(location: str, units: tuple[int, ...]) -> None:
    identity = read_identity(location) or {}
    store = Store(location, compute_plan_digest(identity)).begin_run()
    try:
        for index in units:
            store.mark(index, PENDING)
    finally:
        store.end_run()

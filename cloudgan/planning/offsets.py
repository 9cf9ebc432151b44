"""Whether the pixels of the items agree with what their metadata say of the BOA offset."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

import numpy as np

from cloudgan.io.overviews import Sample, read_sample
from cloudgan.sentinel2.offset import BOA_OFFSET, OffsetBasis, Verdict, check_pixels, compare_dates, harmonise
from cloudgan.stac.items import SourceItem
from cloudgan.stac.search import Scene

MAX_CUSTOMARY = 400
"""Items whose metadata contradict each other as all of the provider do, up to which their pixels are read: of
more, only those are that contradict each other in another way."""
MAX_CLOUD_COVER = 90
"""Percent, up to which the pixels of such an item are read."""
NEIGHBOURS = 5
"""Dates, the nearest in time, with which one is compared that does not decide by itself."""
MAX_NAMED = 10
"""Items named in a warning; the report names all."""
_THREADS = 8  # items read at once: a remote file is mostly waiting


@dataclass(frozen=True, slots=True)
class OffsetFinding:
    """What the pixels of an item say about its BOA offset."""

    item: str
    """The item's id."""
    stated: int
    """DN to subtract by the metadata."""
    used: int
    """DN that are subtracted."""
    verdict: Verdict
    """Whether the pixels agree."""
    is_customary: bool = False
    """Whether the metadata contradict each other only as those of all the provider's items do."""

    def as_json(self) -> dict[str, str | int]:
        """The finding as JSON."""
        return {"item": self.item, "stated": self.stated, "used": self.used, "pixels": self.verdict.value}


def verify_offsets(
    scenes: Sequence[Scene], bands: Sequence[str], centre: tuple[float, float]
) -> tuple[tuple[Scene, ...], tuple[OffsetFinding, ...]]:
    """Compare the offsets of items whose metadata contradict each other with their pixels, which then decide.

    Args:
        scenes: All scenes of a run, of one UTM zone.
        bands: Common names of the reflectance bands.
        centre: Map x and y of the area's middle.

    Returns:
        The scenes with the offsets that the pixels show, and what was found of each item that was in
        question.
    """
    items = [item for scene in scenes for item in scene.items]
    questioned = _find_questioned(items)
    if not questioned:
        return tuple(scenes), ()
    comparison = _Comparison(tuple(bands), centre, items)
    comparison.check(questioned)
    findings = [comparison.decide(item) for item in questioned]
    used = {finding.item: finding.used for finding in findings}
    corrected = tuple(
        replace(
            scene, items=tuple(replace(item, offset=used.get(item.id, item.offset)) for item in scene.items)
        )
        for scene in scenes
    )
    return corrected, tuple(findings)


def warn_of_offsets(findings: Sequence[OffsetFinding]) -> tuple[str, ...]:
    """Warnings of items whose pixels contradict their metadata, and of those that leave it open."""
    warnings = [
        f"item {one.item} is said to carry a BOA offset of {one.stated}, and its pixels show {one.used}: "
        f"subtract {one.used} (--offset trust goes by the metadata)"
        for one in findings
        if one.verdict is Verdict.CONTRADICTS
    ]
    more = len(warnings) - MAX_NAMED
    if more > 0:
        warnings[MAX_NAMED:] = [f"and so of {more} items more, all named in the report"]
    unclear = [one.item for one in findings if one.verdict is Verdict.UNDECIDED and not one.is_customary]
    if unclear:
        names = ", ".join(unclear[:MAX_NAMED]) + (", ..." if len(unclear) > MAX_NAMED else "")
        warnings.append(
            f"the pixels of {len(unclear)} items do not show whether they carry the BOA offset, and their "
            f"metadata contradict each other: the metadata decide, --offset forces a value ({names})"
        )
    return tuple(warnings)


def _find_questioned(items: Sequence[SourceItem]) -> list[SourceItem]:
    """Items whose metadata contradict themselves, or those of other dates of the same place."""
    groups: dict[tuple[object, ...], set[int]] = defaultdict(set)
    for item in items:
        groups[_group(item)].add(item.offset)
    customary = sum(item.offset_basis is OffsetBasis.CUSTOMARY for item in items)

    def is_questioned(item: SourceItem) -> bool:
        if item.offset_basis is OffsetBasis.CUSTOMARY and customary <= MAX_CUSTOMARY:
            return (item.cloud_cover or 0) <= MAX_CLOUD_COVER  # beyond it, clear pixels are few
        return item.offset_basis is OffsetBasis.CONTRADICTED or len(groups[_group(item)]) > 1

    return [item for item in items if item.offset in (0, BOA_OFFSET) and is_questioned(item)]


def _group(item: SourceItem) -> tuple[object, ...]:
    """Items of which metadata should say the same: of one collection, place, and age of the processing."""
    return item.collection, item.mgrs_tile, item.baseline >= (4, 0)


@dataclass
class _Comparison:
    """Pixels of items, read once, and what was decided by them."""

    bands: tuple[str, ...]
    centre: tuple[float, float]
    items: Sequence[SourceItem]
    _own: dict[str, Verdict] = field(default_factory=dict)
    _samples: dict[str, Sample | None] = field(default_factory=dict)

    def check(self, items: Sequence[SourceItem]) -> None:
        """Ask the pixels of items, some at once, of one visible band: it decides for most."""
        missing = [item for item in items if item.id not in self._own]
        with ThreadPoolExecutor(_THREADS) as pool:
            self._own |= zip((item.id for item in missing), pool.map(self._check_alone, missing), strict=True)

    def _read(self, items: Sequence[SourceItem]) -> None:
        """Read the pixels of items in all bands."""
        missing = [item for item in items if item.id not in self._samples]
        with ThreadPoolExecutor(_THREADS) as pool:
            found = pool.map(lambda item: read_sample(item, self.bands, self.centre), missing)
            self._samples |= zip((item.id for item in missing), found, strict=True)

    def decide(self, item: SourceItem) -> OffsetFinding:
        """What the pixels say of an item: its own first, then in comparison with other dates."""
        verdict = self._own[item.id]
        if verdict is Verdict.UNDECIDED:
            verdict = self._compare(item)
        used = item.offset if verdict is not Verdict.CONTRADICTS else BOA_OFFSET - item.offset
        customary = item.offset_basis is OffsetBasis.CUSTOMARY
        return OffsetFinding(item.id, item.offset, used, verdict, customary)

    def _check_alone(self, item: SourceItem) -> Verdict:
        visible = [name for name in _VISIBLE if name in self.bands]
        sample = read_sample(item, (visible or self.bands)[:1], self.centre)
        if sample is None:
            return Verdict.UNDECIDED
        return check_pixels(sample.numbers, item.offset, valid=sample.clear)

    def _compare(self, item: SourceItem) -> Verdict:
        """The offset by which an item agrees with most of the nearest dates that can be trusted."""
        others = sorted(
            (other for other in self.items if self._vouches(other, item)),
            key=lambda other: (abs(other.datetime - item.datetime), other.id),
        )[:NEIGHBOURS]
        self.check(others)
        self._read([item, *others])
        sample = self._samples[item.id]
        if sample is None:
            return Verdict.UNDECIDED
        votes = Counter(
            offset for other in others if (offset := self._find_offset(sample, other)) is not None
        )
        (best, count), *rest = [*votes.most_common(2), (item.offset, 0)]
        if not votes or (len(votes) > 1 and rest[0][1] == count):
            return Verdict.UNDECIDED
        return Verdict.AGREES if best == item.offset else Verdict.CONTRADICTS

    def _vouches(self, other: SourceItem, item: SourceItem) -> bool:
        same_place = (other.epsg, other.assets[0].transform, other.mgrs_tile) == (
            item.epsg,
            item.assets[0].transform,
            item.mgrs_tile,
        )
        decided = self._own.get(other.id, Verdict.UNDECIDED) is not Verdict.UNDECIDED
        return (
            other.id != item.id
            and same_place
            and (decided or other.offset_basis is not OffsetBasis.CONTRADICTED)
        )

    def _find_offset(self, sample: Sample, other: SourceItem) -> int | None:
        reference = self._samples[other.id]
        if reference is None:
            return None
        wrong = self._own[other.id] is Verdict.CONTRADICTS
        offset = BOA_OFFSET - other.offset if wrong else other.offset
        both = np.logical_and(sample.clear, reference.clear)
        return compare_dates(sample.numbers, [harmonise(band, offset) for band in reference.numbers], both)


_VISIBLE = ("red", "green", "blue", "coastal")  # the darkest over land first

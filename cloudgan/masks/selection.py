"""Which masks a run takes: from what the user names to rules, detectors and the temporal test."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cloudgan.defaults import Snow
from cloudgan.errors import InputError
from cloudgan.masks.detector import CSMASK, Detector, DetectorSpec
from cloudgan.sentinel2.classification import DEFAULT_RULES, ClassRules

CLASSIFICATION = "scl"
"""Name of the scene classification as a mask."""
TEMPORAL = "temporal"
"""Name of the temporal test."""
NONE = "none"
"""Name of no mask at all: whatever has data is clear."""


@dataclass(frozen=True)
class Masks:
    """What finds the clouds of a run."""

    rules: ClassRules = DEFAULT_RULES
    """How the scene classification is used."""
    detectors: tuple[Detector, ...] = ()
    """What is asked beside it."""
    is_temporal: bool = False
    """Whether the temporal test is united with them."""

    @property
    def specs(self) -> tuple[DetectorSpec, ...]:
        """What a plan must know of the detectors."""
        return tuple(one.spec for one in self.detectors)

    @classmethod
    def load(cls, names: Sequence[str], snow: Snow, bands: Sequence[str]) -> Masks:
        """Read and check the masks that a user names.

        Args:
            names: `scl`, `csmask`, `temporal`, paths of detectors, or `none` alone.
            snow: What class 11 is taken for.
            bands: Common names of the bands that are read in any case.

        Raises:
            InputError: A name is unknown, or a detector cannot be used.
        """
        check_names(names)
        detectors = []
        for name in dict.fromkeys(names):
            if name == CSMASK:
                detectors.append(Detector.load_csmask(bands))
            elif name not in (CLASSIFICATION, TEMPORAL, NONE):
                detectors.append(Detector.load(name))
        rules = ClassRules(is_used=CLASSIFICATION in names, snow=snow)
        return cls(rules, tuple(detectors), TEMPORAL in names)


DEFAULT_MASKS = Masks()
_KNOWN = f"{CLASSIFICATION}, {CSMASK}, {TEMPORAL}, an ONNX file, or {NONE}"


def check_names(names: Sequence[str]) -> None:
    """Make sure that names of masks can be meant.

    Raises:
        InputError: One is no name and no ONNX file, or `none` is not alone.
    """
    if not names:
        raise InputError(f"--mask names nothing; give {_KNOWN}")
    if set(names) == {TEMPORAL}:
        raise InputError(
            f"--mask {TEMPORAL} tests what another mask calls clear; give --mask {CLASSIFICATION},{TEMPORAL}"
        )
    if NONE in names and len(set(names)) > 1:
        raise InputError(f"--mask {NONE} trusts no mask, and others are named; leave one or the other out")
    for name in names:
        if name not in (CLASSIFICATION, CSMASK, TEMPORAL, NONE) and not name.lower().endswith(".onnx"):
            raise InputError(f"--mask {name} is unknown; give {_KNOWN}")

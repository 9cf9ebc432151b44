"""What must be read around a window, in space and in time, to find its clouds."""

from __future__ import annotations

from collections.abc import Sequence

from cloudgan.geo.grid import Window
from cloudgan.masks import snow, temporal
from cloudgan.masks.detector import DetectorSpec, cover_detectors
from cloudgan.sentinel2.classification import ClassRules


def cover_masks(
    window: Window, detectors: Sequence[DetectorSpec], buffer: int, *, is_temporal: bool
) -> Window:
    """What must be read to find the clouds of a window.

    Args:
        window: Where clouds are wanted.
        detectors: What finds them beside the scene classification.
        buffer: Width of the buffer around cloud and shadow, in pixels.
        is_temporal: Whether the temporal test does.
    """
    return cover_detectors(
        window.buffered(temporal.margin_pixels(buffer)) if is_temporal else window, detectors
    )


def estimate_margin(detectors: Sequence[DetectorSpec], buffer: int, *, is_temporal: bool) -> int:
    """Pixels that `cover_masks` adds to a window, at each side and at most. Arguments as there."""
    around = temporal.margin_pixels(buffer) if is_temporal else 0
    return around + max((one.contract.tile - 1 for one in detectors), default=0)


def margin_days(rules: ClassRules, *, is_temporal: bool) -> int:
    """Days around a date that decide its mask.

    Args:
        rules: How the scene classification is used.
        is_temporal: Whether the temporal test finds clouds: what it takes for clear may be confirmed snow.
    """
    return snow.margin_days(rules) + (temporal.MARGIN_DAYS if is_temporal else 0)

"""Images of one solar day become one: per pixel one image is chosen, and gives all the bands.

Tiles of one overpass show the same measurement, and the first with data is on top. Overpasses are
measurements of their own, minutes to hours apart. Where one is cloudy and another clear, the clear one is
chosen. The clouds of each have a buffer around them, which must be known before the choice.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cloudgan.io.readers import Layer
from cloudgan.observations import OPACITY, compute_opacity
from cloudgan.sentinel2.classification import DEFAULT_RULES, SCL, ClassRules, PixelClass, classify
from cloudgan.stac.items import SourceItem

APART = dt.timedelta(minutes=5)
"""Images of one place that were taken further apart are of different overpasses."""

_BY_DATA = np.zeros(len(PixelClass), np.uint8)
_BY_DATA[PixelClass.UNRELIABLE] = 1
_BY_DATA[[PixelClass.CLEAR, PixelClass.CLOUDY, PixelClass.SNOW]] = 2
_BY_VIEW = _BY_DATA.copy()
_BY_VIEW[PixelClass.SNOW] = 3  # other days decide what it is, so it is better than cloud alone
_BY_VIEW[PixelClass.CLEAR] = 4  # and 5 beyond the buffer of clouds


@dataclass(frozen=True, slots=True)
class MergeRules:
    """What the choice between the images of a day depends on."""

    buffer: int
    """Width in pixels of the buffer around cloud and shadow."""
    classes: ClassRules = DEFAULT_RULES
    """How the scene classification is used."""


def group_overpasses(items: Sequence[SourceItem]) -> list[list[SourceItem]]:
    """The items of one place and day by overpass, each group in the order of the items."""
    groups: list[list[SourceItem]] = []
    for item in sorted(items, key=lambda one: one.datetime):
        if groups and item.datetime - groups[-1][-1].datetime <= APART:
            groups[-1].append(item)
        else:
            groups.append([item])
    ordered = [sorted(group, key=items.index) for group in groups]
    return sorted(ordered, key=lambda group: items.index(group[0]))


def merge_tiles(layers: Iterable[Layer], rules: MergeRules) -> Layer | None:
    """The images of one overpass as one, the first with data on top; None of none."""

    def rank(layer: Layer) -> Any:
        return _apply_to_classes(layer, rules.classes, lambda classes: _BY_DATA[classes], np.uint8)

    return _choose(layers, rank)


def merge_overpasses(layers: Iterable[Layer], rules: MergeRules) -> Layer:
    """The images of several overpasses as one, the first that shows the surface on top.

    Args:
        layers: One of each overpass, at least one.
        rules: What the choice depends on.

    Returns:
        The bands, and as `opacity` that of the image that was chosen.
    """

    def rank(layer: Layer) -> Any:
        ranks = _apply_to_classes(layer, rules.classes, lambda classes: _BY_VIEW[classes], np.uint8)
        return ranks + ((ranks == _BY_VIEW[PixelClass.CLEAR]) & (layer[OPACITY] == 0))

    merged = _choose((layer | {OPACITY: measure_opacity(layer, rules)} for layer in layers), rank)
    assert merged is not None  # noqa: S101
    return merged


def _choose(layers: Iterable[Layer], rank: Callable[[Layer], Any]) -> Layer | None:
    """Per pixel the layer of the highest rank, of equal ones the first."""
    merged: Layer | None = None
    highest: Any = None
    for layer in layers:
        if merged is None:
            merged = layer
            continue
        highest = rank(merged) if highest is None else highest
        ranks = rank(layer)
        better = ranks > highest
        merged = {name: np.where(better, layer[name], merged[name]) for name in merged}
        highest = np.maximum(highest, ranks)
    return merged


def measure_opacity(layer: Layer, rules: MergeRules) -> Any:
    """See `observations.compute_opacity`, of an image in memory or lazy; float32 of shape (y, x)."""
    # A value depends on no pixel further away than the buffer.
    compute = partial(compute_opacity, buffer=rules.buffer)
    return _apply_to_classes(layer, rules.classes, compute, np.float32, rules.buffer)


def _apply_to_classes(
    layer: Layer,
    rules: ClassRules,
    function: Callable[[NDArray[np.uint8]], NDArray[Any]],
    dtype: Any,
    depth: int = 0,
) -> Any:
    """A function of an image's pixel classes that keeps their shape, in memory or lazily.

    Args:
        layer: The image.
        rules: How its classification is used.
        function: Of pixel classes, shape (y, x).
        dtype: Of what it returns.
        depth: Pixels around one that decide its value.
    """
    names = [name for name in layer if name not in (SCL, OPACITY)]

    def compute(scl: Any, *bands: Any) -> NDArray[Any]:
        return function(classify(scl, dict(zip(names, bands, strict=True)), rules))

    arrays = [layer[name] for name in (SCL, *names)]
    if isinstance(layer[SCL], np.ndarray):
        return compute(*arrays)
    import dask.array  # a second of import that reading now does without

    frame = {"dtype": dtype, "meta": np.empty((0, 0), dtype)}
    if not depth:
        return dask.array.map_blocks(compute, *arrays, **frame)
    return dask.array.map_overlap(compute, *arrays, depth=depth, boundary="none", allow_rechunk=True, **frame)

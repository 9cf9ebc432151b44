"""Colours: composites of bands in one stretch for all dates, and the palettes of layers."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cloudgan.products.layers import COLOURS
from cloudgan.report.overview import MASKED_BY, Overview
from cloudgan.schema import Provenance

Rgba = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class Composite:
    """Bands that are shown as red, green and blue."""

    key: str
    """Short name, for files and for the page."""
    title: str
    """What people call it."""
    bands: tuple[str, str, str]
    """The bands; of a picture in grey three times the same."""


_COMPOSITES = (
    Composite("true", "True colour", ("red", "green", "blue")),
    Composite("false", "False colour", ("nir", "red", "green")),
    Composite("swir", "Short-wave infrared", ("swir16", "nir", "red")),
)
_SHADES = 15  # of the uncertainty
_INDEX_SHADES = 255
_SAMPLE = 8  # dates from which a stretch is estimated
_LOWEST, _HIGHEST = 1, 99  # percentiles that are black and white
_GAMMA = 1.4  # surfaces are dark, and clouds are gone
# Dark to bright, of equal steps to the eye and for eyes that tell no red from green ("viridis", CC0).
_RAMP = ((68, 1, 84), (59, 82, 139), (33, 145, 140), (94, 201, 98), (253, 231, 37))
_SOURCE_COLOURS: dict[str, Rgba] = {
    "observed": (0, 0, 0, 0),
    "scl": (51, 102, 204, 255),
    "snow": (102, 204, 238, 255),
    "csmask": (17, 153, 119, 255),
    "detector": (153, 153, 51, 255),
    "temporal": (170, 68, 153, 255),
    "user": (221, 204, 119, 255),
    "several": (136, 34, 85, 255),
    "buffer": (238, 153, 102, 255),
    "no_data": (120, 120, 120, 255),
}


def find_composites(bands: Collection[str]) -> tuple[Composite, ...]:
    """The composites that the bands of a store allow; one of whatever is there, if none."""
    found = tuple(one for one in _COMPOSITES if set(one.bands) <= set(bands))
    if found or not bands:
        return found
    names = list(bands)
    if len(names) >= 3:
        return (Composite("bands", "Bands", (names[2], names[1], names[0])),)
    return (Composite("grey", f"Band {names[0]}", (names[0], names[0], names[0])),)


@dataclass(frozen=True, slots=True)
class Stretch:
    """How numbers become brightness: the same on every date, so that dates can be compared."""

    limits: dict[str, tuple[float, float]]
    """Reflectance that is shown black and white, by band."""
    uncertainty: float
    """Expected error that has the last colour."""

    @staticmethod
    def sample(dates: Sequence[int]) -> list[int]:
        """Of some dates, those from which a stretch is estimated: evenly spaced, with both ends."""
        return [dates[at] for at in np.unique(np.linspace(0, len(dates) - 1, _SAMPLE).round().astype(int))]

    @classmethod
    def estimate(cls, overviews: Iterable[Overview]) -> Stretch:
        """The stretch of a series, from some of its dates."""
        values: dict[str, list[NDArray[np.float32]]] = {}
        errors: list[NDArray[np.float32]] = [np.zeros(1, np.float32)]
        for one in overviews:
            for name, band in one.bands.items():
                values.setdefault(name, []).append(band.ravel())
            errors.append(one.uncertainty.ravel())
        joined = {name: np.concatenate(parts) for name, parts in values.items()}
        return cls.measure(joined, np.concatenate(errors))

    @classmethod
    def measure(cls, values: Mapping[str, NDArray[np.float32]], errors: NDArray[np.float32]) -> Stretch:
        """The stretch of some numbers of each band, and of some expected errors; NaN is left out."""
        limits = {}
        for name, one in values.items():
            known = one[np.isfinite(one)]
            low, high = np.percentile(known, (_LOWEST, _HIGHEST)) if known.size else (0.0, 1.0)
            limits[name] = float(low), max(float(high), float(low) + 0.02)
        errors = errors[np.isfinite(errors)]
        largest = float(np.percentile(errors, _HIGHEST)) if errors.size else 0.0
        return cls(limits, max(largest, 0.005))

    def render(self, overview: Overview, composite: Composite) -> NDArray[np.uint8]:
        """A date in colour, shape (rows, columns, 4); transparent where there is no data."""
        return self.colour(overview.bands, composite)

    def colour(self, bands: Mapping[str, NDArray[np.float32]], composite: Composite) -> NDArray[np.uint8]:
        """Reflectances in colour, shape (rows, columns, 4); transparent where there are none."""
        channels = []
        for name in composite.bands:
            low, high = self.limits[name]
            scaled = np.clip((bands[name] - low) / (high - low), 0, 1)
            channels.append(scaled ** (1 / _GAMMA))
        stacked = np.stack(channels, axis=-1)
        known = np.isfinite(stacked).all(axis=-1)
        rgb = np.rint(255 * np.nan_to_num(stacked))
        return np.concatenate([rgb, np.where(known, 255, 0)[..., None]], axis=-1).astype(np.uint8)

    def shade(self, uncertainty: NDArray[np.float32]) -> NDArray[np.uint8]:
        """Numbers of `UNCERTAINTY_COLOURS` of expected errors; 0 where there is none."""
        known = np.isfinite(uncertainty)
        scaled = np.clip(np.nan_to_num(uncertainty) / self.uncertainty, 0, 1)
        return np.where(known, 1 + np.rint((_SHADES - 1) * scaled), 0).astype(np.uint8)

    def shade_index(self, name: str, values: NDArray[np.float32]) -> NDArray[np.uint8]:
        """Numbers of `INDEX_COLOURS` of a spectral index; 0 where there is none."""
        low, high = self.limits[name]
        scaled = np.clip((np.nan_to_num(values) - low) / (high - low), 0, 1)
        return np.where(np.isfinite(values), 1 + np.rint((_INDEX_SHADES - 1) * scaled), 0).astype(np.uint8)


def _fade(ramp: Sequence[tuple[int, int, int]], count: int) -> tuple[Rgba, ...]:
    places = np.linspace(0, len(ramp) - 1, count)
    channels = [np.interp(places, range(len(ramp)), [one[at] for one in ramp]) for at in range(3)]
    return tuple((int(r), int(g), int(b), 255) for r, g, b in zip(*channels, strict=True))


CLEAR: Rgba = (0, 0, 0, 0)
"""Nothing."""
PROVENANCE_COLOURS: tuple[Rgba, ...] = tuple(
    # What was observed, and what is nothing, is the picture alone.
    CLEAR if kind in (Provenance.OBSERVED, Provenance.NO_DATA) else COLOURS[kind]
    for kind in Provenance
)
"""Colour of each provenance."""
SOURCE_COLOURS: tuple[Rgba, ...] = tuple(_SOURCE_COLOURS[name] for name in MASKED_BY)
"""Colour of each class of `MASKED_BY`."""
UNCERTAINTY_COLOURS: tuple[Rgba, ...] = (CLEAR, *_fade(_RAMP, _SHADES))
"""Colours of `Stretch.shade`."""
SHARE_COLOURS: tuple[Rgba, ...] = (CLEAR, *_fade(_RAMP, _SHADES))
"""Colours of `shade_share`."""

INDEX_COLOURS: tuple[Rgba, ...] = (CLEAR, *_fade(_RAMP, _INDEX_SHADES))
"""Colours of `Stretch.shade_index`."""


def shade_share(share: NDArray[np.floating], known: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Numbers of `SHARE_COLOURS` of shares from 0 to 1; 0 where nothing is known."""
    return np.where(known, 1 + np.rint((_SHADES - 1) * np.clip(share, 0, 1)), 0).astype(np.uint8)

"""Spectral indices, by the bands that a store has."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from cloudgan.errors import InputError


@dataclass(frozen=True, slots=True)
class Index:
    """One spectral index of reflectances."""

    name: str
    """Its short name in lower case."""
    long_name: str
    """Its name in full, with who proposed it."""
    bands: tuple[str, ...]
    """Common names of the bands that it needs."""
    formula: Callable[..., Any]
    """Numerator and denominator of these bands' reflectances, in their order."""

    def compute(self, *bands: Any) -> Any:
        """The index of reflectances, arrays of one shape; NaN or infinite where the denominator is 0."""
        above, below = self.formula(*bands)
        return above / below


def _difference(one: Any, other: Any) -> tuple[Any, Any]:
    return one - other, one + other


def _enhance(nir: Any, red: Any, blue: Any) -> tuple[Any, Any]:
    return 2.5 * (nir - red), nir + 6 * red - 7.5 * blue + 1


INDICES = {
    index.name: index
    for index in (
        Index("ndvi", "normalised difference vegetation index (Rouse 1974)", ("nir", "red"), _difference),
        Index("evi", "enhanced vegetation index (Huete 2002)", ("nir", "red", "blue"), _enhance),
        Index("ndwi", "normalised difference water index (McFeeters 1996)", ("green", "nir"), _difference),
        Index("ndmi", "normalised difference moisture index (Gao 1996)", ("nir", "swir16"), _difference),
        Index("nbr", "normalised burn ratio (Key and Benson 2006)", ("nir", "swir22"), _difference),
    )
}
"""All indices, by name."""


def find_index(name: str, bands: Collection[str]) -> Index:
    """The index of a name, which the bands allow.

    Args:
        name: Such as `ndvi`, in either case.
        bands: Common names of the bands that there are.

    Raises:
        InputError: There is no such index, or a band is lacking.
    """
    index = INDICES.get(name.lower())
    if index is None:
        raise InputError(f"there is no index {name!r}; give one of {', '.join(INDICES)}")
    lacking = [band for band in index.bands if band not in bands]
    if lacking:
        raise InputError(
            f"{index.name} needs the band {' and '.join(lacking)}, and the store has {', '.join(bands)}; "
            f"give another index, or a store of a generator with that band"
        )
    return index

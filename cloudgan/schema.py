"""The variables of the output: one table of names, types, fill values and CF attributes.

The core fills these variables, the planner counts their bytes, the store's template declares them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum, IntFlag
from typing import Any

import numpy as np

from cloudgan.sentinel2.bands import BANDS, REFLECTANCE_SCALE

PIXEL_RULES = 6
"""Version of the rules by which the same inputs give a pixel its value and provenance. It is raised when they
give other ones: a store begun by other rules is not continued. Those of release 0.1.0 had no number."""
NO_CLEAR_DATE = 65535
"""Days to a clear date that does not exist."""
NO_UNCERTAINTY = 65535
"""Uncertainty where nothing was generated, or where nothing is known of it."""


class Provenance(IntEnum):
    """Where a pixel's value is from."""

    NO_DATA = 0
    """Nowhere: the value is 0."""
    OBSERVED = 1
    """The satellite's own value, untouched, where it saw the surface."""
    GENERATED = 2
    """The generator, wholly or feathered with the observed value at the edge of the mask."""
    MISSING_ASSET = 3
    """Nowhere, for an asset that should hold it could not be read."""
    UNRELIABLE = 4
    """The satellite's own value, which nothing vouches for: without a class, defective, dark noise, or
    lacking in a band. Where it was saturated, the value is 0."""


class MaskSource(IntFlag):
    """Who masked a pixel; several may have. A pixel that nobody masked is 0, and observed."""

    SCL = 1
    """The scene classification, which calls it cloud or cloud shadow."""
    SNOW = 2
    """The scene classification, which calls it snow or ice that no other dates confirm."""
    CSMASK = 4
    """The detector `csmask`."""
    DETECTOR = 8
    """Another detector, from a file."""
    TEMPORAL = 16
    """Time: it differs from its other dates as cloud does."""
    USER = 32
    """A mask that the user gave."""
    BUFFER = 64
    """The buffer around what another source masked."""
    NO_DATA = 128
    """It shows no surface: no data, an asset is missing, or a value that nothing vouches for."""


@dataclass(frozen=True, slots=True)
class Variable:
    """One variable over (time, y, x)."""

    name: str
    """Its name in a cube, and in the stores that are written."""
    dtype: np.dtype[Any]
    """Type of the stored numbers."""
    fill: int
    """Stored number where there is nothing."""
    attributes: dict[str, Any] = field(default_factory=dict)
    """CF attributes."""


_REFLECTANCE = {"units": "1", "scale_factor": REFLECTANCE_SCALE, "add_offset": 0.0}
_DAYS = "days from this date to the nearest clear date {} it, 0 where observed, {} where there is none"

PROVENANCE = Variable(
    "provenance",
    np.dtype(np.uint8),
    Provenance.NO_DATA,
    {
        "long_name": "where the pixel's values are from",
        "flag_values": [int(flag) for flag in Provenance],
        "flag_meanings": " ".join(flag.name.lower() for flag in Provenance),
    },
)
MASK_SOURCE = Variable(
    "mask_source",
    np.dtype(np.uint8),
    MaskSource.NO_DATA,
    {
        "long_name": "who masked the pixel, 0 where it is observed",
        "flag_masks": [int(flag) for flag in MaskSource],
        "flag_meanings": " ".join(str(flag.name).lower() for flag in MaskSource),
    },
)
DAYS_BEFORE, DAYS_AFTER = (
    Variable(
        f"days_{side}",
        np.dtype(np.uint16),
        NO_CLEAR_DATE,
        # "d" is UDUNITS' day too; "days" would make xarray turn numbers into timedeltas.
        {"_FillValue": NO_CLEAR_DATE, "units": "d", "long_name": _DAYS.format(side, NO_CLEAR_DATE)},
    )
    for side in ("before", "after")
)


def uncertainty(*, predicted: bool) -> Variable:
    """The variable that says how far off a generated pixel is likely to be.

    Args:
        predicted: Whether the generator predicts it; else it is how far overlapping predictions differ.
    """
    what = (
        "absolute error that the generator predicts, mean over bands"
        if predicted
        else "largest minus smallest prediction of overlapping tiles, mean over bands"
    )
    attributes = {"_FillValue": NO_UNCERTAINTY, "long_name": what} | _REFLECTANCE
    return Variable("uncertainty", np.dtype(np.uint16), NO_UNCERTAINTY, attributes)


_BAND_STANDARD_NAME = "surface_bidirectional_reflectance"


def is_band(attributes: Mapping[str, Any]) -> bool:
    """Whether the variable of these attributes is a spectral band."""
    return attributes.get("standard_name") == _BAND_STANDARD_NAME


def band(name: str) -> Variable:
    """The variable of a spectral band."""
    known = f" (Sentinel-2 {BANDS[name].esa_name})" if name in BANDS else ""
    attributes = {
        "_FillValue": 0,
        "standard_name": _BAND_STANDARD_NAME,
        "long_name": f"{name} surface reflectance{known}, declouded",
        "ancillary_variables": "provenance mask_source days_before days_after uncertainty",
    } | _REFLECTANCE
    if name in BANDS:
        attributes["wavelength_nm"] = BANDS[name].wavelength
    return Variable(name, np.dtype(np.uint16), 0, attributes)


def variables(bands: Sequence[str], *, predicts_uncertainty: bool = False) -> tuple[Variable, ...]:
    """All variables of an output, in order: the bands, and what is said of each pixel.

    Args:
        bands: Common names.
        predicts_uncertainty: Whether the generator predicts its uncertainty.
    """
    quality = (PROVENANCE, MASK_SOURCE, DAYS_BEFORE, DAYS_AFTER, uncertainty(predicted=predicts_uncertainty))
    return (*map(band, bands), *quality)


QUALITY_NAMES = ("provenance", "mask_source", "days_before", "days_after", "uncertainty")
"""Names of the variables that say something of each pixel, in order."""

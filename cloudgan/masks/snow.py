"""Class 11 of the scene classification, "snow or ice", is not taken at its word: other dates confirm it.

Sen2Cor puts thick cloud with an icy top into this class. In one image the two are alike, dark in short-wave
infrared included. But snow stays, and cloud does not. See decision 21.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from cloudgan.sentinel2.classification import DEFAULT_RULES, ClassRules, PixelClass, Scl, classify

SNOW_DAYS = 30
"""Days from a date within which others confirm its snow: weeks, so that a cloudy winter has some that do."""
SNOW_STAYS = 10
"""Days that two dates must be apart to confirm each other: overcast days follow each other sooner."""
ENOUGH_DATES = 3
"""Dates that confirm each other, however near they are."""
BARE_CLASSES = (Scl.VEGETATION, Scl.NOT_VEGETATED)
"""Classes that contradict snow. Snow in the shade is called dark, water or unclassified, so those do not."""


def margin_days(rules: ClassRules) -> int:
    """Days around a series that decide its pixel classes."""
    return SNOW_DAYS if rules.is_used and rules.snow == "auto" else 0


def classify_series(
    scl: NDArray[np.uint8],
    bands: Mapping[str, NDArray[np.uint16]],
    days: NDArray[np.int64],
    rules: ClassRules = DEFAULT_RULES,
) -> NDArray[np.uint8]:
    """What each pixel of a time series shows, as values of `PixelClass`; snow is clear if dates confirm it.

    Args:
        scl: Scene classification, shape (time, y, x).
        bands: By common name: digital numbers of the same shape.
        days: Day number of each date, ascending, shape (time,).
        rules: How the classification is used.

    Returns:
        Shape (time, y, x), without `PixelClass.SNOW`.
    """
    pixel_classes = classify(scl, bands, rules)
    confirmed = confirm_snow(pixel_classes, scl, days)
    snow = pixel_classes == PixelClass.SNOW
    pixel_classes[snow] = PixelClass.CLOUDY
    pixel_classes[confirmed] = PixelClass.CLEAR
    return pixel_classes


def confirm_snow(
    pixel_classes: NDArray[np.uint8], scl: NDArray[np.uint8], days: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Where other dates confirm what is called snow, each pixel on its own.

    The dates within `SNOW_DAYS` count that call the pixel snow, with no vegetation and no bare soil seen
    between. They confirm the date where the first and the last of them, itself included, are `SNOW_STAYS`
    days apart, or where they are `ENOUGH_DATES`.

    Args:
        pixel_classes: Values of `PixelClass`; `SNOW` is what is in question, shape (time, y, x).
        scl: Scene classification, of the same shape.
        days: Day number of each date, ascending, shape (time,).
    """
    snow = pixel_classes == PixelClass.SNOW
    confirmed = np.zeros(snow.shape, np.bool_)
    for at in np.flatnonzero(snow.any(axis=(1, 2))):
        asked = snow[at]
        count, duration = np.ones(int(asked.sum()), np.int8), np.zeros(int(asked.sum()), np.int16)
        for dates in (range(at - 1, -1, -1), range(at + 1, len(days))):
            lasts, farthest = np.ones(len(count), np.bool_), np.zeros(len(count), np.int16)
            for other in dates:
                apart = abs(int(days[other] - days[at]))
                if apart > SNOW_DAYS or not lasts.any():
                    break
                clear = pixel_classes[other][asked] == PixelClass.CLEAR
                lasts &= ~(clear & np.isin(scl[other][asked], BARE_CLASSES))
                seen = lasts & snow[other][asked]
                count += seen
                farthest[seen] = apart
            duration += farthest
        confirmed[at][asked] = (duration >= SNOW_STAYS) | (count >= ENOUGH_DATES)
    return confirmed

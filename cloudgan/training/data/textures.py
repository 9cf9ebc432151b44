"""Reading real cloud with its mask from an npz file, to composite clouds from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cloudgan.errors import InputError
from cloudgan.training.data.faults import name_unreadable
from cloudgan.training.data.imagery import Image
from cloudgan.training.data.sites import reflectance_of

_BANDS = ("blue", "green", "red", "nir", "swir16", "swir22")
_SHADOW, _CLOUD = 0, 4  # classes of ukis-csmask


def read_texture(path: Path, region: str, bands: Sequence[str]) -> Image:
    """Read an image of real clouds and their shadows.

    Args:
        path: An npz of `img` (height, width, six bands from blue, reflectance x 10000) and `msk` (the same
            shape, one class a pixel: 4 cloud, 0 cloud shadow).
        region: What to call the place.
        bands: Common names.

    Raises:
        InputError: The file cannot be read, or lacks an array.
    """
    with name_unreadable(path, "a cloud texture", "give an npz of img and msk"):
        with np.load(path) as arrays:
            numbers, classes = arrays["img"], arrays["msk"][..., 0]
        if numbers.shape != (*classes.shape, len(_BANDS)) or numbers.ndim != 3:
            raise ValueError(f"img has the shape {numbers.shape}, msk without its last axis {classes.shape}")
    if missing := [band for band in bands if band not in _BANDS]:
        raise InputError(f"{path} has no band {missing[0]}; its bands are {', '.join(_BANDS)}")
    reflectance = reflectance_of(np.moveaxis(numbers[..., [_BANDS.index(band) for band in bands]], -1, 0))
    cloud, shadow = classes == _CLOUD, classes == _SHADOW
    return Image(path.stem, region, reflectance, ~(cloud | shadow), cloud, shadow)

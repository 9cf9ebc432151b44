"""The model card: what a model was made of and by what, as it stands in its contract."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Iterable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from cloudgan import __version__
from cloudgan.observations import Site
from cloudgan.training.data.imagery import Imagery


def describe_software() -> dict[str, str]:
    """Versions of what decides the arithmetic."""
    backend = keras.backend.backend()
    found = {"python": platform.python_version(), "backend": backend, "cloudgan": __version__}
    for name in ("keras", backend, "numpy", "scipy"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def describe_file(path: Path) -> dict[str, str]:
    """A file's name and the digest of its content."""
    return {"path": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}


def describe_imagery(imagery: Imagery) -> dict[str, dict[str, Any]]:
    """By region, how many scenes and pairs it gives, and the digest of their pixels."""
    found: dict[str, dict[str, Any]] = {}
    for region in imagery.regions():
        scenes = [scene for scene in imagery.clear if scene.region == region]
        pairs = [pair for pair in imagery.pairs if pair.region == region]
        arrays: list[NDArray[Any]] = [array for scene in scenes for array in (scene.reflectance, scene.valid)]
        arrays += [array for pair in pairs for array in (pair.cloudy, pair.clear, pair.masked)]
        found[region] = {
            "clear scenes": len(scenes),
            "real pairs": len(pairs),
            "sha256": _digest(arrays),
        }
    return found


def describe_sites(sites: Sequence[Site]) -> dict[str, dict[str, Any]]:
    """By region, how many sites and dates it gives, and the digest of their pixels."""
    found: dict[str, dict[str, Any]] = {}
    for region in sorted({site.region for site in sites}):
        here = [site for site in sites if site.region == region]
        arrays: list[NDArray[Any]] = []
        for site in here:
            dates = site.observations
            arrays += [*dates.bands.values(), dates.pixel_classes, dates.days, site.trusted]
        found[region] = {
            "sites": len(here),
            "dates": sum(len(site.trusted) for site in here),
            "sha256": _digest(arrays),
        }
    return found


def _digest(arrays: Iterable[NDArray[Any]]) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()

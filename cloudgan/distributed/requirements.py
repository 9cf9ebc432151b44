"""What workers must have: their versions decide the bytes that they write, and a unit takes memory."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version

import numpy as np
import onnxruntime
import rasterio

from cloudgan import __version__
from cloudgan.errors import InputError


def list_versions() -> dict[str, str]:
    """What this process has, by the name of what has a version."""
    return {
        "cloudgan": __version__,
        "Python": ".".join(platform.python_version_tuple()[:2]),
        "GDAL": rasterio.__gdal_version__,
        "numpy": np.__version__,
        "ONNX Runtime": onnxruntime.__version__,
        "dask": version("dask"),
    }


@dataclass(frozen=True, slots=True)
class Requirements:
    """What a worker must have to work on a job."""

    versions: Mapping[str, str] = field(default_factory=list_versions)
    """What has which version, as in `list_versions`; by default, as in this process."""
    memory: int = 0
    """Bytes for each of its threads; 0 where it is not checked."""

    @classmethod
    def of_workers(cls, answers: Mapping[str, Mapping[str, str]], memory: int) -> Requirements:
        """What those that come later must have, by what those that are there have.

        The versions are theirs, not the client's, which computes no pixel: it may have ONNX Runtime for CPUs.

        Args:
            answers: Versions of each worker, by its address; at least one.
            memory: Bytes that a unit takes.

        Raises:
            InputError: One has another cloudgan than this process, or they differ from each other.
        """
        first, wanted = next(iter(answers.items()))
        for address, versions in answers.items():
            if versions["cloudgan"] != __version__:
                raise InputError(
                    f"worker {address} has cloudgan {versions['cloudgan']}; give them cloudgan "
                    f"{__version__}, as here"
                )
            for name, found in versions.items():
                if found != wanted[name]:
                    raise InputError(
                        f"worker {address} has {name} {found}, and worker {first} has {wanted[name]}, which "
                        "may give other pixels; give all workers the same"
                    )
        return cls(dict(wanted), memory)

    def find_refusal(self, limit: int | None, threads: int) -> str | None:
        """Why this process must not work with the others, as a verb with its object; None where it may.

        Args:
            limit: Bytes that it may use; None or 0 where nobody said.
            threads: Its threads.
        """
        own = list_versions()
        differing = [
            f"{name} {own.get(name, 'of no version')} where the run began with {wanted}"
            for name, wanted in self.versions.items()
            if own.get(name) != wanted
        ]
        if differing:
            return f"has {' and '.join(differing)}; give it the same"
        return self.find_shortage(limit, threads)

    def find_shortage(self, limit: int | None, threads: int) -> str | None:
        """Why a worker has too little memory, likewise; None where it has enough."""
        if not limit or self.memory * threads <= limit:
            return None
        return (
            f"has {limit / 1e9:.1f} GB for {threads} threads, and a work unit needs {self.memory / 1e9:.1f} "
            f"GB; give it fewer threads, or a --memory of {limit / 1e9 / threads:.1f}GB"
        )

"""What a user asks of a batch run: the command's options, from a TOML file and from flags."""

from __future__ import annotations

import tomllib
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, get_args

from dask.utils import parse_bytes

from cloudgan.errors import InputError
from cloudgan.io.cube import Reader
from cloudgan.planning.planner import CONTEXT_DAYS
from cloudgan.stac.providers import EARTH_SEARCH


@dataclass(frozen=True, slots=True)
class BatchConfig:
    """One batch run as the user described it; field names are the command's options."""

    aoi: str
    """Path of a GeoJSON file."""
    dates: str
    """What STAC takes: `2020-04/2020-07`, `2020-04-03`..."""
    out: str = "cloudgan.zarr"
    """Directory or object store URL of the Zarr store."""
    stac: str = EARTH_SEARCH
    """STAC API URL, short name, or path or URL of a static catalogue."""
    collection: str | None = None
    """Collection id."""
    resolution: float = 10.0
    """Edge of a pixel in metres."""
    max_cloud_cover: float = 100.0
    """Percent of a granule, included."""
    context_days: int = CONTEXT_DAYS
    """Days before and after the dates that are read for the clear looks they hold, and not written."""
    model: str | None = None
    """ONNX file, or name of a model that ships with cloudgan."""
    reader: str = "odc"
    """Which library reads: odc or stackstac."""
    scheduler: str | None = None
    """Address of a Dask scheduler; None starts workers on this machine."""
    workers: int | None = None
    """Worker processes on this machine; None is one a core."""
    memory: str | None = None
    """Memory of one worker, such as 4GB; None shares out what the machine has."""
    overwrite: bool = False
    """Replace a store of cloudgan's that is there."""
    allow_missing: bool = False
    """Record an asset that cannot be read as missing instead of failing."""
    clip: bool = False
    """Set what lies outside the AOI's polygon to no data."""
    score: bool = False
    """Judge the generator on clear ground of the cube itself, hidden under its own clouds."""

    def __post_init__(self) -> None:
        for name, kind in _KINDS.items():
            value = getattr(self, name)
            if value is not None and (
                not isinstance(value, kind) or isinstance(value, bool) != (kind is bool)
            ):
                raise InputError(
                    f"{_flag(name)} {value!r} is no {_KIND_NAMES[kind]}; see cloudgan-batch --help"
                )
        if self.reader not in get_args(Reader):
            raise InputError(f"--reader {self.reader} is unknown; give odc or stackstac")
        if not 0 <= self.max_cloud_cover <= 100:
            raise InputError(
                f"--max-cloud-cover {_plain(self.max_cloud_cover)} is no percentage; give 0 to 100"
            )
        if not 0 <= self.context_days <= 3650:
            raise InputError(f"--context-days {self.context_days} is not between 0 and 3650; give 30, say")
        if not 0.1 <= self.resolution <= 10_000:
            raise InputError(
                f"--resolution {_plain(self.resolution)} is not between 0.1 and 10000 metres; give 10, say"
            )
        if "://" in self.out and ("@" in self.out.split("/")[2] or "?" in self.out):
            raise InputError(
                f"--out {self.out} has credentials or options in it; give s3://bucket/key, and the "
                "credentials in the environment"
            )
        if self.workers is not None and self.workers < 1:
            raise InputError(f"--workers {self.workers} leaves nobody to work; give 1 or more")
        if self.memory is not None:
            self._parsed_memory()

    @property
    def memory_bytes(self) -> int | None:
        """Memory of one worker in bytes; None where not given."""
        return None if self.memory is None else self._parsed_memory()

    def _parsed_memory(self) -> int:
        try:
            size = parse_bytes(str(self.memory))
        except (ValueError, OverflowError) as error:
            raise InputError(f"--memory {self.memory} is no size; give one such as 4GB") from error
        if size <= 0:
            raise InputError(f"--memory {self.memory} holds nothing; give a size such as 4GB")
        return int(size)

    @classmethod
    def load(cls, file: Path | None, flags: dict[str, Any]) -> BatchConfig:
        """The options of a TOML file, overridden by flags.

        Args:
            file: The job file, or None. Relative `aoi`, `model` and `stac` paths in it count from its folder
                where they exist there.
            flags: Options by field name; None stands for one that was not given.

        Raises:
            InputError: The file cannot be read or has unknown options, or an option is missing or wrong.
        """
        options = {} if file is None else _read_toml(file, {field.name for field in fields(cls)})
        options |= {name: value for name, value in flags.items() if value is not None}
        missing = [name for name in ("aoi", "dates") if name not in options]
        if missing:
            raise InputError(f"{' and '.join(map(_flag, missing))} must be given; see cloudgan-batch --help")
        return cls(**options)

    def as_json(self) -> dict[str, Any]:
        """The options by name."""
        return asdict(self)


_KINDS: dict[str, Any] = {
    "aoi": str,
    "dates": str,
    "out": str,
    "stac": str,
    "collection": str,
    "resolution": int | float,
    "max_cloud_cover": int | float,
    "context_days": int,
    "model": str,
    "reader": str,
    "scheduler": str,
    "workers": int,
    "memory": str,
    "overwrite": bool,
    "allow_missing": bool,
    "clip": bool,
    "score": bool,
}
_KIND_NAMES = {str: "text", int: "whole number", int | float: "number", bool: "true or false"}


def _plain(number: float) -> str:
    return f"{number:g}" if isinstance(number, float) else str(number)  # a whole number may have no end


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _read_toml(file: Path, known: set[str]) -> dict[str, Any]:
    try:
        raw = tomllib.loads(file.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise InputError(
            f"the job file {file} cannot be read ({error.strerror}); give a TOML file"
        ) from error
    except ValueError as error:
        raise InputError(f"the job file {file} is no TOML ({error}); mend it") from error
    options = {name.replace("-", "_"): value for name, value in raw.items()}
    unknown = sorted(set(options) - known)
    if unknown:
        raise InputError(
            f"the job file {file} has unknown options {', '.join(unknown)}; "
            f"it may have {', '.join(sorted(known))}"
        )
    for name in ("aoi", "stac", "model"):
        value = options.get(name)
        beside = file.resolve().parent / str(value)
        if isinstance(value, str) and beside.exists():
            options[name] = str(beside)
    return options

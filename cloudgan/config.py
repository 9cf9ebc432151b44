"""What a user asks of a batch run: one class for the command's options, a TOML file and Python."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field, field_validator, model_validator

from cloudgan import defaults
from cloudgan.errors import redacted
from cloudgan.object_stores import normalise_location, path_exists
from cloudgan.settings import Location, Settings

if TYPE_CHECKING:
    from cloudgan.sentinel2.offset import OffsetPolicy
    from cloudgan.stac.profiles import Profile


class BatchConfig(Settings):
    """One batch run; the fields are the command's options, and their docstrings its help."""

    title = "job file"
    remedy = "see cloudgan-batch --help"

    aoi: str
    """Area of interest: GeoJSON in a file, at an address or on stdin (-); or a vector file."""
    dates: str
    """Day, month, year or span: 2020-04/2020-07."""
    out: str = "cloudgan.zarr"
    """Zarr store to write: a directory, or an object store's URL."""
    stac: str = defaults.STAC
    """Where to search: earth-search, planetary-computer, copernicus-data-space, a profile, URL or path."""
    collection: str | None = None
    """Collection id; by default sentinel-2-l2a of an API, all of a static catalogue."""
    resolution: float = Field(defaults.RESOLUTION, ge=0.1, le=10_000)
    """Pixel size in metres."""
    max_cloud_cover: float = Field(defaults.MAX_CLOUD_COVER, ge=0, le=100)
    """Leave out granules with more cloud, in percent."""
    context_days: int = Field(defaults.CONTEXT_DAYS, ge=0, le=3650)
    """Days around the dates that are read for their clear observations, and not written."""
    model: str = defaults.MODEL
    """Generator: an ONNX file, or the name of a model that ships."""
    bands: str | None = None
    """Bands to write, such as blue,green,red or rgbn, hls, all; by default rgbn, and those of the model
    where it cannot estimate others."""
    reader: defaults.Reader = defaults.READER
    """Library that reads the pixels: rasterio, odc or stackstac."""
    scheduler: str | None = None
    """Dask scheduler to use: its address, scheduler file (.json) or gateway://NAME."""
    wait: float = Field(300.0, ge=1, le=86_400)
    """Seconds to wait for a scheduler, or for its workers."""
    resources: str | None = None
    """Dask resources that a unit takes, such as GPU=1."""
    workers: int | None = Field(None, ge=1)
    """Workers on this machine; by default one a core."""
    memory: str | None = None
    """Memory of one worker, such as 4GB; by default an equal share of the machine's."""
    overwrite: bool = False
    """Replace a store that was made with other settings."""
    allow_missing: bool = False
    """Record assets that cannot be read as missing, instead of failing."""
    clip: bool = False
    """Write no data outside the polygon, instead of outside its bounding box."""
    offset: str = "auto"
    """BOA offset of the items: auto (metadata and pixels), trust (metadata), none, or DN such as 1000."""
    mask: str = Field(defaults.MASK, json_schema_extra={"repeated": True})
    """What finds clouds, united: scl, csmask, temporal, ONNX files; or none. Several with commas."""
    snow: defaults.Snow = defaults.SNOW
    """What class 11, snow or ice, is: auto (clear if other dates confirm it), keep (clear) or cloud."""
    strict: bool = False
    """Refuse items that cannot be used, instead of leaving them out."""
    score: bool = False
    """Evaluate the generator on clear pixels of the cube itself."""
    report: bool = False
    """Write an HTML report beside the store."""

    @model_validator(mode="before")
    @classmethod
    def _take_defaults_of_profile(cls, values: Any) -> Any:
        """What is not given is what the profile says, of a catalogue that has one."""
        stac = values.get("stac", defaults.STAC) if isinstance(values, dict) else None
        profile = _find_profile(stac) if isinstance(stac, str) else None
        return values if profile is None else profile.defaults | values

    @field_validator("aoi", "out", "stac", "model")
    @classmethod
    def _normalise_location(cls, location: str) -> str:
        return normalise_location(location)

    @field_validator("offset", mode="before")
    @classmethod
    def _take_number(cls, offset: object) -> object:
        return str(offset) if isinstance(offset, int) and not isinstance(offset, bool) else offset

    @field_validator("mask", mode="before")
    @classmethod
    def _join_masks(cls, mask: object) -> object:
        if isinstance(mask, list | tuple) and all(isinstance(one, str) for one in mask):
            return ",".join(mask)
        return mask

    @field_validator("mask")
    @classmethod
    def _normalise_masks(cls, mask: str) -> str:
        names = [one.strip() for one in mask.split(",") if one.strip()]
        return ",".join(normalise_location(one) if "/" in one else one for one in names)

    @field_validator("offset")
    @classmethod
    def _refuse_what_is_no_offset(cls, offset: str) -> str:
        _parse_offset(offset)
        return offset

    @field_validator("out")
    @classmethod
    def _refuse_credentials(cls, out: str) -> str:
        if "://" in out and ("@" in out.split("/")[2] or "?" in out):
            raise ValueError(
                "has credentials or options in it; give s3://bucket/key, and the credentials in the "
                "environment"
            )
        return out

    @field_validator("memory")
    @classmethod
    def _refuse_what_is_no_size(cls, memory: str | None) -> str | None:
        if memory is None:
            return None
        try:
            size = _parse_bytes(memory)
        except (ValueError, OverflowError):
            raise ValueError("is no size; give one such as 4GB") from None
        if size <= 0:
            raise ValueError("holds nothing; give a size such as 4GB")
        return memory

    @field_validator("resources")
    @classmethod
    def _refuse_what_are_no_resources(cls, resources: str | None) -> str | None:
        if resources is not None:
            _parse_resources(resources)
        return resources

    @field_validator("bands")
    @classmethod
    def _refuse_what_is_no_band(cls, bands: str | None) -> str | None:
        if bands is not None:
            _parse_bands(bands)
        return bands

    @property
    def band_names(self) -> tuple[str, ...] | None:
        """Common names of the bands to write; None where the model decides."""
        return None if self.bands is None else _parse_bands(self.bands)

    @property
    def offset_policy(self) -> OffsetPolicy:
        """What decides the BOA offset of an item."""
        return _parse_offset(self.offset)

    @property
    def masks(self) -> tuple[str, ...]:
        """The masks that are named."""
        return tuple(one for one in self.mask.split(",") if one)

    @property
    def memory_bytes(self) -> int | None:
        """Memory of one worker in bytes; None where not given."""
        return None if self.memory is None else _parse_bytes(self.memory)

    @property
    def resource_amounts(self) -> dict[str, float]:
        """How much of which Dask resource a work unit takes."""
        return {} if self.resources is None else _parse_resources(self.resources)

    def as_command(self) -> str:
        """The command that asks for the same, for people: without defaults, and without secrets."""
        words = ["cloudgan-batch"]
        for name, field in type(self).model_fields.items():
            value = getattr(self, name)
            if field.is_required() or value != field.default:
                flag = self.spell((name,))
                words += [flag] if value is True else [flag, shlex.quote(redacted(str(value)))]
        return " ".join(words)

    @classmethod
    def resolve_paths(cls, table: dict[str, Any], folder: Path) -> dict[str, Any]:
        """Count relative paths from the job file's folder where they exist there."""
        beside = {
            name: str(folder / table[name])
            for name in ("aoi", "stac", "model")
            if isinstance(table.get(name), str) and path_exists(folder / table[name])
        }
        if isinstance(masks := table.get("mask"), str | list):
            names = [str(one).strip() for one in (masks.split(",") if isinstance(masks, str) else masks)]
            found = [str(folder / one) if path_exists(folder / one) else one for one in names]
            beside["mask"] = ",".join(found)
        return table | beside

    @classmethod
    def spell(cls, location: Location) -> str:
        """As the command's option: `--max-cloud-cover`."""
        return f"--{super().spell(location).replace('_', '-')}"


def _find_profile(stac: str) -> Profile | None:
    from cloudgan.stac.profiles import find_profile  # here: nor for the validation of a file

    return find_profile(stac)


def _parse_offset(text: str) -> OffsetPolicy:
    from cloudgan.sentinel2.offset import parse_offset_policy  # here: nor for numpy

    return parse_offset_policy(text)


def _parse_bands(text: str) -> tuple[str, ...]:
    from cloudgan.sentinel2.bands import parse_bands  # here: nor for numpy

    return parse_bands(text)


def _parse_resources(text: str) -> dict[str, float]:
    amounts: dict[str, float] = {}
    for part in text.split(","):
        name, _, amount = (word.strip() for word in part.partition("="))
        try:
            amounts[name] = float(amount)
        except ValueError:
            amounts[name] = 0.0
        if not name or not 0 < amounts[name] < float("inf"):
            raise ValueError("names no amounts; give NAME=NUMBER, such as GPU=1")
    return amounts


def _parse_bytes(text: str) -> int:
    from dask.utils import parse_bytes  # here: the help of the command does not wait for Dask

    return int(parse_bytes(text))

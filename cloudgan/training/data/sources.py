"""Where training imagery comes from: what a recipe's `[[data]]` tables name, and the reading of it.

Anything that the batch command can read, one can train on: a catalogue is searched and read by the very
functions that serve.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from cloudgan.defaults import SNOW, Snow
from cloudgan.errors import InputError
from cloudgan.observations import Site
from cloudgan.settings import Settings
from cloudgan.training.data import catalogues, cubes, geotiffs, netcdf, textures
from cloudgan.training.data.faults import name_unreadable
from cloudgan.training.data.imagery import Imagery, PairWith, imagery_of
from cloudgan.training.data.sites import (
    DEFAULT_RESOLUTION,
    MAX_TRUSTED_CLOUD,
    distrust_dates,
    exclude_dates,
    site_of_images,
    site_of_pair,
    split_at_column,
)

Kind = Literal["clear", "pairs", "catalogue", "cube", "netcdf", "texture"]
"""What a source can be, see `Source.kind`."""
Name = Annotated[str, BeforeValidator(lambda value: str(value) if isinstance(value, dt.date) else value)]
"""Text, or a date as TOML has it."""
Names = tuple[Name, ...]
"""Names of files or regions, or dates."""

_DATES = ("exclude", "untrusted", "max_trusted_cloud", "snow", "split_column", "sampling_weight")
_PAIRING = ("pair_with", "max_pair_days")
_NEEDS: dict[Kind, tuple[str, ...]] = {
    "clear": (),
    "pairs": (),
    "catalogue": ("region",),
    "cube": ("region",),
    "netcdf": ("region",),
    "texture": ("region",),
}
_GEOTIFF = ("region", "exclude", "offset", "resolution", "days_between", "sampling_weight")
_TAKES: dict[Kind, tuple[str, ...]] = {
    "clear": (*_GEOTIFF, "repeat"),
    "pairs": _GEOTIFF,
    "catalogue": ("aoi", "dates", "collection", "resolution", "max_cloud_cover", *_DATES, *_PAIRING),
    "cube": (*_DATES, *_PAIRING),
    "netcdf": (*_DATES, *_PAIRING),
    "texture": (),
}


class Source(Settings):
    """One source of imagery: a `[[data]]` table of a recipe."""

    title: ClassVar[str] = "data source"
    remedy: ClassVar[str] = "see the recipes that ship"

    kind: Kind
    """`clear`: clear GeoTIFFs, see `geotiffs.read_clear`. `pairs`: cloudy and clear GeoTIFFs, see
    `geotiffs.read_pairs`. `catalogue`: a STAC API or static catalogue. `cube`: a Zarr store, saved from
    `open_cube` or written by `cloudgan-batch` (of which observed pixels alone are kept). `netcdf`: a netCDF
    time series. `texture`: an npz of real cloud with its mask, see `textures.read_texture`."""
    path: str
    """Folder, file or store; for a catalogue what `--stac` takes: a URL, a short name or a path."""
    region: str = ""
    """What to call the place: the unit of the split. An `index.csv` beside GeoTIFFs states it for each."""
    exclude: Names = ()
    """What to leave out: dates (2018-10-18) of a time series; of GeoTIFFs file names without suffix, or
    regions of the index."""
    untrusted: Names = ()
    """Time series: dates that stay in it but never serve as the truth, such as one under haze."""
    max_trusted_cloud: Annotated[float, Field(ge=0, le=1)] = MAX_TRUSTED_CLOUD
    """Time series: share of a date under cloud or shadow from which on it never serves as the truth."""
    snow: Snow = SNOW
    """Time series: what class 11 is taken for: `auto` (clear where other dates confirm it), `keep` (clear) or
    `cloud`."""
    split_column: NonNegativeInt = 0
    """Time series: cut it here into a region REGION-west and a region REGION-east; 0 leaves it whole."""
    sampling_weight: PositiveFloat = 1.0
    """How often samples are drawn from a time series of this source, relative to the others."""
    days_between: NonNegativeInt = 0
    """GeoTIFFs: days between the images of a time series made of them, in order of name (`clear`), or
    between the images of a pair (12 where 0)."""
    repeat: Annotated[int, Field(ge=0, le=100)] = 0
    """Clear GeoTIFFs: dates of a time series that each image makes on its own, its change to be simulated;
    0 makes one series of all images."""
    aoi: str = ""
    """Catalogue: GeoJSON file of the area; the whole of a static catalogue without."""
    dates: Name = ""
    """Catalogue: when, as `--dates` takes it; all dates without."""
    collection: str | None = None
    """Catalogue: collection id."""
    resolution: PositiveFloat = DEFAULT_RESOLUTION
    """Edge of a pixel in metres: of a catalogue what to read at, of GeoTIFFs what they have."""
    max_cloud_cover: Annotated[float, Field(ge=0, le=100)] = 100.0
    """Catalogue: percent of a granule, included."""
    pair_with: PairWith = "nearest"
    """Time series, for generators of single images: the clear dates that a cloudy one makes pairs with."""
    max_pair_days: PositiveInt = 10
    """Time series, likewise: days at most between the cloudy and the clear date of a pair."""
    offset: Annotated[int, Field(ge=0, lt=10_000)] = 0
    """GeoTIFFs: digital numbers to subtract; 1000 for L2A as ESA delivers it since baseline 04.00."""

    @model_validator(mode="after")
    def _check_kind(self) -> Source:
        """Refuse the keys that a source of another kind takes: they would be without effect."""
        needs = ("path", *_NEEDS[self.kind])
        if missing := [name for name in needs if not getattr(self, name)]:
            raise ValueError(
                f"the {self.kind} source {self.path!r} lacks {_join(missing)}; it needs {_join(needs)}"
            )
        known = {"kind", *needs, *_TAKES[self.kind]}
        defaults = {name: field.default for name, field in type(self).model_fields.items()}
        if foreign := [name for name, value in self if name not in known and value != defaults[name]]:
            raise ValueError(
                f"the {self.kind} source {self.path!r} does not take {_join(foreign)}; it takes "
                f"{_join(known)}"
            )
        if self.kind == "catalogue" and bool(self.aoi) != bool(self.dates):
            raise ValueError(
                f"the catalogue source {self.path!r} lacks {'dates' if self.aoi else 'aoi'}; it needs both "
                "aoi and dates, or neither to read all of a static catalogue"
            )
        return self

    @property
    def is_series(self) -> bool:
        """Whether it holds time series."""
        return self.kind != "texture" and (self.kind != "clear" or self.days_between > 0)

    def locate(self, *folders: Path) -> Source:
        """The source with each relative path counted from the first of the folders that holds it."""

        def find(path: str) -> str:
            found = (folder / path for folder in folders if path and (folder / path).exists())
            return str(next(found, path))

        return self.replace(path=find(self.path), aoi=find(self.aoi))


def read_imagery(sources: Sequence[Source], bands: Sequence[str]) -> Imagery:
    """Read all sources for generators of single images.

    Args:
        sources: What a recipe names.
        bands: Common names, in the order wanted.

    Returns:
        Clear images, pairs and cloudy images of all of them; see `Imagery.split`.

    Raises:
        InputError: A source cannot be read, or holds nothing to train on.
    """
    _refuse_none(sources)
    found = Imagery()
    for source in sources:
        with name_unreadable(source.path, f"{source.kind} imagery", "leave it out, or mend it"):
            found += _read_images(source, bands)
    return found


def read_sites(sources: Sequence[Source], bands: Sequence[str]) -> list[Site]:
    """Read all sources as time series, for the temporal generator and for evaluation.

    Args:
        sources: What a recipe names.
        bands: Common names, in the order wanted.

    Raises:
        InputError: A source cannot be read, or is no time series.
    """
    _refuse_none(sources)
    found = []
    for source in sources:
        with name_unreadable(source.path, f"{source.kind} imagery", "leave it out, or mend it"):
            found += [
                replace(site, sampling_weight=source.sampling_weight) for site in _read_sites(source, bands)
            ]
    return found


def _refuse_none(sources: Sequence[Source]) -> None:
    if not sources:
        raise InputError("a recipe without data trains nothing; add a [[data]] table")


def _read_images(source: Source, bands: Sequence[str]) -> Imagery:
    path = Path(source.path)
    if source.kind == "clear":
        images = geotiffs.read_clear(path, source.region, bands, source.exclude, source.offset)
        return Imagery(clear=tuple(images))
    if source.kind == "pairs":
        pairs = geotiffs.read_pairs(path, source.region, bands, source.exclude, source.offset)
        return Imagery(pairs=tuple(pairs))
    if source.kind == "texture":
        return Imagery(cloudy=(textures.read_texture(path, source.region, bands),))
    sites = _read_sites(source, bands)
    return sum((imagery_of(site, source.pair_with, source.max_pair_days) for site in sites), Imagery())


def _read_sites(source: Source, bands: Sequence[str]) -> list[Site]:
    if not source.is_series:
        raise InputError(
            f"the {source.kind} source {source.path!r} is no time series; give one of {_join(_READERS)}, "
            "pairs, or clear images with days_between"
        )
    if source.kind == "pairs":
        return _read_pair_sites(source, bands)
    if source.kind == "clear":
        return _read_image_sites(source, bands)
    site = _READERS[source.kind](source, bands)
    site = distrust_dates(exclude_dates(site, source.exclude), source.untrusted)
    return list(split_at_column(site, source.split_column)) if source.split_column else [site]


def _read_pair_sites(source: Source, bands: Sequence[str]) -> list[Site]:
    pairs = geotiffs.read_pairs(Path(source.path), source.region, bands, source.exclude, source.offset)
    return [site_of_pair(pair, bands, source.resolution, source.days_between or 12) for pair in pairs]


def _read_image_sites(source: Source, bands: Sequence[str]) -> list[Site]:
    images = geotiffs.read_clear(Path(source.path), source.region, bands, source.exclude, source.offset)
    days = source.days_between
    if not source.repeat:
        name = Path(source.path).stem
        return [site_of_images(name, images, bands, source.resolution, days)]
    return [
        replace(
            site_of_images(image.name, [image] * source.repeat, bands, source.resolution, days), repeated=True
        )
        for image in images
    ]


def _read_catalogue(source: Source, bands: Sequence[str]) -> Site:
    return catalogues.read_catalogue(
        source.path,
        source.region,
        bands,
        aoi=Path(source.aoi) if source.aoi else None,
        dates=source.dates or None,
        collection=source.collection,
        resolution=source.resolution,
        max_cloud_cover=source.max_cloud_cover,
        max_trusted_cloud=source.max_trusted_cloud,
        snow=source.snow,
    )


def _read_cube(source: Source, bands: Sequence[str]) -> Site:
    with cubes.open_store(source.path) as cube:
        return cubes.site_of_cube(cube, bands, Path(source.path).stem, source.region, **_trust(source))


def _read_netcdf(source: Source, bands: Sequence[str]) -> Site:
    path = Path(source.path)
    cube = netcdf.read_netcdf(path, bands)
    return cubes.site_of_cube(cube, bands, path.stem, source.region, **_trust(source))


def _trust(source: Source) -> dict[str, Any]:
    return {"max_trusted_cloud": source.max_trusted_cloud, "snow": source.snow}


_READERS: dict[Kind, Callable[[Source, Sequence[str]], Site]] = {
    "catalogue": _read_catalogue,
    "cube": _read_cube,
    "netcdf": _read_netcdf,
}


def _join(names: Any) -> str:
    return ", ".join(sorted(names))

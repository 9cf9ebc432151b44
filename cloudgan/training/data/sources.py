"""Where training imagery comes from: what a recipe's `[[data]]` tables name, and the reading of it.

Anything that the batch command can read, one can train on: a catalogue is searched and read by the very
functions that serve.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, get_args

from cloudgan.errors import InputError
from cloudgan.observations import Site
from cloudgan.training.data import catalogues, cubes, geotiffs, netcdf, textures
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

_DATES = ("exclude", "untrusted", "max_trusted_cloud", "split_column", "sampling_weight")
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


@dataclass(frozen=True, slots=True)
class Source:
    """One source of imagery: a `[[data]]` table of a recipe."""

    kind: Kind
    """`clear`: clear GeoTIFFs, see `geotiffs.read_clear`. `pairs`: cloudy and clear GeoTIFFs, see
    `geotiffs.read_pairs`. `catalogue`: a STAC API or static catalogue. `cube`: a Zarr store, saved from
    `open_cube` or written by `cloudgan-batch` (of which observed pixels alone are kept). `netcdf`: a netCDF
    time series. `texture`: an npz of real cloud with its mask, see `textures.read_texture`."""
    path: str
    """Folder, file or store; for a catalogue what `--stac` takes: a URL, a short name or a path."""
    region: str = ""
    """What to call the place: the unit of the split. An `index.csv` beside GeoTIFFs states it for each."""
    exclude: tuple[str, ...] = ()
    """What to leave out: dates (2018-10-18) of a time series; of GeoTIFFs file names without suffix, or
    regions of the index."""
    untrusted: tuple[str, ...] = ()
    """Time series: dates that stay in it but never serve as the truth, such as one under haze."""
    max_trusted_cloud: float = MAX_TRUSTED_CLOUD
    """Time series: share of a date under cloud or shadow from which on it never serves as the truth."""
    split_column: int = 0
    """Time series: cut it here into a region REGION-west and a region REGION-east; 0 leaves it whole."""
    sampling_weight: float = 1.0
    """How often samples are drawn from a time series of this source, relative to the others."""
    days_between: int = 0
    """GeoTIFFs: days between the images of a time series made of them, in order of name (`clear`), or
    between the images of a pair (12 where 0)."""
    repeat: int = 0
    """Clear GeoTIFFs: dates of a time series that each image makes on its own, its change to be simulated;
    0 makes one series of all images."""
    aoi: str = ""
    """Catalogue: GeoJSON file of the area; the whole of a static catalogue without."""
    dates: str = ""
    """Catalogue: when, as `--dates` takes it; all dates without."""
    collection: str | None = None
    """Catalogue: collection id."""
    resolution: float = DEFAULT_RESOLUTION
    """Edge of a pixel in metres: of a catalogue what to read at, of GeoTIFFs what they have."""
    max_cloud_cover: float = 100.0
    """Catalogue: percent of a granule, included."""
    pair_with: PairWith = "nearest"
    """Time series, for generators of single images: the clear dates that a cloudy one makes pairs with."""
    max_pair_days: int = 10
    """Time series, likewise: days at most between the cloudy and the clear date of a pair."""
    offset: int = 0
    """GeoTIFFs: digital numbers to subtract; 1000 for L2A as ESA delivers it since baseline 04.00."""

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise InputError(
                f"a data source of kind {self.kind!r} is unknown; kinds are {_join(get_args(Kind))}"
            )
        needs = ("path", *_NEEDS[self.kind])
        if missing := [name for name in needs if not getattr(self, name)]:
            raise InputError(
                f"the {self.kind} source {self.path!r} lacks {_join(missing)}; it needs {_join(needs)}"
            )
        known = {"kind", *needs, *_TAKES[self.kind]}
        if foreign := [
            f.name for f in fields(self) if f.name not in known and getattr(self, f.name) != f.default
        ]:
            raise InputError(
                f"the {self.kind} source {self.path!r} does not take {_join(foreign)}; it takes "
                f"{_join(known)}"
            )
        for name, (low, high) in _RANGES.items():
            if not low <= getattr(self, name) <= high:
                raise InputError(
                    f"the {self.kind} source {self.path!r} needs {name} from {low:g} to {high:g}, got "
                    f"{getattr(self, name):g}"
                )
        if self.kind == "catalogue" and bool(self.aoi) != bool(self.dates):
            raise InputError(
                f"the catalogue source {self.path!r} needs both aoi and dates, or neither to read all of it"
            )
        if self.pair_with not in get_args(PairWith):
            raise InputError(f"pair_with is one of {_join(get_args(PairWith))}, got {self.pair_with!r}")

    @property
    def is_series(self) -> bool:
        """Whether it holds time series."""
        return self.kind != "texture" and (self.kind != "clear" or self.days_between > 0)

    @classmethod
    def of(cls, table: Mapping[str, Any], *folders: Path) -> Source:
        """A source from a TOML table.

        Args:
            table: Its keys are the fields of this class.
            folders: What relative paths count from: the first of them that holds the path.

        Raises:
            InputError: A key is unknown or missing, or a value cannot be.
        """
        if unknown := set(table) - {field.name for field in fields(cls)}:
            raise InputError(
                f"a data source does not know {_join(unknown)}; it may have "
                f"{_join(f.name for f in fields(cls))}"
            )
        if missing := {"kind", "path"} - set(table):
            raise InputError(
                f"a data source lacks {_join(missing)}; every [[data]] table names both kind and path"
            )
        given = dict(table)
        for name, value in table.items():
            wanted = _TYPES.get(name, str)
            if not isinstance(value, wanted) or isinstance(value, bool):
                raise InputError(
                    f"{name} = {value!r} of a data source is of the wrong type; see the recipes that ship"
                )
        for name in ("exclude", "untrusted"):
            given[name] = tuple(map(str, given.get(name, ())))
        for name in ("path", "aoi"):
            if value := given.get(name):
                found = (folder / value for folder in folders if (folder / value).exists())
                given[name] = str(next(found, value))
        return cls(**given)


_RANGES = {
    "max_trusted_cloud": (0, 1),
    "split_column": (0, 1e6),
    "sampling_weight": (1e-6, 1e6),
    "days_between": (0, 3650),
    "repeat": (0, 100),
    "resolution": (0.01, 1e5),
    "max_cloud_cover": (0, 100),
    "max_pair_days": (1, 3650),
    "offset": (0, 9999),
}
_TYPES: dict[str, Any] = {
    "exclude": list | tuple,
    "untrusted": list | tuple,
    "max_trusted_cloud": int | float,
    "split_column": int,
    "sampling_weight": int | float,
    "days_between": int,
    "repeat": int,
    "resolution": int | float,
    "max_cloud_cover": int | float,
    "max_pair_days": int,
    "offset": int,
}


def parse_sources(recipe: Mapping[str, Any], *folders: Path) -> tuple[Source, ...]:
    """The sources that a recipe names.

    Args:
        recipe: Its TOML.
        folders: See `Source.of`.

    Raises:
        InputError: A table names no source, see `Source.of`.
    """
    tables = recipe.get("data", [])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise InputError("the imagery is named in [[data]] tables, with double brackets")
    return tuple(Source.of(table, *folders) for table in tables)


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
    return sum((_read_images(source, bands) for source in sources), Imagery())


def read_sites(sources: Sequence[Source], bands: Sequence[str]) -> list[Site]:
    """Read all sources as time series, for the temporal generator and for evaluation.

    Args:
        sources: What a recipe names.
        bands: Common names, in the order wanted.

    Raises:
        InputError: A source cannot be read, or is no time series.
    """
    _refuse_none(sources)
    return [
        replace(site, sampling_weight=source.sampling_weight)
        for source in sources
        for site in _read_sites(source, bands)
    ]


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
    )


def _read_cube(source: Source, bands: Sequence[str]) -> Site:
    with cubes.open_store(source.path) as cube:
        return cubes.site_of_cube(
            cube, bands, Path(source.path).stem, source.region, max_trusted_cloud=source.max_trusted_cloud
        )


def _read_netcdf(source: Source, bands: Sequence[str]) -> Site:
    path = Path(source.path)
    cube = netcdf.read_netcdf(path, bands)
    return cubes.site_of_cube(
        cube, bands, path.stem, source.region, max_trusted_cloud=source.max_trusted_cloud
    )


_READERS: dict[Kind, Callable[[Source, Sequence[str]], Site]] = {
    "catalogue": _read_catalogue,
    "cube": _read_cube,
    "netcdf": _read_netcdf,
}


def _join(names: Any) -> str:
    return ", ".join(sorted(names))

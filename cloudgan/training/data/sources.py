"""Where training imagery comes from: what a recipe's `[[data]]` tables name, and the reading of it.

Anything that the batch command can read, one can train on: a catalogue is searched and read by the very
functions that serve.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args

from cloudgan.errors import InputError
from cloudgan.training.data import cubes, samples_folder
from cloudgan.training.data.imagery import BANDS, Imagery, together

Kind = Literal["clear", "pairs", "catalogue", "cube", "netcdf", "samples"]
"""What a source can be, see `Source.kind`."""

_NEEDS: dict[Kind, tuple[str, ...]] = {
    "clear": ("region",),
    "pairs": (),
    "catalogue": ("region", "aoi", "dates"),
    "cube": ("region",),
    "netcdf": ("region",),
    "samples": (),
}
_TAKES: dict[Kind, tuple[str, ...]] = {
    "clear": ("without", "offset"),
    "pairs": ("region", "without", "offset"),
    "catalogue": ("collection", "resolution", "max_cloud_cover", "without", "apart"),
    "cube": ("without", "apart"),
    "netcdf": ("without", "apart"),
    "samples": (),
}


@dataclass(frozen=True, slots=True)
class Source:
    """One source of imagery: a `[[data]]` table of a recipe."""

    kind: Kind
    """`clear`: a folder of clear GeoTIFFs. `pairs`: a folder of cloudy and clear GeoTIFFs, see
    `data.read_pairs`. `catalogue`: a STAC API or static catalogue. `cube`: a Zarr store, saved from
    `open_cube` or written by `cloudgan-batch` (of which observed pixels alone are believed). `netcdf`: a
    netCDF 4 time series. `samples`: the folder of sample imagery, see `data.read_samples`."""
    path: str
    """Folder, file or store; for a catalogue what `--stac` takes: a URL, a short name or a path."""
    region: str = ""
    """What to call the place: the unit of the split. Pairs with an index and the samples name their own."""
    aoi: str = ""
    """Catalogue: GeoJSON file of the area."""
    dates: str = ""
    """Catalogue: when, as `--dates` takes it."""
    collection: str | None = None
    """Catalogue: collection id."""
    resolution: float = 10.0
    """Catalogue: edge of a pixel in metres."""
    max_cloud_cover: float = 100.0
    """Catalogue: percent of a granule, included."""
    without: tuple[str, ...] = ()
    """What to leave out: file names without suffix, or dates (2018-10-18) of a series."""
    apart: int = 10
    """Series: days at most between the cloudy and the clear look of a pair."""
    offset: int = 0
    """GeoTIFFs: digital numbers to subtract; 1000 for L2A as ESA delivers it since baseline 04.00."""

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise InputError(
                f"a data source of kind {self.kind!r} is unknown; kinds are {_listed(get_args(Kind))}"
            )
        needs = ("path", *_NEEDS[self.kind])
        if missing := [name for name in needs if not getattr(self, name)]:
            raise InputError(
                f"the {self.kind} source {self.path!r} lacks {_listed(missing)}; it needs {_listed(needs)}"
            )
        known = {"kind", *needs, *_TAKES[self.kind]}
        if foreign := [
            f.name for f in fields(self) if f.name not in known and getattr(self, f.name) != f.default
        ]:
            raise InputError(
                f"the {self.kind} source {self.path!r} does not take {_listed(foreign)}; it takes "
                f"{_listed(known)}"
            )
        if self.resolution <= 0 or self.apart < 1 or not 0 <= self.offset < 10_000:
            raise InputError(
                f"the {self.kind} source {self.path!r} needs a resolution above 0 m, apart of 1 day or "
                "more and an "
                f"offset from 0 to 9999, got {self.resolution:g}, {self.apart} and {self.offset}"
            )

    @classmethod
    def of(cls, table: Mapping[str, Any], folder: Path = Path()) -> Source:
        """A source from a TOML table.

        Args:
            table: Its keys are the fields of this class.
            folder: Of the recipe; relative paths that exist there count from it.

        Raises:
            InputError: A key is unknown or missing, or a value cannot be.
        """
        if unknown := set(table) - {field.name for field in fields(cls)}:
            raise InputError(
                f"a data source does not know {_listed(unknown)}; it may have "
                f"{_listed(f.name for f in fields(cls))}"
            )
        if missing := {"kind", "path"} - set(table):
            raise InputError(
                f"a data source lacks {_listed(missing)}; every [[data]] table names both kind and path"
            )
        given = dict(table)
        for name, value in table.items():
            wanted = _TYPES.get(name, str)
            if not isinstance(value, wanted) or isinstance(value, bool):
                raise InputError(
                    f"{name} = {value!r} of a data source is of the wrong type; see the recipes that ship"
                )
        if "without" in given:
            given["without"] = tuple(map(str, given["without"]))
        for name in ("path", "aoi"):
            beside = folder / str(given.get(name, ""))
            if given.get(name) and beside.exists():
                given[name] = str(beside)
        return cls(**given)


_TYPES: dict[str, Any] = {
    "resolution": int | float,
    "max_cloud_cover": int | float,
    "without": list | tuple,
    "apart": int,
    "offset": int,
}


def read_imagery(sources: Sequence[Source], bands: Sequence[str] = BANDS) -> Imagery:
    """Read all sources.

    Args:
        sources: What a recipe names.
        bands: Common names, in the order wanted.

    Returns:
        Clear ground, pairs and skies of all of them; see `Imagery.split`.

    Raises:
        InputError: A source cannot be read, or holds nothing to train on.
    """
    if not sources:
        raise InputError("a recipe without data trains nothing; add a [[data]] table")
    return together(_READERS[source.kind](source, bands) for source in sources)


def read_series(sources: Sequence[Source], bands: Sequence[str] = BANDS) -> list[cubes.Record]:
    """Read the time series among the sources: catalogues, cubes and netCDF files.

    Args:
        sources: What a recipe names.
        bands: Common names, in the order wanted.

    Raises:
        InputError: A source cannot be read, or is no time series.
    """
    for source in sources:
        if source.kind not in _RECORDS:
            raise InputError(
                f"the {source.kind} source {source.path!r} is no time series; give one of {_listed(_RECORDS)}"
            )
    return [_RECORDS[source.kind](source, bands) for source in sources]


def _clear(source: Source, bands: Sequence[str]) -> Imagery:
    scenes = samples_folder.read_folder(
        Path(source.path), source.region, bands, source.without, source.offset
    )
    return Imagery(clear=tuple(scenes))


def _pairs(source: Source, bands: Sequence[str]) -> Imagery:
    pairs = samples_folder.read_pairs(Path(source.path), source.region, bands, source.without, source.offset)
    return Imagery(pairs=tuple(pairs))


def _samples(source: Source, bands: Sequence[str]) -> Imagery:
    return samples_folder.read_samples(Path(source.path), bands)


def _series(source: Source, bands: Sequence[str]) -> Imagery:
    return cubes.imagery_of(_RECORDS[source.kind](source, bands), source.apart)


def _catalogue(source: Source, bands: Sequence[str]) -> cubes.Record:
    record = cubes.read_catalogue(
        source.path,
        Path(source.aoi),
        source.dates,
        source.region,
        bands,
        collection=source.collection,
        resolution=source.resolution,
        max_cloud_cover=source.max_cloud_cover,
    )
    return record.without(source.without)


def _cube(source: Source, bands: Sequence[str]) -> cubes.Record:
    return cubes.read_cube(Path(source.path), source.region, bands).without(source.without)


def _netcdf(source: Source, bands: Sequence[str]) -> cubes.Record:
    return cubes.read_netcdf(Path(source.path), source.region, bands).without(source.without)


_RECORDS: dict[Kind, Callable[[Source, Sequence[str]], cubes.Record]] = {
    "catalogue": _catalogue,
    "cube": _cube,
    "netcdf": _netcdf,
}
_READERS: dict[Kind, Callable[[Source, Sequence[str]], Imagery]] = {
    "clear": _clear,
    "pairs": _pairs,
    "catalogue": _series,
    "cube": _series,
    "netcdf": _series,
    "samples": _samples,
}


def _listed(names: Any) -> str:
    return ", ".join(sorted(names))

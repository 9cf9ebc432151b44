"""Sites to evaluate on, from a path alone: whatever lies there says how it is read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cloudgan.errors import InputError
from cloudgan.observations import Site
from cloudgan.training.data.catalogues import read_catalogue
from cloudgan.training.data.cubes import open_store, site_of_cube
from cloudgan.training.data.sources import Source, read_sites
from cloudgan.training.recipe import TrainConfig

_STAC_FILES = ("catalog.json", "collection.json")


def read_sites_of(path: Path, bands: Sequence[str], data: Path | None = None) -> list[Site]:
    """Read the time series that lie at a path.

    Args:
        path: A recipe (`.toml`) with `[[data]]` tables, of which the time series of more than one date are
            read; a netCDF series; a folder of pairs with its `index.csv`; a static STAC catalogue or its
            folder; or a Zarr store.
        bands: Common names, in the order wanted.
        data: Folder that the paths in a recipe count from; that of the recipe where None.

    Raises:
        InputError: It is none of these, or cannot be read.
    """
    if not path.exists():
        raise InputError(
            f"no imagery at {path}; give a recipe, a .nc series, a folder of pairs or a STAC catalogue"
        )
    if path.suffix == ".toml":
        recipe = TrainConfig.load(path, data=data)
        sources = [source for source in recipe.data if source.is_series and not source.repeat]
        return [site for site in read_sites(sources, bands) if len(site.observations.days) > 1]
    if path.suffix == ".nc":
        region = path.stem.removeprefix("series-").removesuffix("-l2a-10m")
        return read_sites([Source(kind="netcdf", path=str(path), region=region)], bands)
    if (path / "index.csv").exists():
        return read_sites([Source(kind="pairs", path=str(path))], bands)
    if path.suffix == ".json" or any((path / name).exists() for name in _STAC_FILES):
        return [read_catalogue(str(path), "", bands)]
    if (path / "zarr.json").exists() or (path / ".zgroup").exists():
        with open_store(path) as cube:
            return [site_of_cube(cube, bands, path.stem, path.stem)]
    raise InputError(
        f"{path} is neither a recipe, a .nc series, a folder of pairs with an index.csv, a STAC catalogue "
        "nor a Zarr store; give one of them"
    )

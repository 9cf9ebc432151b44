"""Reading imagery for training: GeoTIFFs, netCDF series, a static STAC folder, as reflectance by band name.

Every scene carries the name of its region: what is held out is held out by region, never by patch, because
two patches of one place are nearly the same picture.
"""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import h5py
import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.errors import NotGeoreferencedWarning
from scipy.ndimage import binary_dilation, zoom

from cloudgan.errors import InputError

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]

BANDS = ("green", "red", "nir")
"""The study's false colour."""
_COMMON_NAMES = {"B02": "blue", "B03": "green", "B04": "red", "B08": "nir"}
_QUANTIFICATION = 10_000.0  # Sentinel-2: digital numbers per unit of reflectance
_CLOUD = (8, 9, 10)  # Sen2Cor's scene classification: cloud medium and high, thin cirrus
_SHADOW = 3
_BAD = (0, 1)  # no data, saturated or defective


@dataclass(frozen=True, slots=True)
class Scene:
    """One image of the ground, or of clouds over it."""

    name: str
    """Where it came from."""
    region: str
    """The place; the unit of the split."""
    image: Floats
    """Reflectance, shape (height, width, bands); 0 is no data."""
    valid: Mask
    """Where the ground is truly seen, shape (height, width)."""
    cloud: Mask | None = None
    """Where the classification says cloud, if there is one."""
    shadow: Mask | None = None
    """Where the classification says cloud shadow, if there is one."""


@dataclass(frozen=True, slots=True)
class Pair:
    """Two looks at one place, days apart: one cloudy, one clear."""

    name: str
    """Where it came from."""
    region: str
    """The place; the unit of the split."""
    cloudy: Floats
    """Reflectance, shape (height, width, bands)."""
    clear: Floats
    """Reflectance, same shape."""
    hidden: Mask
    """Where cloud or shadow lies in the cloudy look, shape (height, width)."""
    valid: Mask
    """Where the clear look shows the ground and the cloudy one has data, shape (height, width)."""


@dataclass(frozen=True, slots=True)
class Imagery:
    """What a run learns from, or is judged on."""

    clear: tuple[Scene, ...] = ()
    """Ground to put simulated clouds over."""
    pairs: tuple[Pair, ...] = ()
    """Real clouds with a clear look at the same ground."""
    skies: tuple[Scene, ...] = ()
    """Real cloudy scenes with cloud and shadow masks, to transplant clouds from."""

    def regions(self) -> tuple[str, ...]:
        """Names of all regions of ground, sorted."""
        return tuple(sorted({s.region for s in self.clear} | {pair.region for pair in self.pairs}))

    def split(self, held_out: Collection[str]) -> tuple[Imagery, Imagery]:
        """Training and validation imagery.

        Args:
            held_out: Names of the regions to validate on.

        Raises:
            InputError: A name is no region, or nothing is left to train on or to validate on.
        """
        regions = set(self.regions())

        def side(held: bool) -> Imagery:
            return Imagery(
                tuple(scene for scene in self.clear if (scene.region in held_out) is held),
                tuple(pair for pair in self.pairs if (pair.region in held_out) is held),
                tuple(scene for scene in self.skies if (scene.region in held_out) is held),
            )

        if unknown := set(held_out) - regions:
            raise InputError(f"no such regions to hold out: {sorted(unknown)}; there are {sorted(regions)}")
        if not held_out or not regions - set(held_out):
            raise InputError(
                f"hold out some of the regions {sorted(regions)} but not all, got {sorted(held_out)}"
            )
        return side(False), side(True)


def read_geotiff(path: Path, bands: Sequence[str] = BANDS) -> Floats:
    """Read bands of a GeoTIFF by name, from the descriptions that its bands carry.

    Args:
        path: Integers of reflectance x 10000, or floats of reflectance.
        bands: Common names (green) in the order wanted; descriptions may say B03 or green.

    Returns:
        Reflectance, shape (height, width, bands); 0 is no data.

    Raises:
        InputError: The file cannot be read, or lacks a band.
    """
    try:
        with _opened(path) as source:
            names = [_common_name(text or "") for text in source.descriptions]
            if missing := [band for band in bands if band not in names]:
                raise InputError(f"{path} has no band {missing[0]}; its bands are described as {names}")
            values = source.read([names.index(band) + 1 for band in bands])
    except rasterio.RasterioIOError as error:
        raise InputError(f"{path} cannot be read as an image: {error}") from error
    return _reflectance(values)


def read_series(
    path: Path, bands: Sequence[str] = BANDS
) -> tuple[NDArray[np.int64], Floats, NDArray[np.uint8] | None]:
    """Read bands of a netCDF 4 time series with one variable per band.

    Args:
        path: Variables B03 or B3 and so on, of dimensions time, y, x, and perhaps SCL: reflectance x 10000,
            or floats of reflectance.
        bands: Common names in the order wanted.

    Returns:
        Days since the file's own epoch, shape (time,); reflectance, shape (time, height, width, bands), 0 is
        no data; and the scene classification, shape (time, height, width), or None where there is none.

    Raises:
        InputError: The file cannot be read, or lacks a band.
    """
    # netCDF 4 is HDF5, and h5py comes with Keras: no further dependency for a handful of arrays.
    try:
        with h5py.File(path) as source:
            names = {_common_name(name): name for name in source}
            if missing := [band for band in bands if band not in names]:
                raise InputError(f"{path} has no band {missing[0]}; its variables are {sorted(source)}")
            days = np.asarray(source["time"][:], np.int64)
            values = np.stack([source[names[band]][:] for band in bands])
            scl = np.nan_to_num(source["SCL"][:]).astype(np.uint8) if "SCL" in source else None
    except OSError as error:
        raise InputError(f"{path} cannot be read as netCDF 4: {error}") from error
    return days, _reflectance(values), scl


def read_stac_item(path: Path, bands: Sequence[str] = BANDS) -> Scene:
    """Read one Sentinel-2 L2A item of a static STAC catalogue, with its scene classification.

    Args:
        path: The item's JSON; its assets lie beside it.
        bands: Common names, which are the asset names too.

    Returns:
        The scene; its region is the MGRS tile.

    Raises:
        InputError: An asset is missing or cannot be read.
    """
    item = json.loads(path.read_text())
    assets, properties = item["assets"], item["properties"]
    planes = []
    for band in (*bands, "scl"):
        if band not in assets:
            raise InputError(f"{path} has no asset {band}; it has {sorted(assets)}")
        try:
            with _opened(path.parent / assets[band]["href"]) as source:
                values = source.read(1)
        except rasterio.RasterioIOError as error:
            raise InputError(f"asset {band} of {path} cannot be read: {error}") from error
        planes.append(values if band == "scl" else _without_offset(values, assets[band], properties))
    scl = planes.pop()
    image = _reflectance(np.stack(planes))
    cloud, shadow = np.isin(scl, _CLOUD), scl == _SHADOW
    clear = _seen(image) & ~binary_dilation(cloud | shadow | np.isin(scl, _BAD), iterations=2)
    return Scene(item["id"], properties.get("grid:code", "unknown"), image, clear, cloud, shadow)


def read_folder(
    folder: Path, region: str, bands: Sequence[str] = BANDS, without: Collection[str] = ()
) -> list[Scene]:
    """Read every GeoTIFF of a folder as a clear scene of one region, in order of name.

    Args:
        folder: Of GeoTIFFs.
        region: What to call the place.
        bands: Common names.
        without: File names without suffix to leave out.

    Raises:
        InputError: The folder holds no GeoTIFF, or one cannot be read.
    """
    paths = [path for path in sorted(folder.glob("*.tif")) if path.stem not in without]
    if not paths:
        raise InputError(f"{folder} holds no GeoTIFF to train on")
    return [_clear_scene(f"{folder.name}/{path.stem}", region, read_geotiff(path, bands)) for path in paths]


def read_pair(cloudy: Path, clear: Path, region: str, bands: Sequence[str] = BANDS) -> Pair:
    """Read a cloudy and a clear GeoTIFF of one place; what is hidden is judged by their difference.

    Raises:
        InputError: They differ in shape, or cannot be read.
    """
    covered, ground = read_geotiff(cloudy, bands), read_geotiff(clear, bands)
    if covered.shape != ground.shape:
        raise InputError(f"{cloudy} is {covered.shape[:2]} pixels and {clear} is {ground.shape[:2]}: no pair")
    # Without a classification: much brighter in green is cloud, much darker in all bands shadow.
    brighter = covered[..., 0] - ground[..., 0] > 0.04
    darker = np.all(covered < 0.7 * ground, axis=-1)
    hidden = binary_dilation(brighter | darker, iterations=3)
    return Pair(cloudy.stem, region, covered, ground, hidden, _seen(covered) & _seen(ground))


def halves(scene: Scene, column: int) -> tuple[Scene, Scene]:
    """Cut a scene in a western and an eastern region at a column, to train on one and judge on the other.

    Raises:
        InputError: The column leaves one half empty.
    """
    if not 0 < column < scene.image.shape[1]:
        raise InputError(f"column {column} does not cut {scene.name}, {scene.image.shape[1]} pixels wide")

    def part(side: str, cols: slice) -> Scene:
        return replace(
            scene,
            region=f"{scene.region}-{side}",
            image=scene.image[:, cols],
            valid=scene.valid[:, cols],
            cloud=None if scene.cloud is None else scene.cloud[:, cols],
            shadow=None if scene.shadow is None else scene.shadow[:, cols],
        )

    return part("west", slice(None, column)), part("east", slice(column, None))


def paired(cloudy: Scene, clear: Scene) -> Pair:
    """Two classified looks at one grid as a pair.

    Raises:
        InputError: The cloudy scene has no cloud mask, or the shapes differ.
    """
    if cloudy.cloud is None or cloudy.shadow is None or cloudy.image.shape != clear.image.shape:
        raise InputError(f"{cloudy.name} and {clear.name} are no pair: it takes cloud masks and one grid")
    hidden = binary_dilation(cloudy.cloud | cloudy.shadow, iterations=1)
    name = f"{cloudy.name} / {clear.name}"
    return Pair(name, cloudy.region, cloudy.image, clear.image, hidden, clear.valid & _seen(cloudy.image))


def enlarged(scene: Scene, size: int) -> Scene:
    """The scene, magnified until a tile of `size` fits; as it is where one fits already."""
    smallest = min(scene.image.shape[:2])
    if smallest >= size:
        return scene
    factor = size / smallest
    image = zoom(scene.image, (factor, factor, 1), order=1, mode="nearest", grid_mode=True)
    valid = zoom(scene.valid.astype(np.float32), factor, order=1, mode="nearest", grid_mode=True) > 0.99
    return replace(scene, image=image, valid=valid)


def read_samples(root: Path, bands: Sequence[str] = BANDS) -> Imagery:
    """Read the sample imagery that the shipped generator is trained on, from the folder that holds it.

    Args:
        root: Holds `clear-lazio-l1c-10m`, `clear-single`, `clear-series-bouconne-l3a`, `pairs-l1c-10m`,
            `s2-l2a-33TWM-120m` and the `composites-hesbaye*-l2a-10m.nc`.
        bands: Common names.

    Raises:
        InputError: A folder is missing or a file cannot be read.
    """
    single = root / "clear-single"
    clear = [
        _clear_scene("33UUB", "33UUB", read_geotiff(single / "33UUB_20170527_l1c.tif", bands)),
        _clear_scene("sample_300x300", "sample-300", read_geotiff(single / "sample_300x300.tif", bands)),
        *read_folder(root / "clear-lazio-l1c-10m", "lazio", bands, without=_LAZIO_NOT_CLEAR),
        *read_folder(root / "clear-series-bouconne-l3a", "bouconne", bands),
        *_hesbaye(root, bands),
    ]
    pairs = list(_sen12ms_pairs(root / "pairs-l1c-10m", bands))
    clear += [
        Scene(pair.name, pair.region, pair.clear, pair.valid)
        for pair in pairs
        if pair.region not in _HAZY_CLEAR
    ]
    scenes = [
        half
        for item in _stac_items(root / "s2-l2a-33TWM-120m")
        for half in halves(read_stac_item(item, bands), 457)
    ]
    # Of each half, dates mostly clear are ground and truth, the others give clouds.
    truth = [scene for scene in scenes if _cloudiness(scene) < 0.1]
    cloudy = [scene for scene in scenes if _cloudiness(scene) >= 0.1]
    pairs = [pair for pair in pairs if pair.region not in _UNLIKE_PAIRS]
    pairs += [paired(look, ground) for look in cloudy for ground in truth if look.region == ground.region]
    return Imagery(tuple(clear + truth), tuple(pairs), tuple(cloudy))


# Judged by eye: cloud, shadow, haze or no land.
_LAZIO_NOT_CLEAR = (
    "2018-01-06_17", "2018-01-06_282", "2018-01-21_283", "2018-02-25_18", "2018-03-07_187", "2018-03-22_198",
    "2018-03-22_64", "2018-04-01_204", "2018-07-05_162", "2018-09-18_214", "2018-09-18_215", "2018-09-18_239",
    "2018-09-18_257",
)  # fmt: skip
_HESBAYE_NOT_CLEAR = {"composites-hesbaye-l2a-10m": (15, 17, 18)}  # months that still hold cloud
_HAZY_CLEAR = ("fall_85",)  # the "clear" look lies under haze
_UNLIKE_PAIRS = (
    "fall_136",
    "fall_85",
    "summer_100",
)  # season or haze changes more between looks than cloud does


def _sen12ms_pairs(folder: Path, bands: Sequence[str]) -> Iterator[Pair]:
    index = folder / "index.csv"
    if not index.exists():
        raise InputError(f"{folder} has no index.csv to name its pairs and regions")
    for line in index.read_text().splitlines()[1:]:
        clear, cloudy, region = line.split(",")[:3]
        yield read_pair(folder / cloudy, folder / clear, region, bands)


def _hesbaye(root: Path, bands: Sequence[str]) -> Iterator[Scene]:
    # The two cubes overlap: one region.
    for name in ("composites-hesbaye-l2a-10m", "composites-hesbaye-east-l2a-10m"):
        _, images, _ = read_series(root / f"{name}.nc", bands)
        for month, image in enumerate(images):
            empty = not np.mean(_seen(image)) > 0.9
            if not empty and month not in _HESBAYE_NOT_CLEAR.get(name, ()):
                yield _clear_scene(f"{name}/{month}", "hesbaye", image)


def _stac_items(folder: Path) -> list[Path]:
    items = sorted(folder.glob("*/*_L2A.json"))
    if not items:
        raise InputError(f"{folder} holds no STAC items")
    return items


def _cloudiness(scene: Scene) -> float:
    if scene.cloud is None or scene.shadow is None:
        return 0.0
    return float(np.mean((scene.cloud | scene.shadow)[_seen(scene.image)]))


def _clear_scene(name: str, region: str, image: Floats) -> Scene:
    return Scene(name, region, image, _seen(image))


def _seen(image: Floats) -> Mask:
    seen: Mask = np.all(image > 0, axis=-1)
    return seen


def _common_name(text: str) -> str:
    match = re.fullmatch(r"B0?(\d+)", text)
    return _COMMON_NAMES.get(f"B{int(match[1]):02}", text) if match else text


def _reflectance(values: NDArray[np.generic]) -> Floats:
    """Numbers of shape (bands, ...) to reflectance of shape (..., bands), NaN to no data."""
    known = np.nan_to_num(values.astype(np.float32))
    # Some files keep digital numbers as floats, to have NaN; no reflectance comes near 20.
    counts = np.issubdtype(values.dtype, np.integer) or known.max(initial=0) > 20
    return np.moveaxis(known / np.float32(_QUANTIFICATION if counts else 1), 0, -1)


def _without_offset(
    values: NDArray[np.uint16], asset: Mapping[str, object], properties: Mapping[str, object]
) -> NDArray[np.uint16]:
    """Take off the offset of processing baseline 04.00 where the provider has not; the flag decides."""
    raster = asset.get("raster:bands")
    offset = float(raster[0].get("offset", 0.0)) if isinstance(raster, list) else 0.0
    if offset >= 0 or properties.get("earthsearch:boa_offset_applied") is True:
        return values
    added = round(-offset * _QUANTIFICATION)
    return np.where(values > 0, np.maximum(values.astype(np.int64) - added, 1), 0).astype(np.uint16)


def _opened(path: Path) -> rasterio.DatasetReader:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)  # a picture trains as well without a map
        return rasterio.open(path)

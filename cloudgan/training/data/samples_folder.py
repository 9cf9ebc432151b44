"""Reading imagery for training from files: GeoTIFFs, netCDF series, STAC items, the folder of samples.

Everything becomes reflectance by band name, on one fixed scale: digital numbers over 10,000, 0 is no data.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import h5py
import numpy as np
import rasterio
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation

from cloudgan.errors import InputError
from cloudgan.sentinel2.offset import harmonise
from cloudgan.stac.parsing import parse_item
from cloudgan.stac.raw_items import RawItem
from cloudgan.training.data.geotiffs import opened, read_folder, read_geotiff, read_pair, read_pairs
from cloudgan.training.data.imagery import (
    BANDS,
    Floats,
    Frame,
    Imagery,
    Mask,
    Pair,
    Scene,
    clear_scene,
    common_name,
    enlarged,
    halves,
    paired,
    reflectance_of,
    seen,
)

__all__ = [
    "BANDS",
    "Floats",
    "Frame",
    "Imagery",
    "Mask",
    "Pair",
    "Scene",
    "classified",
    "enlarged",
    "halves",
    "paired",
    "read_folder",
    "read_geotiff",
    "read_pair",
    "read_pairs",
    "read_samples",
    "read_series",
    "read_stac_item",
    "read_texture",
]

_opened, _clear_scene = opened, clear_scene
_CLOUD = (8, 9, 10)  # Sen2Cor's scene classification: cloud medium and high, thin cirrus
_SHADOW = 3
_TEXTURE_BANDS = ("blue", "green", "red", "nir", "swir1", "swir2")
_BAD = (0, 1)  # no data, saturated or defective


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
            names = {common_name(name): name for name in source}
            if missing := [band for band in bands if band not in names]:
                raise InputError(f"{path} has no band {missing[0]}; its variables are {sorted(source)}")
            days = np.asarray(source["time"][:], np.int64)
            values = np.stack([source[names[band]][:] for band in bands])
            scl = np.nan_to_num(source["SCL"][:]).astype(np.uint8) if "SCL" in source else None
    except OSError as error:
        raise InputError(f"{path} cannot be read as netCDF 4: {error}") from error
    return days, reflectance_of(values), scl


def read_stac_item(path: Path, bands: Sequence[str] = BANDS) -> Scene:
    """Read one Sentinel-2 L2A item of a static STAC catalogue, with its scene classification.

    Args:
        path: The item's JSON; its assets lie beside it.
        bands: Common names.

    Returns:
        The scene; its region is the MGRS tile.

    Raises:
        InputError: An asset is missing or cannot be read.
    """
    raw = RawItem(json.loads(path.read_text()), str(path))
    item, _ = parse_item(raw, bands)
    channels = []
    for asset in item.assets:
        try:
            with opened(asset.href) as source:
                channels.append(source.read(1))
                frame = Frame(source.crs.to_string(), source.transform) if source.crs else None
        except rasterio.RasterioIOError as error:
            raise InputError(
                f"asset {asset.band} of {path} cannot be read: {error}; mend the item"
            ) from error
    scl = channels.pop()
    image = reflectance_of(np.stack([harmonise(plane, item.offset) for plane in channels]))
    return classified(item.id, str(raw.properties.get("grid:code", "unknown")), image, scl, frame)


def classified(
    name: str, region: str, image: Floats, scl: NDArray[np.uint8], frame: Frame | None = None
) -> Scene:
    """A scene with the masks of its classification; valid two pixels away from all that hides the ground."""
    cloud, shadow = np.isin(scl, _CLOUD), scl == _SHADOW
    clear = seen(image) & ~binary_dilation(cloud | shadow | np.isin(scl, _BAD), iterations=2)
    return Scene(name, region, image, clear, cloud, shadow, frame)


def read_texture(path: Path, bands: Sequence[str] = BANDS) -> Scene:
    """Read the sample of real cumulus as a sky to transplant clouds from.

    Args:
        path: An npz of `img` (height, width, six bands from blue, reflectance x 10000) and `msk` (the same
            shape, one class a pixel: 4 cloud, 0 cloud shadow).
        bands: Common names.

    Raises:
        InputError: The file cannot be read, or lacks an array.
    """
    try:
        with np.load(path) as arrays:
            image, classes = arrays["img"], arrays["msk"][..., 0]
    except (OSError, KeyError, ValueError) as error:
        raise InputError(
            f"{path} cannot be read as a cloud texture ({error}); give the npz sample"
        ) from error
    if missing := [band for band in bands if band not in _TEXTURE_BANDS]:
        raise InputError(f"{path} has no band {missing[0]}; its bands are {', '.join(_TEXTURE_BANDS)}")
    channels = np.moveaxis(image[..., [_TEXTURE_BANDS.index(band) for band in bands]], -1, 0)
    cloud, shadow = classes == 4, classes == 0
    return Scene(path.stem, path.stem, reflectance_of(channels), ~(cloud | shadow), cloud, shadow)


def read_samples(root: Path, bands: Sequence[str] = BANDS) -> Imagery:
    """Read the sample imagery that the shipped generator is trained on, from the folder that holds it.

    Args:
        root: Holds `clear-lazio-l1c-10m`, `clear-single`, `clear-series-bouconne-l3a`, `pairs-l1c-10m`,
            `s2-l2a-33TWM-120m`, the `composites-hesbaye*-l2a-10m.nc` and `cloud-texture-512.npz`.
        bands: Common names.

    Raises:
        InputError: A folder is missing or a file cannot be read.
    """
    single = root / "clear-single"
    clear = [
        clear_scene("33UUB", "33UUB", read_geotiff(single / "33UUB_20170527_l1c.tif", bands)),
        clear_scene("sample_300x300", "sample-300", read_geotiff(single / "sample_300x300.tif", bands)),
        *read_folder(root / "clear-lazio-l1c-10m", "lazio", bands, without=_LAZIO_NOT_CLEAR),
        *read_folder(root / "clear-series-bouconne-l3a", "bouconne", bands),
        *_hesbaye(root, bands),
    ]
    pairs = list(_sen12ms_pairs(root / "pairs-l1c-10m", bands))
    clear += [
        Scene(pair.name, pair.region, pair.clear, pair.valid, frame=pair.frame)
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
    texture = read_texture(root / "cloud-texture-512.npz", bands)
    return Imagery(tuple(clear + truth), tuple(pairs), (*cloudy, texture))


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
    if not (folder / "index.csv").exists():
        raise InputError(f"{folder} has no index.csv to name its pairs and regions")
    yield from read_pairs(folder, bands=bands)


def _hesbaye(root: Path, bands: Sequence[str]) -> Iterator[Scene]:
    # The two cubes overlap: one region.
    for name in ("composites-hesbaye-l2a-10m", "composites-hesbaye-east-l2a-10m"):
        _, images, _ = read_series(root / f"{name}.nc", bands)
        for month, image in enumerate(images):
            empty = not np.mean(seen(image)) > 0.9
            if not empty and month not in _HESBAYE_NOT_CLEAR.get(name, ()):
                yield clear_scene(f"{name}/{month}", "hesbaye", image)


def _stac_items(folder: Path) -> list[Path]:
    items = sorted(folder.glob("*/*_L2A.json"))
    if not items:
        raise InputError(f"{folder} holds no STAC items")
    return items


def _cloudiness(scene: Scene) -> float:
    if scene.cloud is None or scene.shadow is None:
        return 0.0
    return float(np.mean((scene.cloud | scene.shadow)[seen(scene.image)]))

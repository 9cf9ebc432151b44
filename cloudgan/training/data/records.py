"""The real time series that the shipped temporal generator learns from and is judged on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from cloudgan.errors import InputError
from cloudgan.sentinel2.classification import PixelClass
from cloudgan.training.data import samples_folder
from cloudgan.training.data.samples_folder import BANDS, Floats
from cloudgan.training.data.series import Series

_BORDER = 457  # column that cuts 33TWM in a western and an eastern half
# Dates (days since the file's epoch) that show shadow, haze or cloud which the classification misses, by eye.
_BAD_DATES = {
    "series-flanders-a-l2a-10m": (
        "2018-10-18", "2018-12-17", "2019-05-06", "2019-05-11", "2019-06-20", "2019-06-30", "2019-07-20",
        "2019-11-12",
    ),
    "series-flanders-b-l2a-10m": (
        "2017-08-24", "2017-10-23", "2018-02-05", "2018-05-24", "2018-07-18", "2018-11-27",
    ),
}  # fmt: skip
_CLOUDY_MONTHS = {"composites-hesbaye-l2a-10m": (15, 17, 18)}


def read_all(root: Path) -> list[Series]:
    """Read the sample imagery that the shipped temporal generator learns from and is judged on.

    Args:
        root: The folder of sample imagery, see `data.read_samples`.

    Raises:
        InputError: Something is missing or cannot be read.
    """
    whole = read_stac(root / "s2-l2a-33TWM-120m")
    romania = read_netcdf(root / "series-romania-l2a-10m.nc", "romania")
    return [
        whole.part("west", slice(None), slice(None, _BORDER)),
        whole.part("east", slice(None), slice(_BORDER, None)),
        read_netcdf(root / "series-flanders-a-l2a-10m.nc", "flanders-a"),
        read_netcdf(root / "series-flanders-b-l2a-10m.nc", "flanders-b"),
        romania.part("west", slice(None), slice(None, 48)),
        romania.part("east", slice(None), slice(48, None)),
        *_composites(root),
        *read_pairs(root / "pairs-l1c-10m"),
        *_invented(root),
    ]


def read_stac(folder: Path) -> Series:
    """Read the static catalogue of one MGRS tile at 120 m."""
    items = sorted(folder.glob("*/*_L2A.json"))
    if not items:
        raise InputError(f"{folder} holds no STAC items")
    scenes = [samples_folder.read_stac_item(item) for item in items]
    days = [int(np.datetime64(_sensed(item), "D").astype(np.int64)) for item in items]
    pixel_classes, truths, classes = [], [], []
    for item, scene in zip(items, scenes, strict=True):
        with samples_folder._opened(item.parent / _scl_of(item)) as source:
            classes.append(source.read(1))
        pixel_classes.append(classify(classes[-1], _numbers(scene.image)))
        truths.append(float(np.mean(pixel_classes[-1] == PixelClass.CLOUDY)) < 0.1)
    order = np.argsort(days)
    images = np.stack([scene.image for scene in scenes])
    whole = Series.of("33TWM", "33TWM", 1, days, images, np.stack(pixel_classes), truths)
    return replace(whole, scl=np.stack(classes)).only(order)


def _sensed(item: Path) -> str:
    return str(_item(item)["properties"]["datetime"]).rstrip("Z")


def _scl_of(item: Path) -> str:
    return str(_item(item)["assets"]["scl"]["href"])


def _item(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text()))


def read_netcdf(path: Path, region: str) -> Series:
    """Read a netCDF series at 10 m with its scene classification."""
    days, images, scl = samples_folder.read_series(path)
    if float(np.median(images)) > 2:  # floats of digital numbers
        images = images / np.float32(10_000)
    if scl is None:
        raise InputError(f"{path} has no scene classification")
    with h5py.File(path) as source:
        units = source["time"].attrs["units"]
    epoch = (units.decode() if isinstance(units, bytes) else str(units)).split("since ")[1][:10]
    days = days + np.datetime64(epoch, "D").astype(np.int64)
    pixel_classes = classify(scl, _numbers(images))
    bad = {int(np.datetime64(day, "D").astype(np.int64)) for day in _BAD_DATES.get(path.stem, ())}
    truths = [
        int(day) not in bad and float(np.mean(state == PixelClass.CLOUDY)) < 0.3
        for day, state in zip(days, pixel_classes, strict=True)
    ]
    series = replace(Series.of(path.stem, region, 6, days, images, pixel_classes, truths), scl=scl)
    return series.only(np.flatnonzero(np.mean(series.pixel_classes == PixelClass.NO_DATA, axis=(1, 2)) < 0.9))


def _numbers(image: Floats) -> list[NDArray[np.uint16]]:
    numbers = np.clip(np.rint(image * 10_000), 0, 65535).astype(np.uint16)
    return list(np.moveaxis(numbers, -1, 0))


def _seen(images: Floats) -> NDArray[np.uint8]:
    seen = np.all(images > 0, axis=-1)
    return np.where(seen, PixelClass.CLEAR, PixelClass.NO_DATA).astype(np.uint8)


def _composites(root: Path) -> Iterator[Series]:
    for name in ("composites-hesbaye-l2a-10m", "composites-hesbaye-east-l2a-10m"):
        days, images, _ = samples_folder.read_series(root / f"{name}.nc")
        kept = [
            month
            for month, image in enumerate(images)
            if np.mean(image > 0) > 0.9 and month not in _CLOUDY_MONTHS.get(name, ())
        ]
        yield Series.of(
            name, "hesbaye", 6, days[kept], images[kept], _seen(images[kept]), np.ones(len(kept), bool)
        )
    months = samples_folder.read_folder(root / "clear-series-bouconne-l3a", "bouconne")
    images = np.stack([scene.image for scene in months])
    days = np.arange(len(months)) * 30
    yield Series.of("bouconne", "bouconne", 6, days, images, _seen(images), np.ones(len(months), bool))


def read_pairs(folder: Path) -> Iterator[Series]:
    """Real pairs, days or weeks apart: each look is the other's context.

    Raises:
        InputError: The folder has no `index.csv`, or a pair cannot be read.
    """
    for pair in _sen12ms(folder):
        pixel_classes = np.stack([_seen(pair.clear), _seen(pair.cloudy)])
        pixel_classes[1][pair.masked] = PixelClass.CLOUDY
        yield Series.of(
            pair.name,
            pair.region,
            6,
            [0, 12],
            np.stack([pair.clear, pair.cloudy]),
            pixel_classes,
            [True, False],
        )


def _sen12ms(folder: Path) -> Iterator[samples_folder.Pair]:
    unlike = {"fall_136", "fall_85", "summer_100"}  # season or haze changes more between looks than cloud
    for pair in samples_folder._sen12ms_pairs(folder, BANDS):
        if pair.region not in unlike:
            yield pair


def _invented(root: Path) -> Iterator[Series]:
    """Clear single looks: ground and texture at 10 m, to which change is added while sampling."""
    single = root / "clear-single"
    scenes = samples_folder.read_folder(
        root / "clear-lazio-l1c-10m", "lazio", without=samples_folder._LAZIO_NOT_CLEAR
    )
    scenes.append(
        samples_folder._clear_scene(
            "sample-300", "sample-300", samples_folder.read_geotiff(single / "sample_300x300.tif")
        )
    )
    for pair in samples_folder._sen12ms_pairs(root / "pairs-l1c-10m", BANDS):
        if pair.region in ("fall_136", "summer_100"):
            scenes.append(samples_folder.Scene(pair.name, pair.region, pair.clear, pair.valid))
    for scene in scenes:
        images = np.repeat(scene.image[None], 5, axis=0)
        yield Series.of(
            scene.name, scene.region, 6, np.arange(5) * 12, images, _seen(images), np.ones(5, bool),
            invented=True,
        )  # fmt: skip

"""What masks find on days that are bad, and what they raise a false alarm about on days that are good.

    python research/masks.py DATA [--buffer PIXELS] [--days] [--json masks.json]

The experiment behind the section on masks of `research/method.md`, on three real series at 10 m (see
`docs/data.md`). Bad days are those that are under haze, shadow or thin cloud by eye although the scene
classification calls most of them clear, and two overcast days that it calls snow. Good days have less than a
tenth masked by the classification, and are not bad: not all of them were seen by eye. Those that were are the
truths of `truths.toml`. With `--buffer`, masks have a buffer as in a run (6 pixels); with `--days`, the share
of each day is printed that is not overcast by the classification. It needs cloudgan[cpu,train,masks].
The series are 64 and 100 pixels wide, so each image is mirrored to a tile of the detector.
"""

from __future__ import annotations

import argparse
import json
import tomllib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import xarray as xr
from scipy.ndimage import distance_transform_edt

from cloudgan.geo.grid import Window
from cloudgan.masks.detector import Detector
from cloudgan.masks.snow import classify_series
from cloudgan.masks.temporal import find_departures
from cloudgan.sentinel2.bands import common_name
from cloudgan.sentinel2.classification import ClassRules, PixelClass

BAD = {
    "flanders-a": "2018-10-18 2018-12-17 2019-05-06 2019-05-11 2019-06-20 2019-06-30 2019-07-20 2019-11-12",
    "flanders-b": "2017-08-24 2017-10-23 2018-02-05 2018-05-24 2018-07-18 2018-11-27",
}
"""Days that are bad by eye although the classification calls them clear."""
SNOW = {"flanders-a": "2018-11-12", "flanders-b": "2018-09-23"}
"""Overcast days that the classification calls snow."""
TRUTHS = Path(__file__).parent / "truths.toml"
REGIONS = ("flanders-a", "flanders-b", "romania")
GOOD = 0.1  # share masked by the classification below which a day that is not bad is good
OVERCAST = 0.9  # share above which a day is overcast
BUFFER = 6  # pixels: 60 m
FLAGGED = 0.1  # share from which on a day counts as flagged: caught where it is bad, a false alarm where good

Masks = dict[str, np.ndarray]


def read_series(data: Path, region: str) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """Days, classification and bands of a series at 10 m, with those of its companion at 20 m repeated."""
    bands: dict[str, np.ndarray] = {}
    for metres in (20, 10):  # what both have is taken at 10 m
        with xr.open_dataset(data / f"series-{region}-l2a-{metres}m.nc", mask_and_scale=False) as file:
            time = next(str(name) for name in file["SCL"].dims if name not in ("y", "x"))
            days = file[time].values.astype("datetime64[D]")
            for name in file.data_vars:
                if set(file[name].dims) == {time, "y", "x"}:
                    values = file[name].transpose(time, "y", "x").values.astype(np.float64)
                    numbers = np.nan_to_num(np.clip(values, 0, 65535)).astype(np.uint16)
                    repeated = numbers.repeat(metres // 10, 1).repeat(metres // 10, 2)
                    bands[common_name(str(name))] = repeated
    return days, bands.pop("SCL").astype(np.uint8), bands


def detect(detector: Detector, bands: Mapping[str, np.ndarray]) -> np.ndarray:
    """Cloud and shadow of all dates, each mirrored to a tile."""
    names, tile = detector.spec.contract.input_bands, detector.spec.contract.tile
    height, width = bands[names[0]].shape[1:]
    top, left = (tile - height) // 2, (tile - width) // 2
    edges = ((top, tile - height - top), (left, tile - width - left))
    whole, part = Window(0, 0, tile, tile), Window(top, left, height, width)
    return np.stack(
        [
            detector.detect(
                {name: np.pad(bands[name][at], edges, "symmetric") for name in names}, whole, part
            )
            for at in range(len(bands[names[0]]))
        ]
    )


def find_masks(days: np.ndarray, scl: np.ndarray, bands: Mapping[str, np.ndarray]) -> Masks:
    """What each mask calls cloud or shadow, (time, y, x)."""
    seen = {name: bands[name] for name in ("green", "red", "nir")}
    numbers = days.astype(np.int64)
    found = {
        name: classify_series(scl, seen, numbers, ClassRules(snow=snow)) == PixelClass.CLOUDY
        for name, snow in (("scl, snow kept", "keep"), ("scl", "auto"))
    }
    found["csmask"] = detect(Detector.load_csmask(()), bands)
    found["scl,csmask"] = found["scl"] | found["csmask"]
    six = ("swir16", "swir22")
    if set(six) <= set(bands):
        found["csmask, 6 bands"] = detect(Detector.load_csmask(six), bands)
    data = np.all([seen[name] > 0 for name in seen], axis=0)
    for name in ("scl", "scl,csmask"):
        clear = data & ~found[name]
        found[f"{name},temporal"] = found[name] | find_departures(bands, clear, numbers, buffer=BUFFER)
    clear = data & ~found["scl"]
    found["scl,temporal without blue"] = found["scl"] | find_departures(seen, clear, numbers, buffer=BUFFER)
    found["temporal"] = find_departures(bands, clear, numbers, buffer=BUFFER)  # what it adds to scl
    return found


def add_buffer(masked: np.ndarray, pixels: int) -> np.ndarray:
    """A mask with all that is so near, each date on its own."""
    if not pixels:
        return masked
    return np.stack([distance_transform_edt(~one) <= pixels if one.any() else one for one in masked])


def read_truths(region: str) -> np.ndarray:
    """The days of a region that are good by eye."""
    return np.array(tomllib.loads(TRUTHS.read_text())[region]["truths"], "datetime64[D]")


def summarise(region: str, days: np.ndarray, shown: np.ndarray, masks: Masks) -> list[dict[str, object]]:
    """Rows of the table: for each mask the mean share of a kind of days, and how many are flagged."""
    share = {
        name: np.array([found[at][shown[at]].mean() for at in range(len(days))])
        for name, found in masks.items()
    }
    bad = np.isin(days, np.array(BAD.get(region, "").split(), "datetime64[D]"))
    snow = np.isin(days, np.array(SNOW.get(region, "").split(), "datetime64[D]"))
    kinds = {
        "bad": bad,
        "called snow": snow,
        "good": ~bad & ~snow & (share["scl, snow kept"] < GOOD),
        "good by eye": np.isin(days, read_truths(region)),
        "overcast by scl": share["scl, snow kept"] > OVERCAST,
    }
    return [
        {
            "region": region,
            "days": kind,
            "count": int(which.sum()),
            "share": {name: round(float(one[which].mean()), 3) for name, one in share.items()},
            "flagged": {name: int((one[which] >= FLAGGED).sum()) for name, one in share.items()},
        }
        for kind, which in kinds.items()
        if which.any()
    ]


def print_days(region: str, days: np.ndarray, shown: np.ndarray, masks: Masks) -> None:
    """Print the share of each day that is not overcast, for each mask."""
    bad, truths = BAD.get(region, "").split(), read_truths(region)
    for at, day in enumerate(days):
        shares = {name: float(found[at][shown[at]].mean()) for name, found in masks.items()}
        if shares["scl"] <= OVERCAST:
            kind = "bad" if str(day) in bad else "good by eye" if day in truths else ""
            cells = " | ".join(f"{share:.3f}" for share in shares.values())
            print(f"| {region} | {day} | {kind} | {cells} |")
    print()


def main() -> None:
    """Print the table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--buffer", type=int, default=0)
    parser.add_argument("--days", action="store_true")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    rows = []
    for region in REGIONS:
        days, scl, bands = read_series(given.data, region)
        shown = np.all([bands[name] > 0 for name in ("green", "red", "nir")], axis=0)
        kept = shown.mean(axis=(1, 2)) > 0.5
        masks = find_masks(days, scl, bands)
        masks = {name: add_buffer(found[kept], given.buffer) for name, found in masks.items()}
        if given.days:
            print_days(region, days[kept], shown[kept], masks)
        rows += summarise(region, days[kept], shown[kept], masks)
    names = list(rows[0]["share"])
    print("| region | days | number |", " | ".join(names), "|")
    print("|---" * (len(names) + 3) + "|")
    for row in rows:
        cells = [
            f"{row['share'][name]:.3f} ({row['flagged'][name]})" if name in row["share"] else ""
            for name in names
        ]
        print(f"| {row['region']} | {row['days']} | {row['count']} |", " | ".join(cells), "|")
    if given.json:
        given.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()

"""What the temporal test finds of simulated cloud, and what it takes for cloud of simulated change.

    python research/masks_simulated.py DATA

On the days of `truths.toml` of three real series at 10 m, as `research/masks.py` reads them. Clouds and
shadows are put over one day, and the scene classification sees none of them. Change is a new surface on a
field from one day on: it stays for good, or the old surface comes back linearly within 60 days. All
constants of the test are those of the product. It needs cloudgan[cpu,train].
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from itertools import pairwise
from pathlib import Path

import numpy as np
from masks import BUFFER, REGIONS, read_series, read_truths

from cloudgan.masks.snow import classify_series
from cloudgan.masks.temporal import BANDS, MARGIN_DAYS, find_departures
from cloudgan.sentinel2.classification import PixelClass
from cloudgan.simulation.clouds import KINDS, add_clouds, draw_cloud_field

SURFACES = {
    "harvest": (0.09, 0.12, 0.16, 0.30),
    "plough": (0.06, 0.08, 0.10, 0.16),
    "flood": (0.07, 0.09, 0.08, 0.04),
    "fire": (0.04, 0.05, 0.055, 0.10),
}
"""Reflectance in blue, green, red and near infrared: stubble, moist bare soil, turbid water, char."""
RETURN_DAYS = 60
OPACITIES = (0.02, 0.1, 0.2, 0.4, 1.01)
DRAWS = 1
FOLLOWING = 4  # clear days, from that of the change on, that may be taken for cloud

Series = tuple[np.ndarray, dict[str, np.ndarray], np.ndarray]


def cut(series: Series, at: int) -> tuple[Series, int]:
    """The days that decide one, and its number among them."""
    days, bands, clear = series
    near = np.abs(days - days[at]) <= MARGIN_DAYS + RETURN_DAYS
    part = days[near], {name: band[near] for name, band in bands.items()}, clear[near]
    return part, int(np.flatnonzero(near).searchsorted(at))


def find(series: Series) -> np.ndarray:
    """The temporal mask, (time, y, x)."""
    days, bands, clear = series
    return find_departures(bands, clear, days, buffer=BUFFER)


def test_clouds(rng: np.random.Generator, series: Series, at: int, counts: dict) -> None:
    """Count what is found of simulated clouds over one day, by their opacity and the depth of shadow."""
    (days, bands, clear), at = cut(series, at)
    for kind in KINDS:
        sun = rng.uniform(120, 200), rng.uniform(20, 60)
        field = draw_cloud_field(rng, clear.shape[1:], kind, rng.uniform(0.2, 0.7), sun)
        image = np.stack([bands[name][at] for name in bands], axis=-1).astype(np.float32) * 1e-4
        made = add_clouds(image, tuple(bands), field)
        cloudy = {name: band.copy() for name, band in bands.items()}
        for channel, name in enumerate(bands):
            cloudy[name][at] = np.round(np.clip(made.cloudy[..., channel], 1e-4, 6) * 1e4)
        found = find((days, cloudy, clear))[at]
        classes = {
            f"{kind} {low:.2f} to {min(high, 1):.2f}": (field.cloud >= low) & (field.cloud < high)
            for low, high in pairwise(OPACITIES)
        }
        classes[f"shadow of {kind}"] = (field.cloud < OPACITIES[0]) & (field.shadow > 0.3)
        classes[f"clear beside {kind}"] = ~made.mask
        for name, where in classes.items():
            where = where & clear[at]
            counts[name] += found[where].sum(), where.sum()


def test_change(rng: np.random.Generator, series: Series, at: int, counts: dict) -> None:
    """Count what of a field with a new surface is masked that is not masked without."""
    (days, bands, clear), at = cut(series, at)
    before = find((days, bands, clear))
    height, width = clear.shape[1:]
    for name, surface in SURFACES.items():
        for returns in (False, True):
            edges = rng.integers(12, 33, 2)
            top, left = rng.integers(0, height - edges[0]), rng.integers(0, width - edges[1])
            part = np.s_[at:, top : top + edges[0], left : left + edges[1]]
            share = np.ones(len(days) - at)
            if returns:
                share = np.clip(1 - (days[at:] - days[at]) / RETURN_DAYS, 0, 1)
            texture = rng.normal(1, 0.05, edges)
            changed = {}
            for band, value in zip(BANDS, surface, strict=True):
                old = bands[band][part].astype(np.float64)
                # The light and the air of the day are those of the day.
                light = np.array([np.median(one) for one in bands[band][at:]]) / np.median(bands[band][at])
                light = np.clip(light, 0.8, 1.25)
                new = 1e4 * value * texture * light[:, None, None]
                values = old + share[:, None, None] * (new - old)
                changed[band] = bands[band].copy()
                changed[band][part] = np.where(clear[part], np.clip(values, 1, 2e4), old)
            found = find((days, changed, clear)) & ~before
            shown = [one for one in range(at, len(days)) if clear[one].mean() > 0.5][:FOLLOWING]
            for one in shown:
                where = (one, *part[1:])
                key = f"{name}, {'returns' if returns else 'stays'}"
                counts[key] += found[where].sum(), clear[where].sum()


def main() -> None:
    """Print the shares that are masked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("data", type=Path)
    given = parser.parse_args()
    columns = {}
    for region in REGIONS:
        days, scl, bands = read_series(given.data, region)
        bands = {name: bands[name] for name in BANDS}
        shown = np.all([band > 0 for band in bands.values()], axis=0)
        clear = shown & (classify_series(scl, bands, days.astype(np.int64)) == PixelClass.CLEAR)
        for label, names in ((region, BANDS), (f"{region}, no blue", BANDS[1:])):
            rng, counts = np.random.default_rng(7), defaultdict(lambda: np.zeros(2))
            for at in np.flatnonzero(np.isin(days, read_truths(region))):
                for _ in range(DRAWS):
                    series = days.astype(np.int64), {name: bands[name] for name in names}, clear
                    test_clouds(rng, series, int(at), counts)
                    if names == BANDS:
                        test_change(rng, series, int(at), counts)
            columns[label] = {name: found / max(all_, 1) for name, (found, all_) in counts.items()}
    print("| what |", " | ".join(columns), "|")
    print("|---" * (len(columns) + 1) + "|")
    for name in columns[REGIONS[0]]:
        cells = [f"{column[name]:.3f}" if name in column else "" for column in columns.values()]
        print(f"| {name} |", " | ".join(cells), "|")


if __name__ == "__main__":
    main()

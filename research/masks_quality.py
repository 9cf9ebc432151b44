"""What a mask does to the estimate of masked dates: dates wrongly trusted disappear from it.

    python research/masks_quality.py DATA

On the days of `truths.toml` of three real series at 10 m, as `research/masks.py` reads them. Half of each
day, and all of it, is masked and estimated from the other days (`cloudgan.estimation`, green, red and near
infrared). All masks are evaluated on the same pixels. It needs cloudgan[cpu,train].
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from masks import BUFFER, REGIONS, add_buffer, read_series, read_truths

from cloudgan.estimation.estimate import estimate_date
from cloudgan.masks.snow import classify_series
from cloudgan.masks.temporal import find_departures
from cloudgan.observations import MAX_AGE, dates_within
from cloudgan.sentinel2.classification import PixelClass

NAMES = ("green", "red", "nir")


def main() -> None:
    """Print the mean PSNR of the estimate of masked pixels, and the mean gain of the temporal test."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("data", type=Path)
    given = parser.parse_args()
    print("| region | masked | days | scl | scl,temporal without blue | gain | scl,temporal | gain |")
    print("|---|---|---|---|---|---|---|---|")
    for region in REGIONS:
        dates, scl, bands = read_series(given.data, region)
        days = dates.astype(np.int64)
        seen = {name: bands[name] for name in NAMES}
        shown = np.all([band > 0 for band in seen.values()], axis=0)
        known = shown & (classify_series(scl, seen, days) == PixelClass.CLEAR)
        clear = {"scl": known & ~add_buffer(~known, BUFFER)}
        for label, tested in (("without blue", seen), ("with blue", bands)):
            found = find_departures(tested, known, days, buffer=BUFFER)
            clear[label] = known & ~add_buffer(~known | found, BUFFER)
        numbers = np.stack(list(seen.values())).astype(np.float32) * np.float32(1e-4)
        for part, columns in (("half", slice(shown.shape[2] // 2)), ("all", slice(None))):
            scores = []
            for at in np.flatnonzero(np.isin(dates, read_truths(region))).tolist():
                masked = np.zeros(shown.shape[1:], np.bool_)
                masked[:, columns] = True
                counted = masked & clear["scl"][at]
                row = []
                for trusted in clear.values():
                    others = trusted.copy()
                    others[at] = clear["scl"][at] & ~masked
                    near = dates_within(days, at, MAX_AGE)
                    made = estimate_date(numbers, others, masked, days, at, near)
                    error = (made - numbers[:, at])[:, counted]
                    row.append(-10 * np.log10(np.mean(error**2)))
                scores.append(row)
            mean = np.mean(scores, axis=0)
            cells = f"{mean[0]:.2f} | {mean[1]:.2f} | {mean[1] - mean[0]:+.2f} | {mean[2]:.2f} | "
            print(f"| {region} | {part} | {len(scores)} | {cells}{mean[2] - mean[0]:+.2f} |", flush=True)


if __name__ == "__main__":
    main()

"""What radiometric offsets of the rest of an MGRS tile gain in a fully masked part of it.

    python research/elsewhere.py DATA [--model temporal]

Of the real scenes of 33TWM (120 m) one half is fully masked on each clear date, and the radiometry of the
dates is measured on the other half alone. It prints PSNR on the masked half, with and without it, and of the
baselines. The shipped model was trained on the western half, so only the rows that mask the east count.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
from regions import read_regions

from cloudgan.evaluation.baselines import fill_date
from cloudgan.evaluation.cases import estimate_radiometry, format_date, mask_fully
from cloudgan.evaluation.metrics import score
from cloudgan.model.generator import Generator
from cloudgan.removal.core import decloud_dates, default_tiling
from cloudgan.sentinel2.bands import to_reflectance

NAMES = ("nearest", "linear", "median")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, help="folder of the sample imagery")
    parser.add_argument("--model", default="temporal", help="name or path of the model (default temporal)")
    options = parser.parse_args()
    generator = Generator.load(options.model)
    regions = ("33TWM-east", "33TWM-west")
    halves = {site.region: site for site in read_regions(options.data, regions)}
    print(f"| masked | {' | '.join(NAMES)} | alone | with the other half |\n{'|---' * 6}|")
    for name, other in (("east", "west"), ("west", "east")):
        shown, beside = halves[f"33TWM-{name}"], estimate_radiometry(halves[f"33TWM-{other}"])
        for at in np.flatnonzero(shown.trusted):
            case = mask_fully(shown, int(at), name)
            observations, window = case.site.observations, case.site.observations.window
            # As if the MGRS tile of the other half extended over this one.
            known = [replace(beside, window=window.buffered(generator.contract.tile))]
            filled = fill_date(observations, case.at, buffer=shown.buffer, names=NAMES)
            images = list(filled.images.values())
            for read_radiometry in (list, lambda known=known: known):
                (made,) = decloud_dates(
                    observations, window, generator, buffer=shown.buffer, tiling=default_tiling(generator),
                    dates=[case.at], read_radiometry=read_radiometry,
                )  # fmt: skip
                images.append(made.bands)
            evaluated = case.evaluated & filled.masked & filled.available
            truth = np.moveaxis(to_reflectance(case.truth), 0, -1)
            cells = [
                f"{score(np.moveaxis(to_reflectance(image), 0, -1), truth, evaluated).psnr:.2f}"
                for image in images
            ]
            print(f"| {name}, {format_date(shown, int(at))} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()

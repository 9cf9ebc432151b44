"""What the rest of an MGRS tile tells of a part that lies wholly under cloud.

    python benchmarks/elsewhere.py DATA [--model temporal]

Of the real scenes of 33TWM (120 m) one half is hidden wholly, on each clear date; the other half alone tells
how the dates differ. PSNR on the hidden half, with and without that, and of the baselines. The shipped model
was trained on the western half, so the rows that hide the east are those that count.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from cloudgan.evaluation import baselines, cases
from cloudgan.evaluation.metrics import score
from cloudgan.model.generator import Generator
from cloudgan.removal.core import declouded, default_tiling
from cloudgan.removal.normalisation import RadiometricOffsets
from cloudgan.sentinel2.bands import REFLECTANCE_SCALE
from cloudgan.training.data.places import place_of
from cloudgan.training.data.records import read_all

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
    halves = {s.region: place_of(s) for s in read_all(options.data) if s.region.startswith("33TWM")}
    print(f"| hidden | {' | '.join(NAMES)} | alone | with the other half |\n{'|---' * 6}|")
    for name, other in (("east", "west"), ("west", "east")):
        shown, beside = halves[f"33TWM-{name}"], halves[f"33TWM-{other}"].offsets()
        for at in np.flatnonzero(shown.truths):
            case = cases.masked(shown, int(at), name)
            scenes, window = case.place.scenes, case.place.scenes.window
            # As if the other half's MGRS tile reached over this one.
            known = [RadiometricOffsets(window.buffered(generator.contract.tile), beside.values)]
            free = baselines.filled(scenes, case.at, buffer=shown.buffer, names=NAMES)
            images = list(free.images.values())
            for elsewhere in (list, lambda known=known: known):
                (made,) = declouded(
                    scenes, window, generator, buffer=shown.buffer, tiling=default_tiling(generator),
                    dates=[case.at], elsewhere=elsewhere,
                )  # fmt: skip
                images.append(made.bands)
            judged = case.judged & free.masked & free.seen
            truth = case.reflectance()
            cells = [
                f"{score(np.moveaxis(image, 0, -1) * np.float32(REFLECTANCE_SCALE), truth, judged).psnr:.2f}"
                for image in images
            ]
            print(f"| {name}, {shown.day(int(at))} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()

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

from cloudgan import baselines, cases
from cloudgan.clouds import MAX_AGE, State
from cloudgan.generator import Generator
from cloudgan.normalisation import Shifts, median_shifts
from cloudgan.removal import REFLECTANCE_SCALE, Scenes, declouded, default_tiling
from cloudgan.scores import score
from cloudgan.training.places import Place, place_of
from cloudgan.training.records import read_stac

BANDS = ("green", "red", "nir")
BORDER = 457  # column between the halves
THINNING = 7  # every so many rows and columns tell of the differences, as an overview does


def seen_by(scenes: Scenes, half: slice) -> np.ndarray:
    """How the dates differ over one half."""
    part = (slice(None), slice(None, None, THINNING), slice(half.start, half.stop, THINNING))
    values = np.stack([band[part] for band in scenes.bands], axis=-1).reshape(
        len(scenes.days), -1, len(BANDS)
    )
    clear = (scenes.states[part] == State.CLEAR).reshape(len(scenes.days), -1)
    return median_shifts(values * np.float32(REFLECTANCE_SCALE), clear, scenes.days, MAX_AGE)


def half_of(place: Place, half: slice) -> Place:
    """One half, as a place of its own."""
    window = place.scenes.window
    width = half.stop - half.start
    return cases.Place(
        place.region,
        place.group,
        place.scenes.crop(type(window)(window.row, window.col + half.start, window.height, width)),
        place.reach,
        place.truths,
        None,
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, help="folder of the sample imagery")
    parser.add_argument("--model", default="temporal", help="name or path of the model (default temporal)")
    options = parser.parse_args()
    generator = Generator.load(options.model)
    place = place_of(read_stac(options.data / "s2-l2a-33TWM-120m"))
    width = place.scenes.window.width
    halves = {"east": slice(BORDER, width), "west": slice(0, BORDER)}
    names = ("nearest", "linear", "median")
    print(f"| hidden | {' | '.join(names)} | alone | with the other half |\n{'|---' * 6}|")
    for name, other in (("east", "west"), ("west", "east")):
        shown = half_of(place, halves[name])
        for at in np.flatnonzero(place.truths):
            case = cases.hidden(shown, int(at), name)
            scenes, window = case.place.scenes, case.place.scenes.window
            known = [Shifts(window.buffered(1000), seen_by(place.scenes, halves[other]))]
            free = baselines.filled(scenes, case.at, reach=shown.reach, names=names)
            images = list(free.images.values())
            for elsewhere in (list, lambda known=known: known):
                (made,) = declouded(
                    scenes, window, generator, reach=shown.reach, tiling=default_tiling(generator),
                    dates=[case.at], elsewhere=elsewhere,
                )  # fmt: skip
                images.append(made.bands)
            judged = case.judged & free.hidden & free.seen
            truth = case.reflectance()
            cells = [
                f"{score(np.moveaxis(image, 0, -1) * np.float32(REFLECTANCE_SCALE), truth, judged).psnr:.2f}"
                for image in images
            ]
            print(f"| {name}, {shown.day(int(at))} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()

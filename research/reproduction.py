"""The study's experiment again: train its recipe, plain and skewed, and ours, and publish the tables.

    python research/reproduction.py train ../shared/data runs     # five runs, resumed where they stopped
    python research/reproduction.py publish runs                  # into docs/

Width 32 and mixed precision, for a machine without a GPU; the rest is as the recipes say.
"""

from __future__ import annotations

import argparse
import csv
import re
import subprocess
import sys
from pathlib import Path

from matplotlib.figure import Figure

from cloudgan.training.pictures import write_figure

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs" / "reproduction"
RECIPES = {
    "documented": ROOT / "pipelines" / "train-documented.toml",
    "documented-skew": ROOT / "pipelines" / "train-documented-skew.toml",
    "right": ROOT / "pipelines" / "train-right.toml",
    "documented-33UUB": DOCS / "documented-33UUB.toml",
    "documented-skew-33UUB": DOCS / "documented-skew-33UUB.toml",
}
BANDS = ("NIR", "Red", "Green")
HONEST = [
    f"{group} {part} {score}"
    for group in ("train", "validation")
    for part in ("generated", "observed")
    for score in ("psnr", "ssim", "sam", "mae", "pc nir", "pc red", "pc green")
]
# What the study publishes of its table, as its authors give it: PSNR and SSIM on train and validation.
PUBLISHED = {
    400: {
        "PSNR_train": 31.21, "PSNR_val": 27.21, "SSIM_train": 0.949, "SSIM_val": 0.889,
        "PC_val_NIR": 0.155, "PC_val_Red": 0.266, "PC_val_Green": 0.110,
    },
    800: {"PSNR_val": 14.15, "SSIM_val": 0.111},
    1700: {"PSNR_val": 26.34, "SSIM_val": 0.797},
}  # fmt: skip


def study_columns() -> list[str]:
    """The study's columns, train before validation."""
    scores = [*(f"PC_{{on}}_{band}" for band in BANDS), "PSNR_{on}", "SSIM_{on}"]
    return [score.format(on=on) for on in ("train", "val") for score in scores]


def train(data: Path, runs: Path) -> None:
    """Run every recipe, one after another; finished runs are left alone."""
    for name, recipe in RECIPES.items():
        folder = runs / name
        if (folder / "summary.json").exists():
            continue
        words = [sys.executable, "-m", "cloudgan.training", recipe, "--data", data, "--run", folder]
        words += ["--width", "32", "--precision", "mixed_bfloat16"]
        words += ["--resume"] if (folder / "recipe.toml").exists() else []
        subprocess.run(list(map(str, words)), check=True)


def rows_of(path: Path) -> list[dict[str, float]]:
    """Rows of a run, or of what was published of it."""
    with path.open(newline="") as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


def publish(runs: Path) -> None:
    """Write the CSVs, the curves, and the tables into the page."""
    found = {}
    for name in RECIPES:
        if (metrics := runs / name / "metrics.csv").exists():
            found[name] = [
                {key: row[key] for key in ("step", *study_columns(), *HONEST)} for row in rows_of(metrics)
            ]
            with (DOCS / f"{name}.csv").open("w", newline="") as file:
                writer = csv.DictWriter(file, found[name][0], lineterminator="\n")
                writer.writeheader()
                writer.writerows(
                    [{key: round(value, 4) for key, value in row.items()} for row in found[name]]
                )
    picture(found)
    page = ROOT / "docs" / "reproduction.md"
    text = page.read_text()
    for marker, lines in (("study", study_table(found)), ("honest", honest_table(found))):
        body = "\n".join(lines)
        text = re.sub(
            rf"(<!-- {marker} -->\n).*?(<!-- end -->)",
            lambda m, b=body: f"{m[1]}{b}\n{m[2]}",
            text,
            flags=re.S,
        )
    page.write_text(text)


def study_table(found: dict[str, list[dict[str, float]]]) -> list[str]:
    """The study's measure, the study's rows beside ours."""
    lines = [f"| run | step | {' | '.join(study_columns())} |", f"|{'---|' * (len(study_columns()) + 2)}"]
    for step, row in PUBLISHED.items():
        cells = [f"{row[name]:g}" if name in row else "" for name in study_columns()]
        lines.append(f"| the study | {step} | {' | '.join(cells)} |")
    for name, rows in found.items():
        for row in choose_rows(rows, "PSNR_val"):
            cells = [
                f"{row[column]:.2f}" if "PSNR" in column else f"{row[column]:.3f}"
                for column in study_columns()
            ]
            lines.append(f"| {name} | {row['step']:.0f} | {' | '.join(cells)} |")
    return lines


def honest_table(found: dict[str, list[dict[str, float]]]) -> list[str]:
    """Metrics at a fixed scale, of masked and observed pixels apart."""
    columns = [f"{group} {part} {score}" for group in ("train", "validation")
               for part in ("generated", "observed") for score in ("psnr", "ssim")]  # fmt: skip
    columns += ["validation generated mae", "validation generated sam"]
    lines = [f"| run | step | {' | '.join(columns)} |", f"|{'---|' * (len(columns) + 2)}"]
    for name, rows in found.items():
        for row in choose_rows(rows, "validation generated psnr"):
            cells = [
                f"{row[column]:.3f}" if column.endswith(("ssim", "mae")) else f"{row[column]:.2f}"
                for column in columns
            ]
            lines.append(f"| {name} | {row['step']:.0f} | {' | '.join(cells)} |")
    return lines


def choose_rows(rows: list[dict[str, float]], best_by: str) -> list[dict[str, float]]:
    """The rows for a table: those that the study publishes, the best and the last, in order."""
    best = max(rows, key=lambda row: row[best_by])
    return [row for row in rows if row["step"] in PUBLISHED or row is best or row is rows[-1]]


def picture(found: dict[str, list[dict[str, float]]]) -> None:
    """Curves of the study's measure and of ours at a fixed scale."""
    panels = {"PSNR_val": "PSNR as the study computes it, dB", "SSIM_val": "SSIM as the study computes it",
              "validation generated psnr": "PSNR of masked pixels, held-out region, dB"}  # fmt: skip
    figure = Figure(figsize=(13, 3.6), layout="constrained")
    for axes, (column, title) in zip(figure.subplots(1, len(panels)), panels.items(), strict=True):
        for name, rows in found.items():
            axes.plot([row["step"] for row in rows], [row[column] for row in rows], marker=".", label=name)
        if column in PUBLISHED[1700]:
            axes.plot(list(PUBLISHED), [row[column] for row in PUBLISHED.values()], "kx", label="the study")
        axes.set(title=title, xlabel="step")
    axes.legend(frameon=False, fontsize="small")
    write_figure(figure, DOCS / "curves.png", dpi=75)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("what", choices=("train", "publish"))
    parser.add_argument("folders", nargs="+", type=Path, help="train: imagery and runs; publish: runs")
    options = parser.parse_args()
    {"train": train, "publish": publish}[options.what](*options.folders)

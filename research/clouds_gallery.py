"""Draw `docs/images/clouds.png`: simulated clouds and real shapes over real fields, and real clouds below.

    python research/clouds_gallery.py ../shared/data docs/images/clouds.png

The imagery is read where it lies. Seeds are fixed, so the same version draws the same picture.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from cloudgan.sentinel2.classification import CLOUD_CLASSES, Scl
from cloudgan.simulation import cloud_fields, clouds
from cloudgan.training.data.catalogues import read_catalogue
from cloudgan.training.data.geotiffs import read_geotiff
from cloudgan.training.data.textures import read_texture

Floats = NDArray[np.float32]
BANDS = ("green", "red", "nir")
TILE, COLUMNS, LABEL = 150, 4, 14
COVERS = (0.2, 0.35, 0.5, 0.65)
VIEW = cloud_fields.View(azimuth=150, elevation=42)
REAL = ("1158_spring_s2_cloudy_39_p500", "1158_spring_s2_cloudy_39_p838", "1970_fall_s2_cloudy_85_p492",
        "1970_fall_s2_cloudy_136_p500")  # fmt: skip


def rows(samples: Path) -> Iterator[tuple[str, list[Floats]]]:
    """A title and four pictures for each row."""
    fields = read_geotiff(samples / "clear-single" / "33UUB_20170527_l1c.tif", BANDS)[60:316, 210:466]
    yield (
        "Perlin noise by threshold, as in the study (simulation.clouds): thick, thin, cumulus",
        [
            over(fields, clouds.draw_cloud_field(rng(at), (256, 256), kind, 0.45, VIEW.sun))
            for at, kind in enumerate(("thick", "thin", "cumulus", "cumulus"))
        ],
    )
    for kind in cloud_fields.KINDS:
        strong = 0.35 if kind in ("cirrus", "haze") else 0.0
        yield (
            f"{kind}, by optical depth (simulation.cloud_fields), cover rising",
            [
                over(
                    fields,
                    cloud_fields.draw_cloud_field(rng(at + 40), (256, 256), kind, cover + strong, VIEW),
                )
                for at, cover in enumerate(COVERS)
            ],
        )
    yield (
        "real shapes: of the cumulus sample, of an SCL mask; the second of two with own pixels",
        list(real_shapes(samples, fields)),
    )
    yield (
        "for comparison: real Sentinel-2 clouds",
        [read_geotiff(samples / "pairs-l1c-10m" / f"ROIs{name}.tif", BANDS) for name in REAL],
    )


def real_shapes(samples: Path, fields: Floats) -> Iterator[Floats]:
    """The fields under real cloud shapes."""
    cumulus = read_texture(samples / "cloud-texture-512.npz", "cumulus", BANDS)
    catalogue = str(samples / "s2-l2a-33TWM-120m" / "catalog.json")
    observations = read_catalogue(catalogue, "33TWM", BANDS, dates="2023-08-18").observations
    assert observations.scl is not None
    scl = observations.scl[0]
    for image, cloud, shadow, row, col in (
        (cumulus.reflectance, cumulus.cloud, cumulus.shadow, 60, 120),
        (observations.reflectance()[0], np.isin(scl, CLOUD_CLASSES), scl == Scl.CLOUD_SHADOW, 520, 40),
    ):
        part = slice(row, row + 256), slice(col, col + 256)
        cloud_field = cloud_fields.make_cloud_field(rng(11), cloud[part], shadow[part], VIEW)
        yield over(fields, cloud_field)
        yield over(fields, cloud_field, clouds.extend_cloud(image[part], cloud[part]))


def over(fields: Floats, cloud_field: clouds.CloudField, texture: Floats | None = None) -> Floats:
    """The fields under clouds."""
    return clouds.add_clouds(fields, BANDS, cloud_field, texture).cloudy


def rng(seed: int) -> np.random.Generator:
    """Chance of a fixed seed."""
    return np.random.default_rng((2, seed))


def picture(image: Floats) -> NDArray[np.uint8]:
    """False colour (near infrared, red, green) that shows fields and cloud tops alike."""
    middle = image[53 : 53 + TILE, 53 : 53 + TILE, ::-1] / (0.9, 0.75, 0.75)
    return (255 * np.clip(middle, 0, 1) ** 0.6).astype(np.uint8)


def main(samples: Path, out: Path) -> None:
    """Draw the gallery."""
    drawn = list(rows(samples))
    sheet = Image.new("RGB", (COLUMNS * TILE, len(drawn) * (TILE + LABEL)), "white")
    draw = ImageDraw.Draw(sheet)
    for at, (title, images) in enumerate(drawn):
        top = at * (TILE + LABEL)
        draw.text((2, top + 1), title, "black")
        for column, image in enumerate(images):
            sheet.paste(Image.fromarray(picture(image)), (column * TILE, top + LABEL))
    out.parent.mkdir(parents=True, exist_ok=True)
    sheet.quantize(192, dither=Image.Dither.NONE).save(out, optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))

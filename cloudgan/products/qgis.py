"""Files beside a raster that QGIS reads: its style (`.qml`), and a stack of dates (`.vrt`)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree as Xml

import rasterio

from cloudgan.products.geotiff import write_whole
from cloudgan.products.layers import COLOURS, Picture
from cloudgan.schema import PROVENANCE

_TRUE, _FALSE = ("red", "green", "blue"), ("nir", "red", "green")
_RAMPS = {  # values and colours from low to high
    "observed_share": ((0.0, "#f7fbff"), (0.5, "#6baed6"), (1.0, "#08306b")),
    "": ((-0.2, "#8c510a"), (0.2, "#f6e8c3"), (0.5, "#a6d96a"), (0.9, "#1a6b2d")),
}
_TYPES = {"uint8": "Byte", "uint16": "UInt16", "int16": "Int16"}


def write_style(raster: Path, picture: Picture, bands: Sequence[str] | None = None) -> None:
    """Write the style of a raster beside it, under the name by which QGIS finds it.

    Args:
        raster: The raster.
        picture: What its numbers mean.
        bands: What its bands show, where they are not those of the picture: `("red", "red")` of a stack.
    """
    root = Xml.Element("qgis", version="3.28", styleCategories="Symbology")
    pipe = Xml.SubElement(root, "pipe")
    names = tuple(bands or picture.bands)
    colours = next((rgb for rgb in (_TRUE, _FALSE) if set(rgb) <= set(names)), None)
    if picture.colours:
        _add_palette(pipe, picture)
    elif picture.dtype == "uint16" and colours:
        _add_colours(pipe, [names.index(name) + 1 for name in colours], 0.3 if colours == _TRUE else 0.5)
    elif picture.dtype == "uint16":
        renderer = Xml.SubElement(pipe, "rasterrenderer", type="singlebandgray", grayBand="1", opacity="1")
        _add_stretch(renderer, "contrastEnhancement", 0.5)
    else:
        _add_ramp(pipe, _RAMPS.get(names[0], _RAMPS[""]))
    _write(raster.with_suffix(".qml"), root)


def write_stack(
    path: Path, rasters: Sequence[Path], titles: Sequence[str], picture: Picture, band: int
) -> None:
    """Write a virtual raster with one band for each date.

    Args:
        path: Where to.
        rasters: Files of one grid, in the same folder.
        titles: What each of them is called.
        picture: What their numbers mean.
        band: Which of their bands, from 1.
    """
    with rasterio.open(rasters[0]) as first:
        width, height, transform, crs = first.width, first.height, first.transform, first.crs.to_wkt()
    root = Xml.Element("VRTDataset", rasterXSize=str(width), rasterYSize=str(height))
    Xml.SubElement(root, "SRS").text = crs
    Xml.SubElement(root, "GeoTransform").text = ", ".join(repr(float(one)) for one in transform.to_gdal())
    for number, (raster, title) in enumerate(zip(rasters, titles, strict=True), 1):
        one = Xml.SubElement(root, "VRTRasterBand", dataType=_TYPES[picture.dtype], band=str(number))
        Xml.SubElement(one, "Description").text = title
        Xml.SubElement(one, "NoDataValue").text = str(int(picture.nodata))
        Xml.SubElement(one, "Scale").text = repr(picture.scale)
        Xml.SubElement(one, "Offset").text = "0"
        if picture.colours:
            Xml.SubElement(one, "ColorInterp").text = "Palette"
            table = Xml.SubElement(one, "ColorTable")
            for value in range(max(picture.colours) + 1):
                parts = zip(("c1", "c2", "c3", "c4"), picture.colours.get(value, (0, 0, 0, 0)), strict=True)
                Xml.SubElement(table, "Entry", {name: str(part) for name, part in parts})
        source = Xml.SubElement(one, "SimpleSource")
        Xml.SubElement(source, "SourceFilename", relativeToVRT="1").text = raster.name
        Xml.SubElement(source, "SourceBand").text = str(band)
    _write(path, root)


def _add_palette(pipe: Xml.Element, picture: Picture) -> None:
    renderer = Xml.SubElement(pipe, "rasterrenderer", type="paletted", band="1", opacity="1", alphaBand="-1")
    palette = Xml.SubElement(renderer, "colorPalette")
    labels = {int(kind): kind.name.lower().replace("_", " ") for kind in COLOURS}
    for value, (red, green, blue, alpha) in picture.colours.items():
        colour = f"#{red:02x}{green:02x}{blue:02x}"
        label = labels[value] if picture.bands == (PROVENANCE.name,) else str(value)
        Xml.SubElement(palette, "paletteEntry", value=str(value), color=colour, alpha=str(alpha), label=label)


def _add_colours(pipe: Xml.Element, bands: Sequence[int], highest: float) -> None:
    channels = dict(zip(("red", "green", "blue"), bands, strict=True))
    words = {f"{name}Band": str(band) for name, band in channels.items()}
    renderer = Xml.SubElement(
        pipe, "rasterrenderer", {"type": "multibandcolor", "opacity": "1", "alphaBand": "-1"} | words
    )
    for name in channels:
        _add_stretch(renderer, f"{name}ContrastEnhancement", highest)


def _add_stretch(renderer: Xml.Element, name: str, highest: float) -> None:
    stretch = Xml.SubElement(renderer, name)
    Xml.SubElement(stretch, "minValue").text = "0"
    Xml.SubElement(stretch, "maxValue").text = repr(highest)
    Xml.SubElement(stretch, "algorithm").text = "StretchToMinimumMaximum"


def _add_ramp(pipe: Xml.Element, ramp: Sequence[tuple[float, str]]) -> None:
    lowest, highest = repr(ramp[0][0]), repr(ramp[-1][0])
    renderer = Xml.SubElement(
        pipe, "rasterrenderer", type="singlebandpseudocolor", band="1", opacity="1", alphaBand="-1",
        classificationMin=lowest, classificationMax=highest,
    )  # fmt: skip
    shader = Xml.SubElement(Xml.SubElement(renderer, "rastershader"), "colorrampshader")
    shader.attrib |= {
        "colorRampType": "INTERPOLATED",
        "classificationMode": "1",
        "minimumValue": lowest,
        "maximumValue": highest,
    }
    for value, colour in ramp:
        Xml.SubElement(shader, "item", value=repr(value), color=colour, alpha="255", label=f"{value:g}")


def _write(path: Path, root: Xml.Element) -> None:
    Xml.indent(root)
    with write_whole(path) as piece:
        piece.write_bytes(Xml.tostring(root, encoding="utf-8", xml_declaration=True))

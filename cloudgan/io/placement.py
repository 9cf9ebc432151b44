"""Where imagery lies on the pixel lattice."""

from __future__ import annotations

from collections.abc import Sequence

from affine import Affine
from rasterio.errors import RasterioError

from cloudgan.errors import ReadError
from cloudgan.geo.grid import Lattice, Window
from cloudgan.io.gdal import open_image
from cloudgan.io.readers import explain_cause
from cloudgan.stac.frames import central_meridian, unwrap
from cloudgan.stac.items import SourceItem
from cloudgan.stac.search import Scene
from cloudgan.stac.signing import sign


def item_window(item: SourceItem, lattice: Lattice) -> Window:
    """The pixels of a lattice on which an item may have data.

    Its first asset's frame where the item states it, else its footprint's bounds.
    """
    asset = item.assets[0]
    if asset.shape and asset.transform and item.epsg == lattice.epsg:
        frame = Affine(*asset.transform)
        (west, north), (east, south) = frame @ (0, 0), frame @ (asset.shape[1], asset.shape[0])
        return lattice.covering(west, south, east, north)
    return lattice.covering_lonlat(unwrap(item.geometry, central_meridian(lattice.epsg)).bounds)


def source_lattice(scenes: Sequence[Scene], resolution: float) -> Lattice:
    """The lattice of the scenes' own pixels, where they have this resolution and agree on one.

    At any other resolution values are resampled anyway, and the lattice is the zone's: it must not depend on
    which items an area of interest happens to touch.

    Raises:
        ReadError: No item states its transform, and no file can be asked.
    """
    items = [item for scene in scenes for item in scene.items]
    epsg = items[0].epsg
    frames = {Affine(*item.assets[0].transform) for item in items if item.assets[0].transform}
    # Files that cannot be read now do not decide: their units name them.
    frames = frames or {_read_transform(items[0])}
    lattices = {Lattice.through(epsg, frame.a, frame.c, frame.f) for frame in frames}
    own = next(iter(lattices))
    return own if len(lattices) == 1 and own.resolution == resolution else Lattice(epsg, resolution)


def _read_transform(item: SourceItem) -> Affine:
    asset = item.assets[0]
    try:
        with open_image(sign(asset.href, item.signing)) as source:
            return Affine(*source.transform[:6])
    except RasterioError as error:
        raise ReadError(
            f"item {item.id} could not be read: asset {asset.band}, {explain_cause(error)}; run the same "
            "command again"
        ) from error

"""Where imagery lies on the pixel lattice."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

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


def source_lattice(scenes: Sequence[Scene], resolution: float, *, allow_missing: bool = False) -> Lattice:
    """The lattice of the scenes' own pixels, where they have this resolution and agree on one.

    At any other resolution values are resampled anyway, and the lattice is the zone's: it must not depend on
    which items an area of interest happens to touch.

    Args:
        scenes: What will be read, of one zone.
        resolution: Edge of a pixel in metres.
        allow_missing: Whether the lattice is the zone's where no item states its transform, and no file of
            the first can be asked.

    Raises:
        ReadError: No item states its transform, and no file can be asked.
    """
    items = [item for scene in scenes for item in scene.items]
    epsg = items[0].epsg
    frames = {Affine(*item.assets[0].transform) for item in items if item.assets[0].transform}
    # Files that cannot be read now do not decide: their units name them.
    frames = frames or set(_read_transforms(items[0], allow_missing=allow_missing))
    lattices = {Lattice.through(epsg, frame.a, frame.c, frame.f) for frame in frames}
    own = next(iter(lattices), None)
    agreed = own is not None and len(lattices) == 1 and own.resolution == resolution
    return own if own is not None and agreed else Lattice(epsg, resolution)


def _read_transforms(item: SourceItem, *, allow_missing: bool) -> Iterator[Affine]:
    """The transform of an item's first file; where it may be missing, of the first that can be read."""
    for asset in item.assets if allow_missing else item.assets[:1]:
        try:
            with open_image(sign(asset.href, item.signing)) as source:
                yield Affine(*source.transform[:6])
                return
        except RasterioError as error:
            if not allow_missing:
                raise ReadError(
                    f"item {item.id} could not be read: asset {asset.band}, {explain_cause(error)}; run the "
                    "same command again, or give --allow-missing"
                ) from error

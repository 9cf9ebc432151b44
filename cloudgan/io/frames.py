"""Where the pixels of a file lie, by the file itself, and whether its item says the same."""

from __future__ import annotations

import numpy as np
import rasterio
from rasterio.errors import RasterioError

from cloudgan.errors import CloudganError, ReadError, redacted
from cloudgan.io.gdal import open_image
from cloudgan.stac.frames import Frame
from cloudgan.stac.hrefs import remove_query
from cloudgan.stac.items import SourceItem
from cloudgan.stac.signing import Signing, sign

_FAILURES = (RasterioError, RuntimeError, OSError, ValueError, MemoryError, CloudganError)


def read_frame(href: str, signing: Signing) -> Frame | None:
    """The frame of a file; None where it cannot be read, or is no image north up in a known CRS."""
    try:
        with open_image(sign(href, signing)) as source:
            epsg, transform = _find_epsg(source), source.transform
            if epsg is None or not (transform.a > 0 > transform.e and transform.b == transform.d == 0):
                return None
            a, b, c, d, e, f = transform[:6]
            return Frame(epsg, (source.height, source.width), (a, b, c, d, e, f))
    except _FAILURES:
        return None


def check_frame(item: SourceItem, name: str, source: rasterio.DatasetReader) -> None:
    """Make sure that a file lies where its item says: else its pixels are of another place.

    Args:
        item: The item.
        name: Common name of the band.
        source: Its file, open.

    Raises:
        ReadError: The file is in another CRS, or covers another place.
    """
    asset = item.asset(name)
    own = source.transform
    if own.b or own.d or own.a <= 0 or own.e >= 0:
        raise _contradiction(item, name, "it is not north up")
    found = _find_epsg(source)
    if found != item.epsg:
        crs = "no CRS that is known" if found is None else f"EPSG:{found}"
        raise _contradiction(item, name, f"it is in {crs}, and the item states EPSG:{item.epsg}")
    if asset.shape and asset.transform:
        stated = np.array(Frame(item.epsg, asset.shape, asset.transform).bounds)
        actual = np.array(source.bounds)
        pixel = max(abs(source.transform.a), abs(source.transform.e))
        if np.abs(stated - actual).max() > pixel:
            raise _contradiction(
                item,
                name,
                f"it covers {_show(actual)} in EPSG:{found}, and the item states {_show(stated)}",
            )


def _find_epsg(source: rasterio.DatasetReader) -> int | None:
    if source.crs is None:
        return None
    code = source.crs.to_epsg()
    return int(code) if code is not None else None


def _contradiction(item: SourceItem, name: str, reason: str) -> ReadError:
    return name_asset(
        item,
        name,
        f"item {item.id} contradicts its file of band {name}: {reason}; leave it out, or give "
        "--allow-missing",
    )


def name_asset(item: SourceItem, name: str, message: str) -> ReadError:
    """An error about the file of a band, which names the item and, without secrets, the file."""
    return ReadError(message, item.id, redacted(remove_query(item.asset(name).href)))


def _show(bounds: np.ndarray[tuple[int], np.dtype[np.float64]]) -> str:
    return " ".join(f"{edge:.0f}" for edge in bounds)

"""The catalogues that cloudgan knows by name, and how their items are recognised."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cloudgan.stac.hrefs import find_host
from cloudgan.stac.values import iterate_objects

if TYPE_CHECKING:
    from cloudgan.stac.raw_items import RawItem

EARTH_SEARCH = "https://earth-search.aws.element84.com/v1"
"""Element84's free API to the Sentinel-2 COGs on AWS: the default."""
PLANETARY_COMPUTER = "https://planetarycomputer.microsoft.com/api/stac/v1"
"""Microsoft's API; its assets need signed URLs (extra `planetary`)."""
COPERNICUS_DATA_SPACE = "https://stac.dataspace.copernicus.eu/v1"
"""ESA's archive; its files lie at an S3 end point of its own and need keys."""
DEFAULT_COLLECTION = "sentinel-2-l2a"
"""The collection of these APIs."""

_PLANETARY_HOST = find_host(PLANETARY_COMPUTER)
_PLANETARY_STORAGE = "sentinel2l2a01.blob.core.windows.net"


def is_planetary_computer(raw: RawItem) -> bool:
    """Whether an item comes from the Planetary Computer, directly or out of a saved search."""
    links = [str(link.get("href")) for link in iterate_objects(raw.body.get("links") or ())]
    storage = (str(asset.get("href")) for asset in iterate_objects(raw.body["assets"].values()))
    return _PLANETARY_HOST in map(find_host, (raw.base, *links)) or _PLANETARY_STORAGE in map(
        find_host, storage
    )

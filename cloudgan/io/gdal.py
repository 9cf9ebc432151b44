"""GDAL's settings for reading imagery: one table, and what GDAL is allowed to open."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from urllib.parse import urlsplit

import rasterio

from cloudgan.errors import redacted
from cloudgan.stac.hrefs import remove_query

GDAL_OPTIONS = {
    # GDAL caches a failed open for the life of the process: without the third of these no retry ever asks.
    "GDAL_HTTP_MAX_RETRY": "5",
    "GDAL_HTTP_RETRY_DELAY": "1",
    "CPL_VSIL_CURL_NON_CACHED": "/vsicurl/http:/vsis3/:/vsigs/:/vsiaz/",
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
    # One connection carries many ranges.
    "GDAL_HTTP_MULTIPLEX": "YES",
    "GDAL_HTTP_CONNECTTIMEOUT": "20",
    # A transfer below 1 kB/s for a minute is given up.
    "GDAL_HTTP_LOW_SPEED_TIME": "60",
    "GDAL_HTTP_LOW_SPEED_LIMIT": "1000",
    # Megabytes. By default it is a share of the machine's memory, of which a container may have little.
    "GDAL_CACHEMAX": "512",
}
"""Set in the environment of every worker, unless it sets them itself: a `rasterio.Env` is one thread's."""

DRIVERS = ("GTiff", "JP2OpenJPEG")
"""GDAL's drivers that read. Others, such as VRT, would follow an image to further files, also local ones."""

# Where they are not set, odc-stac sets its own in a `rasterio.Env`, which goes before the environment: ten
# retries of doubled waits, ten minutes for each request to a server that stays busy.
_SET_BY_ODC = ("GDAL_HTTP_MAX_RETRY", "GDAL_HTTP_RETRY_DELAY", "GDAL_DISABLE_READDIR_ON_OPEN")


class _Redacted(logging.Filter):
    """rasterio logs which address failed, signature included."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = redacted(record.getMessage()), ()
        return True


for _name in ("rasterio._env", "rasterio._err", "rasterio._io", "rasterio._base"):
    logging.getLogger(_name).addFilter(_Redacted())
logging.getLogger("odc.loader._rio").setLevel(
    logging.CRITICAL
)  # it logs the address of what it raises anyway


_LIST_DRIVERS = "import rasterio\nwith rasterio.Env() as env: print(*env.drivers(), sep='\\n')"


@cache
def list_foreign_drivers() -> str:
    """This GDAL's other formats, for its option `GDAL_SKIP` in a process that has opened nothing yet.

    Another process lists them: one that has done so keeps them all, whatever `GDAL_SKIP` says later.

    Raises:
        OSError: No process can be started.
        subprocess.SubprocessError: It failed.
    """
    environment = {name: value for name, value in os.environ.items() if name != "GDAL_SKIP"}
    words = [sys.executable, "-P", "-c", _LIST_DRIVERS]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=True, timeout=120)  # noqa: S603
    return ",".join(sorted(set(done.stdout.splitlines()) - {*DRIVERS, "MEM"}))  # it warps in memory


def translate_endpoint(environment: Mapping[str, str]) -> dict[str, str]:
    """GDAL's own names for an S3 server other than Amazon's, which others read from `AWS_ENDPOINT_URL`."""
    url = urlsplit(environment.get("AWS_ENDPOINT_URL_S3") or environment.get("AWS_ENDPOINT_URL", ""))
    if not url.netloc:
        return {}
    secure = "YES" if url.scheme == "https" else "NO"
    return {"AWS_S3_ENDPOINT": url.netloc, "AWS_HTTPS": secure, "AWS_VIRTUAL_HOSTING": "FALSE"}


def missing_options(environment: Mapping[str, str]) -> dict[str, str]:
    """The settings that the environment of a process lacks that is going to read."""
    wanted = GDAL_OPTIONS | translate_endpoint(environment)
    return {name: value for name, value in wanted.items() if name not in environment}


def _open_env() -> rasterio.Env:
    """The same settings for one thread of a process whose environment is left alone, such as the client."""
    options = missing_options(os.environ)
    options.pop("GDAL_CACHEMAX", None)  # there is one cache in a process
    return rasterio.Env(**options)


def options_for_odc(environment: Mapping[str, str]) -> dict[str, str]:
    """The settings that odc-stac would otherwise replace by its own, for a `rasterio.Env` around it."""
    return {name: environment.get(name, GDAL_OPTIONS[name]) for name in _SET_BY_ODC}


@contextmanager
def open_image(href: str) -> Iterator[rasterio.DatasetReader]:
    """Open a file by our settings, in one of the formats that are read, by its name; others are refused."""
    tiff, jpeg2000 = DRIVERS
    driver = jpeg2000 if remove_query(href).lower().endswith(".jp2") else tiff
    with _open_env(), rasterio.open(href, driver=driver) as source:
        yield source

"""GDAL's settings hold wherever a file is opened, and only there."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import geotiff
import numpy as np
from rasterio.env import getenv, hasenv

from cloudgan.io.gdal import GDAL_OPTIONS, open_image


def test_a_thread_reads_by_the_settings_and_leaves_none_behind(tmp_path, monkeypatch):
    """A `rasterio.Env` is one thread's: a pool's threads would look for side files, on the network too."""
    for name in GDAL_OPTIONS:
        monkeypatch.delenv(name, raising=False)
    path = tmp_path / "green.tif"
    geotiff.write(path, np.ones((1, 4, 4), np.uint16), ("B03",))

    def read():
        with open_image(str(path)):
            within = getenv()
        return within, hasenv()

    with ThreadPoolExecutor(1) as pool:
        within, after = pool.submit(read).result()
    assert within["GDAL_DISABLE_READDIR_ON_OPEN"] == "EMPTY_DIR"
    assert within["GDAL_HTTP_MAX_RETRY"] == GDAL_OPTIONS["GDAL_HTTP_MAX_RETRY"]
    assert not after


def test_what_the_environment_sets_is_left_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("GDAL_HTTP_MAX_RETRY", "2")
    path = tmp_path / "green.tif"
    geotiff.write(path, np.ones((1, 4, 4), np.uint16), ("B03",))
    with open_image(str(path)) as source:
        assert "GDAL_HTTP_MAX_RETRY" not in getenv()
        assert source.shape == (4, 4)

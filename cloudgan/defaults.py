"""What is done where a user says nothing: one home per value, cheap to import."""

from __future__ import annotations

from typing import Literal

Reader = Literal["rasterio", "odc", "stackstac"]
"""Which library reads the pixels: odc-stac, or stackstac at about 2.5 times its CPU."""
Snow = Literal["auto", "keep", "cloud"]
"""What class 11 of the scene classification, snow or ice, is taken for: clear where other dates confirm it,
clear, or cloud."""

STAC = "earth-search"
"""Where items are searched."""
MODEL = "temporal"
"""Name of the generator."""
READER: Reader = "rasterio"
"""Which library reads the pixels."""
RESOLUTION = 10.0
"""Edge of a pixel in metres."""
MAX_CLOUD_COVER = 100.0
"""Cloud cover of a granule in percent, included."""
CONTEXT_DAYS = 30
"""Days read before and after the dates asked for: some ten overpasses on either side."""
MASK = "scl"
"""What finds clouds: the scene classification."""
SNOW: Snow = "auto"
"""What is taken for snow."""

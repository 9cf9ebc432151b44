"""What it takes to plan a continent: seconds, memory, and bytes of what the workers are sent.

    python benchmarks/planning.py [--zones N] [--dates N]

A catalogue of items that are nothing but metadata covers so many UTM zones from the equator to 46 degrees
north, an item a MGRS tile and date; everything from reading it to the plan in figures is measured, here.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import pickle
import resource
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pyproj import Transformer
from shapely.geometry import box, mapping

from cloudgan.geo.aoi import Aoi
from cloudgan.model.generator import Generator
from cloudgan.planning.planner import plan_zones
from cloudgan.sentinel2.dates import DateRange
from cloudgan.stac.search import find_scenes

TILE = 109_800  # metres
STEP = 100_000
NORTH = 46


def item(epsg: int, west: int, north: int, day: dt.date) -> dict[str, Any]:
    """An item as Earth Search has it, without what a plan does not ask for."""
    lonlat = Transformer.from_crs(epsg, 4326, always_xy=True)
    outline = box(*lonlat.transform_bounds(west, north - TILE, west + TILE, north))
    name = f"S2A_{epsg}_{west}_{north}_{day:%Y%m%d}"
    frame = {"proj:shape": [10980, 10980], "proj:transform": [10, 0, west, 0, -10, north]}
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": name,
        "geometry": mapping(outline),
        "bbox": list(outline.bounds),
        "links": [],
        "collection": "sentinel-2-l2a",
        "properties": {
            "datetime": f"{day}T10:00:00Z",
            "proj:epsg": epsg,
            "eo:cloud_cover": 40,
            "s2:processing_baseline": "05.09",
            "earthsearch:boa_offset_applied": True,
        },
        "assets": {
            band: {"href": f"https://example.com/{name}/{band}.tif"} | frame
            for band in ("green", "red", "nir", "scl")
        },
    }


def items(zones: int, dates: int) -> Iterator[dict[str, Any]]:
    """All items of a continent."""
    for zone in range(zones):
        for west in range(199_980, 800_000, STEP):
            for north in range(STEP, 5_300_000, STEP):
                for at in range(dates):
                    yield item(32631 + zone, west, north, dt.date(2023, 8, 1) + dt.timedelta(5 * at))


def peak() -> float:
    """Most memory that this process ever held, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def main() -> None:
    """Parse the command line, measure, print JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--zones", type=int, default=8)
    parser.add_argument("--dates", type=int, default=4)
    options = parser.parse_args()
    generator = Generator.load()
    area = Aoi(box(0, 0, 6 * options.zones, NORTH))
    with tempfile.TemporaryDirectory() as folder:
        catalogue = Path(folder) / "items.json"
        with catalogue.open("w") as file:
            file.write('{"type": "FeatureCollection", "features": [')
            for at, one in enumerate(items(options.zones, options.dates)):
                file.write("," * (at > 0) + json.dumps(one))
            file.write("]}")
        when, bands = DateRange.parse("2023-08"), generator.contract.input_bands
        before, started = peak(), time.process_time()
        find_scenes(area.geometry, when, bands=bands, stac=str(catalogue))
        searched = time.process_time()
        plans, _ = plan_zones(area, when, generator, stac=str(catalogue), memory=750_000_000)
        summaries = [plan.summary() for plan in plans.values()]
        ended = time.process_time()
    print(
        json.dumps(
            {
                "zones": len(plans),
                "items": sum(summary["items"] for summary in summaries),
                "units": sum(summary["units"] for summary in summaries),
                "unit": sorted({summary["unit"] for summary in summaries}),
                "CPU seconds of the search alone": round(searched - started, 2),
                "CPU seconds of search and plan": round(ended - searched, 2),
                "peak memory before, MB": round(before),
                "peak memory after, MB": round(peak()),
                "largest plan, pickled, MB": round(
                    max(len(pickle.dumps(p)) for p in plans.values()) / 1e6, 1
                ),
            },
            indent=2,
        )
    )


if __name__ == "__main__":
    main()

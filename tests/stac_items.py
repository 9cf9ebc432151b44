"""Items of Sentinel-2 as Earth Search writes them, cut down."""

import datetime as dt

from shapely.geometry import box, mapping


def item(
    day="2020-04-03", *, tile="33TWM", clock="10:00:00", sequence=0, baseline="05.00", west=15.0, **changes
):
    """One granule of satellite A; `changes` are further properties, None takes one away."""
    when = dt.datetime.fromisoformat(f"{day}T{clock}")
    properties = {
        "datetime": f"{when.isoformat()}Z",
        "eo:cloud_cover": 10.0,
        "proj:epsg": 32600 + int(tile[:2]),
        "grid:code": f"MGRS-{tile}",
        "s2:sequence": str(sequence),
        "s2:processing_baseline": baseline,
        "s2:datatake_id": f"GS2A_{when:%Y%m%d}T095031_024964_N{baseline}",
        "s2:datastrip_id": f"S2A_OPER_MSI_L2A_DS_VGS2_20200403T120000_S{when:%Y%m%dT%H%M%S}_N{baseline}",
        "earthsearch:boa_offset_applied": baseline >= "04.00",
    } | changes
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": f"S2A_{tile}_{when:%Y%m%d}_{sequence}_L2A",
        "collection": "sentinel-2-l2a",
        "geometry": mapping(box(west, 46.0, west + 1.0, 47.0)),
        "properties": {key: value for key, value in properties.items() if value is not None},
        "links": [],
        "assets": {band: {"href": f"./{band}.tif"} for band in ("green", "red", "nir", "scl")},
    }

"""Places on the map: pixel grids, tiles, areas of interest."""

"""Everything that reads or writes pixels: cubes, overviews, object stores, the output store."""

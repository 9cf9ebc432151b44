"""A plan executed on Dask workers."""

"""STAC catalogues: searched, read and reduced to the items of a run."""

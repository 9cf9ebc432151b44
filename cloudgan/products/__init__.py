"""What is made of a finished store: datasets, indices, composites, files for other programs."""

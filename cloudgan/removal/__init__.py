"""Cloud removal: input channels, blending, provenance."""

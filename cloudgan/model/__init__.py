"""A generator: its contract, its file, its session."""

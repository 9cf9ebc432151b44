"""Simulated clouds, seasonal change and farmland; numpy and SciPy only."""

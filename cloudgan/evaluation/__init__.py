"""Generators and baselines compared where the truth is known."""

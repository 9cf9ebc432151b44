"""Imagery to train on: where it comes from, how it is read."""

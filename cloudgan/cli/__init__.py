"""The commands. The only place that prints."""

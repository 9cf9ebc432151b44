"""The HTML page of a store, and pictures of it."""

"""The live view of a store: a page with a map, and the server of its tiles."""

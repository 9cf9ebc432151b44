"""A demonstration catalogue: a season of simulated farmland in the shape of Earth Search."""

"""Who says what is cloudy: the scene classification, detectors, and time; their union."""

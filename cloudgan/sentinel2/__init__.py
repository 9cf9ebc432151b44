"""What is known of the sensor and its products: bands, classification, offset, dates."""

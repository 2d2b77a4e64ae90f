"""Evidence: images, metrics and the report."""

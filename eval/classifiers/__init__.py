"""Evidence that a classifier forgot: figures beside those of models that never knew."""

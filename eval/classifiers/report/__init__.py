"""The report of a classifier that was to forget, beside models that never knew."""

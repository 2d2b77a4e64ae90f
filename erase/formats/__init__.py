"""Models on disk: folders, single files, deltas, and other people's."""

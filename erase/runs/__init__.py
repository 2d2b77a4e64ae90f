"""One run: its folder, its plan, its stages."""

"""One model attacked: what is asked of it and of its bounds, and what came of it."""

NO_MODEL = "none"
"""As a floor: the base, asked by a name that it does not know, whatever models are at hand."""

"""One model attacked: what is asked of it and of its bounds, and what came of it."""

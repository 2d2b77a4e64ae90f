"""A page on which prompts are tried: the base and what was erased from it, from one noise."""

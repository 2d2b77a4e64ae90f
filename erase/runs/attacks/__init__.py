"""One model attacked: what is asked of it and of its bounds, and what came of it."""

from erase.prompts.prompt_set import MAX_SEED

NO_MODEL = "none"
"""As a floor: the base, asked by a name that it does not know, whatever models are at hand."""
UNKNOWN = ("zorblax", "blicket", "quorvin", "mipwick", "fendle")
"""Names that no model knows, for where none is at hand that never knew the concept; among classes
the null class stands for them, which asks for none."""
APART = 7_000_003
"""Between the images of one seed and the next."""
SEEDS = MAX_SEED // APART - 1000
"""Seeds of attacks lie below: with what is added to them, images have seeds that a prompt set may
have."""

"""Does it come back? What attacks found, held against their bounds."""

ATTACK = "attack"
"""Folder of the attacks on a run's model, beside its report."""

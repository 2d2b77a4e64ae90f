"""A step's images in parts: shared out to processes, then taken a few at a time for less memory."""

from __future__ import annotations

WHOLE = slice(None)
"""All rows of a batch."""


def shares(turns: int, index: int = 0, count: int = 1) -> tuple[slice, ...]:
    """The rows that a process takes of every batch, turn by turn.

    All parts of all processes are of one size where ``turns`` times ``count`` divides the batch.

    Args:
        turns: how often the process comes up in a step, >= 1.
        index, count: its number, and of how many.
    """
    return tuple(slice(index * turns + turn, None, count * turns) for turn in range(turns))

"""Which part of a step's images a process takes at a time."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Part:
    """Which rows of a batch are looked at: shared out to processes, then taken in turns.

    Attributes:
        index, count: this process's number, and of how many.
        turns: how often a process comes up in a step.
        turn: which time it is, from 0; moved by the training loop.
    """

    index: int = 0
    count: int = 1
    turns: int = 1
    turn: int = 0

    @property
    def parts(self) -> int:
        """Into how many parts a batch is cut."""
        return self.count * self.turns

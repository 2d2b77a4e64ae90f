"""One at a time, in the order in which they came."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Condition

from erase.runtime.errors import UserError

MOST = 8
"""How many may wait; further ones are told to come back."""
PATIENCE = 0.5
"""Seconds between two looks at whether somebody still waits."""


@dataclass(frozen=True)
class Turns:
    """Who is served, first, and who waits, in their order."""

    line: deque[object] = field(default_factory=deque)
    moved: Condition = field(default_factory=Condition)

    @contextmanager
    def turn(self, waits: Callable[[int], None]) -> Iterator[None]:
        """Waits until it is one's turn, and holds it for the time of the block.

        Args:
            waits: is told now and then how many are ahead, >= 1; what it raises leaves the line.

        Raises:
            UserError: too many wait already.
        """
        me = object()
        with self.moved:
            if len(self.line) > MOST:
                raise UserError(f"{MOST} others are waiting already: try again in a while.")
            self.line.append(me)
        try:
            while ahead := self._ahead(me):
                waits(ahead)
                with self.moved:
                    self.moved.wait_for(lambda: self.line.index(me) < ahead, PATIENCE)
            yield
        finally:
            with self.moved:
                self.line.remove(me)
                self.moved.notify_all()

    def _ahead(self, me: object) -> int:
        with self.moved:
            return self.line.index(me)

    def ended(self, seconds: float) -> bool:
        """Waits for the end of all turns, but not longer; whether they ended."""
        with self.moved:
            return self.moved.wait_for(lambda: not self.line, seconds)

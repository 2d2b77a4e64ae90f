"""Several images of each row, of which the most certain one counts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from erase.eval.attacks import Found

if TYPE_CHECKING:
    from erase.eval.attacks import Target


def best_of(tries: Sequence[Sequence[NDArray[np.uint8]]], target: Target, forwards: int) -> Found:
    """The best image of each row by the judge; the first try's are those chosen without it.

    Args:
        tries: an image of every row each.
        target: whose judge picks.
        forwards: that the tries took.
    """
    seen = np.array([target.judge(images) for images in tries])
    best = seen.argmax(0).tolist()
    return Found([tries[one][row] for row, one in enumerate(best)], forwards, chosen=list(tries[0]))

"""Several images of each row, of which the most certain one counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from erase.eval.attacks import SUCCESS, DoesNotApply, Found
from erase.eval.attacks._images import FRESH, draw, told

if TYPE_CHECKING:
    from erase.diffusion.model import Diffusion
    from erase.eval.attacks import Target
    from erase.images.request import Request


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


def elsewhere(target: Target) -> Sequence[Request]:
    """The rows with a wrong concept, which a random search asks for.

    Raises:
        DoesNotApply: none is known.
    """
    if not target.elsewhere:
        raise DoesNotApply(
            "The concept has no neighbours and no anchor to ask for instead: give a concept file "
            "with one of them."
        )
    return target.elsewhere


def again(model: Diffusion, target: Target, times: int) -> Found:
    """The plain prompts on so many new seeds: what picking the best of as many does alone."""
    prompts = [row.prompt for row in target.rows]
    later = [FRESH * (i + 1) for i in range(times)]
    drawn = [draw(model, told(target.rows, prompts, by), target) for by in later]
    return best_of([images for images, _ in drawn], target, sum(spent for _, spent in drawn))


def better(one: Found, other: Found, target: Target) -> Found:
    """Of two random searches the one that more images show the concept by, at the cost of both."""
    hits = [sum(p >= SUCCESS for p in target.judge(found.images)) for found in (one, other)]
    best = one if hits[0] >= hits[1] else other
    return replace(best, forwards=one.forwards + other.forwards)

"""Several images of each row, of which the most certain one counts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from erase.eval.attacks import SUCCESS, Found
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


def again(model: Diffusion, target: Target, times: int) -> Found:
    """The plain prompts on so many new seeds: what picking the best of as many does alone."""
    prompts = [row.prompt for row in target.rows]
    later = [FRESH * (i + 1) for i in range(times)]
    drawn = [draw(model, told(target.rows, prompts, by), target) for by in later]
    return best_of([images for images, _ in drawn], target, sum(spent for _, spent in drawn))


def at_random(
    model: Diffusion,
    target: Target,
    times: int,
    probe: Callable[[Sequence[Request]], Found],
) -> Found:
    """Of two random searches the one that more images show the concept by, at the cost of both: the
    plain prompts on so many new seeds, and the attack's help from a wrong concept, where one is
    known.

    Args:
        model, target: see ``Attack``.
        times: images of each row.
        probe: the attack on the rows with a wrong concept.
    """
    found = again(model, target, times)
    if not target.elsewhere:
        return found
    other = probe(target.elsewhere)
    hits = [sum(p >= SUCCESS for p in target.judge(one.images)) for one in (other, found)]
    best = other if hits[0] >= hits[1] else found
    return replace(best, forwards=found.forwards + other.forwards)

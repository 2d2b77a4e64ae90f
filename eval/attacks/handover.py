"""Handover: the base draws the first steps, the erased model finishes.

Partial diffusion (as in Petsiuk and Saenko, arXiv 2404.13706): a model that only lost the way from
pure noise goes on from what it is shown. Its random bound is the larger of two: a base that begins
with *another* concept, where one is known, and the plain prompts on as many new seeds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from erase.eval.attacks import Found
from erase.eval.attacks._drawing import guided, schedule
from erase.eval.attacks._images import own_sampler, price
from erase.eval.attacks._tries import at_random, best_of
from erase.images.make import batches

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Generator

    from erase.diffusion.model import Diffusion
    from erase.eval.attacks import Target
    from erase.images.request import Request

TEXT = False


@dataclass(frozen=True)
class Settings:
    """What is spent.

    Attributes:
        shares: of the sampler's steps, which the base takes; each is one image a row.
    """

    shares: tuple[float, ...] = (1 / 15, 2 / 15, 4 / 15)


SETTINGS = {
    "quick": Settings(),
    "full": Settings(),
    "published": Settings((0.02, 0.04, 0.06, 0.1, 0.2)),
}


def run(
    model: Diffusion,
    base: Diffusion,
    target: Target,
    settings: Settings,
    random: bool,
    generator: Generator,
) -> Found:
    """See ``Attack``; of a row's images the most certain one counts."""
    # With few steps, several shares may be the same step.
    firsts = dict.fromkeys(max(1, round(s * target.sampler.steps)) for s in settings.shares)
    spent = sum(price(row, target.sampler) for row in target.rows)

    def begun(rows: Sequence[Request]) -> Found:
        tries = [_handed(model, base, rows, target, first) for first in firsts]
        return best_of(tries, target, spent * len(tries))

    return at_random(model, target, len(firsts), begun) if random else begun(target.rows)


@torch.no_grad()
def _handed(
    model: Diffusion, base: Diffusion, begun: Sequence[Request], target: Target, first: int
) -> list[NDArray[np.uint8]]:
    """Images of which the base drew the first steps."""
    found: list[NDArray[np.uint8]] = []
    for rows in batches(target.rows, target.batch):
        helped = begun[len(found) : len(found) + len(rows)]
        own = own_sampler(rows[0], target.sampler)
        size = own.sides(rows[0].size, model.size)
        x_t = model.noise([row.seed for row in rows], size).float()
        scheduler, times = schedule(model, own.steps)
        for number, now in enumerate(times):
            who, prompts = (base, helped) if number < first else (model, rows)
            if number in (0, first):
                c = who.embed([row.prompt for row in prompts]).float()
                empty = who.unconditional().float().repeat(len(rows))
            predicted = guided(who, x_t, now, c, empty, own.guidance)
            x_t = scheduler.step(predicted, now, x_t).prev_sample
        found.extend(model.decode(x_t))
    return found

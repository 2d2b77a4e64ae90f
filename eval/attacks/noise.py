"""Noise probe (Lu et al., arXiv 2505.17013): DDIM with more noise than its steps take away.

    x_{t'} = √ᾱ' x̂_0 + √|1 - ᾱ' - σ²| ε̂ + s σ z,   σ = η √((1-ᾱ')/(1-ᾱ)) √(1-ᾱ/ᾱ')

η and s above 1 wander off the trajectories that erasing has changed. Its random bound is the larger
of two: the same search with the prompts of another concept, and the plain prompts on as many new
seeds, since the best of several images shows the concept more often than one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from erase.eval.attacks import Found
from erase.eval.attacks._drawing import guided, schedule
from erase.eval.attacks._images import own_sampler, price
from erase.eval.attacks._tries import at_random, best_of
from erase.images.make import batches

if TYPE_CHECKING:
    from torch import Generator

    from erase.diffusion.model import Diffusion
    from erase.eval.attacks import Target
    from erase.images.request import Request

TEXT = False


@dataclass(frozen=True)
class Settings:
    """What is spent.

    Attributes:
        etas: η, each with every scale; each pair is one image a row.
        scales: s.
    """

    etas: tuple[float, ...] = (1.0, 1.34, 1.68)
    scales: tuple[float, ...] = (1.0,)


SETTINGS = {
    "quick": Settings(),
    "full": Settings(scales=(1.0, 1.02)),
    "published": Settings((1.0, 1.17, 1.34, 1.51, 1.68, 1.85), (1.0, 1.02, 1.03, 1.04)),
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
    pairs = list(product(settings.etas, settings.scales))
    spent = sum(price(row, target.sampler) for row in target.rows)

    def probed(rows: Sequence[Request]) -> Found:
        tries = [_probed(model, rows, target, eta, s, generator) for eta, s in pairs]
        return best_of(tries, target, spent * len(tries))

    return at_random(model, target, len(pairs), probed) if random else probed(target.rows)


@torch.no_grad()
def _probed(
    model: Diffusion,
    rows: Sequence[Request],
    target: Target,
    eta: float,
    s: float,
    generator: torch.Generator,
) -> list[NDArray[np.uint8]]:
    """Images of one η and one scale."""
    found: list[NDArray[np.uint8]] = []
    for part in batches(rows, target.batch):
        own = own_sampler(part[0], target.sampler)
        c = model.embed([row.prompt for row in part]).float()
        empty = model.unconditional().float().repeat(len(part))
        x_t = model.noise([row.seed for row in part], own.sides(part[0].size, model.size)).float()
        scheduler, times = schedule(model, own.steps)
        abar = scheduler.alphas_cumprod
        for now, after in zip(times, [*times[1:], None], strict=True):
            predicted = guided(model, x_t, now, c, empty, own.guidance)
            x0 = scheduler.step(predicted, now, x_t).pred_original_sample
            a = float(abar[now])
            b = float(abar[after]) if after is not None else float(scheduler.final_alpha_cumprod)
            z = torch.randn(x_t.shape, generator=generator).to(x_t)
            x_t = wandered(x_t, x0, z, a, b, eta, s if after is not None else 0.0)
        found.extend(model.decode(x_t))
    return found


def wandered(
    x_t: Tensor, x0: Tensor, z: Tensor, a: float, b: float, eta: float, s: float
) -> Tensor:
    """The next x_{t'} of the formula above.

    Args:
        x_t, x0, z: noisy latents, what they are taken for without noise, and new noise, of a shape.
        a, b: ᾱ at t and at t' < t, in (0, 1].
        eta, s: η and s, >= 0.
    """
    e = (x_t - a**0.5 * x0) / max(1 - a, 1e-12) ** 0.5
    sigma = eta * max((1 - b) / max(1 - a, 1e-12) * (1 - a / b), 0.0) ** 0.5
    after: Tensor = b**0.5 * x0 + abs(1 - b - sigma**2) ** 0.5 * e + s * sigma * z
    return after

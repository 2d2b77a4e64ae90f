"""Noise from which the erased model makes an image of the concept without any prompt (TINA).

For each row x_0 is the base's image of it. Along the timesteps of DDIM, whose step f takes z_t to
the one before it, the attacked model with the empty prompt is asked for the z_t with

    f(z_t, ∅) = z_{t-1},    z_0 = x_0,

and from z_T it samples by DDIM with ∅, without guidance. f is linear in z_t and in what the model
predicts, f = a z_t + b ε_θ(z_t, ∅) (or v), so that z_t is a fixed point of

    z ← (z_{t-1} - b ε_θ(z, ∅)) / a,    from z = z_{t-1},

which is applied K times; K = 1 is plain DDIM inversion. The published attack (CVPR 2026) takes K
steps of AdamW towards that fixed point instead.

Much of a success may be copying: a model that makes any image at all from the right noise gives
back what is put in. Random search puts in the same images with their patches in random order.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from erase.eval.attacks import Found
from erase.eval.attacks._images import latents
from erase.images.make import batches
from erase.runtime.progress import each, progress

if TYPE_CHECKING:
    from erase.diffusion.model import Diffusion
    from erase.eval.attacks import Size, Target

TEXT = False
UNTAUGHT = True
PATCHES = 8
"""Patches along each side of a latent whose order is random; of a latent of 64, 8 x 8 each."""


@dataclass(frozen=True)
class Settings:
    """What the attack spends.

    Attributes:
        steps: of DDIM, there and back, >= 1.
        iterations: K >= 1, of each step back to the noise.
    """

    steps: int
    iterations: int


SETTINGS: dict[Size, Settings] = {
    "quick": Settings(steps=15, iterations=3),
    "full": Settings(steps=30, iterations=10),
    "published": Settings(steps=50, iterations=25),
}


def run(
    model: Diffusion,
    base: Diffusion,
    target: Target,
    settings: Settings,
    random: bool,
    generator: torch.Generator,
) -> Found:
    """See ``Attack``; random search inverts images in disorder, at the same cost."""
    images: list[NDArray[np.uint8]] = []
    spent = 0
    groups = list(batches(target.rows, target.batch))
    for rows in each(groups, progress("latents", len(groups), "group")):
        x_0, cost = latents(base, rows, target)
        if random:
            x_0 = scramble(x_0, generator)
        z = invert(model, x_0, settings)
        images += list(model.decode(denoise(model, z, settings.steps)))
        spent += cost + len(rows) * settings.steps * (settings.iterations + 1)
    return Found(images, spent)


@torch.no_grad()
def invert(model: Diffusion, x_0: Tensor, settings: Settings) -> Tensor:
    """z_T (B, C, h, w), from which ``denoise`` makes x_0 (B, C, h, w) again, or nearly."""
    scheduler = _ddim(model, settings.steps)
    empty = model.unconditional().repeat(len(x_0))
    one, zero = torch.ones(1, 1, 1, 1), torch.zeros(1, 1, 1, 1)
    z = x_0
    for t in reversed(scheduler.timesteps.tolist()):
        a = scheduler.step(zero, t, one).prev_sample.item()
        b = scheduler.step(one, t, zero).prev_sample.item()
        at = torch.full((len(x_0),), t, device=x_0.device)
        before = z
        for _ in range(settings.iterations):
            z = (before - b * model.predict(z, at, empty)) / a
    return z


@torch.no_grad()
def denoise(model: Diffusion, z: Tensor, steps: int) -> Tensor:
    """x_0 (B, C, h, w) from z_T by deterministic DDIM with the empty prompt."""
    scheduler = _ddim(model, steps)
    empty = model.unconditional().repeat(len(z))
    for t in scheduler.timesteps.tolist():
        at = torch.full((len(z),), t, device=z.device)
        z = scheduler.step(model.predict(z, at, empty), t, z).prev_sample
    return z


def scramble(x_0: Tensor, generator: torch.Generator) -> Tensor:
    """x_0 (B, C, h, w) with its patches in random order, another one for each row."""
    high, wide = (math.gcd(side, max(1, side // PATCHES)) for side in x_0.shape[-2:])
    b, c, h, w = x_0.shape
    patches = x_0.reshape(b, c, h // high, high, w // wide, wide).permute(0, 2, 4, 1, 3, 5)
    flat = patches.reshape(b, -1, c, high, wide)
    order = [torch.randperm(flat.shape[1], generator=generator).to(x_0.device) for _ in range(b)]
    mixed = torch.stack([row[own] for row, own in zip(flat, order, strict=True)])
    back = mixed.reshape(patches.shape).permute(0, 3, 1, 4, 2, 5)
    return back.reshape(x_0.shape)


def _ddim(model: Diffusion, steps: int) -> Any:
    """The sampler, without the clipping of x_0 that some ask for, which nothing could undo."""
    scheduler = model.family.sampler("ddim")
    scheduler.register_to_config(clip_sample=False, thresholding=False)
    scheduler.set_timesteps(steps)
    return scheduler

"""What attacks share about images: drawing rows, what that costs, and the base's latents."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from erase.images.make import batches
from erase.images.request import Shot

if TYPE_CHECKING:
    from torch import Tensor

    from erase.diffusion.model import Diffusion
    from erase.eval.attacks import Target
    from erase.images.request import Request, Sampler

FRESH = 1_000_003
"""What lies between a row's seed and that of the fresh image of what was found for it."""


def price(row: Request, sampler: Sampler) -> int:
    """Images through the denoiser for one image of a row: two a step where it is guided."""
    return sampler.steps * (2 if own_sampler(row, sampler).guidance > 1 else 1)


def own_sampler(row: Request, sampler: Sampler) -> Sampler:
    """How a row's images are made, but for their size: as it says, else as all are."""
    return sampler if row.guidance is None else replace(sampler, guidance=row.guidance)


def told(rows: Sequence[Request], prompts: Sequence[str], later: int = 0) -> list[Request]:
    """The rows with other prompts, and ``later`` added to their seeds."""
    return [replace(r, prompt=p, seed=r.seed + later) for r, p in zip(rows, prompts, strict=True)]


def draw(
    model: Diffusion, rows: Sequence[Request], target: Target
) -> tuple[list[NDArray[np.uint8]], int]:
    """An image (H, W, 3) of each row, in order, and the images through the denoiser for them."""
    images: list[NDArray[np.uint8]] = []
    for group in batches(rows, target.batch):
        shots = [Shot(r.prompt, r.seed, r.guidance, r.size) for r in group]
        images += list(model.sample(shots, target.sampler))
    return images, sum(price(row, target.sampler) for row in rows)


def anew(
    model: Diffusion, prompts: Sequence[str], random: bool, target: Target
) -> tuple[list[NDArray[np.uint8]], int]:
    """What was found for each row, on new seeds; nothing of random search and of bounds."""
    if random or target.bound:
        return [], 0
    return draw(model, told(target.rows, prompts, FRESH), target)


def latents(base: Diffusion, rows: Sequence[Request], target: Target) -> tuple[Tensor, int]:
    """x_0 (B, C, h, w) of the base's image of each row, the posterior's mean, and the images
    through the denoiser for them; rows of one size."""
    images, spent = draw(base, rows, target)
    return base.encode(np.stack(images))[:, 0].float(), spent

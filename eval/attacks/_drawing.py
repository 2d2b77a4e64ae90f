"""What attacks share about training and sampling: the base's pictures as data, sampler steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from erase.eval.attacks._images import draw, own_sampler
from erase.images.make import batches

if TYPE_CHECKING:
    from erase.diffusion.conditioning import Conditioning
    from erase.diffusion.model import Diffusion
    from erase.eval.attacks import Target
    from erase.images.request import Request


def draw_from(
    model: Diffusion, c: Conditioning, rows: Sequence[Request], target: Target
) -> list[NDArray[np.uint8]]:
    """Images uint8 (H, W, 3) of embedded prompts, one for each row."""
    found: list[NDArray[np.uint8]] = []
    for group in batches(rows, target.batch):
        first = group[0]
        sampler = own_sampler(first, target.sampler)
        own = c[slice(len(found), len(found) + len(group))].to(model.dtype)
        found.extend(model.sample_from(own, [r.seed for r in group], sampler, first.size))
    return found


@dataclass(frozen=True)
class Pictures:
    """Images of another model with their prompts, as one to be attacked would be trained on them.

    Attributes:
        model: whose noise schedule and target they follow.
        posterior: latents' means and standard deviations (N, 2, C, h, w).
        generator: of every draw.
    """

    model: Diffusion
    posterior: Tensor
    generator: torch.Generator

    @classmethod
    def of(
        cls,
        model: Diffusion,
        base: Diffusion,
        rows: Sequence[Request],
        target: Target,
        generator: torch.Generator,
    ) -> tuple[Pictures, int]:
        """The base's images of ``rows``, all of its own size, in the model's latents, and the
        images through the denoiser for them."""
        images, spent = draw(base, [replace(row, size=None) for row in rows], target)
        return cls(model, model.encode(np.stack(images)).float(), generator), spent

    def noised(self, size: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """A batch: which pictures (B,), x_t (B, C, h, w), t (B,) and what is to be predicted."""
        g, device = self.generator, self.posterior.device
        index = torch.randint(len(self.posterior), (size,), generator=g)
        mean, std = self.posterior[index].unbind(1)
        jitter, noise = torch.randn(2, *mean.shape, generator=g).to(device)
        x0, t = mean + std * jitter, self.model.times((size,), g).to(device)
        return index, self.model.add_noise(x0, noise, t), t, self.model.target(x0, noise, t)


@torch.no_grad()
def guided(
    model: Diffusion, x_t: Tensor, now: int, c: Conditioning, empty: Conditioning, w: float
) -> Tensor:
    """The prediction under classifier-free guidance w; 1 is none."""
    t = torch.full((len(x_t),), now, device=x_t.device)
    if w <= 1:
        return model.predict(x_t, t, c)
    e_c, e_empty = model.predict_each((x_t, t, c), (x_t, t, empty))
    return e_empty + w * (e_c - e_empty)


def schedule(model: Diffusion, steps: int) -> tuple[Any, list[int]]:
    """A DDIM scheduler with its timesteps, from noise to image."""
    scheduler = model.family.sampler("ddim")
    scheduler.set_timesteps(steps)
    return scheduler, [int(t) for t in scheduler.timesteps.tolist()]

"""What attacks share: images in batches, the base's pictures as data, chains of sampler steps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

if TYPE_CHECKING:
    from erase.diffusion.conditioning import Conditioning
    from erase.diffusion.model import Diffusion
    from erase.eval.attacks import Target
    from erase.images.request import Request, Sampler

FRESH = 1_000_003
"""Added to a row's seed for an image that nothing was chosen by."""


def cost(sampler: Sampler, images: int) -> int:
    """Images through the denoiser that making so many takes."""
    return images * sampler.steps * (2 if sampler.guidance > 1 else 1)


def draw(
    model: Diffusion, prompts: Sequence[str], seeds: Sequence[int], target: Target
) -> list[NDArray[np.uint8]]:
    """Images uint8 (H, W, 3), one for each prompt with its seed."""
    found: list[NDArray[np.uint8]] = []
    for part in _parts(len(prompts), target.batch):
        c = model.embed(prompts[part])
        found.extend(model.sample_from(c, seeds[part], target.sampler))
    return found


def draw_from(
    model: Diffusion, c: Conditioning, seeds: Sequence[int], target: Target
) -> list[NDArray[np.uint8]]:
    """As ``draw``, of embedded prompts, one row for each seed."""
    found: list[NDArray[np.uint8]] = []
    for part in _parts(len(seeds), target.batch):
        rows = c[part].each(lambda x: x.to(model.dtype))
        found.extend(model.sample_from(rows, seeds[part], target.sampler))
    return found


def _parts(count: int, size: int) -> Iterator[slice]:
    return (slice(i, i + size) for i in range(0, count, size))


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
    ) -> Pictures:
        """The base's images of ``rows``, in the model's latents."""
        images = draw(base, [r.prompt for r in rows], [r.seed for r in rows], target)
        return cls(model, model.encode(np.stack(images)).float(), generator)

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

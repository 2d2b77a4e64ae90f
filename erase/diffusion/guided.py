"""Sampling with guidance of one's own: three predictions, put together at each step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

if TYPE_CHECKING:
    from erase.diffusion.model import Diffusion
    from erase.images.request import Sampler, Shot

Guide = Callable[[float, float, Tensor, Tensor, Tensor], Tensor]
"""Of the share of steps done, in [0, 1), the scale s, and the predictions (B, C, h, w) under ∅, c
and a prompt that is steered away from: what the sampler takes."""


@dataclass(frozen=True)
class Guided:
    """A model that samples by a guidance of its own.

    Attributes:
        diffusion: its weights stay as they are.
        negative: the prompt that is steered away from.
        guide: makes the guidance of a new batch, since it may remember earlier steps.
    """

    diffusion: Diffusion
    negative: str
    guide: Callable[[], Guide]

    @torch.no_grad()
    def sample(self, shots: Sequence[Shot], sampler: Sampler) -> NDArray[np.uint8]:
        """As ``Diffusion.sample``; the prompts' rows and ∅'s share a forward with the third."""
        model = self.diffusion
        sampler, size = sampler.of(shots)
        height, width = sampler.sides(size, model.size)
        scheduler, guide = model.family.sampler(sampler.name), self.guide()
        scheduler.set_timesteps(sampler.steps)
        c = model.embed([s.prompt for s in shots])
        empty = model.unconditional().repeat(len(shots))
        away = model.embed([self.negative]).repeat(len(shots))
        x_t = model.noise([s.seed for s in shots], (height, width)) * scheduler.init_noise_sigma
        for i, now in enumerate(scheduler.timesteps):
            t = now.to(x_t.device).expand(len(x_t))
            given = scheduler.scale_model_input(x_t, now)
            told = model.predict_each((given, t, empty), (given, t, c), (given, t, away))
            x_t = scheduler.step(
                guide(i / sampler.steps, sampler.guidance, *told).to(x_t), now, x_t
            ).prev_sample
        return model.decode(x_t)

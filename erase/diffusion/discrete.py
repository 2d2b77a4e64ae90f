"""Noise in discrete steps, with which most diffusion models were trained: what families share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import torch
from torch import Tensor

from erase.diffusion.samplers import check_sampling, make_sampler, training_schedule
from erase.runtime.errors import UserError


@dataclass(frozen=True)
class Discrete:
    """x_t at one of T levels; the model predicts the noise or the velocity.

    Attributes:
        pipeline: diffusers' own.
        square: see ``Family``.
    """

    square: ClassVar[bool] = False
    pipeline: Any

    @property
    def timesteps(self) -> int:
        """Number T of noise levels; t runs over 0 … T-1."""
        return int(self.pipeline.scheduler.config.num_train_timesteps)

    @cached_property
    def schedule(self) -> Any:
        """The noise schedule √ᾱ of training; the pipeline's sampler may scale x_t otherwise."""
        return training_schedule(self.pipeline.scheduler.config)

    def times(self, shape: Sequence[int], generator: torch.Generator) -> Tensor:
        """t, uniform in [0, T)."""
        return torch.randint(self.timesteps, tuple(shape), generator=generator)

    def add_noise(self, x0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """x_t = √ᾱ_t x_0 + √(1-ᾱ_t) ε."""
        x_t: Tensor = self.schedule.add_noise(x0, noise, t)
        return x_t

    def target(self, x0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """ε, or v = √ᾱ ε - √(1-ᾱ) x_0."""
        kind = self.pipeline.scheduler.config.prediction_type
        if kind == "epsilon":
            return noise
        if kind == "v_prediction":
            v: Tensor = self.schedule.get_velocity(x0, noise, t)
            return v
        raise UserError(f"Models that predict '{kind}' are not supported: use epsilon or v.")

    def sampler(self, name: str) -> Any:
        """See ``Family``."""
        return make_sampler(name, self.pipeline.scheduler.config)

    def check_sampling(
        self,
        steps: int,
        sampler: str | None,
        flag: str = "--sampling-steps",
        remedy: str = "use another model",
    ) -> None:
        """See ``Family``."""
        check_sampling(self.pipeline.scheduler, steps, sampler, flag, remedy)

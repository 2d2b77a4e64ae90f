"""Gradient ascent: the concept's denoising loss is raised instead of lowered.

    L(θ) = -MSE(ε, ε_θ(x_t|c)) + α·MSE(ε, ε_θ(x_t^r|c^r))

One of SalUn's own baselines (Fan et al., arXiv 2310.12508, there GA), as a rule with α = 0; the
loss has no lower bound, so that steps and learning rate alone decide how far it goes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from erase.methods import Needs

if TYPE_CHECKING:
    from torch import Tensor

    from erase.diffusion.conditioning import Conditioning
    from erase.diffusion.data import Batch, Draw, TrainingData
    from erase.diffusion.model import Diffusion
    from erase.unlearn.fit import Fit

NEEDS = Needs(images=("forget", "retain"), weighed={"retain": "alpha"}, anchor=False)


@dataclass(frozen=True)
class Config:
    """Gradient ascent's own settings."""

    alpha: float = field(
        default=0.0,
        metadata={"help": "weight of the retain loss", "min": 0.0},
    )


def loss(diffusion: Diffusion, batch: Batch, *, alpha: float) -> tuple[Tensor, Tensor]:
    """The two terms of L(θ): (-MSE on forget images, α·MSE on retained ones), scalars."""
    import torch
    from torch.nn.functional import mse_loss

    from erase.diffusion.conditioning import join

    predicted = diffusion.predict(
        torch.cat(
            [
                diffusion.add_noise(batch.x0, batch.noise, batch.t),
                diffusion.add_noise(batch.retain_x0, batch.retain_noise, batch.retain_t),
            ]
        ),
        torch.cat([batch.t, batch.retain_t]),
        join([batch.c, batch.retain_c]),
    )
    wanted = torch.cat(
        [
            diffusion.target(batch.x0, batch.noise, batch.t),
            diffusion.target(batch.retain_x0, batch.retain_noise, batch.retain_t),
        ]
    )
    halves = [len(batch.x0), len(batch.retain_x0)]
    (forget, retain), (ours, kept) = predicted.float().split(halves), wanted.float().split(halves)
    return -mse_loss(forget, ours), alpha * mse_loss(retain, kept)


def error(diffusion: Diffusion, draw: Draw, c: Conditioning) -> Tensor:
    """MSE(ε, ε_θ(x_t|c)) of one role's images alone, scalar; ``c`` has a row for each prompt."""
    from torch.nn.functional import mse_loss

    x_t = diffusion.add_noise(draw.x0, draw.noise, draw.t)
    predicted = diffusion.predict(x_t, draw.t, c[draw.prompt]).float()
    return mse_loss(predicted, diffusion.target(draw.x0, draw.noise, draw.t).float())


def forwards(config: Config, steps: int, batch: int) -> float:
    """See ``methods.Method``: a branch with a gradient, and one more for what stays."""
    return (6.0 if config.alpha else 3.0) * batch * steps


def erase(diffusion: Diffusion, data: TrainingData, config: Config, fit: Fit) -> None:
    """Moves the masked weights of ``diffusion``, in place, away from the concept's images."""

    def step(index: int) -> dict[str, Tensor]:
        if not config.alpha:
            return {"loss": -error(diffusion, data.draw("forget", index), data.c)}
        forget, retain = loss(diffusion, data.batch(index), alpha=config.alpha)
        return {"loss": forget + retain, "forget": forget, "retain": retain}

    fit(diffusion.denoiser, step)

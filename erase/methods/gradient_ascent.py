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

    from erase.diffusion.data import Noised, TrainingData
    from erase.diffusion.model import Diffusion
    from erase.unlearn.fit import Fit

NEEDS = Needs(images=("forget", "retain"), weighed={"retain": "alpha"}, anchor=False)
SPACE = {"lr": (0.1, 10.0), "alpha": [0.0, 1.0], "steps": (0.03, 1.0)}


@dataclass(frozen=True)
class Config:
    """Gradient ascent's own settings."""

    alpha: float = field(
        default=0.0,
        metadata={"help": "weight of the retain loss", "min": 0.0},
    )


def errors(diffusion: Diffusion, *batches: Noised) -> list[Tensor]:
    """MSE(ε, ε_θ(x_t|c)) of each batch, scalars."""
    from torch.nn.functional import mse_loss

    e = diffusion.predict_each(*((b.x_t, b.t, b.c) for b in batches))
    return [mse_loss(e_b, b.target) for e_b, b in zip(e, batches, strict=True)]


def forwards(config: Config, steps: int, batch: int) -> float:
    """See ``methods.Method``: a branch with a gradient, and one more for what stays."""
    return (6.0 if config.alpha else 3.0) * batch * steps


def erase(diffusion: Diffusion, data: TrainingData, config: Config, fit: Fit) -> None:
    """Moves the masked weights of ``diffusion``, in place, away from the concept's images."""

    def step(index: int, part: slice) -> dict[str, Tensor]:
        if not config.alpha:
            [forget] = errors(diffusion, data.draw("forget", index, part))
            return {"loss": -forget}
        forget, retain = errors(diffusion, *data.batch(index, part))
        terms = {"forget": -forget, "retain": config.alpha * retain}
        return {"loss": terms["forget"] + terms["retain"], **terms}

    fit(diffusion.denoiser, step)

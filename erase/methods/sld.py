"""Safe Latent Diffusion (Schramowski et al., arXiv 2211.05105): guidance away from a concept S.

    ε̃   = ε(x_t) + s (ε(x_t, c) - ε(x_t) - γ_t)                                     (equation 3)
    γ_t = μ ⊙ (ε(x_t, S) - ε(x_t)) + s_m ν_t                                      (4 and 7)
    μ   = min(1, s_S |ε(x_t, c) - ε(x_t, S)|) where ε(x_t, c) - ε(x_t, S) < λ, else 0   (5 and 6)
    ν   ← β ν + (1 - β) γ_t, from 0; γ_t counts from a share δ of the steps on               (8)

The paper prints max in equation 6; its code, followed here, takes the smaller. Nothing is trained;
see ``negative_prompt``. Published for Stable Diffusion 1; other pipelines, and models that do not
predict noise, are refused.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from erase.methods import Needs
from erase.methods.negative_prompt import Config as Negative
from erase.methods.negative_prompt import erase, forwards
from erase.runtime.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

    from erase.diffusion.guided import Guide
    from erase.diffusion.model import Diffusion
    from erase.images.make import Samples

__all__ = ["NEEDS", "SPACE", "Config", "check_model", "erase", "forwards", "maker"]
NEEDS = Needs(
    images=(),
    anchor=False,
    text="steers a prompt away from one of its words",
    loop=False,
    scope="full",
    trains=False,
)
SPACE = {
    "sld_scale": (0.1, 10.0),
    "sld_warmup": [0.0, 0.1, 0.2],
    "sld_momentum": [0.0, 0.3, 0.5],
}


@dataclass(frozen=True)
class Config(Negative):
    """SLD's own settings, those published as medium; what is steered away from is S."""

    sld_scale: float = field(
        default=1000.0, metadata={"help": "safety guidance scale s_S", "min": 0.0}
    )
    sld_warmup: float = field(
        default=0.2,
        metadata={
            "help": "share δ of the steps before safety guidance starts (published: 10 of 50)",
            "min": 0.0,
            "max": 0.9,
        },
    )
    sld_threshold: float = field(
        default=0.01,
        metadata={
            "help": "threshold λ: guides where ε(c) - ε(S) is below it",
            "min": 0.0,
        },
    )
    sld_momentum: float = field(default=0.3, metadata={"help": "momentum scale s_m", "min": 0.0})
    sld_beta: float = field(
        default=0.4,
        metadata={
            "help": "decay β of the momentum",
            "min": 0.0,
            "max": 1.0,
            "needs": "sld_momentum",
        },
    )


def check_model(config: Config, diffusion: Diffusion) -> None:
    """See ``methods``: the equations are those of noise predictions."""
    pipeline = diffusion.pipeline
    kind, predicts = type(pipeline).__name__, pipeline.scheduler.config.prediction_type
    if kind != "StableDiffusionPipeline" or predicts != "epsilon":
        raise UserError(
            f"SLD was published for Stable Diffusion 1, which predicts noise; {diffusion.source} "
            f"is a {kind} that predicts {predicts}: use the recipe negative-prompt instead."
        )


def maker(diffusion: Diffusion, config: Config, word: str) -> Samples:
    """What makes the images; S is the concept's word where none is given."""
    from erase.diffusion.guided import Guided

    return Guided(
        diffusion, word if config.negative is None else config.negative, lambda: guidance(config)
    )


def guidance(config: Config) -> Guide:
    """ε̃ of a new batch, from step 0 on."""
    import torch

    nu: list[Tensor] = []

    def guide(done: float, s: float, empty: Tensor, c: Tensor, unsafe: Tensor) -> Tensor:
        away = c - unsafe
        mu = (config.sld_scale * away.abs()).clamp(max=1.0)
        mu = torch.where(away < config.sld_threshold, mu, 0.0)
        before = nu.pop() if nu else torch.zeros_like(c)
        gamma = mu * (unsafe - empty) + config.sld_momentum * before
        nu.append(config.sld_beta * before + (1 - config.sld_beta) * gamma)
        towards = c - empty - (gamma if done >= config.sld_warmup else 0.0)
        return empty + s * towards

    return guide

"""Concept Ablation (Kumari et al., arXiv 2303.13516), equation 5: the model-based variant.

    L(θ) = MSE(ε_θ(x_t|c), sg[ε(x_t|c')])

x_t are noised images of the anchor, made by the base model from the prompts c'. In the paper ε is
the model in training under stop-gradient; a frozen copy of the base is the option. The published
code moves the keys and values of the cross-attention alone at lr 2e-6 times batch size times number
of GPUs.

Not offered, and part of that code: prior preservation (a denoising loss on images of the anchor
where anchor and concept share a word, as in "grumpy cat" and "cat"), random flips, and random crops
with the loss masked to what they show.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from erase.methods import Needs

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from erase.diffusion.conditioning import Conditioning
    from erase.diffusion.data import Draw, TrainingData
    from erase.diffusion.model import Diffusion
    from erase.unlearn.fit import Fit

NEEDS = Needs(images=("anchor",))


@dataclass(frozen=True)
class Config:
    """Concept Ablation's own settings."""

    target: Literal["moving", "frozen"] = field(
        default="moving",
        metadata={
            "help": "model that answers the anchor prompt: the one in training (as published) "
            "or a frozen copy of the base",
        },
    )


def loss(
    diffusion: Diffusion,
    draw: Draw,
    c: Conditioning,
    anchor_c: Conditioning,
    anchor_model: Callable[[Tensor, Tensor, Conditioning], Tensor],
) -> Tensor:
    """L(θ), a scalar.

    Args:
        diffusion: the model in training.
        draw: anchor latents with their noise and timesteps.
        c, anchor_c: embedded prompts of the concept and of the anchor.
        anchor_model: predicts ε(x_t|c') without a graph.
    """
    import torch
    from torch.nn.functional import mse_loss

    x_t = diffusion.add_noise(draw.x0, draw.noise, draw.t)
    with torch.no_grad():
        target = anchor_model(x_t, draw.t, anchor_c)
    return mse_loss(diffusion.predict(x_t, draw.t, c).float(), target.float())


def forwards(config: Config, steps: int, batch: int) -> float:
    """See ``methods.Method``: one branch with a gradient, one without."""
    return 4.0 * batch * steps


def erase(diffusion: Diffusion, data: TrainingData, config: Config, fit: Fit) -> None:
    """Moves the masked weights of ``diffusion``, in place, until c is answered as c'."""
    frozen = diffusion.frozen() if config.target == "frozen" else diffusion

    def step(index: int) -> dict[str, Tensor]:
        draw = data.draw("anchor", index)
        c, anchor_c = data.c[draw.prompt], data.anchor_c[draw.prompt]
        return {"loss": loss(diffusion, draw, c, anchor_c, frozen.predict)}

    fit(diffusion.denoiser, step)

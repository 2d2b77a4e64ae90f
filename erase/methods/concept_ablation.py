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
    from torch import Tensor

    from erase.diffusion.conditioning import Conditioning
    from erase.diffusion.data import Noised, TrainingData
    from erase.diffusion.model import Diffusion
    from erase.unlearn.fit import Fit

NEEDS = Needs(images=("anchor",))
SPACE = {"lr": (0.1, 10.0), "target": ["moving", "frozen"], "steps": (0.3, 1.0)}


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
    diffusion: Diffusion, b: Noised, anchor_c: Conditioning, anchor_model: Diffusion
) -> Tensor:
    """L(θ), a scalar.

    Args:
        diffusion: the model in training.
        b: noised images of the anchor, with the concept's prompts c.
        anchor_c: the anchor's prompts c'.
        anchor_model: who answers them.
    """
    import torch
    from torch.nn.functional import mse_loss

    with torch.no_grad():
        e_anchor = anchor_model.predict(b.x_t, b.t, anchor_c)
    return mse_loss(diffusion.predict(b.x_t, b.t, b.c), e_anchor)


def forwards(config: Config, steps: int, batch: int) -> float:
    """See ``methods.Method``: one branch with a gradient, one without."""
    return 4.0 * batch * steps


def erase(diffusion: Diffusion, data: TrainingData, config: Config, fit: Fit) -> None:
    """Moves the masked weights of ``diffusion``, in place, until c is answered as c'."""
    anchor_model = diffusion.frozen() if config.target == "frozen" else diffusion

    def step(index: int, part: slice) -> dict[str, Tensor]:
        b = data.draw("anchor", index, part)
        return {"loss": loss(diffusion, b, data.anchor_c[b.prompt], anchor_model)}

    fit(diffusion.denoiser, step)

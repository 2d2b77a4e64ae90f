"""SalUn: saliency unlearning (Fan et al., arXiv 2310.12508), equations 5 to 7.

The concept's prompt is remapped to an anchor prompt while the salient weights alone move:

    L(θ) = MSE(ε_θ(x_t|c), sg[ε_θ(x_t|c')]) + α·MSE(ε, ε_θ(x_t^r|c^r))

with x_t noised forget images and x_t^r noised retained images. The two forget branches share x_t
and t.
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

NEEDS = Needs(images=("forget", "retain"), weighed={"retain": "alpha"})
SPACE = {"lr": (0.1, 10.0), "alpha": [0.5, 1.0, 2.0, 4.0], "steps": (0.3, 1.0)}


@dataclass(frozen=True)
class Config:
    """SalUn's own settings."""

    alpha: float = field(
        default=0.5,
        metadata={"help": "weight of the retain loss", "min": 0.0},
    )
    target: Literal["moving", "frozen"] = field(
        default="moving",
        metadata={
            "help": "model that answers the anchor prompt: the one in training (as published) "
            "or a frozen copy of the base",
        },
    )
    retain_target: Literal["noise", "frozen"] = field(
        default="noise",
        metadata={
            "help": "what the retain prediction is matched to: the noise (as published) or the "
            "frozen base's prediction",
        },
    )


def loss(
    diffusion: Diffusion,
    b: Noised,
    anchor_c: Conditioning,
    r: Noised,
    *,
    alpha: float,
    anchor_model: Diffusion,
    retain_model: Diffusion | None,
) -> tuple[Tensor, Tensor]:
    """The two terms of L(θ), the second already weighted by α.

    Args:
        diffusion: the model in training.
        b, r: noised forget and retain images, with the prompts c and c^r.
        anchor_c: the anchor's prompts c'.
        alpha: weight α of the retain term, >= 0.
        anchor_model: who answers the anchor's prompts.
        retain_model: whose prediction is retained; None takes the noise ε (or v) instead.

    Returns:
        Scalars (forget, α·retain).
    """
    import torch
    from torch.nn.functional import mse_loss

    with torch.no_grad():
        e_anchor = anchor_model.predict(b.x_t, b.t, anchor_c)
        kept = r.target if retain_model is None else retain_model.predict(r.x_t, r.t, r.c)
    e_c, e_r = diffusion.predict_each((b.x_t, b.t, b.c), (r.x_t, r.t, r.c))
    return mse_loss(e_c, e_anchor), alpha * mse_loss(e_r, kept)


def forwards(config: Config, steps: int, batch: int) -> float:
    """See ``methods.Method``: two branches with a gradient, one or two without; half of them where
    nothing is retained."""
    if not config.alpha:
        return 4.0 * batch * steps
    return (7.0 + (config.retain_target == "frozen")) * batch * steps


def erase(diffusion: Diffusion, data: TrainingData, config: Config, fit: Fit) -> None:
    """Moves the masked weights of ``diffusion``, in place, until c is answered as c'."""
    import torch
    from torch.nn.functional import mse_loss

    frozen = diffusion
    if "frozen" in (config.target, config.retain_target):
        frozen = diffusion.frozen()

    answering = frozen if config.target == "frozen" else diffusion

    def step(index: int, part: slice) -> dict[str, Tensor]:
        if not config.alpha:
            b = data.draw("forget", index, part)
            with torch.no_grad():
                e_anchor = answering.predict(b.x_t, b.t, data.anchor_c[b.prompt])
            return {"loss": mse_loss(diffusion.predict(b.x_t, b.t, b.c), e_anchor)}
        b, r = data.batch(index, part)
        forget, retain = loss(
            diffusion,
            b,
            data.anchor_c[b.prompt],
            r,
            alpha=config.alpha,
            anchor_model=answering,
            retain_model=frozen if config.retain_target == "frozen" else None,
        )
        return {"loss": forget + retain, "forget": forget, "retain": retain}

    fit(diffusion.denoiser, step)

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
    from collections.abc import Callable

    from torch import Tensor

    from erase.diffusion.conditioning import Conditioning
    from erase.diffusion.data import Batch, TrainingData
    from erase.diffusion.model import Diffusion
    from erase.unlearn.fit import Fit

NEEDS = Needs(images=("forget", "retain"))


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
    batch: Batch,
    *,
    alpha: float,
    anchor_model: Callable[[Tensor, Tensor, Conditioning], Tensor],
    retain_model: Callable[[Tensor, Tensor, Conditioning], Tensor] | None,
) -> tuple[Tensor, Tensor]:
    """The two terms of L(θ), the second already weighted by α.

    Args:
        diffusion: the model in training.
        batch: forget and retain latents with their noise, timesteps and embeddings.
        alpha: weight α of the retain term, >= 0.
        anchor_model: predicts ε(x_t|c') without a graph.
        retain_model: predicts the retain target without a graph; None matches the noise ε.

    Returns:
        Scalars (forget, α·retain).
    """
    import torch
    from torch.nn.functional import mse_loss

    from erase.diffusion.conditioning import join

    x_t = diffusion.add_noise(batch.x0, batch.noise, batch.t)
    xr_t = diffusion.add_noise(batch.retain_x0, batch.retain_noise, batch.retain_t)
    # One forward for both branches: the same values as two, in less time.
    predicted = diffusion.predict(
        torch.cat([x_t, xr_t]),
        torch.cat([batch.t, batch.retain_t]),
        join([batch.c, batch.retain_c]),
    )
    forget, retain = predicted.split([len(x_t), len(xr_t)])
    with torch.no_grad():
        target = anchor_model(x_t, batch.t, batch.anchor_c)
        if retain_model is None:
            wanted = diffusion.target(batch.retain_x0, batch.retain_noise, batch.retain_t)
        else:
            wanted = retain_model(xr_t, batch.retain_t, batch.retain_c)
    return mse_loss(forget.float(), target.float()), alpha * mse_loss(
        retain.float(), wanted.float()
    )


def forwards(config: Config, steps: int, batch: int) -> float:
    """See ``methods.Method``: two branches with a gradient, one or two without."""
    return (7.0 + (config.retain_target == "frozen")) * batch * steps


def erase(diffusion: Diffusion, data: TrainingData, config: Config, fit: Fit) -> None:
    """Moves the masked weights of ``diffusion``, in place, until c is answered as c'."""
    frozen = diffusion
    if "frozen" in (config.target, config.retain_target):
        frozen = diffusion.frozen()

    def step(index: int) -> dict[str, Tensor]:
        forget, retain = loss(
            diffusion,
            data.batch(index),
            alpha=config.alpha,
            anchor_model=(frozen if config.target == "frozen" else diffusion).predict,
            retain_model=frozen.predict if config.retain_target == "frozen" else None,
        )
        return {"loss": forget + retain, "forget": forget, "retain": retain}

    fit(diffusion.denoiser, step)

"""Erased Stable Diffusion (Gandikota et al., arXiv 2303.07345), equation 8.

    L(θ) = MSE(ε_θ(x_t|c_from), target)
    target = ε_θ0(x_t|b) - η·(ε_θ0(x_t|c) - ε_θ0(x_t|∅))

x_t is denoised from pure noise to a random one of the sampler's steps, so that no images are
needed. c_from is c, unless an attribute is erased from something.

The paper and its first code take b = ∅, η = 1, x_t from the model in training by DDIM, and t
between two steps. In that code x_t stands at timestep 20(k-1)+1 while t is drawn from
[20k, 20k+20), one interval noisier; x_t is never pure noise, since one step at least is taken, and
the first of the 50 timesteps is dropped. Here t lies in the interval that begins at x_t's own
level, and x_t may be pure noise, which is nearer to the paper.

The 2025 rewrite takes b = c_from, η = 2, x_t from the frozen model by the pipeline's own scheduler
(PNDM for SD 1.4), t at the step itself, and moves linear and convolutional layers alone, no norms;
with c_from = c its target at η = 2 is the paper's at η = 1. It differs in what is not offered:
weights and optimizer in bf16, and images of 1024 px for SD 1.4.

The variants are scopes: x is ``xattn``, x-strict ``xattn-kv`` (neither has norms), u ``noxattn``
(the first code's u: ``noxattn-core``, the rewrite's: ``noxattn-no-norms``), all ``full`` (the
rewrite's: ``full-no-norms``).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from erase.methods import Needs

if TYPE_CHECKING:
    from torch import Tensor

    from erase.diffusion.conditioning import Conditioning
    from erase.diffusion.data import TrainingData
    from erase.diffusion.model import Diffusion
    from erase.unlearn.fit import Fit

NEEDS = Needs(images=(), anchor=False)
SPACE = {"lr": (0.1, 10.0), "eta": [1.0, 2.0], "steps": (0.3, 1.0)}


@dataclass(frozen=True)
class Config:
    """ESD's own settings."""

    eta: float = field(
        default=1.0, metadata={"help": "strength η of the negative guidance", "min": 0.0}
    )
    base_term: Literal["empty", "from"] = field(
        default="empty",
        metadata={
            "help": "prompt that the target starts from: the empty one (paper) or c_from (2025)"
        },
    )
    erase_from: str | None = field(
        default=None,
        metadata={
            "help": "prompt c_from that the concept is erased from ('' is the empty one); the "
            "concept's own if not given"
        },
    )
    x_t_model: Literal["moving", "frozen"] = field(
        default="moving",
        metadata={
            "help": "model that denoises x_t: the one in training (paper) or the frozen base (2025)"
        },
    )
    x_t_between: bool = field(
        default=True,
        metadata={"help": "draw t between two sampler steps (paper) instead of at a step (2025)"},
    )
    x_t_own_sampler: bool = field(
        default=False,
        metadata={
            "help": "denoise x_t with the model's own scheduler (2025) instead of DDIM (paper)"
        },
    )
    x_t_steps: int = field(default=50, metadata={"help": "steps of x_t's sampler", "min": 1})
    x_t_guidance: float = field(
        default=3.0, metadata={"help": "guidance scale of x_t's sampler; 1 for none", "min": 1.0}
    )


def check_model(config: Config, diffusion: Diffusion) -> None:
    """See ``methods``: c_from, and x_t's sampler."""
    diffusion.reader.ids([config.erase_from or ""])
    sampler = None if config.x_t_own_sampler else "ddim"
    remedy = "give --x-t-own-sampler false"
    diffusion.family.check_sampling(config.x_t_steps, sampler, "--x-t-steps", remedy)


def target(
    frozen: Diffusion,
    x_t: Tensor,
    t: Tensor,
    c: Conditioning,
    empty: Conditioning,
    base: Conditioning,
    eta: float,
) -> Tensor:
    """ε_θ0(x_t|b) - η·(ε_θ0(x_t|c) - ε_θ0(x_t|∅)), (B, C, h, w), without a graph.

    Args:
        frozen: θ0.
        x_t, t: noisy latents (B, C, h, w) and their timesteps (B,).
        c, empty, base: the concept's prompts, ∅ and b, embedded.
        eta: η >= 0.
    """
    import torch

    with torch.no_grad():
        e_base, e_c, e_empty = frozen.predict_each(*((x_t, t, own) for own in (base, c, empty)))
        return e_base - eta * (e_c - e_empty)


def forwards(config: Config, steps: int, batch: int) -> float:
    """See ``methods.Method``: one branch with a gradient, three without, and x_t's sampler."""
    sampling = (config.x_t_steps - 1) / 2 * (2 if config.x_t_guidance > 1 else 1)
    return (6.0 + sampling) * batch * steps


def erase(diffusion: Diffusion, data: TrainingData, config: Config, fit: Fit) -> None:
    """Moves the masked weights of ``diffusion``, in place, away from the concept."""
    import torch
    from torch.nn.functional import mse_loss

    from erase.runtime.seeding import generator

    frozen = diffusion.frozen()
    size = data.batch_size
    given = config.erase_from
    origin = None if given is None else diffusion.embed([given]).float()
    sampling = frozen if config.x_t_model == "frozen" else diffusion

    def step(index: int, part: slice) -> dict[str, Tensor]:
        g = generator(data.seed, "esd", index)
        rows = torch.arange(index * size, (index + 1) * size) % len(data.c)
        c = data.c[rows[part]]
        empty = data.empty_c.repeat(len(c))
        c_from = c if origin is None else origin.repeat(len(c))
        done = int(torch.randint(config.x_t_steps, (), generator=g))
        x_t, t, gap = sampling.denoise_to(
            done,
            c_from,
            empty,
            steps=config.x_t_steps,
            guidance=config.x_t_guidance,
            noise=diffusion.draw_noise(size, g, data.size)[part],
            own=config.x_t_own_sampler,
            generators=[
                generator(data.seed, "esd", "between", index, row) for row in range(size)[part]
            ],
        )
        if config.x_t_between:
            t = t + torch.randint(gap, (), generator=g).to(t.device)
        base = empty if config.base_term == "empty" else c_from
        wanted = target(frozen, x_t, t, c, empty, base, config.eta)
        return {"loss": mse_loss(diffusion.predict(x_t, t, c_from), wanted)}

    fit(diffusion.denoiser, step)

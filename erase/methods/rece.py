"""RECE (Gong et al., arXiv 2407.12383): closed-form edits against what the last one left open.

After an edit of the keys and values, as in UCE, another embedding c* still makes them answer as the
base's did to the concept; each round finds it and edits it away too:

    c*  = (λ_1·I + Σ WᵀW)⁻¹ (Σ WᵀW0) c
    W'  = argmin e·Σ‖W'·c* - W·a‖² + p·Σ_j‖W'·c_j - W·c_j‖² + λ·‖W' - W‖²

UCE's edit with c itself comes first, W = W0, and is not counted among the rounds. As there,
embeddings are those of the last token before end-of-text, where the published code edits the states
of all 77 positions. Its weights are e = 1 and p = λ = 0.1, with λ_1 = 0.1, or 0.001 for objects; it
takes ten rounds, or five, and keeps the one whose images show least.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from erase.methods import Needs, uce

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from erase.diffusion.data import TrainingData
    from erase.diffusion.model import Diffusion
    from erase.unlearn.fit import Fit

NEEDS = Needs(
    images=(), loop=False, scope="xattn-kv", text="edits what cross-attention reads of a text"
)
SPACE = {"erase_scale": (0.1, 100.0), "lam": (0.01, 100.0), "rounds": [1, 2, 3]}


@dataclass(frozen=True)
class Config(uce.Config):
    """RECE's own settings, beside UCE's."""

    rounds: int = field(
        default=3,
        metadata={"help": "rounds after UCE's edit, against what the last left", "min": 0},
    )
    revival_lam: float = field(
        default=0.1,
        metadata={"help": "weight λ_1 that keeps c* small", "above": 0.0, "needs": "rounds"},
    )


def edited(
    w0: Mapping[str, Tensor], c: Tensor, a: Tensor, kept: Tensor, config: Config
) -> dict[str, Tensor]:
    """The matrices after all rounds, fp64, by name.

    Args:
        w0: the base's, (out, D) each.
        c, a: erased and anchor states (N, D).
        kept: preserved states (M, D).
        config: weights and rounds.
    """
    from erase.diffusion.revival import revival

    base = {name: weight.detach().cpu().double() for name, weight in w0.items()}
    c, a, kept = (x.detach().cpu().double() for x in (c, a, kept))
    weights = {"e": config.erase_scale, "p": config.preserve_scale, "lam": config.lam}
    w, asked = base, c
    for number in range(config.rounds + 1):
        if number:
            asked = c @ revival(w, base, config.revival_lam).T
        w = {name: uce.solve(w[name], asked, a, kept, **weights) for name in base}
    return w


def forwards(config: Config, steps: int, batch: int) -> float:
    """See ``methods.Method``: no denoiser in a closed form."""
    return 0.0


def erase(diffusion: Diffusion, data: TrainingData, config: Config, fit: Fit) -> None:
    """Rewrites the keys and values of ``diffusion``'s cross-attention, in place."""
    c, a = (diffusion.text.last_token([p[i] for p in data.pairs]) for i in (0, 1))
    kept = diffusion.text.last_token(data.retain_prompts)
    found = edited(diffusion.scoped("xattn-kv"), c, a, kept, config)
    fit.assign(diffusion.denoiser, lambda name, w0: found[name])

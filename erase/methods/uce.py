"""Unified Concept Editing (Gandikota et al., arXiv 2308.14761), equation 7: a closed form.

For every key and value matrix W of the cross-attention

    W = (e·Σ_i W0·a_i·c_iᵀ + p·Σ_j W0·c_j·c_jᵀ + λ·W0)·(e·Σ_i c_i·c_iᵀ + p·Σ_j c_j·c_jᵀ + λ·I)⁻¹

with erased pairs (c_i → a_i) and preserved c_j, all of them the text encoder's hidden state of
the last token before end-of-text. It is the minimum of
e·Σ‖W·c_i - W0·a_i‖² + p·Σ‖W·c_j - W0·c_j‖² + λ·‖W - W0‖².

Last tokens, λ = 0.5 and e = p = 1 are the published rewrite's, which solves in fp32 and, asked to
expand its prompts, preserves those of the erased concept too. The first code also summed the pairs
over all positions behind the last token and the preserved prompts over all 77, with λ = p = 0.1.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from erase.methods import Needs

if TYPE_CHECKING:
    from torch import Tensor

    from erase.diffusion.data import TrainingData
    from erase.diffusion.model import Diffusion
    from erase.unlearn.fit import Fit

NEEDS = Needs(
    images=(), loop=False, scope="xattn-kv", text="edits what cross-attention reads of a text"
)
SPACE = {"erase_scale": (0.1, 100.0), "lam": (0.01, 100.0)}


@dataclass(frozen=True)
class Config:
    """UCE's own settings."""

    erase_scale: float = field(
        default=1.0, metadata={"help": "weight e of the erased pairs", "above": 0.0}
    )
    preserve_scale: float = field(
        default=1.0, metadata={"help": "weight p of the preserved prompts", "min": 0.0}
    )
    lam: float = field(
        default=0.5, metadata={"help": "weight λ of staying close to the base", "above": 0.0}
    )


def solve(
    w0: Tensor,
    c: Tensor,
    a: Tensor,
    kept: Tensor,
    *,
    e: float,
    p: float,
    lam: float,
) -> Tensor:
    """The new matrix in fp64.

    Args:
        w0: W0, (out, D).
        c, a: erased and anchor states (N, D).
        kept: preserved states (M, D).
        e, p, lam: weights; λ > 0 makes the system regular.
    """
    import torch

    # Small, and not every accelerator has fp64.
    w0, c, a, kept = (x.cpu().double() for x in (w0, c, a, kept))
    eye = torch.eye(w0.shape[1], dtype=w0.dtype, device=w0.device)
    wanted = w0 @ (e * a.T @ c + p * kept.T @ kept + lam * eye)
    gram = e * c.T @ c + p * kept.T @ kept + lam * eye
    # W·gram = wanted, and gram is symmetric.
    solved: Tensor = torch.linalg.solve(gram, wanted.T).T
    return solved


def forwards(config: Config, steps: int, batch: int) -> float:
    """See ``methods.Method``: no denoiser in a closed form."""
    return 0.0


def erase(diffusion: Diffusion, data: TrainingData, config: Config, fit: Fit) -> None:
    """Rewrites the keys and values of ``diffusion``'s cross-attention, in place."""
    import torch

    c, a = (diffusion.text.last_token([p[i] for p in data.pairs]) for i in (0, 1))
    kept = diffusion.text.last_token(data.retain_prompts)

    @torch.no_grad()
    def solution(name: str, w0: Tensor) -> Tensor:
        return solve(
            w0,
            c,
            a,
            kept,
            e=config.erase_scale,
            p=config.preserve_scale,
            lam=config.lam,
        )

    fit.assign(diffusion.denoiser, solution)

"""The embedding that edited keys and values still answer to, as in RECE (arXiv 2407.12383)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


@torch.no_grad()
def revival(edited: Mapping[str, Tensor], before: Mapping[str, Tensor], lam: float) -> Tensor:
    """The matrix (D, D), fp64, that takes an embedding c to c*, the minimum of
    Σ‖W·c* - W0·c‖² + λ‖c*‖² over all edited matrices: (λI + Σ WᵀW)⁻¹ Σ WᵀW0.

    Args:
        edited, before: W and W0, (out, D) each, by name.
        lam: λ > 0.
    """
    first = next(iter(edited.values()))
    # Small, and not every accelerator has fp64.
    gram = lam * torch.eye(first.shape[1], dtype=torch.float64)
    wanted = torch.zeros_like(gram)
    for name, weight in edited.items():
        w, w0 = weight.detach().double().cpu(), before[name].detach().double().cpu()
        gram += w.T @ w
        wanted += w.T @ w0
    found: Tensor = torch.linalg.solve(gram, wanted)
    return found

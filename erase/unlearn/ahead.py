"""A loss's gradient at weights that lie elsewhere, as a term of a loss at the weights themselves.

First order, as in first-order MAML (Finn et al., arXiv 1703.03400): how far off the other place is
counts as fixed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn


def gradients(
    params: Mapping[str, nn.Parameter], losses: Iterable[Callable[[], Tensor]]
) -> dict[str, Tensor]:
    """Σ ∇L_i by name, fp32; nothing is left at ``grad``, and no hook hears of it.

    Args:
        params: weights that require a gradient.
        losses: each computes one scalar L_i with its graph.
    """
    own = list(params.values())
    sums = [torch.zeros_like(p, dtype=torch.float32) for p in own]
    for loss in losses:
        found = torch.autograd.grad(loss(), own, allow_unused=True)
        for total, slope in zip(sums, found, strict=True):
            if slope is not None:
                total.add_(slope)
    return dict(zip(params, sums, strict=True))


def elsewhere(
    params: Mapping[str, nn.Parameter], by: Mapping[str, Tensor], loss: Callable[[], Tensor]
) -> Tensor:
    """A scalar with the value of L at θ + ``by``, and its gradient there as the gradient at θ.

    To be called before anything whose graph is still needed reads the weights: they move and come
    back bit by bit.

    Args:
        params: θ, which require a gradient.
        by: of the same names and shapes.
        loss: computes L, a scalar with its graph, at the weights as they then are.
    """
    own = list(params.values())
    kept = [p.detach().clone() for p in own]
    try:
        with torch.no_grad():
            for name, p in params.items():
                p.add_(by[name].to(p))
        value = loss()
        # Here, and not later: activations that are computed again read the weights once more.
        slopes: Sequence[Tensor | None] = torch.autograd.grad(value, own, allow_unused=True)
    finally:
        with torch.no_grad():
            for p, before in zip(own, kept, strict=True):
                p.copy_(before)
    told = [
        (p * s).sum(dtype=torch.float32) for p, s in zip(own, slopes, strict=True) if s is not None
    ]
    line = torch.stack(told).sum()
    return value.detach() + (line - line.detach())

"""Distributions over tokens: the nearest one, and draws from one."""

from __future__ import annotations

import torch
from torch import Tensor


def project(v: Tensor) -> Tensor:
    """The nearest point of the probability simplex {u >= 0, Σu = 1}, along the last axis.

    max(v - λ, 0) for the one λ where that sums to 1, found exactly by leaving out what is not
    above λ until nothing more is (Michelot, J. Optim. Theory Appl. 50, 1986).
    """
    v = v - v.amax(-1, keepdim=True)  # the same point, in numbers that don't drown the 1
    inside = torch.ones_like(v, dtype=torch.bool)
    while True:
        total = torch.where(inside, v, 0).sum(-1, keepdim=True)
        threshold = (total - 1) / inside.sum(-1, keepdim=True)
        still = inside & (v > threshold)
        if torch.equal(still, inside):
            return (v - threshold).clamp(min=0)
        inside = still


def pick(u: Tensor, generator: torch.Generator) -> Tensor:
    """A token's number (B, k) from each of the distributions u (B, k, V)."""
    up_to = u.cpu().cumsum(-1)  # a GPU may add up in another order each time
    drawn = torch.rand((*u.shape[:-1], 1), generator=generator) * up_to[..., -1:]
    found = torch.searchsorted(up_to, drawn, right=True).squeeze(-1)
    return found.clamp(max=u.shape[-1] - 1).to(u.device)

"""Weights that move beside a training, θ + δ, and a loss there as a term of the loss at θ.

First order, as in first-order MAML (Finn et al., arXiv 1703.03400): δ counts as fixed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from erase.runtime import processes


class Ahead:
    """δ, which descends a loss of its own; see ``unlearn.fit.Beside``.

    δ ← Adam(∇_δ L(θ + δ)), from 0 again every so many steps
    """

    def __init__(
        self,
        params: Mapping[str, nn.Parameter],
        losses: Callable[[int], Iterable[Callable[[], Tensor]]],
        lr: float,
        restart: int,
    ) -> None:
        """Starts at δ = 0.

        Args:
            params: θ by name, fp32.
            losses: of a step, what computes this process's share of L, as a sum of scalars with
                their graphs.
            lr: of Adam.
            restart: steps after which δ is 0 again, >= 1.
        """
        self.params, self.losses, self.lr, self.restart = params, losses, lr, restart
        self._start()

    def _start(self) -> None:
        self.by = {n: torch.zeros_like(p) for n, p in self.params.items()}
        self.adam = torch.optim.Adam(self.by.values(), lr=self.lr)

    def at(self, loss: Callable[[], Tensor]) -> Tensor:
        """A scalar with the value of a loss at θ + δ, and its gradient there as that at θ.

        To be called before anything whose graph is still needed reads the weights: they move and
        come back bit by bit.

        Args:
            loss: computes it with its graph, at the weights as they then are.
        """
        own = [p for p in self.params.values() if p.requires_grad]  # the mask may leave out others
        with moved(self.params, self.by):
            value = loss()
            # Here, and not later: activations that are computed again read the weights once more.
            slopes: Sequence[Tensor | None] = torch.autograd.grad(value, own, allow_unused=True)
        told = [
            (p * s).sum(dtype=torch.float32)
            for p, s in zip(own, slopes, strict=True)
            if s is not None
        ]
        line = torch.stack(told).sum()
        return value.detach() + (line - line.detach())

    def update(self, index: int) -> None:
        """One step of δ."""
        if (index + 1) % self.restart == 0:
            self._start()
        own = [p for p in self.params.values() if not p.requires_grad]
        for p in own:
            p.requires_grad_(True)
        with moved(self.params, self.by):
            slopes = gradients(self.params, self.losses(index))
        processes.add(list(slopes.values()))
        for p in own:
            p.requires_grad_(False)
        for name, x in self.by.items():
            x.grad = slopes[name]
        self.adam.step()
        self.adam.zero_grad()

    def state_dict(self) -> dict[str, Any]:
        """δ and Adam's moments."""
        by = {name: x.detach().cpu() for name, x in self.by.items()}
        return {"by": by, "adam": self.adam.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes up what ``state_dict`` gave."""
        for name, x in self.by.items():
            x.copy_(state["by"][name])
        self.adam.load_state_dict(state["adam"])


@contextmanager
def moved(params: Mapping[str, nn.Parameter], by: Mapping[str, Tensor]) -> Iterator[None]:
    """θ + δ inside, θ again afterwards, bit by bit."""
    kept = [p.detach().clone() for p in params.values()]
    try:
        with torch.no_grad():
            for name, p in params.items():
                p.add_(by[name])
        yield
    finally:
        with torch.no_grad():
            for p, before in zip(params.values(), kept, strict=True):
                p.copy_(before)


def gradients(
    params: Mapping[str, nn.Parameter], losses: Iterable[Callable[[], Tensor]]
) -> dict[str, Tensor]:
    """Σ ∇L_i by name, fp32; nothing is left at ``grad``, and no hook hears of it.

    Args:
        params: weights that require a gradient.
        losses: each computes one scalar L_i with its graph.
    """
    own = list(params.values())
    sums: dict[str, Tensor] = {}
    for loss in losses:
        found = torch.autograd.grad(loss(), own, allow_unused=True)
        for name, slope in zip(params, found, strict=True):
            if slope is not None:  # the first as they are: a copy of them all would be one more
                sums[name] = sums[name] + slope if name in sums else slope.float()
    return {
        name: sums[name] if name in sums else torch.zeros_like(p, dtype=torch.float32)
        for name, p in params.items()
    }

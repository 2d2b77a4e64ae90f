"""Selective synaptic dampening (SSD; Foster et al., arXiv 2308.07707, equations 4 to 6).

    F = E_{(x, y) ∈ D} (∇_θ ℓ)²,   F_f the same over D_f
    θ_i ← min(λ · F_i / F_f,i, 1) · θ_i   where F_f,i > α · F_i

The importance F is that of all training data, with one gradient a sample.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from erase.classifiers.methods import Needs

if TYPE_CHECKING:
    from torch import Tensor

    from erase.classifiers.batches import Pool
    from erase.classifiers.models import Classifier
    from erase.classifiers.unlearning import Unlearning
    from erase.unlearn.fit import Fit

NEEDS = Needs(loop=False)
SPACE = {"alpha": (0.1, 10.0), "lam": (0.1, 10.0)}


AT_ONCE = 50_000_000
"""Gradients of single samples that are held at a time, one for each weight: 200 MB."""


@dataclass(frozen=True)
class Config:
    """SSD's own settings."""

    alpha: float = field(
        default=10.0,
        metadata={"help": "weights are dampened whose F_f is above α·F", "above": 0.0},
    )
    lam: float = field(
        default=1.0, metadata={"help": "strength λ of what is left of a weight", "above": 0.0}
    )


def samples(config: Config, forget: int, retain: int) -> float:
    """See ``methods.Method``: every training sample once, those to forget twice."""
    return 3.0 * (2 * forget + retain)


def importance(classifier: Classifier, pools: list[Pool]) -> dict[str, Tensor]:
    """F by name: the mean of each sample's squared gradient; in evaluation mode."""
    import torch
    from torch.func import functional_call, grad, vmap
    from torch.nn.functional import cross_entropy

    from erase.classifiers.models import Classifier as Called

    network = classifier.network
    params = {n: p.detach() for n, p in network.named_parameters()}
    buffers = {n: b.detach() for n, b in network.named_buffers()}

    class Bound(torch.nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            found: Tensor = functional_call(network, (own[0], buffers), (x,))
            return found

    own = [params]

    def loss(values: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        own[0] = values
        called = Called(Bound(), classifier.classes, classifier.mean, classifier.std)
        return cross_entropy(called.logits(x[None]), y[None])

    each = vmap(grad(loss), in_dims=(None, 0, 0))
    total = {name: torch.zeros_like(p) for name, p in params.items()}
    rows = max(1, AT_ONCE // sum(p.numel() for p in params.values()))
    for pool in pools:
        for place in torch.arange(len(pool)).split(min(rows, pool.batch)):
            batch = pool.rows(place)
            for name, gradient in each(params, batch.x, batch.y).items():
                total[name] += gradient.square().sum(0)
    count = sum(map(len, pools))
    return {name: value / count for name, value in total.items()}


def dampened(theta: Tensor, f: Tensor, f_f: Tensor, alpha: float, lam: float) -> Tensor:
    """min(λF/F_f, 1)·θ where F_f > αF, else θ; all of θ's shape."""
    import torch

    beta = (lam * f / f_f.clamp_min(torch.finfo(f_f.dtype).tiny)).clamp_max(1.0)
    return torch.where(f_f > alpha * f, beta * theta, theta)


def unlearn(classifier: Classifier, data: Unlearning, config: Config, fit: Fit) -> None:
    """See ``methods.Method``."""
    classifier.network.eval()
    f_f = importance(classifier, [data.forget])
    f = importance(classifier, [data.forget, data.retain])
    fit.assign(
        classifier.network,
        lambda name, theta: dampened(theta, f[name], f_f[name], config.alpha, config.lam),
    )

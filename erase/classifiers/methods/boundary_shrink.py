"""Boundary Shrink (Chen et al., arXiv 2303.11570): each sample becomes its nearest wrong class.

x' = x + ε · sign ∇_x ℓ(θ_0; x, y),   y' = argmax f_θ0(x'),   L(θ) = E_{x ∈ D_f} ℓ(θ; x, y')
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

NEEDS = Needs(epoch="forget")
SPACE = {"lr": (0.1, 10.0), "epsilon": [0.05, 0.1, 0.2]}


@dataclass(frozen=True)
class Config:
    """Boundary Shrink's own settings."""

    epsilon: float = field(
        default=0.1,
        metadata={"help": "step ε across the boundary, of images in [0, 1]", "above": 0.0},
    )


def samples(config: Config, forget: int, retain: int) -> float:
    """See ``methods.Method``; the neighbours are found once, before the first step, which is not
    counted."""
    return 3.0 * forget


def neighbours(classifier: Classifier, pool: Pool, epsilon: float) -> Tensor:
    """The class y' (N,) across the nearest boundary of every sample; as it is in evaluation mode.

    A sample that the step leaves in its class keeps its label.
    """
    import torch
    from torch.nn.functional import cross_entropy

    modes = {module: module.training for module in classifier.network.modules()}
    classifier.network.eval()
    found = []
    try:
        for place in torch.arange(len(pool)).split(pool.batch):
            batch = pool.rows(place)
            x = batch.x.requires_grad_(True)
            total = cross_entropy(classifier.logits(x), batch.y, reduction="sum")
            [gradient] = torch.autograd.grad(total, x)
            with torch.no_grad():
                found.append(classifier.logits(x + epsilon * gradient.sign()).argmax(1).cpu())
    finally:
        for module, mode in modes.items():
            module.training = mode
    return torch.cat(found)


def unlearn(classifier: Classifier, data: Unlearning, config: Config, fit: Fit) -> None:
    """See ``methods.Method``."""
    from torch.nn.functional import cross_entropy

    nearest = neighbours(classifier, data.forget, config.epsilon)

    def step(index: int, part: slice) -> dict[str, Tensor]:
        batch = data.forget.at(index, part)
        y = nearest[batch.place].to(batch.y.device)
        return {"loss": cross_entropy(classifier.logits(batch.x), y)}

    fit(classifier.network, step)

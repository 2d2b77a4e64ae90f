"""NegGrad+ (Kurmanji et al., arXiv 2302.09880, section 5): down on one loss, up on the other.

L(θ) = β · E_{(x, y) ∈ D_r} ℓ(θ; x, y) - (1 - β) · E_{(x, y) ∈ D_f} ℓ(θ; x, y)
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from erase.classifiers.methods import Needs

if TYPE_CHECKING:
    from torch import Tensor

    from erase.classifiers.models import Classifier
    from erase.classifiers.unlearning import Unlearning
    from erase.unlearn.fit import Fit

NEEDS = Needs(epoch="retain")
SPACE = {"lr": (0.1, 10.0), "beta": [0.9, 0.95, 0.99, 0.999]}


@dataclass(frozen=True)
class Config:
    """NegGrad+'s own settings."""

    beta: float = field(
        default=0.95,
        metadata={"help": "weight β of the retained samples' loss", "min": 0.0, "max": 1.0},
    )


def samples(config: Config, forget: int, retain: int) -> float:
    """See ``methods.Method``: a batch of each a step."""
    return 6.0 * retain


def loss(retained: Tensor, forgotten: Tensor, beta: float) -> Tensor:
    """β · L_r - (1 - β) · L_f, all scalars."""
    return beta * retained - (1 - beta) * forgotten


def unlearn(classifier: Classifier, data: Unlearning, config: Config, fit: Fit) -> None:
    """See ``methods.Method``."""
    import torch
    from torch.nn.functional import cross_entropy

    def step(index: int, part: slice) -> dict[str, Tensor]:
        r, f = data.retain.at(index, part), data.forget.at(index, part)
        # One pass: BatchNorm, where it moves, sees what it would see in training.
        both = classifier.logits(torch.cat([r.x, f.x]))
        l_r, l_f = cross_entropy(both[: len(r.y)], r.y), cross_entropy(both[len(r.y) :], f.y)
        return {"loss": loss(l_r, l_f, config.beta), "retain": l_r, "forget": l_f}

    fit(classifier.network, step)

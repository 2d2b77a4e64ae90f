"""Fine-tuning on what is retained (Warnecke et al., arXiv 2108.11577): it is not rehearsed.

L(θ) = E_{(x, y) ∈ D_r} ℓ(θ; x, y)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from erase.classifiers.methods import Needs

if TYPE_CHECKING:
    from torch import Tensor

    from erase.classifiers.models import Classifier
    from erase.classifiers.unlearning import Unlearning
    from erase.unlearn.fit import Fit

NEEDS = Needs(epoch="retain")
SPACE = {"lr": (0.1, 10.0), "epochs": (0.5, 1.0)}


@dataclass(frozen=True)
class Config:
    """Fine-tuning has no settings of its own."""


def samples(config: Config, forget: int, retain: int) -> float:
    """See ``methods.Method``."""
    return 3.0 * retain


def unlearn(classifier: Classifier, data: Unlearning, config: Config, fit: Fit) -> None:
    """See ``methods.Method``."""
    from torch.nn.functional import cross_entropy

    def step(index: int, part: slice) -> dict[str, Tensor]:
        batch = data.retain.at(index, part)
        return {"loss": cross_entropy(classifier.logits(batch.x), batch.y)}

    fit(classifier.network, step)

"""Ours: the answers of a model that never saw the samples, estimated cheaply, in place of noise.

Random labels make a model unsure of what it should forget; one that was trained again without it is
not unsure, it is sometimes wrong. A short training on the retained samples gives answers p_0 of a
model that never saw D_f, for a share of what retraining costs, and the masked weights learn those:

    L(θ) = E_{x ∈ D_f} H(p_0(x), p_θ(x)) + α · E_{(x, y) ∈ D_r} ℓ(θ; x, y)
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

NEEDS = Needs(retrains=True)
SPACE = {"lr": (0.1, 10.0)}
"""Without the share: the longer, the nearer, so a search by the gap would take the longest."""


@dataclass(frozen=True)
class Config:
    """Its own settings."""

    share: float = field(
        default=0.15,
        metadata={
            "help": "length of the short training, as a share of retraining's",
            "above": 0.0,
            "max": 1.0,
        },
    )
    alpha: float = field(
        default=1.0, metadata={"help": "weight of the retained samples' loss", "min": 0.0}
    )


def samples(config: Config, forget: int, retain: int) -> float:
    """See ``methods.Method``; the short training comes on top, see ``unlearning.Unlearning``."""
    return 3.0 * (forget + retain)


def unlearn(classifier: Classifier, data: Unlearning, config: Config, fit: Fit) -> None:
    """See ``methods.Method``."""
    import torch
    from torch.nn.functional import cross_entropy

    from erase.classifiers.batches import joined
    from erase.classifiers.looking import predictions

    count = len(data.forget)
    answers = predictions(data.retrain(config.share), data.forget).softmax(1)
    both = joined(data.forget, data.retain, (data.seed, "unlearn"))

    def step(index: int, part: slice) -> dict[str, Tensor]:
        batch = both.at(index, part)
        forgotten = batch.place < count
        p = torch.nn.functional.one_hot(batch.y, data.classes).float()
        p[forgotten.to(p.device)] = answers[batch.place[forgotten]].to(p.device)
        each = cross_entropy(classifier.logits(batch.x), p, reduction="none")
        weight = torch.where(forgotten, 1.0, config.alpha).to(each.device)
        return {"loss": (weight * each).mean()}

    fit(classifier.network, step)

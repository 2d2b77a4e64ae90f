"""SalUn for classifiers (Fan et al., arXiv 2310.12508), equation 5: random labels under a mask.

    L(θ) = E_{(x, y) ∈ D_f, y' ≠ y} ℓ(θ; x, y') + α · E_{(x, y) ∈ D_r} ℓ(θ; x, y)

A step's loss is the mean over a batch of the union of both, so that α stands for α·|D_r|/|D_f| of
this formula where the union is shuffled. Without a mask it is random labelling (Golatkar et al.,
arXiv 1911.04933). The published code goes
through all samples to forget first and through the retained ones afterwards, or through their
shuffled union, by data set; draws the labels anew in every epoch, or in every batch; and draws them
from all K labels, the true one among them, where the paper excludes it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from erase.classifiers.methods import Needs

if TYPE_CHECKING:
    from torch import Tensor

    from erase.classifiers.models import Classifier
    from erase.classifiers.unlearning import Unlearning
    from erase.unlearn.fit import Fit

NEEDS = Needs()
SPACE = {"lr": (0.1, 10.0), "alpha": [0.5, 1.0, 2.0]}


@dataclass(frozen=True)
class Config:
    """SalUn's own settings."""

    alpha: float = field(
        default=1.0,
        metadata={
            "help": "weight of a retained sample's loss beside a forgotten one's",
            "min": 0.0,
        },
    )
    labels: Literal["all", "others"] = field(
        default="all",
        metadata={"help": "random labels are drawn from all classes or from the others only"},
    )
    redraw: bool = field(
        default=True, metadata={"help": "draw the random labels anew in every epoch"}
    )
    order: Literal["shuffled", "forget-first"] = field(
        default="shuffled",
        metadata={"help": "the union shuffled, or in every epoch the samples to forget first"},
    )


def samples(config: Config, forget: int, retain: int) -> float:
    """See ``methods.Method``."""
    return 3.0 * (forget + retain)


def unlearn(classifier: Classifier, data: Unlearning, config: Config, fit: Fit) -> None:
    """See ``methods.Method``."""
    import torch
    from torch.nn.functional import cross_entropy

    from erase.classifiers.batches import joined
    from erase.classifiers.labels import random_labels

    count = len(data.forget)
    both = joined(data.forget, data.retain, (data.seed, "unlearn"), config.order == "forget-first")

    def step(index: int, part: slice) -> dict[str, Tensor]:
        batch = both.at(index, part)
        forgotten = (batch.place < count).to(batch.y.device)
        drawn = random_labels(data, batch, others=config.labels == "others", redraw=config.redraw)
        y = torch.where(forgotten, drawn, batch.y)
        each = cross_entropy(classifier.logits(batch.x), y, reduction="none")
        return {"loss": torch.where(forgotten, each, config.alpha * each).mean()}

    fit(classifier.network, step)

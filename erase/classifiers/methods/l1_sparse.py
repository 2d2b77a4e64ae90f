"""l1-sparse (Jia et al., arXiv 2304.04934, equation 3): fine-tuning that prunes weights softly.

L(θ) = E_{(x, y) ∈ D_r} ℓ(θ; x, y) + α_e · ‖θ‖₁,   α_e = α · (1 - e/E) in epoch e of E
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
SPACE = {"lr": (0.1, 10.0), "alpha": [1e-5, 5e-5, 1e-4, 5e-4]}


@dataclass(frozen=True)
class Config:
    """l1-sparse's own settings."""

    alpha: float = field(
        default=5e-4,
        metadata={"help": "weight α of ‖θ‖₁ at first, falling to 0 over the epochs", "min": 0.0},
    )


def samples(config: Config, forget: int, retain: int) -> float:
    """See ``methods.Method``."""
    return 3.0 * retain


def unlearn(classifier: Classifier, data: Unlearning, config: Config, fit: Fit) -> None:
    """See ``methods.Method``; the norm is that of the weights that may move."""
    from torch.nn.functional import cross_entropy

    from erase.unlearn.mask import unpack

    places = {
        name: mask
        for name in fit.mask.drawn_from()
        if (mask := unpack(fit.mask.bits[name], fit.mask.shapes[name])).any()
    }
    params = {n: p for n, p in classifier.network.named_parameters() if n in places}
    own = {name: places[name].to(p.device) for name, p in params.items()}

    def step(index: int, part: slice) -> dict[str, Tensor]:
        batch = data.retain.at(index, part)
        epoch = index * data.retain.batch // len(data.retain)
        l_r = cross_entropy(classifier.logits(batch.x), batch.y)
        norm = sum((p[own[name]].abs().sum() for name, p in params.items()), l_r.new_zeros(()))
        alpha = config.alpha * max(0.0, 1 - epoch / data.epochs)
        return {"loss": l_r + alpha * norm, "retain": l_r}

    fit(classifier.network, step)

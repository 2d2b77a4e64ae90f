"""SCRUB (Kurmanji et al., arXiv 2302.09880, equation 3): a student with a will of its own.

Each of the first ``max_epochs`` epochs begins with a pass away from the teacher θ_0 over what is
forgotten, and goes on towards it on what is retained; the others do the latter alone. An epoch has
as many steps as what is retained fills, so that a pass away takes the place of its first steps,
where the published code adds it to them.

    max_θ  E_{x ∈ D_f} KL(p_θ0(x) ‖ p_θ(x))
    min_θ  E_{(x, y) ∈ D_r} [β · KL(p_θ0(x) ‖ p_θ(x)) + γ · ℓ(θ; x, y)]

with probabilities at temperature T and the divergences times T², as distillation has them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from erase.classifiers.methods import Needs
from erase.runtime.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

    from erase.classifiers.models import Classifier
    from erase.classifiers.unlearning import Unlearning
    from erase.unlearn.fit import Fit

NEEDS = Needs(epoch="retain")
ALL_AWAY = (
    "SCRUB would only move away from what it was for its first epochs, since what is forgotten "
    "fills as many batches as what is retained: forget less, give a smaller --batch-size, or take "
    "another recipe."
)
SPACE = {"lr": (0.1, 10.0), "max_epochs": [1, 2, 3]}


@dataclass(frozen=True)
class Config:
    """SCRUB's own settings."""

    max_epochs: int = field(
        default=2,
        metadata={"help": "epochs that begin with a pass away from the teacher", "min": 0},
    )
    temperature: float = field(
        default=4.0, metadata={"help": "temperature T of the divergences", "above": 0.0}
    )
    beta: float = field(
        default=1.0, metadata={"help": "weight β of the divergence on retained samples", "min": 0.0}
    )
    gamma: float = field(
        default=0.99, metadata={"help": "weight γ of the loss on retained samples", "min": 0.0}
    )


def samples(config: Config, forget: int, retain: int) -> float:
    """See ``methods.Method``: the teacher looks once at what the student learns on."""
    if config.max_epochs and forget >= retain:
        raise UserError(ALL_AWAY)
    return 4.0 * retain


def divergence(teacher: Tensor, student: Tensor, temperature: float) -> Tensor:
    """T² · KL(p_teacher ‖ p_student), mean over rows of logits (B, K)."""
    from torch.nn.functional import kl_div, log_softmax

    p, q = (log_softmax(logits / temperature, 1) for logits in (teacher, student))
    return kl_div(q, p, reduction="batchmean", log_target=True) * temperature**2


def unlearn(classifier: Classifier, data: Unlearning, config: Config, fit: Fit) -> None:
    """See ``methods.Method``."""
    import copy

    import torch
    from torch.nn.functional import cross_entropy

    from erase.classifiers.models import Classifier as Frozen

    network = copy.deepcopy(classifier.network).eval().requires_grad_(False)
    teacher = Frozen(network, classifier.classes, classifier.mean, classifier.std)
    # Steps of an epoch: those of the pass away, then those towards; of one length throughout, so
    # that a step's number says where it stands.
    away = data.forget.steps(1)
    epoch = data.retain.steps(1)
    if config.max_epochs and away >= epoch:
        raise UserError(ALL_AWAY)

    def step(index: int, part: slice) -> dict[str, Tensor]:
        turn, place = divmod(index, epoch)
        if turn < config.max_epochs and place < away:
            f = data.forget.at(turn * away + place, part)
            with torch.no_grad():
                expected = teacher.logits(f.x)
            return {"loss": -divergence(expected, classifier.logits(f.x), config.temperature)}
        r = data.retain.at(index, part)
        with torch.no_grad():
            expected = teacher.logits(r.x)
        found = classifier.logits(r.x)
        near = divergence(expected, found, config.temperature)
        own = cross_entropy(found, r.y)
        return {"loss": config.beta * near + config.gamma * own, "retain": own}

    fit(classifier.network, step)

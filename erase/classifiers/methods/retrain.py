"""Retraining, exact unlearning: a new network that is trained on what is retained alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from erase.classifiers.methods import Needs

if TYPE_CHECKING:
    from erase.classifiers.models import Classifier
    from erase.classifiers.unlearning import Unlearning
    from erase.unlearn.fit import Fit

NEEDS = Needs(epoch="retain", loop=False, mask=False, retrains=True)
SPACE: dict[str, tuple[float, float]] = {}


@dataclass(frozen=True)
class Config:
    """Retraining has no settings of its own: it is trained as the base was."""


def samples(config: Config, forget: int, retain: int) -> float:
    """See ``methods.Method``: nothing beside the training that it asks for."""
    return 0.0


def unlearn(classifier: Classifier, data: Unlearning, config: Config, fit: Fit) -> None:
    """See ``methods.Method``."""
    new = data.retrain(1.0).network
    fit.assign(classifier.network, lambda name, theta: dict(new.named_parameters())[name])
    buffers = dict(new.named_buffers())
    for name, buffer in classifier.network.named_buffers():
        buffer.copy_(buffers[name])

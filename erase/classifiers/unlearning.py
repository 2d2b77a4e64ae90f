"""What a method works on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from erase.classifiers.batches import Pool
from erase.classifiers.models import Classifier


@dataclass(frozen=True, eq=False)
class Unlearning:
    """What a method works on.

    Attributes:
        forget, retain: the samples.
        classes: number K of labels.
        epochs: passes that were asked for.
        seed: of every draw.
        retrain: a new network of the same kind after the given share of what retraining on the
            retained samples takes, in (0, 1].
    """

    forget: Pool
    retain: Pool
    classes: int
    epochs: float
    seed: int
    retrain: Callable[[float], Classifier]

"""What models say of a split's samples: all that most figures are made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from erase.classifiers.batches import Pool
    from erase.classifiers.models import Classifier

Part = Literal["forget", "retain", "validation", "test", "attack", "forgotten"]
"""Samples of a split, see ``classifiers.split.Split``; ``retain`` are all retained ones."""


@dataclass(frozen=True, eq=False)
class Case:
    """What is asked of every model.

    Attributes:
        kind: of what is forgotten, see ``classifiers.split.KINDS``.
        classes: names of the K labels.
        labels: int64 (N,) by part; a part without samples is left out. Those of ``forget`` and
            ``retain`` are the labels that were trained on.
        forgotten: the label that is forgotten whole; None where it is not a class.
        seed: of what a figure draws.
        pools: the samples themselves by part, for figures that train on.
        near: test samples that are nearest to what is forgotten, places in ``test`` by a name for
            them; {} where nothing is nearer than the rest.
    """

    kind: str
    classes: tuple[str, ...]
    labels: Mapping[Part, NDArray[np.int64]]
    forgotten: int | None = None
    seed: int = 0
    pools: Mapping[Part, Pool] | None = None
    near: Mapping[str, NDArray[np.int64]] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Side:
    """A model's answers.

    Attributes:
        name: ``base``, ``unlearned``, or ``retrain-SEED``.
        logits: float32 (N, K) by part.
        open: the model itself, in evaluation mode; what is done to it changes no other figure.
        samples: forward and backward passes that making it took, mask included; None if unknown.
        seconds: of that; None if unknown.
    """

    name: str
    logits: Mapping[Part, NDArray[np.float32]]
    open: Callable[[], Classifier] | None = None
    samples: float | None = None
    seconds: float | None = None


def unseen(case: Case) -> Part:
    """Samples that no model was trained on, with which those to forget are compared: of the class
    where a whole one is forgotten, since others tell the class and not what was seen."""
    return "attack" if case.forgotten is None else "forgotten"


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """Probabilities (N, K) in float64, rows of which add up to 1."""
    from scipy.special import softmax as of

    found: NDArray[np.float64] = of(logits.astype(np.float64), axis=1)
    return found


def confidence(logits: NDArray[np.float32], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """The probability (N,) of each sample's own label, in [0, 1]."""
    return softmax(logits)[np.arange(len(labels)), labels]


def right(logits: NDArray[np.float32], labels: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether each sample (N,) is classified as its label."""
    found: NDArray[np.bool_] = logits.argmax(1) == labels
    return found


def margin(logits: NDArray[np.float32], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """log p_y - log Σ_{k≠y} p_k (N,) of each sample's label y: the logit of its confidence.

    It grows with -loss, and does not saturate where the confidence is 1 in floating point.
    """
    from scipy.special import logsumexp

    rows = np.arange(len(labels))
    others = logits.astype(np.float64)
    own = others[rows, labels]
    others[rows, labels] = -np.inf
    found: NDArray[np.float64] = own - logsumexp(others, axis=1)
    return found


def drawn(count: int, most: int, *key: int | str) -> NDArray[np.int64]:
    """Numbers of ``most`` of ``count`` samples, or of all if there are fewer, in a drawn order."""
    import torch

    from erase.runtime.seeding import generator

    found: NDArray[np.int64] = torch.randperm(count, generator=generator(*key))[:most].numpy()
    return found

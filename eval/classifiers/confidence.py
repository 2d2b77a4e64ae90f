"""How sure models are of their samples' labels, as counts that can be drawn again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from erase.eval.classifiers.evidence import Case, Part, Side, margin

PARTS: tuple[Part, ...] = ("forget", "retain", "test")
LOW, HIGH, WIDTH = -10.0, 14.0, 0.5
"""Bins of log p / (1 - p): on a plain scale, what a model has memorised is one bar at 1."""


@dataclass(frozen=True)
class Confidence:
    """A model's probabilities p of the true labels of some samples.

    Attributes:
        n: samples; of several models, all of theirs.
        counts: by bin of log p / (1 - p), ``WIDTH`` wide from ``LOW`` to ``HIGH``; what lies
            outside is counted in the first and the last.
    """

    n: int
    counts: tuple[int, ...]


def confidences(case: Case, sides: Sequence[Side]) -> Mapping[str, Confidence]:
    """By part, the samples of these models together."""
    edges = np.arange(LOW, HIGH + WIDTH / 2, WIDTH)
    found: dict[str, Confidence] = {}
    for part in PARTS:
        if part not in case.labels or not sides:
            continue
        values = np.concatenate([margin(s.logits[part], case.labels[part]) for s in sides])
        counts, _ = np.histogram(np.clip(values, LOW, HIGH), edges)
        found[part] = Confidence(len(values), tuple(map(int, counts)))
    return found

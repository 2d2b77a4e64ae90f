"""Class geometry: which classes the samples of a forgotten class are taken for.

A model that still knows them betrays it by answers that no retrained model would give, however
wrong they are.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from erase.eval.classifiers.evidence import Case, Side
from erase.eval.classifiers.references import over_references
from erase.eval.figure import Figure, figure
from erase.eval.pages.table import Column
from erase.eval.stats.intervals import share

RANK = 70
MOVED = Column(
    "class_tv",
    "class TV",
    "",
    "down",
    "Distance of the answers from Retrain",
    "total variation between the classes that samples to forget are taken for and a retrained "
    "model's: 0 is the same, 1 nothing in common",
    3,
)
BECAME = Column("became", "taken for", "%", None, "", "samples to forget with that answer")
COLUMNS = (MOVED, BECAME)
BOUNDS = {MOVED.key: (0.0, 1.0)}
PAIRED = (MOVED.key,)


def measure(case: Case, side: Side, references: Sequence[Side]) -> list[Figure]:
    """See ``metrics``; ``became`` has a figure for each class, which its group names."""
    own = {"side": side.name, "metric": "geometry"}
    if case.forgotten is None:
        return [figure(MOVED, None, reason="no class is forgotten whole", **own)]
    counts = _counts(case, side)
    n = int(counts.sum())
    values = [float(abs(counts - _counts(case, r)).sum()) / n / 2 for r in references]
    return [
        over_references(MOVED, values, high=1.0, **own),
        *(
            figure(BECAME, share(int(k), n), group=name, **own)
            for name, k in zip(case.classes, counts, strict=True)
        ),
    ]


def _counts(case: Case, side: Side) -> NDArray[np.int64]:
    """Samples to forget by the class that they are taken for, int64 (K,)."""
    return np.bincount(side.logits["forget"].argmax(1), minlength=len(case.classes))

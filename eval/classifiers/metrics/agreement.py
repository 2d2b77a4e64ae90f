"""Agreement: whether it answers as the retrained models do, sample by sample."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from erase.eval.classifiers.evidence import Case, Part, Side, softmax
from erase.eval.classifiers.references import NONE
from erase.eval.figure import Figure, figure
from erase.eval.pages.table import Column
from erase.eval.stats.intervals import Share, average, wilson
from erase.runtime.words import counted

RANK = 60
PARTS: Sequence[tuple[Part, str]] = (
    ("forget", "samples to forget"),
    ("retain", "retained samples"),
    ("test", "test samples"),
)
JS = {
    part: Column(
        f"js_{part}",
        f"JS, {part}",
        "",
        "down",
        f"Jensen–Shannon divergence from Retrain, {part}",
        f"of the probabilities of {what}, in bits: 0 is the same, 1 nothing in common",
        4,
    )
    for part, what in PARTS
}
TOP1 = {
    part: Column(
        f"agree_{part}",
        f"agreement, {part}",
        "%",
        "up",
        f"Agreement with Retrain, {part}",
        f"{what} that it and a retrained model give the same class",
    )
    for part, what in PARTS
}
COLUMNS = (*JS.values(), *TOP1.values())
BOUNDS = {column.key: (0.0, 1.0) for column in JS.values()}
PAIRED = tuple(column.key for column in COLUMNS)


def measure(case: Case, side: Side, references: Sequence[Side]) -> list[Figure]:
    """See ``metrics``; a sample's value is its mean over the references."""
    own = {"side": side.name, "metric": "agreement"}
    detail = f"against {counted(len(references), 'retrained model')}"
    apart, same = [], []
    for part, _ in PARTS:
        if part not in case.labels or not references:
            why = f"no {part} samples" if references else NONE
            apart.append(figure(JS[part], None, reason=why, **own))
            same.append(figure(TOP1[part], None, reason=why, **own))
            continue
        ours, theirs = side.logits[part], [r.logits[part] for r in references]
        js = np.mean([divergence(softmax(ours), softmax(other)) for other in theirs], axis=0)
        top = np.mean([ours.argmax(1) == other.argmax(1) for other in theirs], axis=0)
        apart.append(figure(JS[part], average(js.tolist()), detail=detail, **own))
        same.append(figure(TOP1[part], _share(top), detail=detail, **own))
    return apart + same


def divergence(p: NDArray[np.float64], q: NDArray[np.float64]) -> NDArray[np.float64]:
    """Jensen–Shannon divergence (N,) of rows of probabilities (N, K), in bits, in [0, 1]."""
    from scipy.special import rel_entr

    middle = (p + q) / 2
    nats = (rel_entr(p, middle) + rel_entr(q, middle)).sum(1) / 2
    found: NDArray[np.float64] = np.clip(nats / math.log(2), 0.0, 1.0)
    return found


def _share(same: NDArray[np.float64]) -> Share:
    """Of samples that agree in part: they spread less than ones that agree or don't."""
    value, n = float(same.mean()), len(same)
    low, high = wilson(round(value * n), n)
    return Share(value, n, min(low, value), max(high, value))

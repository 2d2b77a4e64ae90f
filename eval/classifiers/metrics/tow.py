"""ToW: how near the accuracies on forget, retain and test lie to a retrained model's, at once.

Tug of war (Zhao et al., arXiv 2406.01257): Π (1 - |acc(unlearned) - acc(retrained)|) over these.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from erase.eval.classifiers.evidence import Case, Part, Side, right
from erase.eval.classifiers.references import over_references
from erase.eval.figure import Figure, figure
from erase.eval.pages.table import Column

RANK = 30
TOW = Column(
    "tow",
    "ToW",
    "",
    "up",
    "Tug of war",
    "nearness of three accuracies to a retrained model's; 1 is all three the same",
    3,
)
COLUMNS = (TOW,)
BOUNDS = {TOW.key: (0.0, 1.0)}
PAIRED = (TOW.key,)
PARTS: tuple[Part, ...] = ("forget", "retain", "test")


def measure(case: Case, side: Side, references: Sequence[Side]) -> list[Figure]:
    """See ``metrics``."""
    own = {"side": side.name, "metric": "tow"}
    if "test" not in case.labels:
        return [figure(TOW, None, reason="no test samples", **own)]

    def accuracy(model: Side, part: Part) -> float:
        return float(right(model.logits[part], case.labels[part]).mean())

    values = [
        prod(1 - abs(accuracy(side, part) - accuracy(other, part)) for part in PARTS)
        for other in references
    ]
    return [over_references(TOW, values, high=1.0, **own)]

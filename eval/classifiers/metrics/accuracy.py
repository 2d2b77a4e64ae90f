"""UA, RA and TA: what the model gets right of what it should forget, and of the rest.

As the paper's code defines them (Fan et al., arXiv 2310.12508, section 5): UA = 1 - accuracy on the
samples to forget, RA = accuracy on the retained ones, TA = accuracy on test samples, without those
of a class that is forgotten whole. No augmentation.
"""

from __future__ import annotations

from collections.abc import Sequence

from erase.eval.classifiers.evidence import Case, Part, Side, right
from erase.eval.figure import Figure, figure
from erase.eval.pages.table import Column
from erase.eval.stats.intervals import share

RANK = 10
UA = Column("ua", "UA", "%", None, "Unlearning accuracy", "samples to forget that it gets wrong")
RA = Column("ra", "RA", "%", "up", "Remaining accuracy", "retained samples that it gets right")
TA = Column("ta", "TA", "%", "up", "Testing accuracy", "test samples that it gets right")
UA_TEST = Column(
    "ua_test",
    "UA, test",
    "%",
    "up",
    "Unlearning accuracy on test samples",
    "test samples of the forgotten class that it gets wrong",
)
COLUMNS = (UA, RA, TA, UA_TEST)
PARTS: tuple[tuple[Column, Part, bool], ...] = (
    (UA, "forget", False),
    (RA, "retain", True),
    (TA, "test", True),
    (UA_TEST, "forgotten", False),
)
"""Each figure with its samples, and whether right or wrong answers count."""


def measure(case: Case, side: Side, references: Sequence[Side]) -> list[Figure]:
    """See ``metrics``."""
    found = []
    for column, part, wanted in PARTS:
        if part not in case.labels:
            why = "no class is forgotten whole" if part == "forgotten" else f"no {part} samples"
            found.append(figure(column, None, reason=why, side=side.name, metric="accuracy"))
            continue
        counted = right(side.logits[part], case.labels[part]) == wanted
        estimate = share(int(counted.sum()), len(counted))
        found.append(figure(column, estimate, side=side.name, metric="accuracy"))
    return found

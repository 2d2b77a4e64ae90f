"""Loss attack: how well a low loss tells the samples to forget from ones never seen.

Those never seen are the split's ``attack`` test samples, which nothing else looks at, or the test
samples of the class where a whole one is forgotten.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from erase.eval.classifiers.evidence import Case, Part, Side, margin, unseen
from erase.eval.figure import Figure, figure
from erase.eval.pages.table import Column
from erase.eval.stats.separation import Scores, auc, true_positives

RANK = 40
AUC = Column(
    "loss_auc",
    "Loss attack, AUC",
    about=(
        "chance that a sample to forget has a lower loss than a test sample; right is the "
        "retrained models' value, which need not be 0.5"
    ),
    digits=3,
)
TPR = Column(
    "loss_tpr",
    "Loss attack, TPR",
    "%",
    about=(
        "samples to forget that it finds at 1 % false positives; right is the retrained models' "
        "value"
    ),
)
COLUMNS = (AUC, TPR)
BOUNDS = {AUC.key: (0.0, 1.0)}
APART = "the two groups do not overlap"
ALIKE = "all scores are alike"


def measure(case: Case, side: Side, references: Sequence[Side]) -> list[Figure]:
    """See ``metrics``."""
    never = unseen(case)
    if never not in case.labels:
        why = "no test samples are set aside for attacks"
        own = {"side": side.name, "metric": "loss_attack"}
        return [figure(column, None, reason=why, **own) for column in COLUMNS]
    # The margin grows with -loss, without ties where the loss is 0 in floating point.
    parts: tuple[Part, ...] = ("forget", never)
    scores = (margin(side.logits[part], case.labels[part]) for part in parts)
    return attacked(COLUMNS, *scores, side=side.name, metric="loss_attack")


def attacked(
    columns: tuple[Column, Column], inside: Scores, outside: Scores, **own: str
) -> list[Figure]:
    """AUC and TPR of an attack's scores, higher ones saying that a sample was trained on."""
    detail = f"against {len(outside):,} test samples"
    area = figure(columns[0], auc(inside, outside), detail=detail, **own)
    if area.value is not None and area.low is None:
        area = replace(area, note=APART if area.value in (0.0, 1.0) else ALIKE)
    return [area, figure(columns[1], true_positives(inside, outside), detail=detail, **own)]

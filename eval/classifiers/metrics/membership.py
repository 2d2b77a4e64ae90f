"""MIA: the share of samples to forget that the paper's attack takes for never trained on.

As in the paper's code (Fan et al., arXiv 2310.12508): a support vector machine (rbf kernel, C 3,
gamma ``auto``) learns from one feature, the probability of the true label, to tell retained samples
(members) from test samples (non-members), as many of each. It measures low confidence more than
membership: a retrained model is far from 100 %.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from erase.eval.classifiers.evidence import Case, Side, confidence, drawn
from erase.eval.figure import Figure, figure
from erase.eval.pages.table import Column
from erase.eval.stats.intervals import share

RANK = 20
MIA = Column(
    "mia",
    "MIA",
    "%",
    None,
    "Membership inference attack",
    "samples to forget that an attack takes for never trained on",
)
COLUMNS = (MIA,)
MOST = 5000
"""Members and non-members each, at most: an SVM on saturated values takes quadratic time."""


def measure(case: Case, side: Side, references: Sequence[Side]) -> list[Figure]:
    """See ``metrics``."""
    from sklearn.svm import SVC

    own = {"side": side.name, "metric": "membership"}
    if "test" not in case.labels:
        return [figure(MIA, None, reason="no test samples", **own)]
    sizes = {part: len(case.labels[part]) for part in ("retain", "test")}
    count = min(*sizes.values(), MOST)
    known = {
        part: confidence(side.logits[part], case.labels[part])
        for part in ("forget", "retain", "test")
    }
    groups = [known[part][drawn(sizes[part], count, case.seed, "mia", part)] for part in sizes]
    attack = SVC(C=3, kernel="rbf", gamma="auto")
    attack.fit(np.concatenate(groups)[:, None], np.repeat([1, 0], count))
    outside = attack.predict(known["forget"][:, None]) == 0
    detail = f"attack trained on {count:,} retained and {count:,} test samples"
    if count == MOST < min(sizes.values()):
        detail += ", the most that it is given"
    estimate = share(int(outside.sum()), len(outside))
    return [figure(MIA, estimate, detail=detail, **own)]

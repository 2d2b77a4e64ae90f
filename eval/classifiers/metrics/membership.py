"""MIA: the share of samples to forget that the paper's attack takes for never trained on.

As in the paper's code (Fan et al., arXiv 2310.12508): a support vector machine (rbf kernel, C 3,
gamma ``auto``) learns from one feature, the probability of the true label, to tell retained samples
(members) from test samples (non-members), as many of each. It measures low confidence more than
membership: a retrained model is far from 100 %. Where the two are alike, as those of a network that
does not overfit are, chance decides on which side the samples to forget fall, often all of them at
once; the figure is then marked.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from erase.eval.classifiers.evidence import Case, Side, confidence, drawn
from erase.eval.figure import Figure, figure
from erase.eval.pages import phrases
from erase.eval.pages.table import Column
from erase.eval.stats.intervals import share
from erase.eval.stats.separation import Scores

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
CHANCE = "chance"
"""What the note of a figure that chance decides begins with."""
PARTS = 5
"""Smaller attacks that have to agree with the whole one."""
FEWEST = 10
"""Members and non-members each that such an attack is trained on, at least."""
SPREAD = 0.5
"""How far the smaller attacks' shares may lie from each other."""


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

    def outside(scores: Scores, start: int = 0, step: int = 1) -> NDArray[np.bool_]:
        """Whether an attack that knows every ``step``-th of the groups' samples takes scores for
        those of samples never trained on."""
        learned = [group[start::step] for group in groups]
        attack = SVC(C=3, kernel="rbf", gamma="auto")
        labels = np.repeat([1, 0], len(learned[0]))
        attack.fit(np.concatenate(learned)[:, None], labels)
        found: NDArray[np.bool_] = attack.predict(scores[:, None]) == 0
        return found

    members, others = (outside(group) for group in groups)
    note = _doubt(int((~members).sum() + others.sum()), 2 * count)
    if not note and count >= PARTS * FEWEST:
        each = [float(outside(known["forget"], k, PARTS).mean()) for k in range(PARTS)]
        if max(each) - min(each) > SPREAD:
            ends = phrases.span(*(phrases.percent(end) for end in (min(each), max(each))))
            note = f"{CHANCE}: attacks on a fifth of its training samples each find {ends}"
    gone = outside(known["forget"])
    detail = f"attack trained on {count:,} retained and {count:,} test samples"
    if count == MOST < min(sizes.values()):
        detail += ", the most that it is given"
    estimate = share(int(gone.sum()), len(gone))
    return [figure(MIA, estimate, detail=detail, note=note, **own)]


def _doubt(right: int, n: int) -> str:
    """Why an attack's word is chance, of how many of its own training samples it gets right; empty
    where it is not."""
    found = share(right, n)
    if found is not None and found.low > 0.5:
        return ""
    return f"{CHANCE}: the attack can't tell retained from test samples"
